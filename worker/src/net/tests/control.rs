//! Messages between the scheduler and a worker.

use super::*;
use crate::executor::ExecuteError;
use crate::ids::{ArrayId, ClientId, WorkerId};
use crate::intervals::Interval;
use crate::net::hello::greet;
use crate::wire::codec::{MESSAGE_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX};
use crate::wire::{DeviceClass, FromWorker, Register, ToScheduler, ToWorker, WireError, encode};

fn done(number: u64) -> FromWorker {
    let array = ArrayId { client: ClientId(1), sequence: 2 };
    let (blocks, busy) = (vec![Interval::one(number)], Duration::from_nanos(number));
    FromWorker::Done { array, blocks, bytes: number, busy, result: None }
}

/// Tells a channel what is heard.
fn ear<In: Send + 'static>() -> (impl FnMut(Received<In>) + Send, mpsc::Receiver<Received<In>>) {
    let (tell, told) = mpsc::channel();
    (move |received| drop(tell.send(received)), told)
}

/// A worker that has joined and connected, by `address`, and the two ends of its connection.
fn connected(door: &Door, address: &str) -> (Dialer, Identity, Session, Session) {
    let dialer = Dialer::new().unwrap();
    let identity = dialer.join(address, &door.authority.token(), Role::Worker).unwrap();
    let session = dialer.connect(address, &identity).unwrap();
    let accepted = door.sessions.recv_timeout(PATIENCE).unwrap();
    assert_eq!(accepted.party(), identity.party());
    (dialer, identity, session, accepted)
}

#[test]
fn messages_arrive_in_order_and_the_last_words_too() {
    let door = Door::open();
    let (dialer, _, session, accepted) = connected(&door, &door.address());
    let (hear_scheduler, from_scheduler) = ear::<ToWorker>();
    let (hear_worker, from_worker) = ear::<FromWorker>();
    let worker = session.start::<FromWorker, ToWorker>(hear_scheduler);
    let scheduler = accepted.start::<ToWorker, FromWorker>(hear_worker);
    scheduler.send(&ToWorker::Welcome { worker: WorkerId(7) }).unwrap();
    assert_eq!(from_scheduler.recv_timeout(PATIENCE), Ok(Received::Message(ToWorker::Welcome { worker: WorkerId(7) })));
    const COUNT: u64 = 20_000;
    (0..COUNT).for_each(|number| worker.send(&done(number)).unwrap());
    // All of it leaves, also if the process ends at once.
    drop(worker);
    drop(dialer);
    for number in 0..COUNT {
        assert_eq!(from_worker.recv_timeout(PATIENCE), Ok(Received::Message(done(number))));
    }
    assert_eq!(from_worker.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Closed)));
    assert_eq!(from_scheduler.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Closed)));
    assert_eq!(scheduler.send(&ToWorker::Close), Err(NetError::Closed));
    assert!(from_worker.try_recv().is_err() && from_scheduler.try_recv().is_err(), "nothing after the end");
    let traffic = scheduler.traffic();
    assert!(traffic.bytes_received > COUNT && traffic.packet_bytes >= 1200, "{traffic:?}");
}

#[test]
fn a_large_message_passes_and_one_too_large_is_refused_where_it_is_said() {
    let door = Door::open();
    let (_dialer, _, session, accepted) = connected(&door, &door.address());
    let (hear_scheduler, from_scheduler) = ear::<String>();
    let (hear_worker, from_worker) = ear::<String>();
    let worker = session.start::<String, String>(hear_scheduler);
    let scheduler = accepted.start::<String, String>(hear_worker);
    let check = |speaker: &Control<String>, heard: &mpsc::Receiver<Received<String>>, bytes_max: usize| {
        // A text's length takes four bytes and three.
        let longest = "x".repeat(bytes_max - if bytes_max == MESSAGE_BYTES_MAX { 4 } else { 3 });
        let too_long = WireError::TooLong { bytes: bytes_max as u64 + 1, bytes_max: bytes_max as u64 };
        assert_eq!(speaker.send(&format!("{longest}x")), Err(too_long.into()));
        speaker.send(&longest).unwrap();
        assert!(heard.recv_timeout(PATIENCE) == Ok(Received::Message(longest)));
    };
    check(&worker, &from_worker, WORKER_MESSAGE_BYTES_MAX);
    check(&scheduler, &from_scheduler, MESSAGE_BYTES_MAX);
}

/// What an honest worker says at most is far from what is taken.
#[test]
fn no_worker_has_to_say_more_than_it_may() {
    let array = ArrayId { client: ClientId(u64::MAX), sequence: u64::MAX };
    let blocks = vec![Interval { start: u64::MAX - 1, end: u64::MAX }; 4096];
    let done = FromWorker::Done { array, blocks, bytes: u64::MAX, busy: Duration::MAX, result: None };
    let path = "\u{10ffff}".repeat(crate::executor::ERROR_TEXT_BYTES_MAX);
    let error = ExecuteError::Source { path: path.clone(), what: path }.clipped();
    assert!(error.to_string().contains(" ..."));
    let failed = FromWorker::Failed { array, block: u64::MAX, attempt: u32::MAX, error };
    let long = |bytes| "x".repeat(bytes);
    let register = Register {
        name: long(256),
        class: DeviceClass::Gpu(long(1024)),
        address: long(1024),
        ..Register::of_cpu(&long(1024), u32::MAX, u64::MAX)
    };
    assert!(register.is_short());
    for message in [ToScheduler::Worker(done), ToScheduler::Worker(failed), ToScheduler::Register(register)] {
        let bytes = encode(&message).unwrap().len();
        assert!(bytes <= WORKER_MESSAGE_BYTES_MAX / 2, "{bytes}");
    }
}

