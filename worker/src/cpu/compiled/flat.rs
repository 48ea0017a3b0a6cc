//! A kernel made flat: every call inlined, every value a scalar, every pointer a place that is known.
//!
//! It still says what *one* invocation does, with structured control flow: how lanes part and meet again is
//! [`super::divergence`]'s and [`super::lower`]'s to know.

use naga::{BinaryOperator, MathFunction, RelationalFunction, UnaryOperator};

use super::helper::Helper;
use crate::dtype::DType;

/// One scalar value: an index into [`Program::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ValueId(pub u32);

/// One local variable of one inlined call: an index into [`Program::variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct VariableId(pub u32);

/// A word that lives in a register, or a variable in memory: [`Program::registers`] counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RegisterId(pub u32);

/// A statement whose lanes may part: an index into what the analysis finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameId(pub u32);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// This word. Never evaluated: constants are made where they are used.
    Constant(u64),
    /// A leaf's element. Evaluated before all else.
    Leaf(u32),
    /// A word of `At`. Evaluated before all else.
    At(u32),
    Unary(UnaryOperator),
    Binary(BinaryOperator),
    /// `(condition, accept, reject)`.
    Select,
    /// `isNan` or `isInf`.
    Test(RelationalFunction),
    /// A built-in function of components.
    Math(MathFunction),
    /// To the value's dtype.
    Convert,
    /// The same bits as the value's dtype, but for NaN.
    Bitcast,
    Load(Place),
    /// A call of [`Program::helpers`]: its results are [`Op::Part`]s of it.
    Call(u32),
    /// One result of a call, its only operand.
    Part(u32),
}

/// A scalar value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub op: Op,
    pub dtype: DType,
    pub operands: Box<[ValueId]>,
}

/// A word of a variable or of a table of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub base: Base,
    /// Words from its start.
    pub offset: u32,
    /// And as many as this `u32` says: what they are together is inside.
    pub index: Option<ValueId>,
}

/// What holds a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    Variable(VariableId),
    /// One of [`Program::tables`].
    Table(u32),
}

/// A local variable.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// What its words are.
    pub dtypes: Box<[DType]>,
    /// What they are when its function is called; zeros if `None`.
    pub initial: Option<Box<[u64]>>,
    /// Whether any access to it is indexed: then it lies in memory, else each word is a register.
    pub is_indexed: bool,
    /// What is known of it as a whole is known by this number.
    pub whole: RegisterId,
    /// And of each word, where one is named, by one of these.
    pub words: Box<[Option<RegisterId>]>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Evaluate(ValueId),
    Store {
        place: Place,
        value: ValueId,
    },
    If {
        frame: FrameId,
        condition: ValueId,
        accept: Block,
        reject: Block,
    },
    Loop {
        frame: FrameId,
        body: Block,
        continuing: Block,
        break_if: Option<ValueId>,
    },
    /// Runs once; `Break` leaves it. What a `switch` is made of, with one `If` per case.
    Once {
        frame: FrameId,
        body: Block,
    },
    /// An inlined call; `Return` leaves it.
    Call {
        frame: FrameId,
        /// The variables that get their first values: the locals and the result.
        locals: std::ops::Range<u32>,
        body: Block,
    },
    /// Leaves the innermost loop or `Once`.
    Break,
    Continue,
    Return,
}

pub(super) type Block = Vec<Statement>;

/// A kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub values: Vec<Value>,
    pub variables: Vec<Variable>,
    /// Words that never change, for indexed constants, and what they are.
    pub tables: Vec<(DType, Vec<u64>)>,
    pub helpers: Vec<Helper>,
    pub body: Block,
    pub results: Vec<ValueId>,
    /// The leaves and words of `At` that anything uses.
    pub inputs: Vec<ValueId>,
    /// How many [`RegisterId`]s there are.
    pub registers: u32,
    /// How many frames there are.
    pub frames: u32,
}

impl Program {
    pub(super) fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Finds [`Program::inputs`].
    pub(super) fn find_inputs(&mut self) {
        let mut used: Vec<ValueId> = self.values.iter().flat_map(|value| value.operands.iter().copied()).collect();
        used.extend(&self.results);
        let mut pending = vec![&self.body];
        while let Some(block) = pending.pop() {
            for statement in block {
                match statement {
                    Statement::Store { place, value } => used.extend(place.index.iter().chain([value])),
                    Statement::Evaluate(value) => {
                        if let Op::Load(place) = self.value(*value).op {
                            used.extend(place.index);
                        }
                    }
                    Statement::If { condition, accept, reject, .. } => {
                        used.push(*condition);
                        pending.extend([accept, reject]);
                    }
                    Statement::Loop { body, continuing, break_if, .. } => {
                        used.extend(*break_if);
                        pending.extend([body, continuing]);
                    }
                    Statement::Once { body, .. } | Statement::Call { body, .. } => pending.push(body),
                    Statement::Break | Statement::Continue | Statement::Return => {}
                }
            }
        }
        used.retain(|&id| matches!(self.value(id).op, Op::Leaf(_) | Op::At(_)));
        used.sort();
        used.dedup();
        self.inputs = used;
    }

    pub(super) fn dtype(&self, id: ValueId) -> DType {
        self.value(id).dtype
    }

    /// What is known of a place is known by this number; tables never change.
    pub(super) fn register(&self, place: Place) -> Option<RegisterId> {
        let Base::Variable(variable) = place.base else { return None };
        let variable = self.variable(variable);
        if variable.is_indexed { Some(variable.whole) } else { variable.words[place.offset as usize] }
    }

    pub(super) fn variable(&self, id: VariableId) -> &Variable {
        &self.variables[id.0 as usize]
    }
}
