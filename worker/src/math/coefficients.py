"""Writes coefficients.rs: the constants and polynomials of the engine's elementary functions.

    pip install mpmath; python3 coefficients.py > coefficients.rs; rustfmt coefficients.rs

Every polynomial is a Chebyshev fit in 60 digits, rounded to the width that uses it. `error` is the fit's, before rounding.
"""

import struct

from mpmath import mp, mpf, chebyfit, sqrt, log, exp, expm1, sin, cos, tan, asin, atan, sinh, tanh, pi, floor

mp.dps = 60
LN2 = log(mpf(2))
UNIT = mpf(1)


def f64(value):
    return float(value)


def f32(value):
    return struct.unpack("f", struct.pack("f", float(value)))[0]


def parts(value, width, count):
    """`value` as a sum of numbers of that width, largest first."""
    found = []
    for _ in range(count):
        found.append(width(value))
        value -= mpf(found[-1])
    return found


# name, what it is, function of the polynomial's variable, the interval, coefficients for (f32, f64)
def odd(function):
    """function(t) = t + t z P(z) with z = t t."""
    def quotient(z):
        t = sqrt(z)
        return (function(t) - t) / (t * z)
    return quotient


POLYNOMIALS = [
    ("exp", "`exp(r) = 1 + r + r r P(r)`, |r| <= ln 2 / 2",
     lambda r: (expm1(r) - r) / (r * r) if abs(r) > 1e-20 else UNIT / 2, (-LN2 / 2, LN2 / 2), (5, 11)),
    ("exp2", "`2^r = 1 + r P(r)`, |r| <= 1/2",
     lambda r: expm1(r * LN2) / r if r else LN2, (-UNIT / 2, UNIT / 2), (6, 11)),
    ("log", "`log((1 + s) / (1 - s)) = 2 s + s z P(z)`, z = s s, 0 <= z <= (3 - 2 sqrt 2)^2",
     lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) - 2 * sqrt(z)) / (sqrt(z) * z),
     (mpf(10) ** -12, (3 - 2 * sqrt(mpf(2))) ** 2 * mpf("1.0001")), (3, 7)),
    ("power", "the same series past its first terms: `z z P(z)` = atanh(s) / s - 1 - z / 3",
     lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) / (2 * sqrt(z)) - 1 - z / 3) / (z * z),
     (mpf(10) ** -12, (3 - 2 * sqrt(mpf(2))) ** 2 * mpf("1.0001")), (0, 8)),
    ("sin", "`sin(r) = r + r z P(z)`, z = r r, |r| <= pi/2",
     odd(sin), (mpf(10) ** -12, (pi / 2 * mpf("1.0001")) ** 2), (5, 8)),
    ("tan_sin", "`sin(r) = r + r z P(z)`, z = r r, |r| <= pi/4",
     odd(sin), (mpf(10) ** -12, (pi / 4 * mpf("1.0001")) ** 2), (4, 6)),
    ("tan_cos", "`cos(r) = 1 - z / 2 + z z P(z)`, z = r r, |r| <= pi/4",
     lambda z: (cos(sqrt(z)) - 1 + z / 2) / (z * z), (mpf(10) ** -12, (pi / 4 * mpf("1.0001")) ** 2), (3, 6)),
    ("atan", "`atan(t) = t + t z P(z)`, z = t t, 0 <= t <= 1", odd(atan), (mpf(10) ** -12, UNIT), (10, 21)),
    ("asin", "`asin(t) = t + t z P(z)`, z = t t, 0 <= t <= 1/2", odd(asin), (mpf(10) ** -12, UNIT / 4), (6, 13)),
    ("sinh", "`sinh(t) = t + t z P(z)`, z = t t, 0 <= t <= 1", odd(sinh), (mpf(10) ** -12, UNIT), (4, 7)),
    ("tanh", "`tanh(t) = t + t z P(z)`, z = t t, 0 <= t <= 0.55", odd(tanh), (mpf(10) ** -12, mpf("0.3025")), (5, 11)),
]

WIDTHS = [
    ("SINGLE", "f32", f32, 0, dict(mantissa_bits=23, bias=127, exp=(90, -106), exp2=(140, -155),
                                   angle_max=65536, wide_min=4096)),
    ("DOUBLE", "f64", f64, 1, dict(mantissa_bits=52, bias=1023, exp=(720, -760), exp2=(1040, -1100),
                                   angle_max=2 ** 28, wide_min=2 ** 28)),
]


def literal(value):
    text = repr(float(value))
    return text if "e" not in text or "." in text.split("e")[0] else text.replace("e", ".0e")


def array(values):
    return "[" + ", ".join(literal(value) for value in values) + "]"


def main():
    print("//! Constants and polynomials: written by `coefficients.py`, not by hand.")
    print()
    print("use super::real::Constants;")
    for name, dtype, width, index, fixed in WIDTHS:
        print()
        print(f"/// What {dtype} computes with.")
        print("#[allow(clippy::approx_constant)]")
        print(f"pub(super) const {name}: Constants = Constants {{")
        print(f"    mantissa_bits: {fixed['mantissa_bits']},")
        print(f"    bias: {fixed['bias']},")
        print(f"    exp_range: {array(reversed(fixed['exp']))},")
        print(f"    exp2_range: {array(reversed(fixed['exp2']))},")
        print(f"    angle_max: {literal(fixed['angle_max'])},")
        print(f"    wide_min: {literal(fixed['wide_min'])},")
        for field, value, count in [("ln2", LN2, 2), ("log2_e", 1 / LN2, 2), ("third", UNIT / 3, 2), ("pi", pi, 3),
                                    ("half_pi", pi / 2, 3)]:
            print(f"    {field}: {array(parts(value, width, count))},")
        for field, _, function, interval, counts in POLYNOMIALS:
            if counts[index] == 0:
                print(f"    {field}: &[],")
                continue
            fit, error = chebyfit(function, interval, counts[index], error=True)
            # Smallest power first.
            print(f"    // error {mp.nstr(error, 2)}")
            print(f"    {field}: &{array(width(c) for c in reversed(fit))},")
        print("};")
    with mp.workprec(2000):
        bits = int(floor(2 / +pi * mpf(2) ** 1280))
    words = [(bits >> (1280 - 64 * (i + 1))) & (2 ** 64 - 1) for i in range(20)]
    print()
    print("/// The first 1280 bits of 2/pi, most significant first.")
    print("pub(super) const TWO_OVER_PI: [u64; 20] = [")
    for word in words:
        print(f"    0x{word:016x},")
    print("];")


if __name__ == "__main__":
    main()
