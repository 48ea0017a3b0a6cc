//! Block kernels: inputs from everywhere, phases, workgroup memory, atomics, outputs of another shape, and what lies
//! outside.

use std::sync::Arc;

use gridloom_worker::block::Item;
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::kernel::{KernelKind, KernelSource, Requirements, TypedKernel};
use gridloom_worker::shape::Region;
use gridloom_worker::stage::{BlockCall, Body, Distribution, Leaf, Map, Piece, Program, Source, Step, Value};
use gridloom_worker::view::{AxisRead, View};

use super::executors::{adapter, check, gpu};
use super::harness::{Array, Work, element, id, shape, work};
use super::maps::small;
use super::sources;
use super::tolerance::Tolerance;

const NUMBERS: [DType; 6] = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];

fn kernel(text: &str, t: DType) -> Arc<TypedKernel> {
    let t = text.contains("<T>").then_some(t);
    let source = KernelSource { kind: KernelKind::Block, text: text.to_owned(), entry: None, t };
    Arc::new(TypedKernel::compile(source).unwrap_or_else(|error| panic!("{}", error.rendered())))
}

/// A block kernel over leaves as they are.
fn call(grid: Grid, leaves: Vec<Leaf>, kernel: Arc<TypedKernel>, output: Grid, arrays: Vec<Array>) -> Work {
    let results = (0..leaves.len() as u32).map(Value::Leaf).collect();
    let inputs = Map { grid, leaves, program: Program { steps: Vec::new(), results }, reduce: None };
    called(inputs, kernel, Vec::new(), output, arrays)
}

fn called(
    inputs: Map,
    kernel: Arc<TypedKernel>,
    mut others: Vec<Arc<TypedKernel>>,
    output: Grid,
    arrays: Vec<Array>,
) -> Work {
    let outputs = kernel.results().iter().map(|field| Item::Value(field.dtype)).collect();
    let body = Body::Block(BlockCall { inputs, kernel: kernel.hash(), output });
    others.push(kernel);
    work(body, outputs, others, arrays)
}

/// A kernel of one array of `dtype` over `grid`.
#[track_caller]
fn check_over(name: &str, text: &str, dtype: DType, grid: &Grid, output: &Grid, tolerance: Tolerance) {
    let array = Array::new(1, dtype, grid.clone(), small(dtype));
    let made = call(grid.clone(), vec![array.leaf()], kernel(text, dtype), output.clone(), vec![array]);
    check(name, &made, tolerance);
}

/// Declarations of an input `x` and an output `y`, of `T` both.
const X_TO_Y: &str = "
    @group(0) @binding(0) var<storage, read> x: array<T>;
    @group(0) @binding(1) var<storage, read_write> y: array<T>;\n";

fn with_x_and_y(rest: &str) -> String {
    format!("{X_TO_Y}{rest}")
}

fn copy() -> String {
    with_x_and_y(
        "@compute @workgroup_size(64) fn copy(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&y) { y[id.x] = x[id.x]; }
        }",
    )
}

#[test]
fn copies_of_every_dtype_and_length() {
    for dtype in NUMBERS {
        for (length, chunk) in [(1, 1), (64, 64), (1000, 300), (70_001, 70_001)] {
            let grid = Grid::regular(&shape(&[length]), &[chunk]);
            check_over(&format!("block copy of {length} {dtype}"), &copy(), dtype, &grid, &grid, Tolerance::Exact);
        }
    }
}

/// The 5-point stencil within each block, with 0 beyond its edge.
fn stencil() -> String {
    with_x_and_y(
        "@group(0) @binding(2) var<storage, read> info: BlockInfo;
        fn at(row: u32, column: u32) -> T {
            if row >= info.shape[0] || column >= info.shape[1] { return T(); }
            return x[row * info.shape[1] + column];
        }
        @compute @workgroup_size(8, 4) fn stencil(@builtin(global_invocation_id) id: vec3<u32>) {
            let r = id.y;
            let c = id.x;
            if r < info.shape[0] && c < info.shape[1] {
                y[r * info.shape[1] + c] = at(r - 1, c) + at(r + 1, c) + at(r, c - 1) + at(r, c + 1) - 4 * at(r, c);
            }
        }",
    )
}

