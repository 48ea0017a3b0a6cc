//! Machine code in memory: made, called, and freed when the last owner lets go.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::mem::offset_of;
use std::sync::{Mutex, OnceLock};

use cranelift_codegen::ir::{AbiParam, types};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use smallvec::SmallVec;

use super::cranelift::{Emitter, Pointees, Table};
use super::divergence::Divergence;
use super::flat::{Op, Program};
use super::helper::{fma_double, fma_single};
use super::lower::lower;
use super::{CompileError, Results};
use crate::dtype::DType;
use crate::interpreter::{StopFlag, Stopped};
use crate::shape::RANK_MAX;

/// Words of `At`: the rank, then the global index, the block's index and the block's shape.
pub(in super::super) const AT_WORDS: usize = 1 + 3 * RANK_MAX;

/// What one call of the code is given.
#[repr(C)]
pub(super) struct Context {
    common: Common,
    leaves: *const *const u8,
    at_index: *const *const u32,
    at_words: *const u32,
    results: *const *mut u8,
    elements: u64,
}

/// What the code of block kernels is given as well: it comes first.
#[repr(C)]
pub(super) struct Common {
    pub scratch: *mut u8,
    pub stop: *const u8,
}

/// Where the fields of a [`Context`] are.
pub(super) mod field {
    use super::{Common, Context, offset_of};

    pub(in super::super) const LEAVES: i32 = offset_of!(Context, leaves) as i32;
    pub(in super::super) const AT_INDEX: i32 = offset_of!(Context, at_index) as i32;
    pub(in super::super) const AT_WORDS: i32 = offset_of!(Context, at_words) as i32;
    pub(in super::super) const RESULTS: i32 = offset_of!(Context, results) as i32;
    pub(in super::super) const SCRATCH: i32 = offset_of!(Common, scratch) as i32;
    pub(in super::super) const STOP: i32 = offset_of!(Common, stop) as i32;
    pub(in super::super) const ELEMENTS: i32 = offset_of!(Context, elements) as i32;
}

/// What the code of an element program returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Done = 0,
    /// The stop flag was raised.
    Stopped = 1,
    /// Done, and there are NaNs of all kinds among the results.
    Nans = 2,
}

type Entry = unsafe extern "C" fn(*const Context) -> u32;

/// The machine code of a program.
pub(in super::super) struct Code {
    entry: Entry,
    /// Owns the code.
    _machine: Machine,
    lanes: usize,
    scratch_bytes: u64,
    leaves: Vec<(DType, bool)>,
    results: Vec<DType>,
    uses_at: [bool; AT_WORDS],
}

/// What a call has few of: calls are made for every tile, and allocate nothing.
pub(in super::super) type Few<T> = SmallVec<[T; 8]>;

/// What a call reads and writes.
pub(in super::super) struct Call<'a, 'r> {
    /// Per leaf, its elements as stored; of a uniform leaf, one.
    pub leaves: &'a [&'a [u8]],
    /// Per axis, the elements' index on it, where the code asks for it.
    pub at_index: [&'a [u32]; RANK_MAX],
    /// The rest of `At`.
    pub at_words: &'a [u32; AT_WORDS],
    /// Per result, room for the elements as stored.
    pub results: &'a mut [&'r mut [u8]],
    /// Of [`Code::scratch_words`].
    pub scratch: &'a mut [u64],
    pub stop: &'a StopFlag,
    /// How many elements there are: whole gangs.
    pub elements: usize,
}

