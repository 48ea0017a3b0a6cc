//! Certificates are renewed by themselves, again and again, and the new ones are used.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;

use super::*;
use crate::cpu::{CodeGenerator, CpuOptions};
use crate::serve::{DataRoot, Device, RemoteOptions, RemoteWorker, Stop, WorkerOptions};
use crate::wire::{ToScheduler, ToWorker};

/// Half a life, for tests.
const SOON: Duration = Duration::from_millis(100);

/// Looks until it has seen three certificates, so that renewing goes on once it has begun.
#[track_caller]
fn assert_renewed(mut shown: impl FnMut() -> CertificateDer<'static>) {
    let (begun, mut seen) = (Instant::now(), HashSet::new());
    while seen.len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{} certificates were shown", seen.len());
        seen.insert(shown());
        thread::sleep(SOON / 4);
    }
}

/// What whoever was dialled has shown.
fn shown(connection: Connection) -> CertificateDer<'static> {
    let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    chain[0].clone()
}

#[test]
fn the_schedulers_own() {
    let (door, rogue) = (Door::of(Authority::renewing_after(SOON)), Rogue::new());
    assert_renewed(|| shown(rogue.knock(&door, None, Purpose::Join)));
    door.assert_unharmed();
}

#[test]
fn a_workers() {
    let (door, rogue, stop) = (Door::open(), Rogue::new(), Stop::default());
    let cpu = CpuOptions { slots: 1, block_timeout: PATIENCE, code_generator: CodeGenerator::default() };
    let options = RemoteOptions {
        scheduler: door.address(),
        token: door.authority.token(),
        name: String::new(),
        advertise: None,
        lifetime: None,
        redial_for: PATIENCE,
        worker: WorkerOptions { device: Device::Cpu(cpu), memory_bytes: 1 << 20, data_root: DataRoot::None },
    };
    let worker = RemoteWorker::with_dialer(options, Dialer::renewing_after(SOON), stop.clone());
    let serving = thread::spawn(move || worker.run());
    let session = door.sessions.recv_timeout(PATIENCE).unwrap();
    let (party, (tell, told)) = (session.party(), mpsc::channel());
    let _control = session.start::<ToWorker, ToScheduler>(move |received| drop(tell.send(received)));
    let Ok(Received::Message(ToScheduler::Register(register))) = told.recv_timeout(PATIENCE) else {
        panic!("a worker registers first")
    };
    let (address, client) = (register.address.parse().unwrap(), door.client());
    let dial =
        || rogue.connect(address, &door.authority, Some(&client), Expected::Party(party), Purpose::Bulk).unwrap();
    assert_renewed(|| shown(dial()));
    stop.end();
    serving.join().unwrap().unwrap();
}

#[test]
fn of_who_is_in_the_schedulers_process() {
    let authority = Arc::new(Authority::renewing_after(SOON));
    let party = authority.new_party(Role::Client);
    let bulk = Bulk::open_near(authority, party, BulkOptions::default()).unwrap();
    assert_renewed(|| bulk.identity().chain().swap_remove(0));
    assert_eq!(bulk.identity().party(), party);
}
