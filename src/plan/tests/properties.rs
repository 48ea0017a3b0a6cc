//! Chains of operations, done by a plan and by ndarray.

use std::sync::OnceLock;

use gridloom_worker::grid::Grid;
use gridloom_worker::ids::ArrayId;
use ndarray::{ArrayD, Axis, IxDyn, SliceInfo, SliceInfoElem};
use proptest::prelude::*;

use super::evaluate::{check_is_whole, dynamic, evaluate};
use super::*;
use crate::array::{ArrayError, Axes, IntoAxes, keepdims};
use crate::{Client, LocalCluster};

/// An array beside what ndarray makes of the same operations.
#[derive(Clone)]
struct Pair {
    lazy: Array,
    eager: ArrayD<f64>,
}

type Dice = [u8; 6];
const RESIDENT: ArrayId = ArrayId { client: ClientId(2), sequence: 7 };
const LENGTH_MAX: usize = 600;

fn counted(lengths: &[usize]) -> ArrayD<f64> {
    let count = lengths.iter().product::<usize>();
    ArrayD::from_shape_vec(IxDyn(lengths), (0..count).map(|at| at as f64).collect()).unwrap()
}

/// A source: a sequence, a literal, or an array that workers hold.
fn source(dice: Dice) -> (Pair, Vec<(ArrayId, Grid, ArrayD<f64>)>) {
    let lengths: Vec<usize> =
        dice[1..1 + usize::from(dice[0] % 4)].iter().map(|&die| usize::from(die % 5) + 1).collect();
    let eager = counted(&lengths);
    let chunks: Vec<u64> = lengths.iter().map(|&length| (length as u64).div_ceil(2)).collect();
    match dice[5] % 3 {
        0 => {
            let lazy = Array::arange(0.0, eager.len() as f64, 1.0).reshape(lengths).chunks(chunks);
            (Pair { lazy, eager }, vec![])
        }
        1 => (Pair { lazy: Array::from_ndarray(&eager).chunks(chunks), eager }, vec![]),
        _ => {
            let shape: Shape = lengths.iter().map(|&length| length as u64).collect();
            let grid = Grid::regular(&shape, &chunks);
            let resident = Resident { array: RESIDENT, field: 0, root: None, keep: Keep::default() };
            let lazy = Array::resident(resident, grid.clone(), DType::F64);
            (Pair { lazy, eager: eager.clone() }, vec![(RESIDENT, grid, eager)])
        }
    }
}

/// One more operation, chosen by dice.
fn step(Pair { lazy, eager }: Pair, dice: Dice) -> Pair {
    let rank = eager.ndim();
    let axis = if rank > 0 { usize::from(dice[1]) % rank } else { 0 };
    match dice[0] % 15 {
        0 | 1 => sliced(&lazy, &eager, dice),
        2 => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.rotate_left(axis);
            let eager = eager.permuted_axes(IxDyn(&order));
            Pair { lazy: lazy.permute_axes(order), eager }
        }
        3 if rank > 0 => Pair { lazy: lazy.flip(axis), eager: flipped(&eager, axis) },
        4 if rank < 5 => Pair { lazy: lazy.expand_dims(axis), eager: eager.insert_axis(Axis(axis)) },
        5 if rank < 5 && eager.len() * 2 <= LENGTH_MAX => {
            let shape = [&[2], eager.shape()].concat();
            let wide = eager.broadcast(IxDyn(&shape)).unwrap().to_owned();
            Pair { lazy: lazy.broadcast_to(shape), eager: wide }
        }
        6 if rank > 0 && eager.len() * 2 <= LENGTH_MAX => {
            let other = Pair {
                lazy: &lazy.flip(axis) * f64::from(dice[2] % 2 + 1),
                eager: flipped(&eager, axis) * f64::from(dice[2] % 2 + 1),
            };
            let eager = ndarray::concatenate(Axis(axis), &[eager.view(), other.eager.view()]).unwrap();
            Pair { lazy: Array::concatenate([lazy, other.lazy], axis), eager }
        }
        7 => Pair { lazy: 2.0 * lazy + 1, eager: eager * 2.0 + 1.0 },
        8 if rank > 0 => Pair { lazy: &lazy + lazy.flip(axis), eager: &eager + &flipped(&eager, axis) },
        9 => {
            let chunks: Vec<u8> = (0..rank).map(|at| dice[1 + at % 5] % 4 + 1).collect();
            Pair { lazy: lazy.rechunk(chunks), eager }
        }
        10 if rank > 0 => reduced(&lazy, &eager, axis, dice),
        11 => reshaped(&lazy, &eager, dice),
        12 => {
            let less = lazy.less(20);
            let chosen = eager.mapv(|value| if value < 20.0 { value } else { -1.0 });
            Pair { lazy: Array::where_(&less, &lazy, -1), eager: chosen }
        }
        13 if rank > 1 && eager.len() * 2 <= LENGTH_MAX => {
            let part =
                Pair { lazy: lazy.sum(keepdims(axis)), eager: eager.sum_axis(Axis(axis)).insert_axis(Axis(axis)) };
            Pair { lazy: &lazy + &part.lazy, eager: &eager + &part.eager }
        }
        14 => weighed(&lazy, eager),
        _ => Pair { lazy, eager },
    }
}

