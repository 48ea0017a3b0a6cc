//! Messages between the scheduler and everyone else: ordered, each heard once, on a connection of their own.
//!
//! A [`Session`] is a connection whose other side is known; [`Session::start`] makes it a [`Control`] to speak on and
//! a callback that is told what comes. Everything said at one moment leaves in one write. Nobody waits for a slow
//! reader: what it leaves unread is kept up to a limit, beyond which it is given up.

mod dialer;
mod server;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

pub use dialer::Dialer;
pub(super) use dialer::RENEWAL_PAUSE;
pub use server::Server;
pub(super) use server::party_at;
use server::renew_theirs;

use super::endpoint::{Endpoint, LastWords, Leaving};
use super::error::{NetError, Refusal, goodbye};
use super::frame;
use super::identity::{Authority, Party, Role};
use super::traffic::Traffic;
use crate::wire::WireError;
use crate::wire::codec::{LENGTH_BYTES, MESSAGE_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX, write_frame};

/// What waits to be read by the other side at most: a few of the longest messages.
const OUTBOX_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// How long the other side may take to take the last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// The longest message of a party of this role: a client's has a plan in it, and the scheduler's a stage of one.
const fn message_bytes_max(speaker: Role) -> usize {
    match speaker {
        Role::Worker => WORKER_MESSAGE_BYTES_MAX,
        Role::Client | Role::Scheduler => MESSAGE_BYTES_MAX,
    }
}

/// A connection whose other side is known, and has not been spoken with. Dropped, it is closed.
pub struct Session {
    /// What this side is.
    ours: Role,
    party: Party,
    connection: Connection,
    streams: (SendStream, RecvStream),
    ground: Ground,
    /// Who renews the other side's certificate, where this side can.
    authority: Option<Arc<Authority>>,
}

/// Where sessions live.
#[derive(Clone)]
struct Ground {
    runtime: Handle,
    last_words: LastWords,
}

impl Ground {
    fn of(endpoint: &Endpoint) -> Ground {
        Ground { runtime: endpoint.runtime().clone(), last_words: endpoint.last_words() }
    }
}

/// What a session tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Received<In> {
    /// The other side speaks.
    Message(In),
    /// There will be nothing more. Said once, last.
    Closed(NetError),
}

impl Session {
    /// Who is there, as its certificate says.
    pub fn party(&self) -> Party {
        self.party
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Ends it, and says why.
    pub fn refuse(self, refusal: Refusal) {
        NetError::Refuses(refusal).close(&self.connection);
    }

    /// Begins to listen. `receive` is called on one of the network's threads, in order; while it runs nothing more is
    /// read, so it must not wait for anything that is yet to be heard.
    pub fn start<Out, In>(self, receive: impl FnMut(Received<In>) + Send + 'static) -> Control<Out>
    where
        Out: Serialize,
        In: DeserializeOwned + Send + 'static,
    {
        let Session { ours, party, connection, streams: (send, stream), ground, authority } = self;
        let Ground { runtime, last_words } = ground;
        if let Some(authority) = authority {
            runtime.spawn(renew_theirs(connection.clone(), authority, party));
        }
        let (outbox, more, message_bytes_max) = (Mutex::default(), Notify::new(), message_bytes_max(ours));
        let line = Arc::new(Line { connection, message_bytes_max, outbox, more, last_words });
        runtime.spawn(write_all(Arc::clone(&line), send));
        let ear = Ear { receive, end: NetError::Closed, hears: PhantomData };
        runtime.spawn(read_all(Arc::clone(&line), party.role, stream, ear));
        Control { speaker: Arc::new(Speaker { party, line }), says: PhantomData }
    }
}

/// Where one speaks to the other side. When the last clone is dropped, what was said still leaves, and the connection
/// is closed.
pub struct Control<Out> {
    speaker: Arc<Speaker>,
    says: PhantomData<fn(Out)>,
}

impl<Out> Clone for Control<Out> {
    fn clone(&self) -> Control<Out> {
        Control { speaker: Arc::clone(&self.speaker), says: PhantomData }
    }
}

impl<Out: Serialize> Control<Out> {
    /// Says something. Never waits.
    ///
    /// # Errors
    /// If the connection has ended, if the message is too long, or if the other side has left too much unread (then
    /// the connection ends).
    pub fn send(&self, message: &Out) -> Result<(), NetError> {
        self.put(message)?;
        self.flush();
        Ok(())
    }

    /// The same, but it need not leave before what is said next, or [`Control::flush`].
    ///
    /// # Errors
    /// As [`Control::send`].
    pub fn put(&self, message: &Out) -> Result<(), NetError> {
        let line = &self.speaker.line;
        let mut outbox = line.outbox();
        if let Some(end) = &outbox.end {
            return Err(end.clone());
        }
        let before = outbox.bytes.len();
        let written = write_frame(message, &mut outbox.bytes);
        if let Err(error) = written.and_then(|()| line.capped(outbox.bytes.len() - before - LENGTH_BYTES)) {
            outbox.bytes.truncate(before);
            return Err(error.into());
        }
        let waiting = outbox.bytes.len();
        drop(outbox);
        if waiting > OUTBOX_BYTES_MAX {
            let error = NetError::Overrun { bytes: waiting as u64 };
            line.end(error.clone());
            return Err(error);
        }
        Ok(())
    }
}

impl<Out> Control<Out> {
    /// What was put leaves now.
    pub fn flush(&self) {
        self.speaker.line.more.notify_one();
    }

    /// Who is there.
    pub fn party(&self) -> Party {
        self.speaker.party
    }

    /// What the connection has seen.
    pub fn traffic(&self) -> Traffic {
        Traffic::of(&self.speaker.line.connection)
    }

    /// Ends the connection at once, and says why. What was said and has not left is lost.
    pub fn refuse(&self, refusal: Refusal) {
        self.speaker.line.end(NetError::Refuses(refusal));
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.speaker.line.connection
    }
}

/// Dropped with the last [`Control`].
struct Speaker {
    party: Party,
    line: Arc<Line>,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.line.stop();
    }
}

/// What the speaker, the writer and the reader share.
struct Line {
    connection: Connection,
    /// The longest that is said here.
    message_bytes_max: usize,
    outbox: Mutex<Outbox>,
    /// Something was put into the outbox, or it ended.
    more: Notify,
    last_words: LastWords,
}

#[derive(Default)]
struct Outbox {
    /// Framed messages.
    bytes: Vec<u8>,
    /// Why nothing more is taken.
    end: Option<NetError>,
    /// While what was taken is still to leave.
    leaving: Option<Leaving>,
}

impl Line {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Whoever holds the lock leaves whole messages behind.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the other side would not take is not said.
    fn capped(&self, bytes: usize) -> Result<(), WireError> {
        let bytes_max = self.message_bytes_max;
        match bytes > bytes_max {
            true => Err(WireError::TooLong { bytes: bytes as u64, bytes_max: bytes_max as u64 }),
            false => Ok(()),
        }
    }

