//! What the command line names: inputs (`a.npy`, `random:1000x1000:f32?seed=7`) and kernels (`file.wgsl#name`).

use std::path::PathBuf;
use std::str::FromStr;

use gridloom_worker::dtype::{DType, UnknownDType};
use gridloom_worker::shape::{Shape, ShapeError};

/// An input as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A `.npy` file.
    Npy(PathBuf),
    /// Uniform random numbers, stream 0.
    Random {
        /// Its shape.
        shape: Shape,
        /// f32, f64 or u32.
        dtype: DType,
        /// Which numbers.
        seed: u64,
    },
}

/// A `random:` input that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Something else than lengths with `x` between them.
    #[error("`{found}` is no length: a shape is written like 10000x1000x1000")]
    Length {
        /// The part.
        found: String,
    },
    /// Lengths that cannot be a shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No compute dtype.
    #[error(transparent)]
    DType(#[from] UnknownDType),
    /// A dtype without random numbers.
    #[error("random arrays are f32, f64 or u32, not {0}")]
    NotRandom(DType),
    /// Something else than `seed=N` behind the question mark.
    #[error("`?{found}` is not understood: only ?seed=N, a whole number below 2^64, may follow")]
    Query {
        /// What stands there.
        found: String,
    },
    /// More parts than shape and dtype.
    #[error("`:{found}` is one part too many: write random:SHAPE[:DTYPE][?seed=N]")]
    TooManyParts {
        /// The part.
        found: String,
    },
}

impl FromStr for Input {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Input, InputError> {
        match text.strip_prefix("random:") {
            Some(rest) => random(rest),
            None => Ok(Input::Npy(PathBuf::from(text))),
        }
    }
}

fn random(text: &str) -> Result<Input, InputError> {
    let (what, query) = match text.split_once('?') {
        Some((what, query)) => (what, Some(query)),
        None => (text, None),
    };
    let mut parts = what.split(':');
    let shape = parse_shape(parts.next().unwrap_or_default())?;
    let dtype: DType = parts.next().map_or(Ok(DType::F64), str::parse)?;
    if let Some(found) = parts.next() {
        return Err(InputError::TooManyParts { found: found.to_owned() });
    }
    if !matches!(dtype, DType::F32 | DType::F64 | DType::U32) {
        return Err(InputError::NotRandom(dtype));
    }
    let seed = query.map_or(Ok(0), parse_seed)?;
    Ok(Input::Random { shape, dtype, seed })
}

fn parse_shape(text: &str) -> Result<Shape, InputError> {
    let length = |part: &str| match whole_number(part) {
        Some(length) => Ok(length),
        None if is_digits(part) => Err(ShapeError::Overflow { shape: text.to_owned() }.into()),
        None => Err(InputError::Length { found: part.to_owned() }),
    };
    let lengths: Vec<u64> = text.split('x').map(length).collect::<Result<_, _>>()?;
    Ok(Shape::new(&lengths)?)
}

fn parse_seed(query: &str) -> Result<u64, InputError> {
    let seed = query.strip_prefix("seed=").and_then(whole_number);
    seed.ok_or_else(|| InputError::Query { found: query.to_owned() })
}

/// Digits alone: Rust's own parser would take a `+` too.
fn whole_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| is_digits(text))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A kernel as it was written: `file.wgsl` or `file.wgsl#name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPath {
    /// The file.
    pub path: PathBuf,
    /// The function, where one was named.
    pub entry: Option<String>,
}

impl FromStr for KernelPath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<KernelPath, Self::Err> {
        // Folders may have a `#` in their name; what follows the file's extension cannot be part of a path.
        Ok(match text.rsplit_once(".wgsl#") {
            Some((stem, name)) => {
                KernelPath { path: PathBuf::from(format!("{stem}.wgsl")), entry: Some(name.to_owned()) }
            }
            None => KernelPath { path: PathBuf::from(text), entry: None },
        })
    }
}

/// Lengths of blocks per axis: `1000,1000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks(pub Vec<u64>);

/// A text that is no list of chunks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no chunk: write one length of at least 1 per axis, like 1000,1000")]
pub struct NoChunk(String);

impl FromStr for Chunks {
    type Err = NoChunk;

    fn from_str(text: &str) -> Result<Chunks, NoChunk> {
        let chunk = |part: &str| whole_number(part).filter(|&chunk| chunk > 0).ok_or_else(|| NoChunk(part.to_owned()));
        text.split(',').map(chunk).collect::<Result<_, _>>().map(Chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lengths: &[u64]) -> Shape {
        Shape::new(lengths).unwrap()
    }

    #[test]
    fn inputs_are_read() {
        let random = |lengths: &[u64], dtype, seed| Ok(Input::Random { shape: shape(lengths), dtype, seed });
        assert_eq!("random:10000x1000x1000".parse(), random(&[10000, 1000, 1000], DType::F64, 0));
        assert_eq!("random:5:f32".parse(), random(&[5], DType::F32, 0));
        assert_eq!("random:0x3?seed=18446744073709551615".parse(), random(&[0, 3], DType::F64, u64::MAX));
        assert_eq!("random:4x4:u32?seed=7".parse(), random(&[4, 4], DType::U32, 7));
        assert_eq!("a/random:b.npy".parse(), Ok(Input::Npy("a/random:b.npy".into())));
    }

    #[test]
    fn bad_inputs_are_named() {
        let error = |text: &str| text.parse::<Input>().unwrap_err();
        let length = |found: &str| InputError::Length { found: found.into() };
        assert_eq!([error("random:"), error("random:3x"), error("random:-3")], [length(""), length(""), length("-3")]);
        assert_eq!([error("random:3,4"), error("random:+3")], [length("3,4"), length("+3")]);
        assert!(matches!(error("random:2x99999999999999999999"), InputError::Shape(ShapeError::Overflow { .. })));
        assert!(matches!(error("random:4294967296x4294967296"), InputError::Shape(ShapeError::Overflow { .. })));
        assert!(matches!(error("random:1x1x1x1x1x1x1x1x1"), InputError::Shape(ShapeError::Rank { rank: 9 })));
        assert_eq!(error("random:3:f16"), InputError::DType(UnknownDType("f16".into())));
        assert_eq!(error("random:3:i64"), InputError::NotRandom(DType::I64));
        assert_eq!(error("random:3:f32:f64"), InputError::TooManyParts { found: "f64".into() });
        for query in ["seed=-1", "seed=", "sed=1", "seed=1&stream=2", ""] {
            assert_eq!(error(&format!("random:3?{query}")), InputError::Query { found: query.into() });
        }
    }

    #[test]
    fn kernels_and_chunks_are_read() {
        let kernel =
            |path: &str, entry: Option<&str>| Ok(KernelPath { path: path.into(), entry: entry.map(Into::into) });
        assert_eq!("a.wgsl".parse(), kernel("a.wgsl", None));
        assert_eq!("x#y/a.wgsl#f".parse(), kernel("x#y/a.wgsl", Some("f")));
        assert_eq!("x#y/a.wgsl".parse(), kernel("x#y/a.wgsl", None));
        assert_eq!("1000,20".parse(), Ok(Chunks(vec![1000, 20])));
        assert_eq!("1000,0".parse::<Chunks>(), Err(NoChunk("0".into())));
        assert_eq!("".parse::<Chunks>(), Err(NoChunk("".into())));
    }
}
