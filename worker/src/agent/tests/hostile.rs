//! A scheduler, peers and an executor that say anything at all: it is passed over or failed, and the books stay right.
//! Stages are what they were: the scheduler has looked at them before it sends them.

use std::time::Instant;

use super::*;
use crate::fuzz::{Chance, TRIED};
use crate::wire::{decode, encode};

/// What is said in one life of an agent.
const WORDS: usize = 300;

/// Blocks of one message: a scheduler hands out what is done in a moment.
const BLOCKS_MAX: u64 = 1000;

fn words() -> Vec<Vec<u8>> {
    let inputs = |at| vec![Whereabouts { array: array(1), blocks: Interval::new(0, at), holders: vec![WorkerId(7)] }];
    let run = |of, at| Run {
        array: array(of),
        blocks: Interval::new(0, at),
        attempt: 1,
        bytes_spare: at,
        inputs: inputs(at),
    };
    let mut words = vec![
        ToWorker::Welcome { worker: WorkerId(1) },
        ToWorker::Peer { worker: WorkerId(7), address: "[::1]:8786".to_owned() },
        ToWorker::PeerGone { worker: WorkerId(7) },
        ToWorker::Forget { array: array(2) },
        ToWorker::ForgetClient { client: ClientId(2) },
    ];
    for (of, at) in [(1, 1), (1, 5), (2, 3), (2, 7), (3, 2)] {
        let (blocks, holder) = (Interval::new(at / 2, at), WorkerId(8));
        words.push(ToWorker::Run(run(of, at)));
        words.push(ToWorker::Keep { array: array(of), blocks, fields: 2, bytes: 30, holder });
        words.push(ToWorker::Free { array: array(of), blocks: vec![blocks, Interval::one(9)] });
    }
    words.iter().map(|message| encode(message).unwrap()).collect()
}

/// Whether a scheduler that has its wits may say so.
fn is_honest(message: &ToWorker) -> bool {
    match message {
        ToWorker::Run(run) => run.blocks.count() <= BLOCKS_MAX,
        ToWorker::Keep { blocks, fields, .. } => blocks.count() <= BLOCKS_MAX && *fields <= 64,
        ToWorker::Stage { .. } | ToWorker::Close => false,
        _ => true,
    }
}

/// What was begun and has not ended.
#[derive(Default)]
struct Begun {
    tasks: Vec<TaskToken>,
    fetches: Vec<FetchId>,
    replies: Vec<ReplyTo>,
}

impl Begun {
    fn note(&mut self, actions: &[Action<Weight>]) {
        for action in actions {
            match action {
                Action::Start(start) => self.tasks.push(start.token),
                Action::Out(Outward::Fetch { fetch, .. }) => self.fetches.push(*fetch),
                Action::Out(Outward::Reply { to, answer: Answer::Data(_) }) => self.replies.push(*to),
                _ => {}
            }
        }
    }
}

/// Some neighbours of an array, which is made here, or brought.
fn parcel(chance: &mut Chance) -> Parcel {
    let (of, start, count) = ([1, 2, 9][chance.below(3)], chance.below(12) as u64, chance.below(4) as u64);
    Parcel { array: array(of), blocks: Interval::new(start, start + count) }
}

/// What somebody may say next; what has ended may be said to end again.
fn event(chance: &mut Chance, words: &[Vec<u8>], begun: &Begun) -> Option<Event<Weight>> {
    let number = |chance: &mut Chance| chance.below(12) as u64;
    let busy = millis(1);
    Some(match chance.below(12) {
        0 => Event::Tick,
        1 => Event::Fetch { from: ReplyTo(chance.next()), parcel: parcel(chance), field: 0, region: None },
        2 => {
            let parcel = parcel(chance);
            let blocks = parcel.ids().map(|_| vec![Weight(number(chance))]).collect();
            Event::Put { from: ReplyTo(chance.next()), parcel, blocks }
        }
        3 => Event::Replied { to: *begun.replies.get(chance.below(begun.replies.len()))? },
        4 | 5 => {
            let fetch = *begun.fetches.get(chance.below(begun.fetches.len()))?;
            let part = |chance: &mut Chance| (chance.below(4) > 0).then_some(Part { data: Weight(10), region: None });
            let parts = (0..chance.below(4)).map(|_| part(chance)).collect();
            Event::Fetched { fetch, result: if chance.below(3) > 0 { Ok(parts) } else { Err(FetchError::Missing) } }
        }
        6..9 => {
            let token = *begun.tasks.get(chance.below(begun.tasks.len()))?;
            let fields = vec![Weight(number(chance))];
            Event::Finished {
                token,
                result: if chance.below(4) > 0 { Ok(fields) } else { Err(ExecuteError::Cancelled) },
                busy,
            }
        }
        _ => Event::Scheduler(decode(&chance.bytes(words)).ok().filter(is_honest)?),
    })
}

fn live(seed: u64, words: &[Vec<u8>]) -> (u64, usize) {
    let (mut chance, mut driver, mut begun) = (Chance(seed), Driver::new(), Begun::default());
    let mut heard = 0;
    for _ in 0..WORDS {
        let Some(event) = event(&mut chance, words, &begun) else { continue };
        driver.now += Duration::from_micros(chance.below(40_000) as u64);
        driver.agent.handle(driver.now, event.clone());
        if let Err(what) = driver.agent.check() {
            panic!("{what}, after {event:?} in the life of seed {seed}");
        }
        begun.note(&std::iter::from_fn(|| driver.agent.poll()).collect::<Vec<_>>());
        heard += 1;
    }
    (heard, begun.tasks.len())
}

#[test]
fn whoever_says_anything_at_all_breaks_no_books() {
    let (words, began) = (words(), Instant::now());
    let (mut heard, mut tasks) = (0, 0);
    for seed in 0.. {
        let life = live(seed, &words);
        (heard, tasks) = (heard + life.0, tasks + life.1);
        // Also where the machine has little time for it.
        if began.elapsed() > TRIED && heard > WORDS as u64 {
            break;
        }
    }
    assert!(tasks > 0, "of {heard} words none began a task");
}
