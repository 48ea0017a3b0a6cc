// 64-bit floats for devices that have them, and 64-bit integers too.

alias F64 = f64;

fn f64_of(wide: Wide) -> F64 {
    return bitcast<f64>(u64_of(wide));
}

fn is_nan_64(x: F64) -> bool {
    return (bitcast<u64>(x) & 0x7ffffffffffffffflu) > 0x7ff0000000000000lu;
}

// Whether it is neither zero; NaN is true.
fn is_true_64(x: F64) -> bool {
    return (bitcast<u64>(x) & 0x7ffffffffffffffflu) != 0lu;
}

// The one NaN that partials hold. A constant would be folded, and refused.
fn canonical(x: F64) -> F64 {
    var nan = 0x7ff8000000000000lu;
    if is_nan_64(x) {
        return bitcast<f64>(nan);
    }
    return x;
}

fn f64_of_f32(x: f32) -> F64 {
    return f64(x);
}

fn f64_of_f64(x: F64) -> F64 {
    return x;
}

fn f64_of_u32(x: u32) -> F64 {
    return f64(x);
}

fn f64_of_i32(x: i32) -> F64 {
    return f64(x);
}

fn f64_of_u64(x: U64) -> F64 {
    return f64(x);
}

fn f64_of_i64(x: I64) -> F64 {
    return f64(x);
}

fn f64_sum(a: F64, b: F64) -> F64 {
    return a + b;
}

fn f64_difference(a: F64, b: F64) -> F64 {
    return a - b;
}

fn f64_product(a: F64, b: F64) -> F64 {
    return a * b;
}

// By what is finite and not zero.
fn f64_quotient(a: F64, b: F64) -> F64 {
    return a / b;
}
