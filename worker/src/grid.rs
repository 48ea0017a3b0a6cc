//! How an array is cut into blocks.
//!
//! Per axis a list of segments of equal chunks, so that concatenation appends segments and no block straddles a
//! seam, and so that a grid's size never depends on its number of blocks.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::shape::{RANK_MAX, Region, Shape};

/// `count` chunks of length `chunk`, both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Elements per chunk along the axis.
    pub chunk: u64,
    /// How many such chunks follow each other.
    pub count: u64,
}

/// How one axis is cut.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Segment>", into = "Vec<Segment>")]
pub struct AxisGrid {
    segments: Vec<Segment>,
    /// Per segment, the element and the block it begins at; one entry more for the end.
    starts: Vec<(u64, u64)>,
}

impl From<Vec<Segment>> for AxisGrid {
    /// Empty segments vanish and equal neighbours merge, so equal cuts are equal values.
    fn from(given: Vec<Segment>) -> AxisGrid {
        let mut segments: Vec<Segment> = Vec::with_capacity(given.len());
        for segment in given.into_iter().filter(|segment| segment.chunk > 0 && segment.count > 0) {
            match segments.last_mut() {
                Some(last) if last.chunk == segment.chunk => last.count = last.count.saturating_add(segment.count),
                _ => segments.push(segment),
            }
        }
        let mut starts = vec![(0u64, 0u64)];
        for segment in &segments {
            let (element, block) = starts[starts.len() - 1];
            let elements = segment.chunk.saturating_mul(segment.count);
            starts.push((element.saturating_add(elements), block.saturating_add(segment.count)));
        }
        AxisGrid { segments, starts }
    }
}

impl From<AxisGrid> for Vec<Segment> {
    fn from(axis: AxisGrid) -> Vec<Segment> {
        axis.segments
    }
}

impl AxisGrid {
    /// `length` elements in chunks of `chunk`, the last one shorter if need be.
    pub fn regular(length: u64, chunk: u64) -> AxisGrid {
        let chunk = chunk.clamp(1, length.max(1));
        let (count, rest) = (length / chunk, length % chunk);
        vec![Segment { chunk, count }, Segment { chunk: rest, count: u64::from(rest > 0) }].into()
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Elements along the axis.
    pub fn length(&self) -> u64 {
        self.starts[self.segments.len()].0
    }

    /// Blocks along the axis.
    pub fn blocks(&self) -> u64 {
        self.starts[self.segments.len()].1
    }

    /// The elements of block `block`.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn range(&self, block: u64) -> Range<u64> {
        let at = self.starts.partition_point(|&(_, first)| first <= block) - 1;
        let (element, first) = self.starts[at];
        let chunk = self.segments[at].chunk;
        let start = element + (block - first) * chunk;
        start..start + chunk
    }

    /// The block that holds element `element`.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn block_of(&self, element: u64) -> u64 {
        let at = self.starts.partition_point(|&(first, _)| first <= element) - 1;
        let (first, block) = self.starts[at];
        block + (element - first) / self.segments[at].chunk
    }

    /// The blocks that elements `range` touch; empty for an empty range.
    pub fn blocks_of(&self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() { 0..0 } else { self.block_of(range.start)..self.block_of(range.end - 1) + 1 }
    }

    /// The longest chunk; 0 for an empty axis.
    pub fn chunk_max(&self) -> u64 {
        self.segments.iter().map(|segment| segment.chunk).max().unwrap_or(0)
    }
}

impl fmt::Display for AxisGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.segments.iter().map(|Segment { chunk, count }| match count {
            1 => chunk.to_string(),
            _ => format!("{chunk}x{count}"),
        });
        f.write_str(&words.collect::<Vec<_>>().join("+"))
    }
}

impl fmt::Debug for AxisGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How an array is cut: one [`AxisGrid`] per axis. Blocks are numbered in row-major order.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grid {
    /// Outermost axis first. At most eight.
    pub axes: Vec<AxisGrid>,
}

impl Grid {
    /// A regular grid: `chunks` per axis, clipped to the shape.
    pub fn regular(shape: &Shape, chunks: &[u64]) -> Grid {
        debug_assert_eq!(shape.rank(), chunks.len());
        Grid { axes: shape.iter().zip(chunks).map(|(&length, &chunk)| AxisGrid::regular(length, chunk)).collect() }
    }

    /// One block.
    pub fn single(shape: &Shape) -> Grid {
        Grid::regular(shape, shape)
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.axes.len()
    }

    /// Elements per axis.
    pub fn shape(&self) -> Shape {
        self.axes.iter().map(AxisGrid::length).collect()
    }

    /// Blocks per axis.
    pub fn block_counts(&self) -> Shape {
        self.axes.iter().map(AxisGrid::blocks).collect()
    }

    /// Blocks in all; 0 when an axis is empty, 1 for rank 0.
    pub fn blocks(&self) -> u64 {
        self.axes.iter().map(AxisGrid::blocks).product()
    }

    /// The elements of the block at `index` (per axis).
    pub fn region(&self, index: &[u64]) -> Region {
        debug_assert_eq!(index.len(), self.rank());
        let ranges = || self.axes.iter().zip(index).map(|(axis, &block)| axis.range(block));
        Region { start: ranges().map(|range| range.start).collect(), end: ranges().map(|range| range.end).collect() }
    }

    /// The box of blocks that the elements of `region` touch.
    pub fn blocks_of(&self, region: &Region) -> Region {
        let ranges = || {
            let bounds = region.start.iter().zip(region.end.iter());
            self.axes.iter().zip(bounds).map(|(axis, (&start, &end))| axis.blocks_of(start..end))
        };
        Region { start: ranges().map(|range| range.start).collect(), end: ranges().map(|range| range.end).collect() }
    }

    /// Elements in the largest block.
    pub fn block_elements_max(&self) -> u64 {
        self.axes.iter().map(AxisGrid::chunk_max).product()
    }

    /// Whether this can be the grid of a valid array: at most eight axes, elements counted in 60 bits.
    /// What comes off a wire is asked before it is used.
    pub fn is_sound(&self) -> bool {
        self.rank() <= RANK_MAX && {
            let lengths: Vec<u64> = self.axes.iter().map(AxisGrid::length).collect();
            Shape::new(&lengths).is_ok()
        }
    }
}

/// `[1000x10, 500x2]`: chunks of 1000 ten times, by chunks of 500 twice.
impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.axes.iter().map(AxisGrid::to_string).collect();
        write!(f, "[{}]", words.join(", "))
    }
}

impl fmt::Debug for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_axis_in_order() {
        let (left, right) = (AxisGrid::regular(10, 4), AxisGrid::regular(7, 3));
        let axis = AxisGrid::from([left.segments, right.segments].concat());
        assert_eq!(axis.to_string(), "4x2+2+3x2+1");
        assert_eq!((axis.length(), axis.blocks()), (17, 6));
        let mut next = 0;
        for block in 0..axis.blocks() {
            let range = axis.range(block);
            assert_eq!(range.start, next);
            for element in range.clone() {
                assert_eq!(axis.block_of(element), block);
            }
            next = range.end;
        }
        assert_eq!(next, 17);
        assert_eq!(axis.blocks_of(3..9), 0..3);
        assert_eq!(axis.blocks_of(5..5), 0..0);
    }

    #[test]
    fn empty_axes_have_no_blocks_and_rank_zero_has_one() {
        assert_eq!(AxisGrid::regular(0, 5).blocks(), 0);
        assert_eq!(Grid { axes: vec![] }.blocks(), 1);
        assert_eq!(AxisGrid::regular(5, 100).to_string(), "5");
    }
}
