//! One pass over a kernel's tokens before naga sees the text: which of the engine's names it leaves open, and whether
//! it is nested so deeply that parsing it would exhaust the stack.
//!
//! naga parses and lowers expressions by recursion. Its own limit counts parentheses and blocks, but neither runs of
//! unary operators, nor chains of binary operators or of `else if`, nor chains of declarations. So they are counted
//! here, on tokens alone. This is no parser: it says nothing about whether the text is WGSL.

use super::tokens::{Placed, Token, tokens};
use super::{Problem, lengths};

/// How deep one place of the text may be, where an operator counts 1. Parsing it then takes less than 512 KiB of stack.
const DEPTH_MAX: u64 = 512;
/// What a bracket, the `<` of a type or an `else` counts: parsing one takes as much stack as some operators.
const BRACKET_DEPTH: u64 = 4;
/// Functions, constants, structs and aliases of one text.
const DECLARATIONS_MAX: u64 = 1024;

/// What a text leaves to the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// `T` is used and not declared.
    pub(super) uses_t: bool,
    /// `At` is used and not declared.
    pub(super) uses_at: bool,
    /// `BlockInfo` is used and not declared.
    pub(super) uses_info: bool,
}

/// A problem, and the byte offset at which it shows.
pub(super) type Found = (Problem, usize);

/// Looks at all tokens of a text.
pub(super) fn survey(text: &str) -> Result<Survey, Found> {
    let tokens = tokens(text);
    check_limits(&tokens)?;
    lengths::check(&tokens)?;
    match left_open(&tokens, "f16") {
        Some(offset) => Err((Problem::Half, offset)),
        None => Ok(Survey {
            uses_t: left_open(&tokens, "T").is_some(),
            uses_at: left_open(&tokens, "At").is_some(),
            uses_info: left_open(&tokens, "BlockInfo").is_some(),
        }),
    }
}

/// Where `name` is first used, if no declaration of the module gives it a meaning.
fn left_open(tokens: &[Placed<'_>], name: &str) -> Option<usize> {
    let is_word = |at: usize, word: &str| tokens.get(at).is_some_and(|(token, _)| *token == Token::Word(word));
    let is_symbol = |at: usize, symbol| tokens.get(at).is_some_and(|(token, _)| *token == Token::Symbol(symbol));
    let mut used = None;
    let mut depth = 0u32;
    for (at, &(token, offset)) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('{') => depth += 1,
            Token::Symbol('}') => depth = depth.saturating_sub(1),
            Token::Word(word) if word == name => {
                let after = |words: &[&str]| at > 0 && words.iter().any(|word| is_word(at - 1, word));
                if depth == 0 && after(&["alias", "struct", "fn", "const", "override"]) {
                    return None;
                }
                let is_member = at > 0 && is_symbol(at - 1, '.');
                let is_named_here = is_symbol(at + 1, ':') || after(&["let", "var", "const"]);
                if !is_member && !is_named_here {
                    used = used.or(Some(offset));
                }
            }
            Token::Word(_) | Token::Number(_) | Token::Symbol(_) => {}
        }
    }
    used
}

/// One open bracket, or the whole text, and what the place in it is inside of.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Of the expression that is being written.
    operators: u64,
    /// Of the `if` that is being written: the tenth `else if` is nested ten deep.
    elses: u64,
}

