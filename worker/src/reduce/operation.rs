//! What a reduction does to values, apart from where they stand: the trait that the block tree is written over.
//!
//! An accumulator is a pair of planes, so that many of them lie in vectors; reductions with one number leave the second
//! empty. How many elements an accumulator stands for is not kept in it: it follows from where it stands, and is handed
//! in where a reduction needs it.

use crate::dtype::Element;

/// Lanes of a segment of a row.
pub(super) const LANES: usize = 32;
/// Rows that are turned round together where rows are shorter than [`LANES`].
const TURNED: usize = 8;

/// One built-in reduction of one dtype. All methods are hot and inlined, but for the last three.
pub(super) trait Operation: Copy + Send + 'static {
    /// The dtype it reduces.
    type In: Element;
    /// The accumulator's first plane.
    type A: Copy + Default + Send + 'static;
    /// Its second plane, or `()`.
    type B: Copy + Default + Send + 'static;
    /// The accumulator as it is stored: WGSL's layout, no padding.
    type Partial: bytemuck::Pod;
    /// The result; a bool is a `u32`.
    type Out: Element;

    /// One element.
    fn lift(value: Self::In) -> (Self::A, Self::B);
    /// Two accumulators of `counts` elements each, in index order.
    fn join(a: (Self::A, Self::B), b: (Self::A, Self::B), counts: [u64; 2]) -> (Self::A, Self::B);
    /// One to [`super::TILE`] neighbouring elements, by lanes.
    fn segment(values: &[Self::In]) -> (Self::A, Self::B);
    /// Rows of `length` elements each, below [`LANES`], every one as [`Operation::segment`] would.
    fn short_rows(values: &[Self::In], length: usize, first: &mut [Self::A], second: &mut [Self::B]);
    /// Moves an accumulator's place, if it has one, by `by`.
    fn moved(unit: (Self::A, Self::B), _by: u64) -> (Self::A, Self::B) {
        unit
    }
    /// The place of an accumulator that stood in `lane`, counted in rows of `lanes` units of `length` elements.
    fn unlaned(second: Self::B, _lane: u64, _lanes: u64, _length: u64) -> Self::B {
        second
    }

    /// The accumulator of `count` elements as stored, NaN made canonical. `place` turns places in the block into places
    /// in the array.
    fn store(unit: (Self::A, Self::B), count: u64, place: &dyn Fn(u64) -> u64) -> Self::Partial;
    /// Two stored accumulators, in index order.
    fn fold(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// The result of all elements.
    fn finish(self, partial: Self::Partial) -> Self::Out;
}

/// Lanes side by side, combined by halves: lane `i` with lane `i + half`.
#[inline(always)]
fn halve<A: Copy, const N: usize>(mut lanes: [A; N], combine: impl Fn(A, A) -> A) -> A {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Reduces neighbours by [`LANES`] lanes. `identity` must change nothing, so that lanes without elements do not show.
#[inline(always)]
pub(super) fn lanes<T: Copy, A: Copy>(
    values: &[T],
    identity: A,
    lift: impl Fn(T) -> A,
    combine: impl Fn(A, A) -> A + Copy,
) -> A {
    let mut lanes = [identity; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = combine(lanes[lane], lift(chunk[lane]));
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = combine(*lane, lift(value));
    }
    halve(lanes, combine)
}

/// The same for eight rows of `length <= N` elements at once: `lift(row, element)` is what a lane holds.
#[inline(always)]
fn turned<A: Copy, const N: usize>(
    length: usize,
    identity: A,
    lift: impl Fn(usize, usize) -> A,
    combine: impl Fn(A, A) -> A,
) -> [A; TURNED] {
    let mut lanes = [[identity; TURNED]; N];
    for (element, lane) in lanes.iter_mut().enumerate().take(length) {
        *lane = std::array::from_fn(|row| lift(row, element));
    }
    halve(lanes, |a, b| std::array::from_fn(|row| combine(a[row], b[row])))
}

/// [`turned`] with as few lanes as hold a row; with fewer than [`LANES`], only lanes without elements are left out.
#[inline(always)]
pub(super) fn turned_rows<A: Copy>(
    length: usize,
    identity: A,
    lift: impl Fn(usize, usize) -> A,
    combine: impl Fn(A, A) -> A,
) -> [A; TURNED] {
    match length {
        0..=4 => turned::<A, 4>(length, identity, lift, combine),
        5..=8 => turned::<A, 8>(length, identity, lift, combine),
        _ => turned::<A, LANES>(length, identity, lift, combine),
    }
}

/// Eight rows at a time by `eight`, the remaining ones each by [`Operation::segment`].
#[inline(always)]
pub(super) fn by_eights<O: Operation>(
    values: &[O::In],
    length: usize,
    first: &mut [O::A],
    second: &mut [O::B],
    eight: impl Fn(&[O::In]) -> ([O::A; TURNED], [O::B; TURNED]),
) {
    let mut firsts = first.chunks_exact_mut(TURNED);
    let mut seconds = second.chunks_exact_mut(TURNED);
    let mut blocks = values.chunks_exact(TURNED * length);
    for ((rows, first), second) in (&mut blocks).zip(&mut firsts).zip(&mut seconds) {
        let (a, b) = eight(rows);
        first.copy_from_slice(&a);
        second.copy_from_slice(&b);
    }
    let rows = blocks.remainder().chunks_exact(length);
    for ((row, a), b) in rows.zip(firsts.into_remainder()).zip(seconds.into_remainder()) {
        (*a, *b) = O::segment(row);
    }
}
