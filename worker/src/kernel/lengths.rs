//! What a text makes naga write out is bounded, and that is known before naga sees it: naga evaluates constant
//! expressions while it parses. `array<bool, 2000000000>() == x` would take 8 GB of it, and each mention of a constant
//! in a function is a copy of its whole value.
//!
//! A length is bounded from above without being evaluated: for numbers `v` joined by `+ * / %`, the product of all
//! `v + 1` is a bound, below which nothing wraps (a difference might). What is not so made is refused. What a name
//! stands for is bounded by all that its declaration mentions, the elements of an array once for each.
//!
//! Scopes are not followed: of several declarations of one name the largest counts.

use std::collections::BTreeMap;

use super::tokens::{Placed, Token};
use super::{Problem, TEXT_BYTES_MAX};

/// The most elements of an array. WGSL itself promises 2,047.
const LENGTH_MAX: u64 = 16_384;
/// The most tokens of an array's type, so that looking for its end takes linear time.
const TYPE_TOKENS_MAX: usize = 256;
/// The most values that a text comes to when all names are replaced by what they stand for: as many as the longest
/// text could spell out.
const VALUES_MAX: u64 = TEXT_BYTES_MAX as u64;
/// How deep names may stand for names that are declared after them.
const NAMES_DEPTH_MAX: u64 = 64;

/// A problem, and the byte offset at which it shows.
type Found = (Problem, usize);

/// Checks the length of every array type, and what all names come to.
pub(super) fn check(tokens: &[Placed<'_>]) -> Result<(), Found> {
    Names { declared: declarations(tokens), known: BTreeMap::new() }.values(tokens, 0).map(drop)
}

/// What follows each name after `const`, `alias` or `struct`, up to the end of the declaration.
fn declarations<'a, 'b>(tokens: &'b [Placed<'a>]) -> BTreeMap<&'a str, Vec<&'b [Placed<'a>]>> {
    let mut found: BTreeMap<&str, Vec<&[Placed<'_>]>> = BTreeMap::new();
    let mut open: Option<(&str, usize)> = None;
    for (at, &(token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Word("const" | "alias" | "struct") => match tokens.get(at + 1) {
                Some(&(Token::Word(name), _)) => open = Some((name, at + 2)),
                _ => open = None,
            },
            // The members of a struct.
            Token::Symbol('{') if open.is_some_and(|(_, start)| start == at) => {}
            Token::Symbol(';' | '{' | '}') => {
                if let Some((name, start)) = open.take() {
                    found.entry(name).or_default().push(&tokens[start..at]);
                }
            }
            Token::Word(_) | Token::Number(_) | Token::Symbol(_) => {}
        }
    }
    found
}

/// What a name stands for, bounded from above.
#[derive(Clone, Copy)]
struct Meaning {
    /// As a number; `None` if it may be none, or any.
    number: Option<u64>,
    /// How many values it has.
    values: u64,
}

/// The names that a text declares.
struct Names<'a, 'b> {
    declared: BTreeMap<&'a str, Vec<&'b [Placed<'a>]>>,
    known: BTreeMap<&'a str, Meaning>,
}

impl<'a, 'b> Names<'a, 'b> {
    /// What the name at `offset` stands for, if it is declared. `depth` names stand for something with this one in it.
    fn meaning(&mut self, name: &'a str, offset: usize, depth: u64) -> Result<Option<Meaning>, Found> {
        if let Some(known) = self.known.get(name) {
            return Ok(Some(*known));
        }
        let Some(declared) = self.declared.get(name).cloned() else { return Ok(None) };
        if depth >= NAMES_DEPTH_MAX {
            return Err((too_many("names within names", NAMES_DEPTH_MAX), offset));
        }
        let mut meaning = Meaning { number: Some(0), values: 0 };
        for declaration in declared {
            let is_equals = |(token, _): &Placed<'_>| *token == Token::Symbol('=');
            let number = match declaration.iter().position(is_equals) {
                Some(equals) => self.bound(&declaration[equals + 1..], depth + 1)?,
                None => None,
            };
            meaning.number = meaning.number.zip(number).map(|(a, b)| a.max(b));
            meaning.values = meaning.values.max(self.values(declaration, depth + 1)?);
        }
        self.known.insert(name, meaning);
        Ok(Some(meaning))
    }

    /// How many values `tokens` come to. Checks the length of every array type among them.
    fn values(&mut self, tokens: &'b [Placed<'a>], depth: u64) -> Result<u64, Found> {
        let mut values = 0u64;
        // The arrays whose element is being written: how many there are of it in all, and the comma at which it ends.
        let mut arrays: Vec<(u64, usize)> = Vec::new();
        for (at, &(token, offset)) in tokens.iter().enumerate() {
            arrays.pop_if(|(_, comma)| *comma == at);
            let times = arrays.last().map_or(1, |(times, _)| *times);
            let once = match token {
                Token::Word("array") => {
                    let ahead = &tokens[at + 1..];
                    let list = list(&ahead[..ahead.len().min(TYPE_TOKENS_MAX)]).map_err(|problem| (problem, offset))?;
                    if let Some((comma, end)) = list {
                        let length = self.length(&ahead[comma + 1..end], depth)?;
                        arrays.push((times.saturating_mul(length), at + 1 + comma));
                    }
                    1
                }
                Token::Word(name) if is_mention(tokens, at) => {
                    self.meaning(name, offset, depth)?.map_or(1, |meaning| meaning.values)
                }
                Token::Word(_) | Token::Number(_) => 1,
                Token::Symbol(_) => 0,
            };
            values = values.saturating_add(times.saturating_mul(once));
            if values > VALUES_MAX {
                return Err((too_many("values in constants and types, each mention counted", VALUES_MAX), offset));
            }
        }
        Ok(values)
    }

    /// At least the length of an array.
    fn length(&mut self, expression: &'b [Placed<'a>], depth: u64) -> Result<u64, Found> {
        let offset = expression.first().map_or(0, |(_, offset)| *offset);
        match self.bound(expression, depth)? {
            Some(bound) if bound <= LENGTH_MAX => Ok(bound),
            Some(_) => Err((too_many("elements in one array", LENGTH_MAX), offset)),
            None => Err((Problem::ArrayLength, offset)),
        }
    }

    /// At least the value of a constant expression.
    fn bound(&mut self, expression: &'b [Placed<'a>], depth: u64) -> Result<Option<u64>, Found> {
        let mut values = Vec::new();
        for &(token, offset) in expression {
            let value = match token {
                Token::Number(number) => integer(number),
                Token::Word(name) => self.meaning(name, offset, depth)?.and_then(|meaning| meaning.number),
                Token::Symbol('+' | '*' | '/' | '%' | '(' | ')' | ',') => continue,
                Token::Symbol(_) => None,
            };
            match value {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(match values.as_slice() {
            [value] => *value,
            values => values.iter().fold(1, |product, value| product.saturating_mul(value.saturating_add(1))),
        }))
    }
}

