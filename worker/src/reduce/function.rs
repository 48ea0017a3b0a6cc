//! A function of a user's reduction, over many invocations at once: who computes it is whoever made the reducer.

use std::sync::Arc;

use naga::Handle;

use crate::executor::ExecuteError;
use crate::interpreter::{Interpreter, StopFlag, Stopped};
use crate::kernel::TypedKernel;

/// `lift`, `combine` or `finish`, ready to run. The same bits whoever runs it.
pub trait Function: Send + Sync {
    /// Runs one invocation for each word of an argument. Arguments and results are a list per word of their values, as
    /// [`Interpreter::call`] has them. When stopped, the results are undefined.
    fn call(&mut self, arguments: &[Vec<u64>], stop: &StopFlag, results: &mut [Vec<u64>]) -> Result<(), Stopped>;

    /// The same function for another thread.
    fn another(&self) -> Box<dyn Function>;
}

/// Makes a function of a reduction kernel ready.
pub type MakeFunction<'a> =
    &'a mut dyn FnMut(&TypedKernel, Handle<naga::Function>) -> Result<Box<dyn Function>, ExecuteError>;

/// The definition: one invocation after the other.
#[derive(Clone)]
struct Interpreted(Interpreter);

/// Interprets a function.
pub(super) fn interpreted(
    kernel: &TypedKernel,
    function: Handle<naga::Function>,
) -> Result<Box<dyn Function>, ExecuteError> {
    let interpreter = Interpreter::new(Arc::new(kernel.module().clone()), function);
    let unsupported = |what: String| ExecuteError::Unsupported { executor: "reduction".to_owned(), what };
    Ok(Box::new(Interpreted(interpreter.map_err(|error| unsupported(error.to_string()))?)))
}

impl Function for Interpreted {
    fn call(&mut self, arguments: &[Vec<u64>], stop: &StopFlag, results: &mut [Vec<u64>]) -> Result<(), Stopped> {
        let (mut words, mut made) = (vec![0; arguments.len()], vec![0; results.len()]);
        results.iter_mut().for_each(Vec::clear);
        for invocation in 0..arguments.first().map_or(0, Vec::len) {
            words.iter_mut().zip(arguments).for_each(|(word, argument)| *word = argument[invocation]);
            self.0.call(&words, stop, &mut made)?;
            results.iter_mut().zip(&made).for_each(|(result, &word)| result.push(word));
        }
        Ok(())
    }

    fn another(&self) -> Box<dyn Function> {
        Box::new(self.clone())
    }
}
