//! How results leave: clients ask where blocks are, fetch them from who holds them, and say what they have taken.
//!
//! A result that its client takes block by block never has to be on the workers as a whole: what is taken is needed no
//! more, and makes room for what is still to be computed.

use std::time::Duration;

use gridloom_worker::ids::{ArrayId, BlockId, ClientId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::FetchError;

use super::array::{About, Array, Question};
use super::error::JobError;
use super::message::{HOLDINGS_MAX, Holding, ToClient};
use super::story::Happening;
use super::{Asker, Mutant, Scheduler};

/// Between two answers to a stream whose blocks are small. Each costs messages to all sides, and a fetch: of blocks that
/// come every millisecond, many more than the blocks themselves.
const STREAM_INTERVAL: Duration = Duration::from_millis(10);

/// Blocks of so many bytes are told at once.
const STREAM_BYTES_MIN: u64 = 256 << 10;

/// Questions of clients.
impl Scheduler {
    /// Answers at once if everything is there, or as soon as it is.
    pub(super) fn locate(&mut self, client: ClientId, request: u64, id: ArrayId, blocks: Interval) {
        let fits = |array: &Array| blocks.end <= array.blocks;
        self.ask(id, fits, Question { client, request, about: About::All(blocks) });
    }

    /// Answers at once if anything is there that the stream did not tell yet, or as soon as it is; of small blocks only
    /// every [`STREAM_INTERVAL`].
    pub(super) fn stream(&mut self, client: ClientId, request: u64, id: ArrayId) {
        self.ask(id, |_| id.client == client, Question { client, request, about: About::Untold });
    }

    fn ask(&mut self, id: ArrayId, fits: impl Fn(&Array) -> bool, question: Question) {
        let Question { client, request, .. } = question;
        match self.arrays.get_mut(&id).filter(|array| array.pinned && fits(array)) {
            Some(array) => {
                array.questions.push(question);
                self.answer_questions(id);
            }
            None => {
                let unknown = JobError::UnknownArray { array: id };
                self.tell_client(client, ToClient::Located { request, result: Err(unknown) });
            }
        }
    }

    pub(super) fn answer_questions(&mut self, id: ArrayId) {
        let Some(array) = self.arrays.get_mut(&id).filter(|array| !array.questions.is_empty()) else { return };
        for question in std::mem::take(&mut array.questions) {
            self.answer(id, question);
        }
    }

    /// Answers a question, or keeps it.
    fn answer(&mut self, id: ArrayId, question: Question) {
        let Some(array) = self.arrays.get_mut(&id) else { return };
        let untold = array.untold();
        let result = match question.about {
            About::All(blocks) if array.done.covers(blocks) => Ok(self.holdings(id, &blocks.into(), usize::MAX)),
            About::All(blocks) if array.taken.touches(blocks) => Err(JobError::UnknownArray { array: id }),
            About::Untold if array.is_worth_telling(&untold, self.now) => Ok(self.tell_untold(id, &untold)),
            About::Untold if !untold.is_empty() => {
                self.held_back.insert((array.stream_due, id));
                return array.questions.push(question);
            }
            About::All(_) | About::Untold => return array.questions.push(question),
        };
        let Question { client, request, .. } = question;
        self.tell_client(client, ToClient::Located { request, result });
    }

    fn tell_untold(&mut self, id: ArrayId, untold: &IntervalSet) -> Vec<Holding> {
        let holdings = self.holdings(id, untold, HOLDINGS_MAX);
        if let Some(array) = self.arrays.get_mut(&id) {
            array.stream_due = self.now + STREAM_INTERVAL;
            array.told.extend(holdings.iter().map(|holding| holding.blocks));
        }
        holdings
    }

    /// Answers streams whose time has come.
    pub(super) fn answer_held_back(&mut self) {
        while let Some(&(due, id)) = self.held_back.first()
            && due <= self.now
        {
            self.held_back.pop_first();
            self.answer_questions(id);
        }
    }

    pub(super) fn refuse_questions(&mut self, id: ArrayId, error: &JobError) {
        let questions = self.arrays.get_mut(&id).map(|array| std::mem::take(&mut array.questions));
        for Question { client, request, .. } in questions.unwrap_or_default() {
            self.tell_client(client, ToClient::Located { request, result: Err(error.clone()) });
        }
    }

    /// Who holds `blocks` (which somebody does), each block once, in at most `count_max` parts.
    pub(super) fn holdings(&self, id: ArrayId, blocks: &IntervalSet, count_max: usize) -> Vec<Holding> {
        let Some(array) = self.arrays.get(&id) else { return Vec::new() };
        let mut holdings: Vec<Holding> = Vec::new();
        for Interval { mut start, end } in blocks.iter() {
            while start < end && holdings.len() < count_max {
                // The holder that goes on the longest makes the shortest list.
                let longest = array.holders_from(start).into_iter().max_by_key(|&(_, end)| end);
                let Some((worker, until)) = longest else { break };
                holdings.push(Holding { blocks: Interval::new(start, until.min(end)), worker });
                start = until;
            }
        }
        holdings
    }
}

impl Array {
    /// Whether a stream is to be told of these now.
    fn is_worth_telling(&self, untold: &IntervalSet, now: Duration) -> bool {
        let is_much = untold.count().saturating_mul(self.bytes) >= STREAM_BYTES_MIN;
        !untold.is_empty() && (is_much || self.is_complete() || now >= self.stream_due)
    }
}

/// Blocks that clients have fetched, or not.
impl Scheduler {
    /// The client has these: they are kept and made for nobody but who else reads them.
    pub(super) fn taken(&mut self, client: ClientId, id: ArrayId, blocks: &[Interval]) {
        let own = self.arrays.get(&id).filter(|array| array.pinned && id.client == client);
        let Some(whole) = own.map(Array::whole) else { return };
        let blocks: IntervalSet = blocks.iter().map(|blocks| blocks.intersect(whole)).collect();
        self.edit(id, |array| array.take(&blocks));
        self.note_all(id, &blocks, Happening::Taken);
        let unneeded = self.unneeded(id, &blocks);
        // What was lost before this was heard is not made again.
        let given_up = self.edit(id, |array| array.give_up(&unneeded)).unwrap_or_default();
        self.free_inputs(id, &given_up);
        self.free_unneeded(id, &unneeded);
        if self.mutant == Some(Mutant::DeriveTaken) {
            self.edit(id, |array| array.want(&unneeded));
            self.make_ready(id, &self.ready_among(id, &unneeded));
        }
        self.taken_last = self.now;
        self.announce(id, None);
        self.answer_questions(id);
    }

    /// A client could not fetch a block: a stream tells it again, once it is somewhere.
    pub(super) fn not_fetched(&mut self, client: ClientId, block: BlockId, holder: WorkerId, error: FetchError) {
        self.strike(block, holder, Asker::Client(client), error);
        if let Some(array) = self.arrays.get_mut(&block.array).filter(|_| block.array.client == client) {
            array.told.remove(Interval::one(block.index));
        }
        self.answer_questions(block.array);
    }

    /// Whether clients are about to take blocks: then memory comes, though they may be slow.
    pub(super) fn awaits_clients(&self) -> bool {
        self.arrays.values().any(|array| !array.told.is_empty())
    }
}
