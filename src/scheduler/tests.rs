//! The scheduler, spoken to by hand: what the simulation would only meet by chance.

mod hostile;
mod streams;

use std::sync::Arc;

use gridloom_worker::block::{Block, SmallBlock};
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::stage::Stage;
use gridloom_worker::wire::{DeviceClass, FetchError, Plan, Register, Run};

use super::testing::{StageOf, array};
use super::*;

const CLIENT: ClientId = ClientId(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A scheduler, a client, and whatever workers are added. Every event is followed by a check.
struct Driver {
    scheduler: Scheduler,
    now: Duration,
    jobs: u64,
}

impl Driver {
    /// With so many workers of one slot and 100 bytes.
    fn new(workers: u64) -> Driver {
        let mut driver = Driver { scheduler: Scheduler::new(Limits::default()), now: Duration::ZERO, jobs: 0 };
        driver.handle(Event::ClientJoined { client: CLIENT });
        (1..=workers).for_each(|worker| drop(driver.join(worker, 100)));
        driver
    }

    #[track_caller]
    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.scheduler.handle(self.now, event);
        self.scheduler.check().unwrap();
        std::iter::from_fn(|| self.scheduler.poll()).collect()
    }

    #[track_caller]
    fn join(&mut self, worker: u64, memory_bytes: u64) -> Vec<Action> {
        let register = Register::of_cpu("cpu", 1, memory_bytes);
        self.handle(Event::WorkerJoined { worker: WorkerId(worker), register })
    }

    #[track_caller]
    fn submit(&mut self, stages: &[Stage], outputs: &[u64]) -> Vec<Action> {
        self.jobs += 1;
        let stages = stages.iter().cloned().map(Arc::new).collect();
        let plan = Plan { kernels: Vec::new(), stages, outputs: outputs.iter().copied().map(array).collect() };
        let (job, classes) = (JobId { client: CLIENT, sequence: self.jobs }, vec![DeviceClass::Cpu]);
        self.say(FromClient::Submit { job, plan, classes })
    }

    #[track_caller]
    fn say(&mut self, message: FromClient) -> Vec<Action> {
        self.handle(Event::Client { client: CLIENT, message })
    }

    #[track_caller]
    fn hear(&mut self, worker: u64, message: FromWorker) -> Vec<Action> {
        self.handle(Event::Worker { worker: WorkerId(worker), message })
    }

    #[track_caller]
    fn done(&mut self, worker: u64, of: u64, start: u64, end: u64, busy: Duration) -> Vec<Action> {
        let blocks = vec![Interval::new(start, end)];
        self.hear(worker, FromWorker::Done { array: array(of), blocks, bytes: 8 * (end - start), busy, result: None })
    }

    #[track_caller]
    fn gone(&mut self, worker: u64) -> Vec<Action> {
        self.handle(Event::WorkerGone { worker: WorkerId(worker) })
    }

    fn state(&self, of: u64, index: u64) -> BlockState {
        self.scheduler.state(BlockId { array: array(of), index }).expect("the array is known")
    }
}

/// (worker, array, blocks) of the runs handed out.
fn runs(actions: &[Action]) -> Vec<(u64, u64, Interval)> {
    let run = |action: &Action| match action {
        Action::ToWorker { worker, message: ToWorker::Run(Run { array, blocks, .. }) } => {
            Some((worker.0, array.sequence, *blocks))
        }
        _ => None,
    };
    actions.iter().filter_map(run).collect()
}

fn failures(actions: &[Action]) -> Vec<JobError> {
    let failure = |action: &Action| match action {
        Action::ToClient { message: ToClient::JobFailed { error, .. }, .. } => Some(error.clone()),
        _ => None,
    };
    actions.iter().filter_map(failure).collect()
}

fn told(actions: &[Action], message: &ToClient) -> bool {
    actions.iter().any(|action| matches!(action, Action::ToClient { message: said, .. } if said == message))
}

fn one(at: u64) -> Interval {
    Interval::one(at)
}

