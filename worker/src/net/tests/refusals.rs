//! Who is not let in, and why: each learns it within its limit, and the door goes on as before.

use std::net::UdpSocket;

use super::super::hello::greet;
use super::super::join::{JoinRequest, joiner_proof};
use super::super::{frame, identity};
use super::*;
use crate::wire::WireError;
use crate::wire::codec::{MESSAGE_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX};
use identity::{CertificateRequest, Token};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn a_stranger() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let none = rogue.knock(&door, None, Purpose::Control);
    assert_eq!(rogue.end(&none), NetError::Refused(Refusal::Stranger));
    let other = Authority::new().unwrap();
    let forged = other.identity(Party { role: Role::Worker, id: 1 }, now()).unwrap();
    let forged = rogue.knock(&door, Some(&forged), Purpose::Control);
    assert_eq!(rogue.end(&forged), NetError::Refused(Refusal::Stranger));
    assert!(door.sessions.try_recv().is_err());
    door.assert_unharmed();
}

#[test]
fn a_wrong_token_and_a_wrong_secret() {
    let door = Door::open();
    let dialer = Dialer::new().unwrap();
    let token = Authority::new().unwrap().token();
    assert_eq!(dialer.join(&door.address(), &token, Role::Worker).unwrap_err(), NetError::WrongToken);
    // The right hash is public; it does not help.
    let text = door.authority.token().reveal();
    let (hash, secret) = text.rsplit_once('.').unwrap();
    let digit = if secret.starts_with('0') { '1' } else { '0' };
    let guessed: Token = format!("{hash}.{digit}{}", &secret[1..]).parse().unwrap();
    let refused = dialer.join(&door.address(), &guessed, Role::Worker).unwrap_err();
    assert_eq!(refused, NetError::Refused(Refusal::WrongSecret));
    door.assert_unharmed();
}

/// The certificate of a worker is good, and its TLS is: only the name says that it is no scheduler.
#[test]
fn a_worker_that_poses_as_the_scheduler() {
    let door = Door::open();
    let (worker, victim) = (door.worker(), door.worker());
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let verifier = PeerVerifier::new(worker.authority(), Expected::Member).optional();
    let crypto = tls::server(&worker, verifier, &[Purpose::Join, Purpose::Control]).unwrap();
    let fake = runtime
        .block_on(async { quinn::Endpoint::server(tuning::server(crypto, tuning::control()), ANY_PORT).unwrap() });
    let address = fake.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        while let Some(incoming) = fake.accept().await {
            drop(incoming.await);
        }
    });
    let dialer = Dialer::new().unwrap();
    let unexpected = NetError::Refuses(Refusal::Unexpected);
    assert_eq!(dialer.connect(&address, &victim).err(), Some(unexpected.clone()));
    assert_eq!(dialer.join(&address, &door.authority.token(), Role::Client).err(), Some(unexpected));
}

#[test]
fn a_scheduler_at_the_schedulers_door() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let posing = door.authority.scheduler(now()).unwrap();
    // It may not even be shown by a side that dials: it is not made for that.
    let end = rogue.end(&rogue.knock(&door, Some(&posing), Purpose::Control));
    assert!(matches!(end, NetError::Refused(Refusal::Stranger | Refusal::Unexpected)), "{end}");
    let join = rogue.knock(&door, None, Purpose::Join);
    let request = CertificateRequest::new().unwrap().der().to_vec();
    let proof = joiner_proof(&door.authority.token().secret, &join, Role::Scheduler, &request).unwrap();
    let asked = JoinRequest { role: Role::Scheduler, request, proof };
    rogue.does(async { frame::write(&mut greet(&join).await?.0, &asked).await }).unwrap();
    assert_eq!(rogue.end(&join), NetError::Refused(Refusal::Unexpected));
    door.assert_unharmed();
}

#[test]
fn an_expired_certificate() {
    let door = Door::open();
    let worker = door.authority.new_party(Role::Worker);
    let expired = door.authority.identity(worker, now() - 2 * DAY).unwrap();
    let refused = Dialer::new().unwrap().connect(&door.address(), &expired).err();
    assert_eq!(refused, Some(NetError::Refused(Refusal::Expired)));
    assert!(door.sessions.try_recv().is_err());
    door.assert_unharmed();
}

