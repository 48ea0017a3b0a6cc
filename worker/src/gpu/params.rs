//! Where the numbers of a dispatch are among its parameters, in words: the same for the host that writes them and the
//! shaders that read them. The first three are counts; see the entry points of [`super::shader`].

use super::space::ADDRESS_WORDS;

/// Where it is said which workgroup of all is the first of a dispatch.
pub(super) const FIRST_GROUP_AT: usize = 3;
/// Where the merged axes are among the parameters. Before them come the counts of the dispatch.
pub(super) const AXES_AT: usize = 8;
const LEAVES_AT: usize = 24;
/// An address and up to fourteen words of data.
const LEAF_WORDS: usize = 32;
/// The rank, then four words for each axis.
const AT_WORDS: usize = 40;
const PLACE_WORDS: usize = 32;

/// Where leaf `leaf` is addressed.
pub(super) const fn leaf_at(leaf: usize) -> usize {
    LEAVES_AT + leaf * LEAF_WORDS
}

/// Where its data are.
pub(super) const fn data_at(leaf: usize) -> usize {
    leaf_at(leaf) + ADDRESS_WORDS
}

/// Where it is said what `At` holds, with `leaves` leaves.
pub(super) const fn at_at(leaves: usize) -> usize {
    leaf_at(leaves)
}

/// Where the reduced axes are, and how places along them are addressed.
pub(super) const fn place_at(leaves: usize) -> usize {
    at_at(leaves) + AT_WORDS
}

/// Words of parameters.
pub(super) const fn params_words(leaves: usize) -> usize {
    place_at(leaves) + PLACE_WORDS
}
