//! The scheduler of many processes, moved by whoever has something to say to it: the network's threads and the clients
//! of this process.
//!
//! What it decides leaves through [`Control::send`], which never waits. A worker is what its connection is: when that
//! ends, it is lost, and if it comes back it joins anew. A client whose connection ends is only silent; the scheduler
//! waits for it for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::net::identity::{Authority, Role, Token};
use gridloom_worker::net::{Control, Received, Refusal, Server, Session};
use gridloom_worker::serve::{Machine, Mover, Saying};
use gridloom_worker::wire::{BulkTraffic, ToScheduler, ToWorker};

use super::ClusterError;
use super::roll::Roll;
use crate::client::link::Receiver;
use crate::client::wire::{ClientHears, ClientSays, ClusterStatus};
use crate::scheduler::{Action, Event, FromClient, Limits, Scheduler, ToClient};

/// How long the word that an array is gone may wait for others to the same worker: alone it costs as much as a task, and the
/// memory that it frees is wanted by a run at the latest, which comes after it.
const FORGETS_WITHIN: Duration = Duration::from_millis(5);

/// A scheduler that workers and clients reach over QUIC. Dropped, it tells its workers to end.
pub struct SchedulerServer {
    /// `None` once dropped.
    server: Option<Server>,
    address: SocketAddr,
    authority: Arc<Authority>,
    token: Token,
    roll: Arc<Roll>,
    mover: Arc<Mover<Shell>>,
    thread: Option<JoinHandle<()>>,
}

/// What the scheduler's shell is told.
enum Input {
    Session(Session),
    Worker(WorkerId, Received<ToScheduler>),
    Client(ClientId, Received<ClientSays>),
    /// A client of this process connects.
    Near(ClientId, Arc<dyn Receiver>),
    Lost(String),
    Stop,
    #[cfg(test)]
    Panic,
}

impl SchedulerServer {
    /// Opens its door, with a new authority and a new token.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn start(listen: SocketAddr, limits: Limits) -> Result<SchedulerServer, ClusterError> {
        let authority = Arc::new(Authority::new().map_err(|error| ClusterError::Net(error.into()))?);
        let (token, roll, mover) = (authority.token(), Arc::<Roll>::default(), Arc::<Mover<Shell>>::default());
        let met = Arc::clone(&mover);
        let meet = move |session| met.post_briefly(Input::Session(session));
        let server = Server::bind(listen, Arc::clone(&authority), meet)?;
        mover.start(Shell::new(Arc::clone(&mover), limits, Arc::clone(&roll)));
        let (address, moved) = (server.address(), Arc::clone(&mover));
        let thread = thread::Builder::new().name("gridloom-scheduler".to_owned()).spawn(move || moved.run())?;
        Ok(SchedulerServer { server: Some(server), address, authority, token, roll, mover, thread: Some(thread) })
    }

    /// Where it is reached: with the port that the system chose, if it was left to it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What lets workers and clients join.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Who makes identities here.
    pub(super) fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Who has registered.
    pub(super) fn roll(&self) -> &Roll {
        &self.roll
    }

    /// A client of this process connects.
    pub(super) fn connect(&self, client: ClientId, receiver: Arc<dyn Receiver>) {
        self.mover.call(Input::Near(client, receiver));
    }

    /// A client of this process speaks.
    pub(super) fn hear(&self, client: ClientId, message: FromClient) {
        self.mover.post(Input::Client(client, Received::Message(ClientSays::Message(message))));
    }

    /// The workers of this name are dead: their connections are not waited for, and nobody waits for them to register.
    pub(super) fn lose(&self, name: String) {
        self.mover.call(Input::Lost(name));
        self.roll.change(|_| {});
    }
}

impl Drop for SchedulerServer {
    fn drop(&mut self) {
        self.mover.call(Input::Stop);
        // Whoever hears something on that very thread may let go of the cluster there.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // Its panics have been printed; there is nobody else to tell.
            let _ = thread.join();
        }
        // What was said last leaves before the door closes.
        drop(self.mover.take());
        drop(self.server.take());
    }
}

/// A worker that is connected.
struct Worker {
    control: Control<ToWorker>,
    /// What it calls itself, once it has registered.
    name: Option<String>,
    /// What it said last of its connections for blocks.
    bulk: BulkTraffic,
}

/// Where a client hears.
enum Client {
    Far(Control<ClientHears>),
    Near(Arc<dyn Receiver>),
}

