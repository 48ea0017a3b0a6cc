//! The raw bytes of blocks on a stream: out of shared blocks without a copy where they lie together, into recycled
//! memory without one at all.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::sleep;

use super::STALL_LIMIT;
use crate::block::{Block, Buffer, BufferMut};
use crate::net::endpoint::within;
use crate::net::error::NetError;
use crate::shape::{Region, Shape};
use crate::wire::BlockHeader;

/// Written at once: small enough that whoever reads slowly is told from whoever does not read.
const PIECE_BYTES: usize = 1 << 20;

/// How long memory is waited for: whoever sends the block waits longer.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// Between two times that it is asked for.
const MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// Runs shorter than this are copied together: a reference to each would cost more.
const COPIED_RUN_BYTES: usize = 64 << 10;

/// Not worth a packet of their own.
const FEW_BYTES: usize = 1024;

/// A region of a block as runs of bytes that lie together, in C order.
#[derive(Debug)]
pub(super) struct Runs {
    shape: Shape,
    region: Region,
    /// In bytes.
    item: usize,
    /// Of each run, in bytes.
    run: usize,
}

impl Runs {
    /// `None` if the region is not inside the shape.
    pub(super) fn new(shape: &Shape, item_bytes: u64, region: &Region) -> Option<Runs> {
        let rank = shape.rank();
        let mut axes = region.start.iter().zip(region.end.iter()).zip(shape.iter());
        if region.start.rank() != rank
            || region.end.rank() != rank
            || axes.any(|((start, end), length)| start > end || end > length)
        {
            return None;
        }
        let run = region.runs(shape).next().map_or(0, |run| run.end - run.start);
        let (item, run) = (item_bytes as usize, (run * item_bytes) as usize);
        Some(Runs { shape: shape.clone(), region: region.clone(), item, run })
    }

    /// How many bytes there are in all.
    fn bytes(&self) -> usize {
        self.region.shape().elements() as usize * self.item
    }

    /// Where each run begins, in bytes from the block's start.
    fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        self.region.runs(&self.shape).map(|run| run.start as usize * self.item)
    }
}

/// A block's memory, kept alive for as long as quinn may have to send it again.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Whether a region is sent in one packet with what is said before it.
pub(super) fn is_small(runs: &Runs) -> bool {
    runs.bytes() <= FEW_BYTES
}

/// Writes the region's bytes behind `head`: in one packet if they are few.
pub(super) async fn write(
    stream: &mut SendStream,
    mut head: Vec<u8>,
    block: &Block,
    runs: &Runs,
) -> Result<(), NetError> {
    let bytes = Bytes::from_owner(Shared(block.buffer.clone()));
    if is_small(runs) {
        runs.offsets().for_each(|offset| head.extend_from_slice(&bytes[offset..offset + runs.run]));
        return write_pieces(stream, Bytes::from(head)).await;
    }
    write_pieces(stream, Bytes::from(head)).await?;
    if runs.run >= COPIED_RUN_BYTES || runs.bytes() == runs.run {
        for offset in runs.offsets() {
            write_pieces(stream, bytes.slice(offset..offset + runs.run)).await?;
        }
        return Ok(());
    }
    let mut piece = Vec::with_capacity(PIECE_BYTES.min(runs.bytes()));
    for offset in runs.offsets() {
        piece.extend_from_slice(&bytes[offset..offset + runs.run]);
        if piece.len() + runs.run > PIECE_BYTES {
            write_pieces(stream, Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES)))).await?;
        }
    }
    write_pieces(stream, Bytes::from(piece)).await
}

async fn write_pieces(stream: &mut SendStream, mut bytes: Bytes) -> Result<(), NetError> {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        within("writing a block", STALL_LIMIT, async { Ok(stream.write_chunk(piece).await?) }).await?;
    }
    Ok(())
}

/// Memory for a block on its way. Where buffers have a limit, others that hold it are on their way too and let go soon:
/// it is waited for. `None` if that is in vain.
pub(super) async fn memory(bytes: u64) -> Option<BufferMut> {
    let begun = Instant::now();
    loop {
        match BufferMut::try_new(bytes as usize) {
            Ok(buffer) => return Some(buffer),
            Err(_) if begun.elapsed() >= MEMORY_PATIENCE => return None,
            Err(_) => sleep(MEMORY_PAUSE).await,
        }
    }
}

/// Reads a block into memory of as many bytes as its header has.
pub(super) async fn read(
    stream: &mut RecvStream,
    header: BlockHeader,
    mut buffer: BufferMut,
) -> Result<Block, NetError> {
    let mut rest = buffer.bytes_mut();
    while !rest.is_empty() {
        let read = within("reading a block", STALL_LIMIT, async { Ok(stream.read(rest).await?) }).await?;
        rest = &mut rest[read.ok_or(NetError::Truncated)?..];
    }
    Ok(Block::new(header.item, header.shape, buffer.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &[u64], end: &[u64]) -> Region {
        Region { start: start.iter().copied().collect(), end: end.iter().copied().collect() }
    }

    /// The runs hold exactly the region's elements, in order; and they are as few as can be.
    #[track_caller]
    fn check(shape: &[u64], start: &[u64], end: &[u64], count: usize) {
        let (shape, region) = (shape.iter().copied().collect::<Shape>(), region(start, end));
        let runs = Runs::new(&shape, 4, &region).unwrap();
        let found =
            runs.offsets().flat_map(|offset| (offset..offset + runs.run).step_by(4)).map(|byte| byte as u64 / 4);
        let expected: Vec<u64> = region.indices().map(|index| shape.linear(&index)).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!(runs.offsets().count(), count);
        assert_eq!(runs.bytes(), expected.len() * 4);
    }

    #[test]
    fn a_region_is_as_few_runs_as_can_be() {
        check(&[], &[], &[], 1);
        check(&[7], &[2], &[5], 1);
        check(&[4, 5], &[0, 0], &[4, 5], 1);
        check(&[4, 5], &[1, 0], &[3, 5], 1);
        check(&[4, 5], &[1, 2], &[3, 4], 2);
        check(&[3, 4, 5], &[1, 1, 0], &[3, 3, 5], 2);
        check(&[3, 4, 5], &[1, 1, 1], &[3, 3, 5], 4);
        check(&[3, 4, 5], &[1, 1, 1], &[3, 1, 5], 0);
        check(&[0, 5], &[0, 0], &[0, 5], 0);
        check(&[2, 1, 3], &[0, 0, 1], &[2, 1, 2], 2);
    }

    #[test]
    fn a_region_outside_is_none() {
        let shape: Shape = [4, 5].into_iter().collect();
        for (start, end) in [(&[0u64, 0][..], &[4u64, 6][..]), (&[3, 0], &[2, 5]), (&[0], &[4]), (&[0, 0], &[4, 5, 1])]
        {
            assert!(Runs::new(&shape, 4, &region(start, end)).is_none());
        }
    }
}
