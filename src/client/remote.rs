//! A client of a scheduler in another process: messages on a control connection, blocks from and to the workers
//! themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver as Inbox, Sender};
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::net::identity::{Identity, Role, Token, TokenError};
use gridloom_worker::net::{Control, Dialer, HANDSHAKE_LIMIT, NetError, Received, address_towards};
use gridloom_worker::wire::{BulkTraffic, FetchError, Parcel, WireError};

use super::Client;
use super::devices::Devices;
use super::link::{FetchReply, Link, PutReply, Receiver};
use super::peers::{Ear, Peers};
use super::state::State;
use super::wire::{ClientHears, ClientSays, ClusterStatus};
use crate::scheduler::{FromClient, PlanFault, ToClient};

/// The environment's token.
pub(crate) const TOKEN_VARIABLE: &str = "GRIDLOOM_TOKEN";
/// Where the environment says that a token is.
const TOKEN_FILE_VARIABLE: &str = "GRIDLOOM_TOKEN_FILE";

/// No connection to a scheduler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no token that could be shown.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The environment's token is none.
    #[error("{TOKEN_VARIABLE} is {0}")]
    Variable(TokenError),
    /// Neither a file nor the environment has a token, and there is no home to look in.
    #[error("no token: name its file, or set {TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE}")]
    NoToken,
    /// The scheduler cannot be reached, or refuses us.
    #[error("scheduler {address}: {error}")]
    Net {
        /// Where it should be.
        address: String,
        /// Why not.
        error: NetError,
    },
}

/// The token of `file`, or else of `GRIDLOOM_TOKEN`, of the file that `GRIDLOOM_TOKEN_FILE` names, or of
/// `~/.config/gridloom/token`: the first of them that there is. A variable that is empty is as good as none.
///
/// # Errors
/// If that one is no token, or a file that others may read.
pub fn find_token(file: Option<&Path>) -> Result<Token, ConnectError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if file.is_none()
        && let Some(text) = variable(TOKEN_VARIABLE)
    {
        return text.to_string_lossy().trim().parse().map_err(ConnectError::Variable);
    }
    let of_environment = || variable(TOKEN_FILE_VARIABLE).map(PathBuf::from);
    let path = file.map(Path::to_owned).or_else(of_environment).or_else(Token::default_path);
    Ok(Token::read(&path.ok_or(ConnectError::NoToken)?)?)
}

impl Client {
    /// Connects to a scheduler with the token that the environment has: see [`find_token`].
    ///
    /// # Errors
    /// If there is no token, or the scheduler does not answer or refuses it.
    pub fn connect(address: &str) -> Result<Client, ConnectError> {
        Client::connect_with(address, &find_token(None)?)
    }

    /// Connects to a scheduler.
    ///
    /// # Errors
    /// If it does not answer, or refuses the token.
    pub fn connect_with(address: &str, token: &Token) -> Result<Client, ConnectError> {
        let (state, net) = (Arc::<State>::default(), net_error(address));
        let (id, link) = RemoteLink::open(address, token, Arc::clone(&state)).map_err(net)?;
        Ok(Client::with_state(id, state, Box::new(link), Devices::default()))
    }

    /// One that has lost its scheduler already.
    pub(crate) fn lost(devices: Devices) -> Client {
        let state = Arc::<State>::default();
        state.close();
        Client::with_state(ClientId(0), state, Box::new(NoLink), devices)
    }
}

/// Asks a scheduler how its cluster stands.
///
/// # Errors
/// As [`Client::connect_with`].
pub fn status(address: &str, token: &Token) -> Result<ClusterStatus, ConnectError> {
    let ask = || {
        let dialer = Dialer::new()?;
        let identity = dialer.join(address, token, Role::Client)?;
        let (told, answer) = mpsc::channel();
        let hear = move |received| match received {
            Received::Message(ClientHears::Status(status)) => tell(&told, Ok(status)),
            Received::Message(ClientHears::Welcome | ClientHears::Message(_)) => {}
            Received::Closed(error) => tell(&told, Err(error)),
        };
        let control: Control<ClientSays> = dialer.connect(address, &identity)?.start(hear);
        control.send(&ClientSays::Status)?;
        let status = awaited(&answer, "the scheduler's status");
        control.send(&ClientSays::Message(FromClient::Close))?;
        status
    };
    ask().map_err(net_error(address))
}

