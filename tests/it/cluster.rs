//! The embedded cluster from the outside: the same bits whatever the number of workers, futures of every kind, and
//! named errors.

use std::future::Future as _;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use gridloom::array::ArrayError;
use gridloom::client::{ClientError, FromValue};
use gridloom::plan::PlanError;
use gridloom::scheduler::JobError;
use gridloom::{Array, Client, DType, Future, Kernel, LocalCluster, Reduce, Value};
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::ClientId;
use ndarray::{Array1, Array2, arr2};

fn cluster(workers: usize) -> LocalCluster {
    let one = NonZeroUsize::MIN;
    LocalCluster::options().workers(workers).threads(one).memory_limit(256 << 20).start().unwrap()
}

/// Expressions with every kind of stage: chains, views, folds over one and several levels, user kernels, relabels.
pub(crate) fn expressions() -> Vec<(&'static str, Array)> {
    let x = Array::random([60, 70]).chunks([7, 9]);
    let f32s = Array::random([5000]).with_dtype(DType::F32).seed(3).chunks([13]);
    let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    vec![
        ("sum", x.sum(())),
        ("sum of many partials", f32s.sum(())),
        ("mean over the first axis", x.mean(0)),
        ("variance over the last axis", x.var(-1)),
        ("argmax", x.argmax(())),
        ("a user kernel", x.map_blocks(&poly)),
        ("arithmetic over views", (&x.transpose().slice(ndarray::s![1..;3, ..;-2]) * 2.0).sin()),
        ("rechunked", x.map_blocks(&poly).rechunk([11, 20])),
        ("reduced twice", (&x - &x.mean(0)).std(())),
        ("concatenated", Array::concatenate([x.clone(), Array::ones([3, 70])], 0).sum(1)),
        ("compared", x.less(0.5).count_nonzero(0)),
        ("normal", Array::random_normal([1000]).chunks([77]).max(())),
    ]
}

pub(crate) fn compute(client: &Client, array: &Array) -> Value {
    client.compute(array).unwrap().wait().unwrap()
}

#[test]
fn any_number_of_workers_gives_the_same_bits() {
    let first = cluster(1);
    let client = first.client();
    let expected: Vec<Value> = expressions().iter().map(|(_, array)| compute(&client, array)).collect();
    for workers in [2, 3, 7] {
        let cluster = cluster(workers);
        let client = cluster.client();
        for ((name, array), expected) in expressions().iter().zip(&expected) {
            assert_eq!(compute(&client, array).bytes(), expected.bytes(), "{name} on {workers} workers");
        }
    }
}

#[test]
fn scaling_up_and_down_keeps_what_is_held() {
    let cluster = cluster(1);
    let client = cluster.client();
    let x = client.persist(&Array::random([100, 100]).chunks([10, 10])).unwrap().wait().unwrap();
    let before = compute(&client, &x);
    cluster.scale(3).unwrap();
    let held = client.persist(&(&x + 1.0)).unwrap();
    client.wait(std::slice::from_ref(&held)).unwrap();
    cluster.scale(1).unwrap();
    assert_eq!(cluster.workers(), 1);
    assert_eq!(compute(&client, &x), before);
    let sum: f64 = client.compute(&(&held.array() - &x).sum(())).unwrap().wait().unwrap();
    assert!((sum - 1e4).abs() < 1e-6, "{sum}");
}

#[test]
fn results_become_what_is_asked_for() {
    let cluster = cluster(2);
    let client = cluster.client();
    let x = Array::from_ndarray(&arr2(&[[1, 2, 3], [4, 5, 6]]));
    let two: Array2<i32> = client.compute(&(&x * 2)).unwrap().wait().unwrap();
    assert_eq!(two, arr2(&[[2, 4, 6], [8, 10, 12]]));
    let sums: Vec<i64> = client.compute(&x.sum(0)).unwrap().wait().unwrap();
    assert_eq!(sums, [5, 7, 9]);
    let mean: f64 = client.compute(&x.mean(())).unwrap().wait().unwrap();
    assert_eq!(mean, 3.5);
    let large: ndarray::ArrayD<bool> = client.compute(&x.greater(3)).unwrap().wait().unwrap();
    assert_eq!(large, arr2(&[[false, false, false], [true, true, true]]).into_dyn());
    let wrong = client.compute::<f32>(&x.sum(())).unwrap().wait();
    assert!(matches!(wrong, Err(ClientError::Value(_))), "{wrong:?}");
}

