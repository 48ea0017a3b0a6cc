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
use crate::shape::{Region, Shape};

/// Which block is reduced, and over what.
pub(super) struct Site {
    geometry: Geometry,
    /// The kept lengths.
    shape: Shape,
    places: Places,
}

impl Site {
    /// The `region` of an array of `array`, reduced over the axes that `axes` marks.
    pub(super) fn new(array: &Shape, region: &Region, axes: &[bool]) -> Site {
        let block = region.shape();
        assert!(block.elements() < 1 << 32, "a block of {block}");
        let only = |lengths: &Shape, reduced: bool| -> Shape {
            lengths.iter().zip(axes).filter(|&(_, &axis)| axis == reduced).map(|(&length, _)| length).collect()
        };
        Site {
            geometry: Geometry::new(&block, axes),
            shape: only(&block, false),
            places: Places { block: only(&block, true), start: only(&region.start, true), array: only(array, true) },
        }
    }
}

/// Where a place in the block (row-major over its reduced axes) stands in the array's reduced axes.
struct Places {
    /// The block's reduced lengths.
    block: Shape,
    /// Where the block begins on them.
    start: Shape,
    /// The array's reduced lengths.
    array: Shape,
}

impl Places {
    /// What takes a place in the block to its place in the array.
    fn mover(&self) -> impl Fn(u64) -> u64 {
        // Whole inner axes keep neighbours neighbours: places then only move.
        let is_whole = self.block.iter().zip(self.array.iter()).skip(1).all(|(block, array)| block == array);
        let offset = is_whole.then(|| self.array.linear(&self.start));
        move |place| match offset {
            Some(offset) => offset + place,
            None => {
                let index = self.block.index_at(place);
                let index: Shape = index.iter().zip(self.start.iter()).map(|(&at, &start)| at + start).collect();
                self.array.linear(&index)
            }
        }
    }
}

/// Accumulators of neighbouring results that stand for equally many elements.
struct Accumulators<O: Operation> {
    first: Vec<O::A>,
    second: Vec<O::B>,
    elements: u64,
}

impl<O: Operation> Accumulators<O> {
    fn join(operation: &O, mut earlier: Self, later: Self) -> Self {
        let counts = [earlier.elements, later.elements];
        let units = Made::<O>(&later.first, &later.second);
        join_all(operation, (&mut earlier.first, &mut earlier.second), units, counts, 0);
        earlier.elements += later.elements;
        earlier
    }
}

