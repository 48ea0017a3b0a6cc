//! What a reduction does to values, apart from where they stand: the trait that the block tree is written over.
//!
//! An accumulator is a pair of planes, so that many of them lie in vectors; reductions with one number leave the second
//! empty. How many elements an accumulator stands for is not kept in it: it follows from where it stands, and is handed
//! in where a reduction needs it.

use crate::dtype::Element;

/// Lanes of a segment of a row.
pub(super) const LANES: usize = 32;

/// One reduction. All methods are hot and inlined, but for `unlaned`, `partial_bytes` and `store`.
pub(super) trait Operation: Send + 'static {
    /// What it reduces.
    type In: bytemuck::Pod;
    /// The accumulator's first plane.
    type A: Copy + Default + Send + 'static;
    /// Its second plane, or `()`.
    type B: Copy + Default + Send + 'static;

    /// One element.
    fn lift(&self, value: Self::In) -> (Self::A, Self::B);
    /// Two accumulators of `counts` elements each, in index order.
    fn join(&self, a: (Self::A, Self::B), b: (Self::A, Self::B), counts: [u64; 2]) -> (Self::A, Self::B);
    /// One to [`super::TILE`] neighbouring elements, by lanes.
    fn segment(&self, values: &[Self::In]) -> (Self::A, Self::B);
    /// The same of a row whose length the compiler knows.
    #[inline(always)]
    fn row<const N: usize>(&self, row: &[Self::In; N]) -> (Self::A, Self::B) {
        self.segment(row)
    }
    /// The same of the first `length` elements of a window, below [`LANES`].
    fn short_row(&self, window: &[Self::In; LANES], length: usize) -> (Self::A, Self::B);
    /// Moves an accumulator's place, if it has one, by `by`.
    fn moved(unit: (Self::A, Self::B), _by: u64) -> (Self::A, Self::B) {
        unit
    }
    /// Two accumulators of which neither comes before the other.
    fn join_lanes(&self, a: (Self::A, Self::B), b: (Self::A, Self::B), counts: [u64; 2]) -> (Self::A, Self::B) {
        self.join(a, b, counts)
    }
    /// The place of an accumulator that stood in `lane`, counted in rows of `lanes` units of `length` elements.
    fn unlaned(second: Self::B, _lane: u64, _lanes: u64, _length: u64) -> Self::B {
        second
    }
    /// Bytes of a stored accumulator.
    fn partial_bytes(&self) -> usize;
    /// Stores the accumulator of `count` elements, NaN made canonical. `place` turns places in the block into places in
    /// the array.
    fn store(&self, unit: (Self::A, Self::B), count: u64, place: &dyn Fn(u64) -> u64, out: &mut [u8]);
    /// [`Operation::store`] of one accumulator after the other. Hot where rows are short.
    #[inline(always)]
    fn store_all(
        &self,
        units: impl Iterator<Item = (Self::A, Self::B)>,
        count: u64,
        place: &dyn Fn(u64) -> u64,
        out: &mut [u8],
    ) {
        for (partial, unit) in out.chunks_exact_mut(self.partial_bytes()).zip(units) {
            self.store(unit, count, place, partial);
        }
    }
}

/// An operation that comes with the engine: what becomes of its stored accumulators.
pub(super) trait BuiltIn: Operation<In: Element> {
    /// The accumulator as it is stored: WGSL's layout, no padding.
    type Partial: bytemuck::Pod;
    /// The result; a bool is a `u32`.
    type Out: Element;

    /// Two stored accumulators, of consecutive blocks.
    fn fold(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// The result of all elements.
    fn finish(&self, partial: Self::Partial) -> Self::Out;
}

/// Reduces neighbours by [`LANES`] lanes, which are then combined by halves: lane `i` with lane `i + half`. `identity`
/// must change nothing, so that lanes without elements do not show.
#[inline(always)]
pub(super) fn lanes<T: Copy, A: Copy>(
    values: &[T],
    identity: A,
    lift: impl Fn(T) -> A,
    combine: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [identity; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = combine(lanes[lane], lift(chunk[lane]));
        }
    }
    // What is stored here is stored in full vectors, and so the compiler keeps the lanes in full vectors above. Without
    // it, it may take them by twos, at half the speed.
    let mut lanes = std::hint::black_box(lanes);
    // The lanes themselves are only indexed by constants: they stay in registers.
    let mut last = [identity; LANES];
    last.iter_mut().zip(rest).for_each(|(lane, &value)| *lane = lift(value));
    for lane in 0..LANES {
        lanes[lane] = combine(lanes[lane], last[lane]);
    }
    halve(lanes, combine)
}

/// [`lanes`] of a row of fewer elements than lanes, whose number the compiler knows: it leaves the other lanes out.
#[inline(always)]
pub(super) fn row_lanes<T: Copy, A: Copy, const N: usize>(
    row: &[T; N],
    identity: A,
    lift: impl Fn(T) -> A,
    combine: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [identity; LANES];
    for at in 0..N {
        lanes[at] = lift(row[at]);
    }
    halve(lanes, combine)
}

/// [`lanes`] of the first `length` elements of a window: the others are read but do not count.
#[inline(always)]
pub(super) fn masked_lanes<T: Copy, A: Copy>(
    window: &[T; LANES],
    length: usize,
    identity: A,
    lift: impl Fn(T) -> A,
    combine: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [identity; LANES];
    for lane in 0..LANES {
        let lifted = lift(window[lane]);
        lanes[lane] = if lane < length { lifted } else { identity };
    }
    halve(lanes, combine)
}

#[inline(always)]
fn halve<A: Copy>(mut lanes: [A; LANES], combine: impl Fn(A, A) -> A) -> A {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}
