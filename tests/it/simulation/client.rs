//! A client of the simulated cluster: it scatters, submits, reads what is done and compares it, takes what it is told
//! of while the rest is computed, cancels, releases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gridloom::scheduler::{Event, FromClient, Holding, JobError, ToClient};
use gridloom_worker::agent::{Answer, Part};
use gridloom_worker::block::SmallBlock;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, WorkerId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::wire::{DeviceClass, FetchError, Parcel};

use super::data::{Data, counts_of};
use super::plans::{Planner, Readable};
use super::world::{Arrival, Party, Requester, World, as_read};

/// What a client does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Scatter,
    Submit,
    CancelSome,
    ReleaseSome,
    /// Asks again where an array is.
    Ask(ArrayId),
    /// From now on an array is read by nobody else, and taken block by block.
    Stream(ArrayId),
    /// A slow reader goes on.
    GoOn(ArrayId),
}

/// How far an array is that the client wants.
#[derive(Clone, Debug, PartialEq)]
enum Progress {
    /// Being computed.
    Pending,
    /// There, and being read.
    Reading { left: BTreeSet<(u64, u32)> },
    /// Read while it is computed, and freed.
    Taking(Taking),
    /// Read, right, and freed.
    Taken,
    /// Read, and right.
    Read,
    /// Gone.
    Lost(JobError),
}

/// What is read block by block.
#[derive(Clone, Debug, PartialEq)]
struct Taking {
    /// Fields of blocks that are not here.
    left: BTreeSet<(u64, u32)>,
    /// Those of them that are on their way.
    flying: BTreeSet<(u64, u32)>,
    places: VecDeque<(u64, WorkerId)>,
    /// Whether it waits to be told of more.
    asked: bool,
    /// Here, and not said to be.
    unsaid: Vec<Interval>,
}

#[derive(Clone, Debug)]
struct Output {
    readable: Option<Readable>,
    blocks: u64,
    fields: u32,
    progress: Progress,
    /// Whether it was said to be complete.
    is_complete: bool,
    /// The plan that makes it; `None` for what was scattered.
    job: Option<JobId>,
}

/// A block on its way to or from a worker.
#[derive(Clone, Debug)]
enum Request {
    Fetch { parcel: Parcel, field: u32, holder: WorkerId },
    Put { parcel: Parcel, holder: WorkerId },
}

/// Blocks that are being put on workers.
#[derive(Clone, Debug)]
struct Scatter {
    readable: Readable,
    left: u64,
    holders: Vec<Holding>,
    failed: bool,
}

pub(crate) struct Client {
    pub(crate) id: ClientId,
    planner: Planner,
    workers: BTreeSet<WorkerId>,
    outputs: BTreeMap<ArrayId, Output>,
    /// Jobs, and how they ended.
    pub(crate) jobs: BTreeMap<JobId, Option<Result<(), JobError>>>,
    cancelled: BTreeSet<JobId>,
    scatters: BTreeMap<ArrayId, Scatter>,
    requests: BTreeMap<u64, Request>,
    questions: BTreeMap<u64, ArrayId>,
    sequence: u64,
    /// Steps that are still to come.
    pub(crate) steps: u64,
    /// Blocks read and found right.
    pub(crate) compared: u64,
    pub(crate) errors: Vec<JobError>,
}

impl Client {
    pub(crate) fn new(id: ClientId, length_max: u64) -> Client {
        Client {
            id,
            planner: Planner::new(id, length_max),
            workers: BTreeSet::new(),
            outputs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            scatters: BTreeMap::new(),
            requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            compared: 0,
            errors: Vec::new(),
        }
    }

    /// Whether every job has ended and everything that is there has been read.
    pub(crate) fn is_done(&self) -> bool {
        let read = |output: &Output| matches!(output.progress, Progress::Read | Progress::Taken | Progress::Lost(_));
        self.steps == 0
            && self.scatters.is_empty()
            && self.jobs.values().all(Option::is_some)
            && self.outputs.values().all(read)
    }

    /// What it waits for, in words.
    pub(crate) fn waits_for(&self) -> String {
        let jobs: Vec<String> =
            self.jobs.iter().filter(|(_, end)| end.is_none()).map(|(job, _)| job.to_string()).collect();
        let reading =
            self.outputs.iter().filter(|(_, output)| !matches!(output.progress, Progress::Read | Progress::Taken));
        let outputs: Vec<String> = reading.map(|(array, output)| format!("{array} {:?}", output.progress)).collect();
        format!("{jobs:?}, {outputs:?}, {} steps, {} scatters", self.steps, self.scatters.len())
    }

