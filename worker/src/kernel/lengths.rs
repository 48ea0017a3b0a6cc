//! No array of a kernel is long, and that is known before naga sees the text: naga evaluates constant expressions while
//! it parses, and `array<bool, 2000000000>() == x` would take 8 GB of it.
//!
//! A length is bounded from above without being evaluated: for numbers `v` joined by `+ - * / %`, the product of all
//! `v + 1` is a bound. What is not so made is refused.

use std::collections::BTreeMap;

use super::Problem;
use super::tokens::{Placed, Token};

/// The most elements of an array. WGSL itself promises 2,047.
const LENGTH_MAX: u64 = 16_384;
/// The most tokens of an array's type, so that looking for its end takes linear time.
const TYPE_TOKENS_MAX: usize = 256;

/// Checks the length of every array type. The error comes with its byte offset.
pub(super) fn check(tokens: &[Placed<'_>]) -> Result<(), (Problem, usize)> {
    let mut constants: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for (at, &(token, offset)) in tokens.iter().enumerate() {
        match token {
            Token::Word("const") => {
                if let Some((name, value)) = constant(&tokens[at + 1..]) {
                    let bound = bound(value, &constants);
                    // Scopes are not followed: of several constants of one name the largest counts.
                    let merged = constants.get(name).map_or(bound, |&known| known.zip(bound).map(|(a, b)| a.max(b)));
                    constants.insert(name, merged);
                }
            }
            Token::Word("array") => {
                let ahead = &tokens[at + 1..];
                let length = length(&ahead[..ahead.len().min(TYPE_TOKENS_MAX)]);
                if let Some(length) = length.map_err(|problem| (problem, offset))? {
                    check_length(length, &constants)?;
                }
            }
            Token::Word(_) | Token::Number(_) | Token::Symbol(_) => {}
        }
    }
    Ok(())
}

fn check_length(length: &[Placed<'_>], constants: &BTreeMap<&str, Option<u64>>) -> Result<(), (Problem, usize)> {
    let offset = length.first().map_or(0, |(_, offset)| *offset);
    match bound(length, constants) {
        Some(bound) if bound <= LENGTH_MAX => Ok(()),
        Some(_) => Err((Problem::TooMany { what: "elements in one array".to_owned(), max: LENGTH_MAX }, offset)),
        None => Err((Problem::ArrayLength, offset)),
    }
}

/// The name and the initializer after the word `const`.
fn constant<'a, 'b>(tokens: &'b [Placed<'a>]) -> Option<(&'a str, &'b [Placed<'a>])> {
    let Some(&(Token::Word(name), _)) = tokens.first() else { return None };
    let end = tokens.iter().position(|(token, _)| matches!(token, Token::Symbol(';' | '{' | '}')))?;
    let start = tokens[..end].iter().position(|(token, _)| *token == Token::Symbol('='))?;
    Some((name, &tokens[start + 1..end]))
}

/// What stands between the first comma and the `>` of the list that follows the word `array`, if one does.
fn length<'a, 'b>(tokens: &'b [Placed<'a>]) -> Result<Option<&'b [Placed<'a>]>, Problem> {
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
            return Ok(comma.map(|comma| &tokens[comma + 1..at]));
        }
    }
    Err(Problem::ArrayLength)
}

/// At least the value of a constant expression.
fn bound(expression: &[Placed<'_>], constants: &BTreeMap<&str, Option<u64>>) -> Option<u64> {
    let mut values = Vec::new();
    for (token, _) in expression {
        match token {
            Token::Number(number) => values.push(integer(number)?),
            Token::Word("u32" | "i32") => {}
            Token::Word(name) => values.push((*constants.get(name)?)?),
            Token::Symbol('+' | '-' | '*' | '/' | '%' | '(' | ')' | ',') => {}
            Token::Symbol(_) => return None,
        }
    }
    match values.as_slice() {
        [value] => Some(*value),
        values => Some(values.iter().fold(1u64, |product, value| product.saturating_mul(value.saturating_add(1)))),
    }
}

fn integer(number: &str) -> Option<u64> {
    let digits = number.trim_end_matches(['u', 'i', 'l']);
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
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
        check_text("var a: array<array<vec2<f32>, 4>, u32(4 * (2 + 1))>;", true);
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
    }
}