#[test]
fn homes_are_shared_out_and_the_idle_take_the_tail_half_of_the_largest() {
    let mut driver = Driver::new(2);
    let first = driver.submit(&[StageOf::map(array(1), &[], 100)], &[1]);
    assert_eq!(runs(&first), vec![(1, 1, Interval::new(0, 2)), (2, 1, Interval::new(50, 52))]);
    // Worker 3 comes late and takes the tail half of 2..50.
    assert_eq!(runs(&driver.join(3, 100)), vec![(3, 1, Interval::new(26, 28))]);
    // A second a block: two at a time.
    assert_eq!(runs(&driver.done(1, 1, 0, 1, seconds(1))), vec![(1, 1, one(2))]);
    // A tenth of a millisecond a block: fifty milliseconds of them.
    let next = driver.done(2, 1, 50, 52, Duration::from_micros(200));
    assert_eq!(runs(&next), vec![(2, 1, Interval::new(52, 100))]);
}

#[test]
fn deeper_stages_go_first_and_near_their_inputs_and_what_is_read_is_freed() {
    let mut driver = Driver::new(2);
    let stages = [StageOf::map(array(1), &[], 8), StageOf::map(array(2), &[(array(1), 8)], 8)];
    driver.submit(&stages, &[2]);
    let next = driver.done(2, 1, 4, 5, seconds(1));
    assert_eq!(runs(&next), vec![(2, 2, one(4))]);
    let next = driver.done(2, 2, 4, 5, seconds(1));
    let free = ToWorker::Free { array: array(1), blocks: vec![one(4)] };
    assert!(next.contains(&Action::ToWorker { worker: WorkerId(2), message: free }));
    assert_eq!((driver.state(1, 4), driver.state(2, 4)), (BlockState::Spent, BlockState::Held));
}

#[test]
fn jobs_take_turns() {
    let mut driver = Driver::new(1);
    driver.submit(&[StageOf::map(array(1), &[], 8)], &[1]);
    driver.submit(&[StageOf::map(array(2), &[], 8)], &[2]);
    assert_eq!(runs(&driver.done(1, 1, 0, 1, seconds(1))), vec![(1, 2, one(0))]);
    assert_eq!(runs(&driver.done(1, 1, 1, 2, seconds(1))), vec![(1, 1, one(2))]);
    assert_eq!(runs(&driver.done(1, 2, 0, 1, seconds(1))), vec![(1, 2, one(1))]);
}

#[test]
fn suspects_run_alone_and_the_third_death_fails_the_job_with_its_story() {
    let mut driver = Driver::new(1);
    assert_eq!(runs(&driver.submit(&[StageOf::map(array(1), &[], 3)], &[1])), vec![(1, 1, Interval::new(0, 2))]);
    driver.gone(1);
    let mut actions = driver.join(2, 100);
    // Block 2 was not in flight: it is no suspect, but nothing runs beside one that is.
    assert_eq!(runs(&actions), vec![(2, 1, one(0))]);
    assert_eq!(runs(&driver.done(2, 1, 0, 1, seconds(1))), vec![(2, 1, one(1))]);
    for worker in 2..5 {
        assert!(failures(&actions).is_empty());
        actions = driver.gone(worker);
        if worker < 4 {
            let next = driver.join(worker + 1, 100);
            assert_eq!(runs(&next)[0], (worker + 1, 1, one(1)));
            assert_eq!(runs(&next).len(), 1, "it is alone");
        }
    }
    let [JobError::WorkerKilled { block, deaths: 3, story }] = &failures(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*block, BlockId { array: array(1), index: 1 });
    let died = |chapter: &&Chapter| matches!(chapter.what, Happening::Died { .. });
    assert_eq!(story.iter().filter(died).count(), 4, "once in company, three times alone");
    assert!(driver.scheduler.jobs.is_empty() && driver.scheduler.arrays.is_empty());
}

#[test]
fn a_worker_that_leaves_hands_on_what_it_holds_and_is_never_blamed() {
    let mut driver = Driver::new(2);
    driver.submit(&[StageOf::map(array(1), &[], 4)], &[1]);
    driver.done(1, 1, 0, 1, seconds(1));
    assert_eq!(runs(&driver.hear(1, FromWorker::Leaving)), vec![]);
    let actions = driver.done(1, 1, 1, 2, seconds(1));
    let kept =
        ToWorker::Keep { array: array(1), blocks: Interval::new(0, 2), fields: 1, bytes: 8, holder: WorkerId(1) };
    assert!(actions.contains(&Action::ToWorker { worker: WorkerId(2), message: kept }), "{actions:?}");
    let close = Action::ToWorker { worker: WorkerId(1), message: ToWorker::Close };
    assert!(!actions.contains(&close));
    assert!(driver.done(2, 1, 0, 2, Duration::ZERO).contains(&close));
    driver.gone(1);
    assert_eq!(driver.state(1, 0), BlockState::Held, "nothing is made again");
}

