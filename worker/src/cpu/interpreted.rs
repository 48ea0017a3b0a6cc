//! Element programs in the interpreter, one invocation after the other. Values are words: the stored bits, zero-extended.

use super::at::At;
use super::compiled::AT_WORDS;
use super::pipeline::TILE;
use crate::dtype::{DType, Element};
use crate::executor::ExecuteError;
use crate::interpreter::{Interpreter, StopFlag};
use crate::shape::Region;
use crate::source::LeafReader;
use crate::stage::Map;
use crate::with_element;

/// A program that is interpreted.
pub(super) struct Interpreted {
    pub interpreter: Interpreter,
    pub uses_at: bool,
    pub results: Vec<DType>,
}

/// The program over one tile of a block.
pub(super) struct Lanes {
    interpreter: Interpreter,
    dtypes: Vec<DType>,
    /// Per leaf, the tile's words.
    arguments: Vec<Vec<u64>>,
    /// Per result, the tile's words.
    pub results: Vec<Vec<u64>>,
    at: Option<At>,
}

impl Lanes {
    pub(super) fn new(map: &Map, program: &Interpreted, region: &Region, block: u64) -> Lanes {
        Lanes {
            interpreter: program.interpreter.clone(),
            dtypes: map.leaves.iter().map(|leaf| leaf.dtype).collect(),
            arguments: vec![Vec::new(); map.leaves.len()],
            results: vec![Vec::new(); program.results.len()],
            at: program.uses_at.then(|| At::new(region, &map.block_index(block))),
        }
    }

    /// Computes `length` elements from the block's row-major element `start` on, into `results`.
    pub(super) fn run(
        &mut self,
        readers: &[LeafReader],
        start: u64,
        length: usize,
        stop: &StopFlag,
    ) -> Result<(), ExecuteError> {
        for ((reader, words), dtype) in readers.iter().zip(&mut self.arguments).zip(&self.dtypes) {
            with_element!(*dtype, T => {
                let mut tile = [T::default(); TILE as usize];
                words.clear();
                for first in (0..length).step_by(tile.len()) {
                    let part = &mut tile[..(length - first).min(TILE as usize)];
                    reader.read(start + first as u64, part)?;
                    words.extend(part.iter().map(|value| value.to_word()));
                }
            });
        }
        let mut arguments = vec![0; self.dtypes.len() + if self.at.is_some() { AT_WORDS } else { 0 }];
        let mut results = vec![0; self.results.len()];
        self.results.iter_mut().for_each(Vec::clear);
        for lane in 0..length {
            let (data, at_words) = arguments.split_at_mut(self.dtypes.len());
            data.iter_mut().zip(&self.arguments).for_each(|(argument, words)| *argument = words[lane]);
            if let Some(at) = &mut self.at {
                at_words.copy_from_slice(at.at(start + lane as u64));
            }
            self.interpreter.call(&arguments, stop, &mut results).map_err(|_| ExecuteError::Cancelled)?;
            self.results.iter_mut().zip(&results).for_each(|(words, &word)| words.push(word));
        }
        Ok(())
    }
}
