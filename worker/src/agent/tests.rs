//! One agent, spoken to by hand.

mod hostile;

use super::*;
use crate::block::{Block, Item, SmallBlock};
use crate::dtype::{DType, Scalar};
use crate::grid::Grid;
use crate::stage::{Body, Leaf, Map, Piece, Program, Source};
use crate::view::View;

/// So many bytes.
#[derive(Clone, Debug, PartialEq)]
struct Weight(u64);

impl Payload for Weight {
    fn bytes(&self) -> u64 {
        self.0
    }

    fn small(fields: &[Weight]) -> Option<SmallBlock> {
        let weights: Vec<u64> = fields.iter().map(|field| field.0).collect();
        SmallBlock::of(&[Block::from_elements([weights.len() as u64].into_iter().collect(), &weights)])
    }
}

fn array(sequence: u64) -> ArrayId {
    ArrayId { client: ClientId(1), sequence }
}

fn block(sequence: u64, index: u64) -> BlockId {
    BlockId { array: array(sequence), index }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An agent with room for 100 bytes that knows a source (array 1, 40 bytes at its peak, 10 a block) and a map that
/// reads it block by block (array 2, 60 bytes at its peak). Every event is followed by a check.
struct Driver {
    agent: Agent<Weight>,
    now: Duration,
}

impl Driver {
    fn new() -> Driver {
        let mut driver = Driver { agent: Agent::new(100), now: Duration::ZERO };
        for (sequence, reads, bytes_peak) in [(1, None, 40), (2, Some(1), 60), (3, None, 101)] {
            let told = driver.stage(sequence, reads, bytes_peak);
            assert!(matches!(told[..], [Action::Prepare { .. }]));
        }
        driver
    }

    /// A stage of 9 blocks that reads nothing, or another block by block.
    fn stage(&mut self, sequence: u64, reads: Option<u64>, bytes_peak: u64) -> Vec<Action<Weight>> {
        let grid = Grid::regular(&[9].into_iter().collect(), &[1]);
        let view = View::identity(&grid.shape());
        let read = |input| Source::Array { array: array(input), field: 0, grid: grid.clone() };
        let source = reads.map_or(Source::Constant(Scalar::F64(0.0)), read);
        let leaves = vec![Leaf { dtype: DType::F64, pieces: vec![Piece { source, view }] }];
        let body = Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None });
        let outputs = vec![Item::Value(DType::F64)];
        let stage = Arc::new(Stage { array: array(sequence), body, outputs, bytes_output: 10, bytes_peak });
        self.tell(ToWorker::Stage { stage, depth: sequence as u32, is_result: false })
    }

    #[track_caller]
    fn handle(&mut self, event: Event<Weight>) -> Vec<Action<Weight>> {
        self.agent.handle(self.now, event);
        self.agent.check().unwrap();
        std::iter::from_fn(|| self.agent.poll()).collect()
    }

    #[track_caller]
    fn tell(&mut self, message: ToWorker) -> Vec<Action<Weight>> {
        self.handle(Event::Scheduler(message))
    }

    /// A run of some blocks, whose inputs worker 7, then worker 8, has.
    #[track_caller]
    fn run(&mut self, sequence: u64, start: u64, end: u64) -> Vec<Action<Weight>> {
        self.run_beside(sequence, start, end, 0)
    }

    /// The same, each block where `bytes_spare` are free beside it.
    #[track_caller]
    fn run_beside(&mut self, sequence: u64, start: u64, end: u64, bytes_spare: u64) -> Vec<Action<Weight>> {
        let holders = vec![WorkerId(7), WorkerId(8)];
        let inputs = vec![Whereabouts { array: array(1), blocks: Interval::new(0, 9), holders }];
        let blocks = Interval::new(start, end);
        self.tell(ToWorker::Run(Run { array: array(sequence), blocks, attempt: 1, bytes_spare, inputs }))
    }

    #[track_caller]
    fn finish(&mut self, token: TaskToken) -> Vec<Action<Weight>> {
        self.handle(Event::Finished { token, result: Ok(vec![Weight(10)]), busy: millis(2) })
    }
}