#[test]
fn stencils_of_blocks_in_place() {
    for dtype in NUMBERS {
        let tolerance = if dtype.is_float() { Tolerance::Near { ulps: 2, absolute: 1e-5 } } else { Tolerance::Exact };
        for chunks in [[30, 41], [7, 41], [11, 9], [1, 41]] {
            let grid = Grid::regular(&shape(&[30, 41]), &chunks);
            check_over(&format!("stencil of {dtype} {chunks:?}"), &stencil(), dtype, &grid, &grid, tolerance);
        }
    }
}

/// Inputs that a device must make or gather first: views, members of a concatenation, numbers of its own, programs.
#[test]
fn inputs_that_do_not_lie_in_one_piece() {
    let dtype = DType::U32;
    let whole = shape(&[30, 41]);
    let grid = Grid::regular(&whole, &[11, 20]);
    let check_leaf = |name: &str, leaf: Leaf, arrays: Vec<Array>| {
        let made = call(grid.clone(), vec![leaf], kernel(&stencil(), dtype), grid.clone(), arrays);
        check(&format!("stencil of {name}"), &made, Tolerance::Exact);
    };
    let along = |axis, start, step| AxisRead::Along { axis, start, step };
    let turned = Array::new(1, dtype, Grid::regular(&shape(&[41, 30]), &[41, 30]), small(dtype));
    let view = View { domain: Region::whole(&whole), axes: vec![along(1, 0, 1), along(0, 0, 1)] };
    check_leaf("a transposed array", turned.seen(view), vec![turned.clone()]);
    let row = Array::new(1, dtype, Grid::regular(&shape(&[41]), &[41]), small(dtype));
    check_leaf(
        "a broadcast row",
        row.seen(View { domain: Region::whole(&whole), axes: vec![along(1, 0, 1)] }),
        vec![row.clone()],
    );
    let cut = Array::new(1, dtype, Grid::regular(&whole, &[4, 7]), small(dtype));
    check_leaf("an array cut otherwise", cut.leaf(), vec![cut.clone()]);
    let own = [
        Source::Constant(Scalar::U32(7)),
        Source::Iota { start: Scalar::U32(3), step: Scalar::U32(5), shape: whole.clone() },
        sources::random(Distribution::Uniform, dtype, &whole),
    ];
    for source in own {
        let piece = Piece { source, view: View::identity(&whole) };
        check_leaf(&format!("{:?}", piece.source), Leaf { dtype, pieces: vec![piece] }, Vec::new());
    }
}

/// A kernel of three inputs: two arrays, and the first again or what is computed of it.
fn three(is_computed: bool) -> Work {
    let text = "
        @group(0) @binding(0) var<storage, read> a: array<i32>;
        @group(0) @binding(1) var<storage, read> b: array<u32>;
        @group(0) @binding(2) var<storage, read> c: array<i32>;
        @group(0) @binding(3) var<storage, read_write> sum: array<i32>;
        @group(0) @binding(4) var<storage, read_write> less: array<u32>;
        @compute @workgroup_size(32) fn f(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x >= arrayLength(&sum) { return; }
            sum[id.x] = a[id.x] * 1000 + c[arrayLength(&c) - 1 - id.x] + i32(b[id.x]);
            less[id.x] = u32(a[id.x] < c[id.x]);
        }";
    let grid = Grid::regular(&shape(&[500]), &[128]);
    let arrays = vec![
        Array::new(1, DType::I32, grid.clone(), small(DType::I32)),
        Array::new(2, DType::U32, grid.clone(), small(DType::U32)),
    ];
    let leaves = arrays.iter().map(Array::leaf).collect();
    let square = element("fn f(x: i32, at: At) -> i32 { return x * x + i32(at.index[0]); }", DType::I32);
    let step = Step { kernel: square.hash(), arguments: vec![Value::Leaf(0)] };
    let (steps, last) = match is_computed {
        true => (vec![step], Value::Step { step: 0, field: 0 }),
        false => (Vec::new(), Value::Leaf(0)),
    };
    let program = Program { steps, results: vec![Value::Leaf(0), Value::Leaf(1), last] };
    let inputs = Map { grid: grid.clone(), leaves, program, reduce: None };
    called(inputs, kernel(text, DType::I32), vec![square], grid, arrays)
}

