//! Joining: how a process that has a token gets a certificate.
//!
//! ```text
//! joiner                                            scheduler
//!   TLS: the scheduler shows its certificate, which must be signed by the authority that the token pins
//!   hello                                    ->
//!                                            <-     hello
//!   role, certificate request, proof         ->
//!                                            <-     certificate, proof
//! ```
//! A proof is an HMAC under the token's secret over what only these two ends of this very connection can know (the TLS
//! exporter, RFC 8446 7.5), over which side speaks, and over what it says. The secret never travels, and a proof is
//! worth nothing on any other connection. All this is one small stream that must be done within a few seconds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::Connection;
use ring::hmac;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::error::{NetError, Refusal, goodbye};
use super::frame;
use super::hello::{greet, welcome};
use super::identity::{Authority, CertificateRequest, Identity, Role, Secret, Token};

/// The longest message of joining.
pub(super) const JOIN_BYTES_MAX: usize = 4096;

/// What the exporter is called; registered nowhere, as RFC 5705 4 allows for names like this.
const EXPORTER: &[u8] = b"EXPORTER-gridloom-join";

/// From who joins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JoinRequest {
    /// What it wants to be.
    pub(super) role: Role,
    /// The key that it wants certified.
    pub(super) request: Vec<u8>,
    /// That it knows the secret.
    pub(super) proof: [u8; 32],
}

/// To who joins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JoinReply {
    pub(super) certificate: Vec<u8>,
    /// The authority's.
    pub(super) issuer: Vec<u8>,
    /// That the scheduler knows the secret, too.
    pub(super) proof: [u8; 32],
}

/// Which side proves.
#[derive(Clone, Copy)]
enum Side {
    Joiner,
    Scheduler,
}

/// What is proved: that who knows the secret says these words on this connection.
struct Statement {
    key: hmac::Key,
    text: Vec<u8>,
}

impl Statement {
    fn new(secret: &Secret, side: Side, exporter: &[u8; 32], words: &[&[u8]]) -> Statement {
        let mut text = match side {
            Side::Joiner => b"gridloom joiner".to_vec(),
            Side::Scheduler => b"gridloom scheduler".to_vec(),
        };
        text.extend_from_slice(exporter);
        for word in words {
            // Lengths first, so that no two lists of words have one text.
            text.extend_from_slice(&(word.len() as u64).to_le_bytes());
            text.extend_from_slice(word);
        }
        Statement { key: hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()), text }
    }

    fn prove(&self) -> [u8; 32] {
        let tag = hmac::sign(&self.key, &self.text);
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Takes the same time wherever the difference is.
    fn check(&self, proof: &[u8; 32]) -> Result<(), NetError> {
        hmac::verify(&self.key, &self.text, proof).map_err(|_| NetError::Refuses(Refusal::WrongSecret))
    }
}

/// What a joiner proves: the secret, its role and its key.
pub(super) fn joiner_proof(
    secret: &Secret,
    connection: &Connection,
    role: Role,
    request: &[u8],
) -> Result<[u8; 32], NetError> {
    Ok(joiner_statement(secret, connection, role, request)?.prove())
}

fn joiner_statement(
    secret: &Secret,
    connection: &Connection,
    role: Role,
    request: &[u8],
) -> Result<Statement, NetError> {
    let role = role.to_string();
    Ok(Statement::new(secret, Side::Joiner, &exporter(connection)?, &[role.as_bytes(), request]))
}

fn exporter(connection: &Connection) -> Result<[u8; 32], NetError> {
    let mut bytes = [0; 32];
    match connection.export_keying_material(&mut bytes, EXPORTER, b"") {
        Ok(()) => Ok(bytes),
        Err(_) => Err(NetError::Quic { code: 0, reason: "no keying material could be exported".to_owned() }),
    }
}

/// The joiner's side.
pub(super) async fn join(connection: &Connection, token: &Token, role: Role) -> Result<Identity, NetError> {
    let (mut send, mut receive) = greet(connection).await?;
    let asked = CertificateRequest::new()?;
    let request = asked.der().to_vec();
    let proof = joiner_proof(&token.secret, connection, role, &request)?;
    frame::write(&mut send, &JoinRequest { role, request, proof }).await?;
    let reply: JoinReply = frame::read(&mut receive, JOIN_BYTES_MAX).await?;
    let words = [&reply.certificate[..], &reply.issuer[..]];
    Statement::new(&token.secret, Side::Scheduler, &exporter(connection)?, &words).check(&reply.proof)?;
    goodbye(connection);
    let (certificate, issuer) = (CertificateDer::from(reply.certificate), CertificateDer::from(reply.issuer));
    Ok(asked.answered(certificate, issuer, token.authority, role, now())?)
}

/// The scheduler's side. Returns when the joiner has what it wanted.
pub(super) async fn admit(connection: &Connection, authority: &Arc<Authority>) -> Result<(), NetError> {
    let (mut send, mut receive) = welcome(connection).await?;
    let JoinRequest { role, request, proof } = frame::read(&mut receive, JOIN_BYTES_MAX).await?;
    joiner_statement(authority.secret(), connection, role, &request)?.check(&proof)?;
    if role == Role::Scheduler {
        return Err(NetError::Refuses(Refusal::Unexpected));
    }
    let party = authority.new_party(role);
    let certificate = authority.sign(&request, party, now())?.to_vec();
    let issuer = authority.certificate().to_vec();
    let words = [&certificate[..], &issuer[..]];
    let proof = Statement::new(authority.secret(), Side::Scheduler, &exporter(connection)?, &words).prove();
    frame::write(&mut send, &JoinReply { certificate, issuer, proof }).await?;
    tracing::info!(%party, address = %connection.remote_address(), "joined");
    // The joiner closes the connection when it has read the reply.
    connection.closed().await;
    Ok(())
}

/// Since the Unix epoch.
pub(super) fn now() -> Duration {
    // A clock before 1970 makes every certificate invalid, which is what it says then.
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}
