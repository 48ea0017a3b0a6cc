//! Random arrays against an independent Philox.

use gridloom::array::Array;
use gridloom_worker::dtype::DType;
use ndarray::{SliceInfoElem, s};
use serde::Deserialize;

use super::compare::{Expected, Tolerance, Verdict};
use super::engine::compute;
use super::fixture;

#[derive(Deserialize)]
struct Random {
    cases: Vec<Case>,
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

/// Random123's known answers are of the raw generator; the one that an array can reach is the first.
#[test]
fn the_first_words_are_random123s() {
    let words = compute(&Array::random(4).with_dtype(DType::U32).slice(s![..])).unwrap();
    let words: Vec<u32> = words.bytes().chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    assert_eq!(words, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
}
