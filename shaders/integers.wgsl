// 64-bit integers for devices that have none: two words, like addresses. The same functions as in integers64.wgsl, and
// the same numbers.

alias U64 = Wide;
alias I64 = Wide;

// The whole product of two words. WGSL has no high half of a product, hence halves of 16 bits.
fn wide_product(a: u32, b: u32) -> Wide {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let cross = a_high * b_low + ((a_low * b_low) >> 16u);
    let middle = a_low * b_high + (cross & 0xffffu);
    return Wide(a * b, a_high * b_high + (cross >> 16u) + (middle >> 16u));
}

fn u64_of(a: Wide) -> U64 {
    return a;
}

fn words_of(a: U64) -> Wide {
    return a;
}

fn u64_of_u32(a: u32) -> U64 {
    return Wide(a, 0u);
}

// Two's complement.
fn u64_of_i32(a: i32) -> U64 {
    return Wide(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

fn u64_of_i64(a: I64) -> U64 {
    return a;
}

fn i64_of_i32(a: i32) -> I64 {
    return u64_of_i32(a);
}

fn u64_sum(a: U64, b: U64) -> U64 {
    return wide_sum(a, b);
}

fn u64_product(a: U64, b: U64) -> U64 {
    let product = wide_product(a.x, b.x);
    return Wide(product.x, product.y + a.x * b.y + a.y * b.x);
}

fn u64_is_less(a: U64, b: U64) -> bool {
    return wide_is_less(a, b);
}

fn i64_is_less(a: I64, b: I64) -> bool {
    let sign = Wide(0u, 0x80000000u);
    return wide_is_less(a ^ sign, b ^ sign);
}