#[test]
fn who_leaves_too_much_unread_is_given_up() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let connection = rogue.knock(&door, Some(&door.worker()), Purpose::Control);
    let _streams = rogue.does(greet(&connection)).unwrap();
    let (hear, heard) = ear::<String>();
    let scheduler = door.sessions.recv_timeout(PATIENCE).unwrap().start::<String, String>(hear);
    let text = "x".repeat(MESSAGE_BYTES_MAX / 2);
    let mut kept = 0;
    let refused = loop {
        match scheduler.send(&text) {
            Ok(()) => kept += text.len(),
            Err(error) => break error,
        }
        // What is being written is kept as well, once: all that waited when it was taken.
        assert!(kept <= 9 * MESSAGE_BYTES_MAX, "{kept} bytes are kept for one that reads nothing");
    };
    assert!(matches!(refused, NetError::Overrun { .. }), "{refused}");
    assert!(kept > MESSAGE_BYTES_MAX, "a few of the longest messages may wait");
    assert_eq!(scheduler.send(&String::new()), Err(refused.clone()));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Closed(refused)));
    // A busy machine may have kept it waiting for longer than the dead-time.
    let end = rogue.end(&connection);
    assert!(matches!(end, NetError::Refused(Refusal::Slow) | NetError::Lost), "{end}");
}

#[test]
fn an_old_id_is_refused_and_learns_it() {
    let door = Door::open();
    let (_dialer, _, session, accepted) = connected(&door, &door.address());
    let (hear, heard) = ear::<ToWorker>();
    let _worker = session.start::<FromWorker, ToWorker>(hear);
    accepted.refuse(Refusal::Retired);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Refused(Refusal::Retired))));
}

#[test]
fn who_does_not_read_the_last_words_is_left() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let connection = rogue.knock(&door, Some(&door.worker()), Purpose::Control);
    let _streams = rogue.does(greet(&connection)).unwrap();
    let scheduler = door.sessions.recv_timeout(PATIENCE).unwrap().start::<Vec<u8>, Vec<u8>>(|_| {});
    // More than fits on the way.
    scheduler.send(&vec![0; 32 << 20]).unwrap();
    let begun = Instant::now();
    drop(scheduler);
    rogue.end(&connection);
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
}

#[test]
fn a_thread_of_another_runtime_may_dial_and_end() {
    let door = Door::open();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (hear, heard) = ear::<FromWorker>();
    let _scheduler = runtime.block_on(async {
        let (dialer, identity, session, accepted) = connected(&door, &door.address());
        let worker = session.start::<FromWorker, ToWorker>(|_| {});
        let scheduler = accepted.start::<ToWorker, FromWorker>(hear);
        assert_eq!(dialer.renew(&worker, &identity).unwrap().party(), identity.party());
        worker.send(&done(1)).unwrap();
        drop(worker);
        drop(dialer);
        scheduler
    });
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Message(done(1))), "last words leave");
}

#[test]
fn who_is_not_spoken_with_is_not_kept_waiting() {
    let door = Door::open();
    let (_dialer, _, session, accepted) = connected(&door, &door.address());
    let (hear, heard) = ear::<ToWorker>();
    let _worker = session.start::<FromWorker, ToWorker>(hear);
    drop(accepted);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Closed)));
}

#[test]
fn a_certificate_is_renewed_for_the_same_party_and_a_new_key() {
    let door = Door::open();
    let (dialer, identity, session, accepted) = connected(&door, &door.address());
    let worker = session.start::<FromWorker, ToWorker>(|_| {});
    let _scheduler = accepted.start::<ToWorker, FromWorker>(|_| {});
    for _ in 0..3 {
        let renewed = dialer.renew(&worker, &identity).unwrap();
        assert_eq!(renewed.party(), identity.party());
        assert_ne!(renewed.chain()[0], identity.chain()[0]);
        assert!(dialer.connect(&door.address(), &renewed).is_ok());
    }
}

#[test]
fn a_peer_that_falls_silent_is_noticed_by_both_sides() {
    let door = Door::open();
    let wire = Wire::to(door.server.address());
    let (_dialer, _, session, accepted) = connected(&door, &wire.address.to_string());
    let (hear_scheduler, from_scheduler) = ear::<ToWorker>();
    let (hear_worker, from_worker) = ear::<FromWorker>();
    let worker = session.start::<FromWorker, ToWorker>(hear_scheduler);
    let _scheduler = accepted.start::<ToWorker, FromWorker>(hear_worker);
    // Longer than the dead-time: whoever has nothing to say is alive all the same.
    thread::sleep(DEAD_AFTER + Duration::from_millis(500));
    worker.send(&done(1)).unwrap();
    assert_eq!(from_worker.recv_timeout(PATIENCE), Ok(Received::Message(done(1))));
    let cut = wire.cut();
    assert_eq!(from_worker.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Lost)));
    assert_eq!(from_scheduler.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Lost)));
    let took = cut.elapsed();
    assert!(took < DEAD_AFTER + SLACK, "{took:?}");
    assert!(matches!(worker.send(&done(2)), Err(NetError::Lost)));
}

#[test]
fn a_door_that_closes_ends_what_came_through_it() {
    let door = Door::open();
    let (_dialer, _, session, accepted) = connected(&door, &door.address());
    let (hear, heard) = ear::<ToWorker>();
    let _worker = session.start::<FromWorker, ToWorker>(hear);
    let _scheduler = accepted.start::<ToWorker, FromWorker>(|_| {});
    let begun = Instant::now();
    drop(door);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Closed(NetError::Closed)));
    assert!(begun.elapsed() < Duration::from_secs(2));
}
