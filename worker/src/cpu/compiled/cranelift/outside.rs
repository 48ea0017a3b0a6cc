//! What invocations share: loads, stores and atomics on storage buffers and workgroup memory.
//!
//! No address is touched that is not inside, whatever a lane's index is, and whether it is masked or not. Where indices
//! count up from lane to lane and all are inside, a gang is loaded or stored as vectors.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, types};

use super::super::block::field;
use super::super::builder::{Builder, Outside, Word};
use super::super::flat::Change;
use super::gang::{Gang, lane_type};
use super::{Emitter, plain};
use crate::dtype::DType;

/// Where words are read that are not there.
static NOTHING: u64 = 0;

/// Words of one dtype in memory.
struct Words {
    start: ir::Value,
    /// From one to the next.
    bytes: i64,
    /// How many there are, if an index may be beyond.
    length: Option<ir::Value>,
}

impl Emitter<'_> {
    pub(super) fn buffer_length(&mut self, buffer: u32) -> ir::Value {
        let (buffers, flags) =
            (self.context_field(field::BUFFERS, self.pointer), plain().with_aligned().with_readonly());
        self.function.ins().load(types::I64, flags, buffers, field::BUFFER_BYTES * buffer as i32 + field::LENGTH)
    }

    fn words(&mut self, outside: Outside, dtype: DType) -> Words {
        match outside {
            Outside::Buffer(buffer) => {
                let length = self.buffer_length(buffer);
                let (buffers, flags) =
                    (self.context_field(field::BUFFERS, self.pointer), plain().with_aligned().with_readonly());
                let at = field::BUFFER_BYTES * buffer as i32 + field::START;
                let start = self.function.ins().load(self.pointer, flags, buffers, at);
                Words { start, bytes: dtype.bytes() as i64, length: Some(length) }
            }
            Outside::Workgroup { at, width } => {
                let memory = self.context_field(field::WORKGROUP, self.pointer);
                let start = self.function.ins().iadd_imm_s(memory, at as i64);
                Words { start, bytes: width as i64, length: None }
            }
        }
    }

    /// The number of a word, in 64 bits.
    fn number(&mut self, offset: u32, index: Option<ir::Value>) -> ir::Value {
        match index {
            Some(index) => {
                let wide = self.function.ins().uextend(types::I64, index);
                if offset == 0 { wide } else { self.function.ins().iadd_imm_s(wide, i64::from(offset)) }
            }
            None => self.function.ins().iconst(types::I64, i64::from(offset)),
        }
    }

    fn address_of(&mut self, words: &Words, number: ir::Value) -> ir::Value {
        let bytes = self.function.ins().ishl_imm_u(number, i64::from(words.bytes.trailing_zeros()));
        self.function.ins().iadd(words.start, bytes)
    }

    /// The word's address if it is there and `masks` are set, else `elsewhere`.
    fn address_or(
        &mut self,
        words: &Words,
        number: ir::Value,
        mask: Option<ir::Value>,
        elsewhere: ir::Value,
    ) -> ir::Value {
        let mut address = self.address_of(words, number);
        if let Some(length) = words.length {
            let is_there = self.function.ins().icmp(IntCC::UnsignedLessThan, number, length);
            address = self.function.ins().select(is_there, address, elsewhere);
        }
        match mask {
            Some(mask) => self.function.ins().select(mask, address, elsewhere),
            None => address,
        }
    }

    fn number_of_lane(&mut self, (offset, index): Word<Gang>, lane: usize) -> ir::Value {
        let index = index.map(|index| self.lane(index, lane));
        self.number(offset, index)
    }

    /// What kept bools are is what words in memory are.
    fn stored(dtype: DType) -> (DType, ir::Type) {
        match dtype {
            DType::Bool => (DType::U32, types::I32),
            _ => (dtype, lane_type(dtype)),
        }
    }

    pub(super) fn load_from(&mut self, outside: Outside, word: Word<Gang>, dtype: DType) -> Gang {
        let words = self.words(outside, dtype);
        let Some(index) = word.1.filter(Gang::varies) else {
            let number = self.number_of_lane(word, 0);
            let nothing = self.nothing();
            let address = self.address_or(&words, number, None, nothing);
            return self.read(address, 0, dtype, false);
        };
        let Some(first) = self.first_of(index).filter(|_| words.bytes == dtype.bytes() as i64) else {
            return self.load_lanes(&words, word, dtype);
        };
        let number = self.number(word.0, Some(first));
        let address = self.address_of(&words, number);
        let Some(length) = words.length else { return self.read(address, 0, dtype, true) };
        let result = Builder::register(self, dtype, true);
        let end = self.enter_if_all_there(number, length);
        let loaded = self.read(address, 0, dtype, true);
        self.set(result, loaded);
        let end = self.otherwise(end);
        let loaded = self.load_lanes(&words, word, dtype);
        self.set(result, loaded);
        self.jump(end);
        self.enter(end);
        self.get(result)
    }

    fn load_lanes(&mut self, words: &Words, word: Word<Gang>, dtype: DType) -> Gang {
        let ((stored, ty), nothing) = (Self::stored(dtype), self.nothing());
        let mut lanes = Vec::new();
        for lane in 0..self.lanes {
            let number = self.number_of_lane(word, lane);
            let address = self.address_or(words, number, None, nothing);
            lanes.push(self.function.ins().load(ty, plain(), address, 0));
        }
        let Gang { form, .. } = self.joined_lanes(stored, &lanes);
        Gang { dtype, form }
    }

    pub(super) fn store_to(&mut self, outside: Outside, word: Word<Gang>, gang: Gang, mask: Option<Gang>) {
        let words = self.words(outside, gang.dtype);
        let index = word.1.filter(Gang::varies);
        if index.is_none() && !gang.varies() {
            let number = self.number_of_lane(word, 0);
            let (mask, trash) = (mask.map(|mask| self.any(mask)), self.trash());
            let mask = mask.map(|mask| self.scalar(mask));
            let address = self.address_or(&words, number, mask, trash);
            return self.write(address, 0, gang, false);
        }
        let first = index.and_then(|index| self.first_of(index));
        let Some(first) = first.filter(|_| words.bytes == gang.dtype.bytes() as i64) else {
            return self.store_lanes(&words, word, gang, mask);
        };
        let number = self.number(word.0, Some(first));
        let address = self.address_of(&words, number);
        let Some(length) = words.length else { return self.store_beside(address, gang, mask) };
        let end = self.enter_if_all_there(number, length);
        self.store_beside(address, gang, mask);
        let end = self.otherwise(end);
        self.store_lanes(&words, word, gang, mask);
        self.jump(end);
        self.enter(end);
    }

    /// Stores vectors; where the mask is not set, what was there.
    fn store_beside(&mut self, address: ir::Value, gang: Gang, mask: Option<Gang>) {
        let gang = match mask {
            Some(mask) => {
                let before = self.read(address, 0, gang.dtype, true);
                self.select(mask, gang, before)
            }
            None => gang,
        };
        self.write(address, 0, gang, true);
    }

    fn store_lanes(&mut self, words: &Words, word: Word<Gang>, gang: Gang, mask: Option<Gang>) {
        let (trash, mask) = (self.trash(), mask.map(|mask| self.as_words(mask)));
        let gang = if gang.dtype == DType::Bool { self.as_words(gang) } else { gang };
        for lane in 0..self.lanes {
            let number = self.number_of_lane(word, lane);
            let mask = mask.map(|mask| self.lane(mask, lane));
            let address = self.address_or(words, number, mask, trash);
            let value = self.lane(gang, lane);
            self.function.ins().store(plain(), value, address, 0);
        }
    }

    /// A mask whose lanes have 32 bits.
    fn as_words(&mut self, mask: Gang) -> Gang {
        let parts = self.mask_parts(mask, 4);
        Self::varying(DType::U32, parts)
    }

    pub(super) fn change_lanes(
        &mut self,
        outside: Outside,
        word: Word<Gang>,
        change: Change,
        operands: &[Gang],
        mask: Option<Gang>,
    ) -> [Gang; 2] {
        let dtype = operands[0].dtype;
        let words = self.words(outside, dtype);
        let (trash, mask) = (self.trash(), mask.map(|mask| self.as_words(mask)));
        let (mut olds, mut hits) = (Vec::new(), Vec::new());
        for lane in 0..self.lanes {
            let number = self.number_of_lane(word, lane);
            let mask = mask.map(|mask| self.lane(mask, lane));
            let address = self.address_or(&words, number, mask, trash);
            let values: Vec<_> = operands.iter().map(|&operand| self.lane(operand, lane)).collect();
            let before = self.function.ins().load(types::I32, plain(), address, 0);
            let is_hit = self.function.ins().icmp(IntCC::Equal, before, *values.last().expect("an operand"));
            let after = self.changed(change, dtype, before, &values, is_hit);
            self.function.ins().store(plain(), after, address, 0);
            // Where nothing is, nothing was.
            let is_there = self.function.ins().icmp(IntCC::NotEqual, address, trash);
            let zero = self.function.ins().iconst(types::I32, 0);
            olds.push(self.function.ins().select(is_there, before, zero));
            let is_hit = self.function.ins().band(is_hit, is_there);
            hits.push(self.function.ins().bmask(types::I32, is_hit));
        }
        let (old, hit) = (self.joined_lanes(dtype, &olds), self.joined_lanes(DType::U32, &hits));
        [old, Gang { dtype: DType::Bool, form: hit.form }]
    }

    fn changed(
        &mut self,
        change: Change,
        dtype: DType,
        before: ir::Value,
        values: &[ir::Value],
        is_hit: ir::Value,
    ) -> ir::Value {
        let (value, is_signed) = (values[0], dtype.is_signed_integer());
        let ins = self.function.ins();
        match change {
            Change::Add => ins.iadd(before, value),
            Change::Subtract => ins.isub(before, value),
            Change::And => ins.band(before, value),
            Change::Or => ins.bor(before, value),
            Change::Xor => ins.bxor(before, value),
            Change::Min if is_signed => ins.smin(before, value),
            Change::Min => ins.umin(before, value),
            Change::Max if is_signed => ins.smax(before, value),
            Change::Max => ins.umax(before, value),
            Change::Exchange => value,
            Change::CompareExchange => ins.select(is_hit, value, before),
        }
    }

    /// Goes on if a whole gang of words is there, else to the block that is given.
    fn enter_if_all_there(&mut self, number: ir::Value, length: ir::Value) -> ir::Block {
        let (begin, otherwise) = (self.block(), self.block());
        let end = self.function.ins().iadd_imm_s(number, self.lanes as i64);
        let are_there = self.function.ins().icmp(IntCC::UnsignedLessThanOrEqual, end, length);
        self.is_rare(otherwise);
        let none = super::no_arguments;
        self.function.ins().brif(are_there, begin, none(), otherwise, none());
        self.enter(begin);
        otherwise
    }

    /// Ends what is done if all are there, and begins the other way: gives where both meet.
    fn otherwise(&mut self, otherwise: ir::Block) -> ir::Block {
        let end = self.block();
        self.jump(end);
        self.enter(otherwise);
        end
    }

    fn nothing(&mut self) -> ir::Value {
        self.function.ins().iconst(self.pointer, (&raw const NOTHING) as i64)
    }
}
