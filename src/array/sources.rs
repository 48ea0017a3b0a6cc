//! Where arrays come from: constants, sequences, random numbers, files.

use std::path::Path;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::shape::Shape;
use gridloom_worker::source::npy;
use gridloom_worker::stage::{Distribution, NpyFile, Random, Source};

use super::chunks::Cut;
use super::lengths::shape_of;
use super::{Array, ArrayError, Expression, Failure, IntoLengths, Number};

impl Array {
    /// All 0, f64 ([`Array::with_dtype`] for others).
    ///
    /// # Errors
    /// As all constructors: a length that is negative, more than eight axes, or more than 2^60 elements.
    #[track_caller]
    pub fn zeros(shape: impl IntoLengths) -> Array {
        Array::full(shape, 0.0)
    }

    /// All 1, f64 ([`Array::with_dtype`] for others).
    #[track_caller]
    pub fn ones(shape: impl IntoLengths) -> Array {
        Array::full(shape, 1.0)
    }

    /// All `value`. A Rust number has a kind, not a dtype: integers make i64, floats f64, as in NumPy
    /// ([`Array::with_dtype`] for others).
    #[track_caller]
    pub fn full(shape: impl IntoLengths, value: impl Into<Number>) -> Array {
        Array::or_failed(full(&shape.into_lengths(), value.into()))
    }

    /// `start, start + step, ...` before `stop`: i64 if all three are integers (u64 where an element needs it), else f64.
    ///
    /// ```
    /// use gridloom::array::Array;
    /// assert_eq!(&**Array::arange(0, 10, 3).shape(), &[4]);
    /// ```
    ///
    /// # Errors
    /// A step of 0, or bounds that are not finite.
    #[track_caller]
    pub fn arange(start: impl Into<Number>, stop: impl Into<Number>, step: impl Into<Number>) -> Array {
        Array::or_failed(arange(start.into(), stop.into(), step.into()))
    }

    /// `count` numbers from `start` to `stop`, evenly apart, both included; f64.
    #[track_caller]
    pub fn linspace(start: f64, stop: f64, count: u64) -> Array {
        Array::or_failed(linspace(start, stop, count, count.saturating_sub(1), count > 1))
    }

    /// `count` numbers from `start` on, evenly apart, the one after the last being `stop`; f64.
    #[track_caller]
    pub fn linspace_open(start: f64, stop: f64, count: u64) -> Array {
        Array::or_failed(linspace(start, stop, count, count, false))
    }

    /// Uniform random numbers in [0, 1), f64, seed 0, stream 0: the same numbers for any chunks, worker and device.
    ///
    /// Options come before anything else is done: [`Array::seed`], [`Array::stream`], [`Array::normal`],
    /// [`Array::with_dtype`] (f32, f64, or u32 for the raw words), [`Array::chunks`].
    ///
    /// ```
    /// use gridloom::array::Array;
    /// let x = Array::random([10_000, 10_000]).chunks([1000, 1000]);
    /// assert_eq!(x.grid().blocks(), 100);
    /// ```
    #[track_caller]
    pub fn random(shape: impl IntoLengths) -> Array {
        Array::or_failed(random(&shape.into_lengths(), Distribution::Uniform))
    }

    /// Random numbers of mean 0 and variance 1, else as [`Array::random`].
    #[track_caller]
    pub fn random_normal(shape: impl IntoLengths) -> Array {
        Array::or_failed(random(&shape.into_lengths(), Distribution::Normal))
    }

    /// The values of a `.npy` file. Its header is read here, the values by workers when they are needed.
    ///
    /// # Errors
    /// A file that cannot be read, or is no array of numbers.
    #[track_caller]
    pub fn from_npy(path: impl AsRef<Path>) -> Array {
        match npy::open(path.as_ref()) {
            Ok(file) => Array::from_npy_file(file),
            Err(error) => Array::or_failed(Err(ArrayError::from(error).into())),
        }
    }

