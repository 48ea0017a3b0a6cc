//! A kernel's text as words, numbers and single symbols, without comments and blanks.

/// A token and the byte at which it starts.
pub(super) type Placed<'a> = (Token<'a>, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
    Symbol(char),
}

/// All tokens of a text, whether it is WGSL or not.
pub(super) fn tokens(text: &str) -> Vec<Placed<'_>> {
    Tokens { text, offset: 0 }.collect()
}

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
            let Some(next) = rest.chars().next() else { return };
            let (opens, closes) = (rest.starts_with("/*"), rest.starts_with("*/"));
            open = open + u64::from(opens) - u64::from(closes);
            self.offset += if opens || closes { 2 } else { next.len_utf8() };
            if open == 0 {
                return;
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Placed<'a>;

    fn next(&mut self) -> Option<Placed<'a>> {
        loop {
            let rest = self.rest();
            let offset = self.offset;
            match rest.chars().next()? {
                '/' if rest.starts_with("//") => {
                    self.take_while(|c| !ends_line(c));
                }
                '/' if rest.starts_with("/*") => self.skip_block_comment(),
                c if c.is_ascii_digit() => {
                    return Some((Token::Number(self.take_while(|c| is_word_part(c) || c == '.')), offset));
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