    /// The blocks that must be held now that all is quiet.
    pub(crate) fn pinned(&self) -> BTreeSet<BlockId> {
        let kept = self.outputs.iter().filter(|(_, output)| output.progress == Progress::Read);
        kept.flat_map(|(&array, output)| (0..output.blocks).map(move |index| BlockId { array, index })).collect()
    }

    pub(crate) fn plan_step(&mut self, world: &mut World, at: Duration, step: Step) {
        self.steps += 1;
        world.at(at, Arrival::Step(self.id, step));
    }

    pub(crate) fn say(&self, world: &mut World, message: FromClient) {
        let event = Event::Client { client: self.id, message: as_read(message) };
        world.send(Party::Client(self.id), Party::Scheduler, Arrival::Scheduler(event));
    }

    pub(crate) fn step(&mut self, world: &mut World, step: Step) -> Result<(), String> {
        self.steps -= 1;
        match step {
            Step::Scatter => self.scatter(world),
            Step::Submit => self.submit(world),
            Step::CancelSome => self.cancel_some(world),
            Step::ReleaseSome => self.release_some(world),
            Step::Ask(array) => self.ask(world, array),
            Step::Stream(array) => self.stream(world, array),
            Step::GoOn(array) => self.go_on(world, array),
        }
        Ok(())
    }

    fn submit(&mut self, world: &mut World) {
        let is_usable =
            |output: &&Output| matches!(output.progress, Progress::Pending | Progress::Reading { .. } | Progress::Read);
        let usable = self.outputs.values().filter(is_usable);
        let readable: Vec<Readable> = usable.filter_map(|output| output.readable.clone()).collect();
        let planned = self.planner.plan(&mut world.chance, &readable, &mut world.oracle);
        self.sequence += 1;
        let job = JobId { client: self.id, sequence: self.sequence };
        for &array in &planned.plan.outputs {
            let Some(stage) = world.oracle.stages.get(&array) else { continue };
            let readable = planned.readable.iter().find(|readable| readable.array == array).cloned();
            let (blocks, fields) = (stage.blocks(), stage.outputs.len() as u32);
            let progress = Progress::Pending;
            self.outputs
                .insert(array, Output { readable, blocks, fields, progress, is_complete: false, job: Some(job) });
            if world.chance.permille(400) {
                let at = world.now + world.chance.time(Duration::from_micros(10), Duration::from_secs(1));
                self.plan_step(world, at, Step::Stream(array));
            }
        }
        if world.chance.permille(30)
            && let Some(stage) = world.chance.pick(&planned.plan.stages)
        {
            let block = BlockId { array: stage.array, index: world.chance.below(stage.blocks()) };
            match world.chance.permille(500) {
                true => world.faults.poison.insert(block),
                false => world.faults.killer.insert(block),
            };
        }
        self.jobs.insert(job, None);
        self.say(world, FromClient::Submit { job, plan: planned.plan, classes: vec![DeviceClass::Cpu] });
    }

    fn cancel_some(&mut self, world: &mut World) {
        let running: Vec<JobId> = self.jobs.iter().filter(|(_, end)| end.is_none()).map(|(&job, _)| job).collect();
        if let Some(job) = world.chance.pick(&running) {
            self.cancelled.insert(job);
            self.say(world, FromClient::Cancel { job });
        }
    }

    fn release_some(&mut self, world: &mut World) {
        let arrays: Vec<ArrayId> = self.outputs.keys().copied().filter(|_| world.chance.permille(300)).collect();
        arrays.iter().for_each(|array| drop(self.outputs.remove(array)));
        self.say(world, FromClient::Release { arrays });
    }

    fn scatter(&mut self, world: &mut World) {
        let grid = self.planner.grid(&mut world.chance);
        let array = self.planner.name();
        let workers: Vec<WorkerId> = self.workers.iter().copied().collect();
        if workers.is_empty() {
            return;
        }
        let fields = world.chance.between(1, 2) as u32;
        let bytes = world.chance.between(10, 100);
        let blocks = grid.blocks();
        let readable = Readable { array, grid, fields, field_bytes: bytes };
        self.scatters.insert(array, Scatter { readable, left: blocks, holders: Vec::new(), failed: false });
        if blocks == 0 {
            self.finish_scatter(world, array);
        }
        let mut start = 0;
        while start < blocks {
            let Some(holder) = world.chance.pick(&workers) else { return };
            let parcel = Parcel { array, blocks: Interval::new(start, blocks.min(start + world.chance.between(1, 4))) };
            start = parcel.blocks.end;
            let fields = |block| {
                let counts = Arc::new([(block, 1)].into());
                (0..fields).map(|field| Data { block, field, cut: None, counts: Arc::clone(&counts), bytes }).collect()
            };
            let blocks = parcel.ids().map(fields).collect();
            let request = self.request(Request::Put { parcel, holder });
            let who = Requester::Client(self.id, request);
            world.send(Party::Client(self.id), Party::Worker(holder), Arrival::Put { holder, who, parcel, blocks });
        }
    }