    /// The values of a `.npy` file that was opened before. Narrow integers become 32 bits wide, f16 becomes f32.
    ///
    /// # Errors
    /// A shape of more than eight axes or 2^60 elements.
    #[track_caller]
    pub fn from_npy_file(file: NpyFile) -> Array {
        let shape = file.shape.clone();
        let dtype = file.stored.dtype();
        Array::or_failed(Shape::new(&shape).map_err(Failure::from).map(|shape| {
            let cut = Cut::auto(&shape, dtype);
            Array::node(shape, dtype, cut, Expression::Source(Source::Npy(file)))
        }))
    }

    /// The same source, made in another dtype: constants, `arange` and random arrays, before anything is done with
    /// them. (Random numbers of another dtype are other numbers; [`Array::astype`] converts the ones there are.)
    ///
    /// # Errors
    /// Not such a source; a dtype that random numbers do not come in.
    #[track_caller]
    pub fn with_dtype(&self, dtype: DType) -> Array {
        Array::or_failed(self.sound().and_then(|_| with_dtype(self, dtype)))
    }

    /// Random numbers of another 64-bit seed.
    ///
    /// # Errors
    /// Not a random array.
    #[track_caller]
    pub fn seed(&self, seed: u64) -> Array {
        self.random_option("seed", |random| random.seed = seed)
    }

    /// Random numbers of another stream of the same seed: independent of all other streams.
    ///
    /// # Errors
    /// Not a random array.
    #[track_caller]
    pub fn stream(&self, stream: u64) -> Array {
        self.random_option("stream", |random| random.stream = stream)
    }

    /// Random numbers of mean 0 and variance 1.
    ///
    /// # Errors
    /// Not a random array, or one of u32.
    #[track_caller]
    pub fn normal(&self) -> Array {
        self.random_option("normal", |random| random.distribution = Distribution::Normal)
    }

    #[track_caller]
    fn random_option(&self, option: &'static str, set: impl FnOnce(&mut Random)) -> Array {
        let changed = || match self.sound()?.expression() {
            Expression::Source(Source::Random(random)) => {
                let mut random = random.clone();
                set(&mut random);
                of_random(random, self.cut().clone())
            }
            _ => Err(ArrayError::NotRandom { option }.into()),
        };
        Array::or_failed(changed())
    }

    /// One value everywhere, cut as "auto".
    pub(super) fn constant(value: Scalar, shape: &Shape) -> Array {
        let cut = Cut::auto(shape, value.dtype());
        Array::node(shape.clone(), value.dtype(), cut, Expression::Source(Source::Constant(value)))
    }
}

fn full(lengths: &[i128], value: Number) -> Result<Array, Failure> {
    Ok(Array::constant(value.scalar(value.default_dtype())?, &shape_of(lengths)?))
}

fn arange(start: Number, stop: Number, step: Number) -> Result<Array, Failure> {
    let all = [start, stop, step];
    let (count, start, step) = match all.map(whole) {
        [Some(start), Some(stop), Some(step)] if step != 0 => {
            let span = stop.checked_sub(start).and_then(|span| span.checked_mul(step.signum()));
            let count = match span.ok_or_else(|| arange_error(all))? {
                span @ 1.. => (span - 1) / step.saturating_abs() + 1,
                _ => 0,
            };
            // No step is made from the only element.
            let step = if count > 1 { step } else { step.signum() };
            let dtype = sequence_dtype(start, start + (count - 1).max(0) * step);
            let held = |value| Number::Integer(value).scalar(dtype);
            (count, held(start)?, held(step)?)
        }
        [Some(_), Some(_), Some(_)] => return Err(arange_error(all).into()),
        _ => {
            let [start, stop, step] = all.map(float);
            let count = ((stop - start) / step).ceil();
            if !(count.is_finite() && start.is_finite() && step.is_finite()) {
                return Err(arange_error(all).into());
            }
            // NumPy's own difference: that of the first two elements, rounded.
            (count.max(0.0) as i128, Scalar::F64(start), Scalar::F64((start + step) - start))
        }
    };
    let shape = shape_of(&[count])?;
    let cut = Cut::auto(&shape, start.dtype());
    let source = Source::Iota { start, step, shape: shape.clone() };
    Ok(Array::node(shape, start.dtype(), cut, Expression::Source(source)))
}

