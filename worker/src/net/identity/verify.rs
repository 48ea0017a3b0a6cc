//! Whether a certificate is good: the one place that decides it, for TLS of every connection and for what joining
//! hands out.
//!
//! What is presented is always two certificates, the party's own and the authority's. The authority is trusted for the
//! hash of its key and nothing else; the party's must be signed with that very key, with nothing in between.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use super::{AuthorityHash, Party, Role};

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Signed by nobody we know, or not at all.
    #[error("it is not signed by this cluster's scheduler")]
    Stranger,
    /// Its time is over or has not come.
    #[error("it has expired, or is not yet in force")]
    Expired,
    /// It names no party.
    #[error("it names no party of a cluster")]
    Nameless,
    /// A party that has no business here.
    #[error("it is that of {party}, which is not who is expected here")]
    Unexpected {
        /// Who.
        party: Party,
    },
    /// Not a certificate, or none for this.
    #[error("it is malformed, or not made for this")]
    Malformed,
}

/// Who may be at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The scheduler.
    Scheduler,
    /// This very party.
    Party(Party),
    /// Any worker or client: whoever has joined.
    Member,
}

impl Expected {
    fn admits(self, party: Party) -> bool {
        match self {
            Expected::Scheduler => party == Party::SCHEDULER,
            Expected::Party(expected) => party == expected,
            Expected::Member => matches!(party.role, Role::Worker | Role::Client),
        }
    }
}

/// The one provider of cryptography: ring, TLS 1.3 alone, AES-128-GCM first, because it is the fastest.
pub(in crate::net) fn provider() -> Arc<CryptoProvider> {
    let cipher_suites =
        vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256, ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

/// The hash of the key in a certificate.
pub(super) fn key_hash(certificate: &CertificateDer<'_>) -> Result<AuthorityHash, CertificateError> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::Malformed)?;
    Ok(AuthorityHash(Sha256::digest(certificate.subject_public_key_info()).into()))
}

/// The party that a certificate names. Says nothing of whether it is good.
pub(in crate::net) fn party_of(certificate: &CertificateDer<'_>) -> Result<Party, CertificateError> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::Malformed)?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse(),
        _ => Err(CertificateError::Nameless),
    }
}

/// Who the certificate's owner is, if it is good `now` (since the Unix epoch).
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    authority: AuthorityHash,
    expected: Expected,
    usage: KeyUsage,
    now: Duration,
) -> Result<Party, CertificateError> {
    let [issuer] = above else { return Err(CertificateError::Stranger) };
    if key_hash(issuer)? != authority {
        return Err(CertificateError::Stranger);
    }
    let anchor = webpki::anchor_from_trusted_cert(issuer).map_err(|_| CertificateError::Malformed)?;
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let now = UnixTime::since_unix_epoch(now);
    EndEntityCert::try_from(certificate)
        .map_err(|_| CertificateError::Malformed)?
        .verify_for_usage(algorithms.all, &[anchor], &[], now, usage, None, None)
        .map_err(refusal)?;
    let party = party_of(certificate)?;
    if expected.admits(party) { Ok(party) } else { Err(CertificateError::Unexpected { party }) }
}

fn refusal(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => CertificateError::Expired,
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => CertificateError::Stranger,
        _ => CertificateError::Malformed,
    }
}

/// The TLS alerts that tell the other side which it was.
impl From<CertificateError> for TlsError {
    fn from(error: CertificateError) -> TlsError {
        use rustls::CertificateError as Tls;
        TlsError::InvalidCertificate(match error {
            CertificateError::Stranger => Tls::UnknownIssuer,
            CertificateError::Expired => Tls::Expired,
            CertificateError::Nameless | CertificateError::Unexpected { .. } => Tls::ApplicationVerificationFailure,
            CertificateError::Malformed => Tls::BadEncoding,
        })
    }
}

/// [`verify`] as TLS calls it, for either side of a connection.
#[derive(Debug)]
pub(in crate::net) struct PeerVerifier {
    authority: AuthorityHash,
    expected: Expected,
    /// Whether a peer may show no certificate at all: who joins has none yet.
    is_optional: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(in crate::net) fn new(authority: AuthorityHash, expected: Expected) -> PeerVerifier {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        PeerVerifier { authority, expected, is_optional: false, algorithms }
    }

    /// The same, but no certificate is no error. Whoever accepts such a connection must ask who it is.
    pub(in crate::net) fn optional(self) -> PeerVerifier {
        PeerVerifier { is_optional: true, ..self }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let now = Duration::from_secs(now.as_secs());
        match verify(certificate, above, self.authority, self.expected, usage, now) {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "a certificate is refused");
                Err(error.into())
            }
        }
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify(certificate, above, KeyUsage::server_auth(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("QUIC is TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.is_optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.verify(certificate, above, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
