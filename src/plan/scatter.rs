//! The client's own data on its way to workers.

use std::sync::Arc;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::ArrayId;

/// An array whose blocks the client puts on workers before a stage reads them.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// What the blocks are called.
    pub array: ArrayId,
    /// How the data is cut.
    pub grid: Grid,
    /// What the elements are.
    pub dtype: DType,
    /// All elements, C order, little-endian, as stored. Not a shared slice: making one of a vector would copy it.
    pub bytes: Arc<Vec<u8>>,
}

impl Scatter {
    /// Block `index`, copied.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, index: u64) -> Block {
        let region = self.grid.region(&self.grid.block_counts().index_at(index));
        let shape = region.shape();
        let width = self.dtype.bytes() as usize;
        let mut buffer = BufferMut::zeroed(shape.elements() as usize * width);
        let mut rest = buffer.bytes_mut();
        for run in region.runs(&self.grid.shape()) {
            let from = &self.bytes[run.start as usize * width..run.end as usize * width];
            let (to, after) = rest.split_at_mut(from.len());
            to.copy_from_slice(from);
            rest = after;
        }
        Block::new(Item::Value(self.dtype), shape, buffer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::ids::ClientId;
    use gridloom_worker::shape::Shape;

    use super::*;

    #[test]
    fn blocks_are_cut_in_row_major_order() {
        let shape = Shape::new(&[3, 5]).unwrap();
        let bytes: Vec<u8> = (0..15i32).flat_map(i32::to_le_bytes).collect();
        let array = ArrayId { client: ClientId(1), sequence: 0 };
        let scatter = Scatter { array, grid: Grid::regular(&shape, &[2, 3]), dtype: DType::I32, bytes: bytes.into() };
        assert_eq!(scatter.block(0).elements::<i32>(), [0, 1, 2, 5, 6, 7]);
        assert_eq!(scatter.block(3).elements::<i32>(), [13, 14]);
        let whole =
            Scatter { grid: Grid::single(&Shape::default()), bytes: 7i32.to_le_bytes().to_vec().into(), ..scatter };
        assert_eq!(whole.block(0).elements::<i32>(), [7]);
    }
}
