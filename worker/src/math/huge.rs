//! Circular functions of huge angles, one at a time: rare, so a call.
//!
//! 2/pi is known to 1280 bits; the 256 of them that matter for the angle's exponent, times its mantissa, give the
//! quarter turn and the fraction of one. All of it is integer arithmetic.

use super::circular::{cos, sin};
use super::coefficients::TWO_OVER_PI;

/// Floats whose huge values are angles.
pub trait HugeAngle: Copy {
    /// Sine.
    fn sin_of_huge(self) -> Self;
    /// Cosine.
    fn cos_of_huge(self) -> Self;
    /// Tangent.
    fn tan_of_huge(self) -> Self;
}

impl HugeAngle for f64 {
    fn sin_of_huge(self) -> f64 {
        let (quarter, rest) = reduce(self.abs());
        with_sign(self, of_quarter(quarter, rest))
    }
    fn cos_of_huge(self) -> f64 {
        let (quarter, rest) = reduce(self.abs());
        of_quarter(quarter + 1, rest)
    }
    fn tan_of_huge(self) -> f64 {
        let (quarter, rest) = reduce(self.abs());
        with_sign(self, of_quarter(quarter, rest) / of_quarter(quarter + 1, rest))
    }
}

impl HugeAngle for f32 {
    fn sin_of_huge(self) -> f32 {
        sin(f64::from(self)) as f32
    }
    fn cos_of_huge(self) -> f32 {
        cos(f64::from(self)) as f32
    }
    fn tan_of_huge(self) -> f32 {
        super::tan(f64::from(self)) as f32
    }
}

/// The odd functions' value for the angle, from that for its size.
fn with_sign(angle: f64, value: f64) -> f64 {
    if angle < 0.0 { -value } else { value }
}

/// sin(quarter * pi/2 + rest).
fn of_quarter(quarter: u32, rest: f64) -> f64 {
    match quarter % 4 {
        0 => sin(rest),
        1 => cos(rest),
        2 => -sin(rest),
        _ => -cos(rest),
    }
}

/// The angle as quarter turns, and the rest in [-pi/4, pi/4]. The angle is at least 2^27.
fn reduce(angle: f64) -> (u32, f64) {
    if angle.is_infinite() {
        return (0, f64::NAN);
    }
    let exponent = (angle.to_bits() >> 52) as i64 - 1075;
    let mantissa = (angle.to_bits() & ((1 << 52) - 1)) | (1 << 52);
    // angle * 2/pi = mantissa * 2^exponent * 0.b0 b1 b2...: bits that weigh 4 and more after that product are whole turns.
    // So the first bit that matters is the one at `exponent - 2`, and the window holds it and the 255 after it.
    let first = exponent - 2;
    let window: [u64; 4] = std::array::from_fn(|word| bits_from(first + 64 * word as i64));
    // The product's low 256 bits: two bits of quarter turns, then the fraction.
    let mut product = [0u64; 4];
    let mut carry = 0u128;
    for index in (0..4).rev() {
        let term = u128::from(window[index]) * u128::from(mantissa) + carry;
        product[index] = term as u64;
        carry = term >> 64;
    }
    let quarter = (product[0] >> 62) as u32;
    let high = (u128::from(product[0]) << 64 | u128::from(product[1])) << 2 | u128::from(product[2] >> 62);
    // As a signed fraction of a quarter turn, in units of 2^-128: from 1/2 on it is the next one, less something.
    let quarter = if high >> 127 == 1 { quarter + 1 } else { quarter };
    let signed = high as i128;
    let fraction = signed as f64;
    let lost = (signed - fraction as i128) as f64;
    let unit = f64::from_bits((1023 - 128) << 52);
    let [half_pi, half_pi_low, _] = super::coefficients::DOUBLE.half_pi;
    let product = fraction * half_pi;
    let low = fraction.mul_add(half_pi, -product) + fraction.mul_add(half_pi_low, lost * half_pi);
    (quarter, (product + low) * unit)
}

/// 64 bits of 2/pi, from the bit that weighs 2^-(first + 1) on; before the first bit are zeros.
fn bits_from(first: i64) -> u64 {
    let word = |index: i64| usize::try_from(index).ok().and_then(|index| TWO_OVER_PI.get(index)).copied().unwrap_or(0);
    let (index, shift) = (first.div_euclid(64), first.rem_euclid(64) as u32);
    let both = u128::from(word(index)) << 64 | u128::from(word(index + 1));
    (both >> (64 - shift)) as u64
}
