//! What a connection has seen, as plain data for logs and `--json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
