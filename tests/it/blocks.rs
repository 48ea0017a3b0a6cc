//! Block kernels through a cluster: several chunkings against loops over the whole array, and what goes wrong.

use std::num::NonZeroUsize;
use std::time::Duration;

use gridloom::client::ClientError;
use gridloom::scheduler::JobError;
use gridloom::{Array, Client, DType, Future, Kernel, LocalCluster, Value};
use gridloom_worker::executor::ExecuteError;
use ndarray::{Array1, Array2, ArrayD, Axis, s};

fn client() -> Client {
    LocalCluster::options().workers(2).threads(NonZeroUsize::MIN).start().unwrap().client()
}

fn block(text: &str) -> Kernel {
    Kernel::block(text).unwrap_or_else(|error| panic!("{}", error.rendered()))
}

fn values(rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(row, column)| ((row * 31 + column * 17) % 101) as f64)
}

/// The 5-point stencil within each block; what lies beyond its edge is 0.
const STENCIL: &str = "
    @group(0) @binding(0) var<storage, read> x: array<T>;
    @group(0) @binding(1) var<storage, read_write> y: array<T>;
    @group(0) @binding(2) var<storage, read> info: BlockInfo;
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
    }";

/// The same by a loop over one block.
fn stencilled(x: &Array2<f64>) -> Array2<f64> {
    let at = |row: usize, column: usize| x.get((row, column)).copied().unwrap_or(0.0);
    Array2::from_shape_fn(x.dim(), |(r, c)| {
        at(r.wrapping_sub(1), c) + at(r + 1, c) + at(r, c.wrapping_sub(1)) + at(r, c + 1) - 4.0 * at(r, c)
    })
}

#[test]
fn a_stencil_within_blocks() {
    let (client, x, stencil) = (client(), values(50, 70), block(STENCIL));
    for (rows, columns) in [(50, 70), (7, 9), (1, 70), (50, 1), (13, 64)] {
        let lazy = Array::from_ndarray(&x).chunks([rows, columns]);
        let mut expected = x.clone();
        for row in (0..50).step_by(rows) {
            for column in (0..70).step_by(columns) {
                let place = s![row..(row + rows).min(50), column..(column + columns).min(70)];
                expected.slice_mut(place).assign(&stencilled(&x.slice(place).to_owned()));
            }
        }
        // Inputs in place, in pieces, computed; and a consumer.
        let recut = Array::from_ndarray(&x).chunks([11, 70]).rechunk([rows, columns]);
        let computed = &(&lazy + 1.0) - 1.0;
        for input in
            [&lazy, &recut, &computed, &Array::from_ndarray(&x.t().to_owned()).chunks([columns, rows]).transpose()]
        {
            let future: Future<Array2<f64>> = client.compute(&input.map_blocks(&stencil)).unwrap();
            assert_eq!(future.computers().to_string(), "cpu cranelift: 2 workers, 2 slots");
            assert_eq!(future.wait().unwrap(), expected, "{rows} {columns}");
        }
        let held = client.persist(&lazy).unwrap().wait().unwrap();
        let sum: f64 = client.compute(&(held.map_blocks(&stencil) * 2.0).sum(())).unwrap().wait().unwrap();
        assert_eq!(sum, 2.0 * expected.sum());
    }
    let integers = x.mapv(|value| value as i32);
    let found: Array2<i32> =
        client.compute(&Array::from_ndarray(&integers).map_blocks(&stencil)).unwrap().wait().unwrap();
    assert_eq!(found, stencilled(&x).mapv(|value| value as i32));
}

#[test]
fn a_histogram_of_another_shape_than_its_blocks() {
    // One workgroup covers the bins of a block.
    let histogram = block(
        "
        @group(0) @binding(0) var<storage, read> x: array<f64>;
        @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
        var<workgroup> own: array<atomic<u32>, 101>;
        @compute @workgroup_size(128) fn histogram(@builtin(local_invocation_index) id: u32) {
            for (var i = id; i < arrayLength(&x); i += 128) { atomicAdd(&own[u32(x[i])], 1u); }
            workgroupBarrier();
            if id < 101 { atomicStore(&counts[id], atomicLoad(&own[id])); }
        }",
    );
    let (client, x) = (client(), values(40, 30));
    let mut expected = vec![0u32; 101];
    x.iter().for_each(|&value| expected[value as usize] += 1);
    for chunks in [[40, 30], [7, 11], [1, 30]] {
        let lazy = Array::from_ndarray(&x).chunks(chunks);
        let counts = lazy.map_blocks_to(&histogram, [1, 101]);
        let blocks = lazy.grid().block_counts();
        assert_eq!(&counts.shape()[..], [blocks[0], blocks[1] * 101]);
        let found: Array2<u32> = client.compute(&counts).unwrap().wait().unwrap();
        let mut summed = vec![0u32; 101];
        found.indexed_iter().for_each(|((_, column), count)| summed[column % 101] += count);
        assert_eq!(summed, expected);
    }
}