#[test]
fn futures_are_awaited_as_well() {
    let cluster = cluster(1);
    let client = cluster.client();
    let total: f64 = pollster::block_on(async {
        let x = client.persist(&Array::ones([100]))?.await?;
        client.compute(&x.sum(()))?.await
    })
    .unwrap();
    assert_eq!(total, 100.0);
}

#[test]
fn the_dask_lesson_in_small() {
    let client = cluster(2).client();
    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }").unwrap();
    let incremented = client.map(&inc, 0..100i64).unwrap();
    assert_eq!(incremented.len(), 100);
    let total: i64 = client.submit(Reduce::Sum, &incremented).unwrap().wait().unwrap();
    assert_eq!(total, 5050);
    let all: Vec<i64> = incremented.gather().wait().unwrap();
    assert_eq!(all, (1..=100).collect::<Vec<i64>>());

    let parts = (0..10).map(|k| Array::random([20, 30, 40]).stream(k));
    let mean = client.persist(&Array::concatenate(parts, 0).mean(-1)).unwrap();
    let mean: Array2<f64> = client.gather(&mean).unwrap().wait().unwrap();
    assert_eq!(mean.dim(), (200, 30));
    assert!((mean.mean().unwrap() - 0.5).abs() < 0.01);
    client.close().unwrap();
}

#[test]
fn submitted_tasks_take_futures() {
    let cluster = cluster(2);
    let client = cluster.client();
    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }").unwrap();
    let add = Kernel::element("fn add(x: i64, y: i64) -> i64 { return x + y; }").unwrap();
    let one: Future<i64> = client.submit(&inc, &Array::full((), 0i64)).unwrap();
    let mut chain = one.clone();
    for _ in 0..20 {
        chain = client.submit(&inc, &chain).unwrap();
    }
    let both: Future<i64> = client.submit(&add, [&one, &chain]).unwrap();
    let total: i64 = client.submit(Reduce::Sum, [&one, &chain, &both]).unwrap().wait().unwrap();
    assert_eq!(total, 1 + 21 + 22);
    let mut completed: Vec<i64> =
        client.as_completed([one, chain, both]).map(|future| future.wait().unwrap()).collect();
    completed.sort_unstable();
    assert_eq!(completed, [1, 21, 22]);
}

#[test]
fn scattered_data_stays_on_the_workers() {
    let cluster = cluster(3);
    let client = cluster.client();
    let data = Array1::from_iter((0..300_000).map(f64::from));
    let scattered = client.scatter(&data).unwrap();
    let sum: f64 = client.compute(&scattered.array().sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, data.sum());
    let back: Array1<f64> = client.gather(&scattered).unwrap().wait().unwrap();
    assert_eq!(back, data);
    // An array that is too large to travel with the plan is scattered on the way.
    let doubled: Array1<f64> = client.compute(&(Array::from_ndarray(&data) * 2.0)).unwrap().wait().unwrap();
    assert_eq!(doubled, &data * 2.0);
}

#[test]
fn an_expression_that_cannot_be_is_reported_before_anything_is_sent() {
    let client = cluster(1).client();
    let wrong = Array::ones([2, 3]) + Array::ones([4]);
    let line = line!() - 1;
    let error = client.compute::<Value>(&wrong).err().unwrap();
    assert!(
        matches!(&error, ClientError::Plan(PlanError::Array(carried)) if matches!(carried.error, ArrayError::Broadcast { .. }))
    );
    assert!(error.to_string().contains(&format!("cluster.rs:{line}")), "{error}");
}

