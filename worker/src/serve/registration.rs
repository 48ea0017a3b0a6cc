//! One registration of a worker: its machine, moved by whoever has something to say to it.
//!
//! Whatever comes (messages, questions of peers, fetched blocks, finished tasks, wishes) moves the machine where it comes:
//! on the network's threads and on those that compute. What leaves it is handed to the network, which never waits.
//! Answers and fetches carry ids, so that their ends find back. What may have to be compiled is left to the thread that
//! serves: the network's go on meanwhile.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::mover::{Machine, Mover};
use super::remote::{RemoteError, RemoteOptions};
use super::stop::{Stop, Wish};
use super::worker::{Worker, executed};
use crate::agent::{Event, FetchId, Outward, Part, ReplyTo};
use crate::block::Block;
use crate::executor::{self, ExecuteError};
use crate::net::identity::Role;
use crate::net::{
    Bulk, BulkOptions, Control, Dialer, Fetched, NetError, PACKET_BYTES_LOOPBACK, PACKET_BYTES_MAX, Question, Received,
    Reply, address_towards,
};
use crate::wire::{FromWorker, Register, ToScheduler, ToWorker};

/// What is expected of a fetch over QUIC, at ordinary packets. A hint for placement.
const FETCH_BYTES_PER_SECOND: u64 = 400 << 20;

/// How long after the first failure on a lost device the one that lost it may come.
const BLAME_PATIENCE: Duration = Duration::from_millis(200);

/// Why a registration ended.
pub(super) enum End {
    /// It was told to.
    Told,
    /// There is nobody to tell it anything.
    SchedulerGone(NetError),
    /// There is nothing to compute with.
    DeviceLost(ExecuteError),
    /// Its own machine broke: a bug, contained. What it held is lost.
    Broken,
}

/// What comes.
enum Input {
    Scheduler(Received<ToWorker>),
    Asked(Question, Reply),
    Answered(ReplyTo),
    Fetched(FetchId, Fetched),
    Executed(executor::Event),
    Wish(Wish),
}

/// A worker that the scheduler knows.
pub(super) struct Registration(Arc<Mover<Registered>>);

/// What is moved. What is said last still leaves, so the connections end before the worker.
struct Registered {
    control: Control<ToScheduler>,
    bulk: Arc<Bulk>,
    worker: Worker,
    /// Who moves it.
    mover: Arc<Mover<Registered>>,
    /// Where answers go that are owed.
    replies: HashMap<ReplyTo, Reply>,
    asked: u64,
    /// When it leaves by itself.
    leaves: Option<Duration>,
    /// Why its device was lost, once it was, and when that is the end of it.
    lost: Option<(Duration, ExecuteError)>,
    end: Option<End>,
}

impl Registration {
    /// Starts a machine, joins and registers it. After `lifetime` it leaves by itself.
    pub(super) fn begin(
        options: &RemoteOptions,
        dialer: &Dialer,
        stop: &Stop,
        lifetime: Option<Duration>,
    ) -> Result<Registration, RemoteError> {
        let net = |error| RemoteError::Net { address: options.scheduler.clone(), error };
        let identity = Arc::new(dialer.join(&options.scheduler, &options.token, Role::Worker).map_err(net)?);
        let mover = Arc::<Mover<Registered>>::default();
        let listening = listening(&options.scheduler, options.advertise.as_deref()).map_err(net)?;
        let bulk = BulkOptions { put_bytes_max: options.worker.memory_bytes, ..listening };
        let asked = Arc::clone(&mover);
        let ask = move |_party, question, reply| asked.post_briefly(Input::Asked(question, reply));
        let bulk = Arc::new(Bulk::open(Arc::clone(&identity), bulk, ask).map_err(net)?);
        let finished = Arc::clone(&mover);
        let sink = Box::new(move |event| finished.post_briefly(Input::Executed(event)));
        let worker = Worker::start(options.worker.clone(), sink)?;
        let heard = Arc::clone(&mover);
        let session = dialer.connect(&options.scheduler, &identity).map_err(net)?;
        let control: Control<ToScheduler> =
            session.start(move |received| heard.post_briefly(Input::Scheduler(received)));
        dialer.keep_renewed(&control, identity, &bulk);
        let tells = control.clone();
        bulk.report(move |news| {
            tracing::debug!(?news, "traffic of blocks");
            tells.send(&ToScheduler::Bulk(news)).is_ok()
        });
        let address = advertised(options.advertise.as_deref(), bulk.address().map_err(net)?);
        let register = Register {
            name: options.name.clone(),
            address,
            fetch_bytes_per_second: FETCH_BYTES_PER_SECOND,
            ..worker.register()
        };
        tracing::info!(party = %control.party(), address = register.address, "registers");
        // If the connection has ended, it says so itself.
        let _ = control.send(&ToScheduler::Register(register));
        let (replies, moved) = (HashMap::new(), Arc::clone(&mover));
        let (leaves, lost, end) = (lifetime, None, None);
        mover.start(Registered { control, bulk, worker, mover: moved, replies, asked: 0, leaves, lost, end });
        let wished = Arc::downgrade(&mover);
        stop.tell(move |wish| wished.upgrade().map(|mover| mover.post(Input::Wish(wish))).is_some());
        Ok(Registration(mover))
    }

