//! What a reader gives, against each element asked for by itself: `View::read_at` and the definition of its source.

use std::ops::Range;
use std::sync::Arc;

use tempfile::TempDir;

use super::npy;
use super::philox::Philox;
use super::{LeafReader, leaf_readers};
use crate::block::{Block, BufferMut, Item};
use crate::dtype::{DType, Element, Scalar};
use crate::executor::{ExecuteError, Operand};
use crate::grid::Grid;
use crate::ids::{ArrayId, ClientId};
use crate::shape::{Region, Shape};
use crate::stage::{Body, Distribution, Leaf, Map, Piece, Program, Random, Read, Source, Stage};
use crate::view::{AxisRead, View};
use crate::with_element;

/// A source, and what its value at an index is.
struct Origin {
    source: Source,
    value: Box<dyn Fn(&[u64]) -> Scalar>,
}

fn shape(lengths: &[u64]) -> Shape {
    Shape::new(lengths).unwrap()
}

fn block(dtype: DType, shape: Shape, values: impl Iterator<Item = Scalar>) -> Block {
    let bytes: Vec<u8> = values.flat_map(|value| value.to_bytes()).collect();
    let mut buffer = BufferMut::zeroed(bytes.len());
    buffer.bytes_mut().copy_from_slice(&bytes);
    Block::new(Item::Value(dtype), shape, buffer.freeze())
}

impl Origin {
    /// The value is a function of the row-major index.
    fn linear(source: Source, shape: &Shape, value: impl Fn(u64) -> Scalar + 'static) -> Origin {
        let of = shape.clone();
        Origin { source, value: Box::new(move |index| value(of.linear(index))) }
    }

    /// Array `sequence`, in blocks of `chunks`.
    fn array(sequence: u64, shape: &Shape, chunks: &[u64]) -> Origin {
        let array = ArrayId { client: ClientId(1), sequence };
        let source = Source::Array { array, field: 0, grid: Grid::regular(shape, chunks) };
        Origin::linear(source, shape, move |at| Scalar::I64((1000 * sequence + at) as i64))
    }

    /// Values of the row-major index, in the plan.
    fn literal(shape: &Shape) -> Origin {
        let value = |at: u64| Scalar::I64(-7 * at as i64);
        // Not aligned, as what a message carries need not be.
        let bytes: Vec<u8> = (0..shape.elements()).flat_map(|at| value(at).to_bytes()).collect();
        Origin::linear(Source::Literal { shape: shape.clone(), bytes: Arc::from(bytes) }, shape, value)
    }

    fn iota(shape: &Shape) -> Origin {
        let (start, step) = (Scalar::I64(5), Scalar::I64(-3));
        let source = Source::Iota { start, step, shape: shape.clone() };
        Origin::linear(source, shape, |at| Scalar::I64(5 - 3 * at as i64))
    }

    /// An `i8` file.
    fn npy(folder: &TempDir, name: &str, shape: &Shape, fortran: bool) -> Origin {
        let value = |at: u64| (at * 37 % 251) as i8;
        let order: Vec<u8> = match fortran {
            false => (0..shape.elements()).map(|at| value(at) as u8).collect(),
            true => {
                let reversed: Shape = shape.iter().rev().copied().collect();
                let indices = Region::whole(&reversed);
                let index = |index: Shape| index.iter().rev().copied().collect::<Shape>();
                indices.indices().map(|reversed| value(shape.linear(&index(reversed))) as u8).collect()
            }
        };
        let path = folder.path().join(name);
        std::fs::write(&path, npy_bytes("|i1", fortran, shape, &order)).unwrap();
        Origin::linear(Source::Npy(npy::open(&path).unwrap()), shape, move |at| Scalar::I32(value(at).into()))
    }
}

/// A file as NumPy writes it.
fn npy_bytes(descr: &str, fortran: bool, shape: &Shape, values: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), values].concat()
}

