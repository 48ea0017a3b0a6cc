//! Which computations are stored, and which are computed inside the one that reads them.
//!
//! An element function melts into its consumer, through any affine view, if it is read from one place only: by one
//! stage through one view. What is read from two places is stored once. Sources are made again wherever they are read.
//! Reductions and the outputs of block kernels are always stored, and so is what a concatenation joins, if it is
//! computed. A kernel that asks where its element stands melts only where the space is its own. A stage that would bind
//! too many buffers, or grow too long a program, is split.

use std::collections::{BTreeSet, HashMap, HashSet};

use gridloom_worker::grid::Grid;
use gridloom_worker::stage::Source;
use gridloom_worker::view::View;

use super::graph::{Graph, Unit};
use crate::array::{Array, BUFFERS_MAX, Expression};

/// The most kernel calls in one program: far above what people write, and well below what compilers choke on.
const STEPS_MAX: usize = 256;
/// A join or view that is read from more places than this is stored: seen through, it would be listed for each.
const PLACES_MAX: usize = 64;

/// Per unit, whether consumers find it stored. Scattered and resident arrays are, without a stage.
pub(super) fn stored(graph: &Graph) -> Vec<bool> {
    let mut forced = BTreeSet::new();
    loop {
        let stored = read_from_several_places(graph, &forced);
        let before = forced.len();
        split(graph, &stored, &mut forced);
        if forced.len() == before {
            return stored;
        }
    }
}

/// Where a unit's elements are needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// The stored unit that is computed there.
    root: usize,
    /// How its space reads the unit.
    view: View,
    /// Whether only as a part of a join.
    joined: bool,
}

fn read_from_several_places(graph: &Graph, forced: &BTreeSet<usize>) -> Vec<bool> {
    let mut places: Vec<HashSet<Place>> = vec![HashSet::new(); graph.units.len()];
    let mut stored = vec![false; graph.units.len()];
    let mut needed_stored: HashSet<usize> = forced.iter().copied().collect();
    // Consumers first: all places are known when a unit's turn comes.
    for (at, unit) in graph.units.iter().enumerate().rev() {
        let own = std::mem::take(&mut places[at]);
        stored[at] = unit.wanted || needed_stored.contains(&at) || must_be_stored(graph, unit, &own);
        if let Expression::Relabel(input) = unit.array.expression() {
            needed_stored.insert(graph.unit_of(input));
        }
        let here = Place { root: at, view: View::identity(&space(&unit.array).shape()), joined: false };
        let from: Vec<Place> = if stored[at] { vec![here] } else { own.into_iter().collect() };
        for place in from {
            for (input, place) in inputs_at(&unit.array, place) {
                places[graph.unit_of(input)].insert(place);
            }
        }
    }
    stored
}

fn must_be_stored(graph: &Graph, unit: &Unit, places: &HashSet<Place>) -> bool {
    match unit.array.expression() {
        Expression::Failed(_) | Expression::Source(_) => false,
        Expression::Scattered(_) | Expression::Resident(_) => true,
        Expression::View { .. } | Expression::Concatenation { .. } => places.len() > PLACES_MAX,
        Expression::Relabel(_) | Expression::Reduced { .. } | Expression::Blocks { .. } => true,
        Expression::Call { call, .. } => {
            let elsewhere = |place: &Place| {
                let root = space(&graph.units[place.root].array);
                !(place.view.is_identity() && root == unit.array.grid())
            };
            places.len() > 1
                || places.iter().any(|place| place.joined)
                || call.function.uses_at() && places.iter().any(elsewhere)
        }
    }
}

/// The element space of a stored array's first stage.
pub(super) fn space(array: &Array) -> &Grid {
    match array.expression() {
        Expression::Reduced { reduce, .. } => &reduce.grid,
        Expression::Blocks { call, .. } => &call.grid,
        _ => array.grid(),
    }
}

/// The inputs of an array and how each is read where the array is read from `place`.
fn inputs_at(array: &Array, place: Place) -> Vec<(&Array, Place)> {
    match array.expression() {
        Expression::View { input, view } => vec![(input, Place { view: place.view.then(view), ..place })],
        Expression::Concatenation { parts, views } => {
            let part = |(part, view): (_, &View)| {
                (part, Place { root: place.root, view: place.view.then(view), joined: true })
            };
            parts.iter().zip(views).map(part).collect()
        }
        // A relabelled array is read as blocks, in no view of the space.
        Expression::Relabel(_) => Vec::new(),
        expression => expression.inputs().iter().map(|input| (input, place.clone())).collect(),
    }
}

