//! Blocks, from who holds them to who wants them, on connections of their own: one stream per request, its header,
//! then raw bytes straight into recycled block memory.
//!
//! A process has one [`Bulk`]. It dials the workers that hold what it wants ([`Bulk::fetch`], [`Bulk::put`]), and a
//! worker's is also dialled by the others: what they ask for is handed to its owner, with a [`Reply`] to answer with.
//! At most [`FETCHES_MAX`] requests are on their way in and [`REPLIES_MAX`] out, the others wait their turn; each ends
//! with exactly one answer, an unreachable or silent holder's among them. A request is for one block, or for several
//! small ones: a parcel.

mod answer;
mod body;
mod request;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection};
use tokio::sync::{OnceCell, Semaphore};

pub use answer::{Question, Reply};
pub use request::{Fetched, PutError};

use super::control::{RENEWAL_PAUSE, party_at};
use super::endpoint::{Endpoint, dial, listen};
use super::error::NetError;
use super::hello::{greet, welcome};
use super::identity::{Authority, Expected, Identity, Party, PeerVerifier, Role};
use super::join::now;
use super::tls::{self, Purpose};
use super::traffic::{Tally, Traffic};
use super::{HANDSHAKE_LIMIT, PACKET_BYTES_MAX, SERVER_NAME, tuning};
use crate::agent::{FETCHES_MAX, REPLIES_MAX};
use crate::block::{BLOCK_BYTES_MAX, Block};
use crate::ids::WorkerId;
use crate::shape::Region;
use crate::wire::{BulkTraffic, FetchError, Parcel};

/// A stream on which nothing moves for this long is given up. Tests do not wait as long.
pub const STALL_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });
/// How long a request may take to be read, once its stream is open.
const REQUEST_LIMIT: Duration = HANDSHAKE_LIMIT;
/// The longest request or reply, without its raw bytes: of a thousand blocks, whose lengths are short as they are small.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// A connection that nobody has used for this long is closed: of many workers each would else keep one to every other.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether there is news of the traffic.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How a [`Bulk`] is made.
#[derive(Clone, Copy, Debug)]
pub struct BulkOptions {
    /// Where others reach it, or `None` for one that only dials.
    pub listen: Option<SocketAddr>,
    /// The largest packets to try: [`PACKET_BYTES_MAX`] unless the two ends are known.
    pub packet_bytes_max: u16,
    /// Threads that encrypt and decrypt.
    pub threads: usize,
    /// Bytes of blocks that others bring and that no ledger has taken yet: a block larger than this is refused.
    pub put_bytes_max: u64,
}

impl Default for BulkOptions {
    fn default() -> BulkOptions {
        // A second thread pays where whoever computes, and the other side, leave it a core.
        let threads = available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 2));
        BulkOptions { listen: None, packet_bytes_max: PACKET_BYTES_MAX, threads, put_bytes_max: BLOCK_BYTES_MAX }
    }
}

/// A process's door for blocks. Dropped, it ends everything that is on its way.
pub struct Bulk {
    endpoint: Endpoint,
    is_listening: bool,
    peers: Arc<Peers>,
}

/// Whom we dial, and as whom.
struct Peers {
    endpoint: quinn::Endpoint,
    packet_bytes_max: u16,
    identity: Mutex<Arc<Identity>>,
    known: Mutex<HashMap<WorkerId, Peer>>,
    /// Of fetches and puts.
    turns: Semaphore,
    /// Of all connections, also those that others have dialled.
    tally: Arc<Tally>,
}

/// A worker, and the connection to it once there is one.
#[derive(Clone)]
struct Peer {
    address: String,
    /// Dialled once: all who wait for it meanwhile share what comes of it, and who uses it holds on to it.
    dialled: Arc<OnceCell<Result<Connection, NetError>>>,
    /// When it was last wanted.
    wanted: Instant,
}

impl Peer {
    fn new(address: String) -> Peer {
        Peer { address, dialled: Arc::default(), wanted: Instant::now() }
    }

    fn connection(&self) -> Option<&Connection> {
        self.dialled.get()?.as_ref().ok()
    }

    /// Whether there is a connection that nobody uses, nor has wanted for `limit`.
    fn is_idle(&self, limit: Duration) -> bool {
        self.connection().is_some() && Arc::strong_count(&self.dialled) == 1 && self.wanted.elapsed() >= limit
    }

    /// Whether what came of dialling is of no more use.
    fn is_over(&self) -> bool {
        self.dialled.initialized() && self.connection().is_none_or(|connection| connection.close_reason().is_some())
    }
}