/// Its third input is computed.
pub(crate) fn computed() -> Work {
    three(true)
}

#[test]
fn inputs_that_are_computed_or_used_twice() {
    check("an input twice", &three(false), Tolerance::Exact);
    check("a computed input", &three(true), Tolerance::Exact);
}

/// A tree in workgroup memory: barriers in a loop. One sum for each 64 elements of a row.
#[test]
fn trees_in_workgroup_memory() {
    let text = with_x_and_y(
        "@group(0) @binding(2) var<storage, read> info: BlockInfo;
        var<workgroup> sums: array<T, 64>;
        @compute @workgroup_size(64) fn tree(
            @builtin(local_invocation_index) i: u32, @builtin(workgroup_id) group: vec3<u32>,
        ) {
            let columns = info.input[0][1];
            for (var at = i; at < columns; at += 64u) { sums[i] += x[group.y * columns + at]; }
            workgroupBarrier();
            for (var half = 32u; half > 0; half /= 2) {
                if i < half { sums[i] += sums[i + half]; }
                workgroupBarrier();
            }
            if i == 0 { y[group.y] = sums[0]; }
        }",
    );
    for dtype in NUMBERS {
        let (grid, output) = (Grid::regular(&shape(&[20, 700]), &[6, 700]), Grid::regular(&shape(&[20, 1]), &[6, 1]));
        let tolerance = if dtype.is_float() { Tolerance::Near { ulps: 4, absolute: 1e-4 } } else { Tolerance::Exact };
        check_over(&format!("tree of {dtype}"), &text, dtype, &grid, &output, tolerance);
    }
}

#[test]
fn histograms_with_atomics_in_workgroup_and_storage_memory() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
        var<workgroup> shared_counts: array<atomic<u32>, 16>;
        @compute @workgroup_size(8) fn histogram(@builtin(local_invocation_index) i: u32) {
            for (var at = i; at < arrayLength(&x); at += 8u) { atomicAdd(&shared_counts[x[at] % 16], 1u); }
            workgroupBarrier();
            for (var bin = i; bin < 16u; bin += 8u) { atomicAdd(&counts[bin], atomicLoad(&shared_counts[bin])); }
        }";
    let (grid, output) = (Grid::regular(&shape(&[9000]), &[4000]), Grid::regular(&shape(&[48]), &[16]));
    check_over("histogram", text, DType::U32, &grid, &output, Tolerance::Exact);
}

#[test]
fn every_atomic_operation() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<i32>;
        @group(0) @binding(1) var<storage, read_write> a: array<atomic<i32>>;
        @group(0) @binding(2) var<storage, read_write> y: array<i32>;
        @compute @workgroup_size(1) fn f() {
            for (var k = 0u; k < 11; k++) { atomicStore(&a[k], x[k]); }
            y[0] = atomicAdd(&a[0], -5i);
            y[1] = atomicSub(&a[1], 7i);
            y[2] = atomicMin(&a[2], -1i);
            y[3] = atomicMax(&a[3], -1i);
            y[4] = atomicAnd(&a[4], 12i);
            y[5] = atomicOr(&a[5], 12i);
            y[6] = atomicXor(&a[6], 12i);
            y[7] = atomicExchange(&a[7], 12i);
            y[8] = atomicCompareExchangeWeak(&a[8], 99999i, 1i).old_value;
        }";
    let whole = shape(&[1, 11]);
    let grid = Grid::single(&whole);
    let array = Array::new(1, DType::I32, grid.clone(), |index| if index < 2 { 1 << 31 } else { index * 3 });
    let text = text
        .replace("workgroup_size(1)", "workgroup_size(16)")
        .replace("fn f() {", &format!("fn f({INDEX}) {{ if i != 0 {{ return; }}"));
    check(
        "atomics",
        &call(grid.clone(), vec![array.leaf()], kernel(&text, DType::I32), grid, vec![array]),
        Tolerance::Exact,
    );
}

