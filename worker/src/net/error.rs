//! Why there is no connection, or none any more; and how one side tells the other.
//!
//! What TLS refuses travels as its alert, everything else as a QUIC close code of ours. Both come back as a
//! [`Refusal`], so that whoever is refused learns why.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, ReadError, ReadExactError, VarInt, WriteError};

use super::hello::Hello;
use super::identity::IdentityError;
use crate::wire::{WireError, decode, encode};

/// What one side has against the other. The numbers are close codes: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Refusal {
    /// It shows no certificate, or one that this cluster's scheduler did not sign.
    Stranger = 2,
    /// Its certificate names a party that has no business here: a worker, say, that poses as the scheduler.
    Unexpected = 3,
    /// Its certificate has expired.
    Expired = 4,
    /// It does not know the token's secret.
    WrongSecret = 5,
    /// It said what is no message.
    Malformed = 6,
    /// It said, or was about to say, more than is taken.
    TooLong = 7,
    /// It took longer than is waited.
    Slow = 8,
    /// Too many come at once, from its address or in all.
    Busy = 9,
    /// Its id is no longer in use: it must join again.
    Retired = 10,
}

/// The close code of who has nothing more to say.
const GOODBYE: u32 = 0;
/// The close code of who speaks another version; the reason is its [`Hello`].
const OTHER_VERSION: u32 = 1;

impl Refusal {
    const ALL: [Refusal; 9] = [
        Refusal::Stranger,
        Refusal::Unexpected,
        Refusal::Expired,
        Refusal::WrongSecret,
        Refusal::Malformed,
        Refusal::TooLong,
        Refusal::Slow,
        Refusal::Busy,
        Refusal::Retired,
    ];

    fn of_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| *refusal as u64 == code)
    }

    /// The TLS alerts of RFC 8446 that say what is wrong with a certificate, as QUIC carries them.
    fn of_alert(code: u64) -> Option<Refusal> {
        match code.checked_sub(0x100)? {
            42 | 46 | 48 | 51 | 116 => Some(Refusal::Stranger),
            45 => Some(Refusal::Expired),
            43 | 49 => Some(Refusal::Unexpected),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Stranger => "no certificate of this cluster's scheduler",
            Refusal::Unexpected => "the certificate of a party that is not expected there",
            Refusal::Expired => "an expired certificate",
            Refusal::WrongSecret => "a token with the wrong secret",
            Refusal::Malformed => "malformed messages",
            Refusal::TooLong => "a message that is too long",
            Refusal::Slow => "too slow to speak",
            Refusal::Busy => "too many at once",
            Refusal::Retired => "an id that is no longer in use",
        })
    }
}

/// Why there is no connection, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The other side refuses us.
    #[error("refused by the other side: {0}")]
    Refused(Refusal),
    /// We refuse the other side.
    #[error("the other side is refused: {0}")]
    Refuses(Refusal),
    /// The token is not of the scheduler that answers: its authority has another key.
    #[error("the token is of another scheduler than the one that answers")]
    WrongToken,
    /// The two sides speak different versions.
    #[error("we speak {ours}, the other side speaks {theirs}: both must be of one release")]
    Version {
        /// Ours.
        ours: Hello,
        /// Theirs.
        theirs: Hello,
    },
    /// Something took longer than is waited for it.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// Who is dialled does not answer.
    #[error("nobody answers there")]
    NoAnswer,
    /// Nothing has been heard for so long that the other side must be dead, or it is and its machine says so.
    #[error("the connection is lost")]
    Lost,
    /// The other side, or this one, has nothing more to say.
    #[error("the connection is closed")]
    Closed,
    /// What came is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The stream ended, or was reset, in the middle of something.
    #[error("the stream ended too early")]
    Truncated,
    /// The other side does not read: what waits to be sent is more than is kept.
    #[error("{bytes} bytes wait to be read by the other side")]
    Overrun {
        /// How much.
        bytes: u64,
    },
    /// There is no such address.
    #[error("{address} is no address that can be reached: {why}")]
    Address {
        /// As it was given.
        address: String,
        /// Why not.
        why: String,
    },
    /// Nothing can be received at an address of this machine.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::ErrorKind,
    },
    /// The system gives us no socket or thread.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why it was not given.
        error: io::ErrorKind,
    },
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// QUIC or TLS failed in a way that has no name here.
    #[error("QUIC error {code:#x}: {reason}")]
    Quic {
        /// Of RFC 9000.
        code: u64,
        /// For people.
        reason: String,
    },
}

