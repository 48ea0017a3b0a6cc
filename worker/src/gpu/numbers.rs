//! Numbers of 64 bits as WGSL, whatever the device has: its own, or words of 32 bits.

use super::adapter::AdapterFeatures;

const INTEGERS: &str = include_str!("../../../shaders/integers.wgsl");
const INTEGERS64: &str = include_str!("../../../shaders/integers64.wgsl");
const FLOATS: &str = include_str!("../../../shaders/floats.wgsl");
const FLOATS64: &str = include_str!("../../../shaders/floats64.wgsl");

/// `U64`, `I64`, the whole product of two words and, where it is wanted, `F64`, for a device with these features: the
/// one place where it is decided what they are. To be read after the prelude.
pub(super) fn numbers(features: AdapterFeatures, uses_floats: bool) -> String {
    let integers = if features.i64 { INTEGERS64 } else { INTEGERS };
    let floats = match uses_floats {
        false => "",
        true if features.has_f64() => FLOATS64,
        true => FLOATS,
    };
    [integers, floats].concat()
}

/// By the definition, and against Rust's own numbers.
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gpu::shader::PRELUDE;
    use crate::interpreter::{Interpreter, StopFlag};

    /// One of the functions on a device with or without 64-bit integers, and without f64.
    struct Called {
        interpreter: Interpreter,
        /// What it yields.
        words: usize,
    }

    impl Called {
        fn new(name: &str, has_i64: bool) -> Called {
            let features = AdapterFeatures { i64: has_i64, ..AdapterFeatures::default() };
            let module = naga::front::wgsl::parse_str(&[PRELUDE, &numbers(features, true)].concat()).unwrap();
            let named = |function: &naga::Function| function.name.as_deref() == Some(name);
            let (handle, function) = module.functions.iter().find(|(_, function)| named(function)).unwrap();
            let result = &module.types[function.result.as_ref().unwrap().ty].inner;
            let words = if matches!(result, naga::TypeInner::Vector { .. }) { 2 } else { 1 };
            Called { interpreter: Interpreter::new(Arc::new(module), handle).unwrap(), words }
        }

        /// Of arguments of a word each, or of two.
        fn of(&mut self, arguments: &[u64]) -> u64 {
            let mut found = [0; 2];
            self.interpreter.call(arguments, &StopFlag::new(), &mut found[..self.words]).unwrap();
            found[0] | found[1] << 32
        }

        fn of_floats(&mut self, a: f64, b: f64) -> u64 {
            let [a, b] = [a, b].map(f64::to_bits);
            self.of(&[a & 0xffff_ffff, a >> 32, b & 0xffff_ffff, b >> 32])
        }
    }

    /// A number's bits, those of any NaN being the one's that partials hold.
    fn bits(x: f64) -> u64 {
        if x.is_nan() { 0x7ff8 << 48 } else { x.to_bits() }
    }

    /// Numbers at every edge, and any: bits of all kinds of exponents, many near each other so that sums cancel.
    fn floats() -> Vec<f64> {
        let edges = [0.0, 1.0, 1.5, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e-310, f64::INFINITY, f64::NAN, 3e38, 9e15];
        let near =
            [1.0 + f64::EPSILON, 1.0 - f64::EPSILON / 2.0, 2.0f64.powi(53), 2.0f64.powi(54) + 4.0, 2.0f64.powi(-537)];
        let mut state = 1u64;
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        let any = (0..30).map(|_| f64::from_bits(word())).collect::<Vec<_>>();
        let narrow = (0..30).map(|_| f64::from_bits((1020 + word() % 8) << 52 | word() >> 12)).collect::<Vec<_>>();
        let all = edges.into_iter().chain(near).chain(any).chain(narrow);
        all.flat_map(|x| [x, -x]).collect()
    }

    #[track_caller]
    fn check_floats(name: &str, operation: fn(f64, f64) -> f64, is_asked: fn(f64) -> bool) {
        let mut function = Called::new(name, false);
        let numbers = floats();
        for (&a, &b) in numbers.iter().flat_map(|a| numbers.iter().map(move |b| (a, b))).filter(|&(_, &b)| is_asked(b))
        {
            assert_eq!(function.of_floats(a, b), bits(operation(a, b)), "{name} of {a:e} and {b:e}");
        }
    }

    #[test]
    fn floats_of_words_are_ieee_754s() {
        check_floats("f64_sum", |a, b| a + b, |_| true);
        check_floats("f64_difference", |a, b| a - b, |_| true);
        check_floats("f64_product", |a, b| a * b, |_| true);
        check_floats("f64_quotient", |a, b| a / b, |b| b.is_finite() && b != 0.0);
    }

    #[test]
    fn floats_of_words_are_made_of_all_others() {
        let mut narrow = Called::new("f64_of_f32", false);
        let patterns =
            (0..=0xff).flat_map(|exponent| [0, 1, 0x2a_aaaa, 0x7f_ffff].map(|fraction| exponent << 23 | fraction));
        for pattern in patterns.flat_map(|pattern: u32| [pattern, pattern | 1 << 31]) {
            assert_eq!(narrow.of(&[u64::from(pattern)]), bits(f64::from(f32::from_bits(pattern))), "{pattern:x}");
        }
        let [mut u64_words, mut i64_words, mut u32_word, mut i32_word] =
            ["f64_of_u64", "f64_of_i64", "f64_of_u32", "f64_of_i32"].map(|name| Called::new(name, false));
        let [mut u64_native, mut i64_native] = ["f64_of_u64", "f64_of_i64"].map(|name| Called::new(name, true));
        // Single bits, all bits from one down, and a half of the last place that is kept, alone and not.
        let half = 1u64 << 63 | 1 << 10;
        let words = |shift: u32| [1 << shift, u64::MAX >> shift, half >> shift, (1 << 53 | 1) << (shift % 11), 0];
        for word in (0..64).flat_map(words) {
            let (low, high, signed) = (word & 0xffff_ffff, word >> 32, word as i64);
            assert_eq!([u64_words.of(&[low, high]), u64_native.of(&[word])], [bits(word as f64); 2], "{word}");
            assert_eq!([i64_words.of(&[low, high]), i64_native.of(&[word])], [bits(signed as f64); 2], "{signed}");
            assert_eq!(u32_word.of(&[low]), bits(low as f64), "{low}");
            assert_eq!(i32_word.of(&[low]), bits(f64::from(low as i32)), "{}", low as i32);
        }
    }

    #[test]
    fn products_and_orders_are_whole() {
        let words =
            [0, 1, 2, 0xffff, 0x1_0000, 0x1_0001, 0xd251_1f53, 0xcd9e_8d57, 0x8000_0000, u32::MAX].map(u64::from);
        let [mut narrow, mut wide] = [false, true].map(|has_i64| Called::new("wide_product", has_i64));
        let mut product = Called::new("u64_product", false);
        let [mut is_less, mut is_less_signed] = ["u64_is_less", "i64_is_less"].map(|name| Called::new(name, false));
        for (a, b) in words.into_iter().flat_map(|a| words.map(|b| (a, b))) {
            assert_eq!([narrow.of(&[a, b]), wide.of(&[a, b])], [a * b; 2], "{a} {b}");
            // High and low words, on the right the other way round.
            let (left, right) = (a << 32 | b, b << 32 | a);
            assert_eq!(product.of(&[b, a, a, b]), left.wrapping_mul(right), "{left} {right}");
            assert_eq!(is_less.of(&[b, a, a, b]), u64::from(left < right), "{left} {right}");
            assert_eq!(is_less_signed.of(&[b, a, a, b]), u64::from((left as i64) < right as i64), "{left} {right}");
        }
    }
}
