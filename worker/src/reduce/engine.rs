//! The tree in a block, over any [`Operation`].
//!
//! A row longer than [`SEGMENT`] is cut into segments, which are joined by the aligned tree; a shorter one is one
//! segment. The units of a result are cut into segments of [`SEGMENT_ROWS`] rows of lanes: unit `j` is joined to lane
//! `j % lanes`, in order; at the end of the segment lanes are joined by halves, and segments by the aligned tree.
//! How the elements arrive (runs, tiles, vectors) never shows.

use std::ops::Range;

use super::geometry::{Geometry, Run, Sweep};
use super::operation::{LANES, Operation};
use super::tree::Tree;
use super::vector::{Work, vectorised};
use super::{SEGMENT, SEGMENT_ROWS, TILE};
use crate::block::{Block, BufferMut, Item, OutOfMemory};
use crate::shape::Shape;

/// Where a place in the block (row-major over its reduced axes) stands in the array's reduced axes.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The block's reduced lengths.
    pub(super) block: Shape,
    /// Where the block begins on them.
    pub(super) start: Shape,
    /// The array's reduced lengths.
    pub(super) array: Shape,
}

impl Places {
    fn place(&self, place: u64) -> u64 {
        let index = self.block.index_at(place);
        let index: Shape = index.iter().zip(self.start.iter()).map(|(&at, &start)| at + start).collect();
        self.array.linear(&index)
    }
}

/// Accumulators of neighbouring results that stand for equally many elements.
struct Accumulators<O: Operation> {
    first: Vec<O::A>,
    second: Vec<O::B>,
    elements: u64,
}

impl<O: Operation> Accumulators<O> {
    fn join(mut earlier: Self, later: Self) -> Self {
        let counts = [earlier.elements, later.elements];
        join_all((&mut earlier.first, &mut earlier.second), Made::<O>(&later.first, &later.second), counts, 0);
        earlier.elements += later.elements;
        earlier
    }
}

/// Reduces one block.
pub(super) struct Engine<O: Operation> {
    geometry: Geometry,
    expected: Sweep,
    places: Places,
    shape: Shape,
    /// The partial, as far as it is filled; or that there is no memory for it.
    output: Result<BufferMut, OutOfMemory>,
    filled: usize,
    /// Segments of a long row.
    row: Tree<((O::A, O::B), u64)>,
    row_elements: u64,
    /// The current segment of a tile: units taken in, and one accumulator per lane and column.
    units: usize,
    segment: u64,
    first: Vec<O::A>,
    second: Vec<O::B>,
    /// Segments of a tile.
    tile: Tree<Accumulators<O>>,
    /// What the rows of a run come to.
    unit_first: Vec<O::A>,
    unit_second: Vec<O::B>,
}

impl<O: Operation> Engine<O> {
    pub(super) fn new(geometry: Geometry, shape: Shape, places: Places) -> Engine<O> {
        let output = BufferMut::try_new(shape.elements() as usize * size_of::<O::Partial>());
        let width = match geometry.depth {
            1 => 0,
            _ => (geometry.lanes * geometry.tile) as usize,
        };
        Engine {
            expected: geometry.sweep(),
            geometry,
            places,
            shape,
            output,
            filled: 0,
            row: Tree::new(),
            row_elements: 0,
            units: 0,
            segment: 0,
            first: vec![O::A::default(); width],
            second: vec![O::B::default(); width],
            tile: Tree::new(),
            unit_first: vec![O::A::default(); TILE],
            unit_second: vec![O::B::default(); TILE],
        }
    }

    pub(super) fn sweep(&self) -> Sweep {
        self.geometry.sweep()
    }

    /// # Panics
    /// If `elements` is not the sweep's next run.
    pub(super) fn feed(&mut self, elements: Range<u64>, values: &[O::In]) {
        let run = self.expected.next().expect("no run is left");
        assert_eq!(run.elements, elements, "runs come in the order of the sweep");
        assert_eq!(values.len() as u64, elements.end - elements.start, "one value per element");
        vectorised(Feed { engine: self, run, values });
    }

