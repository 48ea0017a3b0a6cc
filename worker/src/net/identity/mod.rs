//! Who is who: roles, the names in certificates, the join token and the authority that stands behind both.
//!
//! A scheduler is its own certificate authority ([`Authority`]), kept in memory and gone with it. Whoever holds its
//! [`Token`] is given a certificate that names a role and an id ([`Party`]); from then on the certificate is what
//! counts. One function decides whether a certificate is good (`verify`), for every connection and both sides of it:
//! signed by the authority whose key hash is known, in force, and naming a party that is expected there.
//!
//! Nothing here does I/O but the token's file, and nothing reads a clock: what time it is comes in as the time since
//! the Unix epoch. The one exception is TLS, which asks the system.

mod authority;
mod certificate;
mod hex;
mod token;
mod verify;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use authority::Authority;
pub use certificate::{CertificateRequest, Identity};
pub(super) use token::Secret;
pub use token::{Token, TokenError};
pub use verify::{CertificateError, Expected};
pub(super) use verify::{PeerVerifier, party_of, provider};

/// How long a certificate is good for.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after it was made a certificate is renewed.
pub(super) const RENEWED_AFTER: Duration = CERTIFICATE_LIFETIME.checked_div(2).expect("two is not zero");

/// How far two clocks of a cluster may be apart: certificates are in force this much before they are made.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10 * 60);

/// What a process of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Decides.
    Scheduler,
    /// Computes and holds blocks.
    Worker,
    /// Submits.
    Client,
}

impl Role {
    const ALL: [Role; 3] = [Role::Scheduler, Role::Worker, Role::Client];

    const fn word(self) -> &'static str {
        match self {
            Role::Scheduler => "scheduler",
            Role::Worker => "worker",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One process of the cluster, as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Party {
    /// What it is.
    pub role: Role,
    /// Which one: never given twice by one authority, each larger than any before.
    pub id: u64,
}

impl Party {
    /// The scheduler: the only one that its authority ever names.
    pub const SCHEDULER: Party = Party { role: Role::Scheduler, id: 0 };
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.id)
    }
}

/// What stands before role and id in a certificate's one URI name.
const NAME_SCHEME: &str = "gridloom:";

impl Party {
    /// The name in its certificate: `gridloom:worker:17`.
    fn name(self) -> String {
        format!("{NAME_SCHEME}{}:{}", self.role, self.id)
    }
}

/// Only what `Party::name` writes is read: one spelling for each party.
impl FromStr for Party {
    type Err = CertificateError;

    fn from_str(name: &str) -> Result<Party, CertificateError> {
        let party = name.strip_prefix(NAME_SCHEME).and_then(|rest| rest.split_once(':')).and_then(|(word, id)| {
            let role = Role::ALL.into_iter().find(|role| role.word() == word)?;
            Some(Party { role, id: id.parse().ok()? })
        });
        party.filter(|party| party.name() == name).ok_or(CertificateError::Nameless)
    }
}

/// The SHA-256 of an authority's public key (its SPKI): what a token pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityHash(pub [u8; 32]);

impl fmt::Display for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::print(&self.0))
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityHash({self})")
    }
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The system gives no random numbers, or a key cannot be made.
    #[error("no key could be made: {0}")]
    Key(String),
    /// What asks for a certificate is no request, or is not signed with its own key.
    #[error("not a certificate request: {0}")]
    Request(String),
    /// The certificate that came is not the one that was asked for.
    #[error("the certificate is not for the key that asked for it")]
    OtherKey,
    /// The certificate that came is no good.
    #[error("the certificate that was given is no good: {0}")]
    Certificate(#[from] CertificateError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_has_one_name() {
        let party = Party { role: Role::Worker, id: 17 };
        assert_eq!(party.name(), "gridloom:worker:17");
        assert_eq!("gridloom:worker:17".parse(), Ok(party));
        for name in ["", "gridloom:", "gridloom:worker", "gridloom:worker:017", "gridloom:worker:+1", "gridloom:king:1"]
        {
            assert_eq!(name.parse::<Party>(), Err(CertificateError::Nameless), "{name}");
        }
    }
}
