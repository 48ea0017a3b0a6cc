//! The side that holds blocks: hands what others ask for to its owner, and carries the answers back.

use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use super::body::{self, Cut};
use super::{HEADER_BYTES_MAX, REQUEST_LIMIT, STALL_LIMIT};
use crate::agent::{Answer, Part, REPLIES_MAX};
use crate::block::Block;
use crate::net::endpoint::within;
use crate::net::error::NetError;
use crate::net::frame;
use crate::net::identity::Party;
use crate::shape::Region;
use crate::wire::peer::PARCEL_BYTES_MAX;
use crate::wire::{Parcel, PeerReply, PeerRequest, RequestId, WireError};

/// What others want.
#[derive(Clone, Debug)]
pub enum Question {
    /// One field of some blocks, or a part of it.
    Fetch {
        /// Which blocks.
        parcel: Parcel,
        /// Which field.
        field: u32,
        /// Which part of each; `None` for all.
        region: Option<Region>,
    },
    /// Blocks to keep.
    Put {
        /// Which blocks.
        parcel: Parcel,
        /// Of each block, one per field.
        blocks: Vec<Vec<Block>>,
    },
}

/// Where the answer to a [`Question`] goes. Dropped without one, whoever asked finds us unreachable.
pub struct Reply(oneshot::Sender<Answered>);

struct Answered {
    answer: Answer<Block>,
    /// Called when it is dropped: the answer has left, or never will.
    _left: Left,
}

struct Left(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            left();
        }
    }
}

impl Reply {
    /// Answers. `left` is called once, when the answer has left or failed to: until then its blocks are being read.
    pub fn answer(self, answer: Answer<Block>, left: impl FnOnce() + Send + 'static) {
        // If nobody waits for it any more, it is dropped, which says that it has left.
        drop(self.0.send(Answered { answer, _left: Left(Some(Box::new(left))) }));
    }
}

type Asked = Box<dyn Fn(Party, Question, Reply) + Send + Sync>;

/// Who answers, and how much at once.
pub(super) struct Holder {
    asked: Asked,
    replies: Semaphore,
    /// Room for blocks that others bring, in units of [`PUT_UNIT`].
    puts: Arc<Semaphore>,
    put_bytes_max: u64,
}

/// Semaphores count in 32 bits.
const PUT_UNIT: u64 = 4096;

impl Holder {
    pub(super) fn new(asked: impl Fn(Party, Question, Reply) + Send + Sync + 'static, put_bytes_max: u64) -> Holder {
        let units = (put_bytes_max.div_ceil(PUT_UNIT) as usize).min(Semaphore::MAX_PERMITS);
        let puts = Arc::new(Semaphore::new(units));
        Holder { asked: Box::new(asked), replies: Semaphore::new(REPLIES_MAX), puts, put_bytes_max }
    }

    /// Room for `bytes` of what others bring; `None` if there never will be.
    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(PUT_UNIT)).ok().filter(|_| bytes <= self.put_bytes_max)?;
        // It is never closed.
        Arc::clone(&self.puts).acquire_many_owned(units).await.ok()
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve(holder: Arc<Holder>, party: Party, connection: Connection) {
    tracing::debug!(%party, address = %connection.remote_address(), "a peer connects");
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (holder, connection) = (Arc::clone(&holder), connection.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(&holder, party, send, receive).await {
                tracing::info!(%party, %error, "a request could not be answered");
                // Whoever does not know the rules is not spoken with; a request that failed is its own affair.
                if matches!(error, NetError::Wire(_)) {
                    error.close(&connection);
                }
            }
        });
    }
}

