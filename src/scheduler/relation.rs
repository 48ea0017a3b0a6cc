//! Which blocks of a stage need which blocks of its inputs, for whole sets of blocks at a time.
//!
//! [`Stage::inputs`] and [`Stage::consumers`] answer for one block. Where blocks map to themselves, or neighbours to
//! neighbours, a range is answered at once, so that ten million blocks cost no more than ten.

use std::sync::Arc;

use gridloom_worker::ids::ArrayId;
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::shape::Region;
use gridloom_worker::stage::{BlockCall, Body, Source, Stage};

/// How the blocks of a stage and of its inputs relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No blocks are read.
    Source,
    /// Block `i` reads block `i` of every input.
    Blockwise,
    /// Block `i` reads neighbours, and no block is read twice: ranges map to ranges, in order.
    Grouped,
    /// Anything else.
    General,
}

/// A stage, and how its blocks relate to those it reads.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    stage: Arc<Stage>,
    inputs: Vec<ArrayId>,
    kind: Kind,
}

impl Relation {
    pub(super) fn new(stage: Arc<Stage>) -> Relation {
        let inputs = stage.input_arrays();
        let kind = match &stage.body {
            _ if inputs.is_empty() => Kind::Source,
            Body::Fold(_) => Kind::Grouped,
            Body::Map(_) | Body::Relabel(_) | Body::Block(_) if stage.is_blockwise() => Kind::Blockwise,
            Body::Map(_) | Body::Relabel(_) | Body::Block(_) => Kind::General,
        };
        Relation { stage, inputs, kind }
    }

    pub(super) fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// The arrays it reads, each once.
    pub(super) fn inputs(&self) -> &[ArrayId] {
        &self.inputs
    }

    /// Whether ranges are answered without looking at each block.
    pub(super) fn is_regular(&self) -> bool {
        self.kind != Kind::General
    }

    /// Whether no block depends on any other.
    pub(super) fn is_source(&self) -> bool {
        self.kind == Kind::Source
    }

    /// Whether block `i` reads exactly block `i` of every input.
    pub(super) fn is_blockwise(&self) -> bool {
        self.kind == Kind::Blockwise
    }

    /// Blocks of a stage with inputs that happen to read none of their blocks (the constant part of a concatenation).
    pub(super) fn blocks_without_inputs(&self) -> IntervalSet {
        let (Body::Map(map) | Body::Block(BlockCall { inputs: map, .. })) = &self.stage.body else {
            return IntervalSet::new();
        };
        let space = map.grid.shape();
        let pieces = || map.leaves.iter().flat_map(|leaf| &leaf.pieces);
        let arrays = || pieces().filter(|piece| matches!(piece.source, Source::Array { .. }));
        if arrays().any(|piece| piece.view.domain == Region::whole(&space)) {
            return IntervalSet::new();
        }
        let mut blocks = IntervalSet::whole(self.stage.blocks());
        for (input, count) in arrays().filter_map(|piece| match &piece.source {
            Source::Array { array, grid, .. } => Some((*array, grid.blocks())),
            _ => None,
        }) {
            blocks.remove_all(&self.readers_of(input, &IntervalSet::whole(count)));
        }
        blocks
    }

    /// The blocks that read any of `blocks` of `input`.
    pub(super) fn readers_of(&self, input: ArrayId, blocks: &IntervalSet) -> IntervalSet {
        match self.kind {
            Kind::Source => IntervalSet::new(),
            Kind::Blockwise => blocks.clone(),
            Kind::Grouped => blocks.iter().map(|range| self.group_hull(input, range)).collect(),
            Kind::General => blocks.indices().flat_map(|block| self.readers_of_one(input, block)).collect(),
        }
    }

    /// The blocks that read block `block` of `input`.
    pub(super) fn readers_of_one(&self, input: ArrayId, block: u64) -> Vec<Interval> {
        self.stage.consumers(input, block).into_iter().map(|range| Interval::new(range.start, range.end)).collect()
    }

    /// What any of `blocks` reads, per input.
    pub(super) fn inputs_of(&self, blocks: &IntervalSet) -> Vec<(ArrayId, IntervalSet)> {
        let mut read: Vec<(ArrayId, IntervalSet)> =
            self.inputs.iter().map(|&input| (input, IntervalSet::new())).collect();
        match self.kind {
            Kind::Source => {}
            Kind::Blockwise => read.iter_mut().for_each(|(_, set)| set.clone_from(blocks)),
            Kind::Grouped => blocks.iter().filter(|range| !range.is_empty()).for_each(|range| {
                let (first, last) = (self.inputs_of_one(range.start), self.inputs_of_one(range.end - 1));
                read[0].1.insert(Interval::new(first[0].1.start, last[0].1.end));
            }),
            Kind::General => {
                for (array, range) in blocks.indices().flat_map(|block| self.inputs_of_one(block)) {
                    if let Some((_, set)) = read.iter_mut().find(|(input, _)| *input == array) {
                        set.insert(range);
                    }
                }
            }
        }
        read
    }

    /// What block `block` reads. An array, and a block, may come twice.
    pub(super) fn inputs_of_one(&self, block: u64) -> Vec<(ArrayId, Interval)> {
        let inputs = self.stage.inputs(block).into_iter();
        inputs.map(|(array, range)| (array, Interval::new(range.start, range.end))).collect()
    }

    /// From the reader of the first block to the reader of the last.
    fn group_hull(&self, input: ArrayId, blocks: Interval) -> Interval {
        let (first, last) = (self.readers_of_one(input, blocks.start), self.readers_of_one(input, blocks.end - 1));
        Interval::new(first[0].start, last[0].end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{StageOf, array};

    /// Whole sets are answered as their blocks are, one by one.
    #[track_caller]
    fn check(stage: Stage, input: ArrayId, input_blocks: u64) {
        let relation = Relation::new(Arc::new(stage));
        for start in 0..input_blocks {
            for end in start + 1..=input_blocks {
                let one_by_one = (start..end).flat_map(|block| relation.readers_of_one(input, block)).collect();
                assert_eq!(relation.readers_of(input, &Interval::new(start, end).into()), one_by_one);
            }
        }
        let blocks = relation.stage().blocks();
        for start in 0..blocks {
            for end in start + 1..=blocks {
                let read = relation.inputs_of(&Interval::new(start, end).into());
                let one_by_one: IntervalSet =
                    (start..end).flat_map(|block| relation.inputs_of_one(block)).map(|(_, range)| range).collect();
                assert_eq!(read, vec![(input, one_by_one)]);
            }
        }
    }

    #[test]
    fn ranges_are_answered_as_their_blocks_are() {
        check(StageOf::fold(array(1), array(0), 3, 10, 4), array(0), 30);
        check(StageOf::map(array(1), &[(array(0), 7)], 7), array(0), 7);
        check(StageOf::flip(array(1), array(0), 9), array(0), 9);
        check(StageOf::rechunk(array(1), array(0), 12, 2, 3), array(0), 6);
    }
}