/// Every word of the block info, of two inputs, one broadcast.
#[test]
fn a_kernel_is_told_its_block() {
    let tell = block(
        "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read> y: array<u32>;
        @group(0) @binding(2) var<storage, read_write> told: array<u32>;
        @group(0) @binding(3) var<storage, read_write> lengths: array<u32>;
        @group(0) @binding(4) var<storage, read> info: BlockInfo;
        @compute @workgroup_size(1) fn tell() {
            told[0] = info.rank;
            for (var k = 0u; k < 2; k++) {
                told[1 + k] = info.start[k]; told[3 + k] = info.block[k]; told[5 + k] = info.shape[k];
                told[7 + k] = info.input[0][k]; told[9 + k] = info.input[1][k];
            }
            told[11] = info.start[2] + info.block[5] + info.shape[2] + info.input[0][2] + info.input[2][0];
            lengths[0] = arrayLength(&x); lengths[1] = arrayLength(&y); lengths[2] = arrayLength(&told);
        }",
    );
    let client = client();
    let x = Array::ones([10, 9]).with_dtype(DType::F32).chunks([4, 5]);
    let y = Array::from_ndarray(&Array1::from_iter(0..9u32));
    let fields = Array::map_fields_to(&tell, &[&x, &y], [1, 12]);
    let told: Array2<u32> = client.compute(&fields[0]).unwrap().wait().unwrap();
    let lengths: Array2<u32> = client.compute(&fields[1]).unwrap().wait().unwrap();
    assert_eq!(told.dim(), (3, 24));
    for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
        let input = [if row < 2 { 4 } else { 2 }, if column < 1 { 5 } else { 4 }];
        let expected = [2, row, column * 12, row, column, 1, 12, input[0], input[1], input[0], input[1], 0];
        let place = s![row as usize, column as usize * 12..column as usize * 12 + 12];
        assert_eq!(told.slice(place).to_vec(), expected, "block {row} {column}");
        assert_eq!(lengths.slice(place).to_vec()[..4], [input[0] * input[1], input[0] * input[1], 12, 0]);
    }
}

/// The norm of each row of a block by a tree in workgroup memory, then element work on what comes out of it.
#[test]
fn block_kernels_chain_with_everything_else() {
    let rows = block(
        "
        @group(0) @binding(0) var<storage, read> x: array<f64>;
        @group(0) @binding(1) var<storage, read_write> sums: array<f64>;
        @group(0) @binding(2) var<storage, read> info: BlockInfo;
        var<workgroup> part: array<f64, 64>;
        @compute @workgroup_size(1, 64)
        fn rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
            let columns = info.input[0][1];
            for (var row = 0u; row < info.input[0][0]; row++) {
                part[id] = 0lf;
                for (var c = id; c < columns; c += 64) { part[id] += x[row * columns + c]; }
                workgroupBarrier();
                for (var half = 32u; half > 0; half /= 2) {
                    if id < half { part[id] += part[id + half]; }
                    workgroupBarrier();
                }
                if id == 0 { sums[row] = part[0]; }
            }
        }",
    );
    let (client, x) = (client(), values(12, 200));
    for columns in [200, 64, 33] {
        let lazy = Array::from_ndarray(&x).chunks([3, columns]);
        let sums = (&lazy * 2.0).map_blocks_to(&rows, [3, 1]).sum(1).sqrt();
        let found: Array1<f64> = client.compute(&sums).unwrap().wait().unwrap();
        assert_eq!(found, (x.sum_axis(Axis(1)) * 2.0).mapv(f64::sqrt), "{columns}");
    }
}

#[test]
fn blocks_of_every_rank_and_none() {
    let client = client();
    let count = block(
        "
        @group(0) @binding(0) var<storage, read> x: array<T>;
        @group(0) @binding(1) var<storage, read_write> y: array<T>;
        @compute @workgroup_size(2, 2, 2) fn count(
            @builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
            let at = id.x + groups.x * 2 * (id.y + groups.y * 2 * id.z);
            if at < arrayLength(&x) { y[at] = x[at] + T(1); }
        }",
    );
    for lengths in [vec![], vec![7], vec![3, 5], vec![3, 4, 5], vec![2, 3, 2, 3], vec![0, 3], vec![2; 8]] {
        let x = Array::arange(0.0, lengths.iter().product::<u64>() as f64, 1.0).reshape(&lengths[..]);
        let found: ArrayD<f64> = client.compute(&x.map_blocks(&count)).unwrap().wait().unwrap();
        let expected: ArrayD<f64> = client.compute(&(x + 1.0)).unwrap().wait().unwrap();
        assert_eq!(found, expected, "{lengths:?}");
    }
}

#[test]
fn what_goes_wrong_is_named() {
    let options = LocalCluster::options().threads(NonZeroUsize::MIN).block_timeout(Duration::from_millis(100));
    let client = options.start().unwrap().client();
    let x = Array::ones([100]).chunks([50]);
    let failed = |body: &str| {
        let kernel = block(&format!(
            "@group(0) @binding(0) var<storage, read> x: array<f64>;
@group(0) @binding(1) var<storage, read_write> y: array<f64>;
@compute @workgroup_size(8) fn f(@builtin(local_invocation_index) i: u32) {{
    {body}
}}"
        ));
        let error = client.compute::<Value>(&x.map_blocks(&kernel)).unwrap().wait().unwrap_err();
        let ClientError::Job(JobError::Execute { error, .. }) = error else { panic!("{error}") };
        error
    };
    let parted = failed("if i < 3 {\n        workgroupBarrier();\n    }");
    let barrier = "workgroupBarrier".to_owned();
    let expected = ExecuteError::Barrier { kernel: "f".into(), barrier, line: 5, reached: 3, invocations: 8 };
    assert_eq!(parted, expected);
    let endless = failed("loop { workgroupBarrier(); if x[0] > 2 { break; } }");
    assert_eq!(endless, ExecuteError::Deadline { limit_ms: 100 });
    let sum: f64 = client.compute(&x.sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 100.0);
}