/// The dtype of all integers from `first` to `last`.
fn sequence_dtype(first: i128, last: i128) -> DType {
    let needed = Number::Integer(first).default_dtype().promote(Number::Integer(last).default_dtype());
    let is_unsigned = needed == DType::F64 && first.min(last) >= 0;
    if is_unsigned { DType::U64 } else { needed }
}

fn arange_error([start, stop, step]: [Number; 3]) -> ArrayError {
    let text = |number| format!("{}", float(number));
    ArrayError::Arange { start: text(start), stop: text(stop), step: text(step) }
}

fn whole(number: Number) -> Option<i128> {
    match number {
        Number::Bool(value) => Some(i128::from(value)),
        Number::Integer(value) => Some(value),
        Number::Float(_) => None,
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Bool(value) => f64::from(u8::from(value)),
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    }
}

fn linspace(start: f64, stop: f64, count: u64, gaps: u64, closed: bool) -> Result<Array, Failure> {
    let shape = shape_of(&[i128::from(count)])?;
    let step = if gaps > 0 { (stop - start) / gaps as f64 } else { 0.0 };
    let last = if closed { gaps } else { u64::MAX };
    let cut = Cut::auto(&shape, DType::F64);
    let source = Source::Linspace { start, stop, step, last, shape: shape.clone() };
    Ok(Array::node(shape, DType::F64, cut, Expression::Source(source)))
}

fn random(lengths: &[i128], distribution: Distribution) -> Result<Array, Failure> {
    let shape = shape_of(lengths)?;
    let cut = Cut::auto(&shape, DType::F64);
    of_random(Random { distribution, dtype: DType::F64, shape, seed: 0, stream: 0 }, cut)
}

fn of_random(random: Random, cut: Cut) -> Result<Array, Failure> {
    let error = |why| ArrayError::DType { operation: "random", dtype: random.dtype, why };
    match (random.distribution, random.dtype) {
        (_, DType::F32 | DType::F64) | (Distribution::Uniform, DType::U32) => {}
        (Distribution::Normal, DType::U32) => return Err(error("normal numbers are f32 or f64").into()),
        _ => return Err(error("random numbers are f32, f64, or u32 for the raw words").into()),
    }
    let (shape, dtype) = (random.shape.clone(), random.dtype);
    Ok(Array::node(shape, dtype, cut, Expression::Source(Source::Random(random))))
}

