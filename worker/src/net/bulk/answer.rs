//! The side that holds blocks: hands what others ask for to its owner, and carries the answers back.

use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use super::body::{self, Runs};
use super::{HEADER_BYTES_MAX, REQUEST_LIMIT, STALL_LIMIT};
use crate::agent::{Answer, Part, REPLIES_MAX};
use crate::block::Block;
use crate::ids::BlockId;
use crate::net::endpoint::within;
use crate::net::error::NetError;
use crate::net::frame;
use crate::net::identity::Party;
use crate::shape::Region;
use crate::wire::{BlockHeader, PeerReply, PeerRequest, RequestId, WireError};

/// What others want.
#[derive(Clone, Debug)]
pub enum Question {
    /// A block, or a part of one field of it.
    Fetch {
        /// Which block.
        block: BlockId,
        /// Which field.
        field: u32,
        /// Which part; `None` for all.
        region: Option<Region>,
    },
    /// A block to keep.
    Put {
        /// Which block.
        block: BlockId,
        /// One per field.
        fields: Vec<Block>,
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
    /// Answers. `left` is called once, when the answer has left or failed to: until then its block is being read.
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
        PeerRequest::Fetch { request, block, field, region } => {
            (request, Question::Fetch { block, field, region }, None)
        }
        PeerRequest::Put { request, block, fields: headers } => {
            let sizes: Option<Vec<u64>> = headers.iter().map(BlockHeader::bytes).collect();
            let too_long = WireError::TooLong { bytes: u64::MAX, bytes_max: holder.put_bytes_max };
            let sizes = sizes.ok_or(too_long)?;
            let needs = sizes.iter().fold(0u64, |sum, &bytes| sum.saturating_add(bytes));
            let refused = PeerReply::Refused { request, needs, has: holder.put_bytes_max };
            let Some(room) = holder.room(needs).await else { return say(&mut send, &refused).await };
            let mut fields = Vec::with_capacity(headers.len());
            for (header, bytes) in headers.into_iter().zip(sizes) {
                let Some(memory) = body::memory(bytes).await else { return say(&mut send, &refused).await };
                fields.push(body::read(&mut receive, header, memory).await?);
            }
            (request, Question::Put { block, fields }, Some(room))
        }
    };
    // Asked only when it is its turn: from then on the owner holds the block for it. The semaphore is never closed.
    let _turn = holder.replies.acquire().await;
    let (reply, answered) = oneshot::channel();
    (holder.asked)(party, question, Reply(reply));
    let Ok(answered) = answered.await else { return Err(NetError::Truncated) };
    match &answered.answer {
        Answer::Data(part) if !is_here(&part.data).await => say(&mut send, &PeerReply::Missing { request }).await,
        answer => carry(&mut send, request, answer).await,
    }
}

/// Brings what a device holds here, where waiting for the device holds nobody up. A device that is lost has it no more.
async fn is_here(block: &Block) -> bool {
    let buffer = block.buffer.clone();
    buffer.is_here() || spawn_blocking(move || buffer.fetch().is_ok()).await.unwrap_or(false)
}

async fn carry(send: &mut SendStream, request: RequestId, answer: &Answer<Block>) -> Result<(), NetError> {
    match answer {
        Answer::Missing => say(send, &PeerReply::Missing { request }).await,
        Answer::Stored => say(send, &PeerReply::Stored { request }).await,
        &Answer::Refused { needs, has } => say(send, &PeerReply::Refused { request, needs, has }).await,
        Answer::Data(Part { data, region }) => {
            let whole = || Region::whole(&data.shape);
            let region = region.clone().unwrap_or_else(whole);
            let Some(runs) = Runs::new(&data.shape, data.item.bytes(), &region) else {
                // There is no such part of it.
                return say(send, &PeerReply::Missing { request }).await;
            };
            let header = BlockHeader { item: data.item, shape: region.shape() };
            body::write(send, frame::framed(&PeerReply::Data { request, header })?, data, &runs).await?;
            match body::is_small(&runs) {
                // Its bytes are the connection's own by now.
                true => end(send),
                false => finish(send).await,
            }
        }
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