impl NetError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> NetError {
        move |error| NetError::System { what, error: error.kind() }
    }

    /// What the other side is told when the connection ends for this reason.
    fn close_code(&self) -> u32 {
        match self {
            NetError::Refuses(refusal) => *refusal as u32,
            NetError::Version { .. } => OTHER_VERSION,
            NetError::Wire(WireError::TooLong { .. }) => Refusal::TooLong as u32,
            NetError::Wire(_) | NetError::Truncated | NetError::Identity(_) => Refusal::Malformed as u32,
            NetError::Timeout { .. } | NetError::Overrun { .. } => Refusal::Slow as u32,
            _ => GOODBYE,
        }
    }

    /// Ends the connection and says why.
    pub(super) fn close(&self, connection: &quinn::Connection) {
        let reason = match self {
            NetError::Version { ours, .. } => encode(ours).unwrap_or_default(),
            _ => Vec::new(),
        };
        connection.close(VarInt::from_u32(self.close_code()), &reason);
    }
}

/// Ends the connection: all is said.
pub(super) fn goodbye(connection: &quinn::Connection) {
    connection.close(VarInt::from_u32(GOODBYE), &[]);
}

impl From<ConnectionError> for NetError {
    fn from(error: ConnectionError) -> NetError {
        match error {
            ConnectionError::ApplicationClosed(close) => closed(close.error_code.into_inner(), &close.reason),
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                CONNECTION_REFUSED => NetError::Refused(Refusal::Busy),
                code => match Refusal::of_alert(code) {
                    Some(refusal) => NetError::Refused(refusal),
                    None => NetError::Quic { code, reason: printable(&close.reason) },
                },
            },
            ConnectionError::TransportError(error) => match Refusal::of_alert(error.code.into()) {
                Some(refusal) => NetError::Refuses(refusal),
                None => NetError::Quic { code: error.code.into(), reason: error.reason },
            },
            ConnectionError::TimedOut | ConnectionError::Reset => NetError::Lost,
            ConnectionError::LocallyClosed => NetError::Closed,
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                NetError::Quic { code: 0, reason: error.to_string() }
            }
        }
    }
}

/// The transport error of a server that takes no more connections (RFC 9000, 20.1).
const CONNECTION_REFUSED: u64 = 2;

fn closed(code: u64, reason: &[u8]) -> NetError {
    if code == u64::from(GOODBYE) {
        return NetError::Closed;
    }
    if code == u64::from(OTHER_VERSION)
        && let Ok(theirs) = decode(reason)
    {
        return NetError::Version { ours: Hello::ours(), theirs };
    }
    match Refusal::of_code(code) {
        Some(refusal) => NetError::Refused(refusal),
        None => NetError::Quic { code, reason: printable(reason) },
    }
}

/// What a stranger says, without what a terminal would obey.
fn printable(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).escape_debug().to_string()
}

impl From<ReadError> for NetError {
    fn from(error: ReadError) -> NetError {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            _ => NetError::Truncated,
        }
    }
}

impl From<ReadExactError> for NetError {
    fn from(error: ReadExactError) -> NetError {
        match error {
            ReadExactError::ReadError(error) => error.into(),
            ReadExactError::FinishedEarly(_) => NetError::Truncated,
        }
    }
}

impl From<WriteError> for NetError {
    fn from(error: WriteError) -> NetError {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            _ => NetError::Truncated,
        }
    }
}

impl From<quinn::ConnectError> for NetError {
    fn from(error: quinn::ConnectError) -> NetError {
        match error {
            quinn::ConnectError::InvalidRemoteAddress(address) => {
                NetError::Address { address: address.to_string(), why: "it cannot be dialled from here".to_owned() }
            }
            quinn::ConnectError::EndpointStopping => NetError::Closed,
            other => NetError::Quic { code: 0, reason: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_with_is_what_is_read() {
        for refusal in Refusal::ALL {
            let code = NetError::Refuses(refusal).close_code();
            assert_eq!(closed(code.into(), &[]), NetError::Refused(refusal));
        }
        let theirs = Hello { protocol: "gridloom".to_owned(), version: 99 };
        let reason = encode(&theirs).unwrap();
        let ours = Hello::ours();
        assert_eq!(closed(OTHER_VERSION.into(), &reason), NetError::Version { ours, theirs });
        assert!(matches!(closed(OTHER_VERSION.into(), &[0xff]), NetError::Quic { .. }));
        assert_eq!(closed(0, &[]), NetError::Closed);
        let escaped = closed(77, b"\x1b[2J bye").to_string();
        assert!(escaped.ends_with(r"\u{1b}[2J bye"), "{escaped}");
    }
}
