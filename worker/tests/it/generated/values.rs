//! Numbers worth trying.

use gridloom_worker::dtype::DType;

/// Words of a dtype that are special in one way or another.
pub(super) fn special(dtype: DType) -> Vec<u64> {
    let singles = [
        0.0,
        1.0,
        0.5,
        0.25,
        1.5,
        2.0,
        2.5,
        3.5,
        3.0,
        7.0,
        10.0,
        100.0,
        0.1,
        0.3,
        1e-3,
        1e-10,
        1e10,
        1e20,
        1e-40,
        std::f32::consts::PI,
        std::f32::consts::FRAC_PI_2,
        std::f32::consts::FRAC_PI_4,
        std::f32::consts::TAU,
        12345.678,
        65504.0,
        65520.0,
        8388608.0,
        8388609.0,
        16777216.0,
        2147483520.0,
        2147483648.0,
        4294967040.0,
        4294967296.0,
        9.2233715e18,
        9.223372e18,
        1.8446743e19,
        1.8446744e19,
        88.0,
        89.0,
        127.0,
        128.0,
        149.0,
        150.0,
        f32::MAX,
        f32::MIN_POSITIVE,
        f32::EPSILON,
        f32::INFINITY,
    ];
    let doubles = [
        0.0,
        1.0,
        0.5,
        0.25,
        1.5,
        2.0,
        2.5,
        3.5,
        3.0,
        7.0,
        10.0,
        100.0,
        0.1,
        0.3,
        1e-3,
        1e-10,
        1e10,
        1e100,
        1e-310,
        std::f64::consts::PI,
        std::f64::consts::FRAC_PI_2,
        std::f64::consts::FRAC_PI_4,
        std::f64::consts::TAU,
        12345.678,
        65520.0,
        4503599627370496.0,
        4503599627370497.0,
        9007199254740992.0,
        2147483647.0,
        2147483648.0,
        4294967295.0,
        4294967296.0,
        9223372036854774784.0,
        9223372036854775808.0,
        18446744073709549568.0,
        18446744073709551616.0,
        709.0,
        710.0,
        745.0,
        746.0,
        1023.0,
        1024.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        f64::INFINITY,
        1e300,
        3.4028236e38,
    ];
    let mut words: Vec<u64> = match dtype {
        DType::F32 => singles.iter().flat_map(|x: &f32| [x.to_bits(), (-x).to_bits()]).map(u64::from).collect(),
        DType::F64 => doubles.iter().flat_map(|x: &f64| [x.to_bits(), (-x).to_bits()]).collect(),
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
