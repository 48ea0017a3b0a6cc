//! min, max, argmin and argmax, on order-preserving integer keys: NaN wins, -0.0 is less than +0.0, and of equal
//! elements the one with the lowest index is meant.

use std::marker::PhantomData;

use super::arithmetic::Monoid;
use super::number::{Key, Ordered};
use super::operation::{LANES, Operation, by_eights, lanes};

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

/// argmin or argmax. The second plane is the place: the row-major index over the reduced axes.
#[derive(Clone, Copy)]
pub(super) struct Arg<T, D>(pub(super) PhantomData<T>, pub(super) D);

/// An arg-reduction's partial.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Placed {
    key: i64,
    index: u64,
}

#[inline(always)]
fn join_placed<K: Key, D: Direction>(a: (K, u64), b: (K, u64)) -> (K, u64) {
    // Both comparisons are made always: a select is faster than a branch here.
    let b_wins = D::wins(b.0, a.0) | ((b.0 == a.0) & (b.1 < a.1));
    if b_wins { b } else { a }
}

impl<T: Ordered, D: Direction> Operation for Arg<T, D> {
    type In = T;
    type A = T::Key;
    type B = u64;
    type Partial = Placed;
    type Out = i64;

    #[inline(always)]
    fn lift(value: T) -> (T::Key, u64) {
        (value.key(D::nan()), 0)
    }
    #[inline(always)]
    fn join(a: (T::Key, u64), b: (T::Key, u64), _counts: [u64; 2]) -> (T::Key, u64) {
        join_placed::<T::Key, D>(a, b)
    }
    /// Finds the winning key with all lanes, and then the first chunk that holds it.
    #[inline(always)]
    fn segment(values: &[T]) -> (T::Key, u64) {
        let key = |value: T| value.key(D::nan());
        let best = lanes(values, D::worst(), key, D::better);
        let holds = |chunk: &&[T]| chunk.iter().fold(false, |found, &value| found | (key(value) == best));
        let mut place = 0;
        for chunk in values.chunks(LANES) {
            if holds(&chunk) {
                place += chunk.iter().take_while(|&&value| key(value) != best).count();
                break;
            }
            place += LANES;
        }
        (best, place as u64)
    }
    #[inline(always)]
    fn short_rows(values: &[T], length: usize, first: &mut [T::Key], second: &mut [u64]) {
        by_eights::<Self>(values, length, first, second, |rows| {
            let (mut best, mut place) = ([D::worst(); 8], [0; 8]);
            for element in 0..length {
                for row in 0..8 {
                    let key = rows[row * length + element].key(D::nan());
                    let wins = D::wins(key, best[row]);
                    best[row] = if wins { key } else { best[row] };
                    place[row] = if wins { element as u64 } else { place[row] };
                }
            }
            (best, place)
        });
    }
    #[inline(always)]
    fn moved(unit: (T::Key, u64), by: u64) -> (T::Key, u64) {
        (unit.0, unit.1 + by)
    }
    fn unlaned(place: u64, lane: u64, lanes: u64, length: u64) -> u64 {
        (place / length * lanes + lane) * length + place % length
    }
    fn store(unit: (T::Key, u64), _count: u64, place: &dyn Fn(u64) -> u64) -> Placed {
        Placed { key: unit.0.into(), index: place(unit.1) }
    }
    fn fold(a: Placed, b: Placed) -> Placed {
        let (key, index) = join_placed::<i64, D>((a.key, a.index), (b.key, b.index));
        Placed { key, index }
    }
    fn finish(self, partial: Placed) -> i64 {
        partial.index as i64
    }
}