#[test]
fn an_unreachable_holder_gets_the_task_then_loses_the_block() {
    let mut driver = Driver::new(2);
    let stages = [StageOf::map(array(1), &[], 2), StageOf::rechunk(array(2), array(1), 2, 1, 2)];
    driver.submit(&stages, &[2]);
    driver.done(2, 1, 1, 2, seconds(1));
    let actions = driver.done(1, 1, 0, 1, seconds(1));
    let [(worker, 2, blocks)] = runs(&actions)[..] else { panic!("{actions:?}") };
    let other = 3 - worker;
    let input = BlockId { array: array(1), index: other - 1 };
    let failed = |holder| FromWorker::FetchFailed {
        block: BlockId { array: array(2), index: 0 },
        input,
        holder: Some(WorkerId(holder)),
        error: FetchError::Unreachable,
    };
    assert_eq!(
        runs(&driver.hear(worker, failed(other))),
        vec![(other, 2, blocks)],
        "at the holder, nothing is fetched"
    );
    // There the other input cannot be had, and cannot be had again: it is made anew.
    let mine = BlockId { array: array(1), index: worker - 1 };
    let failed = |_| FromWorker::FetchFailed {
        block: BlockId { array: array(2), index: 0 },
        input: mine,
        holder: Some(WorkerId(worker)),
        error: FetchError::Unreachable,
    };
    assert_eq!(runs(&driver.hear(other, failed(0))), vec![(worker, 2, blocks)]);
    let failed = FromWorker::FetchFailed {
        block: BlockId { array: array(2), index: 0 },
        input,
        holder: Some(WorkerId(other)),
        error: FetchError::Unreachable,
    };
    let actions = driver.hear(worker, failed);
    assert_eq!(runs(&actions).len(), 1);
    assert_eq!(runs(&actions)[0].1, 1, "the second strike takes the replica away");
}

#[test]
fn two_who_miss_a_holder_once_each_take_nothing_away() {
    let mut driver = Driver::new(3);
    let holders = vec![Holding { blocks: one(0), worker: WorkerId(3) }];
    driver.say(FromClient::Scattered { array: array(1), blocks: 1, fields: 1, bytes: 8, holders });
    let input = BlockId { array: array(1), index: 0 };
    for worker in [1, 2] {
        driver.hear(
            worker,
            FromWorker::FetchFailed {
                block: BlockId { array: array(9), index: 0 },
                input,
                holder: Some(WorkerId(3)),
                error: FetchError::Unreachable,
            },
        );
    }
    assert_eq!(driver.state(1, 0), BlockState::Held);
    let (holder, error) = (WorkerId(3), FetchError::Unreachable);
    driver.say(FromClient::FetchFailed { block: input, holder, error });
    assert_eq!(driver.state(1, 0), BlockState::Held);
    let lost = driver.say(FromClient::FetchFailed { block: input, holder, error });
    let error = JobError::BlockLost { block: input };
    assert!(told(&lost, &ToClient::ArrayLost { array: array(1), error }));
}

#[test]
fn waits_end_and_say_what_for() {
    let mut driver = Driver::new(0);
    driver.submit(&[StageOf::map(array(1), &[], 2)], &[1]);
    assert_eq!(driver.scheduler.next_timeout(), Some(seconds(30)));
    driver.now = seconds(29);
    assert!(driver.handle(Event::Tick).is_empty());
    driver.now = seconds(30);
    let failed = failures(&driver.handle(Event::Tick));
    let wanted = Wanted::Any;
    assert_eq!(failed, vec![JobError::NoWorker { array: array(1), waited: seconds(30), wanted }]);
    // Where there are workers and none is large enough, there is nothing to wait for.
    driver.join(1, 31);
    let failed = failures(&driver.submit(&[StageOf::map(array(2), &[], 2)], &[2]));
    assert_eq!(failed, vec![JobError::Memory { array: array(2), needs: 32, has: 31 }]);
    // Nor after half a minute of refusals.
    driver.join(2, 100);
    driver.submit(&[StageOf::map(array(3), &[], 1)], &[3]);
    let refused = || FromWorker::Refused { array: array(3), blocks: vec![one(0)], needs: 32, has: 5 };
    assert_eq!(runs(&driver.hear(2, refused())), vec![], "it is left alone for a while");
    driver.now = driver.scheduler.next_timeout().expect("and asked again");
    assert_eq!(runs(&driver.handle(Event::Tick)), vec![(2, 3, one(0))]);
    driver.now = seconds(61);
    assert_eq!(failures(&driver.hear(2, refused())), vec![JobError::Memory { array: array(3), needs: 32, has: 5 }]);
    assert!(driver.scheduler.arrays.is_empty());
}

