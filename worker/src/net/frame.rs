//! Messages on a QUIC stream: a length of four bytes, then what [`crate::wire`] writes.
//!
//! A length is refused before it is believed, and memory is taken as bytes come, never because bytes are promised.

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::NetError;
use crate::wire::codec::{LENGTH_BYTES, decode, frame_length, write_frame};

/// What is taken at first for a message that claims to be long.
const FIRST_BYTES: usize = 64 << 10;

/// Writes one message.
pub(super) async fn write<T: Serialize>(stream: &mut SendStream, message: &T) -> Result<(), NetError> {
    Ok(stream.write_chunk(Bytes::from(framed(message)?)).await?)
}

/// One message as it is written.
pub(super) fn framed<T: Serialize>(message: &T) -> Result<Vec<u8>, NetError> {
    let mut bytes = Vec::new();
    write_frame(message, &mut bytes)?;
    Ok(bytes)
}

/// Reads one message of at most `bytes_max` bytes.
pub(super) async fn read<T: DeserializeOwned>(stream: &mut RecvStream, bytes_max: usize) -> Result<T, NetError> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await?;
    read_rest(stream, length, bytes_max).await
}

/// Reads the next message, or the stream's end where it may end.
pub(super) async fn read_next<T: DeserializeOwned>(
    stream: &mut RecvStream,
    bytes_max: usize,
) -> Result<Option<T>, NetError> {
    let mut length = [0; LENGTH_BYTES];
    let Some(begun) = stream.read(&mut length).await? else { return Ok(None) };
    stream.read_exact(&mut length[begun..]).await?;
    Ok(Some(read_rest(stream, length, bytes_max).await?))
}

async fn read_rest<T: DeserializeOwned>(
    stream: &mut RecvStream,
    length: [u8; LENGTH_BYTES],
    bytes_max: usize,
) -> Result<T, NetError> {
    let bytes = frame_length(length, bytes_max)?;
    let mut message = Vec::with_capacity(bytes.min(FIRST_BYTES));
    while message.len() < bytes {
        let chunk = stream.read_chunk(bytes - message.len(), true).await?;
        message.extend_from_slice(&chunk.ok_or(NetError::Truncated)?.bytes);
    }
    Ok(decode(&message)?)
}
