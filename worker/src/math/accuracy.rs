//! How far the functions are from the truth: against mpmath (fixtures) and, densely, against the C library.
//!
//! `GRIDLOOM_MEASURE=1 cargo test -p gridloom-worker --lib math::accuracy -- --nocapture` prints the figures of the table in
//! [`super`].

use super::*;

/// What the functions promise, in units in the last place.
const ULP_MAX: f64 = 4.0;

/// The C library's function.
type Exact = fn(f64) -> f64;

/// A function's name, ours and theirs.
type Named<F> = (&'static str, fn(F) -> F, Exact);

/// A width, for tests alone: its functions by name, the C library's, and its distances.
trait Width: Real<Scalar = Self> + PartialEq + std::fmt::Debug {
    fn unary() -> [Named<Self>; 17];
    fn pow(x: Self, y: Self) -> Self;
    fn from_bytes(bytes: &[u8]) -> Self;
    fn from_index(index: u64) -> Self;
    /// In the order of the numbers, one apart for neighbours.
    fn order(self) -> i64;
    fn wide(self) -> f64;
}

macro_rules! width {
    ($float:ident, $pow:ident, $signed:ident) => {
        impl Width for $float {
            fn unary() -> [Named<$float>; 17] {
                [
                    ("sin", sin, f64::sin),
                    ("cos", cos, f64::cos),
                    ("tan", tan, f64::tan),
                    ("asin", asin, f64::asin),
                    ("acos", acos, f64::acos),
                    ("atan", atan, f64::atan),
                    ("sinh", sinh, f64::sinh),
                    ("cosh", cosh, f64::cosh),
                    ("tanh", tanh, f64::tanh),
                    ("asinh", asinh, c_asinh),
                    ("acosh", acosh, c_acosh),
                    ("atanh", atanh, c_atanh),
                    ("exp", exp, f64::exp),
                    ("exp2", exp2, f64::exp2),
                    ("log", log, f64::ln),
                    ("log2", log2, f64::log2),
                    ("inverse_sqrt", inverse_sqrt, |x| 1.0 / x.sqrt()),
                ]
            }
            fn pow(x: $float, y: $float) -> $float {
                $pow(x, y)
            }
            fn from_bytes(bytes: &[u8]) -> $float {
                $float::from_le_bytes(bytes.try_into().unwrap())
            }
            fn from_index(index: u64) -> $float {
                $float::from_bits((index >> (64 - 8 * size_of::<$float>())) as _)
            }
            fn order(self) -> i64 {
                let bits = self.to_bits() as $signed;
                i64::from(if bits < 0 { $signed::MIN.wrapping_sub(bits) } else { bits })
            }
            fn wide(self) -> f64 {
                self as f64
            }
        }
    };
}
width!(f32, pow_single, i32);
width!(f64, pow_double, i64);

/// Rust's own are not the C library's but formulas that lose digits; these are good to two or three units.
fn c_asinh(x: f64) -> f64 {
    let size = x.abs();
    let far = size.ln() + std::f64::consts::LN_2;
    let near = (size + size * size / (1.0 + size.hypot(1.0))).ln_1p();
    (if size > 1e10 { far } else { near }).copysign(x)
}

fn c_acosh(x: f64) -> f64 {
    let t = x - 1.0;
    match x {
        1.0..1e10 => (t + (2.0 * t + t * t).sqrt()).ln_1p(),
        1e10.. => x.ln() + std::f64::consts::LN_2,
        _ => f64::NAN,
    }
}

fn c_atanh(x: f64) -> f64 {
    0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p().copysign(x)
}

/// The largest distance per function, and where.
#[derive(Default)]
struct Worst(Vec<(String, f64, String)>);

impl Worst {
    fn add(&mut self, name: &str, distance: f64, place: impl FnOnce() -> String) {
        let place = match self.0.iter().position(|(known, ..)| known == name) {
            Some(index) if self.0[index].1 >= distance => return,
            Some(index) => {
                self.0.remove(index);
                place()
            }
            None => place(),
        };
        self.0.push((name.to_owned(), distance, place));
    }

    #[allow(clippy::print_stdout)]
    fn check(mut self, bound: f64) {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, distance, place) in &self.0 {
            if std::env::var_os("GRIDLOOM_MEASURE").is_some() {
                println!("{name:20} {distance:.2} at {place}");
            }
            assert!(*distance <= bound, "{name} is {distance} ULP off at {place}");
        }
    }
}

fn apply<F: Width>(name: &str, arguments: &[F]) -> F {
    match (name, arguments) {
        ("pow", &[x, y]) => F::pow(x, y),
        ("atan2", &[y, x]) => atan2(y, x),
        (_, &[x]) => (F::unary().iter().find(|function| function.0 == name).unwrap().1)(x),
        _ => panic!("{name} of {} arguments", arguments.len()),
    }
}

/// One function's points; see `fixtures/elementary.py` for the format.
fn check_points<'a, F: Width>(
    name: &str,
    arity: usize,
    count: usize,
    mut data: &'a [u8],
    worst: &mut Worst,
) -> &'a [u8] {
    for _ in 0..count {
        let mut floats = Vec::new();
        for _ in 0..=arity {
            let (float, after) = data.split_at(size_of::<F>());
            floats.push(F::from_bytes(float));
            data = after;
        }
        let rest = f64::from(i16::from_le_bytes([data[0], data[1]])) / 1000.0;
        data = &data[2..];
        let nearest = floats.pop().unwrap();
        let result = apply(name, &floats);
        let distance = ((result.order() - nearest.order()) as f64 - rest).abs();
        worst.add(&format!("{name} {}", std::any::type_name::<F>()), distance, || format!("{floats:?} {result:?}"));
    }
    data
}

