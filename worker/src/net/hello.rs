//! The first message of every connection, in both directions. Its bytes are frozen: they must be understood by every
//! version there will ever be, so that a mismatch can be refused naming both.

use std::fmt;

use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};

use super::error::NetError;
use super::frame;

/// What every message after the first one is written in. Raised with each change of any message.
const VERSION: u32 = 1;

/// The longest hello that is read, of whatever version.
const HELLO_BYTES_MAX: usize = 256;

/// What a side speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The name of the protocol.
    pub protocol: String,
    /// Its version.
    pub version: u32,
}

impl Hello {
    /// What we speak.
    pub fn ours() -> Hello {
        Hello { protocol: "gridloom".to_owned(), version: VERSION }
    }

    fn check(self) -> Result<(), NetError> {
        let ours = Hello::ours();
        if self == ours { Ok(()) } else { Err(NetError::Version { ours, theirs: self }) }
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a stranger calls its protocol is not trusted to be printable.
        write!(f, "{} {}", self.protocol.escape_debug(), self.version)
    }
}

/// Opens a connection's first stream: says hello and hears it.
pub(super) async fn greet(connection: &Connection) -> Result<(SendStream, RecvStream), NetError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    frame::write(&mut send, &Hello::ours()).await?;
    frame::read::<Hello>(&mut receive, HELLO_BYTES_MAX).await?.check()?;
    Ok((send, receive))
}

/// Accepts a connection's first stream: hears hello and says it.
pub(super) async fn welcome(connection: &Connection) -> Result<(SendStream, RecvStream), NetError> {
    let (mut send, mut receive) = connection.accept_bi().await?;
    frame::read::<Hello>(&mut receive, HELLO_BYTES_MAX).await?.check()?;
    frame::write(&mut send, &Hello::ours()).await?;
    Ok((send, receive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn its_bytes_are_frozen() {
        let hello = Hello { protocol: "gridloom".to_owned(), version: 300 };
        assert_eq!(encode(&hello).unwrap(), b"\x08gridloom\xac\x02");
    }

    #[test]
    fn a_mismatch_names_both() {
        let theirs = Hello { protocol: "grid\nloom".to_owned(), version: 7 };
        let message = theirs.check().unwrap_err().to_string();
        assert!(message.contains(&format!("gridloom {VERSION}")) && message.contains("grid\\nloom 7"), "{message}");
    }
}