/// The scheduler, and everyone's connection.
struct Shell {
    mover: Arc<Mover<Shell>>,
    /// What time it was told last.
    now: Duration,
    limits: Limits,
    scheduler: Scheduler,
    roll: Arc<Roll>,
    workers: BTreeMap<WorkerId, Worker>,
    clients: BTreeMap<ClientId, Client>,
    /// Workers that were here once: their ids are used up.
    retired: BTreeSet<WorkerId>,
    /// Workers that were told what has not left, for it may wait.
    unsaid: BTreeSet<WorkerId>,
    /// Until when.
    unsaid_due: Option<Duration>,
    /// What clients of this process are told.
    sayings: Vec<Saying>,
    is_over: bool,
}

impl Machine for Shell {
    type Input = Input;

    fn handle(&mut self, now: Duration, input: Option<Input>) {
        self.now = now;
        match input {
            None => self.tell(Event::Tick),
            Some(Input::Session(session)) => self.meet(session),
            Some(Input::Worker(worker, received)) => self.hear_worker(worker, received),
            Some(Input::Client(client, received)) => self.hear_client(client, received),
            Some(Input::Near(client, receiver)) => {
                self.clients.insert(client, Client::Near(receiver));
                self.tell(Event::ClientJoined { client });
            }
            Some(Input::Lost(name)) => self.lose(&name),
            Some(Input::Stop) => self.stop(),
            #[cfg(test)]
            Some(Input::Panic) => panic!("as the test wants"),
        }
        self.act();
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.scheduler.next_timeout().into_iter().chain(self.unsaid_due).min()
    }

    fn sayings(&mut self) -> Vec<Saying> {
        std::mem::take(&mut self.sayings)
    }

    /// Plans may be of any size, and what a worker had that is gone is derived again.
    fn takes_long(&self, input: &Input) -> bool {
        match input {
            Input::Worker(_, Received::Message(_)) | Input::Session(_) | Input::Near(..) | Input::Stop => false,
            Input::Worker(_, Received::Closed(_)) | Input::Lost(_) | Input::Client(_, Received::Closed(_)) => true,
            #[cfg(test)]
            Input::Panic => false,
            Input::Client(_, Received::Message(said)) => {
                matches!(said, ClientSays::Message(FromClient::Submit { .. } | FromClient::Close))
            }
        }
    }

