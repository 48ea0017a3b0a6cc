//! A function made ready to run: naga's tree with every question of type, size and place answered.
//!
//! Each expression is one [`Step`] or, where it only names what is there already, none; each statement is one [`Statement`].
//!
//! All values are words on one stack: first the private variables, then the constants of all functions, then one frame
//! per call: arguments, result, local variables, expressions. A pointer is a word, the index of what it points at; what
//! lies outside the stack has pointers of its own ([`super::memory::Pointer`]).

use super::operator::Map;
use super::vector::Whole;

/// Where a value begins.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Words from the frame's start, or from the stack's for what is not in a frame.
    pub at: usize,
    /// Whether it is in the frame.
    pub in_frame: bool,
}

impl Place {
    /// The index on the stack, for a frame that starts at `base`.
    pub(super) fn index(self, base: usize) -> usize {
        if self.in_frame { base + self.at } else { self.at }
    }

    /// This many words further.
    pub(super) fn plus(self, words: usize) -> Place {
        Place { at: self.at + words, ..self }
    }
}

/// A value: where it begins and how many words it takes.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub place: Place,
    pub words: usize,
}

impl Span {
    /// No words.
    pub(super) const EMPTY: Span = Span { place: Place { at: 0, in_frame: false }, words: 0 };

    /// The indices on the stack, for a frame that starts at `base`.
    pub(super) fn range(self, base: usize) -> std::ops::Range<usize> {
        let start = self.place.index(base);
        start..start + self.words
    }
}

/// The components of an operand: `stride` is 1, or 0 where one scalar serves all.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    pub place: Place,
    pub stride: usize,
}

/// One expression's evaluation.
pub(super) enum Step {
    /// Component by component.
    Map { map: Map, from: [Lanes; 4], to: Span },
    /// All at once: at most 16 words come out.
    Whole { whole: Whole, rows: usize, from: [Span; 3], to: Span },
    /// The same words elsewhere.
    Copy { from: Place, to: Span },
    /// Chosen components.
    Swizzle { from: Place, pattern: [u8; 4], to: Span },
    /// What a pointer points at.
    Load { pointer: Place, to: Span },
    /// The pointer to a member.
    Member { pointer: Place, offset: usize, to: Place },
    /// How many elements the storage buffer has that a pointer points into.
    Length { pointer: Place, to: Place },
    /// The pointer to an element, its index clamped.
    Element { pointer: Place, element: Element, to: Place },
    /// An element of a value.
    Pick { from: Place, element: Element, to: Span },
}

/// An element chosen while running.
#[derive(Clone, Copy)]
pub(super) struct Element {
    /// Where its index is: the word as an unsigned number.
    pub index: Place,
    /// The largest index; of an array of no fixed length, what no buffer holds.
    pub last: u64,
    /// Words between elements.
    pub stride: usize,
}

/// One statement. Nested blocks of naga's are part of the block around them.
pub(super) enum Statement {
    Evaluate(Box<[Step]>),
    If {
        condition: Place,
        accept: Block,
        reject: Block,
        holds_barrier: bool,
    },
    Switch {
        selector: Place,
        cases: Box<[Case]>,
        default: usize,
        holds_barrier: bool,
    },
    Loop {
        body: Block,
        continuing: Block,
        break_if: Option<Place>,
        holds_barrier: bool,
    },
    Break,
    Continue,
    Return {
        value: Option<Place>,
    },
    Store {
        pointer: Place,
        value: Span,
    },
    Call {
        function: usize,
        arguments: Box<[Span]>,
        result: Span,
        holds_barrier: bool,
    },
    /// `offset` is where it stands in the text.
    Barrier {
        name: &'static str,
        offset: usize,
    },
    /// `workgroupUniformLoad`, a barrier as well.
    UniformLoad {
        pointer: Place,
        to: Span,
        offset: usize,
    },
    Atomic {
        pointer: Place,
        change: Change,
        value: Place,
        result: Option<Place>,
    },
}

impl Statement {
    /// Whether it is a barrier, or anything in it or that it calls is.
    pub(super) fn holds_barrier(&self) -> bool {
        match self {
            Statement::Barrier { .. } | Statement::UniformLoad { .. } => true,
            Statement::If { holds_barrier, .. }
            | Statement::Switch { holds_barrier, .. }
            | Statement::Loop { holds_barrier, .. }
            | Statement::Call { holds_barrier, .. } => *holds_barrier,
            Statement::Evaluate(_)
            | Statement::Break
            | Statement::Continue
            | Statement::Return { .. }
            | Statement::Store { .. }
            | Statement::Atomic { .. } => false,
        }
    }
}

/// What an atomic becomes.
pub(super) enum Change {
    /// A function of its value and the operand.
    Apply(fn(u64, u64) -> u64),
    /// The operand.
    Exchange,
    /// The operand, if it was this. The result is what it was, and whether it was this.
    CompareExchange(Place),
}

pub(super) type Block = Box<[Statement]>;

/// One case of a switch.
pub(super) struct Case {
    /// The selector's word; `None` for the default alone.
    pub value: Option<u64>,
    pub body: Block,
    /// The next case runs too.
    pub falls_through: bool,
}

/// A function.
pub(super) struct Function {
    /// Words of its arguments, at the frame's start.
    pub argument_words: usize,
    /// Where its result is put.
    pub result: Span,
    /// What the words after the arguments and the result are at first: the local variables.
    pub locals: Box<[u64]>,
    /// Pointers to local variables: where each is kept, and what it points at. Both are in the frame.
    pub pointers: Box<[(usize, usize)]>,
    /// All words of a frame.
    pub frame_words: usize,
    pub body: Block,
}

impl Function {
    /// Copies the caller's arguments to the start of the frame.
    pub(super) fn pass(&self, stack: &mut [u64], caller_base: usize, base: usize, arguments: &[Span]) {
        let mut to = base;
        for argument in arguments {
            stack.copy_within(argument.range(caller_base), to);
            to += argument.words;
        }
    }

    /// Makes the frame ready after its arguments are there.
    pub(super) fn enter(&self, stack: &mut [u64], base: usize) {
        let locals = base + self.argument_words + self.result.words;
        stack[locals..locals + self.locals.len()].copy_from_slice(&self.locals);
        for &(pointer, local) in &self.pointers {
            stack[base + pointer] = (base + local) as u64;
        }
    }
}

/// A function, what it calls, and what they share.
pub(super) struct Program {
    pub functions: Vec<Function>,
    /// Which of the functions is called from outside.
    pub entry: usize,
    /// What the private variables are at first.
    pub privates: Vec<u64>,
    /// Private variables and constants, at the stack's start.
    pub shared: Vec<u64>,
    /// The words of the deepest chain of calls, and those before it.
    pub stack_words: usize,
    /// The dtypes of the result's words.
    pub result_dtypes: Vec<crate::dtype::DType>,
}
