//! Workers behind a network that is cut, slow and leaky: each in a network namespace of its own, joined to this one by
//! a pair of virtual cables.
//!
//! Every test is run again by `unshare`, as the only process of a namespace in which it may do as it likes. Whatever it
//! makes there goes with it, however it ends. A machine that forbids this says why, and the tests are skipped
//! unless `GRIDLOOM_REQUIRE_NAMESPACES` is set.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use gridloom::scheduler::Limits;
use gridloom::{Future, LocalCluster, Value};
use gridloom_worker::net::DEAD_AFTER;

use super::harness::{
    Process, REQUIRE_NAMESPACES, Scheduler, WORKER_BYTES, alone, complaint, eventually, expected, skip, slow, within,
};
use crate::cluster::{compute, expressions};

/// Where the scheduler is, and the relays are: on no cable, so that none is needed to keep it.
const CENTRE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Runs one of the ignored tests below in a network of its own, or says why there is none.
fn run_apart(test: &str) {
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        // `ip` keeps the names of namespaces in /run.
        let script = format!("mount -t tmpfs none /run && {script}");
        command.args(["--map-root-user", "--net", "--mount", "sh", "-c", &script, "sh"]);
        command
    };
    let tries = "ip netns add a && ip netns exec a true && ip link add cable0 type veth peer name cable1 netns a";
    if let Some(why) = complaint(apart(tries).output()) {
        return skip(REQUIRE_NAMESPACES, &format!("there are no network namespaces: {why}"));
    }
    let test = alone(&format!("network::{test}"));
    let output = apart("exec \"$@\"").arg(test.get_program()).args(test.get_args()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{}", said.concat());
}

#[track_caller]
fn ip(line: &str) {
    let done = Command::new("ip").args(line.split(' ')).output();
    assert_eq!(complaint(done), None, "ip {line}");
}

/// The centre of a star of hosts.
fn centre() -> Scheduler {
    ip("link set lo up");
    ip(&format!("addr add {CENTRE}/32 dev lo"));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    Scheduler::at((CENTRE, 0).into(), Limits::default())
}

/// A namespace with a cable to the centre.
struct Host {
    name: String,
    address: Ipv4Addr,
}

impl Host {
    fn new(number: u8) -> Host {
        let (name, here, address) =
            (format!("host{number}"), Ipv4Addr::new(10, 77, number, 1), Ipv4Addr::new(10, 77, number, 2));
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name cable netns {name}"));
        ip(&format!("addr add {here}/24 dev {name}"));
        ip(&format!("link set {name} up"));
        for line in [&format!("addr add {address}/24 dev cable"), "link set lo up", "link set cable up"] {
            ip(&format!("-n {name} {line}"));
        }
        ip(&format!("-n {name} route add default via {here}"));
        Host { name, address }
    }

    /// Starts a worker there, which bears the host's name.
    fn worker(&self, scheduler: &Scheduler, address: &str, more: &[&str]) -> Process {
        let name = &self.name;
        let command = scheduler.worker_command(address, name, more);
        let mut inside = within(&format!("exec ip netns exec {name} \"$@\""), &command);
        scheduler.started(name, &mut inside).beneath(WORKER_BYTES)
    }

    fn cut(&self) {
        ip(&format!("link set {} down", self.name));
    }

    fn mend(&self) {
        ip(&format!("link set {} up", self.name));
    }
}

/// A scheduler, and a worker on each of two hosts.
fn two_hosts() -> (Scheduler, [Host; 2], [Process; 2]) {
    let (scheduler, hosts) = (centre(), [Host::new(1), Host::new(2)]);
    let workers = hosts.each_ref().map(|host| host.worker(&scheduler, &scheduler.address(), &[]));
    (scheduler, hosts, workers)
}

#[test]
fn a_cable_that_is_cut_for_a_while() {
    run_apart("cut_for_a_while");
}

#[test]
#[ignore = "needs a network of its own"]
fn cut_for_a_while() {
    let (scheduler, hosts, _workers) = two_hosts();
    let array = slow(300);
    let expected = expected(&array);
    let before = scheduler.find("host1").unwrap();
    let future: Future<Value> = scheduler.client().compute(&array).unwrap();
    eventually("it has begun", || future.progress().is_some_and(|(done, _)| done > 0));
    hosts[0].cut();
    thread::sleep(Duration::from_secs(1));
    assert!(!future.is_done(), "it was over before the cut");
    hosts[0].mend();
    assert_eq!(future.wait().unwrap().bytes(), expected.bytes());
    let after = scheduler.find("host1").unwrap();
    assert_eq!(after.worker, before.worker, "it was never given up");
}

#[test]
fn a_cable_that_is_cut_for_too_long() {
    run_apart("cut_for_too_long");
}

