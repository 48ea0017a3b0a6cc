//! User kernels over arrays.

use std::sync::Arc;

use gridloom_worker::dtype::DType;
use gridloom_worker::kernel::{Kernel, KernelKind, TypedKernel};
use gridloom_worker::shape::Shape;

use super::elementwise::{call, converted};
use super::{Array, ArrayError, Failure, Function, IntoLengths, blocks};

/// The most storage buffers that one stage binds: arrays in and arrays out.
pub const BUFFERS_MAX: usize = 8;

impl Array {
    /// A kernel of one parameter over this array: an element kernel, or a block kernel of one input and one output, whose
    /// output blocks have the shape of the input blocks.
    ///
    /// An open `T` is this array's dtype; a fixed parameter takes what casts to it *safely* (NumPy's word).
    ///
    /// ```
    /// use gridloom::array::Array;
    /// use gridloom_worker::kernel::Kernel;
    /// let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    /// let y = Array::random([10_000, 10_000]).map_blocks(&poly);
    /// ```
    ///
    /// # Errors
    /// A reduction kernel; not one parameter; an argument that does not cast safely; several results (see
    /// [`Array::map_fields`]); a kernel that is not valid for this `T`; blocks that a block kernel's workgroups cannot
    /// cover.
    #[track_caller]
    pub fn map_blocks(&self, kernel: &Kernel) -> Array {
        Array::or_failed(single(map_fields(kernel, &[self], None), "map_fields"))
    }

    /// A kernel over several arrays, one per parameter, which broadcast and are cut alike. An open `T` is the promoted
    /// dtype of the arrays that are given for a `T`.
    ///
    /// # Errors
    /// As [`Array::map_blocks`]; shapes that do not broadcast; more than eight arrays in and out.
    #[track_caller]
    pub fn map_with(kernel: &Kernel, arguments: &[&Array]) -> Array {
        Array::or_failed(single(map_fields(kernel, arguments, None), "map_fields"))
    }

    /// The same for a kernel that returns a struct, or has several outputs: one array per field or output, in the kernel's
    /// order. Where it fails, one array that carries the error.
    #[track_caller]
    pub fn map_fields(kernel: &Kernel, arguments: &[&Array]) -> Vec<Array> {
        match map_fields(kernel, arguments, None) {
            Ok((fields, _)) => fields,
            Err(failure) => vec![Array::or_failed(Err(failure))],
        }
    }

    /// A block kernel of one input and one output over this array: every block becomes one of shape `block`, which has an
    /// entry per axis. So `[1, 256]` makes of an array of 10 by 10 blocks one of shape (10, 2560).
    ///
    /// ```
    /// # use gridloom::{Array, Kernel, LocalCluster, DType};
    /// let histogram = Kernel::block("
    ///     @group(0) @binding(0) var<storage, read> x: array<f32>;
    ///     @group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
    ///     @compute @workgroup_size(256) fn histogram(@builtin(local_invocation_index) id: u32) {
    ///         for (var i = id; i < arrayLength(&x); i += 256) { atomicAdd(&counts[u32(x[i] * 16)], 1u); }
    ///     }").unwrap();
    /// let x = Array::random([4000]).with_dtype(DType::F32).chunks([1000]);
    /// let counts = x.map_blocks_to(&histogram, [16]).reshape([4, 16]).sum(0);
    /// let counts: Vec<u64> = LocalCluster::start().unwrap().client().compute(&counts).unwrap().wait().unwrap();
    /// assert_eq!(counts.iter().sum::<u64>(), 4000);
    /// ```
    ///
    /// # Errors
    /// As [`Array::map_blocks`]; an element kernel; not one length per axis, each at least 1.
    #[track_caller]
    pub fn map_blocks_to(&self, kernel: &Kernel, block: impl IntoLengths) -> Array {
        Array::map_with_to(kernel, &[self], block)
    }

    /// The same over several arrays, one per input, which broadcast and are cut alike.
    #[track_caller]
    pub fn map_with_to(kernel: &Kernel, arguments: &[&Array], block: impl IntoLengths) -> Array {
        let block = block.into_lengths();
        Array::or_failed(single(map_fields(kernel, arguments, Some(&block)), "map_fields_to"))
    }

    /// The same for a kernel with several outputs: one array per output. Where it fails, one array that carries the
    /// error.
    #[track_caller]
    pub fn map_fields_to(kernel: &Kernel, arguments: &[&Array], block: impl IntoLengths) -> Vec<Array> {
        match map_fields(kernel, arguments, Some(&block.into_lengths())) {
            Ok((fields, _)) => fields,
            Err(failure) => vec![Array::or_failed(Err(failure))],
        }
    }
}

/// One array per result, and the kernel's name. Only a block kernel can have output blocks of a given shape.
fn map_fields(kernel: &Kernel, arguments: &[&Array], block: Option<&[i128]>) -> Result<(Vec<Array>, String), Failure> {
    let arguments = arguments.iter().map(|argument| argument.sound().cloned()).collect::<Result<Vec<_>, _>>()?;
    let (operation, expected) = match block {
        None => ("a map", "an element or a block"),
        Some(_) => ("a map to blocks of a given shape", "a block"),
    };
    if kernel.kind() == KernelKind::Reduction || kernel.kind() == KernelKind::Element && block.is_some() {
        return Err(ArrayError::KernelKind { operation, expected }.into());
    }
    let typed = kernel.for_arguments(&arguments.iter().map(Array::dtype).collect::<Vec<_>>())?;
    let name = typed.name().to_owned();
    let arrays = match kernel.kind() {
        KernelKind::Block => blocks::map(typed, &arguments, block)?,
        KernelKind::Element | KernelKind::Reduction => map_elements(typed, &arguments)?,
    };
    Ok((arrays, name))
}