/// Reduces one block.
pub(super) struct Engine<O: Operation> {
    operation: O,
    geometry: Geometry,
    expected: Sweep,
    places: Places,
    shape: Shape,
    /// The partial, as far as it is filled; or that there is no memory for it.
    output: Result<BufferMut, OutOfMemory>,
    filled: usize,
    /// Segments of a long row.
    row: Tree<Counted<O>>,
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
    pub(super) fn new(operation: O, Site { geometry, shape, places }: Site) -> Engine<O> {
        let output = BufferMut::try_new(shape.elements() as usize * operation.partial_bytes());
        let width = match geometry.depth {
            1 => 0,
            _ => (geometry.lanes * geometry.tile) as usize,
        };
        // Long rows are units one by one.
        let units = if geometry.row > SEGMENT as u64 { 0 } else { TILE };
        Engine {
            operation,
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
            unit_first: vec![O::A::default(); units],
            unit_second: vec![O::B::default(); units],
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
        match self.geometry.row as usize {
            1 => self.take_units(run.columns, Lifted::<O>(values)),
            2..=SEGMENT => self.feed_rows(run.columns, values),
            _ => self.feed_long_row(&run, values),
        }
        if run.ends_tile && self.geometry.depth > 1 {
            self.close_tile(run.columns as usize);
        }
    }

    /// The partial, and the operation that made it.
    ///
    /// # Panics
    /// If the sweep is not over.
    pub(super) fn partial(self) -> Result<(Block, O), OutOfMemory> {
        let item = Item::Partial { bytes: self.operation.partial_bytes() as u32 };
        let buffer = self.output?;
        assert_eq!(self.filled as u64, self.shape.elements(), "the sweep is over");
        Ok((Block::new(item, self.shape, buffer.freeze()), self.operation))
    }

    /// Whole rows of at most a segment.
    fn feed_rows(&mut self, columns: u64, values: &[O::In]) {
        let count = values.len() / self.geometry.row as usize;
        let mut first = std::mem::take(&mut self.unit_first);
        let mut second = std::mem::take(&mut self.unit_second);
        let (units_first, units_second) = (&mut first[..count], &mut second[..count]);
        reduce_rows(&self.operation, self.geometry.row as usize, values, units_first, units_second);
        self.take_units(columns, Made::<O>(units_first, units_second));
        (self.unit_first, self.unit_second) = (first, second);
    }

    /// One segment of a row.
    fn feed_long_row(&mut self, run: &Run, values: &[O::In]) {
        let operation = &self.operation;
        let join = |a, b| join_counted(operation, a, b);
        let unit = O::moved(vectorised(Segment { operation, values }), self.row_elements);
        self.row.push((unit, values.len() as u64), join);
        self.row_elements += values.len() as u64;
        if run.ends_row
            && let Some(((a, b), _)) = self.row.finish(join)
        {
            self.row_elements = 0;
            self.take_units(run.columns, Made::<O>(&[a], &[b]));
        }
    }

    /// The next units of a tile of `columns` columns.
    fn take_units<U: Units<O>>(&mut self, columns: u64, units: U) {
        if self.geometry.depth == 1 {
            return self.store(self.geometry.row, units);
        }
        let width = (self.geometry.lanes * columns) as usize;
        let mut rest = units;
        while rest.len() > 0 {
            let segment_units = SEGMENT_ROWS as usize * width;
            let (units, later) = rest.split_at(rest.len().min(segment_units - self.units));
            vectorised(Join {
                operation: &self.operation,
                first: &mut self.first[..width],
                second: &mut self.second[..width],
                units,
                done: self.units,
                row: self.geometry.row,
                rows_before: self.segment * SEGMENT_ROWS,
            });
            self.units += units.len();
            rest = later;
            if self.units == segment_units {
                self.close_segment(columns as usize);
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
                for column in 0..columns {
                    let (at, later) = (lane * columns + column, (lane + half) * columns + column);
                    let units = [at, later].map(|at| (self.first[at], self.second[at]));
                    let joined = self.operation.join_lanes(units[0], units[1], [counts[lane], counts[lane + half]]);
                    (self.first[at], self.second[at]) = joined;
                }
                counts[lane] += counts[lane + half];
            }
            half /= 2;
        }
        let (first, second) = (self.first[..columns].to_vec(), self.second[..columns].to_vec());
        let results = Accumulators { first, second, elements: counts[0] };
        self.tile.push(results, |a, b| Accumulators::join(&self.operation, a, b));
        self.units = 0;
        self.segment += 1;
    }

    /// The results of a tile's columns.
    fn close_tile(&mut self, columns: usize) {
        if self.units > 0 {
            self.close_segment(columns);
        }
        self.segment = 0;
        if let Some(results) = self.tile.finish(|a, b| Accumulators::join(&self.operation, a, b)) {
            self.store(results.elements, Made::<O>(&results.first, &results.second));
        }
    }

    /// The next results of the block.
    fn store(&mut self, elements: u64, units: impl Units<O>) {
        if let Ok(buffer) = &mut self.output {
            let (width, operation) = (self.operation.partial_bytes(), &self.operation);
            let first = self.filled * width;
            self.filled += units.len();
            let out = &mut buffer.bytes_mut()[first..self.filled * width];
            vectorised(Store { operation, units, elements, place: &self.places.mover(), out });
        }
    }
}

/// Stores results.
struct Store<'a, O: Operation, U> {
    operation: &'a O,
    units: U,
    elements: u64,
    place: &'a dyn Fn(u64) -> u64,
    out: &'a mut [u8],
}

impl<O: Operation, U: Units<O>> Work for Store<'_, O, U> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.operation.store_all(self.units.iter(self.operation), self.elements, self.place, self.out);
    }
}

/// Reduces one segment.
struct Segment<'a, O: Operation> {
    operation: &'a O,
    values: &'a [O::In],
}

impl<O: Operation> Work for Segment<'_, O> {
    type Output = (O::A, O::B);

    #[inline(always)]
    fn run(self) -> (O::A, O::B) {
        self.operation.segment(self.values)
    }
}

/// Reduces rows of `N` elements: the compiler sees the whole tree of a row, and takes several rows at once.
struct TinyRows<'a, O: Operation, const N: usize> {
    operation: &'a O,
    values: &'a [O::In],
    first: &'a mut [O::A],
    second: &'a mut [O::B],
}

impl<O: Operation, const N: usize> Work for TinyRows<'_, O, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((a, b), row) in self.first.iter_mut().zip(self.second).zip(self.values.as_chunks::<N>().0) {
            (*a, *b) = self.operation.row(row);
        }
    }
}