#[test]
fn a_kernel_that_does_not_end_is_stopped() {
    let options = LocalCluster::options().threads(NonZeroUsize::MIN).block_timeout(Duration::from_millis(100));
    let cluster = options.start().unwrap();
    let client = cluster.client();
    let text = "fn f(x: f32) -> f32 { var i = 0u; loop { i = i * 2u; if i == 1u { break; } } return x; }";
    let endless = Array::ones([10]).with_dtype(DType::F32).map_blocks(&Kernel::element(text).unwrap());
    let error = client.compute::<Value>(&endless).unwrap().wait().unwrap_err();
    let ClientError::Job(JobError::Execute { error: ExecuteError::Deadline { limit_ms }, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(limit_ms, 100);
    // The slot is free again.
    let sum: f64 = client.compute(&Array::ones([10]).sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 10.0);
}

#[test]
fn a_cancelled_future_says_so() {
    let client = cluster(1).client();
    let text = "fn f(x: f64) -> f64 { var i = 0u; loop { i = i * 2u; if i == 1u { break; } } return x; }";
    let endless = Array::ones([10]).map_blocks(&Kernel::element(text).unwrap());
    let future = client.compute::<Value>(&endless).unwrap();
    future.cancel();
    assert!(matches!(future.wait(), Err(ClientError::Job(JobError::Cancelled))));
}

#[test]
fn a_block_that_fits_no_worker_is_refused_with_the_numbers() {
    let options = LocalCluster::options().threads(NonZeroUsize::MIN).memory_limit(1 << 20);
    let client = options.start().unwrap().client();
    let large = Array::ones([1 << 20]).chunks([1 << 20]);
    let error = client.compute::<Value>(&(&large + &Array::random([1 << 20]))).unwrap().wait().unwrap_err();
    let ClientError::Job(JobError::Memory { needs, has, .. }) = error else { panic!("{error}") };
    assert!(needs > has && has <= 1 << 20, "{needs} {has}");
}

/// Mean and greatest distance from zero of f64, with padding in the accumulator.
const SPREAD: &str = "
struct A { count: u32, sum: f64, largest: f64 }
struct R { mean: f64, largest: f64, count: u32 }
fn identity() -> A { return A(0u, 0lf, 0lf); }
fn lift(x: f64) -> A { return A(1u, x, abs(x)); }
fn combine(a: A, b: A) -> A { return A(a.count + b.count, a.sum + b.sum, max(a.largest, b.largest)); }
fn finish(a: A) -> R { return R(a.sum / f64(a.count), a.largest, a.count); }";

#[test]
fn user_reductions_give_the_same_bits_on_any_number_of_workers() {
    let spread = Kernel::reduction(SPREAD).unwrap();
    let x = Array::random([40, 300]) - 0.5;
    let (one, many) = (x.chunks([40, 300]), x.chunks([7, 11]));
    let compute_all = |client: &Client| -> Vec<Vec<Value>> {
        let reductions = [
            Array::reduce_fields(&spread, &[&one], ()),
            Array::reduce_fields(&spread, &[&many], ()),
            Array::reduce_fields(&spread, &[&many], 0),
        ];
        reductions.iter().map(|fields| fields.iter().map(|field| compute(client, field)).collect()).collect()
    };
    let first = cluster(1);
    let expected = compute_all(&first.client());
    let of = |value: &Value| f64::from_value(value.clone()).unwrap();
    let values: Array2<f64> = first.client().compute(&x).unwrap().wait().unwrap();
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for whole in &expected[..2] {
        assert!((of(&whole[0]) - values.mean().unwrap()).abs() < 1e-14);
        assert_eq!((of(&whole[1]), u32::from_value(whole[2].clone()).unwrap()), (largest, 12_000));
    }
    assert_eq!(Vec::<u32>::from_value(expected[2][2].clone()).unwrap(), [40; 300]);
    for workers in [2, 3] {
        let cluster = cluster(workers);
        assert_eq!(compute_all(&cluster.client()), expected, "{workers} workers");
    }
}

/// Workers of one thread and 2 MiB each.
fn small_cluster(workers: usize) -> LocalCluster {
    LocalCluster::options().workers(workers).threads(NonZeroUsize::MIN).memory_limit(2 << 20).start().unwrap()
}

/// 16 MiB in blocks of 64 KiB.
fn large_array() -> Array {
    let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    Array::random([2048, 1024]).chunks([8, 1024]).map_blocks(&poly)
}

/// (The ledger of a worker asserts that it never goes over its limit.)
#[test]
fn a_result_larger_than_the_workers_memory_is_taken_as_it_is_computed() {
    let ample = LocalCluster::start().unwrap().client();
    let mapped = large_array();
    // Here what is stored in between and what reads it compete for memory.
    let neighbours = &mapped.slice(ndarray::s![1.., ..]) + &mapped.slice(ndarray::s![..-1, ..]);
    let plan = gridloom::plan::plan(std::slice::from_ref(&neighbours), &mut gridloom::plan::ArrayIds::new(ClientId(1)))
        .unwrap();
    assert_eq!(plan.stages.len(), 2);
    for array in [mapped, neighbours] {
        let expected = compute(&ample, &array);
        for workers in [1, 2] {
            let client = small_cluster(workers).client();
            assert!(compute(&client, &array) == expected, "other values on {workers} workers");
        }
    }
}

#[test]
fn a_slow_reader_holds_the_workers_up_and_nothing_fails() {
    let client = small_cluster(2).client();
    let mut elements = 0;
    for (at, block) in client.compute::<Value>(&large_array()).unwrap().blocks().enumerate() {
        let (region, block) = block.unwrap();
        assert_eq!(block.shape, region.shape());
        elements += region.shape().elements();
        if at < 50 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(elements, 2048 * 1024);
}

#[test]
fn what_somebody_else_holds_is_not_taken() {
    let client = cluster(2).client();
    let x = Array::random([1000, 100]).chunks([10, 100]);
    let first: Future<Value> = client.compute(&x).unwrap();
    let (second, array) = (first.clone(), first.array());
    let value = first.wait().unwrap();
    assert_eq!(second.wait().unwrap(), value);
    assert_eq!(compute(&client, &array), value);
    // One task's result feeds others that still run while it is gathered itself.
    let inc = Kernel::element("fn inc(x: T) -> T { return x + 1; }").unwrap();
    let one: Future<Value> = client.submit(&inc, &array).unwrap();
    let two: Future<Value> = client.submit(&inc, &one).unwrap();
    let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
    assert_eq!(compute(&client, &(&array + 1.0)), one);
    assert_eq!(compute(&client, &(&array + 1.0 + 1.0)), two);
}

/// Where it has begun with one handle, another cannot go on: it is told so, and does not wait for ever.
#[test]
fn what_is_being_taken_cannot_be_had_twice() {
    let client = small_cluster(1).client();
    let mut first: Future<Value> = client.compute(&large_array()).unwrap();
    while first.progress().is_none_or(|(done, _)| done == 0) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let poll = |future: &mut Future<Value>| Pin::new(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll(&mut first).is_pending(), "most of it has no room before some is taken");
    let second = first.clone();
    drop(first);
    assert!(matches!(second.wait(), Err(ClientError::Taken { .. })));
}

#[test]
fn a_waker_that_panics_silences_nobody_else() {
    struct Angry;
    impl Wake for Angry {
        fn wake(self: Arc<Self>) {
            panic!("woken, as a test wants it");
        }
    }
    let client = cluster(1).client();
    let x = Array::random([1 << 20]).chunks([1 << 12]);
    let mut first: Future<Value> = client.compute(&x).unwrap();
    let angry = Waker::from(Arc::new(Angry));
    while Pin::new(&mut first).poll(&mut Context::from_waker(&angry)).is_pending() {}
    assert_eq!(compute(&client, &x).shape().elements(), 1 << 20);
}

#[test]
fn what_a_worker_holds_already_needs_no_second_place() {
    let client = LocalCluster::options().threads(NonZeroUsize::MIN).memory_limit(64 << 20).start().unwrap().client();
    let x = Array::random([5_000_000]).chunks([5_000_000]);
    let held = client.persist(&x).unwrap().wait().unwrap();
    let mean: f64 = client.compute(&held.mean(())).unwrap().wait().unwrap();
    assert!((mean - 0.5).abs() < 1e-3);
}
