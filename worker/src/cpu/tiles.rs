//! Element programs as machine code, a tile at a time: leaves are read where they lie, or into a tile; results go straight
//! to where they belong.

use std::ops::Range;

use super::at::At;
use super::compiled::{AT_WORDS, Call, Code, Few};
use super::pipeline::TILE;
use crate::dtype::DType;
use crate::executor::ExecuteError;
use crate::interpreter::{StopFlag, Stopped};
use crate::shape::{RANK_MAX, Region};
use crate::source::LeafReader;
use crate::stage::{Leaf, Map, Source};
use crate::with_element;

/// Elements of a tile whose leaves all lie in memory: a call's own cost vanishes, and a stop still comes soon.
const TILE_IN_PLACE: u64 = 16 << 10;

/// Whether a leaf has one value for all elements.
pub(super) fn is_uniform(leaf: &Leaf) -> bool {
    matches!(&leaf.pieces[..], [piece] if matches!(piece.source, Source::Constant(_)))
}

/// The program over the tiles of one block.
pub(super) struct Tiles<'a> {
    code: &'a Code,
    leaves: Vec<Tile<'a>>,
    at: Option<At>,
    at_words: [u32; AT_WORDS],
    /// Per axis that the code asks for, the tile's indices.
    at_index: [Vec<u32>; RANK_MAX],
    scratch: Vec<u64>,
    in_place: bool,
}

/// One leaf of a tile.
struct Tile<'a> {
    reader: &'a LeafReader,
    dtype: DType,
    is_uniform: bool,
    /// The whole block, if it lies in memory.
    in_place: Option<&'a [u8]>,
    /// Else the tile's elements, in as many bytes as they take.
    staged: Vec<u64>,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(map: &Map, code: &'a Code, readers: &'a [LeafReader], block: u64) -> Tiles<'a> {
        let region: Region = map.region(block);
        let elements = region.shape().elements();
        let tile = |(leaf, reader): (&Leaf, &'a LeafReader)| {
            let in_place = bytes_of(reader, leaf.dtype, elements as usize);
            Tile { reader, dtype: leaf.dtype, is_uniform: is_uniform(leaf), in_place, staged: Vec::new() }
        };
        let leaves: Vec<Tile<'a>> = map.leaves.iter().zip(readers).map(tile).collect();
        let in_place = leaves.iter().all(|tile| tile.in_place.is_some() || tile.is_uniform);
        let at = code.uses_at().then(|| At::new(&region, &map.block_index(block)));
        let at_words = at.as_ref().map_or([0; AT_WORDS], At::uniform);
        let scratch = vec![0; code.scratch_words()];
        Tiles { code, leaves, at, at_words, at_index: Default::default(), scratch, in_place }
    }

    /// How many elements a tile is best given.
    pub(super) fn tile(&self) -> u64 {
        if self.in_place { TILE_IN_PLACE } else { TILE }
    }

    /// Computes `length` elements from the block's row-major element `start` on, into `results`.
    pub(super) fn run(
        &mut self,
        start: u64,
        length: usize,
        stop: &StopFlag,
        results: &mut [&mut [u8]],
    ) -> Result<(), ExecuteError> {
        for tile in &mut self.leaves {
            tile.stage(start, length)?;
        }
        if let Some(at) = &self.at {
            for (axis, index) in self.at_index.iter_mut().enumerate().filter(|&(axis, _)| self.code.uses_index(axis)) {
                index.resize(length, 0);
                at.index(axis, start, index);
            }
        }
        let lanes = self.code.lanes();
        if length < lanes {
            return self.run_few(start, length, stop, results);
        }
        let whole = length - length % lanes;
        self.run_gangs(start, 0..whole, stop, results)?;
        // What is left is the end of one more gang, which computes some elements again: to the same bits.
        if whole < length { self.run_gangs(start, length - lanes..length, stop, results) } else { Ok(()) }
    }

    /// Whole gangs of the tile's elements.
    fn run_gangs(
        &mut self,
        start: u64,
        elements: Range<usize>,
        stop: &StopFlag,
        results: &mut [&mut [u8]],
    ) -> Result<(), ExecuteError> {
        let leaves = self.leaves.iter().map(|tile| tile.bytes(start, elements.clone())).collect::<Few<&[u8]>>();
        let at_index = match self.at {
            Some(_) => self.at_index.each_ref().map(|index| index.get(elements.clone()).unwrap_or(&[])),
            None => Default::default(),
        };
        let widths = self.code.results().iter().map(|dtype| dtype.bytes() as usize);
        let bytes = |width: usize| elements.start * width..elements.end * width;
        let mut results: Few<&mut [u8]> =
            results.iter_mut().zip(widths).map(|(result, width)| &mut result[bytes(width)]).collect();
        let (at_words, scratch) = (&self.at_words, &mut self.scratch[..]);
        let (results, elements) = (&mut results[..], elements.len());
        self.code.call(Call { leaves: &leaves, at_index, at_words, results, scratch, stop, elements }).map_err(stopped)
    }

    /// Fewer elements than a gang has lanes: those beyond the end do what the last element does.
    fn run_few(
        &mut self,
        start: u64,
        count: usize,
        stop: &StopFlag,
        results: &mut [&mut [u8]],
    ) -> Result<(), ExecuteError> {
        let (lanes, dtypes) = (self.code.lanes(), self.code.results());
        let leaves: Vec<Vec<u8>> = self.leaves.iter().map(|tile| tile.padded(start, count, lanes)).collect();
        let leaves: Vec<&[u8]> = leaves.iter().map(|leaf| &leaf[..]).collect();
        let padded = |index: &Vec<u32>| match index.get(..count) {
            Some(part) => (0..lanes).map(|lane| part[lane.min(count - 1)]).collect(),
            None => Vec::new(),
        };
        let at_index: [Vec<u32>; RANK_MAX] = self.at_index.each_ref().map(padded);
        let at_index = at_index.each_ref().map(|index| &index[..]);
        let mut gang: Vec<Vec<u8>> = dtypes.iter().map(|dtype| vec![0; lanes * dtype.bytes() as usize]).collect();
        let mut outs: Vec<&mut [u8]> = gang.iter_mut().map(|result| &mut result[..]).collect();
        let (at_words, scratch) = (&self.at_words, &mut self.scratch[..]);
        let call = Call { leaves: &leaves, at_index, at_words, results: &mut outs, scratch, stop, elements: lanes };
        self.code.call(call).map_err(stopped)?;
        for ((result, gang), dtype) in results.iter_mut().zip(&gang).zip(dtypes) {
            let width = dtype.bytes() as usize;
            result[..count * width].copy_from_slice(&gang[..count * width]);
        }
        Ok(())
    }
}