#[test]
fn errors_are_tried_elsewhere_as_far_as_that_helps() {
    let failed = |error| FromWorker::Failed { array: array(1), block: 0, attempt: 1, error };
    let source = || failed(ExecuteError::Source { path: "x".to_owned(), what: "not here".to_owned() });
    let mut driver = Driver::new(2);
    driver.submit(&[StageOf::map(array(1), &[], 1)], &[1]);
    assert_eq!(runs(&driver.hear(1, source())), vec![(2, 1, one(0))], "a file may be seen elsewhere");
    let actions = driver.hear(2, source());
    assert!(matches!(failures(&actions)[..], [JobError::Execute { worker: WorkerId(2), .. }]));

    let bug = || failed(ExecuteError::Internal { what: "x".to_owned() });
    let mut driver = Driver::new(3);
    driver.submit(&[StageOf::map(array(1), &[], 1)], &[1]);
    assert_eq!(runs(&driver.hear(1, bug())), vec![(2, 1, one(0))], "a bug may be chance, once");
    assert_eq!(failures(&driver.hear(2, bug())).len(), 1);

    let mut driver = Driver::new(2);
    driver.submit(&[StageOf::map(array(1), &[], 1)], &[1]);
    assert_eq!(failures(&driver.hear(1, failed(ExecuteError::Deadline { limit_ms: 1 }))).len(), 1, "a hang is not");
}

#[test]
fn scattered_data_lives_until_its_last_holder_goes() {
    let mut driver = Driver::new(2);
    let holders = vec![
        Holding { blocks: Interval::new(0, 2), worker: WorkerId(1) },
        Holding { blocks: Interval::new(1, 3), worker: WorkerId(2) },
    ];
    driver.say(FromClient::Scattered { array: array(1), blocks: 3, fields: 1, bytes: 8, holders });
    let asked = driver.say(FromClient::Locate { request: 5, array: array(1), blocks: Interval::new(0, 2) });
    let result = Ok(vec![Holding { blocks: Interval::new(0, 2), worker: WorkerId(1) }]);
    assert!(told(&asked, &ToClient::Located { request: 5, result }));
    let actions = driver.gone(2);
    let error = JobError::BlockLost { block: BlockId { array: array(1), index: 2 } };
    assert!(told(&actions, &ToClient::ArrayLost { array: array(1), error }));
    let failed = failures(&driver.submit(&[StageOf::map(array(2), &[(array(1), 3)], 3)], &[2]));
    assert_eq!(failed, vec![JobError::UnknownArray { array: array(1) }]);
}

#[test]
fn a_lost_result_is_derived_again_through_stages_that_were_freed() {
    let mut driver = Driver::new(1);
    let stages = [StageOf::map(array(1), &[], 2), StageOf::map(array(2), &[(array(1), 2)], 2)];
    driver.submit(&stages, &[2]);
    driver.done(1, 1, 0, 2, seconds(1));
    assert!(told(
        &driver.done(1, 2, 0, 2, seconds(1)),
        &ToClient::JobDone { job: JobId { client: CLIENT, sequence: 1 } }
    ));
    assert_eq!(driver.state(1, 0), BlockState::Spent);
    driver.gone(1);
    assert_eq!((driver.state(1, 0), driver.state(2, 0)), (BlockState::Ready, BlockState::Waiting));
    assert_eq!(runs(&driver.join(2, 100)), vec![(2, 1, Interval::new(0, 2))]);
    let asked = driver.say(FromClient::Locate { request: 1, array: array(2), blocks: Interval::new(0, 2) });
    assert!(asked.is_empty(), "it is answered when it can be");
    driver.done(2, 1, 0, 2, seconds(1));
    let result = Ok(vec![Holding { blocks: Interval::new(0, 2), worker: WorkerId(2) }]);
    assert!(told(&driver.done(2, 2, 0, 2, seconds(1)), &ToClient::Located { request: 1, result }));
    // Released, it is gone, with the plan that was kept for it.
    driver.say(FromClient::Release { arrays: vec![array(2)] });
    assert!(driver.scheduler.arrays.is_empty() && driver.scheduler.jobs.is_empty());
}

