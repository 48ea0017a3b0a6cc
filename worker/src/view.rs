//! How one array reads another, and the relation between their blocks that follows.
//!
//! A view is, per *input* axis, a fixed index or an output axis with a start and a step. Slices, steps, flips,
//! transposes, broadcasts and the members of a concatenation are all views, and views compose. Output axes that no
//! input axis names are broadcast. Both directions of the block map are closed-form and exact: an output block needs
//! an input block if and only if it reads at least one of its elements.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::grid::Grid;
use crate::shape::{Region, Shape};

/// Where one input axis is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AxisRead {
    /// Always at this index.
    Fixed(u64),
    /// At `start + step * o` for output index `o` along output axis `axis`. `step` is not 0.
    Along {
        /// The output axis.
        axis: u8,
        /// The input index that output index 0 would read (outside the array for members of a concatenation).
        start: i64,
        /// Input elements per output element; negative when flipped.
        step: i64,
    },
}

/// How an output space reads an input array, within `domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// The part of the output space that this view serves (all of it, but for members of a concatenation).
    pub domain: Region,
    /// One entry per input axis. No output axis is named twice.
    pub axes: Vec<AxisRead>,
}

impl View {
    /// Every element reads its own place.
    pub fn identity(shape: &Shape) -> View {
        let axes = (0..shape.rank()).map(|axis| AxisRead::Along { axis: axis as u8, start: 0, step: 1 });
        View { domain: Region::whole(shape), axes: axes.collect() }
    }

    /// Whether this is [`View::identity`] of its domain, which then is a whole array.
    pub fn is_identity(&self) -> bool {
        *self == View::identity(&self.domain.end)
    }

    /// The view of `inner`'s input through `self`: `self` reads an array that reads by `inner`.
    /// Indices that `inner`'s domain excludes leave the domain of the result.
    pub fn then(&self, inner: &View) -> View {
        let axes = inner.axes.iter().map(|read| match *read {
            AxisRead::Fixed(at) => AxisRead::Fixed(at),
            AxisRead::Along { axis, start, step } => match self.axes[usize::from(axis)] {
                AxisRead::Fixed(at) => AxisRead::Fixed((start + step * at as i64) as u64),
                AxisRead::Along { axis, start: outer_start, step: outer_step } => {
                    AxisRead::Along { axis, start: start + step * outer_start, step: step * outer_step }
                }
            },
        });
        View { axes: axes.collect(), domain: self.read_by(&inner.domain) }
    }

    /// The input index that output index `index` (inside the domain) reads.
    pub fn read_at(&self, index: &[u64]) -> Shape {
        let at = |read: &AxisRead| match *read {
            AxisRead::Fixed(at) => at,
            AxisRead::Along { axis, start, step } => (start + step * index[usize::from(axis)] as i64) as u64,
        };
        self.axes.iter().map(at).collect()
    }

    /// The smallest box of input elements that `output` reads; empty if it lies outside the domain.
    pub fn reads(&self, output: &Region) -> Region {
        let served = output.intersect(&self.domain);
        if served.is_empty() {
            let nowhere = Shape::zeros(self.axes.len());
            // Rank 0 has no empty box; a served region of rank 0 is never empty.
            return Region { start: nowhere.clone(), end: nowhere };
        }
        let bounds = || {
            self.axes.iter().map(|read| match *read {
                AxisRead::Fixed(at) => at..at + 1,
                AxisRead::Along { axis, start, step } => {
                    let axis = usize::from(axis);
                    let first = start + step * served.start[axis] as i64;
                    let last = start + step * (served.end[axis] - 1) as i64;
                    first.min(last) as u64..first.max(last) as u64 + 1
                }
            })
        };
        Region { start: bounds().map(|range| range.start).collect(), end: bounds().map(|range| range.end).collect() }
    }

    /// The part of the output space, inside the domain, that reads elements of `input`.
    pub fn read_by(&self, input: &Region) -> Region {
        let mut output = self.domain.clone();
        for (read, (&low, &high)) in self.axes.iter().zip(input.start.iter().zip(input.end.iter())) {
            match *read {
                AxisRead::Fixed(at) if (low..high).contains(&at) => {}
                AxisRead::Fixed(_) => return Region { start: output.start.clone(), end: output.start },
                AxisRead::Along { axis, start, step } => {
                    let axis = usize::from(axis);
                    let served = preimage(start, step, low..high);
                    output.start[axis] = output.start[axis].max(served.start);
                    output.end[axis] = output.end[axis].min(served.end).max(output.start[axis]);
                }
            }
        }
        output
    }

    /// The input blocks (index per axis) that the elements of `output` read, with the part of `output` that reads
    /// each, in row-major order of the input blocks.
    pub fn inputs<'a>(&'a self, output: &Region, input: &'a Grid) -> impl Iterator<Item = (Shape, Region)> + 'a {
        let served = output.intersect(&self.domain);
        let hull = self.reads(output);
        let candidates = if served.is_empty() { None } else { Some(input.blocks_of(&hull)) };
        let indices: Vec<Shape> = candidates.iter().flat_map(|blocks| blocks.indices().collect::<Vec<_>>()).collect();
        indices.into_iter().filter_map(move |index| {
            let part = self.read_by(&input.region(&index)).intersect(&served);
            (!part.is_empty()).then_some((index, part))
        })
    }