impl Code {
    /// Compiles a program for gangs of `lanes` and masks of a width.
    pub(super) fn new(
        program: &Program,
        divergence: &Divergence,
        leaves: &[(DType, bool)],
        results: Results,
        (lanes, mask_width): (usize, usize),
    ) -> Result<Code, CompileError> {
        let tables = program.tables.iter().map(|(dtype, words)| (*dtype, words.clone().into_boxed_slice())).collect();
        let mut scratch_bytes = 0;
        let machine = Machine::new((lanes, mask_width), tables, |mut emitter| {
            let gangs = emitter.begin(leaves, program.results.len(), results);
            let cell = RefCell::new(emitter);
            let made;
            (made, scratch_bytes) = lower(program, divergence, results, &cell);
            let mut emitter = cell.into_inner();
            for (index, result) in made.into_iter().enumerate() {
                emitter.output(index, result);
            }
            emitter.end(gangs);
            emitter
        })?;
        // SAFETY: the code was just made with this signature, and lives as long as the machine, which `Code` owns.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(machine.entry) };
        let mut uses_at = [false; AT_WORDS];
        for &input in &program.inputs {
            if let Op::At(word) = program.value(input).op {
                uses_at[word as usize] = true;
            }
        }
        Ok(Code {
            entry,
            _machine: machine,
            lanes,
            scratch_bytes,
            leaves: leaves.to_vec(),
            results: program.results.iter().map(|&result| program.dtype(result)).collect(),
            uses_at,
        })
    }

