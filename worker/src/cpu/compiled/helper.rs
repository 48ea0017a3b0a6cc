//! What generated code calls: the interpreter's own functions, lane by lane, for what is rare or has no instruction.

#![allow(unsafe_code)]

use std::fmt;

use crate::dtype::DType;
use crate::interpreter::{Map, Whole};

/// The most lanes of a gang.
pub(super) const LANES_MAX: usize = 16;
/// The most words that a helper takes or gives.
pub(super) const WORDS_MAX: usize = 16;

/// A function of the interpreter's, as generated code calls it.
///
/// Each word has room for [`LANES_MAX`] times 8 bytes, [`WORDS_MAX`] operands and then as many results. There its lanes lie
/// side by side, as wide as its dtype; a bool's are 32 bits, all zero or not.
#[derive(Clone)]
pub(super) struct Helper {
    pub function: Function,
    /// What the operands' slots hold.
    pub operands: Box<[DType]>,
    /// What the results' slots hold.
    pub results: Box<[DType]>,
}

/// What is called.
#[derive(Clone, Copy)]
pub(super) enum Function {
    Map(Map),
    /// With the first argument's rows, and the words of each argument.
    Whole {
        whole: Whole,
        rows: usize,
        words: [usize; 3],
    },
    /// What an elementary function does for the few lanes that need it.
    Single(fn(f32) -> f32),
    Double(fn(f64) -> f64),
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "helper {:?} -> {:?}", self.operands, self.results)
    }
}

impl Helper {
    fn lane(&self, operands: &[u64], results: &mut [u64]) {
        match self.function {
            Function::Map(Map::One(f)) => results[0] = f(operands[0]),
            Function::Map(Map::Two(f)) => results[0] = f(operands[0], operands[1]),
            Function::Map(Map::Three(f)) => results[0] = f(operands[0], operands[1], operands[2]),
            Function::Map(Map::Four(f)) => results[0] = f(operands[0], operands[1], operands[2], operands[3]),
            Function::Whole { whole, rows, words: [a, b, c] } => {
                let ((a, rest), b) = (operands.split_at(a), b);
                let (b, rest) = rest.split_at(b);
                whole(rows, a, b, &rest[..c], results);
            }
            // A result, whether it is to be patched, and the argument.
            Function::Single(f) => {
                let patched = || u64::from(f(f32::from_bits(operands[2] as u32)).to_bits());
                results[0] = if operands[1] != 0 { patched() } else { operands[0] };
            }
            Function::Double(f) => {
                let patched = || f(f64::from_bits(operands[2])).to_bits();
                results[0] = if operands[1] != 0 { patched() } else { operands[0] };
            }
        }
    }
}

/// Where the lanes of words lie: operands, then results.
pub(super) type Slots = [Slot; 2 * WORDS_MAX];
/// The lanes of one word.
pub(super) type Slot = [u64; LANES_MAX];

/// Calls `helper` for `lanes` lanes.
///
/// # Safety
/// `helper` and `slots` point to what they say, which lives and nobody else writes meanwhile.
pub(super) unsafe extern "C" fn call_helper(helper: *const Helper, slots: *mut Slots, lanes: u64) {
    // SAFETY: the caller's promise.
    let (helper, slots) = unsafe { (&*helper, &mut *slots) };
    let (ins, outs) = slots.split_at_mut(WORDS_MAX);
    for lane in 0..(lanes as usize).min(LANES_MAX) {
        let (mut operands, mut results) = ([0; WORDS_MAX], [0; WORDS_MAX]);
        for ((word, slot), &dtype) in operands.iter_mut().zip(&*ins).zip(&helper.operands) {
            *word = match dtype {
                DType::Bool => u64::from(bytemuck::cast_slice::<u64, u32>(slot)[lane] != 0),
                DType::F32 | DType::I32 | DType::U32 => u64::from(bytemuck::cast_slice::<u64, u32>(slot)[lane]),
                DType::F64 | DType::I64 | DType::U64 => slot[lane],
            };
        }
        helper.lane(&operands[..helper.operands.len()], &mut results[..helper.results.len()]);
        for ((&word, slot), &dtype) in results.iter().zip(&mut *outs).zip(&helper.results) {
            match dtype {
                DType::Bool => bytemuck::cast_slice_mut::<u64, u32>(slot)[lane] = if word != 0 { u32::MAX } else { 0 },
                DType::F32 | DType::I32 | DType::U32 => bytemuck::cast_slice_mut::<u64, u32>(slot)[lane] = word as u32,
                DType::F64 | DType::I64 | DType::U64 => slot[lane] = word,
            }
        }
    }
}

/// `a * b + c`, rounded once, where the CPU has no instruction for it.
pub(super) extern "C" fn fma_single(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// The same in 64 bits.
pub(super) extern "C" fn fma_double(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// Zeros `bytes` bytes.
///
/// # Safety
/// They are there, and nobody else uses them meanwhile.
pub(super) unsafe extern "C" fn zero(start: *mut u8, bytes: u64) {
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, bytes as usize) }
}
