//! A scheduler's door, with workers that come and go behind it, attackers before it, and a fault inside.

mod attacks;

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::Instant;

use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::kernel::Kernel;
use gridloom_worker::net::identity::Identity;
use gridloom_worker::net::{Dialer, NetError};
use gridloom_worker::serve::{DataRoot, Device, RemoteError, RemoteOptions, RemoteWorker, Stop, WorkerOptions};
use gridloom_worker::wire::{NAME_BYTES_MAX, Register};

use super::*;
use crate::array::Array;
use crate::client::{Client, ClientError, Devices, Value, status};
use crate::cluster::near;
use crate::scheduler::JobError;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn server() -> Arc<SchedulerServer> {
    Arc::new(SchedulerServer::start(ANY_PORT, Limits::default()).unwrap())
}

impl SchedulerServer {
    fn dialled(&self) -> String {
        self.address().to_string()
    }

    fn status(&self) -> ClusterStatus {
        status(&self.dialled(), self.token()).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect_with(&self.dialled(), self.token()).unwrap()
    }
}

/// A worker on a thread of this process, ended when it is dropped.
struct Hand {
    stop: Stop,
    thread: Option<JoinHandle<Result<(), RemoteError>>>,
}

impl Hand {
    /// Starts one and waits until it has registered.
    #[track_caller]
    fn start(server: &SchedulerServer) -> Hand {
        let code_generator = CodeGenerator::default();
        let cpu = CpuOptions { slots: 1, block_timeout: Duration::from_secs(600), code_generator };
        let worker = WorkerOptions { device: Device::Cpu(cpu), memory_bytes: 256 << 20, data_root: DataRoot::None };
        let options = RemoteOptions {
            scheduler: server.dialled(),
            token: server.token().clone(),
            name: "hand".to_owned(),
            advertise: None,
            lifetime: None,
            redial_for: PATIENCE,
            worker,
        };
        let stop = Stop::default();
        let remote = RemoteWorker::new(options, stop.clone()).unwrap();
        let thread = Some(thread::spawn(move || remote.run()));
        eventually("the worker has registered", || server.status().scheduler.workers.len() == 1);
        Hand { stop, thread }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.stop.end();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A member that is connected, and what it hears.
fn connected(
    server: &SchedulerServer,
    dialer: &Dialer,
    identity: &Identity,
) -> (Control<ToScheduler>, mpsc::Receiver<Received<ToWorker>>) {
    let (hear, heard) = mpsc::channel();
    let session = dialer.connect(&server.dialled(), identity).unwrap();
    (session.start(move |received| drop(hear.send(received))), heard)
}

/// Why a member's connection ends.
#[track_caller]
fn end(heard: &mpsc::Receiver<Received<ToWorker>>) -> NetError {
    loop {
        if let Received::Closed(error) = heard.recv_timeout(PATIENCE).expect("the connection ends") {
            return error;
        }
    }
}

/// Why a member is not let in.
#[track_caller]
fn refused(server: &SchedulerServer, dialer: &Dialer, identity: &Identity) -> NetError {
    // It may be told before it has heard that it was greeted, or after.
    match dialer.connect(&server.dialled(), identity) {
        Err(error) => error,
        Ok(session) => {
            let (hear, heard) = mpsc::channel();
            let _control: Control<ToScheduler> = session.start(move |received| drop(hear.send(received)));
            end(&heard)
        }
    }
}

fn named(name: String) -> ToScheduler {
    ToScheduler::Register(Register { name, ..Register::of_cpu("cpu", 1, 1 << 20) })
}

#[test]
fn a_worker_that_comes_back_with_its_old_id_is_refused() {
    let server = server();
    let dialer = Dialer::new().unwrap();
    let identity = dialer.join(&server.dialled(), server.token(), Role::Worker).unwrap();
    let (control, heard) = connected(&server, &dialer, &identity);
    control.send(&named("first".to_owned())).unwrap();
    let workers = || server.status().scheduler.workers.len();
    eventually("it has registered", || workers() == 1);
    // As long as it is there, and when it is gone, its id is nobody else's.
    assert_eq!(refused(&server, &dialer, &identity), NetError::Refused(Refusal::Retired));
    drop((control, heard));
    eventually("it is gone", || workers() == 0);
    assert_eq!(refused(&server, &dialer, &identity), NetError::Refused(Refusal::Retired));
    // Whoever joins anew is let in.
    let identity = dialer.join(&server.dialled(), server.token(), Role::Worker).unwrap();
    let (control, _heard) = connected(&server, &dialer, &identity);
    control.send(&named("again".to_owned())).unwrap();
    eventually("it has registered anew", || workers() == 1);
}

#[test]
fn a_worker_of_a_long_name_is_refused() {
    let server = server();
    let dialer = Dialer::new().unwrap();
    for (bytes, is_taken) in [(NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
        let identity = dialer.join(&server.dialled(), server.token(), Role::Worker).unwrap();
        let (control, heard) = connected(&server, &dialer, &identity);
        control.send(&named("n".repeat(bytes))).unwrap();
        match is_taken {
            true => eventually("it has registered", || server.status().scheduler.workers.len() == 1),
            false => assert_eq!(end(&heard), NetError::Refused(Refusal::TooLong)),
        }
    }
}

/// A job that would not end by itself.
fn endless() -> Array {
    let text = "fn f(x: f64) -> f64 { var i = 0u; loop { i = i * 2u; if i == 1u { break; } } return x; }";
    Array::ones([10]).map_blocks(&Kernel::element(text).unwrap())
}

#[test]
fn a_scheduler_that_breaks_lets_nobody_wait_and_begins_anew() {
    let server = server();
    let _hand = Hand::start(&server);
    let (far, near) = (server.client(), near::connect(&server, Devices::Cpu, Box::new(())).unwrap());
    assert_eq!(near.wait_for_workers(1, PATIENCE), 1);
    let (tell, told) = mpsc::channel();
    for client in [&far, &near] {
        let (computed, tell) = (client.compute::<Value>(&endless()).unwrap(), tell.clone());
        thread::spawn(move || tell.send(computed.wait()));
    }
    eventually("both jobs are known", || server.status().scheduler.jobs == 2);
    server.mover.post(Input::Panic);
    for _ in 0..2 {
        let ended = told.recv_timeout(PATIENCE).expect("nobody waits for a scheduler that is gone");
        assert!(matches!(ended, Err(ClientError::Job(JobError::SchedulerLost))), "{ended:?}");
    }
    // The worker drops what it did and joins again; whoever connects now is served.
    let client = server.client();
    assert_eq!(client.wait_for_workers(1, PATIENCE), 1);
    let sum: f64 = client.compute(&Array::ones([100]).sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 100.0);
}
