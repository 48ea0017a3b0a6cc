//! One registration of a worker: its machine on this thread, its messages and blocks on the network's.
//!
//! Whatever comes (messages, questions of peers, fetched blocks, finished tasks, wishes) is put into one inbox; what
//! leaves the machine is handed to the network, which never waits. Answers and fetches carry ids, so that their ends
//! find back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use super::remote::{RemoteError, RemoteOptions};
use super::stop::{Stop, Wish};
use super::worker::{Worker, executed};
use crate::agent::{Answer, Event, FetchId, Outward, Part, ReplyTo};
use crate::block::Block;
use crate::executor::{self, ExecuteError};
use crate::net::identity::Role;
use crate::net::{
    Bulk, BulkOptions, Control, Dialer, NetError, PACKET_BYTES_LOOPBACK, PACKET_BYTES_MAX, Question, Received, Reply,
    address_towards,
};
use crate::wire::{FetchError, Register, ToScheduler, ToWorker};

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
}

/// What comes.
enum Input {
    Scheduler(Received<ToWorker>),
    Asked(Question, Reply),
    Answered(ReplyTo),
    Fetched(FetchId, Result<Block, FetchError>),
    Executed(executor::Event),
    Wish(Wish),
}

/// A worker that the scheduler knows. What is said last still leaves, so the connections end before the machine.
pub(super) struct Registration {
    inbox: Inbox<Input>,
    control: Control<ToScheduler>,
    bulk: Arc<Bulk>,
    worker: Worker,
    /// Where answers go that are owed.
    replies: HashMap<ReplyTo, Reply>,
    asked: u64,
    /// Why its device was lost, once it was, and when that is the end of it.
    lost: Option<(Duration, ExecuteError)>,
}

impl Registration {
    /// Starts a machine, joins and registers it.
    pub(super) fn begin(options: &RemoteOptions, dialer: &Dialer, stop: &Stop) -> Result<Registration, RemoteError> {
        let net = |error| RemoteError::Net { address: options.scheduler.clone(), error };
        let identity = Arc::new(dialer.join(&options.scheduler, &options.token, Role::Worker).map_err(net)?);
        let inbox = Inbox::default();
        let asked = inbox.sender();
        let listening = listening(&options.scheduler, options.advertise.as_deref()).map_err(net)?;
        let bulk = BulkOptions { put_bytes_max: options.worker.memory_bytes, ..listening };
        let ask = move |_party, question, reply| say(&asked, Input::Asked(question, reply));
        let bulk = Arc::new(Bulk::open(Arc::clone(&identity), bulk, ask).map_err(net)?);
        let events = inbox.sender();
        let sink = Box::new(move |event| say(&events, Input::Executed(event)));
        let worker = Worker::start(options.worker.clone(), sink)?;
        let heard = inbox.sender();
        let session = dialer.connect(&options.scheduler, &identity).map_err(net)?;
        let control: Control<ToScheduler> = session.start(move |received| say(&heard, Input::Scheduler(received)));
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
        let wished = inbox.sender();
        stop.tell(move |wish| wished.send(Input::Wish(wish)).is_ok());
        Ok(Registration { inbox, control, bulk, worker, replies: HashMap::new(), asked: 0, lost: None })
    }

    /// Serves until the end. After `lifetime` it leaves by itself.
    pub(super) fn serve(mut self, lifetime: Option<Duration>) -> End {
        let end = self.run(lifetime);
        if let End::DeviceLost(_) = end {
            // To close it would wait for its work, and what hangs never ends. It is left to the process's end.
            std::mem::forget(self.worker);
        }
        end
    }

