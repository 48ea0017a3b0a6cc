//! What a party has: a key of its own, and the certificate that says who it is.

use std::fmt;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use webpki::{EndEntityCert, KeyUsage};

use super::verify::{party_of, verify};
use super::{AuthorityHash, CertificateError, Expected, IdentityError, Party, RENEWED_AFTER, Role};

/// A new key, and a request to certify it. The key never leaves the process.
pub struct CertificateRequest {
    key: KeyPair,
    der: Vec<u8>,
}

impl CertificateRequest {
    /// Makes a key.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new() -> Result<CertificateRequest, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Key(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let der = params.serialize_request(&key).map_err(failed)?.der().to_vec();
        Ok(CertificateRequest { key, der })
    }

    /// The request, to be sent.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The identity that an answer makes of this, at `now` (since the Unix epoch).
    ///
    /// # Errors
    /// If the certificate is not good, not for this key, or not for a party of this role.
    pub(in crate::net) fn answered(
        self,
        certificate: CertificateDer<'static>,
        issuer: CertificateDer<'static>,
        authority: AuthorityHash,
        role: Role,
        now: Duration,
    ) -> Result<Identity, IdentityError> {
        let party = party_of(&certificate)?;
        if party.role != role {
            return Err(CertificateError::Unexpected { party }.into());
        }
        let key = EndEntityCert::try_from(&certificate).map_err(|_| CertificateError::Malformed)?;
        if key.subject_public_key_info().as_ref() != self.key.subject_public_key_info() {
            return Err(IdentityError::OtherKey);
        }
        let usage = KeyUsage::client_auth();
        verify(&certificate, std::slice::from_ref(&issuer), authority, Expected::Party(party), usage, now)?;
        Ok(self.granted(certificate, issuer, authority, party, now))
    }

    pub(super) fn granted(
        self,
        certificate: CertificateDer<'static>,
        issuer: CertificateDer<'static>,
        authority: AuthorityHash,
        party: Party,
        now: Duration,
    ) -> Identity {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Identity { party, authority, chain: [certificate, issuer], key, granted: now, renewed_after: RENEWED_AFTER }
    }
}

/// Who a process is, and the means to show it.
pub struct Identity {
    party: Party,
    authority: AuthorityHash,
    /// Its own certificate and its issuer's.
    chain: [CertificateDer<'static>; 2],
    key: PrivatePkcs8KeyDer<'static>,
    granted: Duration,
    /// How long after that it is to be renewed.
    renewed_after: Duration,
}

impl Identity {
    /// Who.
    pub fn party(&self) -> Party {
        self.party
    }

    /// By whom it was certified: the only one it trusts.
    pub fn authority(&self) -> AuthorityHash {
        self.authority
    }

    /// From when on (since the Unix epoch, by the clock of this process) it should be renewed: at half its life.
    pub fn renewal_due(&self) -> Duration {
        self.granted + self.renewed_after
    }

    /// The same, to be renewed so long after it was made; then the next one is, too.
    pub(in crate::net) fn renewed_after(self, renewed_after: Duration) -> Identity {
        Identity { renewed_after, ..self }
    }

    /// One that is renewed as this one is.
    pub(in crate::net) fn followed_by(&self, next: Identity) -> Identity {
        next.renewed_after(self.renewed_after)
    }

    pub(in crate::net) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.to_vec()
    }

    pub(in crate::net) fn issuer(&self) -> CertificateDer<'static> {
        self.chain[1].clone()
    }

    pub(in crate::net) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} of {})", self.party, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Authority;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const NOW: Duration = Duration::from_secs(2_000_000_000);

    fn identity(authority: &Authority, role: Role) -> Identity {
        authority.identity(authority.new_party(role), NOW).unwrap()
    }

    #[track_caller]
    fn check(identity: &Identity, expected: Expected, now: Duration, result: Result<Party, CertificateError>) {
        let [own, issuer] = &identity.chain;
        let usage = match identity.party.role {
            Role::Scheduler => KeyUsage::server_auth(),
            _ => KeyUsage::client_auth(),
        };
        let found = verify(own, std::slice::from_ref(issuer), identity.authority, expected, usage, now);
        assert_eq!(found, result);
    }

    #[test]
    fn a_certificate_is_good_for_a_day_and_renewed_at_noon() {
        let authority = Authority::new().unwrap();
        let worker = identity(&authority, Role::Worker);
        assert_eq!(worker.renewal_due(), NOW + DAY / 2);
        check(&worker, Expected::Member, NOW, Ok(worker.party));
        check(&worker, Expected::Member, worker.renewal_due(), Ok(worker.party));
        check(&worker, Expected::Member, NOW - Duration::from_secs(9 * 60), Ok(worker.party));
        check(&worker, Expected::Member, NOW + DAY + Duration::from_secs(1), Err(CertificateError::Expired));
        check(&worker, Expected::Member, NOW - Duration::from_secs(11 * 60), Err(CertificateError::Expired));
    }

    #[test]
    fn only_the_expected_role_and_id_will_do() {
        let authority = Authority::new().unwrap();
        let (worker, other) = (identity(&authority, Role::Worker), identity(&authority, Role::Worker));
        let scheduler = authority.scheduler(NOW).unwrap();
        assert!(worker.party.id < other.party.id);
        check(&scheduler, Expected::Scheduler, NOW, Ok(Party::SCHEDULER));
        let unexpected = |party| Err(CertificateError::Unexpected { party });
        check(&worker, Expected::Scheduler, NOW, unexpected(worker.party));
        check(&scheduler, Expected::Member, NOW, unexpected(Party::SCHEDULER));
        check(&other, Expected::Party(worker.party), NOW, unexpected(other.party));
        check(&worker, Expected::Party(worker.party), NOW, Ok(worker.party));
    }

    #[test]
    fn only_the_pinned_authority_will_do() {
        let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
        let stranger = identity(&theirs, Role::Worker);
        let trusts_ours = |chain: &[CertificateDer<'_>]| {
            let usage = KeyUsage::client_auth();
            verify(&stranger.chain[0], chain, ours.token().authority(), Expected::Member, usage, NOW)
        };
        assert_eq!(trusts_ours(&[theirs.certificate()]), Err(CertificateError::Stranger));
        // The right authority's certificate is public: showing it does not help.
        assert_eq!(trusts_ours(&[ours.certificate()]), Err(CertificateError::Stranger));
        assert_eq!(trusts_ours(&[]), Err(CertificateError::Stranger));
        // Nor may a party certify others.
        assert_eq!(trusts_ours(&[identity(&ours, Role::Worker).chain[0].clone()]), Err(CertificateError::Stranger));
    }

    #[test]
    fn a_request_proves_its_key_and_takes_only_what_it_asked_for() {
        let authority = Authority::new().unwrap();
        let party = authority.new_party(Role::Worker);
        let (asked, other) = (CertificateRequest::new().unwrap(), CertificateRequest::new().unwrap());
        let mut spoilt = asked.der().to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        assert!(matches!(authority.sign(&spoilt, party, NOW), Err(IdentityError::Request(_))));
        assert!(matches!(authority.sign(&[], party, NOW), Err(IdentityError::Request(_))));
        let certificate = authority.sign(other.der(), party, NOW).unwrap();
        let hash = authority.token().authority();
        let answered = asked.answered(certificate.clone(), authority.certificate(), hash, Role::Worker, NOW);
        assert_eq!(answered.err(), Some(IdentityError::OtherKey));
        let answered = other.answered(certificate, authority.certificate(), hash, Role::Client, NOW);
        assert_eq!(answered.err(), Some(CertificateError::Unexpected { party }.into()));
    }
}