/// Reads every block of `space`, in tiles of several lengths, and compares each element.
#[track_caller]
fn check(name: &str, dtype: DType, space: Grid, pieces: Vec<(Origin, View)>) {
    let of = |(origin, view): &(Origin, View)| Piece { source: origin.source.clone(), view: view.clone() };
    let leaf = Leaf { dtype, pieces: pieces.iter().map(of).collect() };
    let map = Map { grid: space, leaves: vec![leaf], program: Program::identity(), reduce: None };
    let stage = Stage {
        array: ArrayId { client: ClientId(1), sequence: 0 },
        body: Body::Map(map.clone()),
        outputs: Vec::new(),
        bytes_output: 0,
        bytes_peak: 0,
    };
    for index in 0..stage.blocks() {
        let region = map.region(index);
        let value = |at: Shape| {
            let serves = |(_, view): &&(Origin, View)| {
                at.iter()
                    .zip(view.domain.start.iter().zip(view.domain.end.iter()))
                    .all(|(at, (low, high))| (low..high).contains(&at))
            };
            let (origin, view) = pieces.iter().find(serves).expect("the pieces cover the space");
            (origin.value)(&view.read_at(&at))
        };
        let expected: Vec<Scalar> = region.indices().map(value).collect();
        let reads = stage.reads(index);
        // How blocks come matters only where there are any.
        let ways: &[bool] = if reads.is_empty() { &[false] } else { &[false, true] };
        for &is_cut in ways {
            let operand = |read: &Read| operand(&pieces[read.piece as usize].0, dtype, read, is_cut);
            let operands: Vec<Operand> = reads.iter().map(operand).collect();
            let readers = leaf_readers(&map, index, &operands).unwrap();
            with_element!(dtype, T => check_tiles::<T>(name, &readers[0], &expected));
        }
    }
}

/// What the holder of a block hands out: the block, or the part of it that is read.
fn operand(origin: &Origin, dtype: DType, read: &Read, is_cut: bool) -> Operand {
    let Source::Array { grid, .. } = &origin.source else { panic!("only arrays are read from blocks") };
    let held = grid.region(&grid.block_counts().index_at(read.block));
    let part = read.region.clone().unwrap();
    if !is_cut {
        let values = held.indices().map(|index| (origin.value)(&index));
        return Operand { data: block(dtype, held.shape(), values), region: part };
    }
    let within = |index: Shape| index.iter().zip(held.start.iter()).map(|(at, start)| at + start).collect::<Shape>();
    let values = part.indices().map(|index| (origin.value)(&within(index)));
    Operand { data: block(dtype, part.shape(), values), region: Region::whole(&part.shape()) }
}

#[track_caller]
fn check_tiles<T: Element>(name: &str, reader: &LeafReader, expected: &[Scalar]) {
    let is_large = expected.len() > 10_000;
    for tile in [expected.len().max(1), 1000, 7, 1] {
        if is_large && tile < 10 {
            continue;
        }
        for (index, expected) in expected.chunks(tile).enumerate() {
            let start = (index * tile) as u64;
            let mut values = vec![T::from_word(0xa5a5_a5a5_a5a5_a5a5); expected.len()];
            reader.read(start, &mut values).unwrap();
            for (at, (found, expected)) in values.iter().zip(expected).enumerate() {
                assert_eq!(
                    bytemuck::bytes_of(found),
                    &expected.to_bytes()[..],
                    "{name}: element {}",
                    start + at as u64
                );
            }
            if let Some(contiguous) = reader.contiguous::<T>(start, expected.len()) {
                assert_eq!(contiguous, values, "{name}: contiguous");
            }
        }
    }
    reader.read::<T>(0, &mut []).unwrap();
}

fn whole(space: &Shape, axes: Vec<AxisRead>) -> View {
    View { domain: Region::whole(space), axes }
}

fn along(axis: u8, start: i64, step: i64) -> AxisRead {
    AxisRead::Along { axis, start, step }
}