    /// # Panics
    /// If the sweep is not over.
    pub(super) fn partial(self) -> Result<Block, OutOfMemory> {
        let item = Item::Partial { bytes: size_of::<O::Partial>() as u32 };
        let buffer = self.output?;
        assert_eq!(self.filled as u64, self.shape.elements(), "the sweep is over");
        Ok(Block::new(item, self.shape, buffer.freeze()))
    }

    #[inline(always)]
    fn feed_run(&mut self, run: &Run, values: &[O::In]) {
        let row = self.geometry.row as usize;
        if row == 1 {
            self.take_units(run, Lifted::<O>(values));
        } else if row <= SEGMENT {
            self.feed_rows(run, row, values);
        } else {
            self.feed_long_row(run, values);
        }
        if run.ends_tile && self.geometry.depth > 1 {
            self.close_tile(run.columns as usize);
        }
    }

    /// Whole rows of at most a segment.
    #[inline(always)]
    fn feed_rows(&mut self, run: &Run, row: usize, values: &[O::In]) {
        let count = values.len() / row;
        let mut first = std::mem::take(&mut self.unit_first);
        let mut second = std::mem::take(&mut self.unit_second);
        if row < LANES {
            O::short_rows(values, row, &mut first[..count], &mut second[..count]);
        } else {
            for ((a, b), row) in first.iter_mut().zip(&mut second).zip(values.chunks_exact(row)) {
                (*a, *b) = O::segment(row);
            }
        }
        self.take_units(run, Made::<O>(&first[..count], &second[..count]));
        (self.unit_first, self.unit_second) = (first, second);
    }

    /// One segment of a row.
    #[inline(always)]
    fn feed_long_row(&mut self, run: &Run, values: &[O::In]) {
        let unit = O::moved(O::segment(values), self.row_elements);
        self.row.push((unit, values.len() as u64), join_counted::<O>);
        self.row_elements += values.len() as u64;
        if run.ends_row
            && let Some(((a, b), _)) = self.row.finish(join_counted::<O>)
        {
            self.row_elements = 0;
            self.take_units(run, Made::<O>(&[a], &[b]));
        }
    }

    /// The next units of the tile.
    #[inline(always)]
    fn take_units(&mut self, run: &Run, units: impl Units<O>) {
        let row_elements = self.geometry.row;
        if self.geometry.depth == 1 {
            return self.store(row_elements, units.iter());
        }
        let width = (self.geometry.lanes * run.columns) as usize;
        let mut rest = units;
        while rest.len() > 0 {
            let (row, at) = ((self.units / width) as u64, self.units % width);
            let (part, later) = rest.split_at(rest.len().min(width - at));
            let accumulators = (&mut self.first[at..at + part.len()], &mut self.second[at..at + part.len()]);
            let moved = (self.segment * SEGMENT_ROWS + row) * row_elements;
            match row {
                0 => assign_all(accumulators, part, moved),
                _ => join_all(accumulators, part, [row * row_elements, row_elements], moved),
            }
            self.units += part.len();
            rest = later;
            if self.units == SEGMENT_ROWS as usize * width {
                self.close_segment(run.columns as usize);
            }
        }
    }

    /// Joins the lanes of the current segment and begins the next.
    fn close_segment(&mut self, columns: usize) {
        let (lanes, row) = (self.geometry.lanes, self.geometry.row);
        let units = (self.units / columns) as u64;
        // Lanes that got one unit more come first.
        let elements = |lane: u64| (units + lanes - 1 - lane) / lanes * row;
        if lanes > 1 {
            for (at, second) in self.second[..self.units.min(lanes as usize * columns)].iter_mut().enumerate() {
                *second = O::unlaned(*second, (at / columns) as u64, lanes, row);
            }
        }
        let mut counts: Vec<u64> = (0..lanes).map(elements).collect();
        let mut half = lanes as usize / 2;
        while half > 0 {
            for lane in (0..half).filter(|lane| lane + half < units as usize) {
                let (first, later_first) = self.first.split_at_mut((lane + half) * columns);
                let (second, later_second) = self.second.split_at_mut((lane + half) * columns);
                let own = lane * columns..(lane + 1) * columns;
                let later = Made::<O>(&later_first[..columns], &later_second[..columns]);
                join_all((&mut first[own.clone()], &mut second[own]), later, [counts[lane], counts[lane + half]], 0);
                counts[lane] += counts[lane + half];
            }
            half /= 2;
        }
        let (first, second) = (self.first[..columns].to_vec(), self.second[..columns].to_vec());
        self.tile.push(Accumulators { first, second, elements: counts[0] }, Accumulators::join);
        self.units = 0;
        self.segment += 1;
    }

