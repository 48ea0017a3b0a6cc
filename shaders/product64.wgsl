// The whole product of two words, for devices that have it as one: numbers of 64 bits are what WGSL calls it.
fn wide_product(a: u32, b: u32) -> Wide {
    let product = u64(a) * u64(b);
    return Wide(u32(product), u32(product >> 32u));
}