    /// Elements of a gang.
    pub(in super::super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// How many words of memory a call scribbles in.
    pub(in super::super) fn scratch_words(&self) -> usize {
        (self.scratch_bytes as usize).div_ceil(8)
    }

    /// The dtypes of the leaves, and which are uniform.
    pub(in super::super) fn leaves(&self) -> &[(DType, bool)] {
        &self.leaves
    }

    /// The dtypes of the results.
    pub(in super::super) fn results(&self) -> &[DType] {
        &self.results
    }

    /// Whether the code asks for any word of `At`.
    pub(in super::super) fn uses_at(&self) -> bool {
        self.uses_at.contains(&true)
    }

    /// Whether the code asks for the elements' index on an axis.
    pub(in super::super) fn uses_index(&self, axis: usize) -> bool {
        self.uses_at[1 + axis]
    }

    /// Runs the code. When stopped, the results are undefined.
    ///
    /// # Panics
    /// If a slice is too short for the elements, or they are no whole gangs.
    pub(in super::super) fn call(&self, call: Call<'_, '_>) -> Result<(), Stopped> {
        let Call { leaves, at_index, at_words, results, scratch, stop, elements } = call;
        assert!(elements.is_multiple_of(self.lanes), "whole gangs");
        assert_eq!((leaves.len(), results.len()), (self.leaves.len(), self.results.len()), "all leaves and results");
        assert!(scratch.len() >= self.scratch_words(), "room to scribble in");
        let bytes = |dtype: DType, count: usize| dtype.bytes() as usize * count;
        for (leaf, &(dtype, is_uniform)) in leaves.iter().zip(&self.leaves) {
            assert!(leaf.len() >= bytes(dtype, if is_uniform { 1 } else { elements }), "a leaf's elements");
        }
        for (result, &dtype) in results.iter().zip(&self.results) {
            assert!(result.len() >= bytes(dtype, elements), "room for a result");
        }
        for (axis, index) in at_index.iter().enumerate() {
            assert!(!self.uses_index(axis) || index.len() >= elements, "every element's index");
        }
        let leaves_at: Few<*const u8> = leaves.iter().map(|leaf| leaf.as_ptr()).collect();
        let results_at: Few<*mut u8> = results.iter_mut().map(|result| result.as_mut_ptr()).collect();
        let at_index = at_index.map(|index| index.as_ptr());
        let context = Context {
            leaves: leaves_at.as_ptr(),
            at_index: at_index.as_ptr(),
            at_words: at_words.as_ptr(),
            common: Common { scratch: scratch.as_mut_ptr().cast(), stop: stop.shared().as_ptr().cast() },
            results: results_at.as_ptr(),
            elements: elements as u64,
        };
        // SAFETY: the lowering reads `elements` elements (or one) of each leaf and index, writes as many of each result,
        // keeps every index within its variable and table, and stays within `scratch_bytes`; the slices checked above
        // have that much, none of those written is shared, and loads and stores need no alignment. The flag is an
        // atomic byte that is only read, by a load that cannot tear. The code was made for this very CPU.
        let status = unsafe { (self.entry)(&context) };
        if status == Status::Stopped as u32 {
            return Err(Stopped);
        }
        if status == Status::Nans as u32 {
            for (result, &dtype) in results.iter_mut().zip(&self.results) {
                make_nans_one(dtype, &mut result[..bytes(dtype, elements)]);
            }
        }
        Ok(())
    }
}

/// The canonical NaN for any NaN.
fn make_nans_one(dtype: DType, bytes: &mut [u8]) {
    macro_rules! each {
        ($float:ident) => {
            for stored in bytes.as_chunks_mut().0 {
                let value = $float::from_ne_bytes(*stored);
                *stored = if value.is_nan() { $float::NAN } else { value }.to_ne_bytes();
            }
        };
    }
    match dtype {
        DType::F32 => each!(f32),
        DType::F64 => each!(f64),
        _ => {}
    }
}

/// One function as machine code: it takes the address of a context that begins with [`Common`], and returns a status.
pub(super) struct Machine {
    /// Where it begins.
    pub entry: *const u8,
    /// Owns the code's memory; `None` once it is freed.
    module: Mutex<Option<JITModule>>,
    /// The code holds their addresses.
    _pointees: Pointees,
}

// SAFETY: the address is that of code, which nobody writes.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// Makes the code that `emit` emits, for gangs of `lanes` and masks of a width.
    pub(super) fn new(
        (lanes, mask_width): (usize, usize),
        tables: Vec<Table>,
        emit: impl FnOnce(Emitter<'_>) -> Emitter<'_>,
    ) -> Result<Machine, CompileError> {
        let broken = |what: String| CompileError::Cranelift { what };
        let mut builder = JITBuilder::with_isa(isa()?, default_libcall_names());
        builder.symbol("fmaf", fma_single as *const u8).symbol("fma", fma_double as *const u8);
        let mut module = JITModule::new(builder);
        let mut context = module.make_context();
        let pointer = module.target_config().pointer_type();
        context.func.signature.params.push(AbiParam::new(pointer));
        context.func.signature.returns.push(AbiParam::new(types::I32));
        let mut memory = FunctionBuilderContext::new();
        let mut function = FunctionBuilder::new(&mut context.func, &mut memory);
        let entry = function.create_block();
        function.append_block_params_for_function_params(entry);
        function.switch_to_block(entry);
        function.seal_block(entry);
        let argument = function.block_params(entry)[0];
        let machine = (pointer, module.isa().default_call_conv(), has_blend(module.isa()));
        let emitter = emit(Emitter::new(function, (lanes, mask_width), machine, argument, tables));
        let pointees = emitter.finish(module.target_config());

        let signature = &context.func.signature;
        let declared = module.declare_function("kernel", Linkage::Export, signature);
        let id = declared.map_err(|error| broken(error.to_string()))?;
        module.define_function(id, &mut context).map_err(|error| broken(format!("{error:?}")))?;
        module.clear_context(&mut context);
        module.finalize_definitions().map_err(|error| broken(error.to_string()))?;
        let entry = module.get_finalized_function(id);
        Ok(Machine { entry, module: Mutex::new(Some(module)), _pointees: pointees })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(module) = module {
            // SAFETY: whoever calls the code borrows the machine meanwhile, so nobody does now or ever will.
            unsafe { module.free_memory() };
        }
    }
}

/// Whether there is an instruction that chooses by a mask.
fn has_blend(isa: &dyn TargetIsa) -> bool {
    isa.isa_flags().iter().any(|flag| flag.name == "has_sse41" && flag.as_bool() == Some(true))
}

/// What this machine's code is made by.
fn isa() -> Result<OwnedTargetIsa, CompileError> {
    static ISA: OnceLock<Result<OwnedTargetIsa, String>> = OnceLock::new();
    let isa = ISA.get_or_init(|| {
        let mut flags = settings::builder();
        // Optimizing hoists constants out of loops and spills them: such code is slower here, and made slower.
        for (name, value) in [("opt_level", "none"), ("is_pic", "false"), ("use_colocated_libcalls", "false")] {
            flags.set(name, value).map_err(|error| error.to_string())?;
        }
        flags.set("enable_verifier", "true").map_err(|error| error.to_string())?;
        let builder = cranelift_native::builder().map_err(str::to_owned)?;
        builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())
    });
    isa.clone().map_err(|what| CompileError::Cranelift { what })
}