    fn request(&mut self, request: Request) -> u64 {
        self.sequence += 1;
        self.requests.insert(self.sequence, request);
        self.sequence
    }

    fn ask(&mut self, world: &mut World, array: ArrayId) {
        let Some(output) = self.outputs.get(&array) else { return };
        if !matches!(output.progress, Progress::Reading { .. }) {
            return;
        }
        let blocks = Interval::new(0, output.blocks);
        self.sequence += 1;
        self.questions.insert(self.sequence, array);
        self.say(world, FromClient::Locate { request: self.sequence, array, blocks });
    }

    /// The scheduler speaks.
    pub(crate) fn told(&mut self, world: &mut World, message: ToClient) -> Result<(), String> {
        match message {
            ToClient::WorkerJoined { worker, .. } => drop(self.workers.insert(worker)),
            ToClient::WorkerLeft { worker } => drop(self.workers.remove(&worker)),
            ToClient::Progress { done, total, .. } if done > total => return Err("more done than there is".to_owned()),
            ToClient::Progress { .. } => {}
            ToClient::ArrayDone { array, holders, result } => {
                self.outputs.get_mut(&array).into_iter().for_each(|output| output.is_complete = true);
                // Who has it already need not ask for it, and may.
                match result.filter(|_| world.chance.permille(800)) {
                    Some(result) => self.read_result(world, array, &result)?,
                    None => self.read(world, array, &holders, true),
                }
            }
            ToClient::Located { request, result } => {
                let Some(array) = self.questions.remove(&request) else {
                    return Err("an answer without its question".to_owned());
                };
                match (result, self.outputs.get_mut(&array).map(|output| &mut output.progress)) {
                    (Ok(holders), Some(Progress::Taking(taking))) => {
                        taking.asked = false;
                        let place = |Holding { blocks, worker }| blocks.indices().map(move |index| (index, worker));
                        taking.places.extend(holders.into_iter().flat_map(place));
                        self.go_on(world, array);
                    }
                    (Ok(holders), _) => self.read(world, array, &holders, false),
                    (Err(error), _) => self.lose(array, error),
                }
            }
            ToClient::JobDone { job } => {
                let waiting = |output: &Output| output.job == Some(job) && !output.is_complete;
                if self.outputs.values().any(waiting) {
                    return Err(format!("{job} is done before its outputs"));
                }
                self.end(job, Ok(()))?;
            }
            ToClient::JobFailed { job, error } => {
                let of = |output: &Output| output.job == Some(job);
                let arrays: Vec<ArrayId> =
                    self.outputs.iter().filter(|(_, output)| of(output)).map(|(&array, _)| array).collect();
                arrays.into_iter().for_each(|array| self.lose(array, error.clone()));
                self.end(job, Err(error))?;
            }
            ToClient::ArrayLost { array, error } => self.lose(array, error),
        }
        Ok(())
    }

    fn end(&mut self, job: JobId, end: Result<(), JobError>) -> Result<(), String> {
        // A job that reads what a cancelled one was to make ends as that one did.
        if matches!(end, Err(JobError::Cancelled)) && self.cancelled.is_empty() {
            return Err(format!("{job} was cancelled by nobody"));
        }
        self.errors.extend(end.clone().err());
        match self.jobs.insert(job, Some(end)) {
            Some(None) => Ok(()),
            _ => Err(format!("{job} ended twice")),
        }
    }

    fn lose(&mut self, array: ArrayId, error: JobError) {
        if let Some(output) = self.outputs.get_mut(&array) {
            self.errors.push(error.clone());
            output.progress = Progress::Lost(error);
        }
    }