/// A block kernel whose results show how it was cut.
fn weighed(lazy: &Array, mut eager: ArrayD<f64>) -> Pair {
    let lazy = lazy.astype(DType::F64).map_blocks(&weigh());
    let grid = lazy.grid();
    for block in 0..grid.blocks() {
        let region = grid.region(&grid.block_counts().index_at(block));
        let count = region.shape().elements() as f64;
        region.indices().for_each(|index| eager[dynamic(&index)] += count);
    }
    Pair { lazy, eager }
}

fn sliced(lazy: &Array, eager: &ArrayD<f64>, dice: Dice) -> Pair {
    let slices = eager.shape().iter().enumerate().map(|(axis, &length)| {
        let (a, b) = (usize::from(dice[1 + axis % 4]), usize::from(dice[2 + axis % 4]));
        let low = a % length;
        let high = low + 1 + b % (length - low);
        let step = [-3isize, -2, -1, 1, 1, 2, 3][(a + b) % 7];
        match (a * 7 + b) % 5 {
            0 => SliceInfoElem::Index(low as isize),
            _ => SliceInfoElem::Slice { start: low as isize, end: Some(high as isize), step },
        }
    });
    let slices: Vec<SliceInfoElem> = slices.collect();
    let info: SliceInfo<_, IxDyn, IxDyn> = SliceInfo::try_from(slices.clone()).unwrap();
    Pair { lazy: lazy.slice(&slices), eager: eager.slice(info).to_owned() }
}

fn reduced(lazy: &Array, eager: &ArrayD<f64>, axis: usize, dice: Dice) -> Pair {
    let axis_at = Axis(axis);
    let axes: Axes = if dice[2].is_multiple_of(2) { axis.into_axes() } else { keepdims(axis) };
    let fold = |f: fn(f64, f64) -> f64, first: f64| eager.fold_axis(axis_at, first, |&a, &b| f(a, b));
    let position = |better: fn(f64, f64) -> bool| {
        eager.map_axis(axis_at, |lane| {
            let best = (0..lane.len()).reduce(|best, at| if better(lane[at], lane[best]) { at } else { best });
            best.unwrap() as f64
        })
    };
    let (lazy, eager) = match dice[3] % 5 {
        0 => (lazy.sum(axes.clone()), eager.sum_axis(axis_at)),
        1 => (lazy.mean(axes.clone()), eager.mean_axis(axis_at).unwrap()),
        2 => (lazy.max(axes.clone()), fold(f64::max, f64::NEG_INFINITY)),
        3 => (lazy.argmin(axes.clone()), position(|a, b| a < b)),
        _ => (lazy.argmax(axes.clone()), position(|a, b| a > b)),
    };
    Pair { lazy, eager: if axes.keepdims() { eager.insert_axis(axis_at) } else { eager } }
}

/// Joins all axes, or splits the last one; after a rechunk if blocks would not stay whole.
fn reshaped(lazy: &Array, eager: &ArrayD<f64>, dice: Dice) -> Pair {
    let last = eager.shape().last().copied().unwrap_or(1);
    let factor = (1..=4).rev().find(|factor| last.is_multiple_of(*factor)).unwrap_or(1);
    let shape = match eager.shape().split_last() {
        Some((_, before)) if dice[2].is_multiple_of(2) && eager.ndim() < 5 => {
            [before, &[last / factor, factor]].concat()
        }
        _ => vec![eager.len()],
    };
    let as_it_is = lazy.reshape(&shape[..]);
    let lazy = match as_it_is.error().map(|carried| &carried.error) {
        Some(ArrayError::ReshapeBlocks { .. }) => lazy.rechunk(vec![-1; eager.ndim()]).reshape(&shape[..]),
        _ => as_it_is,
    };
    Pair { lazy, eager: ArrayD::from_shape_vec(IxDyn(&shape), eager.iter().copied().collect()).unwrap() }
}