impl Bulk {
    /// Opens a socket. `asked` is called on one of the network's threads for everything that others want; it must not
    /// wait.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn open(
        identity: Arc<Identity>,
        options: BulkOptions,
        asked: impl Fn(Party, Question, Reply) + Send + Sync + 'static,
    ) -> Result<Bulk, NetError> {
        let packet_bytes_max = options.packet_bytes_max;
        let server = options.listen.map(|_| server_config(&identity, packet_bytes_max)).transpose()?;
        let config = tuning::endpoint(packet_bytes_max);
        let endpoint = Endpoint::new("net-bulk", options.threads, options.listen, config, server)?;
        let tally = Arc::<Tally>::default();
        if options.listen.is_some() {
            let holder = Arc::new(answer::Holder::new(asked, options.put_bytes_max));
            let counts = Arc::clone(&tally);
            let established = move |(party, connection): (Party, Connection)| {
                counts.count(connection.clone());
                answer::serve(Arc::clone(&holder), party, connection)
            };
            endpoint.runtime().spawn(listen(endpoint.quinn().clone(), HANDSHAKE_LIMIT, establish, established));
        }
        let peers = Arc::new(Peers {
            endpoint: endpoint.quinn().clone(),
            packet_bytes_max,
            identity: Mutex::new(identity),
            known: Mutex::default(),
            turns: Semaphore::new(FETCHES_MAX),
            tally,
        });
        endpoint.runtime().spawn(tidy(Arc::downgrade(&peers)));
        Ok(Bulk { endpoint, is_listening: options.listen.is_some(), peers })
    }

    /// One for a party of the authority's own process, which dials only. Its certificates are renewed here.
    ///
    /// # Errors
    /// If the system gives no socket, thread or randomness.
    pub fn open_near(authority: Arc<Authority>, party: Party, options: BulkOptions) -> Result<Arc<Bulk>, NetError> {
        let mut identity = Arc::new(authority.identity(party, now())?);
        let options = BulkOptions { listen: None, ..options };
        let bulk = Arc::new(Bulk::open(Arc::clone(&identity), options, |_, _, _| {})?);
        let renewing = Arc::downgrade(&bulk);
        bulk.endpoint.runtime().spawn(async move {
            loop {
                tokio::time::sleep(identity.renewal_due().saturating_sub(now())).await;
                let Some(bulk) = renewing.upgrade() else { return };
                match authority.identity(party, now()).map_err(NetError::from).map(Arc::new) {
                    Ok(new) => {
                        identity = Arc::clone(&new);
                        drop(bulk.renewed(new));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "our certificate could not be renewed");
                        tokio::time::sleep(RENEWAL_PAUSE).await;
                    }
                }
            }
        });
        Ok(bulk)
    }

    /// Where it is reached from this machine: with the port that the system chose, if it was left to it.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> Result<SocketAddr, NetError> {
        self.endpoint.address()
    }

    /// Who we are from now on: the certificate was renewed. Connections that are open stay.
    ///
    /// # Errors
    /// If the certificate cannot be used; then the old one stays.
    pub fn renewed(&self, identity: Arc<Identity>) -> Result<(), NetError> {
        if self.is_listening {
            let config = server_config(&identity, self.peers.packet_bytes_max)?;
            self.endpoint.quinn().set_server_config(Some(config));
        }
        *lock(&self.peers.identity) = identity;
        Ok(())
    }

    /// Where a worker is reached. It is dialled when something is first wanted of it.
    pub fn meet(&self, worker: WorkerId, address: String) {
        lock(&self.peers.known).insert(worker, Peer::new(address));
    }

    /// A worker is gone: what is asked of it ends.
    pub fn forget(&self, worker: WorkerId) {
        let peer = lock(&self.peers.known).remove(&worker);
        if let Some(connection) = peer.as_ref().and_then(Peer::connection) {
            super::error::goodbye(connection);
        }
    }

    /// Asks a worker for one field of some blocks, or a part of it. `reply` is called once, on one of the network's
    /// threads.
    pub fn fetch(
        &self,
        holder: WorkerId,
        parcel: Parcel,
        field: u32,
        region: Option<Region>,
        reply: impl FnOnce(Fetched) + Send + 'static,
    ) {
        let promise = Promise::new(reply, Err(FetchError::Unreachable));
        self.ask(promise, move |peers| async move {
            let peer = peers.reach(holder).await;
            let connection = connected(&peer).map_err(request::unreachable(holder))?;
            request::fetch(connection, parcel, field, region).await
        });
    }

    /// Brings a worker blocks, one or more fields of each. `reply` is called once, on one of the network's threads.
    pub fn put(
        &self,
        worker: WorkerId,
        parcel: Parcel,
        blocks: Vec<Vec<Block>>,
        reply: impl FnOnce(Result<(), PutError>) + Send + 'static,
    ) {
        let promise = Promise::new(reply, Err(PutError::Unreachable));
        self.ask(promise, move |peers| async move {
            let peer = peers.reach(worker).await;
            let connection = connected(&peer).map_err(request::unreachable(worker))?;
            request::put(connection, parcel, blocks).await
        });
    }

    /// What the connections to the workers that we dialled have seen.
    pub fn traffic(&self) -> Vec<(WorkerId, Traffic)> {
        let known = lock(&self.peers.known);
        let open = known.iter().filter_map(|(worker, peer)| Some((*worker, Traffic::of(peer.connection()?))));
        open.collect()
    }

    /// What all connections have seen, with the rates since the last such question or report, or else the beginning.
    pub fn all_traffic(&self) -> BulkTraffic {
        self.peers.tally.all()
    }

    /// Tells what all connections have seen, also those that others have dialled, whenever there is news, until `tell`
    /// says that nobody listens.
    pub fn report(&self, tell: impl Fn(BulkTraffic) -> bool + Send + 'static) {
        let tally = Arc::downgrade(&self.peers.tally);
        self.endpoint.runtime().spawn(async move {
            loop {
                tokio::time::sleep(REPORT_EVERY).await;
                let Some(news) = tally.upgrade().map(|tally| tally.news()) else { return };
                if news.is_some_and(|news| !tell(news)) {
                    return;
                }
            }
        });
    }

    /// Who it dials as.
    #[cfg(test)]
    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&lock(&self.peers.identity))
    }

    #[cfg(test)]
    pub(super) fn close_idle(&self, limit: Duration) {
        self.peers.close_idle(limit);
    }

    /// Does `work` when its turn comes.
    fn ask<T, F>(&self, promise: Promise<T>, work: impl FnOnce(Arc<Peers>) -> F + Send + 'static)
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let peers = Arc::clone(&self.peers);
        self.endpoint.runtime().spawn(async move {
            let _turn = peers.turns.acquire().await;
            promise.keep(work(Arc::clone(&peers)).await);
        });
    }
}

