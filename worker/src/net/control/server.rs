//! The scheduler's door: who joins and who has joined come to the same address, and are told apart by what they ask
//! for (ALPN).

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, VarInt};
use rustls::pki_types::CertificateDer;

use super::{Ground, Session};
use crate::net::endpoint::{Endpoint, listen, within};
use crate::net::error::{NetError, Refusal};
use crate::net::hello::welcome;
use crate::net::identity::{
    Authority, CERTIFICATE_LIFETIME, CertificateError, Expected, IdentityError, Party, PeerVerifier, Role, party_of,
};
use crate::net::join::{JOIN_BYTES_MAX, admit, now};
use crate::net::tls::{self, Purpose};
use crate::net::{HANDSHAKE_LIMIT, PACKET_BYTES_ETHERNET, frame, tuning};

/// Where the scheduler is reached.
pub struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
}

impl Server {
    /// Opens the door. `accept` is called on one of the network's threads for everyone who has joined and connects;
    /// what it does not start or refuse is closed.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(
        address: SocketAddr,
        authority: Arc<Authority>,
        accept: impl Fn(Session) + Send + Sync + 'static,
    ) -> Result<Server, NetError> {
        let config = config(&authority)?;
        let endpoint =
            Endpoint::new("net-control", 1, Some(address), tuning::endpoint(PACKET_BYTES_ETHERNET), Some(config))?;
        let address = endpoint.address()?;
        let (runtime, ground) = (endpoint.runtime(), Ground::of(&endpoint));
        let establish = {
            let authority = Arc::clone(&authority);
            move |connection| establish(connection, Arc::clone(&authority), ground.clone())
        };
        let established = move |session: Option<Session>| {
            session.into_iter().for_each(&accept);
            ready(())
        };
        runtime.spawn(listen(endpoint.quinn().clone(), HANDSHAKE_LIMIT, establish, established));
        runtime.spawn(renew_own(endpoint.quinn().clone(), authority));
        Ok(Server { endpoint, address })
    }

    /// Where it is reached: with the port that the system chose, if it was left to it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that are open, those that are joining or saying hello among them.
    pub fn connections(&self) -> usize {
        self.endpoint.quinn().open_connections()
    }
}

fn config(authority: &Authority) -> Result<quinn::ServerConfig, NetError> {
    let identity = authority.scheduler(now())?;
    // Who joins has no certificate; `establish` asks everyone else for it.
    let verifier = PeerVerifier::new(identity.authority(), Expected::Member).optional();
    let crypto = tls::server(&identity, verifier, &[Purpose::Join, Purpose::Control])?;
    Ok(tuning::server(crypto, tuning::control()))
}

/// The scheduler's own certificate is renewed at half its life, too.
async fn renew_own(endpoint: quinn::Endpoint, authority: Arc<Authority>) {
    loop {
        tokio::time::sleep(authority.renewed_after()).await;
        match config(&authority) {
            Ok(config) => endpoint.set_server_config(Some(config)),
            Err(error) => tracing::error!(%error, "the scheduler's own certificate could not be renewed"),
        }
    }
}

/// Serves who joins, and finds out who everyone else is.
async fn establish(
    connection: Connection,
    authority: Arc<Authority>,
    ground: Ground,
) -> Result<Option<Session>, NetError> {
    match Purpose::of(&connection) {
        Some(Purpose::Join) => return admit(&connection, &authority).await.map(|()| None),
        Some(Purpose::Control) => {}
        Some(Purpose::Bulk) | None => return Err(NetError::Refuses(Refusal::Malformed)),
    }
    let party = party_at(&connection)?;
    let streams = welcome(&connection).await?;
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(2));
    Ok(Some(Session { ours: Role::Scheduler, party, connection, streams, ground, authority: Some(authority) }))
}

/// Who the other side is. Its certificate was verified, if it showed one.
pub(in crate::net) fn party_at(connection: &Connection) -> Result<Party, NetError> {
    let chain = chain_at(connection)?;
    party_of(&chain[0]).map_err(|_| NetError::Refuses(Refusal::Stranger))
}

/// The certificates that the other side showed when it connected: its own, then those above.
fn chain_at(connection: &Connection) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.map(|chain| *chain).filter(|chain| !chain.is_empty()).ok_or(NetError::Refuses(Refusal::Stranger))
}

/// Signs a new certificate for whoever has one that is still good, on a stream of its own: a request, a certificate.
pub(super) async fn renew_theirs(connection: Connection, authority: Arc<Authority>, party: Party) {
    // The connection outlives the certificate that it began with.
    let mut good_until = None;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let renewed = within("renewing a certificate", RENEWAL_LIMIT, async {
            match good_until {
                None => check_peer(&connection, &authority)?,
                Some(end) if now() < end => {}
                Some(_) => return Err(IdentityError::from(CertificateError::Expired).into()),
            }
            let request: Vec<u8> = frame::read(&mut receive, JOIN_BYTES_MAX).await?;
            let certificate = authority.sign(&request, party, now())?.to_vec();
            frame::write(&mut send, &certificate).await
        });
        match renewed.await {
            // Who gets no certificate sees its stream end without one.
            Ok(()) => {
                good_until = Some(now() + CERTIFICATE_LIFETIME);
                drop(send.finish());
            }
            Err(error) => tracing::warn!(%party, %error, "a certificate could not be renewed"),
        }
    }
}

/// Whether the certificate that the other side showed when it connected is still good.
fn check_peer(connection: &Connection, authority: &Authority) -> Result<(), NetError> {
    let chain = chain_at(connection)?;
    authority.check_member(&chain, now()).map_err(|error| IdentityError::from(error).into())
}

/// How long renewing a certificate may take.
pub(super) const RENEWAL_LIMIT: Duration = HANDSHAKE_LIMIT;