fn map_elements(typed: Arc<TypedKernel>, arguments: &[Array]) -> Result<Vec<Array>, Failure> {
    let element = typed.element().expect("an element kernel has an element function");
    let results: Vec<DType> = element.signature.results.iter().map(|field| field.dtype).collect();
    let (name, uses_at) = (element.signature.name.clone(), element.signature.uses_at);
    check_buffers(&name, arguments, results.len())?;
    let parameters = element.signature.parameters.iter();
    let arguments: Vec<Array> =
        arguments.iter().zip(parameters).map(|(argument, parameter)| converted(argument, parameter.dtype)).collect();
    let arrays = call(Function::User(typed), &arguments, results)?;
    if uses_at {
        check_at(&name, arrays[0].shape())?;
    }
    Ok(arrays)
}

/// `At` tells where an element is in words of 32 bits.
fn check_at(kernel: &str, shape: &Shape) -> Result<(), ArrayError> {
    match shape.iter().position(|&length| length > 1 << 32) {
        Some(axis) => {
            let (kernel, length) = (kernel.to_owned(), shape[axis]);
            Err(ArrayError::IndexBits { kernel, parameter: "at: At", axis, length })
        }
        None => Ok(()),
    }
}

/// Refuses a kernel that no fusion could bind: Rust numbers and constants are parameters, the rest may be buffers.
fn check_buffers(kernel: &str, arguments: &[Array], results: usize) -> Result<(), ArrayError> {
    let arrays = arguments.iter().filter(|argument| !argument.is_constant()).count() + results;
    match arrays > BUFFERS_MAX {
        true => Err(ArrayError::Buffers { kernel: kernel.to_owned(), arrays, max: BUFFERS_MAX }),
        false => Ok(()),
    }
}

/// The one array that was made; of several, the error says what to use `instead`.
pub(super) fn single(made: Result<(Vec<Array>, String), Failure>, instead: &'static str) -> Result<Array, Failure> {
    let (fields, kernel) = made?;
    match &fields[..] {
        [one] => Ok(one.clone()),
        many => Err(ArrayError::Fields { kernel, fields: many.len(), instead }.into()),
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::dtype::DType;

    use super::super::tests::check_error;
    use super::*;

    fn kernel(text: &str) -> Kernel {
        Kernel::element(text).unwrap_or_else(|error| panic!("{}", error.rendered()))
    }

    #[test]
    fn an_open_type_is_the_promoted_one_and_fixed_ones_take_safe_casts() {
        let poly = kernel("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }");
        let of = |dtype| Array::ones([2]).with_dtype(dtype);
        assert_eq!(of(DType::I32).map_blocks(&poly).dtype(), DType::I32);
        let both = kernel("fn f(x: T, y: T, n: i64) -> T { return x + y; }");
        assert_eq!(Array::map_with(&both, &[&of(DType::F32), &of(DType::I32), &of(DType::U32)]).dtype(), DType::F64);
        let fixed = kernel("fn f(x: f32) -> bool { return x > 0; }");
        assert_eq!(of(DType::F32).map_blocks(&fixed).dtype(), DType::Bool);
        check_error(&of(DType::F64).map_blocks(&fixed), "kernel: `f` takes (f32), and was given (f64)");
        let shapes = "shapes (2,), (3,), (2,) do not broadcast: lengths must be equal, or 1";
        let x = of(DType::I32);
        check_error(&Array::map_with(&both, &[&x, &Array::ones([3]), &x]), shapes);
    }

    #[test]
    fn a_struct_is_one_array_per_field() {
        let parts = kernel("struct P { a: f32, b: i32 } fn f(x: f32) -> P { return P(x, 1); }");
        let x = Array::ones([4]).with_dtype(DType::F32);
        let fields = Array::map_fields(&parts, &[&x]);
        assert_eq!(fields.iter().map(Array::dtype).collect::<Vec<_>>(), [DType::F32, DType::I32]);
        assert_eq!(fields[0].identity(), fields[1].identity());
        check_error(&x.map_blocks(&parts), "`f` returns 2 fields: use map_fields");
    }

    #[test]
    fn errors() {
        let wide = kernel("fn f(a: f64, b: f64, c: f64, d: f64, e: f64, g: f64, h: f64, i: f64) -> f64 { return a; }");
        let x = Array::random([2]);
        let message = "9 arrays go into and out of `f`: at most 8 storage buffers are bound at once";
        check_error(&Array::map_with(&wide, &[&x; 8]), message);
        // Constants take no buffer.
        let one = Array::ones([2]);
        assert!(Array::map_with(&wide, &[&x, &x, &x, &x, &x, &x, &x, &one]).error().is_none());
        let row = kernel("fn f(x: f32, at: At) -> u32 { return at.index[0]; }");
        let long = |length| Array::random([2, length]).with_dtype(DType::F32);
        assert!(long(1i64 << 32).map_blocks(&row).error().is_none());
        let message = "`f` takes `at: At`, whose indices have 32 bits: axis 1 of length 4294967297 is too long for it";
        check_error(&long((1i64 << 32) + 1).map_blocks(&row), message);
        let failed = Array::map_fields(&wide, &[&x]);
        assert_eq!(failed.len(), 1);
        assert!(matches!(failed[0].error().unwrap().error, ArrayError::Kernel(_)));
    }
}
