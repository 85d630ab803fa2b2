//! Reasons why a TLS handshake failed, and how to repair them.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::error::RedisError;

/// Turns a failed TLS handshake with the server at this address into its error; `None` for other errors.
pub(super) fn failure(error: &redis::RedisError, server: &str) -> Option<RedisError> {
    let tls = find(error)?;
    let server = server.to_owned();
    Some(match tls {
        // The answer was not TLS at all.
        TlsError::InvalidMessage(_) => RedisError::SpeaksNoTls { server },
        _ => RedisError::Tls { server, reason: reason(tls), source: Arc::new(tls.clone()) },
    })
}

/// Finds the TLS error: redis-rs and the standard library wrap it, each in its own way.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return find(&**shared);
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find(inner);
    }
    find(error.source()?)
}

fn reason(error: &TlsError) -> String {
    use CertificateError as Certificate;
    let fixed = match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer => {
                "its certificate is signed by an authority that this machine does not trust: add the certificate of the \
                 authority to the trusted ones of the system, or name its file in SSL_CERT_FILE"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "its certificate has expired: renew it, or set the clock of this machine right"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet: set the clock of this machine right, or that of the authority"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                return format!(
                    "{error}: write a name of the certificate in the URL (the nodes of a cluster are named by \
                     cluster-announce-hostname, a master by its Sentinels)"
                );
            }
            Certificate::Revoked => "its certificate was revoked: give it a new one",
            _ => return format!("its certificate cannot be used ({error}): give it another one"),
        },
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure,
        ) => {
            return format!(
                "it ended the handshake ({error}): perhaps it wants a client certificate, which cannot be given here; \
                 set tls-auth-clients to no, and let a password authenticate"
            );
        }
        TlsError::PeerIncompatible(_)
        | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            return format!(
                "it has no version of TLS in common with us, which are 1.2 and 1.3 ({error})"
            );
        }
        _ => return format!("the handshake failed ({error})"),
    };
    fixed.to_owned()
}