/// One request and its answer. A stream that is dropped in between is reset, and whoever asked knows.
async fn answer(holder: &Holder, party: Party, mut send: SendStream, mut receive: RecvStream) -> Result<(), NetError> {
    let request = within("reading a request", REQUEST_LIMIT, frame::read(&mut receive, HEADER_BYTES_MAX)).await?;
    // Room is held until the owner has answered: what it keeps is in its own ledger by then.
    let (request, question, _room) = match request {
        PeerRequest::Fetch { request, parcel, field, region } => {
            sound(holder, parcel.is_sound().then_some(()))?;
            (request, Question::Fetch { parcel, field, region }, None)
        }
        PeerRequest::Put { request, parcel, headers } => {
            let is_whole = headers.len() as u64 == parcel.blocks.count();
            let bytes = parcel.bytes(headers.iter().flatten()).filter(|_| is_whole);
            let needs = sound(holder, bytes)?;
            let refused = PeerReply::Refused { request, needs, has: holder.put_bytes_max };
            let Some(room) = holder.room(needs).await else { return say(&mut send, &refused).await };
            let fields: Vec<usize> = headers.iter().map(Vec::len).collect();
            let read = body::read(&mut receive, headers.into_iter().flatten(), needs).await?;
            let Some(read) = read else { return say(&mut send, &refused).await };
            let mut read = read.into_iter();
            let blocks = fields.into_iter().map(|fields| read.by_ref().take(fields).collect()).collect();
            (request, Question::Put { parcel, blocks }, Some(room))
        }
    };
    // Asked only when it is its turn: from then on the owner holds the blocks for it. The semaphore is never closed.
    let _turn = holder.replies.acquire().await;
    let (reply, answered) = oneshot::channel();
    (holder.asked)(party, question, Reply(reply));
    let Ok(answered) = answered.await else { return Err(NetError::Truncated) };
    match &answered.answer {
        Answer::Stored => say(&mut send, &PeerReply::Stored { request }).await,
        &Answer::Refused { needs, has } => say(&mut send, &PeerReply::Refused { request, needs, has }).await,
        Answer::Data(parts) => carry(&mut send, request, parts).await,
    }
}

/// What no one asks for who knows the rules is not answered.
fn sound<T>(holder: &Holder, asked: Option<T>) -> Result<T, WireError> {
    asked.ok_or(WireError::TooLong { bytes: u64::MAX, bytes_max: holder.put_bytes_max })
}

/// Brings what a device holds here, where waiting for the device holds nobody up. A device that is lost has it no more.
async fn is_here(block: &Block) -> bool {
    let buffer = block.buffer.clone();
    buffer.is_here() || spawn_blocking(move || buffer.fetch().is_ok()).await.unwrap_or(false)
}

/// Sends what there is of what was asked for. What is copied is the connection's own once it is written: nobody waits
/// until it has come, and the streams that one connection may open bound how much of it there is. What is lent is in use
/// until then.
async fn carry(send: &mut SendStream, request: RequestId, parts: &[Option<Part<Block>>]) -> Result<(), NetError> {
    // Nobody who keeps to the rules asks for more together.
    let mut bytes_left = if parts.len() > 1 { PARCEL_BYTES_MAX as usize } else { usize::MAX };
    let mut headers = Vec::with_capacity(parts.len());
    let mut cuts = Vec::with_capacity(parts.len());
    for part in parts {
        let cut = match part {
            Some(part) if is_here(&part.data).await => cut(part),
            Some(_) | None => None,
        };
        let cut = cut.filter(|cut| bytes_left >= cut.bytes());
        bytes_left -= cut.as_ref().map_or(0, Cut::bytes);
        headers.push(cut.as_ref().map(Cut::header));
        cuts.extend(cut);
    }
    body::write(send, frame::framed(&PeerReply::Data { request, headers })?, &cuts).await?;
    match body::is_copied(&cuts) {
        true => end(send),
        false => finish(send).await,
    }
}

/// `None` if there is no such part.
fn cut(Part { data, region }: &Part<Block>) -> Option<Cut> {
    match region {
        None => Some(Cut::whole(data.clone())),
        Some(region) => Cut::part(data.clone(), region),
    }
}

async fn say(send: &mut SendStream, reply: &PeerReply) -> Result<(), NetError> {
    frame::write(send, reply).await?;
    end(send)
}

/// Ends what is said, and waits for nobody to hear it: acknowledging a packet alone takes the other side its time.
fn end(send: &mut SendStream) -> Result<(), NetError> {
    send.finish().map_err(|_| NetError::Closed)
}

/// Waits until the other side has all of it: until then the reply counts, and its block is in use.
async fn finish(send: &mut SendStream) -> Result<(), NetError> {
    drop(send.finish());
    within("an answer to be taken", STALL_LIMIT, async { Ok(send.stopped().await.map(drop)) })
        .await?
        .map_err(|_| NetError::Closed)
}
