//! What stands for blocks: instead of numbers, the source blocks that went into them, so that none may be lost or come twice.

use std::sync::Arc;

use gridloom_worker::agent::{Part, Payload};
use gridloom_worker::block::{Block, SmallBlock};
use gridloom_worker::ids::{ArrayId, BlockId, ClientId};
use gridloom_worker::shape::Region;
use gridloom_worker::stage::Stage;

use super::plans::{Counts, add};

/// What stands for a field of a block: the source blocks that went into it.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) block: BlockId,
    pub(crate) field: u32,
    /// Set where a holder has cut it.
    pub(crate) cut: Option<Region>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) bytes: u64,
}

impl Payload for Data {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every field as a list of what went into it.
    fn small(fields: &[Data]) -> Option<SmallBlock> {
        let numbers = |(block, count): (&BlockId, &u64)| {
            let BlockId { array: ArrayId { client, sequence }, index } = *block;
            [client.0, sequence, index, *count]
        };
        let field = |field: &Data| {
            let numbers: Vec<u64> = field.counts.iter().flat_map(numbers).collect();
            Block::from_elements([numbers.len() as u64].into_iter().collect(), &numbers)
        };
        SmallBlock::of(&fields.iter().map(field).collect::<Vec<Block>>())
    }
}

/// What went into a field that came as [`Payload::small`] makes it.
pub(crate) fn counts_of(field: &Block) -> Counts {
    let (numbers, _) = field.elements::<u64>().as_chunks();
    let count = |&[client, sequence, index, count]: &[u64; 4]| {
        (BlockId { array: ArrayId { client: ClientId(client), sequence }, index }, count)
    };
    numbers.iter().map(count).collect()
}

/// What a block is: all that its operands are, or itself if it has none.
pub(crate) fn outputs(stage: &Stage, block: BlockId, operands: &[Part<Data>]) -> Vec<Data> {
    let mut counts = Counts::new();
    operands.iter().for_each(|operand| add(&mut counts, &operand.data.counts));
    if operands.is_empty() {
        counts.insert(block, 1);
    }
    let counts = Arc::new(counts);
    let fields = stage.outputs.len() as u64;
    let field = |field| Data {
        block,
        field: field as u32,
        cut: None,
        counts: counts.clone(),
        bytes: stage.bytes_output / fields,
    };
    (0..fields).map(field).collect()
}
