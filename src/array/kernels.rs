//! User kernels over arrays.

use gridloom_worker::dtype::DType;
use gridloom_worker::kernel::{Kernel, KernelKind};

use super::elementwise::{call, converted};
use super::{Array, ArrayError, Failure, Function};

/// The most storage buffers that one stage binds: arrays in and arrays out.
pub const BUFFERS_MAX: usize = 8;

impl Array {
    /// An element kernel of one parameter over this array.
    ///
    /// An open `T` is this array's dtype; a fixed parameter takes what casts to it *safely* (NumPy's word).
    ///
    /// ```no_run
    /// use gridloom::array::Array;
    /// use gridloom_worker::kernel::Kernel;
    /// let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    /// let y = Array::random([10_000, 10_000]).map_blocks(&poly);
    /// ```
    ///
    /// # Errors
    /// A reduction kernel; not one parameter; an argument that does not cast safely; a struct as result (see
    /// [`Array::map_fields`]); a kernel that is not valid for this `T`.
    #[track_caller]
    pub fn map_blocks(&self, kernel: &Kernel) -> Array {
        Array::or_failed(single(map_fields(kernel, &[self])))
    }

    /// An element kernel over several arrays, one per parameter, which broadcast. An open `T` is the promoted dtype of
    /// the arrays that are given for a `T`.
    ///
    /// # Errors
    /// As [`Array::map_blocks`]; shapes that do not broadcast; more than eight arrays in and out.
    #[track_caller]
    pub fn map_with(kernel: &Kernel, arguments: &[&Array]) -> Array {
        Array::or_failed(single(map_fields(kernel, arguments)))
    }

    /// The same for a kernel that returns a struct: one array per field, in the struct's order. Where it fails, one
    /// array that carries the error.
    #[track_caller]
    pub fn map_fields(kernel: &Kernel, arguments: &[&Array]) -> Vec<Array> {
        match map_fields(kernel, arguments) {
            Ok((fields, _)) => fields,
            Err(failure) => vec![Array::or_failed(Err(failure))],
        }
    }
}

fn map_fields(kernel: &Kernel, arguments: &[&Array]) -> Result<(Vec<Array>, String), Failure> {
    let arguments = arguments.iter().map(|argument| argument.sound().cloned()).collect::<Result<Vec<_>, _>>()?;
    if kernel.kind() != KernelKind::Element {
        return Err(ArrayError::KernelKind { operation: "a map", expected: "an element" }.into());
    }
    let typed = kernel.for_arguments(&arguments.iter().map(Array::dtype).collect::<Vec<_>>())?;
    let element = typed.element().expect("an element kernel has an element function");
    let results: Vec<DType> = element.signature.results.iter().map(|field| field.dtype).collect();
    let name = element.signature.name.clone();
    check_buffers(&name, &arguments, results.len())?;
    let parameters = element.signature.parameters.iter();
    let arguments: Vec<Array> =
        arguments.iter().zip(parameters).map(|(argument, parameter)| converted(argument, parameter.dtype)).collect();
    let arrays = call(Function::User(typed), &arguments, results)?;
    Ok((arrays, name))
}

/// Refuses a kernel that no fusion could bind: Rust numbers and constants are parameters, the rest may be buffers.
fn check_buffers(kernel: &str, arguments: &[Array], results: usize) -> Result<(), ArrayError> {
    let arrays = arguments.iter().filter(|argument| !argument.is_constant()).count() + results;
    match arrays > BUFFERS_MAX {
        true => Err(ArrayError::Buffers { kernel: kernel.to_owned(), arrays, max: BUFFERS_MAX }),
        false => Ok(()),
    }
}

pub(super) fn single(made: Result<(Vec<Array>, String), Failure>) -> Result<Array, Failure> {
    let (fields, kernel) = made?;
    match &fields[..] {
        [one] => Ok(one.clone()),
        many => Err(ArrayError::Fields { kernel, fields: many.len(), instead: "map_fields" }.into()),
    }
}
