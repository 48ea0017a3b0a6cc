//! How near a GPU must come to the definition, and what software Vulkan is known to get wrong.

use gridloom_worker::block::{Block, Item};
use gridloom_worker::dtype::DType;

/// What software Vulkan (Mesa's lavapipe 22.3) is known to get wrong, so that it is neither tested nor relied on: the
/// construct, and the reason. Real GPUs are asked for the same and no more.
pub(crate) const SOFTWARE_EXCEPTIONS: &[(&str, &str)] = &[
    ("loops of more than 65,535 iterations", "all loops of one invocation stop there, in total, and say nothing"),
    ("endless loops", "they end, for the same reason: a deadline is tested with a slow kernel"),
    ("inf - inf, NaN * 0 and (1 + 1e8) - 1e8", "floats are reassociated: 0, 0 and 1; NaN is made by bits here"),
    ("x != x", "folded to false before it is known that x is NaN: engine and arrays look at the bits"),
    ("fma", "computed as a product and a sum, each rounded: contracted kernels are compared within ULPs"),
];

/// How far a result may be from the definition's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tolerance {
    /// Bit for bit, NaNs too: what CPUs owe.
    Bits,
    /// Bit for bit; any NaN is a NaN.
    Exact,
    /// Units in the last place of the result's dtype.
    Ulps(u64),
    /// So many of them, or so much.
    Near { ulps: u64, absolute: f64 },
}

/// Compares all fields of all blocks.
#[track_caller]
pub(crate) fn compare(name: &str, found: &[Vec<Block>], expected: &[Vec<Block>], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{name}: blocks");
    for (block, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{name}: fields");
        for (field, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!((found.item, &found.shape), (expected.item, &expected.shape), "{name}: block {block}");
            let name = format!("{name}, block {block}, field {field}");
            match found.item {
                Item::Value(DType::F32) if tolerance != Tolerance::Bits => {
                    let ulps = |a: f32, b: f32| distance(order32(a), order32(b));
                    each(&name, found.elements(), expected.elements(), tolerance, f32::is_nan, ulps);
                }
                Item::Value(DType::F64) if tolerance != Tolerance::Bits => {
                    let ulps = |a: f64, b: f64| distance(order64(a), order64(b));
                    each(&name, found.elements(), expected.elements(), tolerance, f64::is_nan, ulps);
                }
                Item::Value(_) | Item::Partial { .. } => {
                    let width = found.item.bytes() as usize;
                    let pairs = found.bytes().chunks(width).zip(expected.bytes().chunks(width));
                    for (at, (found, expected)) in pairs.enumerate() {
                        assert_eq!(found, expected, "{name}, element {at}");
                    }
                }
            }
        }
    }
}

#[track_caller]
fn each<T: Copy + std::fmt::Debug + Into<f64>>(
    name: &str,
    found: &[T],
    expected: &[T],
    tolerance: Tolerance,
    is_nan: impl Fn(T) -> bool,
    ulps: impl Fn(T, T) -> u64,
) {
    let (allowed, absolute) = match tolerance {
        Tolerance::Bits | Tolerance::Exact => (0, 0.0),
        Tolerance::Ulps(ulps) => (ulps, 0.0),
        Tolerance::Near { ulps, absolute } => (ulps, absolute),
    };
    let differ = |a: T, b: T| (Into::<f64>::into(a) - Into::<f64>::into(b)).abs();
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let is_near = match (is_nan(found), is_nan(expected)) {
            (false, false) => ulps(found, expected) <= allowed || differ(found, expected) <= absolute,
            (found, expected) => found && expected,
        };
        assert!(is_near, "{name}, element {at}: {found:?}, not {expected:?}");
    }
}

/// Floats as integers in their order; -0.0 is just below +0.0.
fn order32(value: f32) -> i64 {
    let bits = value.to_bits() as i32;
    i64::from(bits ^ ((bits >> 31) & i32::MAX))
}

fn order64(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) & i64::MAX)
}

fn distance(a: i64, b: i64) -> u64 {
    a.abs_diff(b)
}
