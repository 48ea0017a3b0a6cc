//! Both sides of everything, on loopback. A peer that does not keep to the rules is written with quinn itself.

mod bulk;
mod control;
mod decoders;
mod refusals;
mod renewal;
mod stalls;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection};
use tokio::runtime::{Builder, Runtime};

use super::endpoint::within;
use super::identity::{Authority, Expected, Identity, Party, PeerVerifier, Role};
use super::join::now;
use super::tls::{self, Purpose};
use super::*;
use crate::allocated::allocated;

pub(super) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a busy machine may add to a limit.
pub(super) const SLACK: Duration = Duration::from_secs(2);

/// A scheduler's door, and whom it lets in.
pub(super) struct Door {
    pub(super) authority: Arc<Authority>,
    pub(super) server: Server,
    pub(super) sessions: mpsc::Receiver<Session>,
    /// What the door's thread had allocated when it last let somebody in.
    allocated: Arc<AtomicU64>,
}

impl Door {
    pub(super) fn open() -> Door {
        Door::of(Authority::new().unwrap())
    }

    pub(super) fn of(authority: Authority) -> Door {
        let (authority, noted) = (Arc::new(authority), Arc::<AtomicU64>::default());
        let ((accept, sessions), notes) = (mpsc::channel(), Arc::clone(&noted));
        let accept = move |session| {
            notes.store(allocated(), Ordering::SeqCst);
            drop(accept.send(session));
        };
        let server = Server::bind(ANY_PORT, Arc::clone(&authority), accept).unwrap();
        Door { authority, server, sessions, allocated: noted }
    }

    /// What its one thread has allocated so far, as it says when it lets the next one in.
    pub(super) fn allocated(&self) -> u64 {
        self.assert_unharmed();
        self.allocated.load(Ordering::SeqCst)
    }

    pub(super) fn client(&self) -> Identity {
        self.authority.identity(self.authority.new_party(Role::Client), now()).unwrap()
    }

    pub(super) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(super) fn worker(&self) -> Identity {
        self.authority.identity(self.authority.new_party(Role::Worker), now()).unwrap()
    }

    /// Whatever was done to it, the door still lets a good worker in.
    #[track_caller]
    pub(super) fn assert_unharmed(&self) {
        let dialer = Dialer::new().unwrap();
        let identity = dialer.join(&self.address(), &self.authority.token(), Role::Worker).unwrap();
        let session = dialer.connect(&self.address(), &identity).unwrap();
        let accepted = self.sessions.recv_timeout(PATIENCE).unwrap();
        assert_eq!((accepted.party(), session.party()), (identity.party(), Party::SCHEDULER));
    }
}

/// A peer that speaks QUIC and TLS as we do, and anything it likes on it.
pub(super) struct Rogue {
    runtime: Runtime,
    endpoint: quinn::Endpoint,
}

impl Rogue {
    pub(super) fn new() -> Rogue {
        Rogue::at(Ipv4Addr::LOCALHOST)
    }

    /// One that dials from this address.
    pub(super) fn at(address: Ipv4Addr) -> Rogue {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = runtime.block_on(async { quinn::Endpoint::client((address, 0).into()).unwrap() });
        Rogue { runtime, endpoint }
    }

    pub(super) fn does<T>(&self, work: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
        self.runtime.block_on(within("a test", PATIENCE, work))
    }

    /// Connects to whoever `authority` certified.
    pub(super) fn connect(
        &self,
        address: SocketAddr,
        authority: &Authority,
        identity: Option<&Identity>,
        expected: Expected,
        purpose: Purpose,
    ) -> Result<Connection, NetError> {
        let verifier = PeerVerifier::new(authority.token().authority(), expected);
        let mut config = ClientConfig::new(Arc::new(tls::client(identity, verifier, purpose)?));
        config.transport_config(Arc::new(tuning::control()));
        self.does(async { Ok(self.endpoint.connect_with(config, address, SERVER_NAME)?.await?) })
    }

    /// A connection to the scheduler's door.
    pub(super) fn knock(&self, door: &Door, identity: Option<&Identity>, purpose: Purpose) -> Connection {
        self.connect(door.server.address(), &door.authority, identity, Expected::Scheduler, purpose).unwrap()
    }

    /// Why the other side ends the connection.
    pub(super) fn end(&self, connection: &Connection) -> NetError {
        self.does::<()>(async { Err(connection.closed().await.into()) }).unwrap_err()
    }
}

/// Carries datagrams to `to` and back until it is cut: then both sides hear nothing, as when a machine dies.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
    carrier: Option<thread::JoinHandle<()>>,
}

impl Wire {
    pub(super) fn to(to: SocketAddr) -> Wire {
        let socket = UdpSocket::bind(ANY_PORT).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (address, cut) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_cut = Arc::clone(&cut);
        let carrier = thread::spawn(move || {
            let (mut from, mut bytes) = (None, vec![0; 1 << 16]);
            while !is_cut.load(Ordering::Relaxed) {
                let Ok((length, sender)) = socket.recv_from(&mut bytes) else { continue };
                let target = if sender == to { from } else { Some(to) };
                from = if sender == to { from } else { Some(sender) };
                target.map(|target| socket.send_to(&bytes[..length], target));
            }
        });
        Wire { address, cut, carrier: Some(carrier) }
    }

    pub(super) fn cut(&self) -> Instant {
        self.cut.store(true, Ordering::Relaxed);
        Instant::now()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
        self.carrier.take().map(thread::JoinHandle::join);
    }
}
