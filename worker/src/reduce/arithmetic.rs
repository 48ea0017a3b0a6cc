//! sum, prod, mean, var, std and the counts.
//!
//! Floats are added in f64. Variance is made of two moments per segment (the segment is in L1: a second pass over it
//! costs little and cancels nothing) and combined as Chan, Golub and LeVeque, "Updating formulae and a pairwise
//! algorithm for computing sample variances" (1979).

use std::marker::PhantomData;

use super::number::{Number, Total};
use super::operation::{BuiltIn, LANES, Operation, lanes, masked_lanes, row_lanes};
use crate::dtype::Element;

/// A reduction whose accumulator is one number and whose combination is one operation on it.
pub(super) trait Monoid: Copy + Send + 'static {
    type In: Element;
    type A: bytemuck::Pod + Default + Send;
    type Partial: bytemuck::Pod;
    type Out: Element;
    /// Changes nothing, bit for bit.
    fn identity() -> Self::A;
    fn lift(value: Self::In) -> Self::A;
    fn combine(a: Self::A, b: Self::A) -> Self::A;
    fn store(a: Self::A, count: u64) -> Self::Partial;
    fn fold(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    fn finish(partial: Self::Partial) -> Self::Out;
}

/// A monoid as an [`Operation`].
#[derive(Clone, Copy)]
pub(super) struct Plain<M>(pub(super) M);

impl<M: Monoid> Operation for Plain<M> {
    type In = M::In;
    type A = M::A;
    type B = ();

    #[inline(always)]
    fn lift(&self, value: M::In) -> (M::A, ()) {
        (M::lift(value), ())
    }
    #[inline(always)]
    fn join(&self, a: (M::A, ()), b: (M::A, ()), _counts: [u64; 2]) -> (M::A, ()) {
        (M::combine(a.0, b.0), ())
    }
    #[inline(always)]
    fn segment(&self, values: &[M::In]) -> (M::A, ()) {
        (lanes(values, M::identity(), M::lift, M::combine), ())
    }
    #[inline(always)]
    fn row<const N: usize>(&self, row: &[M::In; N]) -> (M::A, ()) {
        (row_lanes(row, M::identity(), M::lift, M::combine), ())
    }
    #[inline(always)]
    fn short_row(&self, window: &[M::In; LANES], length: usize) -> (M::A, ()) {
        (masked_lanes(window, length, M::identity(), M::lift, M::combine), ())
    }
    fn partial_bytes(&self) -> usize {
        size_of::<M::Partial>()
    }
    fn store(&self, unit: (M::A, ()), count: u64, _place: &dyn Fn(u64) -> u64, out: &mut [u8]) {
        out.copy_from_slice(bytemuck::bytes_of(&M::store(unit.0, count)));
    }
    #[inline(always)]
    fn store_all(
        &self,
        units: impl Iterator<Item = (M::A, ())>,
        count: u64,
        _place: &dyn Fn(u64) -> u64,
        out: &mut [u8],
    ) {
        // Partials of a known width, side by side: the compiler makes vectors of them.
        for (partial, (a, ())) in bytemuck::cast_slice_mut::<u8, M::Partial>(out).iter_mut().zip(units) {
            *partial = M::store(a, count);
        }
    }
}

impl<M: Monoid> BuiltIn for Plain<M> {
    type Partial = M::Partial;
    type Out = M::Out;

    fn fold(a: M::Partial, b: M::Partial) -> M::Partial {
        M::fold(a, b)
    }
    fn finish(&self, partial: M::Partial) -> M::Out {
        M::finish(partial)
    }
}

/// A monoid that is stored as it is: accumulator => result; identity, lift, combine, finish.
macro_rules! plain_monoid {
    ($name:ident: $a:ty => $out:ty; $identity:expr, $lift:expr, $combine:expr, $finish:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name<T>(pub(super) PhantomData<T>);

        impl<T: Number> Monoid for $name<T> {
            type In = T;
            type A = $a;
            type Partial = $a;
            type Out = $out;
            #[inline(always)]
            fn identity() -> $a {
                $identity
            }
            #[inline(always)]
            fn lift(value: T) -> $a {
                $lift(value)
            }
            #[inline(always)]
            fn combine(a: $a, b: $a) -> $a {
                $combine(a, b)
            }
            #[inline(always)]
            fn store(a: $a, _count: u64) -> $a {
                a.canonical()
            }
            fn fold(a: $a, b: $a) -> $a {
                $combine(a, b).canonical()
            }
            fn finish(partial: $a) -> $out {
                $finish(partial)
            }
        }
    };
}
plain_monoid!(Sum: T::Total => T::Sum; T::Total::NOTHING, T::total, T::Total::add, T::sum);
plain_monoid!(Prod: T::Total => T::Sum; T::Total::ONE, T::total, T::Total::multiply, T::sum);
plain_monoid!(CountNonzero: u64 => i64; 0, trues, Total::add, |trues| trues as i64);
plain_monoid!(Any: u64 => u32; 0, trues, Total::add, |trues| u32::from(trues > 0));
plain_monoid!(All: u64 => u32; 0, falses, Total::add, |falses| u32::from(falses == 0));

