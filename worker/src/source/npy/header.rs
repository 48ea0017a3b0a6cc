//! The dictionary in a `.npy` header: a Python literal with three known keys, parsed and nothing more.

use super::NpyProblem;
use crate::shape::{Shape, ShapeError};
use crate::stage::Stored;

/// What the dictionary says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) stored: Stored,
    pub(super) big_endian: bool,
    pub(super) fortran: bool,
    pub(super) shape: Shape,
}

/// Characters of a dtype that are shown when it is refused.
const SHOWN_MAX: usize = 80;

impl Header {
    /// From the text of the dictionary and its padding.
    pub(super) fn parse(text: &[u8]) -> Result<Header, NpyProblem> {
        let mut parser = Parser { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        parser.expect(b'{', "it is no dictionary")?;
        while !parser.accept(b'}') {
            let key = parser.string()?;
            parser.expect(b':', "a key is followed by no colon")?;
            let is_new = match key {
                b"descr" => descr.replace(parser.descr()?).is_none(),
                b"fortran_order" => fortran.replace(parser.truth()?).is_none(),
                b"shape" => shape.replace(parser.shape()?).is_none(),
                _ => return Err(NpyProblem::Header("it has an unknown key")),
            };
            if !is_new {
                return Err(NpyProblem::Header("a key stands twice"));
            }
            if !parser.accept(b',') {
                parser.expect(b'}', "an entry is followed by no comma")?;
                break;
            }
        }
        match (parser.next(), descr, fortran, shape) {
            (None, Some((stored, big_endian)), Some(fortran), Some(shape)) => {
                Ok(Header { stored, big_endian, fortran, shape })
            }
            (None, ..) => Err(NpyProblem::Header("a key is missing")),
            (Some(_), ..) => Err(NpyProblem::Header("something follows the dictionary")),
        }
    }
}

/// What is still to be read. Every method skips white space first.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    /// The next byte, which stays.
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    /// Whether the next byte was this one; then it is gone.
    fn accept(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), NpyProblem> {
        if self.accept(byte) { Ok(()) } else { Err(NpyProblem::Header(problem)) }
    }

    /// Takes bytes as long as they belong.
    fn take_while(&mut self, mut belongs: impl FnMut(u8) -> bool) -> &'a [u8] {
        self.next();
        let end = self.rest.iter().take_while(|&&byte| belongs(byte)).count();
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A string's raw bytes. None that we know needs an escape.
    fn string(&mut self) -> Result<&'a [u8], NpyProblem> {
        let Some(quote @ (b'\'' | b'"')) = self.next() else {
            return Err(NpyProblem::Header("a string is missing"));
        };
        let inside = &self.rest[1..];
        let end = inside.iter().position(|&byte| byte == quote);
        let end = end.ok_or(NpyProblem::Header("a string does not end"))?;
        self.rest = &inside[end + 1..];
        Ok(&inside[..end])
    }

    fn truth(&mut self) -> Result<bool, NpyProblem> {
        match self.take_while(|byte| byte.is_ascii_alphabetic()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => Err(NpyProblem::Header("fortran_order is neither True nor False")),
        }
    }

    /// How values are stored, and whether big-endian.
    fn descr(&mut self) -> Result<(Stored, bool), NpyProblem> {
        if self.next() == Some(b'[') {
            return Err(NpyProblem::DType(shown(self.fields())));
        }
        let descr = self.string()?;
        let (order, kind) = match descr {
            [order @ (b'<' | b'>' | b'=' | b'|'), kind @ ..] => (*order, kind),
            kind => (b'=', kind),
        };
        let stored = match kind {
            b"f2" => Stored::F16,
            b"f4" => Stored::F32,
            b"f8" => Stored::F64,
            b"i1" => Stored::I8,
            b"u1" => Stored::U8,
            b"i2" => Stored::I16,
            b"u2" => Stored::U16,
            b"i4" => Stored::I32,
            b"u4" => Stored::U32,
            b"i8" => Stored::I64,
            b"u8" => Stored::U64,
            b"b1" => Stored::Bool,
            _ => return Err(NpyProblem::DType(shown(descr))),
        };
        Ok((stored, order == b'>' && stored.bytes() > 1))
    }

    /// A list of fields, to its closing bracket.
    fn fields(&mut self) -> &'a [u8] {
        let mut depth = 0i64;
        let mut is_open = true;
        self.take_while(|byte| {
            let belongs = is_open;
            depth += i64::from(byte == b'[') - i64::from(byte == b']');
            is_open = depth > 0;
            belongs
        })
    }

    fn shape(&mut self) -> Result<Shape, NpyProblem> {
        let text = self.rest;
        self.expect(b'(', "its shape is no tuple")?;
        let mut lengths = Vec::new();
        while !self.accept(b')') {
            let digits = self.take_while(|byte| byte.is_ascii_digit());
            if digits.is_empty() {
                return Err(NpyProblem::Header("a length is no whole number"));
            }
            // Only digits: what does not parse is too large.
            let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
            let overflow = || {
                let shape = text.split_inclusive(|&byte| byte == b')').next().unwrap_or_default();
                ShapeError::Overflow { shape: shown(shape.trim_ascii()) }
            };
            lengths.push(length.ok_or_else(overflow)?);
            // Python 2 wrote some integers so.
            self.accept(b'L');
            let is_last = !self.accept(b',');
            if is_last {
                self.expect(b')', "its shape is no tuple of lengths")?;
                if lengths.len() == 1 {
                    return Err(NpyProblem::Header("its shape is no tuple"));
                }
                break;
            }
        }
        Ok(Shape::new(&lengths)?)
    }
}