fn stopped(_: Stopped) -> ExecuteError {
    ExecuteError::Cancelled
}

impl Tile<'_> {
    /// Reads the elements if they do not lie in memory.
    fn stage(&mut self, start: u64, length: usize) -> Result<(), ExecuteError> {
        if self.in_place.is_some() || self.is_uniform && !self.staged.is_empty() {
            return Ok(());
        }
        let length = if self.is_uniform { 1 } else { length };
        with_element!(self.dtype, T => {
            self.staged.resize((length * size_of::<T>()).div_ceil(8), 0);
            self.reader.read(start, &mut bytemuck::cast_slice_mut::<u64, T>(&mut self.staged)[..length])
        })
    }

    /// Elements of the tile that begins at `start`.
    fn bytes(&self, start: u64, elements: Range<usize>) -> &[u8] {
        let width = self.dtype.bytes() as usize;
        if let Some(block) = self.in_place {
            let first = start as usize + elements.start;
            return &block[first * width..(first + elements.len()) * width];
        }
        let from = if self.is_uniform { 0 } else { elements.start };
        &bytemuck::cast_slice(&self.staged)[from * width..]
    }

    /// The first `count` elements of the tile, the last again and again until there are `lanes`.
    fn padded(&self, start: u64, count: usize, lanes: usize) -> Vec<u8> {
        let width = self.dtype.bytes() as usize;
        let bytes = self.bytes(start, 0..count);
        let last = if self.is_uniform { 0 } else { count - 1 };
        let element = |lane: usize| lane.min(last) * width;
        (0..lanes).flat_map(|lane| bytes[element(lane)..element(lane) + width].iter().copied()).collect()
    }
}

/// A block's elements, if they lie side by side in memory.
fn bytes_of(reader: &LeafReader, dtype: DType, length: usize) -> Option<&[u8]> {
    with_element!(dtype, T => reader.contiguous::<T>(0, length).map(bytemuck::cast_slice))
}
