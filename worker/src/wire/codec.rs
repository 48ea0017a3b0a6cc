//! Messages as bytes: postcard, each behind its length, every length capped before anything is allocated.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message. A plan is the largest, with the literals inside it; all others are split to stay far below.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The bytes of a message's length.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are no message, or a message no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {bytes} bytes: at most {MESSAGE_BYTES_MAX} are taken")]
    TooLong {
        /// How long it is or claims to be.
        bytes: u64,
    },
    /// Not what postcard writes for this type.
    #[error("malformed message: {0}")]
    Malformed(#[from] postcard::Error),
    /// More bytes than the message has.
    #[error("{bytes} bytes follow the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// The message's bytes, without its length.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let bytes = postcard::to_stdvec(message)?;
    match bytes.len() > MESSAGE_BYTES_MAX {
        true => Err(WireError::TooLong { bytes: bytes.len() as u64 }),
        false => Ok(bytes),
    }
}

/// The message that [`encode`] made these bytes of. Never allocates more than a small multiple of their number.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong { bytes: bytes.len() as u64 });
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(WireError::Trailing { bytes: rest.len() }),
    }
}

/// Appends a message and, before it, its length.
pub fn write_frame<T: Serialize>(message: &T, to: &mut Vec<u8>) -> Result<(), WireError> {
    let bytes = encode(message)?;
    to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    to.extend_from_slice(&bytes);
    Ok(())
}

/// How many bytes follow these four; refused before they are read if they are too many.
pub fn frame_length(length: [u8; LENGTH_BYTES]) -> Result<usize, WireError> {
    let bytes = u32::from_le_bytes(length) as usize;
    match bytes > MESSAGE_BYTES_MAX {
        true => Err(WireError::TooLong { bytes: bytes as u64 }),
        false => Ok(bytes),
    }
}
