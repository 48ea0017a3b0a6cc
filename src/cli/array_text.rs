//! An array as NumPy prints it: shortest digits that round-trip, aligned, and `...` for the middle of what is large.
//!
//! [`Corners`] keeps only the elements that are printed, so that a result of any size can be summarised as its blocks
//! pass by. The text is `str(array)` of NumPy 2 with its default options, to the letter.

use std::fmt;

use gridloom_worker::block::Block;
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::shape::{Region, Shape};

/// Larger arrays are summarised.
const ELEMENTS_PRINTED_MAX: u64 = 1000;
/// How many elements of a summarised axis stand on either side of the dots.
const EDGE: u64 = 3;
/// Where lines are broken.
const LINE_WIDTH: usize = 75;
/// The most digits behind the point.
const PRECISION: usize = 8;

/// The elements that are printed of an array: all of a small one, the corners of a large one.
#[derive(Clone, Debug)]
pub struct Corners {
    shape: Shape,
    /// Per axis, the indices that are kept.
    kept: Vec<Vec<u64>>,
    /// The kept elements, C order.
    values: Vec<Scalar>,
}

impl Corners {
    /// Room for the printed elements of an array; all zero until blocks are placed.
    pub fn new(dtype: DType, shape: &Shape) -> Corners {
        let is_summarised = shape.elements() > ELEMENTS_PRINTED_MAX;
        let edges = |length: u64| (0..EDGE).chain(length - EDGE..length).collect();
        let kept_of =
            |&length: &u64| if is_summarised && length > 2 * EDGE { edges(length) } else { (0..length).collect() };
        let kept: Vec<Vec<u64>> = match shape.elements() {
            // The other axes may be of any length.
            0 => vec![Vec::new(); shape.rank()],
            _ => shape.iter().map(kept_of).collect(),
        };
        let count = kept.iter().map(Vec::len).product();
        Corners { shape: shape.clone(), kept, values: vec![Scalar::Bool(false).cast(dtype); count] }
    }

    /// Takes what is printed out of the block that stands at `region`.
    ///
    /// # Panics
    /// If the block holds no values or another number of them than the region has.
    pub fn place(&mut self, region: &Region, block: &Block) {
        let gridloom_worker::block::Item::Value(dtype) = block.item else { panic!("partials are never printed") };
        let (width, strides) = (dtype.bytes() as usize, region.shape().strides());
        let counts: Shape = self.kept.iter().map(|kept| kept.len() as u64).collect();
        // Per axis, which of the kept indices lie in the region.
        let spans = self.kept.iter().enumerate().map(|(axis, kept)| {
            let position = |index: u64| kept.partition_point(|&kept| kept < index) as u64;
            (position(region.start[axis]), position(region.end[axis]))
        });
        let (start, end): (Vec<u64>, Vec<u64>) = spans.unzip();
        let inside = Region { start: start.into_iter().collect(), end: end.into_iter().collect() };
        for at in inside.indices() {
            let offset_on = |axis: usize| (self.kept[axis][at[axis] as usize] - region.start[axis]) * strides[axis];
            let offset = (0..at.rank()).map(offset_on).sum::<u64>() as usize * width;
            let value = Scalar::from_bytes(dtype, &block.bytes()[offset..offset + width]);
            self.values[counts.linear(&at) as usize] = value.expect("the slice is as wide as the dtype");
        }
    }

    /// The elements in C order, if none was left out.
    pub fn whole(&self) -> Option<&[Scalar]> {
        (self.values.len() as u64 == self.shape.elements()).then_some(&self.values)
    }

    /// The rows from `axis` on whose first element is `values[at]`, without the indent of their first line.
    fn rows(&self, words: &[String], axis: usize, at: usize, width: usize) -> String {
        let stride: usize = self.kept[axis + 1..].iter().map(Vec::len).product();
        let is_cut = (self.kept[axis].len() as u64) < self.shape[axis];
        let last = axis + 1 == self.kept.len();
        let indent = " ".repeat(axis + 1);
        let mut rows: Vec<String> = (0..self.kept[axis].len())
            .map(|row| match last {
                true => words[at + row].clone(),
                false => self.rows(words, axis + 1, at + row * stride, width - 1),
            })
            .collect();
        if is_cut {
            rows.insert(EDGE as usize, "...".to_owned());
        }
        let body = match last {
            true => wrapped(&rows, &indent, width - 1),
            false => rows.join(&("\n".repeat(self.kept.len() - axis - 1) + &indent)),
        };
        format!("[{body}]")
    }
}