/// A proof is heard by nobody else; but if it were, it would be worth nothing.
#[test]
fn a_replayed_proof() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let secret = door.authority.token().secret;
    let (first, second) = (rogue.knock(&door, None, Purpose::Join), rogue.knock(&door, None, Purpose::Join));
    let request = CertificateRequest::new().unwrap().der().to_vec();
    let proof = joiner_proof(&secret, &first, Role::Worker, &request).unwrap();
    let asked = JoinRequest { role: Role::Worker, request, proof };
    let send = |connection: &Connection| {
        rogue.does(async {
            let (mut send, mut receive) = greet(connection).await?;
            frame::write(&mut send, &asked).await?;
            Ok(receive.read_chunk(1, true).await?.is_some())
        })
    };
    assert_eq!(send(&second), Err(NetError::Refused(Refusal::WrongSecret)));
    assert_eq!(send(&first), Ok(true), "it was good where it was made");
    // Nor does it certify another role or key.
    let third = rogue.knock(&door, None, Purpose::Join);
    let proof = joiner_proof(&secret, &third, Role::Client, &asked.request).unwrap();
    let other_role = JoinRequest { role: Role::Worker, request: asked.request.clone(), proof };
    rogue.does(async { frame::write(&mut greet(&third).await?.0, &other_role).await }).unwrap();
    assert_eq!(rogue.end(&third), NetError::Refused(Refusal::WrongSecret));
    door.assert_unharmed();
}

/// Four bytes that promise 4 GiB: as hello, as a join request, as a message.
#[test]
fn a_length_of_4_gib() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let worker = door.worker();
    let too_long = NetError::Refused(Refusal::TooLong);
    for purpose in [Purpose::Control, Purpose::Join] {
        let connection = rogue.knock(&door, Some(&worker), purpose);
        rogue.does(async { Ok(connection.open_bi().await?.0.write_all(&[0xff; 4]).await?) }).unwrap();
        assert_eq!(rogue.end(&connection), too_long, "{purpose:?}");
        let connection = rogue.knock(&door, Some(&worker), purpose);
        rogue.does(async { Ok(greet(&connection).await?.0.write_all(&[0xff; 4]).await?) }).unwrap();
        if purpose == Purpose::Control {
            let (tell, told) = mpsc::channel();
            let session = door.sessions.recv_timeout(PATIENCE).unwrap();
            let _control = session.start::<u64, u64>(move |received| drop(tell.send(received)));
            let length = WireError::TooLong { bytes: u32::MAX.into(), bytes_max: WORKER_MESSAGE_BYTES_MAX as u64 };
            assert_eq!(told.recv_timeout(PATIENCE), Ok(Received::Closed(length.into())));
        }
        assert_eq!(rogue.end(&connection), too_long, "{purpose:?}");
    }
    door.assert_unharmed();
}

/// Only a client's messages may be long: they have plans in them.
#[test]
fn a_worker_that_says_as_much_as_a_client() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let length = (WORKER_MESSAGE_BYTES_MAX as u32 + 1).to_le_bytes();
    for (identity, is_refused) in [(door.worker(), true), (door.client(), false)] {
        let connection = rogue.knock(&door, Some(&identity), Purpose::Control);
        let mut streams = rogue.does(greet(&connection)).unwrap();
        let (tell, told) = mpsc::channel();
        let session = door.sessions.recv_timeout(PATIENCE).unwrap();
        let _control = session.start::<u64, u64>(move |received| drop(tell.send(received)));
        rogue.does(async { Ok(streams.0.write_all(&length).await?) }).unwrap();
        match is_refused {
            true => assert_eq!(rogue.end(&connection), NetError::Refused(Refusal::TooLong)),
            false => assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "it waits for the rest"),
        }
    }
    door.assert_unharmed();
}

/// A promise of 64 MiB that is not kept takes no 64 MiB.
#[test]
fn what_is_promised_takes_no_memory() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let before = door.allocated();
    let connection = rogue.knock(&door, Some(&door.client()), Purpose::Control);
    let mut streams = rogue.does(greet(&connection)).unwrap();
    let (tell, told) = mpsc::channel();
    let session = door.sessions.recv_timeout(PATIENCE).unwrap();
    // Said on the door's own thread.
    let _control = session.start::<u64, u64>(move |received| drop(tell.send((received, allocated()))));
    let length = (MESSAGE_BYTES_MAX as u32).to_le_bytes();
    rogue.does(async { Ok(streams.0.write_all(&[&length[..], &[0; 100]].concat()).await?) }).unwrap();
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "it waits for the rest");
    rogue.does(async { streams.0.finish().map_err(|_| NetError::Closed) }).unwrap();
    let (received, after) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(received, Received::Closed(NetError::Truncated));
    assert!(after > before && after - before < 4 << 20, "{} bytes", after - before);
}

