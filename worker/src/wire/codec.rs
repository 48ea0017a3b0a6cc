//! Messages as bytes: postcard, each behind its length, every length capped before anything is allocated.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message. A plan is the largest, with the literals inside it; all others are split to stay far below.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The longest message of a worker to the scheduler, which keeps what many of them say. A report of completions has some
/// 80 KiB at most, and every text in the others is cut to a few.
pub const WORKER_MESSAGE_BYTES_MAX: usize = 256 << 10;

/// The bytes of a message's length.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are no message, or a message no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than a message may be: [`MESSAGE_BYTES_MAX`], or less where less is expected.
    #[error("a message of {bytes} bytes: at most {bytes_max} are taken")]
    TooLong {
        /// How long it is or claims to be.
        bytes: u64,
        /// How long it may be.
        bytes_max: u64,
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
    capped(bytes.len(), MESSAGE_BYTES_MAX)?;
    Ok(bytes)
}

/// The message that [`encode`] made these bytes of. Allocates in proportion to their number: a plan's smallest
/// parts are some tens of times larger in memory than on the wire.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    capped(bytes.len(), MESSAGE_BYTES_MAX)?;
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

/// How many bytes follow these four; refused before they are read if they are more than `bytes_max`.
pub fn frame_length(length: [u8; LENGTH_BYTES], bytes_max: usize) -> Result<usize, WireError> {
    capped(u32::from_le_bytes(length) as usize, bytes_max)
}