impl fmt::Display for Corners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values[..] {
            [] => f.write_str("[]"),
            [value] if self.shape.rank() == 0 => f.write_str(&alone(*value)),
            values => f.write_str(&self.rows(&aligned(values), 0, 0, LINE_WIDTH)),
        }
    }
}

/// Words with a space between them, on lines of at most `width` characters, all but the first of them indented.
fn wrapped(words: &[String], indent: &str, width: usize) -> String {
    let (mut lines, mut line) = (String::new(), indent.to_owned());
    for (at, word) in words.iter().enumerate() {
        if line.len() + word.len() > width && line.len() > indent.len() {
            lines += line.trim_end();
            lines.push('\n');
            line = indent.to_owned();
        }
        line += word;
        if at + 1 < words.len() {
            line.push(' ');
        }
    }
    (lines + &line)[indent.len()..].to_owned()
}

/// The values of an array as words of one width.
fn aligned(values: &[Scalar]) -> Vec<String> {
    let words: Vec<String> = match values[0].dtype() {
        DType::F32 | DType::F64 => return aligned_floats(values),
        DType::Bool => values.iter().map(|&value| whole_number(value)).map(|word| format!("{word:>5}")).collect(),
        DType::I32 | DType::U32 | DType::I64 | DType::U64 => values.iter().map(|&value| whole_number(value)).collect(),
    };
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

/// An integer or a bool.
fn whole_number(value: Scalar) -> String {
    match value {
        Scalar::I32(value) => value.to_string(),
        Scalar::U32(value) => value.to_string(),
        Scalar::I64(value) => value.to_string(),
        Scalar::U64(value) => value.to_string(),
        Scalar::Bool(true) => "True".to_owned(),
        Scalar::Bool(false) => "False".to_owned(),
        Scalar::F32(value) => value.to_string(),
        Scalar::F64(value) => value.to_string(),
    }
}

/// A 0-d array: all its digits.
fn alone(value: Scalar) -> String {
    let Some(float) = Float::new(value) else { return whole_number(value) };
    let magnitude = float.value.abs();
    if !float.value.is_finite() {
        return float.special();
    }
    let large = if float.is_f32 { 1e6 } else { 1e16 };
    if magnitude != 0.0 && !(1e-4..large).contains(&magnitude) {
        let Digits { whole, fraction, exponent } = float.scientific(usize::MAX);
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{whole}{point}{fraction}e{}", padded_exponent(exponent, 2));
    }
    let Digits { whole, fraction, .. } = float.positional(usize::MAX);
    format!("{whole}.{}", if fraction.is_empty() { "0" } else { &fraction })
}

/// A float with the digits that its own precision needs.
#[derive(Clone, Copy)]
struct Float {
    /// Exact, whatever the dtype.
    value: f64,
    is_f32: bool,
}

/// The printed parts of a float: `-12.5e-7` is (`-12`, `5`, -7). The fraction has no trailing zeros.
struct Digits {
    whole: String,
    fraction: String,
    exponent: i32,
}

impl Float {
    fn new(value: Scalar) -> Option<Float> {
        match value {
            Scalar::F32(value) => Some(Float { value: f64::from(value), is_f32: true }),
            Scalar::F64(value) => Some(Float { value, is_f32: false }),
            Scalar::I32(_) | Scalar::U32(_) | Scalar::I64(_) | Scalar::U64(_) | Scalar::Bool(_) => None,
        }
    }

    fn special(self) -> String {
        match self.value {
            value if value.is_nan() => "nan".to_owned(),
            value if value < 0.0 => "-inf".to_owned(),
            _ => "inf".to_owned(),
        }
    }

    /// Shortest digits, or the exact value rounded where that leaves more than `precision` behind the point.
    fn positional(self, precision: usize) -> Digits {
        let shortest = if self.is_f32 { (self.value as f32).to_string() } else { self.value.to_string() };
        let text = match shortest.split_once('.') {
            Some((_, fraction)) if fraction.len() > precision => format!("{:.precision$}", self.value),
            _ => shortest,
        };
        Digits::new(&text, 0)
    }

    /// The same with one digit before the point.
    fn scientific(self, precision: usize) -> Digits {
        let shortest = if self.is_f32 { format!("{:e}", self.value as f32) } else { format!("{:e}", self.value) };
        let fraction = shortest.find('e').unwrap_or(0) - shortest.find('.').map_or(0, |point| point + 1);
        let text = if shortest.contains('.') && fraction > precision {
            format!("{:.precision$e}", self.value)
        } else {
            shortest
        };
        let (mantissa, exponent) = split_exponent(&text);
        Digits::new(mantissa, exponent)
    }
}

impl Digits {
    fn new(mantissa: &str, exponent: i32) -> Digits {
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        Digits { whole: whole.to_owned(), fraction: fraction.trim_end_matches('0').to_owned(), exponent }
    }
}

/// `1.5e-7` is (`1.5`, -7).
fn split_exponent(text: &str) -> (&str, i32) {
    let (mantissa, exponent) = text.split_once('e').expect("`{:e}` always writes an exponent");
    (mantissa, exponent.parse().expect("an exponent is a small integer"))
}

/// `-05`, `+300`: a sign and at least `width` digits.
fn padded_exponent(exponent: i32, width: usize) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{:0width$}", exponent.unsigned_abs())
}