    /// The results of a tile's columns.
    fn close_tile(&mut self, columns: usize) {
        if self.units > 0 {
            self.close_segment(columns);
        }
        self.segment = 0;
        if let Some(results) = self.tile.finish(Accumulators::join) {
            self.store(results.elements, Made::<O>(&results.first, &results.second).iter());
        }
    }

    /// The next results of the block.
    #[inline(always)]
    fn store(&mut self, elements: u64, units: impl ExactSizeIterator<Item = (O::A, O::B)>) {
        if let Ok(buffer) = &mut self.output {
            let end = self.filled + units.len();
            let partials: &mut [O::Partial] = bytemuck::cast_slice_mut(buffer.bytes_mut());
            let place = |place| self.places.place(place);
            for (partial, unit) in partials[self.filled..end].iter_mut().zip(units) {
                *partial = O::store(unit, elements, &place);
            }
            self.filled = end;
        }
    }
}

/// One run, to be compiled for the machine's vectors.
struct Feed<'a, O: Operation> {
    engine: &'a mut Engine<O>,
    run: Run,
    values: &'a [O::In],
}

impl<O: Operation> Work for Feed<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.engine.feed_run(&self.run, self.values);
    }
}

/// Units side by side.
trait Units<O: Operation>: Copy {
    fn len(self) -> usize;
    fn split_at(self, at: usize) -> (Self, Self);
    fn iter(self) -> impl ExactSizeIterator<Item = (O::A, O::B)>;
}

/// Elements that are units.
struct Lifted<'a, O: Operation>(&'a [O::In]);

/// Units that rows were reduced to.
struct Made<'a, O: Operation>(&'a [O::A], &'a [O::B]);

impl<O: Operation> Clone for Lifted<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<O: Operation> Copy for Lifted<'_, O> {}
impl<O: Operation> Clone for Made<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<O: Operation> Copy for Made<'_, O> {}

impl<O: Operation> Units<O> for Lifted<'_, O> {
    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn split_at(self, at: usize) -> (Self, Self) {
        let (units, later) = self.0.split_at(at);
        (Lifted(units), Lifted(later))
    }
    #[inline(always)]
    fn iter(self) -> impl ExactSizeIterator<Item = (O::A, O::B)> {
        self.0.iter().copied().map(O::lift)
    }
}

impl<O: Operation> Units<O> for Made<'_, O> {
    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn split_at(self, at: usize) -> (Self, Self) {
        let ((first, later_first), (second, later_second)) = (self.0.split_at(at), self.1.split_at(at));
        (Made(first, second), Made(later_first, later_second))
    }
    #[inline(always)]
    fn iter(self) -> impl ExactSizeIterator<Item = (O::A, O::B)> {
        self.0.iter().copied().zip(self.1.iter().copied())
    }
}

#[inline(always)]
fn assign_all<O: Operation>(accumulators: (&mut [O::A], &mut [O::B]), units: impl Units<O>, moved: u64) {
    for ((a, b), unit) in accumulators.0.iter_mut().zip(accumulators.1).zip(units.iter()) {
        (*a, *b) = O::moved(unit, moved);
    }
}

#[inline(always)]
fn join_all<O: Operation>(
    accumulators: (&mut [O::A], &mut [O::B]),
    units: impl Units<O>,
    counts: [u64; 2],
    moved: u64,
) {
    for ((a, b), unit) in accumulators.0.iter_mut().zip(accumulators.1).zip(units.iter()) {
        (*a, *b) = O::join((*a, *b), O::moved(unit, moved), counts);
    }
}

fn join_counted<O: Operation>(a: ((O::A, O::B), u64), b: ((O::A, O::B), u64)) -> ((O::A, O::B), u64) {
    (O::join(a.0, b.0, [a.1, b.1]), a.1 + b.1)
}
