//! What the lowering asks of a code generator: operations on gangs, registers, memory and blocks.
//!
//! A *gang* is what a value is for all lanes at once. It may be *uniform*, one number for all: an operation on uniform
//! gangs gives one again. A bool gang is a *mask*. Nothing here knows of kernels.

use super::flat::{Change, Told};
use super::helper::Helper;
use crate::dtype::DType;

/// An operation on one gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Negate,
    /// The sign bit cleared, or the wrapping size.
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Truncate,
    /// Ties to even.
    Round,
    Not,
    LeadingZeros,
    TrailingZeros,
    Ones,
    ReverseBits,
}

/// An operation on two gangs of one dtype (but shifts, whose amounts are `u32` and count modulo the width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    /// Of integers: never by zero, and never the smallest by -1.
    Divide,
    /// Of integers, with the same limits.
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    /// The second where it is less, else the first: also where either is NaN.
    OrLess,
    /// The second where it is greater, else the first.
    OrGreater,
}

/// A variable in memory: `words` of every lane, or of all at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Bytes from the scratch memory's start.
    pub at: u64,
    pub words: u32,
    /// Bytes of each word of each lane.
    pub width: u64,
    pub varies: bool,
}

/// What the invocations of a workgroup share.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outside {
    /// A storage buffer: words beyond its end are 0 and take nothing.
    Buffer(u32),
    /// A variable in workgroup memory, so many bytes from its start: every index is inside.
    Workgroup { at: u64, width: u64 },
}

/// A word there: so many words from its start, and as many as the gang says.
pub(super) type Word<G> = (u32, Option<G>);

/// A code generator, emitting one function.
pub(super) trait Builder {
    /// A gang.
    type Gang: Copy;
    /// A word that may be set again.
    type Register: Copy;
    /// Code that is jumped to.
    type Block: Copy;

    fn lanes(&self) -> usize;
    /// Whether a gang may differ from lane to lane.
    fn varies(&self, gang: Self::Gang) -> bool;
    fn constant(&mut self, dtype: DType, word: u64) -> Self::Gang;
    fn leaf(&mut self, leaf: u32, dtype: DType, varies: bool) -> Self::Gang;
    fn at(&mut self, word: u32, varies: bool) -> Self::Gang;
    fn unary(&mut self, op: Unary, a: Self::Gang) -> Self::Gang;
    fn binary(&mut self, op: Binary, a: Self::Gang, b: Self::Gang) -> Self::Gang;
    /// `a * b + c`, rounded once.
    fn fma(&mut self, a: Self::Gang, b: Self::Gang, c: Self::Gang) -> Self::Gang;
    fn select(&mut self, mask: Self::Gang, accept: Self::Gang, reject: Self::Gang) -> Self::Gang;
    /// Floats to integers saturate and make 0 of NaN; to floats the nearest, ties to even; bools are 0 or 1.
    fn convert(&mut self, a: Self::Gang, to: DType) -> Self::Gang;
    /// The same bits.
    fn reinterpret(&mut self, a: Self::Gang, to: DType) -> Self::Gang;
    fn call(&mut self, helper: Helper, operands: &[Self::Gang]) -> Vec<Self::Gang>;

    fn register(&mut self, dtype: DType, varies: bool) -> Self::Register;
    fn set(&mut self, register: Self::Register, gang: Self::Gang);
    fn get(&mut self, register: Self::Register) -> Self::Gang;

    /// Zeros all of it.
    fn clear(&mut self, memory: Memory);
    fn load(&mut self, memory: Memory, offset: u32, index: Option<Self::Gang>, dtype: DType) -> Self::Gang;
    /// Where the mask is set, if there is one.
    fn store(
        &mut self,
        memory: Memory,
        offset: u32,
        index: Option<Self::Gang>,
        gang: Self::Gang,
        mask: Option<Self::Gang>,
    );
    /// The word of a table of constants.
    fn lookup(&mut self, table: u32, offset: u32, index: Self::Gang) -> Self::Gang;

    /// What each invocation of the gang is told.
    fn told(&mut self, told: Told) -> Self::Gang;
    /// The lanes of the gang that are invocations.
    fn valid(&mut self) -> Self::Gang;
    fn length(&mut self, buffer: u32) -> Self::Gang;
    /// For all lanes, masked or not: what is outside is never touched.
    fn load_outside(&mut self, outside: Outside, word: Word<Self::Gang>, dtype: DType) -> Self::Gang;
    /// Where the mask is set, if there is one; of lanes that store to one word the last wins.
    fn store_outside(&mut self, outside: Outside, word: Word<Self::Gang>, gang: Self::Gang, mask: Option<Self::Gang>);
    /// Lane after lane, where the mask is set: what was there, and whether that is what was expected.
    fn change(
        &mut self,
        outside: Outside,
        word: Word<Self::Gang>,
        change: Change,
        operands: &[Self::Gang],
        mask: Option<Self::Gang>,
    ) -> [Self::Gang; 2];

    /// Begins what is done for each gang of the workgroup, each with scratch memory of its own.
    fn begin_gangs(&mut self) -> Self::Block;
    fn end_gangs(&mut self, gangs: Self::Block);
    /// Until gangs begin, scratch memory is the first gang's.
    fn first_gang(&mut self);
    /// Ends the function if the uniform `is_missed` is set, and says which barrier it is.
    fn miss(&mut self, is_missed: Self::Gang, barrier: u32);

    /// Whether any lane of a mask is set: uniform.
    fn any(&mut self, mask: Self::Gang) -> Self::Gang;
    /// Whether a lane of these floats is NaN is told when the function ends.
    fn note_nans(&mut self, a: Self::Gang);
    fn block(&mut self) -> Self::Block;
    /// Begins a block that everything that leads to it already jumps to.
    fn enter(&mut self, block: Self::Block);
    /// Begins a block that later code jumps back to, until it is sealed.
    fn enter_loop(&mut self, block: Self::Block);
    fn seal(&mut self, block: Self::Block);
    fn jump(&mut self, block: Self::Block);
    /// On a uniform condition.
    fn branch(&mut self, condition: Self::Gang, accept: Self::Block, reject: Self::Block);
    /// Says that a block is rarely entered.
    fn is_rare(&mut self, block: Self::Block);
    /// Ends the function if the stop flag is raised.
    fn poll(&mut self);
}
