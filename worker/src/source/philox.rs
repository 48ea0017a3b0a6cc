//! Philox4x32-10: random words by counter, the same on every machine.
//!
//! The generator is that of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), with
//! key = the 64-bit seed and counter = (64-bit group index, 64-bit stream), both low word first. [`Philox::group`] is the
//! definition; everything else here, and the SIMD forms in `philox_x86`, gives the same bits faster.
//!
//! A group holds four elements of u32 or f32 (a word each) or two of f64 (low word first).

/// Keys of the ten rounds.
pub(super) type Keys = [[u32; 2]; 10];

pub(super) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Which numbers: what does not change along an array.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    pub(super) keys: Keys,
    pub(super) stream: u64,
}

/// A type with a uniform distribution: \[0, 1) for floats, all values for u32.
pub trait Uniform: Copy + Default + 'static {
    /// Elements per group of four words.
    const PER_GROUP: usize;
    /// Element `lane` of a group.
    fn from_words(words: [u32; 4], lane: usize) -> Self;
    /// Whole groups from `group` on, as many as the machine's widest code takes at once and fit `out`; how many
    /// elements were written.
    #[doc(hidden)]
    fn bulk(philox: &Philox, group: u64, out: &mut [Self]) -> usize;
}

impl Uniform for u32 {
    const PER_GROUP: usize = 4;
    #[inline(always)]
    fn from_words(words: [u32; 4], lane: usize) -> u32 {
        words[lane]
    }
    fn bulk(philox: &Philox, group: u64, out: &mut [u32]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(done) = super::philox_x86::fill_u32(philox, group, out) {
            return done;
        }
        plain(philox, group, out)
    }
}

impl Uniform for f32 {
    const PER_GROUP: usize = 4;
    #[inline(always)]
    fn from_words(words: [u32; 4], lane: usize) -> f32 {
        (words[lane] >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }
    fn bulk(philox: &Philox, group: u64, out: &mut [f32]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(done) = super::philox_x86::fill_f32(philox, group, out) {
            return done;
        }
        plain(philox, group, out)
    }
}

impl Uniform for f64 {
    const PER_GROUP: usize = 2;
    #[inline(always)]
    fn from_words(words: [u32; 4], lane: usize) -> f64 {
        let (low, high) = (words[2 * lane], words[2 * lane + 1]);
        ((u64::from(high >> 5) << 26) + u64::from(low >> 6)) as f64 * (1.0 / (1u64 << 53) as f64)
    }
    fn bulk(philox: &Philox, group: u64, out: &mut [f64]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(done) = super::philox_x86::fill_f64(philox, group, out) {
            return done;
        }
        plain(philox, group, out)
    }
}

impl Philox {
    /// The numbers of `seed` and `stream`.
    pub fn new(seed: u64, stream: u64) -> Philox {
        let [mut low, mut high] = [seed as u32, (seed >> 32) as u32];
        let mut keys = Keys::default();
        for key in &mut keys {
            *key = [low, high];
            low = low.wrapping_add(WEYL[0]);
            high = high.wrapping_add(WEYL[1]);
        }
        Philox { keys, stream }
    }

    /// The words of the key: the seed's, low word first.
    pub(crate) fn key(&self) -> [u32; 2] {
        self.keys[0]
    }

