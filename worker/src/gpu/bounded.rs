//! A map that remembers what is used again, and never grows without end: full, it forgets everything. What it held is
//! made again where it is asked for, which is rare enough not to be worth knowing what was used last.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `MAX` entries.
#[derive(Debug)]
pub(super) struct Bounded<K, V, const MAX: usize>(HashMap<K, V>);

impl<K, V, const MAX: usize> Default for Bounded<K, V, MAX> {
    fn default() -> Bounded<K, V, MAX> {
        Bounded(HashMap::new())
    }
}

impl<K: Eq + Hash, V, const MAX: usize> Bounded<K, V, MAX> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.0.len() >= MAX && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.insert(key, value);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_begins_anew() {
        let mut squares = Bounded::<u32, u32, 4>::default();
        for number in 0..1000 {
            squares.insert(number, number * number);
            squares.insert(number, number * number);
            assert_eq!(squares.get(&number), Some(&(number * number)));
            assert_eq!(squares.len(), number as usize % 4 + 1);
        }
        squares.clear();
        assert_eq!((squares.len(), squares.get(&999)), (0, None));
    }
}
