//! Which elements of a block belong together, and in what order they are best read.
//!
//! Neighbouring axes of one kind (kept or reduced) are one axis, and axes of length 1 are none. What is left
//! alternates, and is seen as: outer axes of both kinds, then `columns` (the innermost kept axis), then `row` (the
//! innermost reduced axis, 1 where a kept one is innermost). A *unit* is one row at one column. The results of a tile
//! of columns are made together, unit by unit over the outer reduced axes, and finished one tile after the other in
//! row-major order of the kept axes.

use std::ops::Range;

use super::{SEGMENT, TILE};
use crate::shape::Shape;

/// Columns whose accumulators are held at once: they stay in the L2 cache.
const COLUMNS_MAX: u64 = 8192;
/// Narrow tiles are widened to at least this many accumulators by lanes.
const WIDTH_MIN: u64 = 256;

/// The shape of the work, a function of the block's shape and the reduced axes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Elements of a unit: neighbours in memory, all reduced.
    pub(super) row: u64,
    /// Units side by side in memory that belong to different results.
    pub(super) columns: u64,
    /// Units per result.
    pub(super) depth: u64,
    /// Columns of a tile (the last may have fewer).
    pub(super) tile: u64,
    /// Lanes of units: unit `j` of a result goes to lane `j % lanes`.
    pub(super) lanes: u64,
    outer_kept: Axes,
    outer_reduced: Axes,
}

/// Axes apart from each other in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Axes {
    lengths: Shape,
    strides: Shape,
}

impl Axes {
    fn push_front(&mut self, length: u64, stride: u64) {
        self.lengths = std::iter::once(length).chain(self.lengths.iter().copied()).collect();
        self.strides = std::iter::once(stride).chain(self.strides.iter().copied()).collect();
    }

    fn offset(&self, linear: u64) -> u64 {
        self.lengths.index_at(linear).iter().zip(self.strides.iter()).map(|(&at, &stride)| at * stride).sum()
    }
}

impl Geometry {
    pub(super) fn new(shape: &Shape, axes: &[bool]) -> Geometry {
        let mut merged = merged(shape, axes);
        let row = merged.pop_if(|axis| axis.is_reduced).map_or(1, |axis| axis.length);
        let columns = merged.pop().map_or(1, |axis| axis.length);
        let (mut outer_kept, mut outer_reduced) = (Axes::default(), Axes::default());
        let mut stride = row * columns;
        for axis in merged.into_iter().rev() {
            let axes = if axis.is_reduced { &mut outer_reduced } else { &mut outer_kept };
            axes.push_front(axis.length, stride);
            stride *= axis.length;
        }
        let depth = outer_reduced.lengths.elements();
        let tile = if depth == 1 { columns } else { columns.min(COLUMNS_MAX) };
        let lanes = WIDTH_MIN.div_ceil(columns).next_power_of_two();
        Geometry { row, columns, depth, tile, lanes, outer_kept, outer_reduced }
    }

    /// The runs of the block, in order.
    pub(super) fn sweep(&self) -> Sweep {
        let (rows, spans) = match (self.tile == self.columns, self.outer_reduced.lengths.last()) {
            // The innermost outer axis continues the columns: one span of memory holds several units of each column.
            (true, Some(&rows)) => (rows, self.depth / rows),
            _ => (1, self.depth),
        };
        let mut sweep = Sweep {
            tiles: self.outer_kept.lengths.elements() * self.columns.div_ceil(self.tile),
            geometry: self.clone(),
            spans,
            rows,
            tile: 0,
            span: 0,
            columns: 0,
            left: 0,
            next: 0,
            row_left: 0,
        };
        sweep.open_span();
        sweep
    }

    /// Columns of tile `tile`.
    fn columns_of(&self, tile: u64) -> Range<u64> {
        let start = tile % self.columns.div_ceil(self.tile) * self.tile;
        start..(start + self.tile).min(self.columns)
    }

    /// Most units of a run: as many as fit, and if possible a whole number of rows of accumulators.
    fn run_units_max(&self) -> u64 {
        let fit = (TILE as u64 / self.row).max(1);
        let width = self.lanes * self.tile;
        if fit > width { fit - fit % width } else { fit }
    }
}

struct Axis {
    length: u64,
    is_reduced: bool,
}

fn merged(shape: &Shape, axes: &[bool]) -> Vec<Axis> {
    assert_eq!(shape.rank(), axes.len(), "one mark per axis");
    let mut merged: Vec<Axis> = Vec::new();
    for (&length, &is_reduced) in shape.iter().zip(axes).filter(|&(&length, _)| length != 1) {
        match merged.last_mut() {
            Some(last) if last.is_reduced == is_reduced => last.length *= length,
            _ => merged.push(Axis { length, is_reduced }),
        }
    }
    merged
}

