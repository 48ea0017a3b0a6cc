//! What counts as agreement.

use gridloom::client::Value;
use gridloom_worker::dtype::{DType, Scalar};
use serde::Deserialize;

use super::fixture;

/// What NumPy answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expected {
    Array(fixture::Array),
    /// It refused; the text is `error`.
    Error(String),
}

/// How near an answer must be. Nothing said is: the same bits (any NaN for a NaN).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tolerance {
    /// Units in the last place, counted from the expected value.
    ulp: u64,
    /// Below this magnitude a unit is as large as at it.
    ulp_floor: Option<u32>,
    /// A zero may have either sign.
    zeros_equal: bool,
}

/// All comparisons of a test; it fails at the end, with the first few of what went wrong.
#[derive(Default)]
pub(crate) struct Verdict {
    compared: usize,
    failures: Vec<String>,
}

const FAILURES_SHOWN: usize = 20;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The array or its plan says no: what NumPy's refusals are held against.
    Refused(String),
    /// It was begun, and went wrong.
    Ran(String),
}

impl Verdict {
    /// Compares one answer; `name` says which case it is.
    pub(crate) fn check(&mut self, name: &str, expected: &Expected, found: Result<Value, Failed>, near: &Tolerance) {
        self.compared += 1;
        let difference = match (expected, found) {
            (Expected::Error(word), Err(Failed::Refused(_))) => {
                (word != "error").then(|| format!("a fixture that says {word}"))
            }
            (Expected::Error(_), Err(Failed::Ran(error))) => Some(format!("{error}, where NumPy refuses")),
            (Expected::Error(_), Ok(found)) => {
                Some(format!("an answer of shape {} where NumPy refuses", found.shape()))
            }
            (Expected::Array(_), Err(Failed::Refused(error) | Failed::Ran(error))) => Some(error),
            (Expected::Array(expected), Ok(found)) => difference(expected, &found, near),
        };
        self.failures.extend(difference.map(|difference| format!("{name}: {difference}")));
    }

    /// Fails if anything differed, or if nothing was compared.
    #[track_caller]
    pub(crate) fn finish(self) {
        assert!(self.compared > 0, "nothing was compared");
        let shown = self.failures.iter().take(FAILURES_SHOWN).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(self.failures.is_empty(), "{} of {} differ:\n  {shown}\n", self.failures.len(), self.compared);
    }
}

fn difference(expected: &fixture::Array, found: &Value, near: &Tolerance) -> Option<String> {
    if found.dtype() != expected.dtype() || *found.shape() != expected.shape() {
        let (dtype, shape) = (expected.dtype(), expected.shape());
        return Some(format!("{} {} instead of {dtype} {shape}", found.dtype(), found.shape()));
    }
    let width = found.dtype().bytes() as usize;
    let values = found.bytes().chunks_exact(width).filter_map(|bytes| Scalar::from_bytes(found.dtype(), bytes));
    let mut pairs = expected.values().into_iter().zip(values).enumerate();
    let (at, (expected, found)) = pairs.find(|(_, (expected, found))| !agree(*expected, *found, near))?;
    Some(format!("element {at} is {found:?} instead of {expected:?}"))
}

fn agree(expected: Scalar, found: Scalar, near: &Tolerance) -> bool {
    let (e, f) = match (expected, found) {
        (Scalar::F32(e), Scalar::F32(f)) => (f64::from(e), f64::from(f)),
        (Scalar::F64(e), Scalar::F64(f)) => (e, f),
        _ => return expected == found,
    };
    if e.is_nan() || f.is_nan() {
        return e.is_nan() && f.is_nan();
    }
    if e == f {
        return near.zeros_equal || near.ulp > 0 || e.is_sign_negative() == f.is_sign_negative();
    }
    let floor = near.ulp_floor.map_or(0.0, f64::from);
    (e - f).abs() <= near.ulp as f64 * unit_in_last_place(e.abs().max(floor), expected.dtype())
}

/// The distance from a finite magnitude to the next one; infinity has that of the largest number.
fn unit_in_last_place(magnitude: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => {
            let magnitude = (magnitude as f32).min(f32::MAX.next_down());
            f64::from(magnitude.next_up()) - f64::from(magnitude)
        }
        _ => {
            let magnitude = magnitude.min(f64::MAX.next_down());
            magnitude.next_up() - magnitude
        }
    }
}

#[test]
fn agreement_is_counted_in_units_in_the_last_place() {
    let near = |ulp| Tolerance { ulp, ..Tolerance::default() };
    let one = Scalar::F32(1.0);
    let next = Scalar::F32(1.0f32.next_up().next_up());
    assert!(agree(one, next, &near(2)) && !agree(one, next, &near(1)));
    assert!(!agree(Scalar::F64(0.0), Scalar::F64(-0.0), &near(0)));
    assert!(agree(Scalar::F64(0.0), Scalar::F64(-0.0), &Tolerance { zeros_equal: true, ..near(0) }));
    assert!(agree(Scalar::F64(f64::NAN), Scalar::F64(-f64::NAN), &near(0)));
    assert!(!agree(Scalar::F64(f64::NAN), Scalar::F64(1.0), &near(4)));
    assert!(!agree(Scalar::F64(f64::INFINITY), Scalar::F64(f64::MAX), &near(4)));
    assert!(agree(Scalar::F64(1e-9), Scalar::F64(1e-9 + 1e-16), &Tolerance { ulp_floor: Some(1), ..near(4) }));
}
