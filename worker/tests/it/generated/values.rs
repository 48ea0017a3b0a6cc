//! Numbers worth trying.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI, TAU};

use gridloom_worker::dtype::DType;

/// Floats of both widths: small ones, where functions overflow, where conversions do.
const PLAIN: [f64; 37] = [
    0.0, 1.0, 0.5, 0.25, 1.5, 2.0, 2.5, 3.5, 3.0, 7.0, 10.0, 100.0, 0.1, 0.3, 1e-3, 1e-10, 1e10, 1e20, 1e-40, 1e-310,
    1e100, 1e300, 12345.678, 65504.0, 65520.0, 88.0, 89.0, 127.0, 128.0, 149.0, 150.0, 709.0, 710.0, 745.0, 746.0,
    1023.0, 1024.0,
];
const ANGLES: [f64; 4] = [PI, FRAC_PI_2, FRAC_PI_4, TAU];
/// Exponents of two at which integers, or floats of the other width, end.
const EXPONENTS: [i32; 9] = [23, 24, 31, 32, 52, 53, 63, 64, 127];

/// Each with its negative, and powers of two with their neighbours.
macro_rules! floats {
    ($float:ident) => {{
        let two: $float = 2.0;
        let powers = EXPONENTS.map(|exponent| two.powi(exponent));
        let powers = powers.into_iter().flat_map(|power| [power.next_down(), power, power.next_up(), power - 1.0]);
        let numbers = PLAIN.into_iter().chain(ANGLES).map(|number| number as $float).chain(powers);
        let all = numbers.chain([$float::MAX, $float::MIN_POSITIVE, $float::EPSILON, $float::INFINITY]);
        all.flat_map(|x| [x.to_bits(), (-x).to_bits()]).map(u64::from).collect()
    }};
}

/// Words of a dtype that are special in one way or another.
pub(super) fn special(dtype: DType) -> Vec<u64> {
    let mut words: Vec<u64> = match dtype {
        DType::F32 => floats!(f32),
        DType::F64 => floats!(f64),
        DType::Bool => vec![0, 1],
        DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
            let small = (0..12).chain([15, 16, 31, 32, 33, 63, 64, 65, 100, 255, 256, 1000, 12345]);
            let large = [0x7fff, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, 0xffff_fffe];
            let huge = [0x1_0000_0000, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0x0123_4567_89ab_cdef];
            small.chain(large).chain(huge).flat_map(|x: u64| [x, x.wrapping_neg()]).collect()
        }
    };
    match dtype {
        DType::F32 => words.extend([0x7fc0_0000, 0xffc0_0001, 0x7f80_0001, 1, 0x8000_0001, 0x007f_ffff, 0x3f7f_ffff]),
        DType::F64 => words.extend([0x7ff8 << 48, 0xfff8_0000_0000_0001, 0x7ff0_0000_0000_0001, 1, 1 << 63 | 1]),
        _ => {}
    }
    if dtype.bytes() == 4 {
        words.iter_mut().for_each(|word| *word &= 0xffff_ffff);
    }
    words
}

/// `count` words of each dtype: pairs and triples of special values, every combination early.
pub(super) fn tuples(dtypes: &[DType], count: usize) -> Vec<Vec<u64>> {
    let mut step = 1;
    let column = |&dtype: &DType| {
        let special = special(dtype);
        // Each column runs through its values at a pace of its own.
        let words = (0..count).map(|at| special[(at / step + at * (step > 1) as usize) % special.len()]).collect();
        step *= special.len();
        words
    };
    dtypes.iter().map(column).collect()
}
