//! The scheduler's certificate authority: a key in memory, gone with the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use webpki::KeyUsage;

use super::certificate::{CertificateRequest, Identity};
use super::token::Secret;
use super::verify::{key_hash, verify};
use super::{
    AuthorityHash, CERTIFICATE_LIFETIME, CLOCK_SKEW_MAX, CertificateError, Expected, IdentityError, Party,
    RENEWED_AFTER, Role, Token,
};

/// Signs the certificates of one cluster.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    hash: AuthorityHash,
    secret: Secret,
    next_id: AtomicU64,
    /// What clients' ids begin with.
    clients: u64,
    /// How long after they were made the certificates of its own process are renewed.
    renewed_after: Duration,
}

impl Authority {
    /// A new authority with a new key and a new secret.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new() -> Result<Authority, IdentityError> {
        let key = |error: rcgen::Error| IdentityError::Key(error.to_string());
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("gridloom authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(key)?).map_err(key)?;
        let hash = key_hash(issuer.as_ref().der())?;
        let secret = Secret::random().ok_or_else(|| IdentityError::Key("no randomness".to_owned()))?;
        let clients = u64::from(u32::from_le_bytes([hash.0[0], hash.0[1], hash.0[2], hash.0[3]])) << 32;
        Ok(Authority { issuer, hash, secret, next_id: AtomicU64::new(1), clients, renewed_after: RENEWED_AFTER })
    }

    /// One whose process renews its certificates so soon.
    #[cfg(test)]
    pub(in crate::net) fn renewing_after(renewed_after: Duration) -> Authority {
        Authority { renewed_after, ..Authority::new().unwrap() }
    }

    pub(in crate::net) fn renewed_after(&self) -> Duration {
        self.renewed_after
    }

    /// What lets others join.
    pub fn token(&self) -> Token {
        Token::new(self.hash, self.secret.clone())
    }

    /// The scheduler's own identity, good from `now` (since the Unix epoch).
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn scheduler(&self, now: Duration) -> Result<Identity, IdentityError> {
        self.identity(Party::SCHEDULER, now)
    }

    /// A key and a certificate made here, for a party of this process.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn identity(&self, party: Party, now: Duration) -> Result<Identity, IdentityError> {
        let request = CertificateRequest::new()?;
        let certificate = self.sign(request.der(), party, now)?;
        let identity = request.granted(certificate, self.certificate(), self.hash, party, now);
        Ok(identity.renewed_after(self.renewed_after))
    }

    /// A party that never was before. A client names its arrays after itself, and one program may be a client of
    /// several clusters: so the ids of clients begin with what only this authority has.
    pub fn new_party(&self, role: Role) -> Party {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        match role {
            Role::Client => Party { role, id: self.clients | id },
            Role::Scheduler | Role::Worker => Party { role, id },
        }
    }

    /// A certificate for the key that signed `request`. Of the request nothing but the key is taken: what the
    /// certificate says of its owner is said here.
    pub(in crate::net) fn sign(
        &self,
        request: &[u8],
        party: Party,
        now: Duration,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let refused = |error: rcgen::Error| IdentityError::Request(error.to_string());
        let der = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&der).map_err(refused)?;
        let epoch = date_time_ymd(1970, 1, 1);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&party.to_string());
        params.subject_alt_names = vec![SanType::URI(party.name().try_into().map_err(refused)?)];
        params.not_before = epoch + now.saturating_sub(CLOCK_SKEW_MAX);
        params.not_after = epoch + now + CERTIFICATE_LIFETIME;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match party.role {
            Role::Scheduler => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Role::Worker => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        request.params = params;
        Ok(request.signed_by(&self.issuer).map_err(refused)?.der().clone())
    }

    /// Whether a worker's or client's certificate, with those above it, is good at `now`.
    pub(in crate::net) fn check_member(
        &self,
        chain: &[CertificateDer<'_>],
        now: Duration,
    ) -> Result<(), CertificateError> {
        let [own, above @ ..] = chain else { return Err(CertificateError::Stranger) };
        verify(own, above, self.hash, Expected::Member, KeyUsage::client_auth(), now).map(drop)
    }

    /// Its own certificate, which everyone shows beside theirs.
    pub(in crate::net) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.as_ref().der().clone()
    }

    pub(in crate::net) fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.hash)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_good_for_as_long_as_its_certificate() {
        let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        let begin = Duration::from_secs(2_000_000_000);
        let member = authority.identity(authority.new_party(Role::Worker), begin).unwrap().chain();
        assert_eq!(authority.check_member(&member, begin), Ok(()));
        let end = begin + CERTIFICATE_LIFETIME + Duration::from_secs(1);
        assert_eq!(authority.check_member(&member, end), Err(CertificateError::Expired));
        assert_eq!(other.check_member(&member, begin), Err(CertificateError::Stranger));
        let scheduler = authority.scheduler(begin).unwrap().chain();
        assert!(authority.check_member(&scheduler, begin).is_err());
    }
}
