// What every shader of the engine begins with: the parameters of a dispatch, 64-bit addresses as two words, the way
// from an element of a block to where it is read, and NaN by its bits (drivers fold `x != x` away).

// All numbers that a dispatch works with: they are data, so that one pipeline serves all blocks of a structure.
@group(0) @binding(0) var<storage, read> params: array<u32>;

// An unsigned 64-bit number: low word, high word. Arithmetic wraps.
alias Wide = vec2<u32>;

fn wide_sum(a: Wide, b: Wide) -> Wide {
    let low = a.x + b.x;
    return Wide(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn wide_is_less(a: Wide, b: Wide) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn wide_times(a: Wide, b: u32) -> Wide {
    let product = wide_product(a.x, b);
    return Wide(product.x, product.y + a.y * b);
}

fn wide_shifted_right(a: Wide, by: u32) -> Wide {
    return Wide((a.x >> by) | (a.y << (32u - by)), a.y >> by);
}

fn wide_param(at: u32) -> Wide {
    return Wide(params[at], params[at + 1u]);
}

// The address of element `element`: the base at `steps`, and a step after it for each of the axes at `axes` (their
// number, then their lengths, outermost first).
fn address(element: u32, axes: u32, steps: u32) -> Wide {
    var sum = wide_param(steps);
    var rest = element;
    for (var axis = params[axes]; axis > 0u; axis -= 1u) {
        let length = params[axes + axis];
        sum = wide_sum(sum, wide_times(wide_param(steps + 2u * axis), rest % length));
        rest /= length;
    }
    return sum;
}

// The same where addresses are those of a buffer's elements, which fit a word.
fn position(element: u32, axes: u32, steps: u32) -> u32 {
    var sum = params[steps];
    var rest = element;
    for (var axis = params[axes]; axis > 0u; axis -= 1u) {
        let length = params[axes + axis];
        sum += params[steps + 2u * axis] * (rest % length);
        rest /= length;
    }
    return sum;
}

// Which of all workgroups this one is. They are dispatched in parts, and parameter 3 says with which of them this part
// begins; within it they are spread over y where x has too few.
fn group_number(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return params[3] + group.y * groups.x + group.x;
}

// Which of all invocations this one is, of workgroups of 256.
fn invocation(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_number(group, groups) * 256u + lane;
}

fn is_nan_32(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// Whether it is neither zero; NaN is true.
fn is_true_32(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) != 0u;
}
