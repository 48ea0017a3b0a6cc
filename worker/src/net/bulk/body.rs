//! The raw bytes of blocks on a stream: out of shared blocks without a copy where they are many and lie together, into
//! recycled memory without one at all. What is small is copied together with the header before it: a packet, a lock and
//! a waker for each block would cost far more than its bytes.

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
use crate::wire::peer::PARCEL_BYTES_MAX;

/// Written at once: small enough that whoever reads slowly is told from whoever does not read.
const PIECE_BYTES: usize = 1 << 20;

/// How long memory is waited for: whoever sends the block waits longer.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// Between two times that it is asked for.
const MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// Runs shorter than this are copied together: a reference to each would cost more.
const COPIED_RUN_BYTES: usize = 64 << 10;

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

/// What is sent of a block.
pub(super) struct Cut {
    block: Block,
    /// `None` for all of it.
    runs: Option<Runs>,
}

impl Cut {
    /// All of it.
    pub(super) fn whole(block: Block) -> Cut {
        Cut { block, runs: None }
    }

    /// A part of it; `None` if there is no such part.
    pub(super) fn part(block: Block, region: &Region) -> Option<Cut> {
        let runs = Runs::new(&block.shape, block.item.bytes(), region)?;
        Some(Cut { block, runs: Some(runs) })
    }

    /// What is said of it.
    pub(super) fn header(&self) -> BlockHeader {
        let shape = match &self.runs {
            None => self.block.shape.clone(),
            Some(runs) => runs.region.shape(),
        };
        BlockHeader { item: self.block.item, shape }
    }

    /// How many bytes there are in all.
    pub(super) fn bytes(&self) -> usize {
        self.runs.as_ref().map_or(self.block.buffer.len(), Runs::bytes)
    }

    fn copy_to(&self, to: &mut Vec<u8>) {
        let bytes = self.block.bytes();
        match &self.runs {
            None => to.extend_from_slice(bytes),
            Some(runs) => runs.offsets().for_each(|offset| to.extend_from_slice(&bytes[offset..offset + runs.run])),
        }
    }
}

/// A block's memory, kept alive for as long as quinn may have to send it again.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Whether what is sent of blocks is copied: then they are not in use once it is written.
pub(super) fn is_copied(cuts: &[Cut]) -> bool {
    cuts.iter().map(Cut::bytes).sum::<usize>() <= PARCEL_BYTES_MAX as usize
}

/// Writes what is sent of blocks behind `head`.
pub(super) async fn write(stream: &mut SendStream, mut head: Vec<u8>, cuts: &[Cut]) -> Result<(), NetError> {
    if is_copied(cuts) {
        head.reserve(cuts.iter().map(Cut::bytes).sum());
        cuts.iter().for_each(|cut| cut.copy_to(&mut head));
        return write_pieces(stream, Bytes::from(head)).await;
    }
    write_pieces(stream, Bytes::from(head)).await?;
    for cut in cuts {
        write_cut(stream, cut).await?;
    }
    Ok(())
}

async fn write_cut(stream: &mut SendStream, Cut { block, runs }: &Cut) -> Result<(), NetError> {
    let bytes = Bytes::from_owner(Shared(block.buffer.clone()));
    let Some(runs) = runs else { return write_pieces(stream, bytes).await };
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

/// Reads as many blocks as there are headers, each into memory of its own; `None` if that cannot be had. Headers that
/// no block can have were refused before.
pub(super) async fn read(
    stream: &mut RecvStream,
    headers: impl IntoIterator<Item = BlockHeader>,
    bytes: u64,
) -> Result<Option<Vec<Block>>, NetError> {
    let mut together = vec![0; if bytes <= PARCEL_BYTES_MAX { bytes as usize } else { 0 }];
    fill(stream, &mut together).await?;
    let mut together = &together[..];
    let headers = headers.into_iter();
    let mut blocks = Vec::with_capacity(headers.size_hint().0);
    for header in headers {
        let bytes = header.bytes().ok_or(NetError::Truncated)?;
        let Some(mut buffer) = memory(bytes).await else { return Ok(None) };
        match together.split_at_checked(bytes as usize) {
            Some((first, rest)) => {
                buffer.bytes_mut().copy_from_slice(first);
                together = rest;
            }
            None => fill(stream, buffer.bytes_mut()).await?,
        }
        blocks.push(Block::new(header.item, header.shape, buffer.freeze()));
    }
    Ok(Some(blocks))
}

async fn fill(stream: &mut RecvStream, mut rest: &mut [u8]) -> Result<(), NetError> {
    while !rest.is_empty() {
        let read = within("reading a block", STALL_LIMIT, async { Ok(stream.read(rest).await?) }).await?;
        rest = &mut rest[read.ok_or(NetError::Truncated)?..];
    }
    Ok(())
}

/// Memory for a block on its way. Where buffers have a limit, others that hold it are on their way too and let go soon:
/// it is waited for. `None` if that is in vain.
async fn memory(bytes: u64) -> Option<BufferMut> {
    let mut begun = None;
    loop {
        match BufferMut::try_new(bytes as usize) {
            Ok(buffer) => return Some(buffer),
            Err(_) if begun.get_or_insert_with(Instant::now).elapsed() >= MEMORY_PATIENCE => return None,
            Err(_) => sleep(MEMORY_PAUSE).await,
        }
    }
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