#[test]
fn progress_is_coalesced() {
    let mut driver = Driver::new(1);
    driver.submit(&[StageOf::map(array(1), &[], 10)], &[1]);
    assert!(driver.done(1, 1, 0, 1, seconds(1)).iter().all(|action| matches!(action, Action::ToWorker { .. })));
    driver.done(1, 1, 1, 2, seconds(1));
    driver.now = driver.scheduler.next_timeout().expect("progress is due");
    let job = JobId { client: CLIENT, sequence: 1 };
    let progress = ToClient::Progress { job, array: array(1), done: 2, total: 10 };
    assert!(told(&driver.handle(Event::Tick), &progress));
    assert_eq!(driver.scheduler.next_timeout(), None);
}

#[test]
fn a_silent_client_is_waited_for_and_then_forgotten() {
    let mut driver = Driver::new(1);
    driver.submit(&[StageOf::map(array(1), &[], 10)], &[1]);
    driver.handle(Event::ClientGone { client: CLIENT });
    driver.now = seconds(29);
    driver.handle(Event::ClientJoined { client: CLIENT });
    driver.handle(Event::ClientGone { client: CLIENT });
    driver.now = seconds(58);
    driver.handle(Event::Tick);
    assert!(!driver.scheduler.is_empty());
    driver.now = seconds(59);
    let actions = driver.handle(Event::Tick);
    let message = ToWorker::ForgetClient { client: CLIENT };
    assert!(actions.contains(&Action::ToWorker { worker: WorkerId(1), message }));
    assert!(driver.scheduler.is_empty());
}

#[test]
fn who_was_told_of_a_peer_is_told_when_it_is_gone() {
    let mut driver = Driver::new(3);
    let holders = vec![Holding { blocks: one(0), worker: WorkerId(1) }];
    driver.say(FromClient::Scattered { array: array(1), blocks: 1, fields: 1, bytes: 8, holders });
    let (worker, peer) = (WorkerId(2), WorkerId(1));
    let introduced = Action::ToWorker { worker, message: ToWorker::Peer { worker: peer, address: String::new() } };
    assert!(driver.hear(1, FromWorker::Leaving).contains(&introduced));
    let actions = driver.gone(1);
    let parted = |worker| Action::ToWorker { worker, message: ToWorker::PeerGone { worker: peer } };
    assert!(actions.contains(&parted(worker)));
    assert!(!actions.contains(&parted(WorkerId(3))), "it never heard of it");
}

/// Longer than a stack, were there a call for each.
const CHAIN: u64 = 30_000;

fn link(at: u64) -> Stage {
    let read = (array(at - 1), 1);
    StageOf::map(array(at), if at > 1 { std::slice::from_ref(&read) } else { &[] }, 1)
}

#[test]
fn a_long_chain_of_arrays_is_let_go_of() {
    let mut driver = Driver::new(0);
    driver.submit(&(1..=CHAIN).map(link).collect::<Vec<_>>(), &[CHAIN]);
    assert_eq!(driver.scheduler.arrays.len() as u64, CHAIN);
    driver.say(FromClient::Release { arrays: vec![array(CHAIN)] });
    assert!(driver.scheduler.arrays.is_empty());
}

#[test]
fn all_of_a_long_chain_of_jobs_fails_with_the_first() {
    let mut driver = Driver::new(0);
    // Checked once, at the end: a check looks at everything.
    for at in 1..=CHAIN {
        let (job, classes) = (JobId { client: CLIENT, sequence: at }, vec![DeviceClass::Cpu]);
        let plan = Plan { kernels: Vec::new(), stages: vec![link(at).into()], outputs: vec![array(at)] };
        let message = FromClient::Submit { job, plan, classes };
        driver.scheduler.handle(driver.now, Event::Client { client: CLIENT, message });
    }
    let actions = driver.say(FromClient::Cancel { job: JobId { client: CLIENT, sequence: 1 } });
    assert_eq!(failures(&actions).len() as u64, CHAIN);
    assert!(driver.scheduler.arrays.is_empty());
}