fn capped(bytes: usize, bytes_max: usize) -> Result<usize, WireError> {
    match bytes > bytes_max {
        true => Err(WireError::TooLong { bytes: bytes as u64, bytes_max: bytes_max as u64 }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::block::{Block, Item, SmallBlock};
    use crate::dtype::{DType, Scalar};
    use crate::executor::ExecuteError;
    use crate::grid::{AxisGrid, Grid, Segment};
    use crate::ids::{ArrayId, BlockId, ClientId, KernelHash, WorkerId};
    use crate::intervals::Interval;
    use crate::shape::{Region, Shape};
    use crate::stage::{Body, Leaf, Map, Piece, Program, Source, Stage};
    use crate::view::View;
    use crate::wire::{
        BlockHeader, FetchError, FromWorker, KernelBytes, Parcel, PeerReply, PeerRequest, Plan, RequestId, Run,
        ToWorker, Whereabouts,
    };

    fn array() -> impl Strategy<Value = ArrayId> {
        (any::<u64>(), any::<u64>()).prop_map(|(client, sequence)| ArrayId { client: ClientId(client), sequence })
    }

    fn block() -> impl Strategy<Value = BlockId> {
        (array(), any::<u64>()).prop_map(|(array, index)| BlockId { array, index })
    }

    fn intervals() -> impl Strategy<Value = Vec<Interval>> {
        let interval = (any::<u64>(), any::<u64>()).prop_map(|(start, end)| Interval { start, end });
        prop::collection::vec(interval, 0..5)
    }

    fn workers() -> impl Strategy<Value = Vec<WorkerId>> {
        prop::collection::vec(any::<u64>().prop_map(WorkerId), 0..3)
    }

    fn kernel() -> impl Strategy<Value = KernelBytes> {
        let source = prop::collection::vec(any::<u8>(), 0..40);
        (any::<[u8; 32]>(), source)
            .prop_map(|(hash, source)| KernelBytes { hash: KernelHash(hash), source: source.into() })
    }

    fn stage() -> impl Strategy<Value = Arc<Stage>> {
        let axis = prop::collection::vec((1..9u64, 1..9u64), 1..3).prop_map(|cuts| {
            AxisGrid::from(cuts.iter().map(|&(chunk, count)| Segment { chunk, count }).collect::<Vec<_>>())
        });
        let grid = prop::collection::vec(axis, 0..4).prop_map(|axes| Grid { axes });
        (array(), array(), grid, any::<u64>(), prop::collection::vec(any::<u8>(), 0..30)).prop_map(
            |(array, read, grid, bytes, literal)| {
                let view = View::identity(&grid.shape());
                let literal = Source::Literal { shape: Shape::zeros(1), bytes: literal.into() };
                let sources = [
                    Source::Array { array: read, field: 1, grid: grid.clone() },
                    literal,
                    Source::Constant(Scalar::I64(-1)),
                ];
                let leaf = |source| Leaf { dtype: DType::I64, pieces: vec![Piece { source, view: view.clone() }] };
                let leaves = sources.into_iter().map(leaf).collect();
                let body = Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None });
                let outputs = vec![Item::Value(DType::F32), Item::Partial { bytes: 24 }];
                Arc::new(Stage { array, body, outputs, bytes_output: bytes, bytes_peak: bytes / 2 })
            },
        )
    }

    fn to_worker() -> impl Strategy<Value = ToWorker> {
        let worker = || any::<u64>().prop_map(WorkerId);
        let place = (array(), intervals(), workers()).prop_map(|(array, blocks, holders)| {
            let blocks = blocks.first().copied().unwrap_or(Interval::one(0));
            Whereabouts { array, blocks, holders }
        });
        let run = (array(), any::<u64>(), any::<u32>(), any::<u64>(), prop::collection::vec(place, 0..3));
        prop_oneof![
            worker().prop_map(|worker| ToWorker::Welcome { worker }),
            (worker(), ".{0,20}").prop_map(|(worker, address)| ToWorker::Peer { worker, address }),
            worker().prop_map(|worker| ToWorker::PeerGone { worker }),
            kernel().prop_map(ToWorker::Kernel),
            (stage(), any::<u32>(), any::<bool>()).prop_map(|(stage, depth, is_result)| ToWorker::Stage {
                stage,
                depth,
                is_result
            }),
            run.prop_map(|(array, start, attempt, bytes_spare, inputs)| {
                let blocks = Interval { start, end: start / 2 };
                ToWorker::Run(Run { array, blocks, attempt, bytes_spare, inputs })
            }),
            (array(), any::<u32>(), any::<u64>(), worker()).prop_map(|(array, fields, bytes, holder)| {
                ToWorker::Keep { array, blocks: Interval::one(7), fields, bytes, holder }
            }),
            (array(), intervals()).prop_map(|(array, blocks)| ToWorker::Free { array, blocks }),
            array().prop_map(|array| ToWorker::Forget { array }),
            any::<u64>().prop_map(|client| ToWorker::ForgetClient { client: ClientId(client) }),
            Just(ToWorker::Close),
        ]
    }

    fn from_worker() -> impl Strategy<Value = FromWorker> {
        let error = prop_oneof![
            any::<u64>().prop_map(|limit_ms| ExecuteError::Deadline { limit_ms }),
            Just(ExecuteError::Cancelled),
            (".{0,9}", ".{0,9}").prop_map(|(path, what)| ExecuteError::Source { path, what }),
            any::<[u8; 32]>().prop_map(|hash| ExecuteError::KernelMissing(KernelHash(hash))),
        ];
        let fetch = prop_oneof![Just(FetchError::Missing), Just(FetchError::Unreachable)];
        prop_oneof![
            (array(), intervals(), any::<u64>(), small()).prop_map(|(array, blocks, bytes, result)| {
                FromWorker::Done { array, blocks, bytes, busy: Duration::from_micros(bytes >> 32), result }
            }),
            (block(), any::<u32>(), error).prop_map(|(BlockId { array, index: block }, attempt, error)| {
                FromWorker::Failed { array, block, attempt, error }
            }),
            (array(), intervals(), any::<u64>(), any::<u64>())
                .prop_map(|(array, blocks, needs, has)| FromWorker::Refused { array, blocks, needs, has }),
            (block(), block(), workers(), fetch).prop_map(|(block, input, holders, error)| {
                FromWorker::FetchFailed { block, input, holder: holders.first().copied(), error }
            }),
            Just(FromWorker::Leaving),
        ]
    }

    fn small() -> impl Strategy<Value = Option<SmallBlock>> {
        let field = prop::collection::vec(any::<i32>(), 0..20)
            .prop_map(|values| Block::from_elements(Shape::new(&[values.len() as u64]).unwrap(), &values));
        prop::option::of(prop::collection::vec(field, 0..4).prop_map(|fields| SmallBlock::of(&fields).unwrap()))
    }

    fn peer() -> impl Strategy<Value = (PeerRequest, PeerReply)> {
        let shape = prop::collection::vec(any::<u64>(), 0..9).prop_map(|lengths| lengths.into_iter().take(8).collect());
        (any::<u64>(), block(), any::<u32>(), shape).prop_map(|(request, block, field, shape): (_, _, _, Shape)| {
            let request = RequestId(request);
            let region = Some(Region { start: Shape::zeros(shape.rank()), end: shape.clone() });
            let header = BlockHeader { item: Item::Value(DType::U32), shape };
            let parcel = Parcel::one(block);
            let fetch = PeerRequest::Fetch { request, parcel, field, region };
            let put = PeerRequest::Put { request, parcel, headers: vec![vec![header.clone(); 2]] };
            let data = PeerReply::Data { request, headers: vec![Some(header), None] };
            (if field % 2 == 0 { fetch } else { put }, data)
        })
    }

    /// What is written is read again, and a byte more or less is refused.
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) -> Result<(), TestCaseError> {
        let mut bytes = encode(message).unwrap();
        prop_assert_eq!(&decode::<T>(&bytes).unwrap(), message);
        let mut frame = Vec::new();
        write_frame(message, &mut frame).unwrap();
        let length = frame[..LENGTH_BYTES].try_into().unwrap();
        prop_assert_eq!(frame_length(length, MESSAGE_BYTES_MAX), Ok(bytes.len()));
        prop_assert_eq!(&frame[LENGTH_BYTES..], &bytes[..]);
        bytes.push(0);
        prop_assert_eq!(decode::<T>(&bytes), Err(WireError::Trailing { bytes: 1 }));
        bytes.truncate(bytes.len() - 2);
        prop_assert!(decode::<T>(&bytes).is_err());
        Ok(())
    }

    proptest! {
        #[test]
        fn messages_survive(to in to_worker(), from in from_worker(), peer in peer()) {
            check(&to)?;
            check(&from)?;
            check(&peer.0)?;
            check(&peer.1)?;
        }

        #[test]
        fn plans_survive(stages in prop::collection::vec(stage(), 0..4), kernels in prop::collection::vec(kernel(), 0..3)) {
            let outputs = stages.iter().map(|stage| stage.array).collect();
            check(&Plan { kernels, stages, outputs })?;
        }

        /// Whatever comes, it is a message or an error.
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode::<ToWorker>(&bytes));
            drop(decode::<FromWorker>(&bytes));
            drop(decode::<Plan>(&bytes));
            drop(decode::<PeerRequest>(&bytes).map(|request| match request {
                PeerRequest::Put { parcel, headers, .. } => parcel.bytes(headers.iter().flatten()),
                PeerRequest::Fetch { .. } => None,
            }));
            drop(decode::<PeerReply>(&bytes));
        }

        /// Nor do messages that were true once.
        #[test]
        fn no_spoilt_message_panics(
            message in to_worker(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = encode(&message).unwrap();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            drop(decode::<ToWorker>(&bytes));
        }
    }

    #[test]
    fn a_length_is_refused_before_it_is_believed() {
        let too_long = Err(WireError::TooLong { bytes: 1001, bytes_max: 1000 });
        assert_eq!(frame_length(1001u32.to_le_bytes(), 1000), too_long);
        assert_eq!(frame_length(1000u32.to_le_bytes(), 1000), Ok(1000));
        // A list that claims 2^60 entries and has none.
        let claim = [6, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(decode::<ToWorker>(&claim), Err(WireError::Malformed(_))));
        let huge = BlockHeader { item: Item::Value(DType::F64), shape: [u64::MAX, 3].into_iter().collect() };
        assert_eq!(huge.bytes(), None);
    }
}
