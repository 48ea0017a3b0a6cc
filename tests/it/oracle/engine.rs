//! Fixtures on their way into the engine and back.

use std::sync::OnceLock;

use gridloom::array::{Array, HostElement};
use gridloom::client::{Client, ClientError, Value};
use gridloom::cluster::LocalCluster;
use gridloom_worker::dtype::{DType, Scalar};
use ndarray::{ArrayD, IxDyn};

use super::compare::Failed;
use super::fixture;

/// One embedded cluster for all comparisons of this process.
fn client() -> &'static Client {
    static CLIENT: OnceLock<(LocalCluster, Client)> = OnceLock::new();
    let (_, client) = CLIENT.get_or_init(|| {
        let cluster = LocalCluster::start().unwrap();
        let client = cluster.client();
        (cluster, client)
    });
    client
}

/// The whole path: plan, scheduler, worker, executor, future.
pub(crate) fn compute(array: &Array) -> Result<Value, Failed> {
    let future = client().compute::<Value>(array).map_err(|error| match error {
        ClientError::Plan(error) => Failed::Refused(error.to_string()),
        error => Failed::Ran(error.to_string()),
    })?;
    future.wait().map_err(|error| Failed::Ran(error.to_string()))
}

/// A fixture as a user would bring it in.
pub(crate) fn array(fixture: &fixture::Array) -> Array {
    values(fixture.dtype(), &fixture.shape(), &fixture.values())
}

/// 0, 1, 2, ... in i32.
pub(crate) fn iota(shape: &[u64]) -> Array {
    iota_from(0, shape)
}

/// The same from another start.
pub(crate) fn iota_from(start: i32, shape: &[u64]) -> Array {
    let count = shape.iter().product::<u64>() as i32;
    host(shape, (start..start + count).collect::<Vec<i32>>())
}

fn values(dtype: DType, shape: &[u64], values: &[Scalar]) -> Array {
    macro_rules! of {
        ($variant:ident) => {{
            let unwrapped = values.iter().map(|value| match value {
                Scalar::$variant(value) => *value,
                other => panic!("{other:?} is no {dtype}"),
            });
            host(shape, unwrapped.collect())
        }};
    }
    match dtype {
        DType::F32 => of!(F32),
        DType::F64 => of!(F64),
        DType::I32 => of!(I32),
        DType::U32 => of!(U32),
        DType::I64 => of!(I64),
        DType::U64 => of!(U64),
        DType::Bool => of!(Bool),
    }
}

fn host<T: HostElement>(shape: &[u64], values: Vec<T>) -> Array {
    let lengths: Vec<usize> = shape.iter().map(|&length| length as usize).collect();
    Array::from_ndarray(&ArrayD::from_shape_vec(IxDyn(&lengths), values).unwrap())
}

/// The array whole, and cut into blocks of two along every axis: the answer must be the same.
pub(crate) fn cuts(array: &Array) -> [Array; 2] {
    [array.clone(), array.chunks(vec![2i64; array.rank()])]
}