#[test]
fn what_waits_for_memory_gets_what_was_to_be_left_free_before_it_fails() {
    let mut driver = Driver::new(1);
    let stages = [StageOf::map(array(1), &[], 1), StageOf::map(array(2), &[(array(1), 1)], 1)];
    let spare = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::ToWorker { message: ToWorker::Run(run), .. } => Some(run.bytes_spare),
            _ => None,
        })
    };
    assert_eq!(spare(&driver.submit(&stages, &[2])), Some(32));
    let refused = || FromWorker::Refused { array: array(1), blocks: vec![one(0)], needs: 64, has: 40 };
    driver.hear(1, refused());
    driver.now = seconds(31);
    assert_eq!(spare(&driver.handle(Event::Tick)), Some(32));
    assert_eq!(failures(&driver.hear(1, refused())), vec![]);
    driver.now = seconds(33);
    assert_eq!(spare(&driver.handle(Event::Tick)), Some(0));
    driver.hear(1, refused());
    driver.now = seconds(64);
    driver.handle(Event::Tick);
    assert_eq!(failures(&driver.hear(1, refused())).len(), 1);
}

#[test]
fn a_small_result_is_passed_on_once_and_only_as_an_arrays_one_block() {
    let small = || SmallBlock::of(&[Block::from_elements([1].into_iter().collect(), &[7i64])]);
    let mut driver = Driver::new(1);
    let mut results = |of, blocks, outputs: &[u64]| {
        let actions = driver.submit(&[StageOf::map(array(of), &[], blocks)], outputs);
        let asked = actions
            .iter()
            .any(|action| matches!(action, Action::ToWorker { message: ToWorker::Stage { is_result: true, .. }, .. }));
        let (whole, busy) = (vec![Interval::new(0, blocks)], seconds(1));
        let done = FromWorker::Done { array: array(of), blocks: whole, bytes: 8, busy, result: small() };
        let mut said = driver.hear(1, done.clone());
        said.extend(driver.hear(1, done));
        let told = said.into_iter().filter_map(|action| match action {
            Action::ToClient { message: ToClient::ArrayDone { result, .. }, .. } => Some(result),
            _ => None,
        });
        (asked, told.collect::<Vec<_>>())
    };
    assert_eq!(results(1, 1, &[1]), (true, vec![small()]));
    assert_eq!(results(2, 2, &[2]), (false, vec![None]));
    assert_eq!(results(3, 1, &[]), (false, vec![]));
}

#[test]
fn a_chain_goes_ahead_to_who_makes_its_beginning() {
    let mut driver = Driver::new(2);
    // Once it is known that blocks are small: two of which nothing is known are handed out at most.
    driver.submit(&[StageOf::map(array(9), &[], 2)], &[9]);
    driver.done(1, 9, 0, 1, Duration::from_micros(10));
    driver.done(2, 9, 1, 2, Duration::from_micros(10));
    assert_eq!(runs(&driver.submit(&[StageOf::map(array(1), &[], 1)], &[1])), vec![(1, 1, one(0))]);
    for link in 2..6 {
        let actions = driver.submit(&[StageOf::map(array(link), &[(array(link - 1), 1)], 1)], &[link]);
        assert_eq!(runs(&actions), vec![(1, link, one(0))], "worker 2 is idle, and would wait");
        assert_eq!(driver.state(link, 0), BlockState::Dispensed);
    }
    // A second reader may do better elsewhere.
    assert_eq!(runs(&driver.submit(&[StageOf::map(array(7), &[(array(1), 1)], 1)], &[7])), vec![]);
    // Links may be known to be done before those that they read.
    driver.done(1, 2, 0, 1, Duration::ZERO);
    assert_eq!(runs(&driver.done(1, 1, 0, 1, Duration::ZERO)).len(), 1, "the second reader");
    // What does not come is waited for again, and so is what reads it.
    let back = |of| FromWorker::FetchFailed {
        block: BlockId { array: array(of), index: 0 },
        input: BlockId { array: array(of - 1), index: 0 },
        holder: None,
        error: FetchError::Missing,
    };
    let refused = FromWorker::Refused { array: array(3), blocks: vec![one(0)], needs: 32, has: 0 };
    driver.hear(1, refused);
    driver.hear(1, back(4));
    assert_eq!(driver.state(4, 0), BlockState::Waiting);
    driver.hear(1, back(5));
    assert_eq!(driver.state(5, 0), BlockState::Waiting);
    driver.gone(1);
    assert_eq!([2, 3, 4, 5].map(|of| driver.state(of, 0)).map(|state| state == BlockState::Held), [false; 4]);
}
