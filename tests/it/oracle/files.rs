//! `.npy` files that NumPy wrote: those that are read, and those that are refused.

use gridloom::array::Array;
use gridloom_worker::source::npy;
use serde::Deserialize;

use super::compare::{Expected, Failed, Tolerance, Verdict};
use super::engine::{compute, cuts};
use super::fixture;

#[derive(Deserialize)]
struct Files {
    good: Vec<Good>,
    bad: Vec<Bad>,
}

#[derive(Deserialize)]
struct Good {
    file: String,
    expect: fixture::Array,
}

#[derive(Deserialize)]
struct Bad {
    file: String,
    why: String,
}

#[test]
fn every_storage_dtype_is_read() {
    let mut verdict = Verdict::default();
    for Good { file, expect } in fixture::read::<Files>("npy.json").good {
        let expect = Expected::Array(expect);
        let opened = npy::open(&fixture::path("npy").join(&file)).map_err(|error| error.to_string());
        match opened {
            Ok(opened) => cuts(&Array::from_npy_file(opened)).iter().enumerate().for_each(|(cut, array)| {
                verdict.check(&format!("{file}, cut {cut}"), &expect, compute(array), &Tolerance::default());
            }),
            Err(error) => verdict.check(&file, &expect, Err(Failed::Refused(error)), &Tolerance::default()),
        }
    }
    verdict.finish();
}

#[test]
fn bad_files_are_refused_in_one_line_that_names_them() {
    for Bad { file, why } in fixture::read::<Files>("npy.json").bad {
        let error = npy::open(&fixture::path("npy").join(&file)).map(drop).expect_err(&why).to_string();
        assert!(error.contains(&file) && !error.contains('\n'), "{error}");
    }
}
