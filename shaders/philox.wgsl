// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), and the
// numbers made of its words. The same bits as on CPUs.

// The four words of a group. Parameters at `at`: the key, then the stream, both low word first.
fn philox(group: Wide, at: u32) -> vec4<u32> {
    var counter = vec4<u32>(group, wide_param(at + 2u));
    var key = wide_param(at);
    for (var round = 0u; round < 10u; round += 1u) {
        let first = wide_product(0xD2511F53u, counter.x);
        let second = wide_product(0xCD9E8D57u, counter.z);
        counter = vec4<u32>(second.y ^ counter.y ^ key.x, second.x, first.y ^ counter.w ^ key.y, first.x);
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}

// Element `index` of a u32 array, and the word that an f32 is made of.
fn random_word(index: Wide, at: u32) -> u32 {
    return philox(wide_shifted_right(index, 2u), at)[index.x & 3u];
}

// In [0, 1).
fn uniform_32(index: Wide, at: u32) -> f32 {
    return f32(random_word(index, at) >> 8u) * 5.9604644775390625e-8;
}
