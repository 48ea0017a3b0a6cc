//! A worker's state machine: runs of blocks in, tasks for the executor out, and every byte accounted for.
//!
//! Pure: no clock, no thread, no socket. Whoever drives it calls [`Agent::handle`] with an event and the time since
//! some epoch of its own, then takes actions from [`Agent::poll`] until there are none, and calls again with
//! [`Event::Tick`] when [`Agent::next_timeout`] is reached.

pub mod message;

use std::time::Duration;

pub use message::{Action, Answer, Event, FetchId, Part, Payload, ReplyTo, Start};

/// What an agent is made with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tasks that the executor runs at once.
    pub slots: u32,
    /// What all blocks and work in flight may take.
    pub memory_bytes: u64,
}

/// One registration of a worker.
pub struct Agent<B> {
    limits: Limits,
    actions: std::collections::VecDeque<Action<B>>,
}

impl<B: Payload> Agent<B> {
    /// A worker that holds nothing and was told nothing. Its registration is the shell's to send.
    pub fn new(limits: Limits) -> Agent<B> {
        Agent { limits, actions: std::collections::VecDeque::new() }
    }

    /// Takes note of what happened at `now`.
    pub fn handle(&mut self, _now: Duration, _event: Event<B>) {
        let _ = self.limits;
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self) -> Option<Action<B>> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        None
    }
}
