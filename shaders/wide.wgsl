// Numbers of 64 bits, for devices that have them.

fn u64_of(wide: Wide) -> u64 {
    return (u64(wide.y) << 32u) | u64(wide.x);
}

fn f64_of(wide: Wide) -> f64 {
    return bitcast<f64>(u64_of(wide));
}

fn is_nan_64(x: f64) -> bool {
    return (bitcast<u64>(x) & 0x7ffffffffffffffflu) > 0x7ff0000000000000lu;
}

// Whether it is neither zero; NaN is true.
fn is_true_64(x: f64) -> bool {
    return (bitcast<u64>(x) & 0x7ffffffffffffffflu) != 0lu;
}

// The one NaN that partials hold. A constant would be folded, and refused.
fn canonical(x: f64) -> f64 {
    var nan = 0x7ff8000000000000lu;
    if is_nan_64(x) {
        return bitcast<f64>(nan);
    }
    return x;
}