    fn run(&mut self, lifetime: Option<Duration>) -> End {
        let mut leaves = lifetime.map(|lifetime| self.inbox.now() + lifetime);
        loop {
            let ends = self.lost.as_ref().map(|&(at, _)| at);
            let due = self.worker.next_timeout().into_iter().chain(leaves).chain(ends).min();
            let input = self.inbox.next(due);
            if leaves.is_some_and(|at| at <= self.inbox.now()) {
                leaves = None;
                self.tell(Event::Leave);
            }
            if let Some(end) = self.handle(input) {
                return end;
            }
            while let Some(outward) = self.worker.poll() {
                if let Some(end) = self.carry(outward) {
                    return end;
                }
            }
            if let Some((_, error)) = self.lost.take_if(|(at, _)| *at <= self.inbox.now()) {
                return End::DeviceLost(error);
            }
        }
    }

    /// Takes what came, or the passing of time.
    fn handle(&mut self, input: Option<Input>) -> Option<End> {
        let event = match input {
            None => Event::Tick,
            Some(Input::Scheduler(Received::Message(message))) => Event::Scheduler(message),
            Some(Input::Scheduler(Received::Closed(error))) => return Some(End::SchedulerGone(error)),
            Some(Input::Asked(question, reply)) => {
                self.asked += 1;
                let from = ReplyTo(self.asked);
                self.replies.insert(from, reply);
                match question {
                    Question::Fetch { block, field, region } => Event::Fetch { from, block, field, region },
                    Question::Put { block, fields } => Event::Put { from, block, fields },
                }
            }
            Some(Input::Answered(to)) => Event::Replied { to },
            Some(Input::Fetched(fetch, result)) => {
                // The holder has cut it.
                Event::Fetched { fetch, result: result.map(|data| Part { data, region: None }) }
            }
            Some(Input::Executed(event)) => self.heard(event)?,
            Some(Input::Wish(Wish::Leave)) => Event::Leave,
            Some(Input::Wish(Wish::End)) => return Some(End::Told),
        };
        self.tell(event);
        None
    }

    /// What the agent hears of a task. Once the device is lost, that is which block is to blame, if one is; of what merely
    /// met with it, whoever misses this worker has it done by others.
    fn heard(&mut self, event: executor::Event) -> Option<Event<Block>> {
        let Err(error) = self.worker.check() else { return Some(executed(event)) };
        let is_to_blame = matches!(event.result, Err(ExecuteError::Deadline { .. }));
        let patience = if is_to_blame { Duration::ZERO } else { BLAME_PATIENCE };
        let ends = self.inbox.now() + patience;
        self.lost = match self.lost.take() {
            Some((at, error)) => Some((at.min(ends), error)),
            None => Some((ends, error)),
        };
        is_to_blame.then(|| executed(event))
    }

    fn tell(&mut self, event: Event<Block>) {
        self.worker.handle(self.inbox.now(), event);
    }

    fn carry(&mut self, outward: Outward<Block>) -> Option<End> {
        match outward {
            // A connection that has ended says so itself.
            Outward::Send(message) => drop(self.control.send(&ToScheduler::Worker(message))),
            Outward::Peer { worker, address } => self.bulk.meet(worker, address),
            Outward::PeerGone { worker } => self.bulk.forget(worker),
            Outward::Fetch { fetch, holder, block, field, region } => {
                let inbox = self.inbox.sender();
                let reply = move |result| say(&inbox, Input::Fetched(fetch, result));
                self.bulk.fetch(holder, block, field, region, reply);
            }
            Outward::Reply { to, answer } => {
                if let Some(reply) = self.replies.remove(&to) {
                    let inbox = self.inbox.sender();
                    reply.answer(here(answer), move || say(&inbox, Input::Answered(to)));
                }
            }
            Outward::Close => return Some(End::Told),
        }
        None
    }
}

/// Puts something into an inbox. If nobody reads it any more, nobody waits for it.
fn say(inbox: &std::sync::mpsc::Sender<Input>, input: Input) {
    let _ = inbox.send(input);
}

/// An answer whose bytes can travel: what a device holds is brought here. A device that is lost has it no more.
fn here(answer: Answer<Block>) -> Answer<Block> {
    match answer {
        Answer::Data(part) if part.data.buffer.fetch().is_err() => Answer::Missing,
        answer => answer,
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
