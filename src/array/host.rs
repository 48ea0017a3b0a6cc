//! The client's own arrays, taken in.

use std::sync::Arc;

use gridloom_worker::dtype::DType;
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::Source;
use ndarray::{ArrayBase, Data, Dimension};

use super::chunks::Cut;
use super::{Array, Expression, Failure};

/// A Rust type that arrays are made of. Narrow ones become the compute dtype that holds them.
pub trait HostElement: Copy {
    /// What it becomes: `bool` is bool, `u8` and `u16` are u32, `i8` and `i16` are i32; the others stay.
    const DTYPE: DType;
    /// Appends the stored bytes of the compute dtype, little-endian.
    fn store(self, bytes: &mut Vec<u8>);
}

macro_rules! host_element {
    ($($rust:ty => $dtype:ident as $compute:ty),* $(,)?) => {$(
        impl HostElement for $rust {
            const DTYPE: DType = DType::$dtype;
            fn store(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&<$compute>::from(self).to_le_bytes());
            }
        }
    )*};
}
host_element!(
    f32 => F32 as f32, f64 => F64 as f64, i32 => I32 as i32, u32 => U32 as u32, i64 => I64 as i64, u64 => U64 as u64,
    bool => Bool as u32, u8 => U32 as u32, u16 => U32 as u32, i8 => I32 as i32, i16 => I32 as i32,
);

/// Up to this many bytes travel with the plan; more are put on workers first.
pub const LITERAL_BYTES_MAX: u64 = 1 << 20;

impl Array {
    /// An array of the client's own values, copied. Up to 1 MiB travels with the plan; more is cut by the array's grid
    /// and put on workers when the plan runs.
    ///
    /// ```
    /// use gridloom::array::Array;
    /// let x = Array::from_ndarray(&ndarray::array![[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(&**x.shape(), &[2, 2]);
    /// ```
    ///
    /// # Errors
    /// More than eight axes.
    #[track_caller]
    pub fn from_ndarray<T: HostElement, S: Data<Elem = T>, D: Dimension>(values: &ArrayBase<S, D>) -> Array {
        Array::or_failed(from_ndarray(values))
    }

    /// A 1-d array that travels with the plan, whatever its size: the inputs of many small tasks.
    #[track_caller]
    pub(crate) fn literal<T: HostElement>(values: impl IntoIterator<Item = T>) -> Array {
        let mut bytes = Vec::new();
        values.into_iter().for_each(|value| value.store(&mut bytes));
        let count = bytes.len() as u64 / T::DTYPE.bytes();
        let literal = |shape: Shape| {
            let cut = Cut::auto(&shape, T::DTYPE);
            Array::node(
                shape.clone(),
                T::DTYPE,
                cut,
                Expression::Source(Source::Literal { shape, bytes: bytes.into() }),
            )
        };
        Array::or_failed(Shape::new(&[count]).map(literal).map_err(Failure::from))
    }
}

fn from_ndarray<T: HostElement, S: Data<Elem = T>, D: Dimension>(values: &ArrayBase<S, D>) -> Result<Array, Failure> {
    let lengths: Vec<u64> = values.shape().iter().map(|&length| length as u64).collect();
    let shape = Shape::new(&lengths)?;
    let mut bytes = Vec::with_capacity(values.len() * T::DTYPE.bytes() as usize);
    values.iter().for_each(|value| value.store(&mut bytes));
    let cut = Cut::auto(&shape, T::DTYPE);
    Ok(Array::node(shape.clone(), T::DTYPE, cut, expression(shape, bytes)))
}

/// The expression of these values under a shape.
fn expression(shape: Shape, bytes: Vec<u8>) -> Expression {
    match bytes.len() as u64 <= LITERAL_BYTES_MAX {
        true => Expression::Source(Source::Literal { shape, bytes: bytes.into() }),
        false => Expression::Scattered(Arc::new(bytes)),
    }
}