    /// Serves until the end.
    pub(super) fn serve(self) -> End {
        self.0.run();
        // Taken away from those who speak to it: whatever of theirs is still to come finds nobody.
        let Some(machine) = self.0.take() else { return End::Told };
        let end = machine.end.unwrap_or(End::Told);
        if let End::DeviceLost(_) = end {
            // To close it would wait for its work, and what hangs never ends. It is left to the process's end.
            std::mem::forget(machine.worker);
        }
        end
    }
}

impl Machine for Registered {
    type Input = Input;

    fn handle(&mut self, now: Duration, input: Option<Input>) {
        if self.leaves.is_some_and(|at| at <= now) {
            self.leaves = None;
            self.worker.handle(now, Event::Leave);
        }
        if let Some(event) = self.event(now, input) {
            self.worker.handle(now, event);
        }
        while let Some(outward) = self.worker.poll() {
            self.carry(outward);
        }
        if let Some((_, error)) = self.lost.take_if(|(at, _)| *at <= now) {
            self.end::<()>(End::DeviceLost(error));
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let ends = self.lost.as_ref().map(|&(at, _)| at);
        self.worker.next_timeout().into_iter().chain(self.leaves).chain(ends).min()
    }

    fn takes_long(&self, input: &Input) -> bool {
        match input {
            Input::Scheduler(Received::Message(ToWorker::Kernel(_))) => true,
            Input::Scheduler(Received::Message(ToWorker::Stage { stage, .. })) => !self.worker.is_ready_for(stage),
            _ => false,
        }
    }

    fn has_panicked(&mut self) {
        self.end = Some(End::Broken);
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }
}

impl Registered {
    /// What the worker is told of what came, or of the passing of time.
    fn event(&mut self, now: Duration, input: Option<Input>) -> Option<Event<Block>> {
        Some(match input {
            None => Event::Tick,
            Some(Input::Scheduler(Received::Message(message))) => Event::Scheduler(message),
            Some(Input::Scheduler(Received::Closed(error))) => return self.end(End::SchedulerGone(error)),
            Some(Input::Asked(question, reply)) => {
                self.asked += 1;
                let from = ReplyTo(self.asked);
                self.replies.insert(from, reply);
                match question {
                    Question::Fetch { parcel, field, region } => Event::Fetch { from, parcel, field, region },
                    Question::Put { parcel, blocks } => Event::Put { from, parcel, blocks },
                }
            }
            Some(Input::Answered(to)) => Event::Replied { to },
            Some(Input::Fetched(fetch, result)) => {
                // The holder has cut them.
                let part = |data: Option<Block>| data.map(|data| Part { data, region: None });
                Event::Fetched { fetch, result: result.map(|blocks| blocks.into_iter().map(part).collect()) }
            }
            Some(Input::Executed(event)) => self.heard(now, event)?,
            Some(Input::Wish(Wish::Leave)) => Event::Leave,
            Some(Input::Wish(Wish::End)) => return self.end(End::Told),
        })
    }

    /// A connection that has ended says so itself. What it cannot carry, the scheduler would wait for in vain.
    fn say(&mut self, message: FromWorker) {
        if let Err(error @ NetError::Wire(_)) = self.control.send(&ToScheduler::Worker(message)) {
            tracing::error!(%error, "the scheduler cannot be told");
            self.end::<()>(End::Broken);
        }
    }

    /// The first reason counts.
    fn end<T>(&mut self, end: End) -> Option<T> {
        self.end.get_or_insert(end);
        None
    }