/// Whether a word is not the name of a member, nor that of something whose type follows.
fn is_mention(tokens: &[Placed<'_>], at: usize) -> bool {
    let is_symbol = |at: usize, symbol| tokens.get(at).is_some_and(|(token, _)| *token == Token::Symbol(symbol));
    let (is_member, is_typed) = (at > 0 && is_symbol(at - 1, '.'), is_symbol(at + 1, ':'));
    !is_member && !is_typed
}

/// Where the first comma and the `>` are of the list that follows the word `array`, if one with a comma does.
fn list(tokens: &[Placed<'_>]) -> Result<Option<(usize, usize)>, Problem> {
    if !matches!(tokens.first(), Some((Token::Symbol('<'), _))) {
        return Ok(None);
    }
    let mut open = vec!['<'];
    let mut comma = None;
    for (at, &(token, offset)) in tokens.iter().enumerate().skip(1) {
        // A list opens after a word, and not with the first half of `<<` or `<=`.
        let is_list = || {
            let half = [(Token::Symbol('<'), offset + 1), (Token::Symbol('='), offset + 1)];
            matches!(tokens[at - 1].0, Token::Word(_)) && tokens.get(at + 1).is_some_and(|next| !half.contains(next))
        };
        match token {
            Token::Symbol('<') if is_list() => open.push('<'),
            Token::Symbol(bracket @ ('(' | '[')) => open.push(bracket),
            Token::Symbol('>') if open.last() == Some(&'<') => {
                open.pop();
            }
            Token::Symbol(')' | ']') => {
                let inner = open.iter().rposition(|&bracket| bracket != '<');
                open.truncate(inner.unwrap_or(0));
            }
            Token::Symbol(',') if open.len() == 1 => comma = comma.or(Some(at)),
            Token::Symbol(';' | '{' | '}') => break,
            Token::Word(_) | Token::Number(_) | Token::Symbol(_) => {}
        }
        if open.is_empty() {
            return Ok(comma.map(|comma| (comma, at)));
        }
    }
    Err(Problem::ArrayLength)
}

fn integer(number: &str) -> Option<u64> {
    let digits = number.trim_end_matches(['u', 'i', 'l']);
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn too_many(what: &str, max: u64) -> Problem {
    Problem::TooMany { what: what.to_owned(), max }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    #[track_caller]
    fn check_text(text: &str, fits: bool) {
        assert_eq!(check(&tokens(text)).is_ok(), fits, "{text}");
    }

    #[test]
    fn lengths_are_bounded() {
        check_text("var a: array<f32, 16384>;", true);
        check_text("var a: array<f32, 16385>;", false);
        check_text("var a: array<f32, 0x10u,>;", true);
        check_text("var a: array<f32>; a < b, 99999 > c;", true);
        check_text("const N = 64; const M: u32 = N * 2 + 1; var a: array<f32, M>;", true);
        check_text("const N = 6400; const M: u32 = N * N; var a: array<f32, M>;", false);
        check_text("const N = 1 << 30; var a: array<f32, N>;", false);
        check_text("const N = 1 << 30; fn f() { return N * array(1, 2)[0]; }", true);
        check_text("var a: array<array<vec2<f32>, 4>, (4 * (2 + 1))>;", true);
        check_text("var a: array<f32, u32(4)>;", false);
        check_text("var a: array<f32, 4 - 1>;", false);
        check_text("var a: array<array<f32, 999999>, 2>;", false);
        check_text("var a: array<f32, max(4, 999)>;", false);
        check_text("const N = 4; fn f() { const N = 99999; var a: array<f32, N>; }", false);
        check_text("var a: array<f32, 1 << 30>;", false);
        check_text("const N = 4; var a: array<f32, N << 30>;", false);
        check_text("const N = 4; var a: array<f32, (N >> 1) + 99999>;", false);
        check_text("var a: array<f32, (9 >> 1) + 99999>;", false);
        check_text("var a: array<f32, (4)>;", true);
        check_text("const N = 4; var a: array<f32, N>=0;", true);
        check_text("var a: array<f32, 4;", false);
        check_text(&"array<f32, ".repeat(100_000), false);
        check_text("const N = M; const M = 99999; var a: array<f32, N>;", false);
        check_text("var a: array<f32, N>; const N = M; const M: u32 = 64;", true);
        check_text("fn f() { const N = 8; var a: array<f32, N>; } fn g() { const N = 9; var a: array<f32, N>; }", true);
    }

    #[test]
    fn lengths_do_not_wrap_and_scopes_do_not_hide_them() {
        check_text("const b = array<bool, 0u - 1u>() == array<bool, 0u - 1u>();", false);
        check_text("const b = array<bool, u32(-1i)>() == array<bool, u32(-1i)>();", false);
        let hidden = "fn g() { const N = 4; } const M = N; const N = 4294967295u;";
        check_text(&format!("{hidden} const b = array<bool, M>() == array<bool, M>();"), false);
        check_text("const N = N + 1; var a: array<f32, N>;", false);
    }

    #[test]
    fn types_and_constants_do_not_multiply() {
        let members = |ty: &str| (0..100).map(|at| format!("m{at}: {ty},")).collect::<String>();
        let (a, s) = (members("A"), members("S"));
        check_text(&format!("alias A = array<bool, 100>; struct S {{ {a} }} const b = S() == S();"), true);
        check_text(
            &format!("alias A = array<bool, 16384>; struct S {{{a}}} struct R {{{s}}} const b = R() == R();"),
            false,
        );
        check_text(&format!("struct R {{{s}}} struct S {{{a}}} alias A = array<bool, 16384>;"), false);
        check_text("alias A = array<bool, 9999>; const b = array<A, 9999>() == array<A, 9999>();", false);
        let table = format!("const t = array({});", "0,".repeat(1000));
        let uses = |count: usize| format!("{table} fn f() {{ {} }}", "x += t[0];".repeat(count));
        check_text(&uses(500), true);
        check_text(&uses(5_000), false);
        let doubled: String = (1..64).map(|at| format!("const a{at} = array(a{0}, a{0});", at - 1)).collect();
        check_text(&format!("const a0 = 1; {doubled}"), false);
        check_text("const a = 1; fn f() { const a = array(a, a); { const a = array(a, a); } }", false);
        check_text("struct Table { table: array<f32, 4> } const table = Table(); const x = v.x;", true);
    }

    /// One pass, however many constants are begun.
    #[test]
    fn hostile_texts_are_read_once() {
        let begun = std::time::Instant::now();
        check_text(&format!("fn f() {{ {} }}", "const ".repeat(150_000)), true);
        check_text(&format!("fn f() {{ {} }}", "const a = ".repeat(100_000)), true);
        assert!(begun.elapsed().as_secs() < 5);
    }
}