#[test]
#[ignore = "needs a network of its own"]
fn cut_for_too_long() {
    let (scheduler, hosts, _workers) = two_hosts();
    let array = slow(300);
    let expected = expected(&array);
    let client = scheduler.client();
    let before = scheduler.find("host1").unwrap();
    let future = client.persist(&array).unwrap();
    eventually("it holds something", || scheduler.find("host1").is_some_and(|worker| worker.blocks_held > 0));
    hosts[0].cut();
    let cut = Instant::now();
    eventually("it is given up", || scheduler.find("host1").is_none());
    let took = cut.elapsed();
    assert!(took > DEAD_AFTER / 2 && took < DEAD_AFTER + Duration::from_secs(3), "{took:?}");
    client.wait(std::slice::from_ref(&future)).unwrap();
    hosts[0].mend();
    eventually("it is back", || scheduler.find("host1").is_some());
    let after = scheduler.find("host1").unwrap();
    assert!(after.worker > before.worker);
    assert_eq!(after.blocks_held, 0, "it begins with nothing");
    let again = client.persist(&slow(20)).unwrap();
    client.wait(std::slice::from_ref(&again)).unwrap();
    assert!(scheduler.find("host1").unwrap().blocks_held > 0, "it is used again");
    let value: Value = client.gather(&future).unwrap().wait().unwrap();
    assert_eq!(value.bytes(), expected.bytes());
}

#[test]
fn a_slow_and_leaky_network() {
    run_apart("slow_and_leaky");
}

/// Each way takes 50 ms, and one in a hundred packets is lost.
#[test]
#[ignore = "needs a network of its own"]
fn slow_and_leaky() {
    let scheduler = centre();
    let path = Arc::new(Path { delay: Duration::from_millis(50), lost_of: 100, passed: AtomicU64::new(0) });
    let door = relay((CENTRE, 0).into(), scheduler.address().parse().unwrap(), &path);
    let workers = [1u8, 2].map(|number| {
        let (host, port) = (Host::new(number), 4000 + u16::from(number));
        // Peers reach it through a relay too.
        let advertised = relay((CENTRE, port).into(), (host.address, port).into(), &path);
        host.worker(&scheduler, &door.to_string(), &["--advertise", &advertised.to_string()])
    });
    let embedded = LocalCluster::options().start().unwrap().client();
    let client = scheduler.client();
    for (name, array) in expressions() {
        assert_eq!(compute(&client, &array).bytes(), compute(&embedded, &array).bytes(), "{name}");
    }
    let passed = path.passed.load(Ordering::Relaxed);
    eprintln!("{passed} packets, {} of them lost", passed / path.lost_of);
    assert!(passed > 5 * path.lost_of);
    // Of what it all was, the workers and the scheduler know.
    let least = scheduler.status().traffic.values().map(|traffic| traffic.round_trip).min().unwrap();
    assert!(least >= 2 * path.delay, "{least:?}");
    eventually("lost packets of blocks are told of", || {
        scheduler.status().bulk.values().any(|bulk| bulk.packets_lost > 0 && bulk.packet_bytes >= 1200)
    });
    drop(workers);
}

/// What packets meet on their way.
struct Path {
    delay: Duration,
    /// Every packet of so many is lost.
    lost_of: u64,
    /// Packets, the lost ones among them.
    passed: AtomicU64,
}

/// Passes packets between those who send to `listen` and `target`, along `path`, until the process ends. Where it is.
fn relay(listen: SocketAddr, target: SocketAddr, path: &Arc<Path>) -> SocketAddr {
    let (socket, path) = (Arc::new(UdpSocket::bind(listen).unwrap()), Arc::clone(path));
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut flows: HashMap<SocketAddr, Sender<Packet>> = HashMap::new();
        receive(&socket, &path, |from, packet| {
            let flow = flows.entry(from).or_insert_with(|| {
                let beyond = Arc::new(UdpSocket::bind((CENTRE, 0)).unwrap());
                let (answers, here) = (Arc::clone(&beyond), Arc::clone(&socket));
                let (back, path) = (late(move |bytes| drop(here.send_to(bytes, from))), Arc::clone(&path));
                thread::spawn(move || receive(&answers, &path, |_, packet| drop(back.send(packet))));
                late(move |bytes| drop(beyond.send_to(bytes, target)))
            });
            drop(flow.send(packet));
        });
    });
    address
}

/// When it is due, and what it is.
type Packet = (Instant, Vec<u8>);

fn receive(socket: &UdpSocket, path: &Path, mut pass: impl FnMut(SocketAddr, Packet)) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        // A packet that could not be delivered is an error of the next call; it is lost like others.
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        if !path.passed.fetch_add(1, Ordering::Relaxed).is_multiple_of(path.lost_of) {
            pass(from, (Instant::now() + path.delay, bytes[..length].to_vec()));
        }
    }
}

/// Where packets wait until they are due.
fn late(send: impl Fn(&[u8]) + Send + 'static) -> Sender<Packet> {
    let (sender, packets) = mpsc::channel::<Packet>();
    thread::spawn(move || {
        for (due, bytes) in packets {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            send(&bytes);
        }
    });
    sender
}