/// The choices of a random case.
struct Choices {
    philox: Philox,
    next: u64,
}

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.next += 1;
        u64::from(self.philox.element::<u32>(self.next)) % bound
    }

    fn lengths(&mut self, rank: u64, range: Range<u64>) -> Shape {
        (0..rank).map(|_| range.start + self.below(range.end - range.start)).collect()
    }

    /// A view that serves `domain` by slices, flips, transposes, fixed indices and broadcasts, and a shape it fits.
    fn view(&mut self, domain: Region) -> (View, Shape) {
        let rank = domain.start.rank();
        let mut unused: Vec<usize> = (0..rank).collect();
        let mut input = Shape::default();
        let mut axes = Vec::new();
        for _ in 0..self.below(4) {
            let slack = self.below(3);
            if unused.is_empty() || self.below(5) == 0 {
                axes.push(AxisRead::Fixed(slack));
                input.push(slack + 1 + self.below(3));
                continue;
            }
            let axis = unused.remove(self.below(unused.len() as u64) as usize);
            let step = [-3i64, -2, -1, 1, 1, 2, 3][self.below(7) as usize];
            let (first_out, count) = (domain.start[axis], domain.end[axis] - domain.start[axis]);
            let span = (count - 1) * step.unsigned_abs();
            let first = if step > 0 { slack } else { slack + span };
            axes.push(along(axis as u8, first as i64 - step * first_out as i64, step));
            input.push(slack + span + 1 + self.below(2));
        }
        (View { domain, axes }, input)
    }
}

#[test]
fn any_view_of_any_pieces_is_read_element_by_element() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..400 {
        let mut choices = Choices { philox: Philox::new(seed, 0), next: 0 };
        let rank = choices.below(4);
        let space = choices.lengths(rank, 1..9);
        let chunks = choices.lengths(rank, 1..7);
        // Members of a concatenation along axis 0.
        let cut = if rank > 0 { choices.below(space[0]) } else { 0 };
        let mut domains = vec![Region::whole(&space)];
        if cut > 0 {
            let mut second = domains[0].clone();
            (domains[0].end[0], second.start[0]) = (cut, cut);
            domains.push(second);
        }
        let is_file = choices.below(2) == 0;
        let mut pieces = Vec::new();
        for (number, domain) in domains.into_iter().enumerate() {
            let (view, input) = choices.view(domain);
            let kind = choices.below(if is_file { 2 } else { 4 });
            let origin = match kind {
                fortran if is_file => Origin::npy(&folder, &format!("{number}.npy"), &input, fortran == 1),
                0 => Origin::literal(&input),
                1 => Origin::iota(&input),
                _ => Origin::array(number as u64 + 1, &input, &choices.lengths(input.rank() as u64, 1..5)),
            };
            pieces.push((origin, view));
        }
        let dtype = if is_file { DType::I32 } else { DType::I64 };
        check(&format!("seed {seed}"), dtype, Grid::regular(&space, &chunks), pieces);
    }
}

#[test]
fn sources_are_what_they_say() {
    let shape = shape(&[3, 70]);
    // Reversed and transposed, every third column.
    let space = Shape::new(&[23, 3]).unwrap();
    let view = whole(&space, vec![along(1, 2, -1), along(0, 1, 3)]);
    let check = |source: Source, dtype: DType, value: Box<dyn Fn(u64) -> Scalar>| {
        let name = format!("{source:?}");
        for (space, view) in [(space.clone(), view.clone()), (shape.clone(), View::identity(&shape))] {
            let value = |at: u64| value(at);
            let values: Vec<Scalar> = (0..shape.elements()).map(value).collect();
            let origin = Origin::linear(source.clone(), &shape, move |at| values[at as usize]);
            check(&name, dtype, Grid::regular(&space, &[2, 50]), vec![(origin, view)]);
        }
    };
    for dtype in DType::ALL {
        let value = Scalar::I64(3).cast(dtype);
        check(Source::Constant(value), dtype, Box::new(move |_| value));
        if dtype != DType::Bool {
            let (start, step) = (Scalar::I64(10).cast(dtype), Scalar::I64(-1).cast(dtype));
            // Unsigned ones wrap below 0.
            let of = move |at| Scalar::I64(10 - at as i64).cast(dtype);
            check(Source::Iota { start, step, shape: shape.clone() }, dtype, Box::new(of));
        }
    }
    let linspace = Source::Linspace { start: 0.1, stop: 7.0, step: 0.3, last: 60, shape: shape.clone() };
    let of = |at| Scalar::F64(if at == 60 { 7.0 } else { 0.1 + at as f64 * 0.3 });
    check(linspace, DType::F64, Box::new(of));
    let philox = Philox::new(3, 4);
    let random =
        |distribution, dtype| Source::Random(Random { distribution, dtype, shape: shape.clone(), seed: 3, stream: 4 });
    check(random(Distribution::Uniform, DType::F32), DType::F32, Box::new(move |at| Scalar::F32(philox.element(at))));
    check(random(Distribution::Uniform, DType::F64), DType::F64, Box::new(move |at| Scalar::F64(philox.element(at))));
    check(random(Distribution::Uniform, DType::U32), DType::U32, Box::new(move |at| Scalar::U32(philox.element(at))));
    let mut normal = vec![0f64; shape.elements() as usize];
    super::normal::fill(&philox, 0, 1, &mut normal);
    check(random(Distribution::Normal, DType::F64), DType::F64, Box::new(move |at| Scalar::F64(normal[at as usize])));
    let mut normal = vec![0f32; shape.elements() as usize];
    super::normal::fill(&philox, 0, 1, &mut normal);
    check(random(Distribution::Normal, DType::F32), DType::F32, Box::new(move |at| Scalar::F32(normal[at as usize])));
}

