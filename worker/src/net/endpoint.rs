//! A socket with its threads: where async begins and ends. Control and bulk each have one of their own, so that a
//! message never waits behind blocks.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quinn::{EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::admission::{Admission, Verdict};
use super::error::NetError;
use super::threads::Threads;
use super::tuning;

/// How long last words, and the threads, are waited for when an endpoint ends.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// How long who has not heard our goodbye is told it again. It leaves at once; only what is lost on the way needs more,
/// and whoever misses it all the same finds us silent.
const GOODBYE: Duration = Duration::from_millis(5);

/// How often it is looked whether all last words have left.
const CLOSE_PAUSE: Duration = Duration::from_millis(1);

/// A UDP socket, QUIC on it, and the threads that drive both. Dropped, it lets last words leave, closes every
/// connection and ends the threads.
pub(super) struct Endpoint {
    quinn: quinn::Endpoint,
    /// `None` once dropped.
    threads: Option<Threads>,
    last_words: LastWords,
}

/// Counts those who have said all and whose words have not all left.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<AtomicUsize>);

impl LastWords {
    /// One more, until what is returned is dropped.
    pub(super) fn begin(&self) -> Leaving {
        self.0.fetch_add(1, Ordering::SeqCst);
        Leaving(self.clone())
    }
}

/// Somebody who has said all.
pub(super) struct Leaving(LastWords);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Endpoint {
    pub(super) fn new(
        name: &str,
        threads: usize,
        address: Option<SocketAddr>,
        config: EndpointConfig,
        server: Option<ServerConfig>,
    ) -> Result<Endpoint, NetError> {
        let threads = Threads::start(name, threads).map_err(NetError::system("no thread for the network"))?;
        let socket = tuning::socket(address)?;
        let entered = threads.handle().enter();
        let quinn = quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
            .map_err(NetError::system("no QUIC endpoint"))?;
        drop(entered);
        Ok(Endpoint { quinn, threads: Some(threads), last_words: LastWords::default() })
    }

    pub(super) fn quinn(&self) -> &quinn::Endpoint {
        &self.quinn
    }

    pub(super) fn address(&self) -> Result<SocketAddr, NetError> {
        self.quinn.local_addr().map_err(NetError::system("the socket has no address"))
    }

    pub(super) fn runtime(&self) -> &Handle {
        self.threads.as_ref().expect("they are there until it is dropped").handle()
    }

    pub(super) fn last_words(&self) -> LastWords {
        self.last_words.clone()
    }

    /// Waits for `work`, at most `limit`. Not on the endpoint's own threads.
    pub(super) fn wait<T: Send>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, NetError>> + Send,
    ) -> Result<T, NetError> {
        assert!(!is_inside(self.runtime()), "a thread of the network cannot wait for the network");
        waiting(|| self.runtime().block_on(within(what, limit, work)))
    }
}

/// Whether this is one of the runtime's own threads.
fn is_inside(runtime: &Handle) -> bool {
    Handle::try_current().is_ok_and(|current| current.id() == runtime.id())
}

/// Does what waits. On a thread of somebody else's runtime that is forbidden, and another thread does it.
fn waiting<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match Handle::try_current() {
        Err(_) => work(),
        Ok(_) => thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        // One of its own threads, told of something, cannot wait for itself.
        if is_inside(threads.handle()) {
            self.quinn.close(VarInt::from_u32(0), &[]);
            return threads.end(Duration::ZERO);
        }
        waiting(|| self.leave(threads));
    }
}

impl Endpoint {
    /// Lets last words leave, and ends.
    fn leave(&self, threads: Threads) {
        let begun = Instant::now();
        while self.last_words.0.load(Ordering::SeqCst) > 0 && begun.elapsed() < CLOSE_PATIENCE {
            thread::sleep(CLOSE_PAUSE);
        }
        self.quinn.close(VarInt::from_u32(0), &[]);
        // Sooner if there is nobody.
        let _ = threads.handle().block_on(async { timeout(GOODBYE, self.quinn.wait_idle()).await });
        threads.end(CLOSE_PATIENCE);
    }
}

/// `work`, or an error that says what took too long.
pub(super) async fn within<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    timeout(limit, work).await.unwrap_or(Err(NetError::Timeout { what, limit }))
}

/// Dials whatever a name stands for, with at most `limit` for all of it.
pub(super) async fn dial<T, F: Future<Output = Result<T, NetError>>>(
    name: &str,
    what: &'static str,
    limit: Duration,
    attempt: impl FnMut(SocketAddr) -> F,
) -> Result<T, NetError> {
    let begun = Instant::now();
    let unknown = |why: String| NetError::Address { address: name.to_owned(), why };
    let lookup = async { tokio::net::lookup_host(name).await.map_err(|error| unknown(error.to_string())) };
    let mut found: Vec<SocketAddr> = within(what, limit, lookup).await?.collect();
    // `localhost` is both, and what listens on it mostly listens there.
    found.sort_by_key(SocketAddr::is_ipv6);
    let left = limit.saturating_sub(begun.elapsed());
    let answer = first_answer(&found, what, left, attempt).await;
    match answer {
        Some(Err(NetError::Lost)) => Err(NetError::NoAnswer),
        Some(answer) => answer,
        None => Err(unknown("the name stands for no address".to_owned())),
    }
}