    /// The high half of the counter.
    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// The four words of group `group`.
    pub fn group(&self, group: u64) -> [u32; 4] {
        let counter = [group as u32, (group >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        self.keys.iter().fold(counter, |[c0, c1, c2, c3], key| {
            let (high0, low0) = wide_product(MULTIPLIERS[0], c0);
            let (high1, low1) = wide_product(MULTIPLIERS[1], c2);
            [high1 ^ c1 ^ key[0], low1, high0 ^ c3 ^ key[1], low0]
        })
    }

    /// Element `index` of an array.
    pub fn element<T: Uniform>(&self, index: u64) -> T {
        let per_group = T::PER_GROUP as u64;
        T::from_words(self.group(index / per_group), (index % per_group) as usize)
    }

    /// Elements `first..first + out.len()` of an array.
    pub fn fill<T: Uniform>(&self, first: u64, out: &mut [T]) {
        let per_group = T::PER_GROUP as u64;
        let (mut group, lane) = (first / per_group, (first % per_group) as usize);
        let mut out = out;
        if lane > 0 {
            let (head, rest) = out.split_at_mut(out.len().min(T::PER_GROUP - lane));
            let words = self.group(group);
            head.iter_mut().zip(lane..).for_each(|(value, lane)| *value = T::from_words(words, lane));
            (out, group) = (rest, group + 1);
        }
        let done = T::bulk(self, group, out);
        let rest = &mut out[done..];
        if !rest.is_empty() {
            // The shortest of the lengths that every bulk form's step divides or is.
            let mut tail = [T::default(); 64];
            let group = group + done as u64 / per_group;
            let fits = |&len: &usize| len >= rest.len() && T::bulk(self, group, &mut tail[..len]) == len;
            let _ = [16, 32, 64].iter().any(fits);
            rest.copy_from_slice(&tail[..rest.len()]);
        }
    }

    /// Elements `first`, `first + stride`, ... of an array. All of them exist.
    pub fn fill_strided<T: Uniform>(&self, first: u64, stride: i64, out: &mut [T]) {
        let per_group = T::PER_GROUP as u64;
        let at = |step: usize| first.wrapping_add_signed(stride * step as i64);
        for (chunk, values) in out.chunks_mut(LANES).enumerate() {
            let groups: [u64; LANES] = std::array::from_fn(|lane| at(chunk * LANES + lane) / per_group);
            let words = self.groups(groups);
            for (lane, value) in values.iter_mut().enumerate() {
                let element = (at(chunk * LANES + lane) % per_group) as usize;
                *value = T::from_words(words.map(|word| word[lane]), element);
            }
        }
    }

    /// The words of any eight groups, planar, so that the compiler can use what vectors there are.
    #[inline(always)]
    fn groups(&self, groups: [u64; LANES]) -> [[u32; LANES]; 4] {
        let counter = [
            groups.map(|group| group as u32),
            groups.map(|group| (group >> 32) as u32),
            [self.stream as u32; LANES],
            [(self.stream >> 32) as u32; LANES],
        ];
        self.keys.iter().fold(counter, |[c0, c1, c2, c3], key| {
            let mut next = [[0; LANES]; 4];
            for lane in 0..LANES {
                let (high0, low0) = wide_product(MULTIPLIERS[0], c0[lane]);
                let (high1, low1) = wide_product(MULTIPLIERS[1], c2[lane]);
                next[0][lane] = high1 ^ c1[lane] ^ key[0];
                next[1][lane] = low1;
                next[2][lane] = high0 ^ c3[lane] ^ key[1];
                next[3][lane] = low0;
            }
            next
        })
    }
}

/// Counters that the plain form computes at once.
const LANES: usize = 8;

#[inline(always)]
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// The bulk form for any machine.
fn plain<T: Uniform>(philox: &Philox, group: u64, out: &mut [T]) -> usize {
    let chunks = out.chunks_exact_mut(LANES * T::PER_GROUP);
    let done = chunks.len() * LANES * T::PER_GROUP;
    for (first, values) in (group..).step_by(LANES).zip(chunks) {
        let words = philox.groups(std::array::from_fn(|lane| first + lane as u64));
        for (lane, values) in values.chunks_exact_mut(T::PER_GROUP).enumerate() {
            let words = words.map(|word| word[lane]);
            values.iter_mut().enumerate().for_each(|(element, value)| *value = T::from_words(words, element));
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Philox with a whole counter and key, as Random123's `kat_vectors` gives them.
    #[track_caller]
    fn check(counter: [u32; 4], key: [u32; 2], expected: [u32; 4]) {
        let wide = |[low, high]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
        let philox = Philox::new(wide(key), wide([counter[2], counter[3]]));
        let group = wide([counter[0], counter[1]]);
        assert_eq!(philox.group(group), expected);
        assert_eq!(philox.groups([group; LANES]).map(|word| word[LANES - 1]), expected);
    }

    #[test]
    fn known_answers_of_random123() {
        check([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([!0; 4], [!0; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn values_are_made_of_words_as_the_contract_says() {
        let words = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8];
        let philox = Philox::new(0, 0);
        assert_eq!((0..4).map(|index| philox.element::<u32>(index)).collect::<Vec<_>>(), words);
        assert_eq!(philox.element::<f32>(1), (0xe169c5 as f64 / 2f64.powi(24)) as f32);
        let high = f64::from(0x9b00dbd8u32 >> 5) * 2f64.powi(26);
        assert_eq!(philox.element::<f64>(1), (high + f64::from(0xbc57ac4cu32 >> 6)) * 2f64.powi(-53));
        assert_eq!(f32::from_words([!0; 4], 0), 1.0 - 2f32.powi(-24));
        assert_eq!(f64::from_words([!0; 4], 0), 1.0 - 2f64.powi(-53));
    }

    /// Any cut of an array, with any code, is the definition element by element.
    fn check_fill<T: Uniform + PartialEq + std::fmt::Debug>(fill: impl Fn(&Philox, u64, &mut [T])) {
        let philox = Philox::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        let carry = (1u64 << 32) * T::PER_GROUP as u64;
        for first in [0, 1, 2, 3, 5, carry - 70, carry - 1, carry * 77 + 3, (1 << 59) + 1] {
            for len in (0..9).chain([15, 16, 31, 63, 64, 65, 130, 1000]) {
                let mut values = vec![T::default(); len];
                fill(&philox, first, &mut values);
                let expected: Vec<T> = (first..).take(len).map(|index| philox.element(index)).collect();
                assert_eq!(values, expected, "{first} {len}");
            }
        }
    }

    #[test]
    fn any_run_is_the_definition() {
        check_fill::<u32>(|philox, first, out| philox.fill(first, out));
        check_fill::<f32>(|philox, first, out| philox.fill(first, out));
        check_fill::<f64>(|philox, first, out| philox.fill(first, out));
    }

    #[test]
    fn plain_code_is_the_definition() {
        fn whole_groups<T: Uniform>(philox: &Philox, first: u64, out: &mut [T]) {
            let per_group = T::PER_GROUP as u64;
            let done = match first % per_group {
                0 => plain(philox, first / per_group, out),
                _ => 0,
            };
            (first + done as u64..).zip(&mut out[done..]).for_each(|(index, value)| *value = philox.element(index));
        }
        check_fill::<u32>(whole_groups);
        check_fill::<f32>(whole_groups);
        check_fill::<f64>(whole_groups);
    }

    #[test]
    fn strides_pick_from_the_same_array() {
        let philox = Philox::new(3, 4);
        for (first, stride) in [(0u64, 1i64), (100, -1), (7, 3), (5000, -37), (9, 0)] {
            let mut values = [0f64; 21];
            philox.fill_strided(first, stride, &mut values);
            let at = |step: usize| first.wrapping_add_signed(stride * step as i64);
            assert!(values.iter().enumerate().all(|(step, &value)| value == philox.element::<f64>(at(step))));
        }
    }
}