/// Every storage dtype in both byte orders, with runs and with steps.
#[test]
fn stored_values_become_compute_values() {
    let folder = tempfile::tempdir().unwrap();
    fn files<V: Copy + 'static, const WIDTH: usize>(
        folder: &TempDir,
        kind: &str,
        values: [V; 4],
        bytes: fn(V) -> [u8; WIDTH],
        value: fn(V) -> Scalar,
    ) {
        for order in ["<", ">", "|", "="] {
            let one = shape(&[4]);
            let in_order = |value: V| {
                let mut bytes = bytes(value);
                if order == ">" {
                    bytes.reverse();
                }
                bytes
            };
            let path = folder.path().join("a.npy");
            let stored: Vec<u8> = values.into_iter().flat_map(in_order).collect();
            std::fs::write(&path, npy_bytes(&format!("{order}{kind}"), false, &one, &stored)).unwrap();
            let file = npy::open(&path).unwrap();
            let dtype = file.stored.dtype();
            for view in [View::identity(&one), whole(&one, vec![along(0, 3, -1)])] {
                let origin = Origin::linear(Source::Npy(file.clone()), &one, move |at| value(values[at as usize]));
                check(&format!("{order}{kind}"), dtype, Grid::single(&one), vec![(origin, view)]);
            }
        }
    }
    let half = |bits| half::f16::from_bits(bits);
    let of_half = |value: half::f16| Scalar::F32(f32::from(value));
    files(&folder, "f2", [half(0x3e00), half(0x8000), half(1), half(0x7c00)], half::f16::to_le_bytes, of_half);
    files(&folder, "f4", [1.5, -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY], f32::to_le_bytes, Scalar::F32);
    files(&folder, "f8", [1.5, -0.0, f64::MAX, f64::NEG_INFINITY], f64::to_le_bytes, Scalar::F64);
    files(&folder, "i1", [1, -1, i8::MIN, i8::MAX], i8::to_le_bytes, |value| Scalar::I32(value.into()));
    files(&folder, "u1", [1, 0, 200, u8::MAX], u8::to_le_bytes, |value| Scalar::U32(value.into()));
    files(&folder, "i2", [1, -2, i16::MIN, i16::MAX], i16::to_le_bytes, |value| Scalar::I32(value.into()));
    files(&folder, "u2", [1, 0, 200, u16::MAX], u16::to_le_bytes, |value| Scalar::U32(value.into()));
    files(&folder, "i4", [1, -2, i32::MIN, i32::MAX], i32::to_le_bytes, Scalar::I32);
    files(&folder, "u4", [1, 0, 200, u32::MAX], u32::to_le_bytes, Scalar::U32);
    files(&folder, "i8", [1, -2, i64::MIN, i64::MAX], i64::to_le_bytes, Scalar::I64);
    files(&folder, "u8", [1, 0, 200, u64::MAX], u64::to_le_bytes, Scalar::U64);
    // Any byte but 0 is true, as it is to NumPy.
    files(&folder, "b1", [1, 0, 2, 255u8], u8::to_le_bytes, |value| Scalar::Bool(value != 0));
}