/// Reduces rows of fewer elements than lanes, each in a window that reaches into the next rows.
struct ShortRows<'a, O: Operation> {
    operation: &'a O,
    length: usize,
    values: &'a [O::In],
    first: &'a mut [O::A],
    second: &'a mut [O::B],
}

impl<O: Operation> Work for ShortRows<'_, O> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.values.chunks_exact(self.length).enumerate();
        for ((a, b), (at, row)) in self.first.iter_mut().zip(self.second).zip(rows) {
            (*a, *b) = match self.values[at * self.length..].first_chunk() {
                Some(window) => self.operation.short_row(window, self.length),
                None => self.operation.segment(row),
            };
        }
    }
}

/// Reduces rows of at most a segment.
fn reduce_rows<O: Operation>(operation: &O, length: usize, values: &[O::In], first: &mut [O::A], second: &mut [O::B]) {
    match length {
        2 => vectorised(TinyRows::<O, 2> { operation, values, first, second }),
        3 => vectorised(TinyRows::<O, 3> { operation, values, first, second }),
        4 => vectorised(TinyRows::<O, 4> { operation, values, first, second }),
        5 => vectorised(TinyRows::<O, 5> { operation, values, first, second }),
        6 => vectorised(TinyRows::<O, 6> { operation, values, first, second }),
        7 => vectorised(TinyRows::<O, 7> { operation, values, first, second }),
        8 => vectorised(TinyRows::<O, 8> { operation, values, first, second }),
        9..LANES => vectorised(ShortRows { operation, length, values, first, second }),
        _ => {
            for ((a, b), row) in first.iter_mut().zip(second).zip(values.chunks_exact(length)) {
                (*a, *b) = vectorised(Segment { operation, values: row });
            }
        }
    }
}

/// Joins units to the accumulators of one segment, row of lanes by row of lanes.
struct Join<'a, O: Operation, U> {
    operation: &'a O,
    first: &'a mut [O::A],
    second: &'a mut [O::B],
    units: U,
    /// Units of the segment that were joined before.
    done: usize,
    /// Elements of a unit.
    row: u64,
    /// Rows of lanes in earlier segments.
    rows_before: u64,
}

impl<O: Operation, U: Units<O>> Work for Join<'_, O, U> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.first.len();
        let (mut lane_row, mut at, mut rest) = ((self.done / width) as u64, self.done % width, self.units);
        while rest.len() > 0 {
            let (units, later) = rest.split_at(rest.len().min(width - at));
            let accumulators = (&mut self.first[at..at + units.len()], &mut self.second[at..at + units.len()]);
            let moved = (self.rows_before + lane_row) * self.row;
            match lane_row {
                0 => assign_all(self.operation, accumulators, units, moved),
                _ => join_all(self.operation, accumulators, units, [lane_row * self.row, self.row], moved),
            }
            (lane_row, at, rest) = (lane_row + 1, 0, later);
        }
    }
}

/// Units side by side.
trait Units<O: Operation>: Copy {
    fn len(self) -> usize;
    fn split_at(self, at: usize) -> (Self, Self);
    fn iter(self, operation: &O) -> impl Iterator<Item = (O::A, O::B)>;
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
    fn iter(self, operation: &O) -> impl Iterator<Item = (O::A, O::B)> {
        self.0.iter().map(|&value| operation.lift(value))
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
    fn iter(self, _operation: &O) -> impl Iterator<Item = (O::A, O::B)> {
        self.0.iter().copied().zip(self.1.iter().copied())
    }
}

#[inline(always)]
fn assign_all<O: Operation>(operation: &O, accumulators: (&mut [O::A], &mut [O::B]), units: impl Units<O>, moved: u64) {
    for ((a, b), unit) in accumulators.0.iter_mut().zip(accumulators.1).zip(units.iter(operation)) {
        (*a, *b) = O::moved(unit, moved);
    }
}

#[inline(always)]
fn join_all<O: Operation>(
    operation: &O,
    accumulators: (&mut [O::A], &mut [O::B]),
    units: impl Units<O>,
    counts: [u64; 2],
    moved: u64,
) {
    for ((a, b), unit) in accumulators.0.iter_mut().zip(accumulators.1).zip(units.iter(operation)) {
        (*a, *b) = operation.join((*a, *b), O::moved(unit, moved), counts);
    }
}

type Counted<O> = ((<O as Operation>::A, <O as Operation>::B), u64);

fn join_counted<O: Operation>(operation: &O, a: Counted<O>, b: Counted<O>) -> Counted<O> {
    (operation.join(a.0, b.0, [a.1, b.1]), a.1 + b.1)
}
