// 64-bit floats in integers, for devices that have none: the two words of an f64, and IEEE 754's results, rounded to
// nearest, ties to even. The same functions as in floats64.wgsl and the same bits, and NaN is always the one that
// partials hold.
//
// Two f32 for each f64 would take fewer operations. But they hold no sum beyond f32's range, and are only as good as
// compilers leave them: Metal reassociates floats by default, Vulkan's drivers may, and TwoSum of reassociated floats
// is no more than a sum. Of integers no compiler takes away a bit.

alias F64 = Wide;

const SIGN = 0x80000000u;
const INFINITY = 0x7ff00000u;
const NAN = Wide(0u, 0x7ff80000u);

// mantissa * 2^(exponent - 1086), the mantissa's highest bit set: so the exponent is the one that is stored, if it is
// not zero or less.
struct Parts { exponent: i32, mantissa: Wide }

fn canonical(x: F64) -> F64 {
    return x;
}

fn f64_of_f32(x: f32) -> F64 {
    let bits = bitcast<u32>(x);
    let sign = bits & SIGN;
    let exponent = (bits >> 23u) & 0xffu;
    let fraction = bits & 0x7fffffu;
    if exponent == 0u {
        return rounded(sign, 937, Wide(fraction, 0u));
    }
    if exponent == 0xffu {
        return select(Wide(0u, sign | INFINITY), NAN, fraction != 0u);
    }
    return Wide(fraction << 29u, sign | ((exponent + 896u) << 20u) | (fraction >> 3u));
}

fn f64_of_u32(x: u32) -> F64 {
    return rounded(0u, 1086, Wide(x, 0u));
}

fn f64_of_i32(x: i32) -> F64 {
    let bits = bitcast<u32>(x);
    return rounded(bits & SIGN, 1086, Wide(select(bits, 0u - bits, x < 0), 0u));
}

fn f64_of_u64(x: U64) -> F64 {
    return rounded(0u, 1086, words_of(x));
}

fn f64_of_i64(x: I64) -> F64 {
    let words = words_of(u64_of_i64(x));
    let sign = words.y & SIGN;
    return rounded(sign, 1086, select(words, wide_difference(Wide(), words), sign != 0u));
}

fn f64_sum(a: F64, b: F64) -> F64 {
    let is_swapped = wide_is_less(size(a), size(b));
    let large = select(a, b, is_swapped);
    let small = select(b, a, is_swapped);
    let sign = large.y & SIGN;
    let is_apart = ((large.y ^ small.y) & SIGN) != 0u;
    if !is_finite(large) {
        return select(large, NAN, is_nan(large) || (is_apart && !is_finite(small)));
    }
    let more = parts(large);
    let less = parts(small);
    // One bit for the carry. Below the 53 bits there are ten more, enough for what is taken away to round rightly.
    let most = shifted_right(more.mantissa, 1u);
    let rest = sticky_right(shifted_right(less.mantissa, 1u), u32(more.exponent - less.exponent));
    let sum = select(wide_sum(most, rest), wide_difference(most, rest), is_apart);
    let is_cancelled = is_apart && !any(sum != Wide());
    return rounded(select(sign, 0u, is_cancelled), more.exponent + 1, sum);
}

fn f64_difference(a: F64, b: F64) -> F64 {
    return f64_sum(a, Wide(b.x, b.y ^ SIGN));
}

fn f64_product(a: F64, b: F64) -> F64 {
    let sign = (a.y ^ b.y) & SIGN;
    if !is_finite(a) || !is_finite(b) {
        return select(Wide(0u, sign | INFINITY), NAN, is_nan(a) || is_nan(b) || is_zero(a) || is_zero(b));
    }
    let left = parts(a);
    let right = parts(b);
    let lowest = wide_product(left.mantissa.x, right.mantissa.x);
    let cross = wide_sum(wide_product(left.mantissa.x, right.mantissa.y), Wide(lowest.y, 0u));
    let middle = wide_sum(wide_product(left.mantissa.y, right.mantissa.x), Wide(cross.x, 0u));
    let carried = wide_sum(Wide(cross.y, 0u), Wide(middle.y, 0u));
    var highest = wide_sum(wide_product(left.mantissa.y, right.mantissa.y), carried);
    highest.x |= select(0u, 1u, (lowest.x | middle.x) != 0u);
    return rounded(sign, left.exponent + right.exponent - 1022, highest);
}

