//! A kernel made flat: every call inlined, every value a scalar, every pointer a place that is known.
//!
//! It still says what *one* invocation does, with structured control flow: how lanes part and meet again is
//! [`super::divergence`]'s and [`super::lower`]'s to know, and what invocations do together [`super::phases`]'s.

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
    /// What an invocation of a block kernel is told. Never evaluated by a statement.
    Told(Told),
    /// How many elements a storage buffer has. Never evaluated by a statement.
    Length(u32),
    /// Changes an atomic by `(operand)` or, comparing, `(operand, expected)`. Its [`Op::Part`]s are what it was, and
    /// whether it was what is expected.
    Atomic(Place, Change),
    /// A call of [`Program::helpers`]: its results are [`Op::Part`]s of it.
    Call(u32),
    /// One result of a call, its only operand.
    Part(u32),
}

/// Where an invocation of a block kernel stands; axes are x, y and z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// Its place in the workgroup on an axis.
    Local(usize),
    /// Its place in the workgroup, x fastest.
    LocalIndex,
    /// The workgroup's place on an axis.
    Group(usize),
    /// How many workgroups there are on an axis.
    Groups(usize),
}

/// What an atomic becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Change {
    Add,
    Subtract,
    And,
    Or,
    Xor,
    Min,
    Max,
    Exchange,
    /// The operand, if it was what is expected.
    CompareExchange,
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
    /// One of [`Program::buffers`]: its elements are the words, and what lies beyond them is none.
    Buffer(u32),
    /// One of [`Program::workgroup`].
    Workgroup(u32),
}

/// A storage buffer of a block kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub dtype: DType,
    pub is_atomic: bool,
}

/// A variable in workgroup memory.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// What its words are.
    pub dtypes: Box<[DType]>,
    /// Bytes from the start of the workgroup's memory.
    pub at: u64,
    /// Bytes of each word.
    pub width: u64,
    pub holds_atomics: bool,
}

/// A barrier, as it is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    /// As WGSL calls it.
    pub name: &'static str,
    /// Where its call begins in the text.
    pub offset: usize,
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
    /// One of [`Program::barriers`]: all invocations of a workgroup come here before any goes on.
    Barrier(u32),
    /// All that is before is done by all before any goes on; nobody need come here.
    Cut,
}

pub(super) type Block = Vec<Statement>;

/// A kernel. What is said of block kernels is empty for others.
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
    pub buffers: Vec<Buffer>,
    pub workgroup: Vec<Shared>,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u64,
    pub barriers: Vec<Barrier>,
}

/// What a statement does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Visited {
    Use(ValueId),
    Evaluate(ValueId),
    Read(Place),
    Write(Place),
}

impl Program {
    pub(super) fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Finds [`Program::inputs`].
    pub(super) fn find_inputs(&mut self) {
        let mut used = self.results.clone();
        self.visit(&self.body, &mut |visited| {
            if let Visited::Use(value) = visited {
                used.push(value);
            }
        });
        used.retain(|&id| matches!(self.value(id).op, Op::Leaf(_) | Op::At(_)));
        used.sort();
        used.dedup();
        self.inputs = used;
    }

    /// Shows all that the statements of a block and of those within do to values and variables, in order.
    pub(super) fn visit(&self, block: &[Statement], found: &mut impl FnMut(Visited)) {
        for statement in block {
            match statement {
                Statement::Evaluate(id) => {
                    let value = self.value(*id);
                    value.operands.iter().for_each(|&operand| found(Visited::Use(operand)));
                    if let Op::Load(place) | Op::Atomic(place, _) = value.op {
                        place.index.into_iter().for_each(|index| found(Visited::Use(index)));
                        found(Visited::Read(place));
                    }
                    found(Visited::Evaluate(*id));
                }
                Statement::Store { place, value } => {
                    place.index.iter().chain([value]).for_each(|&used| found(Visited::Use(used)));
                    found(Visited::Write(*place));
                }
                Statement::If { condition, accept, reject, .. } => {
                    found(Visited::Use(*condition));
                    self.visit(accept, found);
                    self.visit(reject, found);
                }
                Statement::Loop { body, continuing, break_if, .. } => {
                    self.visit(body, found);
                    self.visit(continuing, found);
                    break_if.iter().for_each(|&condition| found(Visited::Use(condition)));
                }
                Statement::Once { body, .. } | Statement::Call { body, .. } => self.visit(body, found),
                Statement::Break | Statement::Continue | Statement::Return | Statement::Barrier(_) | Statement::Cut => {
                }
            }
        }
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