fn net_error(address: &str) -> impl Fn(NetError) -> ConnectError {
    move |error| ConnectError::Net { address: address.to_owned(), error }
}

/// Messages and blocks over QUIC. What is said last still leaves, so the connection ends before its socket.
struct RemoteLink {
    state: Arc<State>,
    control: Control<ClientSays>,
    peers: Peers,
    _dialer: Dialer,
}

impl RemoteLink {
    /// Connects, and returns when it is known who is there.
    fn open(address: &str, token: &Token, state: Arc<State>) -> Result<(ClientId, RemoteLink), NetError> {
        let dialer = Dialer::new()?;
        let identity: Arc<Identity> = Arc::new(dialer.join(address, token, Role::Client)?);
        // Workers beside a scheduler of this machine take the largest packets.
        let peers = Peers::open(&identity, address_towards(address)?.is_loopback())?;
        let (welcome, welcomed) = mpsc::channel();
        let mouthpiece = Mouthpiece { ear: peers.ear(Arc::clone(&state) as _), state: Arc::clone(&state), welcome };
        let control: Control<ClientSays> =
            dialer.connect(address, &identity)?.start(move |received| mouthpiece.pass(received));
        let id = ClientId(identity.party().id);
        dialer.keep_renewed(&control, identity, peers.bulk());
        awaited(&welcomed, "the scheduler's welcome")?;
        Ok((id, RemoteLink { state, control, peers, _dialer: dialer }))
    }
}

impl Link for RemoteLink {
    /// Who computes for a remote scheduler is not ours to say.
    fn reinforce(&self, _devices: Devices, _bytes: u64) {}

    fn send(&self, message: FromClient) {
        let job = match &message {
            FromClient::Submit { job, .. } => Some(*job),
            _ => None,
        };
        // A connection that has ended has told the state so; a plan that cannot be sent fails its job.
        if let Err(NetError::Wire(WireError::TooLong { bytes, bytes_max })) =
            self.control.send(&ClientSays::Message(message))
            && let Some(job) = job
        {
            let error = PlanFault::TooLong { bytes, bytes_max }.into();
            self.state.receive(ToClient::JobFailed { job, error });
        }
    }

    fn fetch(&self, holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply) {
        self.peers.fetch(holder, parcel, field, reply);
    }

    fn traffic(&self) -> Option<BulkTraffic> {
        Some(self.peers.bulk().all_traffic())
    }

    fn put(&self, worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply) {
        self.peers.put(worker, parcel, blocks, reply);
    }
}

/// To nobody.
struct NoLink;

impl Link for NoLink {
    fn reinforce(&self, _devices: Devices, _bytes: u64) {}

    fn send(&self, _message: FromClient) {}

    fn fetch(&self, _holder: WorkerId, _parcel: Parcel, _field: u32, reply: FetchReply) {
        reply(Err(FetchError::Unreachable));
    }

    fn traffic(&self) -> Option<BulkTraffic> {
        None
    }

    fn put(&self, _worker: WorkerId, _parcel: Parcel, _blocks: Vec<Vec<Block>>, reply: PutReply) {
        reply(Err(None));
    }
}

/// Passes on what the scheduler says, on one of the network's threads.
struct Mouthpiece {
    ear: Ear,
    state: Arc<State>,
    welcome: Sender<Result<(), NetError>>,
}

impl Mouthpiece {
    fn pass(&self, received: Received<ClientHears>) {
        match received {
            Received::Message(ClientHears::Welcome) => tell(&self.welcome, Ok(())),
            Received::Message(ClientHears::Message(message)) => self.ear.receive(message),
            Received::Message(ClientHears::Status(_)) => {}
            Received::Closed(error) => {
                tell(&self.welcome, Err(error));
                self.state.close();
            }
        }
    }
}

/// If nobody waits any more, nobody is told.
fn tell<T>(to: &Sender<T>, what: T) {
    let _ = to.send(what);
}

/// What the network's threads are to tell this one soon.
fn awaited<T>(from: &Inbox<Result<T, NetError>>, what: &'static str) -> Result<T, NetError> {
    const LIMIT: Duration = HANDSHAKE_LIMIT;
    from.recv_timeout(LIMIT).unwrap_or(Err(NetError::Timeout { what, limit: LIMIT }))
}
