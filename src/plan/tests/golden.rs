//! Plans as text, reviewed as diffs.

use ndarray::s;

use super::*;
use crate::array::{BUFFERS_MAX, keepdims};

fn explained(arrays: &[Array]) -> String {
    explain(&planned(arrays))
}

fn element(text: &str) -> Kernel {
    Kernel::element(text).unwrap_or_else(|error| panic!("{}", error.rendered()))
}

/// An array that workers hold.
fn resident(sequence: u64, lengths: &[u64], chunks: &[u64]) -> Array {
    let grid = Grid::regular(&Shape::new(lengths).unwrap(), chunks);
    let array = ArrayId { client: ClientId(9), sequence };
    Array::resident(Resident { array, field: 0, root: None, keep: Keep::default() }, grid, DType::F64)
}

#[test]
fn the_dask_lesson_is_one_stage() {
    let parts = (0..10).map(|k| Array::random([1000, 1000, 1000]).stream(k));
    insta::assert_snapshot!(explained(&[Array::concatenate(parts, 0).mean(-1)]));
}

#[test]
fn the_tutorial_is_one_stage() {
    let poly = element("fn poly(x: T) -> T { return 2*x*x + 3*x + 1; }");
    let x = Array::random([10_000, 10_000]).chunks([1000, 1000]);
    insta::assert_snapshot!(explained(&[x.map_blocks(&poly)]));
}

#[test]
fn user_kernels_with_a_helper_of_one_name_melt_with_a_source_and_a_mean() {
    let double = element("fn help(x: T) -> T { return x + x; } fn double(x: T) -> T { return help(x); }");
    let square = element("fn help(x: T) -> T { return x * x; } fn square(x: T) -> T { return help(x); }");
    let x = Array::random([1000, 1000]).map_blocks(&double).map_blocks(&square).mean(keepdims(0));
    insta::assert_snapshot!(explained(&[x]));
}

#[test]
fn what_is_read_through_one_view_melts_and_through_two_is_stored() {
    let x = resident(0, &[100, 100], &[10, 100]);
    let doubled = &x * 2.0;
    let twice_in_one_place = &doubled * &doubled + &doubled;
    let stencil = doubled.slice(s![1.., ..]) - doubled.slice(s![..-1, ..]);
    insta::assert_snapshot!("melted", explained(&[twice_in_one_place]));
    insta::assert_snapshot!("stored", explained(&[stencil]));
}

#[test]
fn views_melt_through_slices_transposes_and_broadcasts() {
    let x = resident(0, &[40, 60], &[10, 60]);
    let row = (resident(1, &[60], &[60]) + 1.0).sqrt();
    let y = (x + row).transpose().slice(s![..;-2, 3]).expand_dims(0);
    insta::assert_snapshot!(explained(&[y]));
}

#[test]
fn a_reduction_that_is_read_gets_its_root_as_a_stage() {
    let x = resident(0, &[1000, 30], &[5, 30]);
    let centred = (&x - x.mean(0)) / x.std(0);
    insta::assert_snapshot!(explained(&[centred]));
}

#[test]
fn computed_members_of_a_join_are_stored() {
    let x = resident(0, &[20, 4], &[10, 4]);
    let joined = Array::concatenate([x.clone(), &x * 3.0, Array::zeros([5, 4]), Array::random([7, 4])], 0);
    insta::assert_snapshot!(explained(&[joined.sum(1)]));
}

#[test]
fn an_index_into_a_join_reads_one_member() {
    let x = Array::concatenate([Array::arange(0, 5, 1), Array::arange(0, 7, 2)], 0);
    insta::assert_snapshot!(explained(&[x.slice(s![7])]));
}

