//! Results at the client, and what they can be turned into.

use ndarray::{ArrayD, Dimension, IxDyn};

use gridloom_worker::block::Block;
use gridloom_worker::dtype::{DType, Element};
use gridloom_worker::shape::{Region, Shape};

/// A result cannot be read as what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Another dtype.
    #[error("the result is {is}, not {asked}: ask for {is}, or add .astype(DType::{asked:?}) to the array")]
    DType {
        /// What it is.
        is: DType,
        /// What was asked for.
        asked: DType,
    },
    /// Another number of axes.
    #[error("the result has shape {shape}, not {asked} axes")]
    Rank {
        /// Its shape.
        shape: Shape,
        /// What was asked for.
        asked: usize,
    },
    /// More than one element where one was asked for.
    #[error("the result has shape {shape}, not a single element")]
    NotScalar {
        /// Its shape.
        shape: Shape,
    },
    /// It does not fit this process's memory.
    #[error("a result of {bytes} bytes does not fit memory: persist it and gather parts")]
    Memory {
        /// Its size.
        bytes: u64,
    },
}

/// A whole result in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    dtype: DType,
    shape: Shape,
    words: Words,
}

/// The elements, by width: so they become a `Vec` of any dtype without a copy.
#[derive(Clone, Debug, PartialEq)]
enum Words {
    Four(Vec<u32>),
    Eight(Vec<u64>),
}

impl Value {
    /// Room for a result, zeroed.
    pub(crate) fn zeroed(dtype: DType, shape: Shape) -> Result<Value, ValueError> {
        let memory = ValueError::Memory { bytes: shape.elements().saturating_mul(dtype.bytes()) };
        let count = usize::try_from(shape.elements()).map_err(|_| memory.clone())?;
        let words = match dtype.bytes() {
            4 => zeroed(count).map(Words::Four),
            _ => zeroed(count).map(Words::Eight),
        };
        Ok(Value { dtype, shape, words: words.ok_or(memory)? })
    }

    /// The dtype of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The lengths per axis.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The stored bytes, C order, little-endian; a bool is a `u32`.
    pub fn bytes(&self) -> &[u8] {
        match &self.words {
            Words::Four(words) => bytemuck::cast_slice(words),
            Words::Eight(words) => bytemuck::cast_slice(words),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.words {
            Words::Four(words) => bytemuck::cast_slice_mut(words),
            Words::Eight(words) => bytemuck::cast_slice_mut(words),
        }
    }

    /// Puts a block where it belongs.
    pub(crate) fn place(&mut self, region: &Region, block: &Block) {
        let width = self.dtype.bytes() as usize;
        let shape = self.shape.clone();
        let target = self.bytes_mut();
        let mut rest = block.bytes();
        for run in region.runs(&shape) {
            let to = &mut target[run.start as usize * width..run.end as usize * width];
            let from = rest.split_off(..to.len()).expect("a block has its region's elements");
            to.copy_from_slice(from);
        }
    }

    /// The same elements under a shape of as many.
    pub(crate) fn reshaped(mut self, shape: &Shape) -> Value {
        debug_assert_eq!(shape.elements(), self.shape.elements());
        self.shape = shape.clone();
        self
    }

    /// The elements in C order.
    fn into_elements<E: Element>(self) -> Result<Vec<E>, ValueError> {
        if self.dtype != E::DTYPE && !(self.dtype == DType::Bool && E::DTYPE == DType::U32) {
            return Err(ValueError::DType { is: self.dtype, asked: E::DTYPE });
        }
        Ok(match self.words {
            Words::Four(words) => bytemuck::allocation::cast_vec(words),
            Words::Eight(words) => bytemuck::allocation::cast_vec(words),
        })
    }

    fn into_bools(self) -> Result<Vec<bool>, ValueError> {
        match (self.dtype, self.words) {
            (DType::Bool, Words::Four(words)) => Ok(words.into_iter().map(|word| word != 0).collect()),
            (is, _) => Err(ValueError::DType { is, asked: DType::Bool }),
        }
    }
}

/// Zeros, or `None` where memory cannot be had.
fn zeroed<T: bytemuck::Zeroable + Clone>(count: usize) -> Option<Vec<T>> {
    // A reservation first: `vec!` would end the process instead of failing.
    Vec::<T>::new().try_reserve_exact(count).ok()?;
    Some(vec![T::zeroed(); count])
}

/// What a [`Value`] can be turned into.
pub trait FromValue: Sized {
    /// The conversion; copies only bools.
    fn from_value(value: Value) -> Result<Self, ValueError>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Value, ValueError> {
        Ok(value)
    }
}

/// A Rust type that elements of a result can be read as: the six numbers and `bool`.
pub trait ResultElement: Copy + Sized {
    /// The elements in C order.
    fn elements(value: Value) -> Result<Vec<Self>, ValueError>;
}

macro_rules! result_element {
    ($($rust:ty => $take:ident),*) => {$(
        impl ResultElement for $rust {
            fn elements(value: Value) -> Result<Vec<$rust>, ValueError> {
                value.$take()
            }
        }

        impl FromValue for $rust {
            fn from_value(value: Value) -> Result<$rust, ValueError> {
                let shape = value.shape.clone();
                match value.$take()?[..] {
                    [single] => Ok(single),
                    _ => Err(ValueError::NotScalar { shape }),
                }
            }
        }
    )*};
}
result_element!(
    f32 => into_elements, f64 => into_elements, i32 => into_elements, u32 => into_elements, i64 => into_elements,
    u64 => into_elements, bool => into_bools
);

impl<E: ResultElement, D: Dimension> FromValue for ndarray::Array<E, D> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let shape = value.shape.clone();
        let lengths: Vec<usize> = shape.iter().map(|&length| length as usize).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&lengths), E::elements(value)?);
        let array = array.expect("a value has as many elements as its shape says");
        let asked = D::NDIM.unwrap_or(lengths.len());
        array.into_dimensionality().map_err(|_| ValueError::Rank { shape, asked })
    }
}

impl<E: ResultElement> FromValue for Vec<E> {
    fn from_value(value: Value) -> Result<Vec<E>, ValueError> {
        match value.shape.rank() {
            1 => E::elements(value),
            _ => Err(ValueError::Rank { shape: value.shape, asked: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr2};

    use super::*;

    fn shape(lengths: &[u64]) -> Shape {
        Shape::new(lengths).unwrap()
    }

    #[test]
    fn blocks_land_where_they_belong() {
        let mut value = Value::zeroed(DType::I32, shape(&[2, 3])).unwrap();
        let region = Region { start: shape(&[0, 1]), end: shape(&[2, 3]) };
        value.place(&region, &Block::from_elements(shape(&[2, 2]), &[1i32, 2, 3, 4]));
        let array = Array2::<i32>::from_value(value.clone()).unwrap();
        assert_eq!(array, arr2(&[[0, 1, 2], [0, 3, 4]]));
        assert_eq!(f32::from_value(value.clone()), Err(ValueError::DType { is: DType::I32, asked: DType::F32 }));
        assert!(matches!(i32::from_value(value), Err(ValueError::NotScalar { .. })));
    }
}
