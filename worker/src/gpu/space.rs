//! The order in which a block's elements are computed, and how each leaf is read in it.
//!
//! A map computes its block in row-major order; a reduction takes the kept axes first and then the reduced ones, so
//! that what makes one result is consecutive. In either order an element has one number, and a leaf's address is a sum
//! of steps along axes. Neighbouring axes that continue each other for every leaf are one.

use crate::shape::{RANK_MAX, Shape};

/// Words of a list of axes among the parameters: how many, then their lengths.
pub(super) const AXES_WORDS: usize = 1 + RANK_MAX;
/// Words of an address: its base, then a step for each axis.
pub(super) const ADDRESS_WORDS: usize = 2 + 2 * RANK_MAX;

/// How something is addressed along the axes of a block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// The address of the first element.
    pub(super) base: u64,
    /// What one step along each axis adds.
    pub(super) steps: Vec<i64>,
}

/// A block's axes in the order in which they are computed, merged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Space {
    lengths: Vec<u64>,
    /// One per thing that is addressed, with a step per merged axis.
    addresses: Vec<Address>,
}

impl Space {
    /// The space of a block of `shape` taken in `order`, with what is addressed in it by the block's own axes.
    pub(super) fn new(shape: &[u64], order: &[usize], addresses: Vec<Address>) -> Space {
        let mut merged = Space {
            lengths: Vec::new(),
            addresses: addresses.iter().map(|address| Address { base: address.base, steps: Vec::new() }).collect(),
        };
        for &axis in order.iter().filter(|&&axis| shape[axis] != 1) {
            let length = shape[axis];
            let steps = || addresses.iter().map(|address| address.steps[axis]);
            let continues = |(merged, step): (&Address, i64)| merged.steps.last() == Some(&(step * length as i64));
            let is_one = merged.addresses.iter().zip(steps()).all(continues) && !merged.lengths.is_empty();
            if is_one && let Some(last) = merged.lengths.last_mut() {
                *last *= length;
                let inner = merged.addresses.iter_mut().zip(steps());
                inner
                    .for_each(|(address, step)| address.steps.splice(address.steps.len() - 1.., [step]).for_each(drop));
            } else {
                merged.lengths.push(length);
                merged.addresses.iter_mut().zip(steps()).for_each(|(address, step)| address.steps.push(step));
            }
        }
        merged
    }

    /// Whether address `index` of an element is its number and a base.
    pub(super) fn is_linear(&self, index: usize) -> bool {
        let mut stride = 1;
        self.lengths.iter().zip(&self.addresses[index].steps).rev().all(|(&length, &step)| {
            let continues = step == stride;
            stride *= length as i64;
            continues
        })
    }

    /// The merged axes as parameters.
    pub(super) fn axes_words(&self) -> [u32; AXES_WORDS] {
        let mut words = [0; AXES_WORDS];
        words[0] = self.lengths.len() as u32;
        words[1..].iter_mut().zip(&self.lengths).for_each(|(word, &length)| *word = length as u32);
        words
    }

    /// Address `index` as parameters.
    pub(super) fn address_words(&self, index: usize) -> [u32; ADDRESS_WORDS] {
        let Address { base, steps } = &self.addresses[index];
        let mut words = [0; ADDRESS_WORDS];
        let values = std::iter::once(*base).chain(steps.iter().map(|&step| step as u64));
        words.chunks_exact_mut(2).zip(values).for_each(|(pair, value)| pair.copy_from_slice(&halves(value)));
        words
    }
}

/// The lowest and the highest address that `address` gives over a box of `shape`, which is not empty.
pub(super) fn hull(shape: &Shape, address: &Address) -> (u64, u64) {
    let far = |sign: i64| {
        let reach = shape.iter().zip(&address.steps).map(|(&length, &step)| step * (length as i64 - 1));
        reach.filter(|&reach| reach * sign > 0).sum::<i64>()
    };
    (address.base.wrapping_add_signed(far(-1)), address.base.wrapping_add_signed(far(1)))
}

/// Low word, high word.
pub(super) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(base: u64, steps: &[i64]) -> Address {
        Address { base, steps: steps.to_vec() }
    }

    #[test]
    fn axes_merge_where_every_leaf_continues() {
        let both =
            Space::new(&[2, 3, 1, 4], &[0, 1, 2, 3], vec![address(5, &[12, 4, 9, 1]), address(0, &[0, 0, 0, 0])]);
        assert_eq!(both.lengths, [24]);
        assert!(both.is_linear(0) && !both.is_linear(1));
        let turned = Space::new(&[2, 3], &[1, 0], vec![address(0, &[3, 1])]);
        assert_eq!((turned.lengths.as_slice(), turned.addresses[0].steps.as_slice()), (&[3, 2][..], &[1, 3][..]));
        assert!(!turned.is_linear(0));
        let mixed = Space::new(&[2, 3], &[0, 1], vec![address(0, &[3, 1]), address(0, &[1, 2])]);
        assert_eq!(mixed.lengths, [2, 3]);
        assert!(mixed.is_linear(0) && !mixed.is_linear(1));
        assert!(Space::new(&[1], &[0], vec![address(7, &[3])]).is_linear(0), "one element");
    }

    #[test]
    fn words_hold_negative_steps() {
        let flipped = Space::new(&[4], &[0], vec![address(3, &[-1])]);
        assert_eq!(flipped.axes_words()[..2], [1, 4]);
        assert_eq!(flipped.address_words(0)[..4], [3, 0, u32::MAX, u32::MAX]);
        assert_eq!(hull(&Shape::new(&[4]).unwrap(), &address(3, &[-1])), (0, 3));
    }
}
