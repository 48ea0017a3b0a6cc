//! The text that naga parses: the user's, then what the engine appends. Errors are told in the user's lines alone.

use naga::valid::{Capabilities, ModuleInfo, ValidationError, ValidationFlags, Validator};
use naga::{Module, Span, WithSpan};

use super::reason::reason;
use super::survey::{Survey, survey};
use super::{KernelError, KernelSource, Location, Problem, TEXT_BYTES_MAX};
use crate::dtype::DType;

/// What a kernel may be told of the element it computes: rank, global index, block index and block shape.
const AT: &str = "struct At { rank: u32, index: array<u32, 8>, block: array<u32, 8>, shape: array<u32, 8> }";
/// What a block kernel may be told of the block it computes: the output block's first element, its block index and its
/// shape, and the shapes of the input blocks. What is beyond the rank is zero.
const BLOCK_INFO: &str = "struct BlockInfo { rank: u32, start: array<u32, 8>, block: array<u32, 8>, shape: array<u32, 8>, input: array<array<u32, 8>, 8> }";
/// The longest message that is kept of naga's, in characters; also the longest line of a snippet.
const MESSAGE_CHARS_MAX: usize = 240;
/// The most lines that are kept of a snippet.
const SNIPPET_LINES_MAX: usize = 40;

/// A kernel's text on its way through naga.
pub(super) struct Text<'a> {
    path: &'a str,
    user: &'a str,
    /// The user's text and the engine's lines after it; before those only while a survey failed.
    full: String,
    t: Option<DType>,
    has_at: bool,
    has_info: bool,
}

impl<'a> Text<'a> {
    /// Checks the limits and closes what the text leaves open.
    pub(super) fn new(path: &'a str, source: &'a KernelSource) -> Result<Text<'a>, KernelError> {
        let user = source.text.as_str();
        let bytes = user.len();
        if bytes > TEXT_BYTES_MAX {
            let problem = Problem::TooLong { bytes: bytes as u64, max: TEXT_BYTES_MAX as u64 };
            return Err(KernelError::new(path, problem));
        }
        let mut text = Text { path, user, full: user.to_owned(), t: None, has_at: false, has_info: false };
        let Survey { uses_t, uses_at, uses_info } = survey(user)
            .map_err(|(problem, offset)| text.error(problem, Span::new(offset as u32, (offset + 1) as u32)))?;
        if uses_t {
            let t = source.t.ok_or_else(|| KernelError::new(path, Problem::TypeNeeded))?;
            text.full.push_str(&format!("\nalias T = {t};"));
            text.t = Some(t);
        }
        if uses_at {
            text.full.push('\n');
            text.full.push_str(AT);
            text.has_at = true;
        }
        if uses_info {
            text.full.push('\n');
            text.full.push_str(BLOCK_INFO);
            text.has_info = true;
        }
        Ok(text)
    }

    /// Whether `At` is the engine's.
    pub(super) fn has_at(&self) -> bool {
        self.has_at
    }

    /// Whether `BlockInfo` is the engine's.
    pub(super) fn has_info(&self) -> bool {
        self.has_info
    }

    pub(super) fn parse(&self) -> Result<Module, KernelError> {
        naga::front::wgsl::parse_str(&self.full).map_err(|error| {
            let is_mine = |offset: u32| offset as usize >= self.user.len();
            if error.location(&self.full).is_some_and(|location| is_mine(location.offset)) {
                // Something of the user's is left open at the end, and naga saw it only in the engine's lines.
                if let Err(error) = naga::front::wgsl::parse_str(self.user) {
                    return self.parse_error(self.user, &error);
                }
            }
            self.parse_error(&self.full, &error)
        })
    }

    fn parse_error(&self, text: &str, error: &naga::front::wgsl::ParseError) -> KernelError {
        let offset = error.labels().find_map(|(span, _)| span.to_range()).map(|range| range.start);
        let location = offset.map(|offset| Location::of(self.user, offset));
        let snippet = error.emit_to_string_with_path(text, self.path);
        let message = one_line(error.message()).replace("found \"\"", "found the end of the text");
        let problem = Problem::Parse(message);
        KernelError::new(self.path, problem).at(location, cut(&snippet)).with_t(self.t)
    }

    pub(super) fn validate(&self, module: &Module) -> Result<ModuleInfo, KernelError> {
        validate(module).map_err(|error| match reason(module, error.as_inner()) {
            Some((reason, span)) => self.error(Problem::Invalid(reason), span),
            None => self.validation_error(&error),
        })
    }

    fn validation_error(&self, error: &WithSpan<ValidationError>) -> KernelError {
        let innermost = error.spans().filter_map(|(span, _)| span.to_range()).min_by_key(|range| range.len());
        let location = innermost.map(|range| Location::of(self.user, range.start));
        let snippet = error.emit_to_string_with_path(&self.full, self.path);
        let problem = Problem::Invalid(one_line(&causes(error)));
        KernelError::new(self.path, problem).at(location, cut(&snippet)).with_t(self.t)
    }

    /// One of the engine's own errors, at a place of the user's text or nowhere.
    pub(super) fn error(&self, problem: Problem, span: Span) -> KernelError {
        let location = span.to_range().map(|range| Location::of(self.user, range.start));
        let marked = WithSpan::new(problem.clone()).with_span(span, "here");
        let snippet = marked.emit_to_string_with_path(&self.full, self.path);
        KernelError::new(self.path, problem).at(location, cut(&snippet)).with_t(self.t)
    }

    /// Where a span begins.
    pub(super) fn location(&self, span: Span) -> Location {
        Location::of(self.user, span.to_range().map_or(0, |range| range.start))
    }
}

/// naga's validator with what kernels may use: all compute dtypes, and no f16.
pub(super) fn validate(module: &Module) -> Result<ModuleInfo, Box<WithSpan<ValidationError>>> {
    let capabilities = Capabilities::FLOAT64 | Capabilities::SHADER_INT64;
    Validator::new(ValidationFlags::all(), capabilities).validate(module).map_err(Box::new)
}

/// An error's chain of causes without its head, which speaks of naga's handles.
pub(super) fn causes(error: &WithSpan<ValidationError>) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.is_empty() {
        true => error.to_string(),
        false => causes.join(": "),
    }
}

fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    clipped(&words.join(" "))
}

fn clipped(line: &str) -> String {
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}

/// A snippet that stays readable, and small on the wire, whatever the text.
fn cut(snippet: &str) -> String {
    snippet.lines().take(SNIPPET_LINES_MAX).map(|line| clipped(line.trim_end()) + "\n").collect()
}