    /// The one block of an array came with the word that it is complete.
    fn read_result(&mut self, world: &mut World, array: ArrayId, result: &SmallBlock) -> Result<(), String> {
        let Some(output) = self.outputs.get_mut(&array) else { return Ok(()) };
        let right = world.oracle.counts(BlockId { array, index: 0 });
        let field_is_right = |field| result.field(field).is_some_and(|field| counts_of(&field.unwrap()) == *right);
        let fields = output.fields as usize;
        if output.blocks != 1 || !(0..fields).all(field_is_right) || result.field(fields).is_some() {
            return Err(format!("{array} came with its completion and is wrong: {result:?}"));
        }
        // Who takes it is told where it is, too.
        if output.progress == Progress::Pending {
            output.progress = Progress::Read;
            self.compared += fields as u64;
            world.count("result");
        }
        Ok(())
    }

    /// Fetches all that was not read yet.
    fn read(&mut self, world: &mut World, array: ArrayId, holders: &[Holding], first: bool) {
        let Some(output) = self.outputs.get_mut(&array) else { return };
        if first && output.progress == Progress::Pending {
            let fields = output.fields;
            let all = (0..output.blocks).flat_map(|block| (0..fields).map(move |field| (block, field)));
            output.progress = Progress::Reading { left: all.collect() };
        }
        let Progress::Reading { left } = &output.progress else { return };
        let left = left.clone();
        if left.is_empty() {
            output.progress = Progress::Read;
            return;
        }
        let mut wanted = Vec::new();
        for (index, field) in left {
            let Some(holding) = holders.iter().find(|holding| holding.blocks.contains(index)) else {
                self.steps += 1;
                world.at(world.now + Duration::from_millis(1), Arrival::Step(self.id, Step::Ask(array)));
                return;
            };
            wanted.push((BlockId { array, index }, field, holding.worker));
        }
        self.fetch(world, wanted);
    }

    /// Asks for blocks: some neighbours together.
    fn fetch(&mut self, world: &mut World, mut wanted: Vec<(BlockId, u32, WorkerId)>) {
        wanted.sort_by_key(|&(block, field, holder)| (field, holder, block));
        let mut parcels: Vec<(Parcel, u32, WorkerId)> = Vec::new();
        for (block, field, holder) in wanted {
            match parcels.last_mut() {
                Some((parcel, of, from))
                    if (*of, *from, parcel.array) == (field, holder, block.array)
                        && parcel.blocks.end == block.index
                        && world.chance.permille(700) =>
                {
                    parcel.blocks.end += 1;
                }
                _ => parcels.push((Parcel::one(block), field, holder)),
            }
        }
        for (parcel, field, holder) in parcels {
            let request = self.request(Request::Fetch { parcel, field, holder });
            let who = Requester::Client(self.id, request);
            let fetch = Arrival::Fetch { holder, who, parcel, field, region: None };
            world.send(Party::Client(self.id), Party::Worker(holder), fetch);
        }
    }

    /// A worker answers.
    pub(crate) fn answered(
        &mut self,
        world: &mut World,
        request: u64,
        answer: Option<Answer<Data>>,
    ) -> Result<(), String> {
        match self.requests.remove(&request) {
            None => Err("a worker answers what was not asked".to_owned()),
            Some(Request::Fetch { parcel, field, holder }) => {
                let came = match answer {
                    Some(Answer::Data(parts)) => Ok(parts),
                    Some(_) => return Err("a worker answers something else".to_owned()),
                    None => Err(FetchError::Unreachable),
                };
                let mut came = parcel.unpack(came);
                came.try_for_each(|(block, result)| self.fetched(world, block, field, holder, result))
            }
            Some(Request::Put { parcel: Parcel { array, blocks }, holder }) => {
                self.put(world, array, Holding { blocks, worker: holder }, matches!(answer, Some(Answer::Stored)));
                Ok(())
            }
        }
    }

    fn fetched(
        &mut self,
        world: &mut World,
        block: BlockId,
        field: u32,
        holder: WorkerId,
        result: Result<Part<Data>, FetchError>,
    ) -> Result<(), String> {
        let Some(output) = self.outputs.get_mut(&block.array) else { return Ok(()) };
        let left = match &mut output.progress {
            Progress::Reading { left } => left,
            Progress::Taking(taking) => {
                taking.flying.remove(&(block.index, field));
                &mut taking.left
            }
            Progress::Pending | Progress::Read | Progress::Taken | Progress::Lost(_) => return Ok(()),
        };
        let error = match result {
            Ok(part) => {
                let right = part.data.block == block
                    && part.data.field == field
                    && *part.data.counts == *world.oracle.counts(block);
                if !right {
                    return Err(format!("{block} is wrong: {:?}", part.data));
                }
                self.compared += u64::from(left.remove(&(block.index, field)));
                let is_all = left.is_empty();
                if matches!(output.progress, Progress::Taking(_)) {
                    self.received(world, block);
                } else if is_all {
                    output.progress = Progress::Read;
                }
                return Ok(());
            }
            Err(error) => error,
        };
        self.say(world, FromClient::FetchFailed { block, holder, error });
        let again = world.now + Duration::from_millis(5);
        let is_taken =
            matches!(self.outputs.get(&block.array).map(|output| &output.progress), Some(Progress::Taking(_)));
        self.plan_step(world, again, if is_taken { Step::GoOn(block.array) } else { Step::Ask(block.array) });
        Ok(())
    }

