// 64-bit integers for devices that have them.

alias U64 = u64;
alias I64 = i64;

// The whole product of two words.
fn wide_product(a: u32, b: u32) -> Wide {
    return words_of(u64(a) * u64(b));
}

fn u64_of(a: Wide) -> U64 {
    return (u64(a.y) << 32u) | u64(a.x);
}

fn words_of(a: U64) -> Wide {
    return Wide(u32(a), u32(a >> 32u));
}

fn u64_of_u32(a: u32) -> U64 {
    return u64(a);
}

// Two's complement.
fn u64_of_i32(a: i32) -> U64 {
    return u64(i64(a));
}

fn u64_of_i64(a: I64) -> U64 {
    return bitcast<u64>(a);
}

fn u64_of_u64(a: U64) -> U64 {
    return a;
}

fn i64_of_i32(a: i32) -> I64 {
    return i64(a);
}

fn i64_of_i64(a: I64) -> I64 {
    return a;
}

fn u64_sum(a: U64, b: U64) -> U64 {
    return a + b;
}

fn u64_product(a: U64, b: U64) -> U64 {
    return a * b;
}

fn u64_is_less(a: U64, b: U64) -> bool {
    return a < b;
}

fn i64_is_less(a: I64, b: I64) -> bool {
    return a < b;
}
