//! Whoever attacks a scheduler at work changes no bit of what it makes.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use gridloom_worker::net::Hello;
use gridloom_worker::net::identity::{CERTIFICATE_LIFETIME, Party};
use gridloom_worker::wire::codec::write_frame;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::cluster::LocalCluster;

/// Takes anybody for a scheduler.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}

/// A stranger that speaks QUIC and TLS, and anything it likes on it.
struct Rogue {
    runtime: Runtime,
    endpoint: quinn::Endpoint,
    server: SocketAddr,
}

impl Rogue {
    fn new(server: SocketAddr) -> Rogue {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut endpoint = runtime.block_on(async { quinn::Endpoint::client(ANY_PORT).unwrap() });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let config = config.unwrap().dangerous().with_custom_certificate_verifier(Arc::new(Gullible));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"gridloom-join".to_vec()];
        let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        Rogue { runtime, endpoint, server }
    }

    /// A connection on which `bytes` are said; whoever keeps it says nothing more.
    fn says(&self, bytes: &[u8]) -> Option<quinn::Connection> {
        self.runtime.block_on(async {
            let connection = self.endpoint.connect(self.server, "gridloom").unwrap().await.ok()?;
            let (mut send, receive) = connection.open_bi().await.ok()?;
            send.write_all(bytes).await.ok()?;
            // Their end would be the stream's.
            std::mem::forget((send, receive));
            Some(connection)
        })
    }

    /// How the scheduler ends it; `None` if this machine is so busy that nothing was heard for too long.
    fn end(&self, connection: &quinn::Connection) -> Option<u64> {
        match self.runtime.block_on(connection.closed()) {
            quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            quinn::ConnectionError::TimedOut => None,
            other => panic!("{other}"),
        }
    }
}

fn framed<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(message, &mut bytes).unwrap();
    bytes
}

/// All that strangers, and members that have lost their wits, may try; each is refused for what it is.
fn attack(server: &SchedulerServer, dialer: &Dialer, rogue: &Rogue, silent: &mut Vec<quinn::Connection>) {
    let too_long = Refusal::TooLong as u64;
    let lengths = [vec![0xff; 4], [framed(&Hello::ours()), vec![0xff; 4]].concat()];
    for bytes in lengths {
        let connection = rogue.says(&bytes).expect("its address is not refused");
        assert_eq!(rogue.end(&connection).unwrap_or(too_long), too_long);
    }
    let malformed = rogue.says(&[framed(&Hello::ours()), framed(&[0xffu8; 32])].concat()).unwrap();
    let refused = Refusal::Malformed as u64;
    assert_eq!(rogue.end(&malformed).unwrap_or(refused), refused);
    silent.extend([&[][..], &[1], &framed(&Hello::ours())].map(|bytes| rogue.says(bytes).unwrap()));
    let noise = UdpSocket::bind(ANY_PORT).unwrap();
    for length in [0, 1, 20, 1200, 1472] {
        noise.send_to(&vec![0xc5; length], server.address()).unwrap();
    }
    strangers(server, dialer);
    members(server, dialer);
}

fn strangers(server: &SchedulerServer, dialer: &Dialer) {
    let (address, other) = (server.dialled(), Authority::new().unwrap());
    assert_eq!(dialer.join(&address, &other.token(), Role::Worker).err(), Some(NetError::WrongToken));
    let token = server.token().reveal();
    let (rest, last) = token.split_at(token.len() - 1);
    let guessed: Token = format!("{rest}{}", if last == "0" { 1 } else { 0 }).parse().unwrap();
    let refused = dialer.join(&address, &guessed, Role::Worker).err();
    assert_eq!(refused, Some(NetError::Refused(Refusal::WrongSecret)));
    let age = 2 * CERTIFICATE_LIFETIME;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let worker = Party { role: Role::Worker, id: 1 };
    let cases = [
        (server.authority().identity(worker, now - age).unwrap(), &[Refusal::Expired][..]),
        (other.identity(worker, now).unwrap(), &[Refusal::Stranger]),
        (server.authority().scheduler(now).unwrap(), &[Refusal::Stranger, Refusal::Unexpected]),
    ];
    for (identity, refusals) in cases {
        // Of another authority, it takes our scheduler for a stranger itself.
        let error = dialer.connect(&address, &identity).err().unwrap();
        let is_one = |refusal: &Refusal| error == NetError::Refused(*refusal) || error == NetError::Refuses(*refusal);
        assert!(refusals.iter().any(is_one), "{error}");
    }
}

/// Who has joined and says what is no message.
fn members(server: &SchedulerServer, dialer: &Dialer) {
    let malformed = NetError::Refused(Refusal::Malformed);
    assert_eq!(babble::<ToWorker>(server, dialer, Role::Worker), malformed);
    assert_eq!(babble::<ClientHears>(server, dialer, Role::Client), malformed);
}

/// How the connection of a member ends that says what is no message.
fn babble<In: DeserializeOwned + Send + 'static>(server: &SchedulerServer, dialer: &Dialer, role: Role) -> NetError {
    let identity = dialer.join(&server.dialled(), server.token(), role).unwrap();
    let (hear, heard) = mpsc::channel();
    let session = dialer.connect(&server.dialled(), &identity).unwrap();
    let control: Control<[u8; 5]> = session.start(move |received: Received<In>| drop(hear.send(received)));
    control.send(&[0xff; 5]).unwrap();
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok(Received::Closed(error)) => return error,
            Ok(Received::Message(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// How often all of it is tried: more would be too many from one address.
const ROUNDS: usize = 8;

/// Work that takes many times as long as a round.
fn work() -> Array {
    let text = "fn f(x: f64) -> f64 { var y = x; for (var i = 0; i < 200000; i++) { y = y * 0.75lf + x; } return y; }";
    Array::random([400 * 32]).chunks([32]).map_blocks(&Kernel::element(text).unwrap())
}

#[test]
fn a_scheduler_under_attack_loses_no_bit() {
    let expected: Value = LocalCluster::start().unwrap().client().compute(&work()).unwrap().wait().unwrap();
    let server = server();
    let _hand = Hand::start(&server);
    let (client, dialer, rogue) = (server.client(), Dialer::new().unwrap(), Rogue::new(server.address()));
    let (mut silent, mut attacks, is_done) = (Vec::new(), 0, AtomicBool::new(false));
    thread::scope(|scope| {
        let computed = client.compute::<Value>(&work()).unwrap();
        let waits = scope.spawn(|| {
            let value = computed.wait();
            is_done.store(true, Ordering::SeqCst);
            value
        });
        for _ in 0..ROUNDS {
            attack(&server, &dialer, &rogue, &mut silent);
            // Those count that ended in the middle of the work.
            attacks += usize::from(!is_done.load(Ordering::SeqCst));
        }
        let value = waits.join().unwrap().unwrap();
        assert!(value.bytes() == expected.bytes(), "not the same bits");
    });
    assert!(attacks > 0, "the work was over before it was attacked");
    // Those that said nothing were given up by then, or are soon; and the worker is the one that was there before.
    for connection in &silent {
        let slow = Refusal::Slow as u64;
        assert_eq!(rogue.end(connection).unwrap_or(slow), slow);
    }
    let sum: f64 = client.compute(&Array::ones([100]).sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 100.0);
    assert_eq!(server.status().scheduler.workers.len(), 1);
}
