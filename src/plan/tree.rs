//! The levels of a reduction above its blocks.
//!
//! Each level combines aligned groups of [`FOLD_FAN_IN`] neighbouring partials, which is folding the aligned binary
//! tree. The last one, with its finish, is the root.

use std::sync::Arc;

use gridloom_worker::block::Item;
use gridloom_worker::dtype::DType;
use gridloom_worker::ids::ArrayId;
use gridloom_worker::stage::{Body, FOLD_FAN_IN, Fold, Stage};

use super::{ArrayIds, PlanError, memory};
use crate::array::Root;

/// The most bytes of partials that a client takes to do the root itself.
pub const ROOT_BYTES_MAX: u64 = 64 << 20;

/// Adds levels until at most one group of partials is left for each kept block; `root.count` is what `input` has.
/// Gives the array of the last level.
pub(super) fn folded(
    input: ArrayId,
    root: &mut Root,
    ids: &mut ArrayIds,
    stages: &mut Vec<Arc<Stage>>,
) -> Result<ArrayId, PlanError> {
    let mut last = input;
    while root.count > FOLD_FAN_IN {
        let items = vec![Item::Partial { bytes: root.partial_bytes }];
        let stage = stage(ids.make(), last, root, false, items)?;
        last = stage.array;
        stages.push(Arc::new(stage));
        root.count = root.count.div_ceil(FOLD_FAN_IN);
    }
    Ok(last)
}

/// The root as a stage.
pub(super) fn rooted(input: ArrayId, root: &Root, ids: &mut ArrayIds) -> Result<Stage, PlanError> {
    let items = root.results.iter().map(|&dtype: &DType| Item::Value(dtype)).collect();
    stage(ids.make(), input, root, true, items)
}

/// Whether the client may do the root: few enough partials.
pub(super) fn is_light(root: &Root) -> bool {
    let partials = root.kept.shape().elements().saturating_mul(root.count);
    partials.saturating_mul(u64::from(root.partial_bytes)) <= ROOT_BYTES_MAX
}

fn stage(array: ArrayId, input: ArrayId, root: &Root, finish: bool, outputs: Vec<Item>) -> Result<Stage, PlanError> {
    let fold = Fold {
        input,
        reduction: root.reduction.clone(),
        kept: root.kept.clone(),
        count: root.count,
        fan_in: FOLD_FAN_IN,
        finish,
    };
    let partial = root.kept.block_elements_max().saturating_mul(u64::from(root.partial_bytes));
    let operands = partial.saturating_mul(root.count.min(FOLD_FAN_IN));
    memory::stage(array, Body::Fold(fold), &root.kept, outputs, operands)
}
