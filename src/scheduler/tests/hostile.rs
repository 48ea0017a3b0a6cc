//! Clients and workers that say anything at all: it is refused or passed over, and the state stays sound.

use std::time::Instant;

use gridloom_worker::block::{Block, SmallBlock};
use gridloom_worker::shape::Shape;
use gridloom_worker::wire::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::fuzz::{Chance, TRIED};

/// Blocks in all from which on nobody looks at each of them after every step.
const LOOKED_AT_MAX: u64 = 10_000;

/// What is said in one life of a scheduler.
const WORDS: usize = 300;

/// Messages that were true once, a few arrays each.
struct Words {
    clients: Vec<Vec<u8>>,
    workers: Vec<Vec<u8>>,
}

impl Words {
    fn new() -> Words {
        let (workers, blocks) = ([1, 2].map(WorkerId), [one(0), Interval::new(1, 4), Interval::new(3, 12)]);
        let mut clients = vec![encode(&FromClient::Close).unwrap()];
        let mut from_workers = vec![encode(&FromWorker::Leaving).unwrap()];
        for (at, array) in (1..=6).map(array).enumerate() {
            let (blocks, worker, request) = (blocks[at % 3], workers[at % 2], at as u64);
            let block = BlockId { array, index: blocks.start };
            let input = BlockId { array: super::array(1), index: blocks.start };
            let holders = vec![Holding { blocks, worker }];
            let (scattered, error) = (ArrayId { sequence: 20 + array.sequence, ..array }, FetchError::Missing);
            let busy = Duration::from_millis(1);
            clients.extend(encoded([
                FromClient::Submit {
                    job: JobId { client: CLIENT, sequence: request },
                    plan: plan(request),
                    classes: vec![DeviceClass::Cpu],
                },
                FromClient::Cancel { job: JobId { client: CLIENT, sequence: request } },
                FromClient::Release { arrays: vec![array] },
                FromClient::Scattered { array: scattered, blocks: 12, fields: 1, bytes: 8, holders },
                FromClient::Locate { request, array, blocks },
                FromClient::Stream { request, array },
                FromClient::Taken { array, blocks: vec![blocks] },
                FromClient::FetchFailed { block, holder: worker, error },
            ]));
            let result = SmallBlock::of(&[Block::from_elements(Shape::ones(1), &[1.5f64])]);
            from_workers.extend(encoded([
                FromWorker::Done { array, blocks: vec![blocks], bytes: 8, busy, result: None },
                FromWorker::Done { array, blocks: vec![Interval::one(0)], bytes: 8, busy, result },
                FromWorker::Failed { array, block: block.index, attempt: 1, error: ExecuteError::Memory { bytes: 7 } },
                FromWorker::Refused { array, blocks: vec![blocks], needs: 70, has: 10 },
                FromWorker::FetchFailed { block, input, holder: Some(worker), error },
            ]));
        }
        Words { clients, workers: from_workers }
    }
}

fn encoded<T: Serialize>(messages: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|message| encode(&message).unwrap()).collect()
}

/// Four stages whose names begin after those of the plans before.
fn plan(number: u64) -> Plan {
    let [made, cut, turned, sum] = [1, 2, 3, 4].map(|at| array(4 * number + at));
    let stages = [
        StageOf::map(made, &[], 12),
        StageOf::rechunk(cut, made, 12, 1, 5),
        StageOf::flip(turned, made, 12),
        StageOf::fold(sum, turned, 2, 6, 4),
    ];
    Plan { kernels: Vec::new(), stages: stages.map(Arc::new).into(), outputs: vec![cut, sum] }
}

/// Mostly spoilt.
fn said<T: DeserializeOwned>(chance: &mut Chance, words: &[Vec<u8>]) -> Option<T> {
    let bytes = if chance.below(4) == 0 { words[chance.below(words.len())].clone() } else { chance.bytes(words) };
    decode(&bytes).ok()
}

/// What may come next. Ids of workers are made by whoever owns their connections: a new one is larger than any before.
fn event(chance: &mut Chance, words: &Words, runs: &[(u64, u64, Interval)], workers: &mut u64) -> Option<Event> {
    let worker = WorkerId(workers.saturating_sub(chance.below(3) as u64));
    Some(match chance.below(40) {
        0 => Event::WorkerGone { worker },
        1 => {
            *workers += 1;
            Event::WorkerJoined { worker: WorkerId(*workers), register: Register::of_cpu("cpu", 1, 100) }
        }
        2 => Event::ClientGone { client: CLIENT },
        3 => Event::Tick,
        4..16 => Event::Client { client: CLIENT, message: said(chance, &words.clients)? },
        16..28 => Event::Worker { worker, message: said(chance, &words.workers)? },
        // Somebody does what it was told, so that the others meet every state.
        _ => {
            let &(worker, of, blocks) = runs.get(chance.below(runs.len()))?;
            let (blocks, busy) = (vec![blocks], Duration::from_micros(100));
            let message = FromWorker::Done { array: array(of), blocks, bytes: 8, busy, result: None };
            Event::Worker { worker: WorkerId(worker), message }
        }
    })
}

/// One life; how many words were heard, and how many blocks were made.
fn live(seed: u64, words: &Words) -> (u64, u64) {
    let (mut chance, mut driver) = (Chance(seed), Driver::new(2));
    let mut handed = runs(&driver.say(FromClient::Submit {
        job: JobId { client: CLIENT, sequence: 99 },
        plan: plan(0),
        classes: vec![DeviceClass::Cpu],
    }));
    let (mut heard, mut made, mut workers) = (0, 0, 2);
    for _ in 0..WORDS {
        let Some(event) = event(&mut chance, words, &handed, &mut workers) else { continue };
        // Gone for longer than it may, it is back as a new one.
        if !driver.scheduler.clients.contains_key(&CLIENT) {
            driver.scheduler.handle(driver.now, Event::ClientJoined { client: CLIENT });
        }
        driver.now += Duration::from_millis(chance.below(2000) as u64);
        driver.scheduler.handle(driver.now, event.clone());
        heard += 1;
        if driver.scheduler.arrays.values().map(|array| array.blocks).sum::<u64>() > LOOKED_AT_MAX {
            break;
        }
        if let Err(what) = driver.scheduler.check() {
            panic!("{what}, after {event:?} in the life of seed {seed}");
        }
        let actions: Vec<Action> = std::iter::from_fn(|| driver.scheduler.poll()).collect();
        handed.extend(runs(&actions));
        made += driver.scheduler.arrays.values().map(|array| array.done.count()).sum::<u64>();
    }
    (heard, made)
}

#[test]
fn whoever_says_anything_at_all_breaks_nothing() {
    let (words, begun) = (Words::new(), Instant::now());
    let (mut heard, mut made) = (0, 0);
    for seed in 0.. {
        let life = live(seed, &words);
        (heard, made) = (heard + life.0, made + life.1);
        // Also where the machine has little time for it.
        if begun.elapsed() > TRIED && heard > WORDS as u64 {
            break;
        }
    }
    assert!(made > 0, "of {heard} words none made a block");
}
