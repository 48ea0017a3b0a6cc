//! `gridloom status`: how a cluster stands, as a table or as one JSON object.

use gridloom_worker::net::Traffic;
use gridloom_worker::wire::BulkTraffic;
use serde_json::{Value, json};

use super::human::{Bytes, Time};
use crate::client::ClusterStatus;
use crate::scheduler::WorkerStatus;

/// For people.
pub(super) fn table(status: &ClusterStatus) -> String {
    let scheduler = &status.scheduler;
    let (workers, clients) = (scheduler.workers.len(), scheduler.clients);
    let (jobs, arrays) = (scheduler.jobs, scheduler.arrays);
    let mut lines = vec![format!("{workers} workers, {clients} clients, {jobs} jobs, {arrays} arrays")];
    let head = ["worker", "slots", "memory", "computes with", "address", "state", "held", "to do", "round trip"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(scheduler.workers.iter().map(|worker| row(worker, status.traffic.get(&worker.worker))));
    if workers > 0 {
        lines.extend(aligned(&rows));
    }
    lines.join("\n")
}

fn row(worker: &WorkerStatus, traffic: Option<&Traffic>) -> Vec<String> {
    let register = &worker.register;
    vec![
        printable(&register.name),
        register.slots.to_string(),
        Bytes(register.memory_bytes as f64).to_string(),
        printable(&register.executor),
        printable(&register.address),
        if worker.is_working { "works" } else { "leaves" }.to_owned(),
        worker.blocks_held.to_string(),
        worker.blocks_outstanding.to_string(),
        traffic.map_or_else(String::new, |traffic| Time(traffic.round_trip).to_string()),
    ]
}

/// What a worker says of itself, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Lines whose columns stand below each other.
fn aligned(rows: &[Vec<String>]) -> impl Iterator<Item = String> + '_ {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    rows.iter().map(move |row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<String>>().join("  ").trim_end().to_owned()
    })
}

/// For programs.
pub(super) fn json(status: &ClusterStatus) -> Value {
    let worker = |worker: &WorkerStatus| {
        let register = &worker.register;
        json!({
            "id": worker.worker.0,
            "name": register.name,
            "address": register.address,
            "process": register.process,
            "executor": register.executor,
            "slots": register.slots,
            "memory_bytes": register.memory_bytes,
            "is_working": worker.is_working,
            "blocks_held": worker.blocks_held,
            "blocks_outstanding": worker.blocks_outstanding,
            "traffic": status.traffic.get(&worker.worker).map(traffic),
            "bulk": status.bulk.get(&worker.worker).map(bulk),
        })
    };
    let scheduler = &status.scheduler;
    json!({
        "workers": scheduler.workers.iter().map(worker).collect::<Vec<Value>>(),
        "clients": scheduler.clients,
        "jobs": scheduler.jobs,
        "arrays": scheduler.arrays,
    })
}

fn traffic(traffic: &Traffic) -> Value {
    json!({
        "round_trip_seconds": traffic.round_trip.as_secs_f64(),
        "packet_bytes": traffic.packet_bytes,
        "bytes_sent": traffic.bytes_sent,
        "bytes_received": traffic.bytes_received,
        "packets_sent": traffic.packets_sent,
        "packets_lost": traffic.packets_lost,
        "congestions": traffic.congestions,
        "window_bytes": traffic.window_bytes,
    })
}

/// What connections for blocks have seen.
pub(super) fn bulk(bulk: &BulkTraffic) -> Value {
    json!({
        "connections": bulk.connections,
        "packet_bytes": bulk.packet_bytes,
        "bytes_sent": bulk.bytes_sent,
        "bytes_received": bulk.bytes_received,
        "bytes_sent_per_second": bulk.bytes_sent_per_second,
        "bytes_received_per_second": bulk.bytes_received_per_second,
        "packets_sent": bulk.packets_sent,
        "packets_lost": bulk.packets_lost,
    })
}

#[cfg(test)]
mod tests {
    use gridloom_worker::ids::WorkerId;
    use gridloom_worker::wire::Register;

    use super::*;
    use crate::scheduler::Status;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_said() {
        let evil = || "\u{1b}[2Jnode\r\n\u{9b}31m7".to_owned();
        let register = Register { name: evil(), address: evil(), ..Register::of_cpu(&evil(), 1, 1 << 30) };
        let worker =
            WorkerStatus { worker: WorkerId(1), register, is_working: true, blocks_held: 0, blocks_outstanding: 0 };
        let scheduler = Status { workers: vec![worker], clients: 0, jobs: 0, arrays: 0 };
        let status = ClusterStatus { scheduler, traffic: [].into(), bulk: [].into() };
        let table = table(&status);
        assert_eq!(table.lines().count(), 3, "{table:?}");
        assert!(!table.contains(|char: char| char.is_control() && char != '\n'), "{table:?}");
        assert_eq!(table.matches("\\u{1b}[2Jnode\\r\\n\\u{9b}31m7").count(), 3, "{table:?}");
    }
}