    /// What the agent hears of a task. Once the device is lost, that is which block is to blame, if one is; of what merely
    /// met with it, whoever misses this worker has it done by others.
    fn heard(&mut self, now: Duration, event: executor::Event) -> Option<Event<Block>> {
        let Err(error) = self.worker.check() else { return Some(executed(event)) };
        let is_to_blame = matches!(event.result, Err(ExecuteError::Deadline { .. }));
        let ends = now + if is_to_blame { Duration::ZERO } else { BLAME_PATIENCE };
        self.lost = match self.lost.take() {
            Some((at, error)) => Some((at.min(ends), error)),
            None => Some((ends, error)),
        };
        is_to_blame.then(|| executed(event))
    }

    fn carry(&mut self, outward: Outward<Block>) {
        match outward {
            Outward::Send(message) => self.say(message),
            Outward::Peer { worker, address } => self.bulk.meet(worker, address),
            Outward::PeerGone { worker } => self.bulk.forget(worker),
            Outward::Fetch { fetch, holder, parcel, field, region } => {
                let mover = Arc::clone(&self.mover);
                let reply = move |result| mover.post_briefly(Input::Fetched(fetch, result));
                self.bulk.fetch(holder, parcel, field, region, reply);
            }
            Outward::Reply { to, answer } => {
                if let Some(reply) = self.replies.remove(&to) {
                    let mover = Arc::clone(&self.mover);
                    reply.answer(answer, move || mover.post_briefly(Input::Answered(to)));
                }
            }
            Outward::Close => drop(self.end::<()>(End::Told)),
        }
    }
}

/// Where blocks are asked for: on the interface that leads to the scheduler, or, where peers reach it otherwise, on all.
fn listening(scheduler: &str, advertise: Option<&str>) -> Result<BulkOptions, NetError> {
    let address = match advertise.map(split_port) {
        None => SocketAddr::new(address_towards(scheduler)?, 0),
        Some((host, port)) if host.contains(':') => (Ipv6Addr::UNSPECIFIED, port.unwrap_or(0)).into(),
        Some((_, port)) => (Ipv4Addr::UNSPECIFIED, port.unwrap_or(0)).into(),
    };
    let is_loopback = address.ip().is_loopback();
    let packet_bytes_max = if is_loopback { PACKET_BYTES_LOOPBACK } else { PACKET_BYTES_MAX };
    Ok(BulkOptions { listen: Some(address), packet_bytes_max, ..BulkOptions::default() })
}

/// What the others are told: where it listens, or `advertise` with the port that it got.
fn advertised(advertise: Option<&str>, bound: SocketAddr) -> String {
    match advertise.map(split_port) {
        None => bound.to_string(),
        Some((host, _)) => match host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, bound.port()).to_string(),
            Err(_) => format!("{host}:{}", bound.port()),
        },
    }
}

/// `host:port`, or a host alone. An IPv6 address with a port stands in brackets.
fn split_port(address: &str) -> (&str, Option<u16>) {
    if address.parse::<IpAddr>().is_ok() {
        return (address, None);
    }
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.map_or((address, None), |(host, port)| (host, Some(port)));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_listens_where_its_scheduler_is_and_says_what_it_is_told_to() {
        let loopback = listening("127.0.0.1:8786", None).unwrap();
        assert_eq!(loopback.listen, Some(([127, 0, 0, 1], 0).into()));
        assert_eq!(loopback.packet_bytes_max, PACKET_BYTES_LOOPBACK);
        let bound = ([0, 0, 0, 0], 4000).into();
        for (advertise, listen, said) in [
            ("10.0.0.7", "0.0.0.0:0", "10.0.0.7:4000"),
            ("10.0.0.7:4000", "0.0.0.0:4000", "10.0.0.7:4000"),
            ("node7", "0.0.0.0:0", "node7:4000"),
            ("node7.example:4000", "0.0.0.0:4000", "node7.example:4000"),
            ("fe80::7", "[::]:0", "[fe80::7]:4000"),
            ("[fe80::7]:4000", "[::]:4000", "[fe80::7]:4000"),
        ] {
            let listening = listening("127.0.0.1:8786", Some(advertise)).unwrap();
            assert_eq!(listening.listen.unwrap().to_string(), listen, "{advertise}");
            assert_eq!(advertised(Some(advertise), bound), said);
        }
    }
}
