//! The aligned binary tree over a sequence, built as the sequence arrives.
//!
//! The tree over `n` nodes splits at the largest power of two below `n`; so the tree over aligned groups of a power of
//! two, and then over what they gave, is the tree over all. Like a binary counter, level `k` holds the value of a
//! complete subtree of `2^k` nodes, or nothing.

/// A tree in the making. `join` is always called with the earlier value first.
pub(super) struct Tree<V> {
    levels: Vec<Option<V>>,
}

impl<V> Tree<V> {
    pub(super) const fn new() -> Tree<V> {
        Tree { levels: Vec::new() }
    }

    /// Appends the next node.
    pub(super) fn push(&mut self, value: V, mut join: impl FnMut(V, V) -> V) {
        let mut carried = value;
        for level in &mut self.levels {
            match level.take() {
                Some(earlier) => carried = join(earlier, carried),
                None => {
                    *level = Some(carried);
                    return;
                }
            }
        }
        self.levels.push(Some(carried));
    }

    /// The value of the whole sequence, which begins anew; `None` for an empty one.
    pub(super) fn finish(&mut self, mut join: impl FnMut(V, V) -> V) -> Option<V> {
        self.levels.drain(..).flatten().reduce(|later, earlier| join(earlier, later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nodes: &[String]) -> String {
        let join = |a: String, b: String| format!("({a}{b})");
        let mut tree = Tree::new();
        nodes.iter().for_each(|node| tree.push(node.clone(), join));
        tree.finish(join).unwrap_or_default()
    }

    /// The definition, by recursion.
    fn expected(nodes: &[String]) -> String {
        match nodes {
            [] => String::new(),
            [one] => one.clone(),
            many => {
                let (a, b) = many.split_at(many.len().next_power_of_two() / 2);
                format!("({}{})", expected(a), expected(b))
            }
        }
    }

    #[test]
    fn splits_at_powers_of_two_and_groups_do_not_show() {
        for count in 0..70 {
            let nodes: Vec<String> = (0..count).map(|node| format!("{node} ")).collect();
            assert_eq!(text(&nodes), expected(&nodes));
            for group in [1, 2, 4, 8, 64] {
                let groups: Vec<String> = nodes.chunks(group).map(text).collect();
                assert_eq!(text(&groups), text(&nodes), "{count} in groups of {group}");
            }
        }
    }
}
