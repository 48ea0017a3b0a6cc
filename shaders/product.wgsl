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
