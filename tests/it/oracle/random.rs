//! Random arrays against an independent Philox.

use gridloom::array::Array;
use gridloom_worker::source::philox::Philox;
use ndarray::SliceInfoElem;
use serde::Deserialize;

use super::compare::{Expected, Tolerance, Verdict};
use super::engine::compute;
use super::fixture;

#[derive(Deserialize)]
struct Random {
    known_answers: Vec<Known>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Known {
    counter: [u32; 4],
    key: [u32; 2],
    answer: [u32; 4],
}

#[derive(Deserialize)]
struct Case {
    distribution: String,
    seed: String,
    stream: String,
    offset: String,
    expect: fixture::Array,
    #[serde(flatten)]
    near: Tolerance,
}

fn integer(hex: &str) -> u64 {
    u64::from_str_radix(hex, 16).unwrap()
}

/// A long array and the part of it that is looked at: the numbers depend on the array's own index alone.
#[test]
fn random_arrays_are_philox_in_our_layout() {
    let mut verdict = Verdict::default();
    for Case { distribution, seed, stream, offset, expect, near } in fixture::read::<Random>("random.json").cases {
        let (offset, count) = (integer(&offset), expect.shape()[0]);
        let random = if distribution == "normal" { Array::random_normal } else { Array::random };
        let part = SliceInfoElem::Slice { start: offset as isize, end: Some((offset + count) as isize), step: 1 };
        let whole = random(offset + count).with_dtype(expect.dtype()).seed(integer(&seed)).stream(integer(&stream));
        let name = format!("{distribution} {} seed {seed} stream {stream} offset {offset}", expect.dtype());
        verdict.check(&name, &Expected::Array(expect), compute(&whole.slice([part])), &near);
    }
    verdict.finish();
}

#[test]
fn known_answers_are_random123s() {
    let known = fixture::read::<Random>("random.json").known_answers;
    for Known { counter: [low, high, stream_low, stream_high], key: [key_low, key_high], answer } in &known {
        let join = |low: &u32, high: &u32| u64::from(*low) | u64::from(*high) << 32;
        let philox = Philox::new(join(key_low, key_high), join(stream_low, stream_high));
        assert_eq!(philox.group(join(low, high)), *answer);
    }
    assert_eq!(known.len(), 3);
}
