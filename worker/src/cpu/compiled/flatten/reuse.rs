//! What need not be computed again: the same operation on the same operands is the same value, wherever the first one
//! was computed for every lane that asks for the second. That is in its block after it, and in the blocks within.
//!
//! The code generator does not look for such values: its optimizations cost more than they give.

use std::collections::HashMap;

use super::super::flat::{Base, Op, Place, ValueId, VariableId};
use crate::dtype::DType;

/// The values that can be had here.
#[derive(Default)]
pub(super) struct Reuse {
    values: HashMap<Computation, ValueId>,
    /// The keys of `values`, the latest last.
    order: Vec<Computation>,
    /// How often each variable was written, as far as is known here.
    writes: HashMap<VariableId, u32>,
    /// How often a loop began: what was read before may be written when it comes round.
    loops: u32,
}

/// What makes a value what it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Computation {
    op: Op,
    dtype: DType,
    operands: Box<[ValueId]>,
    /// Of a load, the writes before it.
    writes: Option<(u32, u32)>,
}

impl Reuse {
    /// `None` of what may be another value each time: what others write meanwhile.
    pub(super) fn computation(&self, op: Op, dtype: DType, operands: &[ValueId]) -> Option<Computation> {
        let writes = match op {
            Op::Load(Place { base: Base::Variable(variable), .. }) => {
                Some((self.writes.get(&variable).copied().unwrap_or(0), self.loops))
            }
            Op::Load(Place { base: Base::Buffer(_) | Base::Workgroup(_), .. }) | Op::Atomic(..) => return None,
            _ => None,
        };
        Some(Computation { op, dtype, operands: operands.into(), writes })
    }

    pub(super) fn find(&self, computation: &Computation) -> Option<ValueId> {
        self.values.get(computation).copied()
    }

    pub(super) fn insert(&mut self, computation: Option<Computation>, value: ValueId) {
        if let Some(computation) = computation {
            self.order.push(computation.clone());
            self.values.insert(computation, value);
        }
    }

    pub(super) fn wrote(&mut self, variable: VariableId) {
        *self.writes.entry(variable).or_default() += 1;
    }

    pub(super) fn begin_loop(&mut self) {
        self.loops += 1;
    }

    /// Enters a block; gives what [`Reuse::leave`] is to be told at its end.
    pub(super) fn enter(&self) -> usize {
        self.order.len()
    }

    pub(super) fn leave(&mut self, entered: usize) {
        for computation in self.order.drain(entered..) {
            self.values.remove(&computation);
        }
    }
}
