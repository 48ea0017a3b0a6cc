//! What a connection has seen, and all for blocks together, as plain data for logs and `--json`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::wire::BulkTraffic;

/// A connection's own counts, since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The estimated round trip.
    pub round_trip: Duration,
    /// The largest packet that is known to arrive whole.
    pub packet_bytes: u16,
    /// Bytes sent, headers and repetitions among them.
    pub bytes_sent: u64,
    /// Bytes received, likewise.
    pub bytes_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that were sent and never acknowledged; probes for a larger packet are not counted.
    pub packets_lost: u64,
    /// How often the path was found to be congested.
    pub congestions: u64,
    /// How many bytes may be in flight.
    pub window_bytes: u64,
}

impl Traffic {
    pub(super) fn of(connection: &quinn::Connection) -> Traffic {
        let stats = connection.stats();
        Traffic {
            round_trip: stats.path.rtt,
            packet_bytes: stats.path.current_mtu,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            congestions: stats.path.congestion_events,
            window_bytes: stats.path.cwnd,
        }
    }
}

/// Adds up what connections see.
#[derive(Debug)]
pub(super) struct Tally(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    open: Vec<quinn::Connection>,
    ended: BulkTraffic,
    /// What it came to last, and when.
    last: (Instant, BulkTraffic),
}

impl Default for Tally {
    fn default() -> Tally {
        let (open, ended) = (Vec::new(), BulkTraffic::default());
        Tally(Mutex::new(Counted { open, ended, last: (Instant::now(), ended) }))
    }
}

impl Tally {
    /// One more.
    pub(super) fn count(&self, connection: quinn::Connection) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are let go.
        counted.sum();
        counted.open.push(connection);
    }

    /// What it comes to, with the rates since it was asked last, or else since the beginning.
    pub(super) fn all(&self) -> BulkTraffic {
        self.now().1
    }

    /// The same; `None` if it is what it was when it was asked last, also the rates.
    pub(super) fn news(&self) -> Option<BulkTraffic> {
        let (before, now) = self.now();
        (now != before).then_some(now)
    }

    /// What it came to when it was asked last, and comes to now.
    fn now(&self) -> (BulkTraffic, BulkTraffic) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, sum) = (Instant::now(), counted.sum());
        let (then, before) = counted.last;
        let seconds = (now - then).as_secs_f64().max(1e-3);
        let rate = |after: u64, before: u64| (after.saturating_sub(before) as f64 / seconds) as u64;
        let all = BulkTraffic {
            bytes_sent_per_second: rate(sum.bytes_sent, before.bytes_sent),
            bytes_received_per_second: rate(sum.bytes_received, before.bytes_received),
            ..sum
        };
        counted.last = (now, all);
        (before, all)
    }
}

impl Counted {
    fn sum(&mut self) -> BulkTraffic {
        let ended = &mut self.ended;
        self.open.retain(|connection| {
            let is_open = connection.close_reason().is_none();
            if !is_open {
                add(ended, &Traffic::of(connection));
            }
            is_open
        });
        let mut sum = self.ended;
        for seen in self.open.iter().map(Traffic::of) {
            add(&mut sum, &seen);
            sum.packet_bytes =
                if sum.connections == 0 { seen.packet_bytes } else { sum.packet_bytes.min(seen.packet_bytes) };
            sum.connections += 1;
        }
        sum
    }
}

fn add(sum: &mut BulkTraffic, seen: &Traffic) {
    sum.bytes_sent += seen.bytes_sent;
    sum.bytes_received += seen.bytes_received;
    sum.packets_sent += seen.packets_sent;
    sum.packets_lost += seen.packets_lost;
}
