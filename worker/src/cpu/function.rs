//! A function of a user's reduction as machine code: words in, gangs of typed lanes, words out.

use std::sync::Arc;

use super::compiled::{AT_WORDS, Call, Code};
use crate::dtype::Element;
use crate::interpreter::{StopFlag, Stopped};
use crate::reduce::Function;
use crate::with_element;

/// Code, and the memory it is called with.
pub(super) struct CompiledFunction {
    code: Arc<Code>,
    /// Per word of the arguments, its lanes as stored; 8 bytes are room for any.
    arguments: Vec<Vec<u64>>,
    results: Vec<Vec<u64>>,
    scratch: Vec<u64>,
}

impl CompiledFunction {
    pub(super) fn new(code: Arc<Code>) -> CompiledFunction {
        let (arguments, results) = (vec![Vec::new(); code.leaves().len()], vec![Vec::new(); code.results().len()]);
        let scratch = vec![0; code.scratch_words()];
        CompiledFunction { code, arguments, results, scratch }
    }
}

impl Function for CompiledFunction {
    fn call(&mut self, arguments: &[Vec<u64>], stop: &StopFlag, results: &mut [Vec<u64>]) -> Result<(), Stopped> {
        let count = arguments.first().map_or(0, Vec::len);
        let elements = count.next_multiple_of(self.code.lanes());
        for ((stored, words), &(dtype, _)) in self.arguments.iter_mut().zip(arguments).zip(self.code.leaves()) {
            stored.resize(elements, 0);
            with_element!(dtype, T => {
                let lanes = bytemuck::cast_slice_mut::<u64, T>(stored);
                lanes.iter_mut().zip(words).for_each(|(lane, &word)| *lane = T::from_word(word));
                // Lanes beyond the end do what the last invocation does.
                let last = words.last().map_or(T::default(), |&word| T::from_word(word));
                lanes[count..elements].fill(last);
            });
        }
        self.results.iter_mut().for_each(|stored| stored.resize(elements, 0));
        let leaves: Vec<&[u8]> = self.arguments.iter().map(|stored| bytemuck::cast_slice(stored)).collect();
        let mut outs: Vec<&mut [u8]> =
            self.results.iter_mut().map(|stored| bytemuck::cast_slice_mut(&mut stored[..])).collect();
        self.code.call(Call {
            leaves: &leaves,
            at_index: Default::default(),
            at_words: &[0; AT_WORDS],
            results: &mut outs,
            scratch: &mut self.scratch,
            stop,
            elements,
        })?;
        for ((words, stored), &dtype) in results.iter_mut().zip(&self.results).zip(self.code.results()) {
            words.clear();
            with_element!(dtype, T => {
                words.extend(bytemuck::cast_slice::<u64, T>(stored)[..count].iter().map(|lane| lane.to_word()));
            });
        }
        // A function without loops never looks.
        if stop.is_raised() { Err(Stopped) } else { Ok(()) }
    }

    fn another(&self) -> Box<dyn Function> {
        Box::new(CompiledFunction::new(Arc::clone(&self.code)))
    }
}