#[test]
fn at_most_eight_buffers_are_bound() {
    let sum = (0..20).map(|at| resident(at, &[64], &[8])).reduce(|sum, one| sum + one).unwrap();
    let text = explained(std::slice::from_ref(&sum));
    let most = text.split("stage").map(|stage| stage.matches("  leaf").count()).max();
    assert!(most < Some(BUFFERS_MAX), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_kernel_that_asks_where_it_stands_melts_only_where_that_is() {
    let at = element("fn place(x: f64, at: At) -> f64 { return x + f64(at.index[0]); }");
    let x = resident(0, &[100], &[10]).map_blocks(&at);
    insta::assert_snapshot!("at_home", explained(&[(&x + 1.0).sum(..)]));
    insta::assert_snapshot!("at_flipped", explained(&[x.flip(0) + 1.0]));
    insta::assert_snapshot!("at_rechunked", explained(&[x.rechunk([50]) + 1.0]));
}

#[test]
fn structs_are_fields_of_one_stage() {
    let divide = element(
        "struct Parts { whole: i32, rest: f32 }
        fn parts(x: f32) -> Parts { let whole = floor(x); return Parts(i32(whole), x - whole); }",
    );
    let x = Array::random([1000]).with_dtype(DType::F32) * 10;
    let fields = Array::map_fields(&divide, &[&x]);
    insta::assert_snapshot!(explained(&[fields[1].clone(), fields[0].clone(), fields[1].max(..)]));
}

#[test]
fn reshape_relabels_what_is_stored() {
    let x = resident(0, &[6, 4, 5], &[2, 4, 5]);
    insta::assert_snapshot!(explained(&[(x + 1.0).reshape([3, 2, 20]) * 2.0]));
}

#[test]
fn a_users_reduction_folds_its_own_accumulator() {
    let range = Kernel::reduction(
        "struct A { low: T, high: T }
        fn identity() -> A { return A(T(1e30), T(-1e30)); }
        fn lift(x: T) -> A { return A(x, x); }
        fn combine(a: A, b: A) -> A { return A(min(a.low, b.low), max(a.high, b.high)); }
        fn finish(a: A) -> T { return a.high - a.low; }",
    );
    let range = range.unwrap_or_else(|error| panic!("{}", error.rendered()));
    let x = Array::random([100_000]).with_dtype(DType::F32).chunks([100]);
    insta::assert_snapshot!(explained(&[x.reduce(&range, 0) * 2]));
}

#[test]
fn numbers_are_constants_and_converted_once() {
    let x = resident(0, &[10], &[10]).astype(DType::I32);
    insta::assert_snapshot!(explained(&[(&x * 2 + 2) / (&x * 2)]));
    let zeros = (Array::random([3]) * 0.0) + (Array::random([3]) * -0.0);
    let text = explained(&[zeros]);
    assert!(text.contains("constant 0\n") && text.contains("constant -0\n"), "{text}");
}

#[test]
fn outputs_that_are_there_need_no_stage() {
    let x = resident(0, &[10, 4], &[5, 4]);
    insta::assert_snapshot!(explained(&[x.clone(), x.expand_dims(0), x.expand_dims(-1).squeeze(..)]));
}

#[test]
fn nothing_and_rank_zero_are_planned() {
    let empty = Array::zeros([0, 5]);
    insta::assert_snapshot!(explained(&[&empty + 1.0, empty.sum(0), empty.sum(1), Array::full((), 3) + 4]));
}

#[test]
fn a_plan_is_the_same_each_time_and_small_for_ten_million_blocks() {
    let x = Array::random([10_000_000]).chunks([1]);
    let y = (&x * 2.0 + 1.0).sum(..);
    let text = explained(std::slice::from_ref(&y));
    assert_eq!(text, explained(&[y]));
    insta::assert_snapshot!(text);
}

#[test]
fn long_chains_are_cut_and_neither_planned_nor_dropped_on_the_stack() {
    let mut x = resident(0, &[10], &[10]);
    for _ in 0..20_000 {
        x = x + 1.0;
    }
    let plan = planned(&[x.clone()]);
    assert_eq!(plan.stages.len(), 20_000_usize.div_ceil(256));
    // A doubling of the number of paths is no doubling of work.
    let mut y = resident(0, &[10], &[10]);
    for _ in 0..100 {
        y = &y * 2.0 + &y * 3.0;
    }
    assert!(planned(&[y]).stages.len() <= 4);
}

#[test]
fn too_much_is_refused_with_the_numbers() {
    let refused = |array: Array| plan(&[array], &mut ArrayIds::new(ClientId(1))).unwrap_err().to_string();
    let whole = Array::random([1 << 15, 1 << 15]).chunks([-1, -1]);
    insta::assert_snapshot!(refused(whole), @"a block of a1.0 would have 8589934592 bytes in [32768, 32768], and a block has at most 2147483392: use smaller chunks");
    let columns = resident(0, &[10_000, 10_000], &[1, 10_000]).rechunk([10_000, 1]);
    insta::assert_snapshot!(refused(columns), @"a block of a1.0 in [10000, 1x10000] would read 10000 blocks, and at most 1024 are gathered at once: rechunk in two steps, with chunks between the two");
}

#[test]
fn an_array_that_failed_is_refused_with_its_line() {
    let x = Array::zeros([3]) + Array::zeros([4]);
    let error = plan(&[x.sum(..)], &mut ArrayIds::new(ClientId(1))).unwrap_err().to_string();
    assert!(error.starts_with("src/plan/tests/golden.rs:"), "{error}");
    assert!(error.ends_with("shapes (3,), (4,) do not broadcast: lengths must be equal, or 1"), "{error}");
}

#[test]
fn producers_melt_into_a_block_kernel_and_its_output_is_stored() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f64>;
        @group(0) @binding(1) var<storage, read> weights: array<f64>;
        @group(0) @binding(2) var<storage, read_write> tops: array<f64>;
        @group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
        @group(0) @binding(4) var<storage, read> info: BlockInfo;
        @compute @workgroup_size(8, 8) fn top(@builtin(global_invocation_id) id: vec3<u32>) {
            tops[id.x] = x[info.input[0][1] * id.y + id.x] * weights[id.x];
            atomicAdd(&counts[0], 1u);
        }";
    let top = Kernel::block(text).unwrap_or_else(|error| panic!("{}", error.rendered()));
    let (x, weights) = (resident(0, &[100, 60], &[20, 30]), resident(1, &[60], &[60]));
    let fields = Array::map_fields_to(&top, &[&(x * 2.0).sqrt(), &weights], [1, 4]);
    insta::assert_snapshot!(explained(&[&fields[0] + 1.0, fields[1].clone()]));
    let reduced = Array::random([40]).chunks([10]).map_blocks(&weigh()).map_blocks(&weigh()).sum(..);
    insta::assert_snapshot!("chained", explained(&[reduced]));
}
