// Random numbers of 64 bits, and normal ones, after `wide` and `philox`.

fn unit_64(low: u32, high: u32) -> f64 {
    return (f64(high >> 5u) * 67108864.0lf + f64(low >> 6u)) * 1.1102230246251565e-16lf;
}

// In [0, 1).
fn uniform_64(index: Wide, at: u32) -> f64 {
    let words = philox(wide_shifted_right(index, 1u), at);
    let is_odd = (index.x & 1u) == 1u;
    return unit_64(select(words.x, words.z, is_odd), select(words.y, words.w, is_odd));
}

// Natural logarithm of a positive normal number: x = 2^k m with m between sqrt(1/2) and sqrt(2); f = m - 1 is exact;
// with s = f / (2 + f), log(1 + f) = f - s (f - R(s s)).
fn natural_logarithm(x: f64) -> f64 {
    let root_half = 0x3fe6a09e667f3bcdlu;
    let moved = bitcast<u64>(x) + (0x3ff0000000000000lu - root_half);
    let k = f64(i32(u32(moved >> 52u)) - 1023);
    let f = bitcast<f64>((moved & 0xffffffffffffflu) + root_half) - 1.0lf;
    let s = f / (2.0lf + f);
    let z = s * s;
    var series = 0.14616585424934123lf;
    series = fma(series, z, 0.1533171061820642lf);
    series = fma(series, z, 0.18182889455675105lf);
    series = fma(series, z, 0.22222211130259875lf);
    series = fma(series, z, 0.2857142862600327lf);
    series = fma(series, z, 0.39999999999899444lf);
    series = fma(series, z, 0.666666666666667lf);
    let y = f - s * (f - z * series);
    return fma(k, 0.6931471805599453lf, fma(k, 2.3190468138462996e-17lf, y));
}

// Sine within a quarter turn.
fn sine(x: f64) -> f64 {
    let z = x * x;
    var series = 2.731428986122584e-15lf;
    series = fma(series, z, -7.643969031052766e-13lf);
    series = fma(series, z, 1.6058977272815506e-10lf);
    series = fma(series, z, -2.5052107616384595e-8lf);
    series = fma(series, z, 2.755731921915843e-6lf);
    series = fma(series, z, -0.00019841269841254955lf);
    series = fma(series, z, 0.008333333333333316lf);
    series = fma(series, z, -0.16666666666666666lf);
    return fma(x * z, series, x);
}

// Cosine within an eighth of a turn: 1 - 2 sin^2(x / 2).
fn cosine(x: f64) -> f64 {
    let half = sine(0.5lf * x);
    return fma(-2.0lf * half, half, 1.0lf);
}

// Box and Muller's transform: of neighbouring uniform numbers u and v, elements r cos a and r sin a with
// r = sqrt(-2 ln(1 - u)) and a = 2 pi v. Whole quarter turns are taken off v, which is exact.
fn normal(even: f64, odd: f64, is_odd: bool) -> f64 {
    let radius = sqrt(-2.0lf * natural_logarithm(1.0lf - even));
    let quarters = odd * 4.0lf;
    let quarter = floor(quarters + 0.5lf);
    let rest = quarters - quarter;
    let angle = fma(rest, 1.5707963267948966lf, rest * 6.123233995736766e-17lf);
    let turn = u32(i32(quarter)) & 3u;
    // A quarter turn more makes a cosine of a sine, and minus a sine of a cosine.
    let is_turned = (turn & 1u) == 1u;
    let is_sine = is_turned != is_odd;
    let side = select(cosine(angle), sine(angle), is_sine);
    let is_negative = select(turn == 1u || turn == 2u, turn >= 2u, is_odd);
    return radius * select(side, -side, is_negative);
}

// Element `index` of a normal f64 array.
fn normal_64(index: Wide, at: u32) -> f64 {
    let words = philox(wide_shifted_right(index, 1u), at);
    return normal(unit_64(words.x, words.y), unit_64(words.z, words.w), (index.x & 1u) == 1u);
}

// Element `index` of a normal f32 array: its pair is made of f32 uniform numbers.
fn normal_32(index: Wide, at: u32) -> f32 {
    let words = philox(wide_shifted_right(index, 2u), at);
    let is_second = (index.x & 2u) == 2u;
    let even = select(words.x, words.z, is_second) >> 8u;
    let odd = select(words.y, words.w, is_second) >> 8u;
    let unit = 5.9604644775390625e-8lf;
    return f32(normal(f64(even) * unit, f64(odd) * unit, (index.x & 1u) == 1u));
}