/// What a unit brings into the stage that it melts into.
#[derive(Clone, Default)]
struct Load {
    /// The buffers it reads: a unit, and a number for the chain of views through which.
    buffers: BTreeSet<(usize, usize)>,
    /// The units that become steps, sorted.
    steps: Vec<usize>,
}

impl Load {
    fn buffer(unit: usize) -> Load {
        Load { buffers: BTreeSet::from([(unit, 0)]), steps: Vec::new() }
    }

    fn absorb(&mut self, other: &Load) {
        self.buffers.extend(&other.buffers);
        self.steps.extend(&other.steps);
        self.steps.sort_unstable();
        self.steps.dedup();
    }
}

/// Forces units to be stored until no stage is above a limit.
fn split(graph: &Graph, stored: &[bool], forced: &mut BTreeSet<usize>) {
    let mut splitter = Splitter { graph, stored, forced, loads: Vec::new(), chains: HashMap::new() };
    for (at, unit) in graph.units.iter().enumerate() {
        let load = splitter.load(at, unit);
        splitter.loads.push(load);
    }
}

struct Splitter<'a> {
    graph: &'a Graph,
    stored: &'a [bool],
    forced: &'a mut BTreeSet<usize>,
    /// Per unit so far.
    loads: Vec<Load>,
    /// Numbers for chains of views: a shorter chain and a view.
    chains: HashMap<(usize, usize), usize>,
}

impl Splitter<'_> {
    fn load(&mut self, at: usize, unit: &Unit) -> Load {
        match unit.array.expression() {
            Expression::Failed(_) | Expression::Relabel(_) => Load::default(),
            Expression::Scattered(_) | Expression::Resident(_) => Load::buffer(at),
            Expression::Source(Source::Literal { .. } | Source::Npy(_) | Source::Array { .. }) => Load::buffer(at),
            Expression::Source(
                Source::Constant(_) | Source::Iota { .. } | Source::Linspace { .. } | Source::Random(_),
            ) => Load::default(),
            Expression::View { input, .. } => {
                let mut load = self.brought(self.graph.unit_of(input));
                let numbered = load.buffers.into_iter().map(|(buffer, chain)| {
                    let fresh = self.chains.len() + 1;
                    (buffer, *self.chains.entry((chain, at)).or_insert(fresh))
                });
                load.buffers = numbered.collect();
                load
            }
            // The members are poured into one operand.
            Expression::Concatenation { .. } => Load::buffer(at),
            Expression::Call { .. } | Expression::Reduced { .. } | Expression::Blocks { .. } => self.computed(at, unit),
        }
    }

    /// What the inputs of a computation bring, after as many of them were stored as the limits ask for.
    fn computed(&mut self, at: usize, unit: &Unit) -> Load {
        let inputs: Vec<usize> =
            unit.array.expression().inputs().iter().map(|input| self.graph.unit_of(input)).collect();
        // The element program of a block kernel makes the kernel's inputs.
        let made = match unit.array.expression() {
            Expression::Blocks { .. } => inputs.len(),
            _ => unit.fields.len(),
        };
        loop {
            let mut load = Load::default();
            inputs.iter().for_each(|&input| load.absorb(&self.brought(input)));
            let too_many = load.buffers.len() + made > BUFFERS_MAX;
            if !too_many && load.steps.len() < STEPS_MAX {
                load.steps.push(at);
                return load;
            }
            let candidates = inputs.iter().map(|&input| self.beneath_views(input));
            let melted = candidates.filter(|&input| !self.is_stored(input) && !self.loads[input].steps.is_empty());
            let weight = |input: &usize| match too_many {
                true => self.loads[*input].buffers.len(),
                false => self.loads[*input].steps.len(),
            };
            match melted.max_by_key(weight) {
                // Storing what reads one buffer saves none.
                Some(input) if weight(&input) > 1 => self.forced.insert(input),
                _ => {
                    load.steps.push(at);
                    return load;
                }
            };
        }
    }

    fn is_stored(&self, unit: usize) -> bool {
        self.stored[unit] || self.forced.contains(&unit)
    }

    fn brought(&self, unit: usize) -> Load {
        if self.is_stored(unit) { Load::buffer(unit) } else { self.loads[unit].clone() }
    }

    /// What a chain of views looks at: storing a view could store a broadcast.
    fn beneath_views(&self, mut unit: usize) -> usize {
        while let Expression::View { input, .. } = self.graph.units[unit].array.expression() {
            if self.is_stored(unit) {
                break;
            }
            unit = self.graph.unit_of(input);
        }
        unit
    }
}