/// What a stranger may make the door allocate, all of it together and most of it soon given back: its handshake is the
/// most of it.
const BYTES_PER_STRANGER: u64 = 1 << 20;

/// Some hundreds, from several addresses: they promise as much as may be, or say nothing, and stay.
#[test]
fn a_crowd_that_only_promises_takes_little_memory() {
    const EACH: usize = 40;
    let door = Door::open();
    let (before, client) = (door.allocated(), door.client());
    let rogues: Vec<Rogue> = (2..5).map(|last| Rogue::at(Ipv4Addr::new(127, 0, 0, last))).collect();
    let length = (MESSAGE_BYTES_MAX as u32).to_le_bytes();
    let mut kept = Vec::new();
    for rogue in rogues.iter().flat_map(|rogue| [rogue; EACH]) {
        let silent = rogue.knock(&door, None, Purpose::Join);
        let speaks = rogue.knock(&door, Some(&client), Purpose::Control);
        let mut streams = rogue.does(greet(&speaks)).unwrap();
        let control = door.sessions.recv_timeout(PATIENCE).unwrap().start::<u64, u64>(|_| {});
        rogue.does(async { Ok(streams.0.write_all(&[&length[..], &[0; 100]].concat()).await?) }).unwrap();
        kept.push((silent, speaks, streams, control));
    }
    let bytes = (door.allocated() - before) / (2 * kept.len() as u64);
    assert!(bytes < BYTES_PER_STRANGER, "{bytes} bytes for each of {}", 2 * kept.len());
}

/// Connections that say nothing, before and after they could show who they are, and datagrams that are no QUIC.
#[test]
fn who_says_nothing() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let noise = UdpSocket::bind(ANY_PORT).unwrap();
    for length in [0, 1, 20, 1200, 1472] {
        noise.send_to(&vec![0xc5; length], door.server.address()).unwrap();
    }
    let worker = door.worker();
    let begun = Instant::now();
    let silent: Vec<Connection> = [Purpose::Control, Purpose::Join]
        .into_iter()
        .flat_map(|purpose| [(); 8].map(|()| rogue.knock(&door, Some(&worker), purpose)))
        .collect();
    // One that says hello and then nothing, where it is to join.
    let polite = rogue.knock(&door, None, Purpose::Join);
    let _streams = rogue.does(greet(&polite)).unwrap();
    door.assert_unharmed();
    for connection in silent.iter().chain([&polite]) {
        assert_eq!(rogue.end(connection), NetError::Refused(Refusal::Slow));
    }
    let took = begun.elapsed();
    assert!(took >= HANDSHAKE_LIMIT && took < HANDSHAKE_LIMIT + SLACK, "{took:?}");
    door.assert_unharmed();
}

#[test]
fn another_version() {
    let (door, rogue) = (Door::open(), Rogue::new());
    let theirs = Hello { protocol: "gridloom".to_owned(), version: 4_000_000_000 };
    for purpose in [Purpose::Control, Purpose::Join] {
        let connection = rogue.knock(&door, Some(&door.worker()), purpose);
        rogue.does(async { frame::write(&mut connection.open_bi().await?.0, &theirs).await }).unwrap();
        // What the scheduler says is its own version.
        let end = rogue.end(&connection);
        assert_eq!(end, NetError::Version { ours: Hello::ours(), theirs: Hello::ours() }, "{end}");
    }
    door.assert_unharmed();
}

#[test]
fn nobody_and_nowhere() {
    let dialer = Dialer::new().unwrap();
    let token = Authority::new().unwrap().token();
    let unbound = UdpSocket::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let error = dialer.join(&unbound.to_string(), &token, Role::Client).unwrap_err();
    assert_eq!(error, NetError::NoAnswer);
    assert!(begun.elapsed() < HANDSHAKE_LIMIT, "silence is noticed earlier");
    let error = dialer.join("no port", &token, Role::Client).unwrap_err();
    assert!(matches!(error, NetError::Address { .. }), "{error}");
}