impl Peers {
    /// A worker, dialled if there is no connection to it or if the last one has ended.
    async fn reach(&self, worker: WorkerId) -> Result<Peer, NetError> {
        let peer = {
            let mut known = lock(&self.known);
            let unknown = || NetError::Address { address: worker.to_string(), why: "nobody said where".to_owned() };
            let peer = known.get_mut(&worker).ok_or_else(unknown)?;
            if peer.is_over() {
                *peer = Peer::new(std::mem::take(&mut peer.address));
            }
            peer.wanted = Instant::now();
            peer.clone()
        };
        peer.dialled.get_or_init(|| self.dial(worker, &peer.address)).await;
        Ok(peer)
    }

    /// Closes the connections that nobody has used for `limit`. Who wants one again dials.
    fn close_idle(&self, limit: Duration) {
        for peer in lock(&self.known).values_mut().filter(|peer| peer.is_idle(limit)) {
            peer.connection().into_iter().for_each(super::error::goodbye);
            *peer = Peer::new(std::mem::take(&mut peer.address));
        }
    }

    async fn dial(&self, worker: WorkerId, address: &str) -> Result<Connection, NetError> {
        let identity = Arc::clone(&lock(&self.identity));
        let party = Party { role: Role::Worker, id: worker.0 };
        let verifier = PeerVerifier::new(identity.authority(), Expected::Party(party));
        let mut config = ClientConfig::new(Arc::new(tls::client(Some(&identity), verifier, Purpose::Bulk)?));
        config.transport_config(Arc::new(tuning::bulk(0, self.packet_bytes_max)));
        let config = &config;
        let once = |address| async move {
            let connection = self.endpoint.connect_with(config.clone(), address, SERVER_NAME)?.await?;
            let (mut send, _) = greet(&connection).await?;
            // The stream of the hello has served.
            drop(send.finish());
            Ok(connection)
        };
        let connection: Connection = dial(address, "connecting", HANDSHAKE_LIMIT, once).await?;
        self.tally.count(connection.clone());
        Ok(connection)
    }
}

/// The connection that came of dialling, held for as long as the peer is.
fn connected(peer: &Result<Peer, NetError>) -> Result<&Connection, NetError> {
    let peer = peer.as_ref().map_err(NetError::clone)?;
    let dialled = peer.dialled.get().ok_or(NetError::Closed)?;
    dialled.as_ref().map_err(NetError::clone)
}

/// Closes idle connections until their owner ends.
async fn tidy(peers: Weak<Peers>) {
    loop {
        tokio::time::sleep(IDLE_LIMIT / 2).await;
        match peers.upgrade() {
            Some(peers) => peers.close_idle(IDLE_LIMIT),
            None => return,
        }
    }
}

fn server_config(identity: &Identity, packet_bytes_max: u16) -> Result<quinn::ServerConfig, NetError> {
    let verifier = PeerVerifier::new(identity.authority(), Expected::Member);
    let crypto = tls::server(identity, verifier, &[Purpose::Bulk])?;
    Ok(tuning::server(crypto, tuning::bulk(REPLIES_MAX as u32, packet_bytes_max)))
}

async fn establish(connection: Connection) -> Result<(Party, Connection), NetError> {
    let party = party_at(&connection)?;
    let (mut send, _) = welcome(&connection).await?;
    drop(send.finish());
    Ok((party, connection))
}

/// An answer that is owed. Dropped before it is kept (the network has ended), it is `otherwise`.
struct Promise<T> {
    reply: Option<Box<dyn FnOnce(T) + Send>>,
    otherwise: Option<T>,
}

impl<T> Promise<T> {
    fn new(reply: impl FnOnce(T) + Send + 'static, otherwise: T) -> Promise<T> {
        Promise { reply: Some(Box::new(reply)), otherwise: Some(otherwise) }
    }

    fn keep(mut self, answer: T) {
        self.otherwise = Some(answer);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let (Some(reply), Some(answer)) = (self.reply.take(), self.otherwise.take()) {
            reply(answer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can leave things half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
