//! What the engine tells a kernel of where it is: the words of `At`.

use super::compiled::AT_WORDS;
use crate::shape::{RANK_MAX, Region, Shape};

/// The words of `At` for the elements of one block: the rank, then the global index, the block's index and its shape.
pub(super) struct At {
    region: Region,
    shape: Shape,
    words: [u64; AT_WORDS],
}

impl At {
    /// For the block that is `region`, at `block` in the grid.
    pub(super) fn new(region: &Region, block: &Shape) -> At {
        let shape = region.shape();
        let mut words = [0; AT_WORDS];
        words[0] = shape.rank() as u64;
        words[1 + RANK_MAX..][..block.rank()].copy_from_slice(block);
        words[1 + 2 * RANK_MAX..][..shape.rank()].copy_from_slice(&shape);
        At { region: region.clone(), shape, words }
    }

    /// All words for the block's row-major element `element`.
    pub(super) fn at(&mut self, element: u64) -> &[u64; AT_WORDS] {
        let index = self.shape.index_at(element);
        for (word, (&at, &start)) in self.words[1..].iter_mut().zip(index.iter().zip(self.region.start.iter())) {
            *word = start + at;
        }
        &self.words
    }

    /// The words that are the same for all elements.
    pub(super) fn uniform(&self) -> [u32; AT_WORDS] {
        self.words.map(|word| word as u32)
    }

    /// Writes the global index on `axis` of consecutive elements from `start` on.
    pub(super) fn index(&self, axis: usize, start: u64, index: &mut [u32]) {
        let Some(&length) = self.shape.get(axis) else { return index.fill(0) };
        // How many elements share an index on this axis.
        let run = self.shape[axis + 1..].iter().product::<u64>();
        let first = self.region.start[axis];
        let (mut at, mut left) = ((start / run) % length, run - start % run);
        for index in index {
            *index = (first + at) as u32;
            left -= 1;
            if left == 0 {
                (at, left) = (if at + 1 == length { 0 } else { at + 1 }, run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_at_a_time_is_every_element_at_a_time() {
        let region = Region { start: Shape::new(&[3, 0, 7]).unwrap(), end: Shape::new(&[5, 3, 11]).unwrap() };
        let mut at = At::new(&region, &Shape::new(&[1, 0, 1]).unwrap());
        for axis in 0..RANK_MAX {
            let mut index = [0; 17];
            at.index(axis, 5, &mut index);
            for (offset, &index) in index.iter().enumerate() {
                assert_eq!(u64::from(index), at.at(5 + offset as u64)[1 + axis], "{axis} {offset}");
            }
        }
    }
}