    /// Takes nothing more. What was taken still leaves.
    fn stop(&self) {
        let mut outbox = self.outbox();
        if outbox.end.is_none() {
            outbox.end = Some(NetError::Closed);
            outbox.leaving = Some(self.last_words.begin());
        }
        self.more.notify_one();
    }

    /// Ends the connection for this reason, unless it has ended before.
    fn end(&self, error: NetError) {
        let mut outbox = self.outbox();
        outbox.bytes = Vec::new();
        outbox.end.get_or_insert(error.clone());
        outbox.leaving = None;
        drop(outbox);
        // Only now: whoever reads finds it closed at once, and looks here for the reason.
        error.close(&self.connection);
        self.more.notify_one();
    }
}

/// Writes what is in the outbox, all of it at once, until it has ended and is empty.
async fn write_all(line: Arc<Line>, mut stream: SendStream) {
    loop {
        let (bytes, is_last) = {
            let mut outbox = line.outbox();
            (std::mem::take(&mut outbox.bytes), outbox.end.is_some())
        };
        if !bytes.is_empty() {
            let written = tokio::select! {
                written = stream.write_chunk(Bytes::from(bytes)) => written.map_err(NetError::from),
                () = patience(&line) => Err(NetError::Timeout { what: "saying the last words", limit: FAREWELL }),
            };
            if let Err(error) = written {
                return line.end(error);
            }
        } else if is_last {
            break;
        } else {
            line.more.notified().await;
        }
    }
    if stream.finish().is_ok() {
        // It is closed in any case.
        let _ = timeout(FAREWELL, stream.stopped()).await;
    }
    goodbye(&line.connection);
    line.outbox().leaving = None;
}

/// Ends when the other side has had its time to take the last words.
async fn patience(line: &Line) {
    while line.outbox().end.is_none() {
        line.more.notified().await;
    }
    tokio::time::sleep(FAREWELL).await;
}

/// Whoever listens. Told of the end when it is dropped: also when the network ends in the middle of something.
struct Ear<In, F: FnMut(Received<In>)> {
    receive: F,
    end: NetError,
    hears: PhantomData<fn(In)>,
}

impl<In, F: FnMut(Received<In>)> Drop for Ear<In, F> {
    fn drop(&mut self) {
        (self.receive)(Received::Closed(self.end.clone()));
    }
}

/// Reads messages until there are none.
async fn read_all<In: DeserializeOwned>(
    line: Arc<Line>,
    speaker: Role,
    mut stream: RecvStream,
    mut ear: Ear<In, impl FnMut(Received<In>) + Send>,
) {
    let error = loop {
        match frame::read_next(&mut stream, message_bytes_max(speaker)).await {
            Ok(Some(message)) => (ear.receive)(Received::Message(message)),
            Ok(None) => break NetError::Closed,
            Err(error) => break error,
        }
    };
    // If it ended from this side, the reason is known here; if all is said over there, what is said here still leaves.
    let is_over = error == NetError::Closed;
    ear.end = line.outbox().end.clone().filter(|_| is_over).unwrap_or_else(|| error.clone());
    tracing::debug!(end = %ear.end, traffic = ?Traffic::of(&line.connection), "a control connection has ended");
    match is_over {
        true => line.stop(),
        false => line.end(error),
    }
}
