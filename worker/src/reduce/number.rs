//! What the built-in reductions must know of each dtype: how it widens, and how it is ordered.

use std::ops::Add;

use crate::dtype::Element;

/// A dtype as the arithmetic reductions see it.
pub(super) trait Number: Element {
    /// What its sums and products are made in: f64, or u64 with wrapping (two's complement makes one of both signs).
    type Total: Total;
    /// The dtype of a sum or product.
    type Sum: Element;
    /// The dtype of a mean or variance.
    type Mean: Element;

    /// This value, widened.
    fn total(self) -> Self::Total;
    /// A total as a sum is returned.
    fn sum(total: Self::Total) -> Self::Sum;
    /// This value as f64, as nearly as may be.
    fn real(self) -> f64;
    /// A mean as it is returned.
    fn mean(value: f64) -> Self::Mean;
    /// Whether it counts as true.
    #[inline(always)]
    fn is_true(self) -> bool {
        self != Self::default()
    }
}

/// What sums and products are made in.
pub(super) trait Total: bytemuck::Pod + Default + Send {
    /// `a + NOTHING` is `a`, bit for bit: for floats that is minus zero.
    const NOTHING: Self;
    /// The multiplicative identity.
    const ONE: Self;
    fn add(self, other: Self) -> Self;
    fn multiply(self, other: Self) -> Self;
    /// The same, with one NaN for all.
    fn canonical(self) -> Self;
}

impl Total for f64 {
    const NOTHING: f64 = -0.0;
    const ONE: f64 = 1.0;
    #[inline(always)]
    fn add(self, other: f64) -> f64 {
        self + other
    }
    #[inline(always)]
    fn multiply(self, other: f64) -> f64 {
        self * other
    }
    #[inline(always)]
    fn canonical(self) -> f64 {
        if self.is_nan() { f64::NAN } else { self }
    }
}

impl Total for u64 {
    const NOTHING: u64 = 0;
    const ONE: u64 = 1;
    #[inline(always)]
    fn add(self, other: u64) -> u64 {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn multiply(self, other: u64) -> u64 {
        self.wrapping_mul(other)
    }
    #[inline(always)]
    fn canonical(self) -> u64 {
        self
    }
}

macro_rules! number {
    ($($rust:ty: $total:ty, $sum:ty, $mean:ty, $value:ident => $widened:expr);* $(;)?) => {$(
        impl Number for $rust {
            type Total = $total;
            type Sum = $sum;
            type Mean = $mean;
            #[inline(always)]
            fn total(self) -> $total {
                let $value = self;
                $widened
            }
            fn sum(total: $total) -> $sum {
                total as $sum
            }
            #[inline(always)]
            fn real(self) -> f64 {
                self as f64
            }
            fn mean(value: f64) -> $mean {
                value as $mean
            }
        }
    )*};
}
number! {
    f32: f64, f32, f32, value => f64::from(value);
    f64: f64, f64, f64, value => value;
    i32: u64, i64, f64, value => i64::from(value) as u64;
    u32: u64, u64, f64, value => u64::from(value);
    i64: u64, i64, f64, value => value as u64;
    u64: u64, u64, f64, value => value;
}

/// A dtype as min, max and the arg-reductions see it: by integer keys in its order. -0.0 comes before +0.0.
pub(super) trait Ordered: Element {
    /// Keys, as wide as the dtype itself.
    type Key: Key;
    /// Places in a block, as wide as the keys: so both lie in vectors of as many lanes.
    type Place: Place;
    /// The key of a value; a NaN gets `nan`.
    fn key(self, nan: Self::Key) -> Self::Key;
    /// The same, but equal values have equal keys: -0.0 and +0.0 are one.
    #[inline(always)]
    fn equal_key(self, nan: Self::Key) -> Self::Key {
        self.key(nan)
    }
    /// The value of a key; keys of no number give NaN.
    fn of_key(key: Self::Key) -> Self;
}

/// An order-preserving signed integer.
pub(super) trait Key: bytemuck::Pod + Default + Ord + Into<i64> + Send {
    const LEAST: Self;
    const GREATEST: Self;
}

/// An index into a block, which has fewer than 2^32 elements.
pub(super) trait Place: bytemuck::Pod + Default + Ord + Add<Output = Self> + Into<u64> + Send {
    fn of(place: u64) -> Self;
}

impl Place for u32 {
    #[inline(always)]
    fn of(place: u64) -> u32 {
        place as u32
    }
}

impl Place for u64 {
    #[inline(always)]
    fn of(place: u64) -> u64 {
        place
    }
}

impl Key for i32 {
    const LEAST: i32 = i32::MIN;
    const GREATEST: i32 = i32::MAX;
}

impl Key for i64 {
    const LEAST: i64 = i64::MIN;
    const GREATEST: i64 = i64::MAX;
}

/// All bits but the sign turned over where the sign is set: its own inverse.
macro_rules! float_order {
    ($rust:ty, $key:ty, $bits:ty) => {
        impl Ordered for $rust {
            type Key = $key;
            type Place = $bits;
            #[inline(always)]
            fn key(self, nan: $key) -> $key {
                let bits = self.to_bits() as $key;
                if self.is_nan() { nan } else { bits ^ ((bits >> (<$key>::BITS - 1)) & <$key>::MAX) }
            }
            #[inline(always)]
            fn equal_key(self, nan: $key) -> $key {
                // Adding +0.0 changes -0.0 and nothing else.
                (self + 0.0).key(nan)
            }
            fn of_key(key: $key) -> $rust {
                let value = <$rust>::from_bits((key ^ ((key >> (<$key>::BITS - 1)) & <$key>::MAX)) as $bits);
                if value.is_nan() { <$rust>::NAN } else { value }
            }
        }
    };
}
float_order!(f32, i32, u32);
float_order!(f64, i64, u64);

/// Integers, the unsigned ones with their uppermost bit turned over.
macro_rules! integer_order {
    ($rust:ty, $key:ty, $place:ty, $flip:expr) => {
        impl Ordered for $rust {
            type Key = $key;
            type Place = $place;
            #[inline(always)]
            fn key(self, _nan: $key) -> $key {
                self as $key ^ $flip
            }
            fn of_key(key: $key) -> $rust {
                (key ^ $flip) as $rust
            }
        }
    };
}
integer_order!(i32, i32, u32, 0);
integer_order!(i64, i64, u64, 0);
integer_order!(u32, i32, u32, i32::MIN);
integer_order!(u64, i64, u64, i64::MIN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_come_back() {
        let values = [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, f64::MAX, f64::INFINITY];
        for (at, value) in values.into_iter().enumerate() {
            assert_eq!(f64::of_key(value.key(7)).to_bits(), value.to_bits());
            assert!(values[..at].iter().all(|less| less.key(7) < value.key(7)));
            assert!((value as f32).key(i32::LEAST) > i32::LEAST && (value as f32).key(i32::GREATEST) < i32::GREATEST);
        }
        assert!(f64::of_key(i64::LEAST).is_nan() && f64::of_key(i64::GREATEST).is_nan());
        assert_eq!((-f32::NAN).key(i32::GREATEST), i32::GREATEST);
        assert!(0u32.key(0) < u32::MAX.key(0) && u64::of_key(u64::MAX.key(0)) == u64::MAX);
    }
}
