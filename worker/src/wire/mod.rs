//! What travels: messages as plain data, and their bytes.
//!
//! Reading order: [`plan`] (what is submitted) -> [`message`] (scheduler and workers) -> [`peer`] (whoever wants
//! blocks and whoever holds them) -> [`codec`] (bytes). The messages between clients and the scheduler are the root
//! crate's: this crate does not know clients.
//!
//! A message does not carry the bytes of a block, unless they are [few](crate::block::SmallBlock): they follow it raw,
//! and are described by its header. Nothing here does I/O, and nothing read off a wire is believed: lengths are capped
//! before anything is allocated, and what decodes is asked whether it is sound before it is used.

pub mod codec;
pub mod message;
pub mod peer;
pub mod plan;

pub use codec::{WireError, decode, encode};
pub use message::{
    BulkTraffic, DeviceClass, FETCH_BYTES_PER_SECOND, FetchError, FromWorker, NAME_BYTES_MAX, Register, Run,
    ToScheduler, ToWorker, Whereabouts,
};
pub use peer::{BlockHeader, Parcel, PeerReply, PeerRequest, RequestId};
pub use plan::{KernelBytes, Plan};