fn with_dtype(array: &Array, dtype: DType) -> Result<Array, Failure> {
    let cut = if array.cut().auto { Cut::auto(array.shape(), dtype) } else { array.cut().clone() };
    let source = match array.expression() {
        Expression::Source(Source::Random(random)) => return of_random(Random { dtype, ..random.clone() }, cut),
        Expression::Source(Source::Constant(value)) => Source::Constant(value.cast(dtype)),
        Expression::Source(Source::Iota { start, step, shape }) if dtype != DType::Bool => {
            Source::Iota { start: start.cast(dtype), step: step.cast(dtype), shape: shape.clone() }
        }
        _ => return Err(ArrayError::NotSource.into()),
    };
    Ok(Array::node(array.shape().clone(), dtype, cut, Expression::Source(source)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_error;
    use super::*;

    #[track_caller]
    fn check(array: Array, dtype: DType, lengths: &[u64]) {
        assert_eq!((array.dtype(), &**array.shape()), (dtype, lengths), "{array:?}");
    }

    #[test]
    fn numbers_have_kinds() {
        check(Array::zeros([2, 3]), DType::F64, &[2, 3]);
        check(Array::ones(4u64), DType::F64, &[4]);
        check(Array::full((), 3), DType::I64, &[]);
        check(Array::full([1], 2.5), DType::F64, &[1]);
        check(Array::full([1], true), DType::Bool, &[1]);
        check(Array::full([1], u64::MAX), DType::U64, &[1]);
        check(Array::full([1], 3).with_dtype(DType::F32), DType::F32, &[1]);
    }

    #[test]
    fn sequences_are_as_long_as_numpys() {
        check(Array::arange(0, 10, 3), DType::I64, &[4]);
        check(Array::arange(10, 0, -3), DType::I64, &[4]);
        check(Array::arange(5, 5, 1), DType::I64, &[0]);
        check(Array::arange(5, 0, 1), DType::I64, &[0]);
        check(Array::arange(0u64, u64::MAX, 1u64 << 62), DType::U64, &[4]);
        check(Array::arange(i64::MAX - 1, i64::MAX, 5), DType::I64, &[1]);
        check(Array::arange(0, 1, u64::MAX), DType::I64, &[1]);
        check(Array::arange(-1, u64::MAX, 1u64 << 62), DType::F64, &[4]);
        check(Array::arange(0, 1, 0.1), DType::F64, &[10]);
        check(Array::arange(0.0, -1.0, 0.5), DType::F64, &[0]);
        check(Array::arange(0, 10, 1).with_dtype(DType::U32), DType::U32, &[10]);
        check(Array::linspace(0.0, 1.0, 5), DType::F64, &[5]);
        check(Array::linspace(0.0, 1.0, 0), DType::F64, &[0]);
        let first = |array: &Array| match array.expression() {
            Expression::Source(Source::Linspace { step, last, .. }) => (*step, *last),
            _ => panic!("{array:?}"),
        };
        assert_eq!(first(&Array::linspace(0.0, 1.0, 5)), (0.25, 4));
        assert_eq!(first(&Array::linspace(0.0, 1.0, 1)), (0.0, u64::MAX));
        assert_eq!(first(&Array::linspace_open(0.0, 1.0, 4)), (0.25, u64::MAX));
    }

    #[test]
    fn random_arrays_take_options() {
        let x = Array::random([4]).seed(3).stream(5).with_dtype(DType::F32).normal().chunks([2]);
        let expected = Random {
            distribution: Distribution::Normal,
            dtype: DType::F32,
            shape: x.shape().clone(),
            seed: 3,
            stream: 5,
        };
        assert!(matches!(x.expression(), Expression::Source(Source::Random(random)) if *random == expected));
        assert_eq!(x.grid().to_string(), "[2x2]");
        check(Array::random([4]).with_dtype(DType::U32), DType::U32, &[4]);
    }

    #[test]
    fn errors() {
        check_error(&Array::zeros([-1]), "a length of -1: lengths are counted from 0 to 2^60");
        check_error(&Array::zeros([1; 9]), "9 axes: an array has at most 8");
        let huge = "shape (1099511627776, 1099511627776) overflows: its elements cannot be counted in 60 bits";
        check_error(&Array::zeros([1i64 << 40, 1 << 40]), huge);
        let step = "arange from 0 to 1 in steps of 0: the step must not be 0, and all must be finite";
        check_error(&Array::arange(0, 1, 0), step);
        check_error(&Array::arange(0.0, 1.0, 0.0), step);
        check_error(
            &Array::ones([3]).seed(1),
            "seed is an option of random arrays, set before anything is done with them",
        );
        let dtype = "random of i64: random numbers are f32, f64, or u32 for the raw words";
        check_error(&Array::random([3]).with_dtype(DType::I64), dtype);
        check_error(
            &Array::random([3]).with_dtype(DType::U32).normal(),
            "random of u32: normal numbers are f32 or f64",
        );
        assert_eq!((&Array::ones([3]) + 1).with_dtype(DType::F32).error().unwrap().error, ArrayError::NotSource);
        assert!(matches!(Array::from_npy("no such file").error().unwrap().error, ArrayError::Npy(_)));
    }
}
