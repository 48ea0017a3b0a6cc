//! What no one should send: messages of a corpus with bytes changed, cut, doubled and added, and bytes of chance alone,
//! for a second each from one seed. In tests alone, those of the root crate among them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::allocated::allocated;

/// How long each decoder is tried.
pub(crate) const TRIED: Duration = Duration::from_secs(1);

/// What a decoder may allocate for each byte that it is given: the smallest parts of a plan are that much larger in
/// memory than on the wire.
const ALLOCATED_PER_BYTE: u64 = 256;
/// And besides: for its errors, and for what has one size whatever it is given. A compiler of kernels takes the most.
const ALLOCATED_BESIDES: u64 = 16 << 20;

/// SplitMix64: chance that is the same every time.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Bytes of chance, or an entry with a few things done to it.
    pub(crate) fn bytes(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if self.below(8) == 0 {
            let length = self.below(200);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                2 => bytes.extend_from_within(at.min(bytes.len())..),
                // The longest varint: lengths and numbers beyond all bounds.
                3 if !bytes.is_empty() => drop(bytes.splice(at..=at, [0xff; 9].into_iter().chain([1]))),
                4 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ if !bytes.is_empty() => bytes[at] = self.next() as u8,
                _ => {}
            }
        }
        bytes
    }
}

/// Tries a decoder that says how many bytes what it made would take again: nothing panics, nothing grows, and what is
/// allocated is bounded by what was given.
///
/// The corpus is `first` and what `folder` has, from the crate's own. There `good-*` are what `first` was when they were
/// written, and all others what was refused once. A good one must go on decoding, for it is what another process of this
/// version says. `GRIDLOOM_WRITE_CORPUS=1` writes the good ones anew.
#[track_caller]
pub(crate) fn try_decoder(folder: &str, first: Vec<Vec<u8>>, decoder: impl Fn(&[u8]) -> Option<usize>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if std::env::var_os("GRIDLOOM_WRITE_CORPUS").is_some() {
        write_corpus(&path, &first);
    }
    let mut corpus = first;
    for (name, bytes) in entries(&path) {
        assert_eq!(decoder(&bytes).is_some(), name.starts_with("good"), "{folder}/{name}");
        corpus.push(bytes);
    }
    let (mut chance, begun, mut tries) = (Chance(7), Instant::now(), 0u64);
    while begun.elapsed() < TRIED {
        let bytes = chance.bytes(&corpus);
        let before = allocated();
        let made = decoder(&bytes).unwrap_or(0);
        let allocated = allocated() - before;
        assert!(made <= bytes.len(), "{folder}: {made} bytes of {bytes:?}");
        let allocated_max = ALLOCATED_PER_BYTE * bytes.len() as u64 + ALLOCATED_BESIDES;
        assert!(allocated <= allocated_max, "{folder}: {allocated} bytes were allocated for {bytes:?}");
        tries += 1;
    }
    assert!(tries > 100, "{folder}: {tries} tries");
}

/// What a folder holds, by name.
fn entries(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let read = |file: fs::DirEntry| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
    let mut entries: Vec<(String, Vec<u8>)> = files.map(read).collect();
    entries.sort();
    entries
}

fn write_corpus(folder: &Path, good: &[Vec<u8>]) {
    fs::create_dir_all(folder).unwrap();
    for (name, _) in entries(folder) {
        if name.starts_with("good") {
            fs::remove_file(folder.join(name)).unwrap();
        }
    }
    for (at, entry) in good.iter().enumerate() {
        fs::write(folder.join(format!("good-{at}")), entry).unwrap();
    }
}