#[inline(always)]
fn trues<T: Number>(value: T) -> u64 {
    u64::from(value.is_true())
}

#[inline(always)]
fn falses<T: Number>(value: T) -> u64 {
    u64::from(!value.is_true())
}

/// The sum of f64, and of how many.
#[derive(Clone, Copy)]
pub(super) struct Mean<T>(pub(super) PhantomData<T>);

/// A mean's partial.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct CountedSum {
    count: u64,
    sum: f64,
}

impl<T: Number> Monoid for Mean<T> {
    type In = T;
    type A = f64;
    type Partial = CountedSum;
    type Out = T::Mean;
    #[inline(always)]
    fn identity() -> f64 {
        f64::NOTHING
    }
    #[inline(always)]
    fn lift(value: T) -> f64 {
        value.real()
    }
    #[inline(always)]
    fn combine(a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn store(sum: f64, count: u64) -> CountedSum {
        CountedSum { count, sum: sum.canonical() }
    }
    fn fold(a: CountedSum, b: CountedSum) -> CountedSum {
        CountedSum { count: a.count + b.count, sum: (a.sum + b.sum).canonical() }
    }
    fn finish(partial: CountedSum) -> T::Mean {
        T::mean(partial.sum / partial.count as f64)
    }
}

/// Variance, or its square root.
#[derive(Clone, Copy)]
pub(super) struct Var<T> {
    pub(super) ddof: f64,
    pub(super) is_std: bool,
    pub(super) input: PhantomData<T>,
}

/// A variance's partial: how many, their mean, and the sum of the squares of their distances from it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    m2: f64,
}

#[inline(always)]
fn join_moments(a: (f64, f64), b: (f64, f64), counts: [u64; 2]) -> (f64, f64) {
    let [count_a, count_b] = counts.map(|count| count as f64);
    let count = count_a + count_b;
    let (share, weight) = (count_b / count, count_a * count_b / count);
    let distance = b.0 - a.0;
    (a.0 + distance * share, a.1 + b.1 + distance * distance * weight)
}

impl<T: Number> Operation for Var<T> {
    type In = T;
    type A = f64;
    type B = f64;

    #[inline(always)]
    fn lift(&self, value: T) -> (f64, f64) {
        (value.real(), 0.0)
    }
    #[inline(always)]
    fn join(&self, a: (f64, f64), b: (f64, f64), counts: [u64; 2]) -> (f64, f64) {
        join_moments(a, b, counts)
    }
    #[inline(always)]
    fn segment(&self, values: &[T]) -> (f64, f64) {
        let mean = lanes(values, f64::NOTHING, T::real, f64::add) / values.len() as f64;
        let square = |value: T| {
            let distance = value.real() - mean;
            distance * distance
        };
        (mean, lanes(values, f64::NOTHING, square, f64::add))
    }
    #[inline(always)]
    fn row<const N: usize>(&self, row: &[T; N]) -> (f64, f64) {
        let mean = row_lanes(row, f64::NOTHING, T::real, f64::add) / N as f64;
        let square = |value: T| {
            let distance = value.real() - mean;
            distance * distance
        };
        (mean, row_lanes(row, f64::NOTHING, square, f64::add))
    }
    #[inline(always)]
    fn short_row(&self, window: &[T; LANES], length: usize) -> (f64, f64) {
        let mean = masked_lanes(window, length, f64::NOTHING, T::real, f64::add) / length as f64;
        let square = |value: T| {
            let distance = value.real() - mean;
            distance * distance
        };
        (mean, masked_lanes(window, length, f64::NOTHING, square, f64::add))
    }
    fn partial_bytes(&self) -> usize {
        size_of::<Moments>()
    }
    fn store(&self, (mean, m2): (f64, f64), count: u64, _place: &dyn Fn(u64) -> u64, out: &mut [u8]) {
        out.copy_from_slice(bytemuck::bytes_of(&Moments { count, mean: mean.canonical(), m2: m2.canonical() }));
    }
}

impl<T: Number> BuiltIn for Var<T> {
    type Partial = Moments;
    type Out = T::Mean;

    fn fold(a: Moments, b: Moments) -> Moments {
        let (mean, m2) = join_moments((a.mean, a.m2), (b.mean, b.m2), [a.count, b.count]);
        Moments { count: a.count + b.count, mean: mean.canonical(), m2: m2.canonical() }
    }
    fn finish(&self, partial: Moments) -> T::Mean {
        // As NumPy: what is infinitely far from its mean has no variance, and too few elements for the degrees of
        // freedom give 0/0 or x/0, not a negative variance.
        let freedom = (partial.count as f64 - self.ddof).max(0.0);
        let variance = if partial.mean.is_finite() { partial.m2 / freedom } else { f64::NAN };
        T::mean(if self.is_std { variance.sqrt() } else { variance }.canonical())
    }
}