fn flipped(eager: &ArrayD<f64>, axis: usize) -> ArrayD<f64> {
    let mut flipped = eager.clone();
    flipped.invert_axis(Axis(axis));
    flipped
}

#[track_caller]
fn check(found: &ArrayD<f64>, expected: &ArrayD<f64>) {
    assert_eq!(found.shape(), expected.shape());
    for (found, expected) in found.iter().zip(expected) {
        let close = (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
        assert!(close, "{found} for {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn plans_read_the_right_elements(first in any::<Dice>(), dice in prop::collection::vec(any::<Dice>(), 1..9)) {
        let (mut pair, resident) = source(first);
        let mut pairs = vec![pair.clone()];
        for die in dice {
            pair = step(pair, die);
            assert!(pair.lazy.error().is_none(), "{:?}", pair.lazy);
            assert_eq!(dynamic(pair.lazy.shape()), IxDyn(pair.eager.shape()));
            assert_eq!(&pair.lazy.grid().shape(), pair.lazy.shape());
            pairs.push(pair.clone());
        }
        // The last array alone, and together with one on the way.
        let middle = pairs[pairs.len() / 2].clone();
        let ids: Vec<ArrayId> = resident.iter().map(|(array, ..)| *array).collect();
        for wanted in [vec![pair.clone()], vec![pair, middle]] {
            let arrays: Vec<Array> = wanted.iter().map(|pair| pair.lazy.clone()).collect();
            let plan = planned(&arrays);
            check_is_whole(&plan, &ids);
            for (found, wanted) in evaluate(&plan, &resident).iter().zip(&wanted) {
                check(found, &wanted.eager);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_cluster_computes_the_same(first in any::<Dice>(), dice in prop::collection::vec(any::<Dice>(), 1..9)) {
        static CLUSTER: OnceLock<(LocalCluster, Client)> = OnceLock::new();
        let (_, client) = CLUSTER.get_or_init(|| {
            let cluster = LocalCluster::start().unwrap();
            let client = cluster.client();
            (cluster, client)
        });
        let (pair, resident) = source(first);
        prop_assume!(resident.is_empty());
        let pair = dice.into_iter().fold(pair, step);
        let found: ArrayD<f64> = client.compute(&pair.lazy.astype(DType::F64)).unwrap().wait().unwrap();
        check(&found, &pair.eager);
    }
}

/// 10,000 partials fold to 157, then to 3, and the client does the root; a consumer gets it as a stage.
#[test]
fn deep_trees_count_each_element_once() {
    let x = Array::arange(0.0, 10_000.0, 1.0).chunks([1]);
    let (sum, least) = (x.sum(..), (&x * -1.0).min(..) + 1.0);
    let plan = planned(&[sum, least]);
    assert_eq!(plan.stages.len(), 3 + 5);
    assert_eq!(plan.outputs[0].root.as_ref().map(|root| root.count), Some(3));
    let found = evaluate(&plan, &[]);
    check(&found[0], &ndarray::arr0(49_995_000.0).into_dyn());
    check(&found[1], &ndarray::arr0(-9998.0).into_dyn());
}

#[test]
fn what_is_left_to_the_client_can_be_read_by_another_plan() {
    let x = Array::arange(0.0, 60.0, 1.0).reshape([20, 3]).chunks([1, 3]);
    let mut ids = ArrayIds::new(ClientId(1));
    let first = plan(&[x.mean(keepdims(0))], &mut ids).unwrap();
    let kept = first.outputs[0].to_array(Keep::default());
    assert_eq!(kept.shape(), &first.outputs[0].shape);
    // As it is, there is nothing to be done; read by a stage, it gets its root.
    assert_eq!(plan(std::slice::from_ref(&kept), &mut ids).unwrap().stages.len(), 0);
    let second = plan(&[&x + &kept], &mut ids).unwrap();
    assert_eq!(second.stages.len(), 2);
    let both = Plan {
        stages: [first.stages, second.stages].concat(),
        kernels: second.kernels,
        scatters: vec![],
        outputs: second.outputs,
    };
    let eager = counted(&[20, 3]);
    let mean = eager.mean_axis(Axis(0)).unwrap();
    check(&evaluate(&both, &[])[0], &(eager + mean));
}

#[test]
fn large_data_is_scattered_in_blocks_that_are_read_back() {
    let eager = counted(&[400, 500]);
    let plan = planned(&[(Array::from_ndarray(&eager).chunks([150, 200]).transpose() + 1.0)]);
    assert_eq!(plan.scatters.len(), 1);
    assert_eq!(plan.scatters[0].grid.blocks(), 9);
    check(&evaluate(&plan, &[])[0], &(eager.reversed_axes() + 1.0));
}
