//! Cranelift as a [`Builder`]: a gang is several 128-bit vectors, which is what every machine it knows has.

mod convert;
mod elements;
mod gang;
mod memory;
mod outside;
mod vector;
mod workgroup;

use std::sync::Arc;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{self, AbiParam, BlockArg, InstBuilder, MemFlagsData, Signature, StackSlot, Type, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, Variable};

use super::builder::{Binary, Builder, Memory, Outside, Unary, Word};
use super::code::field;
use super::flat::{Change, Told};
use super::helper::{Helper, LANES_MAX, Slot, Slots, WORDS_MAX, call_helper};
use crate::dtype::DType;
use gang::{Form, Gang, PARTS_MAX, Parts, lane_type, vector_type};
use workgroup::Workgroup;

/// Bytes of a vector.
const VECTOR_BYTES: usize = 16;

/// Emits one function.
pub(super) struct Emitter<'f> {
    function: FunctionBuilder<'f>,
    lanes: usize,
    /// Bytes of a lane of a mask that is kept.
    mask_width: usize,
    /// Whether masks choose by an instruction of their own.
    has_blend: bool,
    pointer: Type,
    call_conv: CallConv,
    /// Points to the call's [`super::code::Context`].
    context: ir::Value,
    /// Where the leaves' and the results' elements begin, and the stop flag: known before the first gang.
    leaves: Vec<ir::Value>,
    results: Vec<ir::Value>,
    stop: ir::Value,
    /// The gang's first element.
    element: Variable,
    /// Bits are set once there was a NaN that is to be told of.
    nans: Option<Variable>,
    /// Where a raised stop flag leads.
    stopped: ir::Block,
    slots: Option<StackSlot>,
    /// Where lanes store that are not to store.
    trash: Option<StackSlot>,
    helpers: Vec<Arc<Helper>>,
    tables: Vec<Table>,
    /// Of a block kernel.
    workgroup: Option<Workgroup>,
}

/// A table of constants, and what they are.
pub(super) type Table = (DType, Box<[u64]>);

/// A word that may be set again.
#[derive(Clone, Copy)]
pub(super) struct Register {
    dtype: DType,
    varies: bool,
    variables: [Variable; PARTS_MAX],
    count: usize,
}

/// Memory that is what it seems: loads and stores go where they should.
fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Memory that stays as it is while the code runs.
fn fixed() -> MemFlagsData {
    plain().with_aligned().with_readonly()
}

fn no_arguments() -> std::iter::Empty<&'static BlockArg> {
    std::iter::empty()
}

impl<'f> Emitter<'f> {
    pub(super) fn new(
        mut function: FunctionBuilder<'f>,
        (lanes, mask_width): (usize, usize),
        (pointer, call_conv, has_blend): (Type, CallConv, bool),
        context: ir::Value,
        tables: Vec<Table>,
    ) -> Emitter<'f> {
        let (element, stopped) = (function.declare_var(types::I64), function.create_block());
        function.set_cold_block(stopped);
        let stop = function.ins().load(pointer, fixed(), context, field::STOP);
        Emitter {
            function,
            lanes,
            mask_width,
            has_blend,
            pointer,
            call_conv,
            context,
            leaves: Vec::new(),
            results: Vec::new(),
            stop,
            element,
            nans: None,
            stopped,
            slots: None,
            trash: None,
            helpers: Vec::new(),
            tables,
            workgroup: None,
        }
    }

    /// Hands over the function, and what the code points to.
    pub(super) fn finish(self, config: cranelift_codegen::isa::TargetFrontendConfig) -> Pointees {
        self.function.finalize(config);
        let told = self.workgroup.map_or(Vec::new(), Workgroup::into_tables);
        Pointees { _helpers: self.helpers, _tables: self.tables, _told: told }
    }

    fn context_field(&mut self, offset: i32, ty: Type) -> ir::Value {
        self.function.ins().load(ty, fixed(), self.context, offset)
    }

    fn scalar_constant(&mut self, dtype: DType, word: u64) -> ir::Value {
        match dtype {
            DType::F32 => self.function.ins().f32const(f32::from_bits(word as u32)),
            DType::F64 => self.function.ins().f64const(f64::from_bits(word)),
            DType::I32 | DType::U32 => self.function.ins().iconst(types::I32, i64::from(word as u32)),
            DType::I64 | DType::U64 => self.function.ins().iconst(types::I64, word as i64),
            DType::Bool => self.function.ins().iconst(types::I8, i64::from(word != 0)),
        }
    }

    /// Calls a function of ours that returns nothing.
    fn call_native(&mut self, function: *const (), arguments: &[ir::Value]) {
        let mut signature = Signature::new(self.call_conv);
        let types = arguments.iter().map(|&argument| self.function.func.dfg.value_type(argument));
        signature.params.extend(types.map(AbiParam::new));
        let signature = self.function.import_signature(signature);
        let function = self.function.ins().iconst(self.pointer, function as i64);
        self.function.ins().call_indirect(signature, function, arguments);
    }

    fn helper_slots(&mut self) -> StackSlot {
        let bytes = size_of::<Slots>() as u32;
        let data = || ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, bytes, 4);
        *self.slots.get_or_insert_with(|| self.function.create_sized_stack_slot(data()))
    }
}

