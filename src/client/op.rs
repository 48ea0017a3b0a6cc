//! What can be submitted as one task, and over what.

use gridloom_worker::kernel::Kernel;

use super::future::{Future, Futures};
use crate::array::Array;

/// A reduction over a list of futures: element by element across the list, as NumPy's over axis 0 of their stack.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The product.
    Prod,
    /// The mean.
    Mean,
    /// The least; NaN if there is one.
    Min,
    /// The greatest; NaN if there is one.
    Max,
    /// Whether any is not zero.
    Any,
    /// Whether none is zero.
    All,
    /// How many are not zero.
    CountNonzero,
}

/// One task: what is done to the inputs.
#[derive(Clone)]
pub enum Task {
    /// An element kernel, with one input per parameter.
    Kernel(Kernel),
    /// A reduction over all inputs.
    Reduce(Reduce),
}

impl From<&Kernel> for Task {
    fn from(kernel: &Kernel) -> Task {
        Task::Kernel(kernel.clone())
    }
}

impl From<Reduce> for Task {
    fn from(reduce: Reduce) -> Task {
        Task::Reduce(reduce)
    }
}

/// Inputs of a task: futures or arrays, one or many.
pub trait Inputs {
    /// One array per input.
    fn arrays(&self) -> Vec<Array>;

    /// All of them along a new first axis.
    fn stacked(&self) -> Array {
        Array::stack(self.arrays(), 0)
    }
}

impl Task {
    /// The expression that does it.
    pub(super) fn over(self, inputs: impl Inputs) -> Array {
        let reduce = match self {
            Task::Kernel(kernel) => {
                let arrays = inputs.arrays();
                return Array::map_with(&kernel, &arrays.iter().collect::<Vec<_>>());
            }
            Task::Reduce(reduce) => reduce,
        };
        let stacked = inputs.stacked();
        match reduce {
            Reduce::Sum => stacked.sum(0),
            Reduce::Prod => stacked.prod(0),
            Reduce::Mean => stacked.mean(0),
            Reduce::Min => stacked.min(0),
            Reduce::Max => stacked.max(0),
            Reduce::Any => stacked.any(0),
            Reduce::All => stacked.all(0),
            Reduce::CountNonzero => stacked.count_nonzero(0),
        }
    }
}

/// What stands for one input.
pub trait Input {
    /// Its array.
    fn array(&self) -> Array;
}

impl Input for Array {
    fn array(&self) -> Array {
        self.clone()
    }
}

impl<T> Input for Future<T> {
    fn array(&self) -> Array {
        Future::array(self)
    }
}

impl<I: Input> Inputs for &I {
    fn arrays(&self) -> Vec<Array> {
        vec![self.array()]
    }
}

impl<I: Input, const N: usize> Inputs for [&I; N] {
    fn arrays(&self) -> Vec<Array> {
        self.iter().map(|input| input.array()).collect()
    }
}

impl<I: Input> Inputs for &[I] {
    fn arrays(&self) -> Vec<Array> {
        self.iter().map(Input::array).collect()
    }
}

impl<I: Input> Inputs for &Vec<I> {
    fn arrays(&self) -> Vec<Array> {
        self.iter().map(Input::array).collect()
    }
}

/// Tasks of one stage are stacked already.
impl Inputs for &Futures {
    fn arrays(&self) -> Vec<Array> {
        vec![Futures::array(self)]
    }

    fn stacked(&self) -> Array {
        Futures::array(self)
    }
}
