//! min, max, argmin and argmax, on order-preserving integer keys: NaN wins, and of equal elements the one with the
//! lowest index is meant. min and max return -0.0 before +0.0; to argmin and argmax they are equal, as they are to
//! NumPy.

use std::marker::PhantomData;

use super::arithmetic::Monoid;
use super::number::{Key, Ordered, Place};
use super::operation::{BuiltIn, LANES, Operation, lanes};

/// Which end of the order is looked for.
pub(super) trait Direction: Copy + Send + 'static {
    /// A key that loses against all others.
    fn worst<K: Key>() -> K;
    /// The key of NaN: it wins against all others.
    fn nan<K: Key>() -> K;
    /// Whether `a` wins against `b`.
    fn wins<K: Key>(a: K, b: K) -> bool;
    /// Whichever wins.
    fn better<K: Key>(a: K, b: K) -> K;
}

/// Towards the least.
#[derive(Clone, Copy)]
pub(super) struct Least;

impl Direction for Least {
    #[inline(always)]
    fn worst<K: Key>() -> K {
        K::GREATEST
    }
    #[inline(always)]
    fn nan<K: Key>() -> K {
        K::LEAST
    }
    #[inline(always)]
    fn wins<K: Key>(a: K, b: K) -> bool {
        a < b
    }
    #[inline(always)]
    fn better<K: Key>(a: K, b: K) -> K {
        a.min(b)
    }
}

/// Towards the greatest.
#[derive(Clone, Copy)]
pub(super) struct Greatest;

impl Direction for Greatest {
    #[inline(always)]
    fn worst<K: Key>() -> K {
        K::LEAST
    }
    #[inline(always)]
    fn nan<K: Key>() -> K {
        K::GREATEST
    }
    #[inline(always)]
    fn wins<K: Key>(a: K, b: K) -> bool {
        a > b
    }
    #[inline(always)]
    fn better<K: Key>(a: K, b: K) -> K {
        a.max(b)
    }
}

/// min or max.
#[derive(Clone, Copy)]
pub(super) struct Extreme<T, D>(pub(super) PhantomData<T>, pub(super) D);

impl<T: Ordered, D: Direction> Monoid for Extreme<T, D> {
    type In = T;
    type A = T::Key;
    type Partial = T::Key;
    type Out = T;
    #[inline(always)]
    fn identity() -> T::Key {
        D::worst()
    }
    #[inline(always)]
    fn lift(value: T) -> T::Key {
        value.key(D::nan())
    }
    #[inline(always)]
    fn combine(a: T::Key, b: T::Key) -> T::Key {
        D::better(a, b)
    }
    fn store(key: T::Key, _count: u64) -> T::Key {
        key
    }
    fn fold(a: T::Key, b: T::Key) -> T::Key {
        D::better(a, b)
    }
    fn finish(key: T::Key) -> T {
        T::of_key(key)
    }
}

/// argmin or argmax. The second plane is the place: the row-major index over the block's reduced axes.
#[derive(Clone, Copy)]
pub(super) struct Arg<T, D>(pub(super) PhantomData<T>, pub(super) D);

/// An arg-reduction's partial.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Placed {
    key: i64,
    index: u64,
}

/// One element after the other, which is best for a few.
#[inline(always)]
fn in_turn<T: Ordered, D: Direction>(row: &[T]) -> (T::Key, T::Place) {
    let mut best = (row[0].equal_key(D::nan()), T::Place::default());
    for (place, &value) in row.iter().enumerate().skip(1) {
        let key = value.equal_key(D::nan());
        best = if D::wins(key, best.0) { (key, T::Place::of(place as u64)) } else { best };
    }
    best
}

impl<T: Ordered, D: Direction> Operation for Arg<T, D> {
    type In = T;
    type A = T::Key;
    type B = T::Place;

    #[inline(always)]
    fn lift(&self, value: T) -> (T::Key, T::Place) {
        (value.equal_key(D::nan()), T::Place::default())
    }
    #[inline(always)]
    fn join(&self, a: (T::Key, T::Place), b: (T::Key, T::Place), _counts: [u64; 2]) -> (T::Key, T::Place) {
        if D::wins(b.0, a.0) { b } else { a }
    }
    fn join_lanes(&self, a: (T::Key, T::Place), b: (T::Key, T::Place), _counts: [u64; 2]) -> (T::Key, T::Place) {
        if D::wins(b.0, a.0) || (b.0 == a.0 && b.1 < a.1) { b } else { a }
    }
    /// Finds the winning key with all lanes, and then the first place that holds it.
    #[inline(always)]
    fn segment(&self, values: &[T]) -> (T::Key, T::Place) {
        let key = |value: T| value.equal_key(D::nan());
        let best = lanes(values, D::worst(), key, D::better);
        let mut chunks = values.chunks(LANES).enumerate();
        // A whole chunk is looked through at a time: that is done in vectors.
        let (at, chunk) = chunks
            .find(|(_, chunk)| chunk.iter().fold(false, |found, &value| found | (key(value) == best)))
            .unwrap_or_default();
        let places = chunk.iter().zip(0u32..).map(|(&value, place)| if key(value) == best { place } else { u32::MAX });
        (best, T::Place::of((at * LANES) as u64 + u64::from(places.fold(u32::MAX, u32::min))))
    }
    #[inline(always)]
    fn row<const N: usize>(&self, row: &[T; N]) -> (T::Key, T::Place) {
        in_turn::<T, D>(row)
    }
    #[inline(always)]
    fn short_row(&self, window: &[T; LANES], length: usize) -> (T::Key, T::Place) {
        in_turn::<T, D>(&window[..length])
    }
    #[inline(always)]
    fn moved(unit: (T::Key, T::Place), by: u64) -> (T::Key, T::Place) {
        (unit.0, unit.1 + T::Place::of(by))
    }
    fn unlaned(place: T::Place, lane: u64, lanes: u64, length: u64) -> T::Place {
        let place: u64 = place.into();
        T::Place::of((place / length * lanes + lane) * length + place % length)
    }
    fn partial_bytes(&self) -> usize {
        size_of::<Placed>()
    }
    fn store(&self, unit: (T::Key, T::Place), _count: u64, place: &dyn Fn(u64) -> u64, out: &mut [u8]) {
        out.copy_from_slice(bytemuck::bytes_of(&Placed { key: unit.0.into(), index: place(unit.1.into()) }));
    }
}

impl<T: Ordered, D: Direction> BuiltIn for Arg<T, D> {
    type Partial = Placed;
    type Out = i64;

    /// Of two blocks side by side, the later one may hold the lower index.
    fn fold(a: Placed, b: Placed) -> Placed {
        if D::wins(b.key, a.key) || (b.key == a.key && b.index < a.index) { b } else { a }
    }
    fn finish(&self, partial: Placed) -> i64 {
        partial.index as i64
    }
}
