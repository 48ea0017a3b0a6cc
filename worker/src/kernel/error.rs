//! What can be wrong with a kernel's text, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;

/// A place in the user's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl Location {
    /// Where byte `offset` of a text is.
    pub(super) fn of(text: &str, offset: usize) -> Location {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Location { line: line as u32, column: column as u32 }
    }
}

/// A kernel that cannot be used. `Display` is one line, `path:line:column: message`; [`KernelError::rendered`] shows
/// the user's own lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    path: String,
    location: Option<Location>,
    problem: Problem,
    t: Option<DType>,
    snippet: Option<String>,
}

impl KernelError {
    pub(super) fn new(path: &str, problem: Problem) -> KernelError {
        let details = Details { path: path.to_owned(), location: None, problem, t: None, snippet: None };
        KernelError(Box::new(details))
    }

    pub(super) fn at(mut self, location: Option<Location>, snippet: String) -> KernelError {
        self.0.location = location;
        self.0.snippet = Some(snippet);
        self
    }

    pub(super) fn with_t(mut self, t: Option<DType>) -> KernelError {
        self.0.t = t;
        self
    }

    /// What messages call the text: a file, or `kernel`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Where it is wrong, if at one place.
    pub fn location(&self) -> Option<Location> {
        self.0.location
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// What `T` was while the problem showed, where the text leaves it open and the problem is not the same for all.
    pub fn t(&self) -> Option<DType> {
        self.0.t
    }

    /// The message with the user's own lines underlined, as compilers show it. Ends with a line break.
    pub fn rendered(&self) -> String {
        let Details { snippet, t, .. } = &*self.0;
        let mut text = snippet.clone().unwrap_or_else(|| format!("error: {self}\n"));
        if let (Some(_), Some(t)) = (snippet, t) {
            text.push_str(&format!("  = with T = {t}\n"));
        }
        text
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { path, location, problem, t, .. } = &*self.0;
        write!(f, "{path}")?;
        if let Some(Location { line, column }) = location {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {problem}")?;
        match t {
            Some(t) => write!(f, " (with T = {t})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KernelError {}

/// What is wrong with a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Problem {
    /// It is no WGSL.
    #[error("{0}")]
    Parse(String),
    /// It is WGSL, but invalid.
    #[error("{0}")]
    Invalid(String),
    /// More text than anybody writes.
    #[error("a kernel has at most {max} bytes, this one has {bytes}")]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// [`super::TEXT_BYTES_MAX`].
        max: u64,
    },
    /// A limit that keeps hostile text from exhausting the compiler.
    #[error("too many {what}: at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: String,
        /// How many may be.
        max: u64,
    },
    /// An array whose length cannot be bounded before the text is parsed.
    #[error("an array's length is made of numbers and of constants that are so made, by + * / %")]
    ArrayLength,
    /// Something no kernel function may contain.
    #[error("a kernel function has no {what}: it sees its arguments, constants and local variables alone")]
    Forbidden {
        /// The thing, in WGSL's words.
        what: String,
    },
    /// Something no block kernel may contain.
    #[error(
        "a block kernel has no {what}: it sees its storage buffers, workgroup, private and local variables, and constants"
    )]
    ForbiddenInBlock {
        /// The thing, in WGSL's words.
        what: String,
    },
    /// An entry point, in what is to be a kernel of another kind.
    #[error("`{name}` is a compute entry point, which makes this text a block kernel, and no other")]
    BlockKernel {
        /// The entry point's name.
        name: String,
    },
    /// A block kernel without `@compute`.
    #[error("there is no entry point: a block kernel has one, `@compute @workgroup_size(64) fn f(...)`")]
    NoEntryPoint,
    /// More than one entry point.
    #[error("there are several entry points ({}): name one, as in `file.wgsl#{}`", .0.join(", "), .0[0])]
    SeveralEntryPoints(Vec<String>),
    /// A block kernel that writes nothing.
    #[error("nothing is written: a block kernel has an output, `var<storage, read_write> y: array<f32>`")]
    NoOutput,
    /// A storage buffer that breaks the contract of block kernels.
    #[error("buffer `{name}` {why}: {BUFFERS}")]
    Buffer {
        /// The variable.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// An argument of an entry point that no block kernel is given.
    #[error(
        "argument `{name}`: an entry point is told global_invocation_id, local_invocation_id, local_invocation_index, workgroup_id and num_workgroups"
    )]
    BuiltIn {
        /// The argument.
        name: String,
    },
    /// Half precision.
    #[error("f16 is a storage dtype, not a compute dtype: use f32")]
    Half,
    /// No function at all.
    #[error("there is no function")]
    NoFunction,
    /// More than one function that no other calls.
    #[error("several functions are called by no other ({}): name one, as in `file.wgsl#{}`", .0.join(", "), .0[0])]
    SeveralFunctions(Vec<String>),
    /// No function has the name asked for.
    #[error("there is no function `{name}`: {}", candidates(.functions))]
    NoSuchFunction {
        /// What was asked for.
        name: String,
        /// What there is.
        functions: Vec<String>,
    },
    /// A parameter that is no scalar.
    #[error(
        "parameter `{parameter}` of `{function}` has type {found}: parameters are {SCALARS}, and `at: At` as the last one"
    )]
    ParameterType {
        /// The function.
        function: String,
        /// The parameter.
        parameter: String,
        /// Its type.
        found: String,
    },
    /// `at: At` is not the last parameter, or where it cannot be.
    #[error("parameter `{parameter}` of `{function}`: only the last parameter of an element function can be an `At`")]
    AtMisplaced {
        /// The function.
        function: String,
        /// The parameter.
        parameter: String,
    },
    /// No result, or one that is no scalar.
    #[error("`{function}` returns {found}: a result is one of {SCALARS}, or a struct of them")]
    ResultType {
        /// The function.
        function: String,
        /// What it returns.
        found: String,
    },
    /// A reduction kernel lacks a function.
    #[error("there is no function `{name}`: a reduction kernel has identity, lift, combine and finish")]
    MissingFunction {
        /// Which.
        name: String,
    },
    /// A function of a reduction kernel has another signature than it must.
    #[error("`{found}` must be `{expected}`, where A is what identity returns")]
    Signature {
        /// Its signature.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// An accumulator that cannot be stored.
    #[error(
        "the accumulator {name} {why}: it must be a number, or a struct of numbers, vectors, matrices and arrays, of at most {} bytes",
        super::ACCUMULATOR_BYTES_MAX
    )]
    Accumulator {
        /// Its type.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// `T` is open, and nothing says what it is.
    #[error("the kernel uses `T`: say what it is")]
    TypeNeeded,
    /// The arguments fit no signature of the kernel.
    #[error("`{function}` takes ({expected}), and was given ({found})")]
    Arguments {
        /// The function.
        function: String,
        /// The parameters' dtypes.
        expected: String,
        /// The arguments' dtypes.
        found: String,
    },
}

const BUFFERS: &str = "in @group(0), from @binding(0) on, are the inputs (`var<storage, read> x: array<f32>`), the outputs (`var<storage, read_write> y: array<f32>`, or of atomics), then `info: BlockInfo` or nothing; arrays are of numbers";
const SCALARS: &str = "f32, f64, i32, u32, i64, u64 or bool";

fn candidates(functions: &[String]) -> String {
    match functions.is_empty() {
        true => "there is none at all".to_owned(),
        false => format!("there is {}", functions.join(", ")),
    }
}

/// Something legal that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub location: Location,
    /// What, in one line.
    pub message: String,
}