/// Steps of more than a read's worth of bytes, runs longer than what is read at once, and orders that are poured.
#[test]
fn large_files_are_read_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    for fortran in [false, true] {
        let stored = shape(&[3000, 400]);
        let origin = || Origin::npy(&folder, "a.npy", &stored, fortran);
        let (rows, columns) = (shape(&[3000, 400]), shape(&[400, 3000]));
        check("as it is", DType::I32, Grid::regular(&rows, &[2500, 390]), vec![(origin(), View::identity(&rows))]);
        let transposed = whole(&columns, vec![along(1, 2999, -1), along(0, 0, 1)]);
        check("transposed", DType::I32, Grid::regular(&columns, &[70, 2990]), vec![(origin(), transposed)]);
        let steps = shape(&[30, 2, 40, 2]);
        let strided = whole(&steps, vec![along(0, 2990, -100), along(2, 3, 9)]);
        check("strided", DType::I32, Grid::single(&steps), vec![(origin(), strided)]);
        let (long, narrow) = (shape(&[20_000, 7]), shape(&[20_000, 2]));
        let origin = || Origin::npy(&folder, "b.npy", &long, fortran);
        let few = whole(&narrow, vec![along(0, 0, 1), along(1, 5, -2)]);
        check("two columns", DType::I32, Grid::single(&narrow), vec![(origin(), few)]);
        let repeated = whole(&narrow, vec![along(0, 0, 1), AxisRead::Fixed(6)]);
        check("a repeated column", DType::I32, Grid::single(&narrow), vec![(origin(), repeated)]);
    }
    let long = shape(&[200_000]);
    let origin = || Origin::npy(&folder, "c.npy", &long, false);
    check("a long run", DType::I32, Grid::single(&long), vec![(origin(), View::identity(&long))]);
    let backwards = whole(&long, vec![along(0, 199_999, -1)]);
    check("backwards", DType::I32, Grid::single(&long), vec![(origin(), backwards)]);
}

#[test]
fn nothing_is_read_of_nothing() {
    let empty = shape(&[2, 0, 3]);
    let grid = || Grid::single(&empty);
    check("iota", DType::I64, grid(), vec![(Origin::iota(&empty), View::identity(&empty))]);
    let folder = tempfile::tempdir().unwrap();
    let file = Origin::npy(&folder, "a.npy", &empty, true);
    check("npy", DType::I32, grid(), vec![(file, View::identity(&empty))]);
    let blocks = Origin::array(1, &empty, &[1, 1, 1]);
    check("array", DType::I64, grid(), vec![(blocks, View::identity(&empty))]);
}

#[test]
fn a_file_that_changed_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let write = |descr: &str, count: u64| {
        std::fs::write(&path, npy_bytes(descr, false, &shape(&[count]), &vec![0; 8 * count as usize])).unwrap();
    };
    write("<i8", 4);
    let planned = npy::open(&path).unwrap();
    assert!(planned.path.is_absolute());
    let refusal = |dtype| match super::npy::NpyReader::open(&planned, dtype) {
        Ok(_) => String::new(),
        Err(ExecuteError::Source { path: named, what }) => {
            assert_eq!(named, path.display().to_string());
            what
        }
        Err(other) => panic!("{other}"),
    };
    let same_time = || {
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(planned.mtime_ns as u64);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    assert_eq!(refusal(DType::I64), "");
    assert_eq!(refusal(DType::F64), "its values are i64 and are asked for as f64");
    write("<i8", 5);
    assert!(refusal(DType::I64).contains("bytes when the array was made"));
    write("<f8", 4);
    let another = std::fs::File::options().append(true).open(&path).unwrap();
    another.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(refusal(DType::I64), "it was modified after the array was made");
    same_time();
    assert!(refusal(DType::I64).contains("its header"));
    write("<i8", 4);
    same_time();
    let reader = super::npy::NpyReader::open(&planned, DType::I64).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(140).unwrap();
    let error = reader.fill(0, 1, &mut [0i64; 4]).unwrap_err().to_string();
    assert!(error.ends_with("it became shorter while it was read"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(DType::I64).contains("No such file"));
}