    /// The box of output blocks that read input block `index`; empty if none does.
    pub fn consumers(&self, index: &[u64], input: &Grid, output: &Grid) -> Region {
        let part = self.read_by(&input.region(index));
        if part.is_empty() {
            let nowhere = Shape::zeros(output.rank());
            return Region { start: nowhere.clone(), end: nowhere };
        }
        output.blocks_of(&part)
    }
}

/// The `o >= 0` for which `start + step * o` lies in `target`.
fn preimage(start: i64, step: i64, target: Range<u64>) -> Range<u64> {
    let (low, high) = (target.start as i64, target.end as i64);
    let range = match step > 0 {
        true => ceil_div(low - start, step)..ceil_div(high - start, step),
        false => ceil_div(start - high + 1, -step)..ceil_div(start - low + 1, -step),
    };
    let first = range.start.max(0) as u64;
    first..(range.end.max(0) as u64).max(first)
}

fn ceil_div(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grid::{AxisGrid, Segment};

    fn axis_grid() -> impl Strategy<Value = AxisGrid> {
        let segment = (1u64..4, 1u64..4).prop_map(|(chunk, count)| Segment { chunk, count });
        prop::collection::vec(segment, 1..4).prop_map(AxisGrid::from)
    }

    /// A view that reads inside its input: per input axis a step, a start and an output length that fit.
    fn case() -> impl Strategy<Value = (View, Grid, Grid)> {
        let axis = (axis_grid(), prop::sample::select(vec![-3i64, -2, -1, 1, 2, 3]), any::<[u8; 4]>());
        (prop::collection::vec(axis, 1..4), any::<bool>(), any::<bool>(), axis_grid()).prop_map(
            |(axes, reversed, fixed, extra)| {
                let rank = axes.len();
                let input = Grid { axes: axes.iter().map(|(grid, ..)| grid.clone()).collect() };
                let mut output = vec![extra.clone(); rank];
                let mut domain = Region::whole(&Shape::zeros(rank));
                let mut reads = Vec::new();
                for (at, (grid, step, [a, b, c, d])) in axes.iter().enumerate() {
                    let out = if reversed { rank - 1 - at } else { at };
                    let length = grid.length();
                    let room = (length - 1) / step.unsigned_abs() + 1;
                    let count = 1 + u64::from(*a) % room;
                    let span = (count - 1) * step.unsigned_abs();
                    let slack = u64::from(*b) % (length - span);
                    let offset = u64::from(*c) % 3;
                    let first = if *step > 0 { slack } else { slack + span };
                    domain.start[out] = offset;
                    domain.end[out] = offset + count;
                    output[out] = AxisGrid::regular(offset + count + u64::from(*d) % 3, 1 + u64::from(*d) % 5);
                    reads.push(AxisRead::Along {
                        axis: out as u8,
                        start: first as i64 - step * offset as i64,
                        step: *step,
                    });
                }
                if fixed {
                    reads[0] = AxisRead::Fixed(input.axes[0].length() / 2);
                }
                (View { domain, axes: reads }, input, Grid { axes: output })
            },
        )
    }

    proptest! {
        #[test]
        fn block_maps_are_inverse_and_exact((view, input, output) in case()) {
            let mut needed = Vec::new();
            for out in Region::whole(&output.block_counts()).indices() {
                let region = output.region(&out);
                let mut read: Vec<Shape> = region.intersect(&view.domain).indices()
                    .map(|index| {
                        let at = view.read_at(&index);
                        at.iter().zip(&input.axes).map(|(&at, axis)| axis.block_of(at)).collect()
                    }).collect();
                read.sort();
                read.dedup();
                let inputs: Vec<Shape> = view.inputs(&region, &input).map(|(index, _)| index).collect();
                prop_assert_eq!(&inputs, &read);
                needed.extend(inputs.into_iter().map(|index| (index, out.clone())));
            }
            let mut consumed = Vec::new();
            for index in Region::whole(&input.block_counts()).indices() {
                let consumers = view.consumers(&index, &input, &output);
                consumed.extend(consumers.indices().map(|out| (index.clone(), out)));
            }
            needed.sort();
            consumed.sort();
            prop_assert_eq!(needed, consumed);
        }

        #[test]
        fn views_compose((inner, _, middle) in case(), flip in any::<bool>()) {
            let shape = middle.shape();
            let mut outer = View::identity(&shape);
            if flip {
                outer.axes[0] = AxisRead::Along { axis: 0, start: shape[0] as i64 - 1, step: -1 };
            }
            let both = outer.then(&inner);
            for index in Region::whole(&shape).indices() {
                let through = outer.read_at(&index);
                let served = through.iter().enumerate()
                    .all(|(axis, &at)| (inner.domain.start[axis]..inner.domain.end[axis]).contains(&at));
                let inside = index.iter().enumerate()
                    .all(|(axis, &at)| (both.domain.start[axis]..both.domain.end[axis]).contains(&at));
                prop_assert_eq!(served, inside);
                if served {
                    prop_assert_eq!(both.read_at(&index), inner.read_at(&through));
                }
            }
        }
    }
}