    /// Begins to take an array that nobody else will ask for; plans that read it may be running.
    fn stream(&mut self, world: &mut World, array: ArrayId) {
        let Some(output) = self.outputs.get_mut(&array) else { return };
        if !matches!(output.progress, Progress::Pending | Progress::Read) {
            return;
        }
        let fields = output.fields;
        let left = (0..output.blocks).flat_map(|block| (0..fields).map(move |field| (block, field))).collect();
        output.progress = Progress::Taking(Taking {
            left,
            flying: BTreeSet::new(),
            places: VecDeque::new(),
            asked: false,
            unsaid: Vec::new(),
        });
        self.go_on(world, array);
    }

    /// Fetches a few blocks, or asks for more.
    fn go_on(&mut self, world: &mut World, array: ArrayId) {
        let Some(Progress::Taking(taking)) = self.outputs.get_mut(&array).map(|output| &mut output.progress) else {
            return;
        };
        if taking.left.is_empty() {
            let blocks = std::mem::take(&mut taking.unsaid);
            self.outputs.get_mut(&array).into_iter().for_each(|output| output.progress = Progress::Taken);
            return self.say(world, FromClient::Taken { array, blocks });
        }
        let mut wanted = Vec::new();
        while taking.flying.len() < 4
            && let Some((index, holder)) = taking.places.pop_front()
        {
            let fields: Vec<(u64, u32)> = taking.left.range((index, 0)..(index + 1, 0)).copied().collect();
            let new = fields.into_iter().filter(|field| taking.flying.insert(*field));
            wanted.extend(new.map(|(index, field)| (BlockId { array, index }, field, holder)));
        }
        let asks = taking.places.is_empty() && taking.left.len() > taking.flying.len() && !taking.asked;
        taking.asked |= asks;
        if asks {
            self.sequence += 1;
            self.questions.insert(self.sequence, array);
            self.say(world, FromClient::Stream { request: self.sequence, array });
        }
        self.fetch(world, wanted);
    }

    /// A field of a block that is being taken is here. What is here is said now or later.
    fn received(&mut self, world: &mut World, block: BlockId) {
        let (array, index) = (block.array, block.index);
        let (says, is_slow) = (world.chance.permille(700), world.chance.permille(200));
        let Some(Progress::Taking(taking)) = self.outputs.get_mut(&array).map(|output| &mut output.progress) else {
            return;
        };
        if taking.left.range((index, 0)..(index + 1, 0)).next().is_none() {
            taking.unsaid.push(Interval::one(index));
        }
        // Who says nothing and waits for more could wait for itself.
        let blocks = if says || taking.flying.is_empty() { std::mem::take(&mut taking.unsaid) } else { Vec::new() };
        if !blocks.is_empty() {
            self.say(world, FromClient::Taken { array, blocks });
        }
        match is_slow {
            true => {
                let at = world.now + world.chance.time(Duration::from_millis(1), Duration::from_millis(500));
                self.plan_step(world, at, Step::GoOn(array));
            }
            false => self.go_on(world, array),
        }
    }

    fn put(&mut self, world: &mut World, array: ArrayId, holding: Holding, stored: bool) {
        let Some(scatter) = self.scatters.get_mut(&array) else { return };
        scatter.failed |= !stored;
        scatter.left -= holding.blocks.count();
        scatter.holders.push(holding);
        if scatter.left == 0 {
            self.finish_scatter(world, array);
        }
    }

    fn finish_scatter(&mut self, world: &mut World, array: ArrayId) {
        let Some(Scatter { readable, holders, failed, .. }) = self.scatters.remove(&array) else { return };
        if failed {
            return;
        }
        let (blocks, fields) = (readable.grid.blocks(), readable.fields);
        let bytes = readable.field_bytes * u64::from(fields);
        let progress = Progress::Read;
        let readable = Some(readable);
        self.outputs.insert(array, Output { readable, blocks, fields, progress, is_complete: true, job: None });
        self.say(world, FromClient::Scattered { array, blocks, fields, bytes, holders });
    }
}