    /// What it knows may be half changed, so it begins anew: clients hear that their scheduler is lost, and workers, whose
    /// connections end too, drop everything and join again.
    fn has_panicked(&mut self) {
        tracing::error!("the scheduler broke and begins anew");
        self.scheduler = Scheduler::new(self.limits);
        self.retired.extend(std::mem::take(&mut self.workers).into_keys());
        self.roll.change(BTreeMap::clear);
        (self.unsaid, self.unsaid_due) = (BTreeSet::new(), None);
        for client in std::mem::take(&mut self.clients).into_values() {
            match client {
                Client::Far(control) => drop(control),
                Client::Near(receiver) => self.sayings.push(Box::new(move || receiver.close())),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Shell {
    fn new(mover: Arc<Mover<Shell>>, limits: Limits, roll: Arc<Roll>) -> Shell {
        Shell {
            mover,
            now: Duration::ZERO,
            limits,
            scheduler: Scheduler::new(limits),
            roll,
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            retired: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            unsaid_due: None,
            sayings: Vec::new(),
            is_over: false,
        }
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.handle(self.now, event);
    }

    /// Does what the scheduler wants. What a worker is told now leaves together, with what has waited for it.
    fn act(&mut self) {
        let mut told = BTreeSet::new();
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::ToWorker { worker, message } => {
                    let may_wait = matches!(message, ToWorker::Forget { .. });
                    if may_wait { &mut self.unsaid } else { &mut told }.insert(worker);
                    // A connection that has ended says so itself.
                    drop(self.workers.get(&worker).map(|worker| worker.control.put(&message)));
                }
                Action::ToClient { client, message } => self.tell_client(client, message),
            }
        }
        if self.unsaid_due.take_if(|due| *due <= self.now).is_some() {
            told.append(&mut self.unsaid);
        }
        for worker in told {
            self.unsaid.remove(&worker);
            self.workers.get(&worker).into_iter().for_each(|worker| worker.control.flush());
        }
        match self.unsaid.is_empty() {
            true => self.unsaid_due = None,
            false => drop(self.unsaid_due.get_or_insert(self.now + FORGETS_WITHIN)),
        }
    }

    fn tell_client(&mut self, client: ClientId, message: ToClient) {
        match self.clients.get(&client) {
            Some(Client::Far(control)) => drop(control.send(&ClientHears::Message(message))),
            Some(Client::Near(receiver)) => {
                let receiver = Arc::clone(receiver);
                self.sayings.push(Box::new(move || receiver.receive(message)));
            }
            None => {}
        }
    }

    /// Somebody has connected.
    fn meet(&mut self, session: Session) {
        let (party, mover) = (session.party(), Arc::clone(&self.mover));
        tracing::info!(%party, address = %session.address(), "connected");
        match party.role {
            Role::Worker => {
                let worker = WorkerId(party.id);
                if self.workers.contains_key(&worker) || self.retired.contains(&worker) {
                    return session.refuse(Refusal::Retired);
                }
                let control = session.start(move |received| mover.post_briefly(Input::Worker(worker, received)));
                self.workers.insert(worker, Worker { control, name: None, bulk: BulkTraffic::default() });
            }
            Role::Client => {
                let client = ClientId(party.id);
                if self.clients.contains_key(&client) {
                    return session.refuse(Refusal::Unexpected);
                }
                let control = session.start(move |received| mover.post_briefly(Input::Client(client, received)));
                self.clients.insert(client, Client::Far(control.clone()));
                self.tell(Event::ClientJoined { client });
                self.act();
                drop(control.send(&ClientHears::Welcome));
            }
            Role::Scheduler => session.refuse(Refusal::Unexpected),
        }
    }

    fn hear_worker(&mut self, worker: WorkerId, received: Received<ToScheduler>) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        match received {
            Received::Message(ToScheduler::Register(register)) if !register.is_short() => {
                known.control.refuse(Refusal::TooLong);
            }
            Received::Message(ToScheduler::Register(register)) if known.name.is_none() => {
                tracing::info!(%worker, name = register.name, executor = register.executor, "a worker registers");
                let name = register.name.clone();
                known.name = Some(name.clone());
                self.tell(Event::WorkerJoined { worker, register });
                self.roll.change(|names| drop(names.insert(worker, name)));
            }
            Received::Message(ToScheduler::Register(_)) => known.control.refuse(Refusal::Malformed),
            Received::Message(ToScheduler::Worker(message)) => self.tell(Event::Worker { worker, message }),
            Received::Message(ToScheduler::Bulk(seen)) => known.bulk = seen,
            Received::Closed(error) => {
                tracing::info!(%worker, %error, traffic = ?known.control.traffic(), bulk = ?known.bulk, "a worker is gone");
                self.part(worker);
            }
        }
    }

    fn hear_client(&mut self, client: ClientId, received: Received<ClientSays>) {
        match received {
            Received::Message(ClientSays::Message(message)) => {
                let closes = message == FromClient::Close;
                self.tell(Event::Client { client, message });
                if closes {
                    self.clients.remove(&client);
                }
            }
            Received::Message(ClientSays::Status) => {
                let status = self.status();
                if let Some(Client::Far(control)) = self.clients.get(&client) {
                    drop(control.send(&ClientHears::Status(status)));
                }
            }
            Received::Closed(error) => {
                if self.clients.remove(&client).is_some() {
                    tracing::info!(?client, %error, "a client is silent");
                    self.tell(Event::ClientGone { client });
                }
            }
        }
    }

    fn lose(&mut self, name: &str) {
        let of_name = |(&id, worker): (&WorkerId, &Worker)| (worker.name.as_deref() == Some(name)).then_some(id);
        let lost: Vec<WorkerId> = self.workers.iter().filter_map(of_name).collect();
        lost.into_iter().for_each(|worker| self.part(worker));
    }

    /// A worker is gone for good.
    fn part(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        self.retired.insert(worker);
        self.tell(Event::WorkerGone { worker });
        self.roll.change(|names| drop(names.remove(&worker)));
    }

    /// How things stand. Who asks is not counted among the clients.
    fn status(&self) -> ClusterStatus {
        let mut scheduler = self.scheduler.status();
        scheduler.clients = scheduler.clients.saturating_sub(1);
        let traffic = self.workers.iter().map(|(&id, worker)| (id, worker.control.traffic()));
        let bulk = self.workers.iter().map(|(&id, worker)| (id, worker.bulk));
        ClusterStatus { scheduler, traffic: traffic.collect(), bulk: bulk.collect() }
    }

    /// Nobody is to wait for what will not be.
    fn stop(&mut self) {
        self.is_over = true;
        for worker in self.workers.values() {
            drop(worker.control.send(&ToWorker::Close));
        }
    }
}

#[cfg(test)]
mod tests;