/// Walks through the runs of a block.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    geometry: Geometry,
    /// Tiles in all.
    tiles: u64,
    /// Stretches of memory per tile.
    spans: u64,
    /// Units per column in one stretch.
    rows: u64,
    tile: u64,
    span: u64,
    /// Columns of the tile.
    columns: u64,
    /// Elements of the span that are still to come, and where they begin.
    left: u64,
    next: u64,
    /// Elements of a long row that are still to come.
    row_left: u64,
}

/// One run of the sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Row-major elements of the block.
    pub(super) elements: Range<u64>,
    /// Whether it ends a row (runs of whole rows do).
    pub(super) ends_row: bool,
    /// Whether it ends a tile.
    pub(super) ends_tile: bool,
    /// Columns of its tile.
    pub(super) columns: u64,
}

impl Sweep {
    /// Begins the current span, if there is one.
    fn open_span(&mut self) {
        let geometry = &self.geometry;
        if self.tile < self.tiles {
            let columns = geometry.columns_of(self.tile);
            let kept = geometry.outer_kept.offset(self.tile / geometry.columns.div_ceil(geometry.tile));
            let reduced = geometry.outer_reduced.offset(self.span * self.rows);
            self.next = kept + reduced + columns.start * geometry.row;
            self.columns = columns.end - columns.start;
            self.left = self.rows * self.columns * geometry.row;
        }
    }
}

impl Iterator for Sweep {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.tile == self.tiles || self.left == 0 {
            return None;
        }
        let row = self.geometry.row;
        let length = if row <= SEGMENT as u64 {
            self.left.min(self.geometry.run_units_max() * row)
        } else {
            if self.row_left == 0 {
                self.row_left = row;
            }
            let length = self.row_left.min(SEGMENT as u64);
            self.row_left -= length;
            length
        };
        let elements = self.next..self.next + length;
        (self.next, self.left) = (elements.end, self.left - length);
        let (columns, mut ends_tile) = (self.columns, false);
        if self.left == 0 {
            self.span += 1;
            if self.span == self.spans {
                ends_tile = true;
                (self.span, self.tile) = (0, self.tile + 1);
            }
            self.open_span();
        }
        Some(Run { elements, ends_row: self.row_left == 0, ends_tile, columns })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn geometry(lengths: &[u64], axes: &[bool]) -> Geometry {
        Geometry::new(&Shape::new(lengths).unwrap(), axes)
    }

    #[test]
    fn patterns_are_seen_through() {
        let last = geometry(&[4, 5, 6], &[false, false, true]);
        assert_eq!((last.row, last.columns, last.depth), (6, 20, 1));
        let first = geometry(&[4, 1, 5, 6], &[true, true, false, false]);
        assert_eq!((first.row, first.columns, first.depth, first.lanes), (1, 30, 4, 16));
        let all = geometry(&[4, 5], &[true, true]);
        assert_eq!((all.row, all.columns, all.depth), (20, 1, 1));
        let scalar = geometry(&[], &[]);
        assert_eq!((scalar.row, scalar.columns, scalar.depth), (1, 1, 1));
        let mixed = geometry(&[2, 3, 4, 5, 6], &[true, false, true, false, true]);
        assert_eq!((mixed.row, mixed.columns, mixed.depth, mixed.lanes), (6, 5, 8, 64));
    }

    proptest! {
        /// Every element comes exactly once, runs are bounded and consecutive units of a tile are in order.
        #[test]
        fn sweeps_cover_the_block(
            axes in prop::collection::vec((prop::sample::select(vec![1u64, 2, 3, 7, 33, 2050]), any::<bool>()), 0..5)
        ) {
            let lengths: Vec<u64> = axes.iter().map(|axis| axis.0).collect();
            let marks: Vec<bool> = axes.iter().map(|axis| axis.1).collect();
            let shape = Shape::new(&lengths).unwrap();
            prop_assume!(shape.elements() < 300_000);
            let mut seen = vec![false; shape.elements() as usize];
            let mut results = 0;
            for run in geometry(&lengths, &marks).sweep() {
                prop_assert!(run.elements.end - run.elements.start <= TILE as u64);
                for element in run.elements {
                    prop_assert!(!std::mem::replace(&mut seen[element as usize], true));
                }
                results += if run.ends_tile { run.columns } else { 0 };
            }
            prop_assert!(seen.into_iter().all(|seen| seen));
            let kept: u64 = axes.iter().filter(|axis| !axis.1).map(|axis| axis.0).product();
            prop_assert_eq!(results, kept);
        }
    }
}
