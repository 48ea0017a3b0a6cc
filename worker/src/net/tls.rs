//! The TLS that all connections share: version 1.3, one provider, no tickets (a certificate is shown every time, so
//! that an expired one is found out), and our own verifier on both sides.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::{ClientConfig, ServerConfig, version};

use super::error::NetError;
use super::identity::{Identity, PeerVerifier, provider};

/// What a connection is for, as ALPN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Getting a certificate.
    Join,
    /// Messages to and from the scheduler.
    Control,
    /// Blocks.
    Bulk,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::Join, Purpose::Control, Purpose::Bulk];

    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Purpose::Join => b"gridloom-join",
            Purpose::Control => b"gridloom-control",
            Purpose::Bulk => b"gridloom-bulk",
        }
    }

    /// What the two sides have agreed on.
    pub(super) fn of(connection: &quinn::Connection) -> Option<Purpose> {
        let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
        Purpose::ALL.into_iter().find(|purpose| Some(purpose.name()) == data.protocol.as_deref())
    }
}

/// The side that is dialled.
pub(super) fn server(
    identity: &Identity,
    verifier: PeerVerifier,
    purposes: &[Purpose],
) -> Result<QuicServerConfig, NetError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13]);
    let builder = builder.map_err(unusable)?.with_client_cert_verifier(Arc::new(verifier));
    let mut config = builder.with_single_cert(identity.chain(), identity.key()).map_err(unusable)?;
    config.alpn_protocols = purposes.iter().map(|purpose| purpose.name().to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.try_into().map_err(|_| unusable(rustls::Error::General("no cipher suite for QUIC".to_owned())))
}

/// The side that dials; without an identity it shows no certificate.
pub(super) fn client(
    identity: Option<&Identity>,
    verifier: PeerVerifier,
    purpose: Purpose,
) -> Result<QuicClientConfig, NetError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13]);
    let builder = builder.map_err(unusable)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()).map_err(unusable)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![purpose.name().to_vec()];
    config.resumption = Resumption::disabled();
    config.try_into().map_err(|_| unusable(rustls::Error::General("no cipher suite for QUIC".to_owned())))
}

fn unusable(error: rustls::Error) -> NetError {
    NetError::Quic { code: 0, reason: error.to_string() }
}
