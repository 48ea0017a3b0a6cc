//! The join token: `gl1.<SHA-256 of the authority's SPKI>.<128-bit secret>`, both in lower-case hex.
//!
//! The hash says whom to trust, the secret shows that one may join. The secret never travels and is never printed but
//! by [`Token::reveal`]; it is wiped when dropped. A token is read from a file that only its owner may read, or from a
//! text that the caller took from the environment; never from the command line, which all the machine can see.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{AuthorityHash, hex};

/// What every token begins with; a new form gets a new number.
const PREFIX: &str = "gl1";

/// A token's file is not read further than this.
const FILE_BYTES_MAX: u64 = 4096;

/// 128 bits that all who may join know.
#[derive(Clone)]
pub(in crate::net) struct Secret(Zeroizing<[u8; 16]>);

impl Secret {
    /// A new one; `None` if the system has no randomness.
    pub(super) fn random() -> Option<Secret> {
        let mut bytes = Zeroizing::new([0; 16]);
        SystemRandom::new().fill(&mut *bytes).ok()?;
        Some(Secret(bytes))
    }

    pub(in crate::net) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What lets a process join a cluster, as a worker or as a client: full trust.
#[derive(Clone)]
pub struct Token {
    /// Whom to trust.
    pub(in crate::net) authority: AuthorityHash,
    /// What shows that one may join.
    pub(in crate::net) secret: Secret,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is no token. It is not repeated here: it may be one with a slip.
    #[error("not a token: it reads gl1.<64 hex digits>.<32 hex digits>, in lower case")]
    Malformed,
    /// The file holds something else.
    #[error("{path} holds no token: that reads gl1.<64 hex digits>.<32 hex digits>, in lower case")]
    NoToken {
        /// Which.
        path: PathBuf,
    },
    /// Others may read the file, and so may have.
    #[error("{path} can be read by others (mode {mode:03o}): make it `chmod 600`, and a new token if they may have")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Token {
    pub(super) fn new(authority: AuthorityHash, secret: Secret) -> Token {
        Token { authority, secret }
    }

    /// Whom it trusts. No secret.
    pub fn authority(&self) -> AuthorityHash {
        self.authority
    }

    /// The token as text, secret and all: for the file and for who types it in.
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex::print(self.secret.bytes()));
        Zeroizing::new(format!("{PREFIX}.{}.{}", self.authority, *secret))
    }

    /// Where a token is looked for and put unless told otherwise: `~/.config/gridloom/token`. `None` without a home.
    pub fn default_path() -> Option<PathBuf> {
        Some(std::env::home_dir()?.join(".config/gridloom/token"))
    }

    /// Reads a token's file.
    ///
    /// # Errors
    /// If anyone but its owner may read or write it, if it cannot be read, or if it holds no token.
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let failed = |error| TokenError::File { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        // Asked of the open file: the one that is judged is the one that is read.
        let mode = mode(&file).map_err(failed)?;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        text.trim_end().parse().map_err(|_| TokenError::NoToken { path: path.to_owned() })
    }

    /// Writes a token's file, for its owner alone. It is there whole or not at all, also for who reads it meanwhile.
    ///
    /// # Errors
    /// If the folder cannot be made or the file not be written.
    pub fn write(&self, path: &Path) -> Result<(), TokenError> {
        let failed = |error| TokenError::File { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let beside = sibling(path).map_err(failed)?;
        let mut file = create_private(&beside).map_err(failed)?;
        let mut write = || {
            file.write_all(self.reveal().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        let written = write();
        if written.is_err() {
            // What is left of it is of no use; that it is not there is no further error.
            let _ = fs::remove_file(&beside);
        }
        written.map_err(failed)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let mut words = text.split('.');
        let (prefix, authority, secret) = (words.next(), words.next(), words.next());
        let authority = authority.and_then(hex::parse).map(AuthorityHash);
        let secret = secret.and_then(hex::parse).map(|bytes| Secret(Zeroizing::new(bytes)));
        match (prefix, authority, secret, words.next()) {
            (Some(PREFIX), Some(authority), Some(secret), None) => Ok(Token { authority, secret }),
            _ => Err(TokenError::Malformed),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({PREFIX}.{}.***)", self.authority)
    }
}

/// A name beside `path` that nobody else takes, and that nobody who was killed has left: in a container every process
/// may have the same id.
fn sibling(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", hex::print(&random)));
    Ok(path.with_file_name(name))
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn mode(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o777)
}

/// Elsewhere a file is as private as the folder that it is in.
#[cfg(not(unix))]
fn mode(_file: &File) -> io::Result<u32> {
    Ok(0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new(AuthorityHash([0xab; 32]), Secret(Zeroizing::new([0x5c; 16])))
    }

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let text = token().reveal();
        assert_eq!(*text, format!("gl1.{}.{}", "ab".repeat(32), "5c".repeat(16)));
        assert_eq!(text.parse::<Token>().unwrap().reveal(), text);
        let spoilt = [
            String::new(),
            text[1..].to_owned(),
            text[..text.len() - 1].to_owned(),
            text.to_uppercase(),
            text.replace("gl1", "gl2"),
            format!("{}.", *text),
            format!(" {}", *text),
        ];
        for text in spoilt {
            assert!(matches!(text.parse::<Token>(), Err(TokenError::Malformed)), "{text}");
        }
    }

    #[test]
    fn no_secret_in_debug_or_errors() {
        let secret = "5c".repeat(4);
        assert!(!format!("{:?}", token()).contains(&secret));
        let slip = format!("{}0", *token().reveal());
        let error = slip.parse::<Token>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_private_or_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/the/way/token");
        token().write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::read(&path).unwrap().reveal(), token().reveal());
        token().write(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        let left_behind = path.with_file_name(format!("token.{}", std::process::id()));
        fs::write(&left_behind, "of one that was killed").unwrap();
        token().write(&path).unwrap();
        assert!(left_behind.exists(), "a file of somebody else stays");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Token::read(&path).unwrap_err();
            assert!(matches!(error, TokenError::Exposed { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains("chmod 600"));
        }
        assert!(matches!(Token::read(&folder.path().join("none")), Err(TokenError::File { .. })));
    }
}