const INDEX: &str = "@builtin(local_invocation_index) i: u32";

/// Built-in values in all three dimensions, private variables, workgroup memory that begins as zeros, a uniform load,
/// and fixed arrays that clamp.
#[test]
fn invocations_are_told_where_they_stand() {
    let text = "
        struct Told { @builtin(local_invocation_id) own: vec3<u32>, @builtin(local_invocation_index) index: u32 }
        @group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @group(0) @binding(2) var<storage, read> info: BlockInfo;
        var<workgroup> w: array<u32, 5>;
        var<workgroup> flag: u32;
        var<private> p: u32 = 7;
        @compute @workgroup_size(3, 2, 2)
        fn f(@builtin(global_invocation_id) id: vec3<u32>, told: Told, @builtin(workgroup_id) group: vec3<u32>,
             @builtin(num_workgroups) groups: vec3<u32>) {
            p += told.index;
            let before = w[told.index];
            workgroupBarrier();
            if told.index == 11 { w[told.index] = x[0]; flag = group.x + 1; }
            let seen = workgroupUniformLoad(&flag);
            let words = array(id.x, id.y, id.z, told.own.x, told.own.y, told.own.z, told.index, group.x, group.y,
                              group.z, groups.x, groups.y, groups.z, p, before, w[4], seen);
            var hash = 0u;
            for (var k = 0u; k < 17; k++) { hash = hash * 31 + words[k]; }
            if id.x < info.shape[3] && id.y < info.shape[2] && id.z < info.shape[0] * info.shape[1] {
                y[(id.z * info.shape[2] + id.y) * info.shape[3] + id.x] = hash;
            }
        }";
    let grid = Grid::regular(&shape(&[4, 3, 5, 10]), &[2, 3, 4, 7]);
    check_over("built-in values", text, DType::U32, &grid, &grid, Tolerance::Exact);
}

#[test]
fn the_block_info_says_which_block_it_is() {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @group(0) @binding(2) var<storage, read> info: BlockInfo;
        @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3<u32>) {
            let all = array(info.rank, info.start[0], info.start[1], info.block[0], info.block[1], info.shape[0],
                            info.shape[1], info.shape[2], info.input[0][0], info.input[0][1], info.input[1][0], arrayLength(&x));
            if id.x < arrayLength(&y) && id.y == 0 { y[id.x] = all[id.x % 12]; }
        }";
    let (grid, output) = (Grid::regular(&shape(&[10, 6]), &[4, 3]), Grid::regular(&shape(&[24, 36]), &[8, 18]));
    check_over("block info", text, DType::U32, &grid, &output, Tolerance::Exact);
}

/// Outputs are zeros where nothing is written, whatever their buffers held before.
#[test]
fn outputs_begin_as_zeros() {
    let grid = Grid::regular(&shape(&[5000]), &[1000]);
    check_over("copy", &copy(), DType::U32, &grid, &grid, Tolerance::Exact);
    let text = copy().replace("id.x < arrayLength(&y)", "id.x % 3 == 0 && id.x < arrayLength(&y)");
    check_over("every third", &text, DType::U32, &grid, &grid, Tolerance::Exact);
}

