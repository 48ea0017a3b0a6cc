//! What the thread of a state machine waits on: what others say, and its own timeouts.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// A queue with a clock. Whoever has a [`Inbox::sender`] never waits.
pub struct Inbox<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    epoch: Instant,
}

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        let (sender, receiver) = mpsc::channel();
        Inbox { sender, receiver, epoch: Instant::now() }
    }
}

impl<T> Inbox<T> {
    /// Where others put what they have to say.
    pub fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    /// The time since the inbox was made: what its state machine is told.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// What was said next, or `None` once `due` has come.
    pub fn next(&self, due: Option<Duration>) -> Option<T> {
        match due {
            Some(due) => self.receiver.recv_timeout(due.saturating_sub(self.now())).ok(),
            // There is always a sender: ours.
            None => self.receiver.recv().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_in_order_and_before_a_timeout() {
        let inbox = Inbox::default();
        let sender = inbox.sender();
        std::thread::spawn(move || (0..3).for_each(|said| sender.send(said).unwrap())).join().unwrap();
        assert_eq!([inbox.next(None), inbox.next(Some(Duration::ZERO)), inbox.next(None)], [Some(0), Some(1), Some(2)]);
        let due = inbox.now() + Duration::from_millis(20);
        assert_eq!(inbox.next(Some(due)), None);
        assert!(inbox.now() >= due);
    }
}