/// Floats of one array: one notation for all, points below each other.
fn aligned_floats(values: &[Scalar]) -> Vec<String> {
    let floats: Vec<Float> = values.iter().filter_map(|&value| Float::new(value)).collect();
    let finite = || floats.iter().copied().filter(|float| float.value.is_finite());
    let is_scientific = needs_exponent(finite());
    let digits = |float: Float| if is_scientific { float.scientific(PRECISION) } else { float.positional(PRECISION) };
    let all: Vec<Digits> = finite().map(digits).collect();
    let longest = |length: &dyn Fn(&Digits) -> usize| all.iter().map(length).max().unwrap_or(0);
    let fraction_width = longest(&|digits| digits.fraction.len());
    let exponent_width = longest(&|digits| padded_exponent(digits.exponent, 2).len() - 1);
    // All that stands behind the whole part, with the point.
    let tail = 1 + fraction_width + if is_scientific { 2 + exponent_width } else { 0 };
    let specials = floats.iter().filter(|float| !float.value.is_finite()).map(|float| float.special().len());
    let special_width = specials.max().unwrap_or(0);
    let whole_width = longest(&|digits| digits.whole.len()).max(special_width.saturating_sub(tail));
    let word = |&float: &Float| {
        if !float.value.is_finite() {
            return format!("{:>width$}", float.special(), width = whole_width + tail);
        }
        if !is_scientific {
            let Digits { whole, fraction, .. } = float.positional(PRECISION);
            return format!("{whole:>whole_width$}.{fraction:<fraction_width$}");
        }
        // All get as many digits as the longest: exact ones, not zeros.
        let text = format!("{:.fraction_width$e}", float.value);
        let (mantissa, exponent) = split_exponent(&text);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        format!("{whole:>whole_width$}.{fraction}e{}", padded_exponent(exponent, exponent_width))
    };
    floats.iter().map(word).collect()
}

/// NumPy's rule, its thresholds rounded to the array's own precision.
fn needs_exponent(finite: impl Iterator<Item = Float>) -> bool {
    let (mut smallest, mut largest, mut is_f32) = (f64::INFINITY, 0.0f64, false);
    for float in finite.filter(|float| float.value != 0.0) {
        let magnitude = float.value.abs();
        (smallest, largest, is_f32) = (smallest.min(magnitude), largest.max(magnitude), float.is_f32);
    }
    let (small, ratio) = match is_f32 {
        true => (f64::from(1e-4f32), f64::from(largest as f32 / smallest as f32)),
        false => (1e-4, largest / smallest),
    };
    largest > 0.0 && (largest >= 1e8 || smallest < small || ratio > 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_array_may_have_long_axes() {
        let shape = Shape::new(&[0, 1 << 40]).unwrap();
        assert_eq!(Corners::new(DType::F64, &shape).to_string(), "[]");
    }
}