/// Nothing outside a kernel's buffers is read or written, not even what the buffer that its block lies in has beyond
/// the block: a bad load yields 0 or an element, a bad store is dropped or goes to an element.
#[test]
fn what_is_outside_stays_out() {
    let Some(mut gpu) = gpu() else { return };
    let fill = |length: u64, word: u64| {
        let grid = Grid::single(&shape(&[length]));
        let array = Array::new(1, DType::U32, grid.clone(), move |_| word);
        (grid, array)
    };
    // Leaves its values in buffers of the bucket that the next kernel's come from.
    let (grid, array) = fill(288, 0xdead_beef);
    gpu.run(&call(grid.clone(), vec![array.leaf()], kernel(&copy(), DType::U32), grid, vec![array])).unwrap();
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @group(0) @binding(2) var<storage, read_write> z: array<u32>;
        var<workgroup> w: array<u32, 4>;
        @compute @workgroup_size(64) fn f(@builtin(local_invocation_index) i: u32) {
            let beyond = arrayLength(&x);
            var all = 0u;
            for (var k = 0u; k < 32u; k++) { all |= x[beyond + k] | x[0xffffffffu - k] | x[0x40000000u + k]; }
            for (var k = 0u; k < 32u; k++) { y[beyond + k] = 9u; y[0xffffffffu - k] = 9u; y[0x40000000u + k] = 9u; }
            w[i + beyond] = 5u;
            z[i] = all;
        }";
    let (grid, array) = fill(260, 1);
    let made = call(grid.clone(), vec![array.leaf()], kernel(text, DType::U32), grid, vec![array]);
    let found = gpu.run(&made).unwrap();
    let (y, z) = (found[0][0].elements::<u32>(), found[0][1].elements::<u32>());
    assert!(y.iter().all(|&word| word == 0 || word == 9), "{y:x?}");
    assert!(z.iter().all(|&word| word <= 1), "{z:x?}");
}

/// What a block kernel makes stays on the device, and is read there by maps and block kernels.
#[test]
fn results_are_read_where_they_are() {
    let Some(mut gpu) = gpu() else { return };
    let grid = Grid::regular(&shape(&[10_000]), &[3000]);
    let array = Array::new(1, DType::U32, grid.clone(), small(DType::U32));
    let copied = |array: &Array| {
        call(grid.clone(), vec![array.leaf()], kernel(&copy(), DType::U32), grid.clone(), vec![array.clone()])
    };
    let blocks: Vec<_> = gpu.run(&copied(&array)).unwrap().into_iter().map(|fields| fields[0].clone()).collect();
    let held = Array { id: id(7), grid: grid.clone(), dtype: DType::U32, blocks };
    let again = gpu.run(&copied(&held)).unwrap();
    for (fields, held) in again.iter().zip(&array.blocks) {
        assert_eq!(fields[0].bytes(), held.bytes());
    }
}

#[test]
fn kernels_without_inputs_and_arrays_without_elements() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = id.x; }";
    for length in [0, 100] {
        let grid = Grid::single(&shape(&[length]));
        check(
            "no input",
            &call(grid.clone(), Vec::new(), kernel(text, DType::U32), grid, Vec::new()),
            Tolerance::Exact,
        );
    }
}

/// A device offers what its driver says of workgroups, and no kernel is handed to one that has less.
#[test]
fn offers_are_the_devices_limits() {
    let (Some(gpu), Some(adapter)) = (gpu(), adapter()) else { return };
    let (offers, limits) = (gpu.executor.offers(), adapter.info().limits);
    assert_eq!(
        (offers.workgroup_size, offers.workgroup_invocations),
        (limits.workgroup_size, limits.workgroup_invocations)
    );
    assert_eq!((offers.workgroup_bytes, offers.storage_buffers), (limits.workgroup_bytes, limits.bindings));
    assert!(offers.meets(Requirements { f64: offers.f64, int64: offers.int64, ..Requirements::GUARANTEED }));
}