/// Tokens of the tasks that are started.
fn started(actions: &[Action<Weight>]) -> Vec<(TaskToken, u64)> {
    let start = |action: &Action<Weight>| match action {
        Action::Start(start) => Some((start.token, start.block)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn put(from: ReplyTo, block: BlockId, fields: Vec<Weight>) -> Event<Weight> {
    Event::Put { from, parcel: Parcel::one(block), blocks: vec![fields] }
}

/// Somebody wants blocks of array 9.
fn fetch(from: u64, blocks: Interval, field: u32) -> Event<Weight> {
    Event::Fetch { from: ReplyTo(from), parcel: Parcel { array: array(9), blocks }, field, region: None }
}

/// What the one answer among these has.
#[track_caller]
fn answered(actions: &[Action<Weight>]) -> Vec<Option<Weight>> {
    let [Action::Out(Outward::Reply { answer: Answer::Data(parts), .. })] = actions else { panic!("{actions:?}") };
    parts.iter().map(|part| part.as_ref().map(|part| part.data.clone())).collect()
}

fn fetches(actions: &[Action<Weight>]) -> Vec<(FetchId, WorkerId, Parcel)> {
    let fetch = |action: &Action<Weight>| match action {
        Action::Out(Outward::Fetch { fetch, holder, parcel, .. }) => Some((*fetch, *holder, *parcel)),
        _ => None,
    };
    actions.iter().filter_map(fetch).collect()
}

fn sent(actions: &[Action<Weight>]) -> Vec<FromWorker> {
    let send = |action: &Action<Weight>| match action {
        Action::Out(Outward::Send(message)) => Some(message.clone()),
        _ => None,
    };
    actions.iter().filter_map(send).collect()
}

fn done(start: u64, end: u64) -> FromWorker {
    let count = end - start;
    let blocks = vec![Interval::new(start, end)];
    FromWorker::Done { array: array(1), blocks, bytes: 10 * count, busy: millis(2 * count), result: None }
}

#[test]
fn work_waits_for_memory_and_completions_for_company() {
    let mut driver = Driver::new();
    let tasks = started(&driver.run(1, 0, 3));
    assert_eq!(tasks.iter().map(|task| task.1).collect::<Vec<_>>(), vec![0, 1], "two peaks of 40 fit in 100");
    let next = driver.finish(tasks[0].0);
    assert_eq!(started(&next).len(), 1, "10 held and 40 in flight leave room for one more");
    assert_eq!(sent(&next), vec![], "others may follow within a millisecond");
    assert_eq!(driver.agent.next_timeout(), Some(COALESCE));
    driver.now = COALESCE;
    assert_eq!(sent(&driver.handle(Event::Tick)), vec![done(0, 1)]);
    assert_eq!(sent(&driver.finish(tasks[1].0)), vec![]);
    assert_eq!(sent(&driver.finish(started(&next)[0].0)), vec![done(1, 3)], "with nothing left to do, at once");
    assert_eq!((driver.agent.store().held_bytes(), driver.agent.store().used_bytes()), (30, 30));
    // A block that is there already is not made again.
    assert_eq!(sent(&driver.run(1, 1, 2)).len(), 1);
}

#[test]
fn what_cannot_fit_is_refused_last() {
    let mut driver = Driver::new();
    let needs_more = FromWorker::Refused { array: array(3), blocks: vec![Interval::new(2, 4)], needs: 101, has: 100 };
    assert_eq!(sent(&driver.run(3, 2, 4)), vec![needs_more]);
    let fields = vec![Weight(70)];
    driver.handle(put(ReplyTo(1), block(9, 0), fields));
    assert!(driver.run(1, 0, 2).is_empty(), "40 do not fit beside 70, yet");
    driver.now = REFUSE_AFTER - millis(1);
    assert!(driver.handle(Event::Tick).is_empty());
    driver.now = REFUSE_AFTER;
    let refused = FromWorker::Refused { array: array(1), blocks: vec![Interval::new(0, 2)], needs: 40, has: 30 };
    assert_eq!(sent(&driver.handle(Event::Tick)), vec![refused]);
    assert!(driver.run(1, 0, 2).is_empty());
    let freed = driver.tell(ToWorker::Free { array: array(9), blocks: vec![Interval::one(0)] });
    assert_eq!(started(&freed).len(), 2, "freed memory serves who waits");
}

#[test]
fn a_part_is_fetched_once_from_one_holder_after_the_other() {
    let mut driver = Driver::new();
    let actions = driver.run(2, 4, 5);
    let [(first, holder, input)] = fetches(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((holder, input), (WorkerId(7), Parcel::one(block(1, 4))));
    assert_eq!(fetches(&driver.run(2, 4, 5)), vec![], "100 bytes hold one peak of 60");
    let actions = driver.handle(Event::Fetched { fetch: first, result: Err(FetchError::Unreachable) });
    let [(second, WorkerId(8), _)] = fetches(&actions)[..] else { panic!("{actions:?}") };
    let part = Part { data: Weight(10), region: None };
    let actions = driver.handle(Event::Fetched { fetch: second, result: Ok(vec![Some(part.clone())]) });
    let [Action::Start(start)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(start.operands, vec![part]);
    // Its second run finds the block made.
    assert_eq!(sent(&driver.finish(start.token)).len(), 1);
    // With nothing to do, what was fetched is not kept.
    assert_eq!(driver.agent.store().used_bytes(), 10);
}

#[test]
fn a_fetch_without_holders_gives_the_block_back() {
    let mut driver = Driver::new();
    let actions = driver.run(2, 4, 5);
    let [(first, ..)] = fetches(&actions)[..] else { panic!("{actions:?}") };
    let actions = driver.handle(Event::Fetched { fetch: first, result: Ok(vec![None]) });
    let [(second, ..)] = fetches(&actions)[..] else { panic!("{actions:?}") };
    let actions = driver.handle(Event::Fetched { fetch: second, result: Err(FetchError::Missing) });
    let (holder, error) = (Some(WorkerId(8)), FetchError::Missing);
    assert_eq!(sent(&actions), vec![FromWorker::FetchFailed { block: block(2, 4), input: block(1, 4), holder, error }]);
    let run = Run { array: array(2), blocks: Interval::one(5), attempt: 2, bytes_spare: 0, inputs: Vec::new() };
    let input = block(1, 5);
    let nowhere = FromWorker::FetchFailed { block: block(2, 5), input, holder: None, error: FetchError::Missing };
    assert_eq!(sent(&driver.tell(ToWorker::Run(run))), vec![nowhere]);
    assert_eq!(driver.agent.store().used_bytes(), 0);
}

#[test]
fn the_forgotten_is_stopped_and_its_memory_comes_back_with_its_event() {
    let mut driver = Driver::new();
    let tasks = started(&driver.run(1, 0, 2));
    let actions = driver.tell(ToWorker::Forget { array: array(1) });
    assert!(matches!(actions[..], [Action::Cancel { .. }]));
    assert_eq!(driver.agent.store().reserved_bytes(), 80);
    for (token, _) in tasks {
        assert!(driver.finish(token).is_empty(), "nothing is said of it");
    }
    assert_eq!((driver.agent.store().used_bytes(), driver.agent.is_idle()), (0, true));
    driver.tell(ToWorker::ForgetClient { client: ClientId(1) });
    assert_eq!(driver.agent.stage_count(), 0);
    let actions = driver.handle(put(ReplyTo(1), block(9, 0), vec![Weight(1)]));
    assert!(
        matches!(actions[..], [Action::Out(Outward::Reply { answer: Answer::Refused { .. }, .. })]),
        "its client is gone"
    );
}

#[test]
fn requests_beyond_the_limit_wait_for_their_turn() {
    let mut driver = Driver::new();
    driver.handle(put(ReplyTo(0), block(9, 0), vec![Weight(1)]));
    let ask = |at| fetch(at, Interval::one(0), 0);
    let most = REPLIES_MAX as u64;
    for at in 1..=most {
        let actions = driver.handle(ask(at));
        assert!(matches!(actions[..], [Action::Out(Outward::Reply { answer: Answer::Data(_), .. })]));
    }
    assert!(driver.handle(ask(most + 1)).is_empty());
    let actions = driver.handle(Event::Replied { to: ReplyTo(3) });
    assert!(matches!(actions[..], [Action::Out(Outward::Reply { to: ReplyTo(51), answer: Answer::Data(_) })]));
    driver.handle(Event::Replied { to: ReplyTo(4) });
    assert_eq!(answered(&driver.handle(fetch(99, Interval::one(0), 1))), [None], "it has one field");
}

#[test]
fn blocks_that_travel_together_come_one_by_one() {
    let mut driver = Driver::new();
    let blocks = vec![vec![Weight(1)], vec![Weight(2)]];
    let parcel = Parcel { array: array(9), blocks: Interval::new(3, 5) };
    let actions = driver.handle(Event::Put { from: ReplyTo(0), parcel, blocks });
    assert!(matches!(actions[..], [Action::Out(Outward::Reply { answer: Answer::Stored, .. })]));
    let actions = driver.handle(fetch(1, Interval::new(2, 6), 0));
    assert_eq!(answered(&actions), [None, Some(Weight(1)), Some(Weight(2)), None]);
    // What does not fit whole is not kept in part.
    let (blocks, parcel) = (vec![vec![Weight(50)]; 2], Parcel { array: array(9), blocks: Interval::new(5, 7) });
    let actions = driver.handle(Event::Put { from: ReplyTo(2), parcel, blocks });
    let [Action::Out(Outward::Reply { answer, .. })] = &actions[..] else { panic!("{actions:?}") };
    assert!(matches!(answer, Answer::Refused { needs: 100, has: 97 }), "{answer:?}");
    assert_eq!(answered(&driver.handle(fetch(3, Interval::new(4, 6), 0))), [Some(Weight(2)), None]);
    assert_eq!(driver.agent.store().used_bytes(), 3);
}

#[test]
fn deeper_work_goes_first_and_closing_drops_the_rest() {
    let mut driver = Driver::new();
    driver.handle(put(ReplyTo(0), block(1, 0), vec![Weight(10)]));
    let first = started(&driver.run(1, 1, 5));
    assert_eq!(first.len(), 2);
    assert!(driver.run(2, 0, 1).is_empty());
    assert!(driver.finish(first[0].0).is_empty(), "the deeper block needs 60 and nothing overtakes it");
    let next = driver.finish(first[1].0);
    let Action::Start(start) = &next[0] else { panic!("{next:?}") };
    assert_eq!((start.array, start.operands[0].data.clone()), (array(2), Weight(10)));
    assert!(matches!(driver.tell(ToWorker::Close).last(), Some(Action::Out(Outward::Close))));
    assert!(driver.finish(start.token).is_empty());
    assert_eq!(driver.agent.store().used_bytes(), 0);
}

#[test]
fn what_is_held_here_is_not_set_aside_again() {
    let mut driver = Driver::new();
    driver.handle(put(ReplyTo(0), block(1, 0), vec![Weight(8)]));
    driver.handle(put(ReplyTo(0), block(9, 0), vec![Weight(38)]));
    // 54 are free of the 60 at its peak, 8 of which are here.
    assert_eq!(started(&driver.run(2, 0, 1)).len(), 1);
    assert_eq!(driver.agent.store().used_bytes(), 8 + 38 + 52);
    assert!(started(&driver.run(2, 1, 2)).is_empty(), "this one is elsewhere");
}

#[test]
fn those_who_read_and_free_always_have_room() {
    let mut driver = Driver::new();
    let first = started(&driver.run_beside(1, 0, 9, 60));
    assert_eq!(first.len(), 1, "60 stay free");
    assert!(started(&driver.finish(first[0].0)).is_empty(), "of 90 that are free 60 are the reader's");
    let next = started(&driver.run(2, 0, 1));
    assert_eq!(next.len(), 1);
    driver.finish(next[0].0);
    // What was read is freed, and what was made is taken: the source goes on.
    driver.tell(ToWorker::Free { array: array(1), blocks: vec![Interval::one(0)] });
    let freed = driver.tell(ToWorker::Free { array: array(2), blocks: vec![Interval::one(0)] });
    assert_eq!(started(&freed).len(), 1);
    // A worker too small for both does one at least.
    let mut driver = Driver::new();
    assert_eq!(started(&driver.run_beside(1, 0, 9, 1000)).len(), 1);
}

#[test]
fn a_jobs_result_comes_with_its_completion() {
    let mut driver = Driver::new();
    let mut made_of = |sequence, is_result| {
        let grid = Grid::regular(&[1].into_iter().collect(), &[1]);
        let pieces = vec![Piece { source: Source::Constant(Scalar::F64(0.0)), view: View::identity(&grid.shape()) }];
        let leaves = vec![Leaf { dtype: DType::F64, pieces }];
        let body = Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None });
        let outputs = vec![Item::Value(DType::F64)];
        let stage = Arc::new(Stage { array: array(sequence), body, outputs, bytes_output: 10, bytes_peak: 20 });
        driver.tell(ToWorker::Stage { stage, depth: 0, is_result });
        let started = started(&driver.run(sequence, 0, 1));
        let said = sent(&driver.finish(started[0].0));
        let [FromWorker::Done { result, .. }] = &said[..] else { panic!("{said:?}") };
        result.as_ref().map(|result| result.field(0).unwrap().unwrap().elements::<u64>().to_vec())
    };
    assert_eq!(made_of(8, false), None);
    assert_eq!(made_of(9, true), Some(vec![10]));
    // It stays here all the same.
    assert_eq!(driver.agent.store().held_bytes(), 20);
}

#[test]
fn what_comes_ahead_of_its_input_waits_without_memory_and_is_given_back_if_that_fails() {
    let mut driver = Driver::new();
    driver.stage(4, Some(2), 20);
    let run = |sequence, index| {
        let blocks = Interval::one(index);
        ToWorker::Run(Run { array: array(sequence), blocks, attempt: 1, bytes_spare: 0, inputs: Vec::new() })
    };
    let begun = |driver: &mut Driver, index| {
        let first = started(&driver.tell(run(1, index)));
        assert!(driver.tell(run(2, index)).is_empty() && driver.tell(run(4, index)).is_empty());
        assert_eq!((driver.agent.store().reserved_bytes(), driver.agent.is_idle()), (40, false));
        first[0].0
    };
    let first = begun(&mut driver, 0);
    let second = driver.finish(first);
    let Action::Start(start) = &second[0] else { panic!("{second:?}") };
    assert_eq!((start.array, start.operands[0].data.clone()), (array(2), Weight(10)));
    let third = started(&driver.finish(start.token));
    driver.finish(third[0].0);
    assert!(driver.agent.is_idle());
    let first = begun(&mut driver, 1);
    let result = Err(ExecuteError::Cancelled);
    let actions = driver.handle(Event::Finished { token: first, result, busy: Duration::ZERO });
    let given_back = |message: &FromWorker| match message {
        FromWorker::FetchFailed { block, holder: None, .. } => Some(block.array.sequence),
        _ => None,
    };
    assert_eq!(sent(&actions).iter().filter_map(given_back).collect::<Vec<_>>(), vec![2, 4]);
    // So it is if the input is forgotten.
    driver.tell(run(1, 2));
    assert!(driver.tell(run(2, 2)).is_empty());
    let actions = driver.tell(ToWorker::Forget { array: array(1) });
    assert_eq!(sent(&actions).iter().filter_map(given_back).collect::<Vec<_>>(), vec![2]);
}
