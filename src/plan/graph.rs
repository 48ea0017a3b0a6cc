//! Which computations there are: each once, producers before consumers.

use std::collections::{BTreeSet, HashMap};

use gridloom_worker::shape::Shape;

use crate::array::{Array, Expression, Identity};

/// The computations behind the arrays that were asked for.
pub(super) struct Graph {
    /// Producers before consumers.
    pub(super) units: Vec<Unit>,
    /// Per array asked for, which unit's blocks it is.
    pub(super) targets: Vec<Target>,
    index: HashMap<Identity, usize>,
}

/// One computation.
pub(super) struct Unit {
    /// An array of it (of several fields any; they share shape and grid).
    pub(super) array: Array,
    /// The fields that are used.
    pub(super) fields: BTreeSet<u32>,
    /// Whether it was asked for.
    pub(super) wanted: bool,
}

/// An array asked for.
pub(super) struct Target {
    pub(super) unit: usize,
    pub(super) array: Array,
    /// The shape asked for, which may have other axes of length 1 than the array.
    pub(super) shape: Shape,
}

impl Graph {
    pub(super) fn new(arrays: &[Array]) -> Graph {
        let mut graph = Graph { units: Vec::new(), targets: Vec::new(), index: HashMap::new() };
        for array in arrays {
            let shape = array.shape().clone();
            let array = without_ones(array);
            graph.visit(array);
            let unit = graph.unit_of(array);
            graph.use_field(unit, array);
            graph.units[unit].wanted = true;
            graph.targets.push(Target { unit, array: array.clone(), shape });
        }
        graph
    }

    /// The computation that makes an array of this graph.
    pub(super) fn unit_of(&self, array: &Array) -> usize {
        self.index[&array.identity()]
    }

    /// Adds what the array is made of, and then itself. Iterative: expressions may be deeper than a stack.
    fn visit(&mut self, array: &Array) {
        let mut open = vec![(array.clone(), 0)];
        while let Some((array, next)) = open.pop() {
            if self.index.contains_key(&array.identity()) {
                continue;
            }
            match array.expression().inputs().get(next).cloned() {
                Some(input) => {
                    open.push((array, next + 1));
                    open.push((input, 0));
                }
                None => self.add(array),
            }
        }
    }

    fn add(&mut self, array: Array) {
        for input in array.expression().inputs() {
            self.use_field(self.unit_of(input), input);
        }
        self.index.insert(array.identity(), self.units.len());
        self.units.push(Unit { array, fields: BTreeSet::new(), wanted: false });
    }

    fn use_field(&mut self, unit: usize, array: &Array) {
        self.units[unit].fields.insert(array.field());
    }
}

/// The array without views that only add or remove axes of length 1: its blocks are the same.
fn without_ones(mut array: &Array) -> &Array {
    while let Expression::View { input, view } = array.expression() {
        if !super::lower::is_relabelling(array, input, view) {
            break;
        }
        array = input;
    }
    array
}
