//! One pass over a kernel's tokens before naga sees the text: which of the engine's names it leaves open, and whether
//! it is nested so deeply that parsing it would exhaust the stack.
//!
//! naga parses and lowers expressions by recursion. Its own limit counts parentheses and blocks, but neither runs of
//! unary operators, nor chains of binary operators or of `else if`, nor chains of declarations. So they are counted
//! here, on tokens alone. This is no parser: it says nothing about whether the text is WGSL.

use super::Problem;

/// Operators, brackets and `else if`s that one place of the text may be inside of.
const DEPTH_MAX: u64 = 512;
/// Functions, constants, structs and aliases of one text.
const DECLARATIONS_MAX: u64 = 2048;

/// What a text leaves to the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// `T` is used and not declared.
    pub(super) uses_t: bool,
    /// `At` is used and not declared.
    pub(super) uses_at: bool,
}

/// A problem, and the byte offset at which it shows.
pub(super) type Found = (Problem, usize);

/// Looks at all tokens of a text.
pub(super) fn survey(text: &str) -> Result<Survey, Found> {
    let tokens: Vec<(Token<'_>, usize)> = Tokens { text, offset: 0 }.collect();
    if let Some((_, offset)) = tokens.iter().find(|(token, _)| *token == Token::Word("f16")) {
        return Err((Problem::Half, *offset));
    }
    check_limits(&tokens)?;
    Ok(Survey { uses_t: leaves_open(&tokens, "T"), uses_at: leaves_open(&tokens, "At") })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Number,
    Symbol(char),
}

/// Whether `name` is used and no declaration of the module gives it a meaning.
fn leaves_open(tokens: &[(Token<'_>, usize)], name: &str) -> bool {
    let is_word = |at: usize, word: &str| tokens.get(at).is_some_and(|(token, _)| *token == Token::Word(word));
    let is_symbol = |at: usize, symbol| tokens.get(at).is_some_and(|(token, _)| *token == Token::Symbol(symbol));
    let mut used = false;
    let mut depth = 0u32;
    for (at, (token, _)) in tokens.iter().enumerate() {
        match *token {
            Token::Symbol('{') => depth += 1,
            Token::Symbol('}') => depth = depth.saturating_sub(1),
            Token::Word(word) if word == name => {
                let after = |words: &[&str]| at > 0 && words.iter().any(|word| is_word(at - 1, word));
                if depth == 0 && after(&["alias", "struct", "fn", "const", "override"]) {
                    return false;
                }
                let is_member = at > 0 && is_symbol(at - 1, '.');
                let is_named_here = is_symbol(at + 1, ':') || after(&["let", "var", "const"]);
                used |= !is_member && !is_named_here;
            }
            Token::Word(_) | Token::Number | Token::Symbol(_) => {}
        }
    }
    used
}

/// Counts, for each place, the operators and brackets of all that it is inside of: no recursion of a parser goes
/// deeper. A `,` or `;` ends what was counted at its level, and so does a `}` that no `else` follows.
fn check_limits(tokens: &[(Token<'_>, usize)]) -> Result<(), Found> {
    let mut declarations = 0u64;
    let mut levels = vec![0u64];
    let mut depth = 0u64;
    for (at, &(token, offset)) in tokens.iter().enumerate() {
        let end_item = |levels: &mut Vec<u64>, depth: &mut u64| {
            if let Some(level) = levels.last_mut() {
                *depth -= std::mem::take(level);
            }
        };
        match token {
            Token::Symbol('(' | '[' | '{') => {
                increment(&mut levels, &mut depth);
                levels.push(0);
            }
            Token::Symbol(close @ (')' | ']' | '}')) => {
                end_item(&mut levels, &mut depth);
                if levels.len() > 1 {
                    levels.pop();
                }
                if close == '}' && tokens.get(at + 1).is_none_or(|(next, _)| *next != Token::Word("else")) {
                    end_item(&mut levels, &mut depth);
                }
            }
            Token::Symbol(',' | ';') => end_item(&mut levels, &mut depth),
            Token::Symbol(_) => increment(&mut levels, &mut depth),
            Token::Word("fn" | "const" | "struct" | "alias" | "override" | "const_assert") if levels.len() == 1 => {
                declarations += 1;
            }
            Token::Word(_) | Token::Number => {}
        }
        check("operators and brackets around one place", depth, DEPTH_MAX, offset)?;
        check("declarations", declarations, DECLARATIONS_MAX, offset)?;
    }
    Ok(())
}

fn increment(levels: &mut [u64], depth: &mut u64) {
    if let Some(level) = levels.last_mut() {
        *level += 1;
        *depth += 1;
    }
}

fn check(what: &str, count: u64, max: u64, offset: usize) -> Result<(), Found> {
    match count > max {
        true => Err((Problem::TooMany { what: what.to_owned(), max }, offset)),
        false => Ok(()),
    }
}

/// Words, numbers and single symbols; comments and blanks are skipped.
struct Tokens<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Tokens<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    /// The characters from here on for which `belongs` holds.
    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.offset += taken.len();
        taken
    }

    /// Block comments nest. One that does not end takes the rest of the text.
    fn skip_block_comment(&mut self) {
        let mut open = 0u64;
        loop {
            let rest = self.rest();
            let step = match rest.chars().next() {
                None => return,
                Some(_) if rest.starts_with("/*") => 2,
                Some(_) if rest.starts_with("*/") => 2,
                Some(c) => c.len_utf8(),
            };
            open += u64::from(rest.starts_with("/*"));
            open -= u64::from(rest.starts_with("*/"));
            self.offset += step;
            if open == 0 {
                return;
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Token<'a>, usize);

    fn next(&mut self) -> Option<(Token<'a>, usize)> {
        loop {
            let rest = self.rest();
            let offset = self.offset;
            match rest.chars().next()? {
                '/' if rest.starts_with("//") => {
                    self.take_while(|c| !ends_line(c));
                }
                '/' if rest.starts_with("/*") => self.skip_block_comment(),
                c if c.is_ascii_digit() => {
                    self.take_while(|c| c.is_alphanumeric() || c == '.');
                    return Some((Token::Number, offset));
                }
                c if is_word_part(c) => return Some((Token::Word(self.take_while(is_word_part)), offset)),
                c => {
                    self.offset += c.len_utf8();
                    if !c.is_whitespace() {
                        return Some((Token::Symbol(c), offset));
                    }
                }
            }
        }
    }
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// WGSL's line breaks.
fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_open(text: &str, uses_t: bool, uses_at: bool) {
        assert_eq!(survey(text), Ok(Survey { uses_t, uses_at }), "{text}");
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
    }

    #[test]
    fn long_texts_are_not_deep() {
        let lines = "x = x * 2.0 + 1.0; if (x > 3.0) { x = f(x, -x); }\n".repeat(10_000);
        check_open(&format!("fn f(x: f32) -> f32 {{ {lines} }}"), false, false);
        let table = "-1.5, (2.0 + x),".repeat(10_000);
        check_open(&format!("const a = array({table});"), false, false);
    }
}