/// Foreign text for a message of one line.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    // Quotes are no danger and are easier read as they are.
    shown = shown.replace("\\'", "'");
    if text.chars().nth(SHOWN_MAX).is_some() { shown + "..." } else { shown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";

    fn parse(text: &str) -> Result<Header, NpyProblem> {
        Header::parse(text.as_bytes())
    }

    fn of(descr: &str, shape: &str) -> Result<Header, NpyProblem> {
        parse(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}   \n"))
    }

    #[test]
    fn what_python_writes_is_read() {
        let shape = |lengths: &[u64]| Shape::new(lengths).unwrap();
        let header = |stored, big_endian, fortran, lengths: &[u64]| {
            Ok(Header { stored, big_endian, fortran, shape: shape(lengths) })
        };
        assert_eq!(parse(GOOD), header(Stored::F32, false, false, &[3, 4]));
        assert_eq!(of("'>i8'", "()"), header(Stored::I64, true, false, &[]));
        assert_eq!(of("'|b1'", "(5,)"), header(Stored::Bool, false, false, &[5]));
        // One byte has no order.
        assert_eq!(of("'>u1'", "(0, 7)"), header(Stored::U8, false, false, &[0, 7]));
        // Python 2, other quotes, another order, no spaces.
        let other = "{\"shape\":(3L,4L),'fortran_order':True,'descr':\"f2\"}";
        assert_eq!(parse(other), header(Stored::F16, false, true, &[3, 4]));
    }

    #[test]
    fn what_holds_no_numbers_is_named() {
        let dtype = |descr: &str| match of(descr, "(2,)") {
            Err(NpyProblem::DType(named)) => named,
            other => panic!("{descr}: {other:?}"),
        };
        for descr in ["<c16", "|O", "<U2", "|S3", "<M8[ns]", "<f16", "|V8", "", "<", "b2"] {
            assert_eq!(dtype(&format!("'{descr}'")), descr);
        }
        let fields = "[('a', '<f4'), ('b', '<i4', (2,)), ('c', [('d', '|b1')])]";
        assert_eq!(dtype(fields), fields);
        assert_eq!(dtype("'a\nb'"), "a\\nb");
        assert_eq!(dtype(&format!("'{}'", "x".repeat(500))), "x".repeat(80) + "...");
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let problem = |shape: &str| of("'<f8'", shape).unwrap_err();
        for huge in ["(4611686018427387904, 4)", "(0, 18446744073709551615)", "(99999999999999999999,)"] {
            assert_eq!(problem(huge), NpyProblem::Shape(ShapeError::Overflow { shape: huge.to_owned() }));
        }
        assert_eq!(problem("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), NpyProblem::Shape(ShapeError::Rank { rank: 9 }));
        for shape in ["(3)", "3", "[3]", "(-3,)", "(3 4)", "(3.0,)", "(,)", "(3,", "None", "(3,,4)"] {
            assert!(matches!(problem(shape), NpyProblem::Header(_)), "{shape}");
        }
    }

    #[test]
    fn other_text_is_malformed() {
        let bad = [
            "",
            "{}",
            "{'descr': '<f4'",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), 'more': 1}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': ()}",
            "{'descr': 4, 'fortran_order': False, 'shape': ()}",
            "{descr: '<f4', 'fortran_order': False, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': ()} {}",
        ];
        for text in bad {
            assert!(matches!(parse(text), Err(NpyProblem::Header(_))), "{text}: {:?}", parse(text));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse(&text);
        }

        /// Pieces of headers in any order get further than random bytes do.
        #[test]
        fn no_pieces_break_it(pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "'descr'", ":", "'<f4'", "'shape'", "(", ")", "3", ",", "L", "[", "]", "'", "\"", " ",
            "'fortran_order'", "True", "99999999999999999999", "\\", "\u{e9}", "\0",
        ]), 0..40)) {
            let _ = parse(&pieces.concat());
        }

        /// A header with some bytes changed is refused, or is another header that could have been written.
        #[test]
        fn no_mutation_breaks_it(changes in prop::collection::vec((0..GOOD.len(), any::<u8>()), 1..4)) {
            let mut text = GOOD.as_bytes().to_vec();
            changes.into_iter().for_each(|(at, byte)| text[at] = byte);
            if let Ok(header) = Header::parse(&text) {
                prop_assert!(header.shape.rank() <= 2 && Shape::new(&header.shape).is_ok());
            }
        }
    }
}