#[test]
fn functions_are_close_to_mpmath() {
    let mut worst = Worst::default();
    let mut data: &[u8] = include_bytes!("fixtures/elementary.bin");
    while let Some((&length, after)) = data.split_first() {
        let (name, after) = after.split_at(length.into());
        let name = std::str::from_utf8(name).unwrap();
        let (arity, count) = (usize::from(after[1]), usize::from(u16::from_le_bytes([after[2], after[3]])));
        data = match after[0] {
            4 => check_points::<f32>(name, arity, count, &after[4..], &mut worst),
            _ => check_points::<f64>(name, arity, count, &after[4..], &mut worst),
        };
    }
    assert_eq!(worst.0.len(), 2 * 19);
    worst.check(ULP_MAX);
}

/// Every 4099th float of 32 bits. The C library's function in 64 bits is as good as exact here.
#[test]
fn single_functions_are_close_to_the_c_library_everywhere() {
    let mut worst = Worst::default();
    for (name, function, exact) in f32::unary() {
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            let (result, exact) = (function(x), exact(f64::from(x)));
            worst.add(name, distance_to_exact(result, exact), || format!("{x:?} {result:?} {exact:?}"));
        }
    }
    worst.check(ULP_MAX);
}

/// Units in the last place of the 32-bit result; infinite where it is another kind of number.
fn distance_to_exact(result: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if nearest.is_nan() || nearest.is_infinite() || nearest == 0.0 {
        let same = result.to_bits() == nearest.to_bits() || (result.is_nan() && nearest.is_nan());
        // Where the result is rounded to the smallest or from the largest number, the neighbour will do.
        let beside = !nearest.is_nan() && !result.is_nan() && (result.order() - nearest.order()).abs() <= 1;
        return if same {
            0.0
        } else if beside && exact.is_finite() && exact != 0.0 {
            1.0
        } else {
            f64::INFINITY
        };
    }
    if !result.is_finite() {
        return if result.is_infinite() && (result.order() - nearest.order()).abs() <= 1 { 1.0 } else { f64::INFINITY };
    }
    let unit = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
    ((f64::from(result) - exact) / unit).abs()
}

/// Floats of 64 bits of all sizes, spread as 32-bit ones are, and larger. The C library's own error counts as ours.
#[test]
fn double_functions_are_close_to_the_c_library() {
    let mut worst = Worst::default();
    for (name, function, theirs) in f64::unary() {
        for index in 0..400_000u64 {
            let noise = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let small =
                f64::from_bits(f64::from(f32::from_bits((noise >> 32) as u32)).to_bits() ^ (noise & 0x1fff_ffff));
            for x in [small, f64::from_bits(noise.rotate_left(17))] {
                let (result, theirs) = (function(x), theirs(x));
                worst.add(name, distance_between(result, theirs), || format!("{x:?} {result:?} {theirs:?}"));
            }
        }
    }
    worst.check(ULP_MAX);
}

fn distance_between<F: Width>(a: F, b: F) -> f64 {
    let (wide_a, wide_b) = (a.wide(), b.wide());
    match (wide_a.is_nan(), wide_b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if (wide_a == 0.0) == (wide_b == 0.0) || wide_a.signum() == wide_b.signum() => {
            a.order().abs_diff(b.order()) as f64
        }
        _ => f64::INFINITY,
    }
}

/// Everything that IEEE 754 singles out, against the C library's answers: exact where those are not ordinary numbers.
#[test]
fn special_values_are_as_ieee_says() {
    check_special_values::<f32>();
    check_special_values::<f64>();
}

fn check_special_values<F: Width>() {
    let interesting = [
        0.0,
        0.5,
        0.75,
        1.0,
        1.5,
        2.0,
        3.0,
        4.0,
        1e-3,
        7.0,
        100.0,
        101.0,
        1e15,
        9007199254740991.0,
        16777215.0,
        1e30,
        1e-30,
        1e-45,
        5e-324,
        1.2e-38,
        2.3e-308,
        3.4e38,
        1.7e308,
        f64::INFINITY,
        f64::NAN,
    ];
    let one = F::from_index(0x3f80_0000 << 32);
    let values: Vec<F> = interesting.iter().flat_map(|&value| [one.constant(value), one.constant(-value)]).collect();
    for &x in &values {
        for (name, function, exact) in F::unary() {
            check_special(name, function(x), x.constant(exact(x.wide())), &[x]);
        }
        for &y in &values {
            check_special("pow", F::pow(x, y), x.constant(x.wide().powf(y.wide())), &[x, y]);
            check_special("atan2", atan2(x, y), x.constant(x.wide().atan2(y.wide())), &[x, y]);
        }
    }
}

#[track_caller]
fn check_special<F: Width>(name: &str, result: F, expected: F, arguments: &[F]) {
    let distance = distance_between(result, expected);
    let signs = result.wide().is_sign_negative() == expected.wide().is_sign_negative() || expected.wide().is_nan();
    assert!(distance <= ULP_MAX && signs, "{name}{arguments:?} is {result:?}, not {expected:?}");
}