// By what is finite and not zero: a bit at a time, for it is rare.
fn f64_quotient(a: F64, b: F64) -> F64 {
    let sign = (a.y ^ b.y) & SIGN;
    if !is_finite(a) {
        return select(Wide(0u, sign | INFINITY), NAN, is_nan(a));
    }
    let left = parts(a);
    let right = parts(b);
    let divisor = shifted_right(right.mantissa, 1u);
    var rest = shifted_right(left.mantissa, 1u);
    var quotient = Wide();
    for (var bit = 0u; bit < 64u; bit += 1u) {
        let fits = !wide_is_less(rest, divisor);
        rest = select(rest, wide_difference(rest, divisor), fits);
        quotient = shifted_left(quotient, 1u);
        quotient.x |= select(0u, 1u, fits);
        rest = shifted_left(rest, 1u);
    }
    quotient.x |= select(0u, 1u, any(rest != Wide()));
    return rounded(sign, left.exponent - right.exponent + 1023, quotient);
}

// Without its sign: its order among others as an integer.
fn size(x: F64) -> Wide {
    return Wide(x.x, x.y & ~SIGN);
}

fn is_finite(x: F64) -> bool {
    return size(x).y < INFINITY;
}

fn is_nan(x: F64) -> bool {
    return wide_is_less(Wide(0u, INFINITY), size(x));
}

fn is_zero(x: F64) -> bool {
    return all(size(x) == Wide());
}

// Takes apart what is finite. Zero has no highest bit.
fn parts(x: F64) -> Parts {
    let exponent = (x.y >> 20u) & 0x7ffu;
    let fraction = shifted_left(Wide(x.x, x.y & 0xfffffu), 11u);
    if exponent == 0u {
        return normalised(1, fraction);
    }
    return Parts(i32(exponent), Wide(fraction.x, fraction.y | SIGN));
}

fn normalised(exponent: i32, mantissa: Wide) -> Parts {
    let is_low = mantissa.y == 0u;
    let by = select(0u, 32u, is_low) + countLeadingZeros(select(mantissa.y, mantissa.x, is_low));
    return Parts(exponent - i32(by), shifted_left(mantissa, by));
}

// The nearest F64 to mantissa * 2^(exponent - 1086). The mantissa's lowest bit stands for all that was below it.
fn rounded(sign: u32, exponent: i32, mantissa: Wide) -> F64 {
    let exact = normalised(exponent, mantissa);
    if exact.mantissa.y == 0u {
        return Wide(0u, sign);
    }
    if exact.exponent > 2046 {
        return Wide(0u, sign | INFINITY);
    }
    // Too small for all its bits to be kept, if less than one.
    let lost = u32(max(1 - exact.exponent, 0));
    let kept = sticky_right(exact.mantissa, lost);
    var bits = shifted_right(kept, 11u);
    // The highest bit adds one to the exponent that is stored, and so does rounding up to the next power of two.
    bits.y += u32(max(exact.exponent - 1, 0)) << 20u;
    let rest = kept.x & 0x7ffu;
    let is_up = rest > 0x400u || (rest == 0x400u && (bits.x & 1u) == 1u);
    bits = wide_sum(bits, Wide(select(0u, 1u, is_up), 0u));
    return Wide(bits.x, bits.y | sign);
}

fn wide_difference(a: Wide, b: Wide) -> Wide {
    return Wide(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// By up to 63 bits.
fn shifted_left(a: Wide, by: u32) -> Wide {
    let words = select(a, Wide(0u, a.x), by > 31u);
    let bits = by & 31u;
    return Wide(words.x << bits, (words.y << bits) | ((words.x >> 1u) >> (31u - bits)));
}

// By up to 63 bits.
fn shifted_right(a: Wide, by: u32) -> Wide {
    let words = select(a, Wide(a.y, 0u), by > 31u);
    let bits = by & 31u;
    return Wide((words.x >> bits) | ((words.y << 1u) << (31u - bits)), words.y >> bits);
}

// By any number of bits; the lowest bit that is left stands for all that are lost.
fn sticky_right(a: Wide, by: u32) -> Wide {
    if by == 0u {
        return a;
    }
    if by > 63u {
        return Wide(select(0u, 1u, any(a != Wide())), 0u);
    }
    let kept = shifted_right(a, by);
    return Wide(kept.x | select(0u, 1u, any(shifted_left(a, 64u - by) != Wide())), kept.y);
}