/// Counts, for each place, the operators, brackets and `else`s of all that it is inside of: no recursion of a parser
/// goes deeper. A `,` or `;` ends what was counted at its level, and so does a `}` that no `else` follows.
fn check_limits(tokens: &[Placed<'_>]) -> Result<(), Found> {
    let mut declarations = 0u64;
    let mut level = Level::default();
    let mut outer: Vec<Level> = Vec::new();
    let mut outer_depth = 0u64;
    for (at, &(token, offset)) in tokens.iter().enumerate() {
        match token {
            Token::Symbol(open @ ('(' | '[' | '{')) => {
                let operators = if open == '{' { 0 } else { level.operators };
                let around = Level { operators: operators + BRACKET_DEPTH, ..level };
                outer_depth += around.depth();
                outer.push(around);
                level = Level::default();
            }
            Token::Symbol(close @ (')' | ']' | '}')) => {
                level = outer.pop().unwrap_or_default();
                outer_depth -= level.depth();
                let goes_on = tokens.get(at + 1).is_some_and(|(next, _)| *next == Token::Word("else"));
                if close == '}' && !goes_on {
                    level = Level::default();
                }
            }
            Token::Symbol(',' | ';') => level = Level::default(),
            Token::Symbol('<') if at > 0 && matches!(tokens[at - 1].0, Token::Word(_)) => {
                level.operators += BRACKET_DEPTH;
            }
            Token::Symbol(_) => level.operators += 1,
            Token::Word("else") => level.elses += BRACKET_DEPTH,
            Token::Word("fn" | "const" | "struct" | "alias" | "override" | "const_assert") if outer.is_empty() => {
                declarations += 1;
            }
            Token::Word(_) | Token::Number(_) => {}
        }
        check("operators and brackets around one place", outer_depth + level.depth(), DEPTH_MAX, offset)?;
        check("declarations", declarations, DECLARATIONS_MAX, offset)?;
    }
    Ok(())
}

impl Level {
    fn depth(self) -> u64 {
        self.operators + self.elses
    }
}

fn check(what: &str, count: u64, max: u64, offset: usize) -> Result<(), Found> {
    match count > max {
        true => Err((Problem::TooMany { what: what.to_owned(), max }, offset)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_open(text: &str, uses_t: bool, uses_at: bool) {
        assert_eq!(survey(text), Ok(Survey { uses_t, uses_at, uses_info: text.contains("info:") }), "{text}");
    }

    #[test]
    fn names_are_found_by_tokens() {
        check_open("fn f(x: T) -> T { return x; }", true, false);
        check_open("fn f(x: vec2<T>) {}", true, false);
        check_open("fn f(x: f32) -> f32 { return x; } // T At", false, false);
        check_open("/* T /* At */ T */ fn f() {}", false, false);
        check_open("fn f(Tx: f32, xT: f32, AtT: i32) {}", false, false);
        check_open("fn f(x: f32, at: At) {}", false, true);
        check_open("fn f(p: P) { p.T = p.At; }", false, false);
        check_open("struct P { T: f32, At: f32 }", false, false);
        check_open("alias T = f32; fn f(x: T) {}", false, false);
        check_open("fn f(x: T) {} alias T = f32;", false, false);
        check_open("struct At { a: f32 } fn f(x: At) {}", false, false);
        check_open("fn f() { const T = 3; }", false, false);
        check_open("fn f() { return T(1) /* unfinished", true, false);
        check_open("fn f() { return 1T; } // 0xT", false, false);
        check_open("// T\rfn f(x: T) {}", true, false);
        check_open("fn größe(x: T) {}", true, false);
        check_open("var<storage, read> info: BlockInfo;", false, false);
    }

    #[track_caller]
    fn check_refused(text: &str) {
        let refused = matches!(survey(text), Err((Problem::TooMany { .. }, _)));
        assert!(refused, "{} ...", &text[..text.len().min(60)]);
    }

    #[test]
    fn what_recurses_is_limited() {
        check_refused(&"(".repeat(10_000));
        check_refused(&"-".repeat(10_000));
        check_refused(&format!("fn f() -> f32 {{ return 1{}; }}", "+1".repeat(10_000)));
        check_refused(&format!("fn f() {{ {} }}", "if (a) {} else ".repeat(10_000)));
        check_refused(&format!("fn f() -> f32 {{ return a{}; }}", "[0]".repeat(10_000)));
        check_refused(&format!("fn f() -> f32 {{ return a{}; }}", ".x".repeat(10_000)));
        check_refused(&format!("alias A = {}f32{};", "array<".repeat(10_000), ",2>".repeat(10_000)));
        check_refused(&"const a = b;".repeat(10_000));
        assert!(survey("const a = array<bool, 2000000000>() == b;").is_err());
    }

    #[test]
    fn long_texts_are_not_deep() {
        let lines = "x = x * 2.0 + 1.0; if (x > 3.0) { x = f(x, -x); }\n".repeat(10_000);
        check_open(&format!("fn f(x: f32) -> f32 {{ {lines} }}"), false, false);
        let table = "-1.5, (2.0 + x),".repeat(10_000);
        check_open(&format!("const a = array({table});"), false, false);
    }
}