/// Tries one address after the other until somebody answers, if it is with a refusal. Each has its share of the time
/// that is left. `None` for no addresses.
async fn first_answer<T, F: Future<Output = Result<T, NetError>>>(
    addresses: &[SocketAddr],
    what: &'static str,
    limit: Duration,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> Option<Result<T, NetError>> {
    let end = Instant::now() + limit;
    let mut answer = None;
    for (tried, &address) in addresses.iter().enumerate() {
        let share = end.saturating_duration_since(Instant::now()) / (addresses.len() - tried) as u32;
        answer = Some(within(what, share, attempt(address)).await);
        if !matches!(answer, Some(Err(NetError::Lost | NetError::Timeout { .. } | NetError::Address { .. }))) {
            break;
        }
    }
    answer
}

/// The address of this machine from which `address` is reached. Nothing is sent.
///
/// # Errors
/// If the name stands for no address, or there is no way to it.
pub fn address_towards(address: &str) -> Result<IpAddr, NetError> {
    let unknown = |why: io::Error| NetError::Address { address: address.to_owned(), why: why.to_string() };
    let nowhere = || unknown(io::ErrorKind::NotFound.into());
    let towards = address.to_socket_addrs().map_err(unknown)?.min_by_key(SocketAddr::is_ipv6).ok_or_else(nowhere)?;
    let any: SocketAddr = match towards {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(NetError::system("no UDP socket"))?;
    socket.connect(towards).and_then(|()| socket.local_addr()).map(|local| local.ip()).map_err(unknown)
}

/// Lets connections in until the endpoint ends. `establish` finds out who each is, within `limit`, and says why if it
/// is refused; `established` is what becomes of it then.
pub(super) async fn listen<T, E, F, A, G>(endpoint: quinn::Endpoint, limit: Duration, establish: E, established: A)
where
    E: Fn(quinn::Connection) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, NetError>> + Send,
    A: Fn(T) -> G + Send + Sync + 'static,
    G: Future<Output = ()> + Send,
    T: Send,
{
    let handlers = Arc::new((establish, established));
    let admission = Arc::new(Mutex::new(Admission::default()));
    let epoch = Instant::now();
    while let Some(incoming) = endpoint.accept().await {
        let address = incoming.remote_address().ip().to_canonical();
        let verdict = lock(&admission).knock(epoch.elapsed(), address, incoming.remote_address_validated());
        match verdict {
            Verdict::Refuse => incoming.refuse(),
            // It may retry, for its address is not validated.
            Verdict::Validate => drop(incoming.retry()),
            Verdict::Admit => {
                let (handlers, admission) = (Arc::clone(&handlers), Arc::clone(&admission));
                tokio::spawn(async move {
                    let result = let_in(incoming, limit, &handlers.0).await;
                    lock(&admission).ended(address);
                    match result {
                        Ok(who) => handlers.1(who).await,
                        Err(error) => tracing::info!(%address, %error, "a connection is refused"),
                    }
                });
            }
        }
    }
}

async fn let_in<T, F: Future<Output = Result<T, NetError>>>(
    incoming: Incoming,
    limit: Duration,
    establish: impl Fn(quinn::Connection) -> F,
) -> Result<T, NetError> {
    let begun = Instant::now();
    let connection = within("a handshake", limit, async { Ok(incoming.await?) }).await?;
    let left = limit.saturating_sub(begun.elapsed());
    let result = within("saying hello", left, establish(connection.clone())).await;
    if let Err(error) = &result {
        error.close(&connection);
    }
    result
}

fn lock(admission: &Mutex<Admission>) -> std::sync::MutexGuard<'_, Admission> {
    // Counting cannot be left half done.
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_name_is_tried_until_one_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let limit = Duration::from_millis(300);
        let mut tried = Vec::new();
        let attempt = |address: SocketAddr| {
            tried.push(address.port());
            async move {
                match address.port() {
                    1 => std::future::pending().await,
                    2 => Err(NetError::Lost),
                    _ => Ok(address),
                }
            }
        };
        let answer = runtime.block_on(first_answer(&addresses, "a test", limit, attempt));
        assert_eq!((answer, tried), (Some(Ok(addresses[2])), vec![1, 2, 3]));
        let refused = async |_| Err::<(), _>(NetError::WrongToken);
        let mut count = 0;
        let attempt = |address| {
            count += 1;
            refused(address)
        };
        let answer = runtime.block_on(first_answer(&addresses, "a test", limit, attempt));
        assert_eq!((answer, count), (Some(Err(NetError::WrongToken)), 1), "a refusal is an answer");
    }
}
