//! The scheduler of many processes: one thread that owns it, fed by the network's callbacks through one inbox.
//!
//! What it decides leaves through [`Control::send`], which never waits. A worker is what its connection is: when that
//! ends, it is lost, and if it comes back it joins anew. A client whose connection ends is only silent; the scheduler
//! waits for it for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::net::identity::{Authority, Role, Token};
use gridloom_worker::net::{Control, Received, Refusal, Server, Session};
use gridloom_worker::serve::Inbox;
use gridloom_worker::wire::{BulkTraffic, ToScheduler, ToWorker};

use super::ClusterError;
use super::roll::Roll;
use crate::client::wire::{ClientHears, ClientSays, ClusterStatus};
use crate::scheduler::{Action, Event, FromClient, Limits, Scheduler};

/// A scheduler that workers and clients reach over QUIC. Dropped, it tells its workers to end.
pub struct SchedulerServer {
    /// `None` once dropped.
    server: Option<Server>,
    address: SocketAddr,
    token: Token,
    roll: Arc<Roll>,
    inbox: Sender<Input>,
    thread: Option<JoinHandle<()>>,
}

/// What its thread is told.
enum Input {
    Session(Session),
    Worker(WorkerId, Received<ToScheduler>),
    Client(ClientId, Received<ClientSays>),
    Lost(String),
    Stop,
}

impl SchedulerServer {
    /// Opens its door, with a new authority and a new token.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn start(listen: SocketAddr, limits: Limits) -> Result<SchedulerServer, ClusterError> {
        let authority = Arc::new(Authority::new().map_err(|error| ClusterError::Net(error.into()))?);
        let token = authority.token();
        let inbox = Inbox::default();
        let (told, knocked) = (inbox.sender(), inbox.sender());
        let server = Server::bind(listen, authority, move |session| say(&knocked, Input::Session(session)))?;
        let address = server.address();
        let roll = Arc::<Roll>::default();
        let shell = Shell::new(inbox, limits, Arc::clone(&roll));
        let thread = std::thread::Builder::new().name("gridloom-scheduler".to_owned()).spawn(move || shell.run())?;
        Ok(SchedulerServer { server: Some(server), address, token, roll, inbox: told, thread: Some(thread) })
    }

    /// Where it is reached: with the port that the system chose, if it was left to it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What lets workers and clients join.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Who has registered.
    pub(super) fn roll(&self) -> &Roll {
        &self.roll
    }

    /// The workers of this name are dead: their connections are not waited for, and nobody waits for them to register.
    pub(super) fn lose(&self, name: String) {
        say(&self.inbox, Input::Lost(name));
        self.roll.change(|_| {});
    }
}

impl Drop for SchedulerServer {
    fn drop(&mut self) {
        say(&self.inbox, Input::Stop);
        if let Some(thread) = self.thread.take() {
            // Its panics have been printed; there is nobody else to tell.
            let _ = thread.join();
        }
        // Only now: what was said last leaves before the door closes.
        drop(self.server.take());
    }
}

/// If nobody reads it any more, it has stopped.
fn say(inbox: &Sender<Input>, input: Input) {
    let _ = inbox.send(input);
}

/// A worker that is connected.
struct Worker {
    control: Control<ToWorker>,
    /// What it calls itself, once it has registered.
    name: Option<String>,
    /// What it said last of its connections for blocks.
    bulk: BulkTraffic,
}

/// The scheduler, and everyone's connection.
struct Shell {
    inbox: Inbox<Input>,
    scheduler: Scheduler,
    roll: Arc<Roll>,
    workers: BTreeMap<WorkerId, Worker>,
    clients: BTreeMap<ClientId, Control<ClientHears>>,
    /// Workers that were here once: their ids are used up.
    retired: BTreeSet<WorkerId>,
}

impl Shell {
    fn new(inbox: Inbox<Input>, limits: Limits, roll: Arc<Roll>) -> Shell {
        let (workers, clients, retired) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Shell { inbox, scheduler: Scheduler::new(limits), roll, workers, clients, retired }
    }

    fn run(mut self) {
        loop {
            match self.inbox.next(self.scheduler.next_timeout()) {
                None => self.tell(Event::Tick),
                Some(Input::Session(session)) => self.meet(session),
                Some(Input::Worker(worker, received)) => self.hear_worker(worker, received),
                Some(Input::Client(client, received)) => self.hear_client(client, received),
                Some(Input::Lost(name)) => self.lose(&name),
                Some(Input::Stop) => return self.stop(),
            }
            self.act();
        }
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.handle(self.inbox.now(), event);
    }

    /// Does what the scheduler wants. A connection that has ended says so itself.
    fn act(&mut self) {
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::ToWorker { worker, message } => {
                    drop(self.workers.get(&worker).map(|worker| worker.control.send(&message)));
                }
                Action::ToClient { client, message } => {
                    let message = ClientHears::Message(message);
                    drop(self.clients.get(&client).map(|control| control.send(&message)));
                }
            }
        }
    }

    /// Somebody has connected.
    fn meet(&mut self, session: Session) {
        let (party, inbox) = (session.party(), self.inbox.sender());
        tracing::info!(%party, address = %session.address(), "connected");
        match party.role {
            Role::Worker => {
                let worker = WorkerId(party.id);
                if self.workers.contains_key(&worker) || self.retired.contains(&worker) {
                    return session.refuse(Refusal::Retired);
                }
                let control = session.start(move |received| say(&inbox, Input::Worker(worker, received)));
                self.workers.insert(worker, Worker { control, name: None, bulk: BulkTraffic::default() });
            }
            Role::Client => {
                let client = ClientId(party.id);
                if self.clients.contains_key(&client) {
                    return session.refuse(Refusal::Unexpected);
                }
                let control = session.start(move |received| say(&inbox, Input::Client(client, received)));
                self.clients.insert(client, control.clone());
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
                drop(self.clients.get(&client).map(|control| control.send(&ClientHears::Status(status))));
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
    fn stop(&self) {
        for worker in self.workers.values() {
            drop(worker.control.send(&ToWorker::Close));
        }
    }
}
