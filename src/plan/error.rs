//! Why a plan cannot be made.

use gridloom_worker::ids::ArrayId;

use crate::array::CarriedError;

/// Why a plan cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum PlanError {
    /// An array could not be made; the caller's line is in the message.
    #[error(transparent)]
    Array(Box<CarriedError>),
    /// A block that no device can bind.
    #[error("a block of {array} would have {bytes} bytes in {grid}, and a block has at most {max}: use smaller chunks")]
    BlockTooLarge { array: ArrayId, grid: String, bytes: u64, max: u64 },
    /// A block that is made of too many others.
    #[error(
        "a block of {array} in {grid} would read {blocks} blocks, and at most {max} are gathered at once: rechunk in two steps, with chunks between the two"
    )]
    FanIn { array: ArrayId, grid: String, blocks: u64, max: u64 },
}
