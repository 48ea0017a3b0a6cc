//! How workers and clients reach the scheduler.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection};
use rustls::pki_types::CertificateDer;

use super::server::RENEWAL_LIMIT;
use super::{Control, Ground, Session};
use crate::net::bulk::Bulk;
use crate::net::endpoint::{Endpoint, dial, within};
use crate::net::error::{NetError, Refusal};
use crate::net::hello::greet;
use crate::net::identity::{CertificateRequest, Expected, Identity, Party, PeerVerifier, RENEWED_AFTER, Role, Token};
use crate::net::join::{JOIN_BYTES_MAX, join, now};
use crate::net::tls::{self, Purpose};
use crate::net::{HANDSHAKE_LIMIT, PACKET_BYTES_ETHERNET, SERVER_NAME, frame, tuning};

/// How soon one who was told that there are too many tries again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How soon a renewal that failed is tried again: half a day is left for it.
pub(in crate::net) const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Dials the scheduler. Its methods wait, and so must not be called on the network's own threads (they panic there).
pub struct Dialer {
    endpoint: Endpoint,
    /// How long after it was given an identity it renews it.
    renewed_after: Duration,
}

impl Dialer {
    /// Opens a socket.
    ///
    /// # Errors
    /// If the system has none.
    pub fn new() -> Result<Dialer, NetError> {
        let config = tuning::endpoint(PACKET_BYTES_ETHERNET);
        let endpoint = Endpoint::new("net-control", 1, None, config, None)?;
        Ok(Dialer { endpoint, renewed_after: RENEWED_AFTER })
    }

    /// One that renews its identities so soon.
    #[cfg(test)]
    pub(in crate::net) fn renewing_after(renewed_after: Duration) -> Dialer {
        Dialer { renewed_after, ..Dialer::new().unwrap() }
    }

    /// Shows that we have a token, and gets an identity for it.
    ///
    /// # Errors
    /// [`NetError::WrongToken`] if it is of another scheduler, [`NetError::Refused`] if the secret is wrong or too
    /// many come at once, [`NetError::Timeout`] or [`NetError::Lost`] if nobody answers.
    pub fn join(&self, scheduler: &str, token: &Token, role: Role) -> Result<Identity, NetError> {
        let verifier = || PeerVerifier::new(token.authority, Expected::Scheduler);
        let joined = self.endpoint.wait("joining", HANDSHAKE_LIMIT, async {
            let config = config(tls::client(None, verifier(), Purpose::Join)?);
            self.dial(scheduler, config, async |connection| join(&connection, token, role).await).await
        });
        joined.map(|identity| identity.renewed_after(self.renewed_after)).map_err(|error| match error {
            NetError::Refuses(Refusal::Stranger) => NetError::WrongToken,
            other => other,
        })
    }

    /// Connects as who we are.
    ///
    /// # Errors
    /// If the scheduler refuses us or is not who it should be, or if nobody answers.
    pub fn connect(&self, scheduler: &str, identity: &Identity) -> Result<Session, NetError> {
        self.endpoint.wait("connecting", HANDSHAKE_LIMIT, async {
            let verifier = PeerVerifier::new(identity.authority(), Expected::Scheduler);
            let config = config(tls::client(Some(identity), verifier, Purpose::Control)?);
            let greeted = async |connection: Connection| Ok((greet(&connection).await?, connection));
            let (streams, connection) = self.dial(scheduler, config, greeted).await?;
            let (ours, party, ground) = (identity.party().role, Party::SCHEDULER, Ground::of(&self.endpoint));
            Ok(Session { ours, party, connection, streams, ground, authority: None })
        })
    }

    /// Gets a new certificate for a new key while the old one is still good.
    ///
    /// # Errors
    /// If the scheduler does not answer, or not with a certificate for us.
    pub fn renew<Out>(&self, control: &Control<Out>, identity: &Identity) -> Result<Identity, NetError> {
        self.endpoint.wait("renewing a certificate", RENEWAL_LIMIT, renewed(control.connection(), identity))
    }

    /// Renews the certificate with which `bulk` dials and is dialled at half its life, again and again, for as long as
    /// the connection to the scheduler lasts.
    pub fn keep_renewed<Out>(&self, control: &Control<Out>, mut identity: Arc<Identity>, bulk: &Arc<Bulk>) {
        let (connection, bulk) = (control.connection().clone(), Arc::downgrade(bulk));
        self.endpoint.runtime().spawn(async move {
            let renewing = async {
                loop {
                    tokio::time::sleep(identity.renewal_due().saturating_sub(now())).await;
                    let renewal = renewed(&connection, &identity);
                    let renewal = within("renewing a certificate", RENEWAL_LIMIT, renewal).await.map(Arc::new);
                    let used =
                        bulk.upgrade().map(|bulk| renewal.and_then(|new| bulk.renewed(new.clone()).map(|()| new)));
                    match used {
                        None => return,
                        Some(Ok(new)) => identity = new,
                        Some(Err(error)) => {
                            tracing::warn!(%error, "our certificate could not be renewed");
                            tokio::time::sleep(RENEWAL_PAUSE).await;
                        }
                    }
                }
            };
            tokio::select! {
                _ = connection.closed() => {}
                () = renewing => {}
            }
        });
    }

    /// Dials, and speaks as `greeted` does; again for as long as the other side has too many at once.
    async fn dial<T, F>(
        &self,
        address: &str,
        config: ClientConfig,
        greeted: impl Fn(Connection) -> F,
    ) -> Result<T, NetError>
    where
        F: Future<Output = Result<T, NetError>>,
    {
        let (config, greeted) = (&config, &greeted);
        let attempt = |address| async move {
            loop {
                let connecting = self.endpoint.quinn().connect_with(config.clone(), address, SERVER_NAME)?;
                let result = match connecting.await {
                    Ok(connection) => greeted(connection).await,
                    Err(error) => Err(error.into()),
                };
                if result.as_ref().err() != Some(&NetError::Refused(Refusal::Busy)) {
                    return result;
                }
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        };
        dial(address, "connecting to the scheduler", HANDSHAKE_LIMIT, attempt).await
    }
}

/// A new certificate for a new key, asked for on a connection that stands.
async fn renewed(connection: &Connection, identity: &Identity) -> Result<Identity, NetError> {
    let asked = CertificateRequest::new()?;
    let (mut send, mut receive) = connection.open_bi().await?;
    frame::write(&mut send, &asked.der().to_vec()).await?;
    let certificate: Vec<u8> = frame::read(&mut receive, JOIN_BYTES_MAX).await?;
    let (certificate, role) = (CertificateDer::from(certificate), identity.party().role);
    let next = asked.answered(certificate, identity.issuer(), identity.authority(), role, now())?;
    Ok(identity.followed_by(next))
}

fn config(crypto: quinn::crypto::rustls::QuicClientConfig) -> ClientConfig {
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(tuning::control()));
    config
}