/// What follows from a mask that is known.
fn folded(op: Binary, a: Gang, b: Gang) -> Option<Gang> {
    let (word, constant, other) = match (a.form, b.form) {
        (Form::Constant(word), _) => (word, a, b),
        (_, Form::Constant(word)) => (word, b, a),
        _ => return None,
    };
    match op {
        Binary::And if a.dtype == DType::Bool => Some(if word == 0 { constant } else { other }),
        Binary::Or if a.dtype == DType::Bool => Some(if word == 0 { other } else { constant }),
        _ => None,
    }
}

/// What emitted code points to: it must live as long.
pub(super) struct Pointees {
    _helpers: Vec<Arc<Helper>>,
    _tables: Vec<Table>,
    _told: Vec<Box<[u32]>>,
}

impl Builder for Emitter<'_> {
    type Gang = Gang;
    type Register = Register;
    type Block = ir::Block;

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn varies(&self, gang: Gang) -> bool {
        gang.varies()
    }

    fn constant(&mut self, dtype: DType, word: u64) -> Gang {
        Gang { dtype, form: Form::Constant(word) }
    }

    fn leaf(&mut self, leaf: u32, dtype: DType, varies: bool) -> Gang {
        self.input(self.leaves[leaf as usize], dtype, varies)
    }

    fn at(&mut self, word: u32, varies: bool) -> Gang {
        if !varies {
            let words = self.context_field(field::AT_WORDS, self.pointer);
            return Self::uniform(DType::U32, self.function.ins().load(types::I32, fixed(), words, 4 * word as i32));
        }
        let axes = self.context_field(field::AT_INDEX, self.pointer);
        let start = self.function.ins().load(self.pointer, fixed(), axes, 8 * (word as i32 - 1));
        self.input(start, DType::U32, true)
    }

    fn unary(&mut self, op: Unary, a: Gang) -> Gang {
        let dtype = a.dtype;
        let is_float = dtype.is_float();
        match op {
            Unary::Not if dtype == DType::Bool && !a.varies() => {
                let (a, one) = (self.scalar(a), self.function.ins().iconst(types::I8, 1));
                Self::uniform(dtype, self.function.ins().bxor(a, one))
            }
            Unary::Not => self.map(dtype, a, |it, a| it.function.ins().bnot(a)),
            Unary::Negate if is_float => self.flip_sign(a),
            Unary::Negate => self.map(dtype, a, |it, a| it.function.ins().ineg(a)),
            Unary::Abs if is_float => self.clear_sign(a),
            Unary::Abs => self.map(dtype, a, |it, a| it.function.ins().iabs(a)),
            Unary::Sqrt => self.map(dtype, a, |it, a| it.function.ins().sqrt(a)),
            Unary::Floor => self.map(dtype, a, |it, a| it.function.ins().floor(a)),
            Unary::Ceil => self.map(dtype, a, |it, a| it.function.ins().ceil(a)),
            Unary::Truncate => self.map(dtype, a, |it, a| it.function.ins().trunc(a)),
            Unary::Round => self.map(dtype, a, |it, a| it.function.ins().nearest(a)),
            Unary::LeadingZeros => self.each_lane(dtype, &[a], |it, a| it.function.ins().clz(a[0])),
            Unary::TrailingZeros => self.each_lane(dtype, &[a], |it, a| it.function.ins().ctz(a[0])),
            Unary::Ones => self.each_lane(dtype, &[a], |it, a| it.function.ins().popcnt(a[0])),
            Unary::ReverseBits => self.each_lane(dtype, &[a], |it, a| it.function.ins().bitrev(a[0])),
        }
    }

    fn binary(&mut self, op: Binary, a: Gang, b: Gang) -> Gang {
        let dtype = a.dtype;
        let (is_float, is_signed) = (dtype.is_float(), dtype.is_signed_integer());
        if let Some(gang) = folded(op, a, b) {
            return gang;
        }
        match op {
            Binary::Add if is_float => self.zip(dtype, a, b, |it, a, b| it.function.ins().fadd(a, b)),
            Binary::Add => {
                let sum = self.zip(dtype, a, b, |it, a, b| it.function.ins().iadd(a, b));
                self.follow(sum, a, b, |it, a, b| it.function.ins().iadd(a, b))
            }
            Binary::Subtract if is_float => self.zip(dtype, a, b, |it, a, b| it.function.ins().fsub(a, b)),
            Binary::Subtract => {
                let difference = self.zip(dtype, a, b, |it, a, b| it.function.ins().isub(a, b));
                match b.varies() {
                    true => difference,
                    false => self.follow(difference, a, b, |it, a, b| it.function.ins().isub(a, b)),
                }
            }
            Binary::Multiply if is_float => self.zip(dtype, a, b, |it, a, b| it.function.ins().fmul(a, b)),
            Binary::Multiply => self.zip(dtype, a, b, |it, a, b| it.function.ins().imul(a, b)),
            Binary::Divide if is_float => self.zip(dtype, a, b, |it, a, b| it.function.ins().fdiv(a, b)),
            Binary::Divide if is_signed => {
                self.each_lane(dtype, &[a, b], |it, ab| it.function.ins().sdiv(ab[0], ab[1]))
            }
            Binary::Divide => self.each_lane(dtype, &[a, b], |it, ab| it.function.ins().udiv(ab[0], ab[1])),
            Binary::Remainder if is_signed => {
                self.each_lane(dtype, &[a, b], |it, ab| it.function.ins().srem(ab[0], ab[1]))
            }
            Binary::Remainder => self.each_lane(dtype, &[a, b], |it, ab| it.function.ins().urem(ab[0], ab[1])),
            Binary::And => self.zip(dtype, a, b, |it, a, b| it.function.ins().band(a, b)),
            Binary::Or => self.zip(dtype, a, b, |it, a, b| it.function.ins().bor(a, b)),
            Binary::Xor => self.zip(dtype, a, b, |it, a, b| it.function.ins().bxor(a, b)),
            Binary::ShiftLeft | Binary::ShiftRight => {
                let shift = move |it: &mut Self, a, by| match op {
                    Binary::ShiftLeft => it.function.ins().ishl(a, by),
                    _ if is_signed => it.function.ins().sshr(a, by),
                    _ => it.function.ins().ushr(a, by),
                };
                match b.varies() {
                    true => self.each_lane(dtype, &[a, b], |it, ab| shift(it, ab[0], ab[1])),
                    false => {
                        let by = self.scalar(b);
                        self.map(dtype, a, |it, a| shift(it, a, by))
                    }
                }
            }
            Binary::Equal | Binary::NotEqual if dtype == DType::Bool => {
                let differs = self.binary(Binary::Xor, a, b);
                if op == Binary::NotEqual { differs } else { self.unary(Unary::Not, differs) }
            }
            Binary::OrLess | Binary::OrGreater if is_float => self.zip(dtype, a, b, |it, a, b| it.better(op, a, b)),
            Binary::OrLess | Binary::OrGreater => {
                let (less, greater) = if op == Binary::OrLess { (b, a) } else { (a, b) };
                let is_better = self.binary(Binary::Less, less, greater);
                self.select(is_better, b, a)
            }
            Binary::Equal | Binary::NotEqual | Binary::Less | Binary::LessEqual => {
                self.zip(DType::Bool, a, b, |it, a, b| it.compare(op, dtype, a, b))
            }
        }
    }

    fn fma(&mut self, a: Gang, b: Gang, c: Gang) -> Gang {
        if ![a, b, c].iter().any(Gang::varies) {
            let [a_value, b, c] = [a, b, c].map(|gang| self.scalar(gang));
            return Self::uniform(a.dtype, self.function.ins().fma(a_value, b, c));
        }
        let [x, y, z] = [a, b, c].map(|gang| self.parts(gang));
        let triples = x.values().iter().zip(y.values()).zip(z.values());
        let parts: Vec<_> = triples.map(|((&x, &y), &z)| self.function.ins().fma(x, y, z)).collect();
        Self::varying(a.dtype, Parts::new(&parts, x.width))
    }

    fn select(&mut self, mask: Gang, accept: Gang, reject: Gang) -> Gang {
        let dtype = accept.dtype;
        match mask.form {
            Form::Constant(word) => return if word != 0 { accept } else { reject },
            Form::Uniform(mask) => {
                return self.zip(dtype, accept, reject, |it, a, b| it.function.ins().select(mask, a, b));
            }
            Form::Varying(_) => {}
        }
        let (accept, reject) = match dtype {
            DType::Bool => {
                let width = self.parts(mask).width;
                (self.mask_parts(accept, width), self.mask_parts(reject, width))
            }
            _ => (self.parts(accept), self.parts(reject)),
        };
        let masks = self.mask_parts(mask, accept.width);
        let mut parts = Vec::new();
        for ((&mask, &accept), &reject) in masks.values().iter().zip(accept.values()).zip(reject.values()) {
            let ty = self.function.func.dfg.value_type(accept);
            parts.push(self.blend(ty, mask, accept, reject));
        }
        Self::varying(dtype, Parts::new(&parts, accept.width))
    }

    fn convert(&mut self, a: Gang, to: DType) -> Gang {
        self.converted(a, to)
    }

    fn reinterpret(&mut self, a: Gang, to: DType) -> Gang {
        match a.form {
            Form::Constant(_) => Gang { dtype: to, ..a },
            Form::Uniform(value) => Self::uniform(to, self.cast(lane_type(to), value)),
            Form::Varying(parts) => {
                let ty = vector_type(to, parts.width);
                let cast: Vec<_> = parts.values().iter().map(|&part| self.cast(ty, part)).collect();
                Self::varying(to, Parts::new(&cast, parts.width))
            }
        }
    }

    fn call(&mut self, helper: Helper, operands: &[Gang]) -> Vec<Gang> {
        assert!(operands.len() <= WORDS_MAX && self.lanes <= LANES_MAX, "a call fits its slots");
        let slots = self.helper_slots();
        let slots = self.function.ins().stack_addr(self.pointer, slots, 0);
        let varies = operands.iter().any(Gang::varies);
        for (index, &operand) in operands.iter().enumerate() {
            self.write(slots, (index * size_of::<Slot>()) as i32, operand, varies);
        }
        let (results, helper) = (helper.results.clone(), Arc::new(helper));
        let address = std::ptr::from_ref::<Helper>(&helper) as i64;
        self.helpers.push(helper);
        let count = if varies { self.lanes } else { 1 };
        let helper = self.function.ins().iconst(self.pointer, address);
        let count = self.function.ins().iconst(types::I64, count as i64);
        self.call_native(call_helper as *const (), &[helper, slots, count]);
        let read = |(index, &dtype): (usize, &DType)| {
            self.read(slots, ((WORDS_MAX + index) * size_of::<Slot>()) as i32, dtype, varies)
        };
        results.iter().enumerate().map(read).collect()
    }

    fn register(&mut self, dtype: DType, varies: bool) -> Register {
        let width = if dtype == DType::Bool { self.mask_width } else { dtype.bytes() as usize };
        let (count, ty) = match varies {
            true => (self.lanes * width / VECTOR_BYTES, vector_type(dtype, width)),
            false => (1, lane_type(dtype)),
        };
        let mut variables = [Variable::from_u32(0); PARTS_MAX];
        variables[..count].iter_mut().for_each(|variable| *variable = self.function.declare_var(ty));
        Register { dtype, varies, variables, count }
    }

    fn set(&mut self, register: Register, gang: Gang) {
        if !register.varies {
            let value = self.scalar(gang);
            return self.function.def_var(register.variables[0], value);
        }
        let parts = match register.dtype {
            DType::Bool => self.mask_parts(gang, self.mask_width),
            _ => self.parts(gang),
        };
        for (&variable, &part) in register.variables.iter().zip(parts.values()) {
            self.function.def_var(variable, part);
        }
    }

    fn get(&mut self, register: Register) -> Gang {
        let variables = &register.variables[..register.count];
        let values: Vec<_> = variables.iter().map(|&variable| self.function.use_var(variable)).collect();
        match register.varies {
            true => Self::varying(register.dtype, Parts::new(&values, self.lanes_width(register))),
            false => Self::uniform(register.dtype, values[0]),
        }
    }

    fn clear(&mut self, memory: Memory) {
        self.clear_memory(memory);
    }

    fn load(&mut self, memory: Memory, offset: u32, index: Option<Gang>, dtype: DType) -> Gang {
        self.load_word(memory, offset, index, dtype)
    }

    fn store(&mut self, memory: Memory, offset: u32, index: Option<Gang>, gang: Gang, mask: Option<Gang>) {
        self.store_word(memory, offset, index, gang, mask);
    }

    fn lookup(&mut self, table: u32, offset: u32, index: Gang) -> Gang {
        self.look_up(table, offset, index)
    }

    fn told(&mut self, told: Told) -> Gang {
        self.told_of(told)
    }

    fn valid(&mut self) -> Gang {
        self.valid_lanes()
    }

    fn length(&mut self, buffer: u32) -> Gang {
        let length = self.buffer_length(buffer);
        Self::uniform(DType::U32, self.function.ins().ireduce(types::I32, length))
    }

    fn load_outside(&mut self, outside: Outside, word: Word<Gang>, dtype: DType) -> Gang {
        self.load_from(outside, word, dtype)
    }

    fn store_outside(&mut self, outside: Outside, word: Word<Gang>, gang: Gang, mask: Option<Gang>) {
        self.store_to(outside, word, gang, mask);
    }

    fn change(
        &mut self,
        outside: Outside,
        word: Word<Gang>,
        change: Change,
        operands: &[Gang],
        mask: Option<Gang>,
    ) -> [Gang; 2] {
        self.change_lanes(outside, word, change, operands, mask)
    }

    fn begin_gangs(&mut self) -> ir::Block {
        self.begin_gangs_of_workgroup()
    }

    fn end_gangs(&mut self, gangs: ir::Block) {
        self.end_gangs_of_workgroup(gangs);
    }

    fn first_gang(&mut self) {
        self.go_to_first_gang();
    }

    fn miss(&mut self, is_missed: Gang, barrier: u32) {
        self.end_if_missed(is_missed, barrier);
    }

    fn any(&mut self, mask: Gang) -> Gang {
        let Form::Varying(parts) = mask.form else { return mask };
        let (&first, rest) = parts.values().split_first().expect("a gang has parts");
        let joined = rest.iter().fold(first, |joined, &part| self.function.ins().bor(joined, part));
        Self::uniform(DType::Bool, self.function.ins().vany_true(joined))
    }

    fn block(&mut self) -> ir::Block {
        self.function.create_block()
    }

    fn enter(&mut self, block: ir::Block) {
        self.function.switch_to_block(block);
        self.function.seal_block(block);
    }

    fn enter_loop(&mut self, block: ir::Block) {
        self.function.switch_to_block(block);
    }

    fn seal(&mut self, block: ir::Block) {
        self.function.seal_block(block);
    }

    fn jump(&mut self, block: ir::Block) {
        self.function.ins().jump(block, no_arguments());
    }

    fn note_nans(&mut self, a: Gang) {
        let (parts, variable) = (self.parts(a), self.nans.expect("it was said that NaNs may be noted"));
        let mut nans = self.function.use_var(variable);
        // A pair is unordered if either is NaN.
        for pair in parts.values().chunks(2) {
            let is_nan = self.function.ins().fcmp(FloatCC::Unordered, pair[0], pair[pair.len() - 1]);
            let is_nan = self.cast(types::I64X2, is_nan);
            nans = self.function.ins().bor(nans, is_nan);
        }
        self.function.def_var(variable, nans);
    }

    fn branch(&mut self, condition: Gang, accept: ir::Block, reject: ir::Block) {
        let condition = self.scalar(condition);
        self.function.ins().brif(condition, accept, no_arguments(), reject, no_arguments());
    }

    fn is_rare(&mut self, block: ir::Block) {
        self.function.set_cold_block(block);
    }

    fn poll(&mut self) {
        let is_raised = self.function.ins().load(types::I8, plain(), self.stop, 0);
        let goes_on = self.block();
        self.function.ins().brif(is_raised, self.stopped, no_arguments(), goes_on, no_arguments());
        self.enter(goes_on);
    }
}
