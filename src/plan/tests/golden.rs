//! Plans as text, reviewed as diffs.

use gridloom_worker::kernel::Kernel;

use super::*;
use crate::array::keepdims;

fn explained(arrays: &[Array]) -> String {
    explain(&planned(arrays))
}

#[test]
fn the_dask_lesson_is_one_stage() {
    let parts = (0..10).map(|k| Array::random([1000, 1000, 1000]).stream(k));
    let text = explained(&[Array::concatenate(parts, 0).mean(-1)]);
    insta::assert_snapshot!(text);
}

#[test]
fn user_kernels_with_a_helper_of_one_name_melt_with_a_source_and_a_mean() {
    let double =
        Kernel::element("fn help(x: T) -> T { return x + x; } fn double(x: T) -> T { return help(x); }").unwrap();
    let square =
        Kernel::element("fn help(x: T) -> T { return x * x; } fn square(x: T) -> T { return help(x); }").unwrap();
    let x = Array::random([1000, 1000]).map_blocks(&double).map_blocks(&square).mean(keepdims(0));
    insta::assert_snapshot!(explained(&[x]));
}
