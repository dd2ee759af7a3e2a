//! Whose TLS certificate is believed where this program is the client: towards Redis, towards a proxy under
//! examination, towards its own gate.
//!
//! It reads the file of authorities that it is given, and opens no connection. Where it is the server, `server` says
//! whose certificates are taken.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};

use crate::fault::Fault;

/// Whom to believe that the other end is who it says.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whom the authorities vouch for that browsers know.
    Public,
    /// Whom the authorities in this PEM file vouch for, and no other.
    File(PathBuf),
    /// Who shows this very certificate, whatever name it carries.
    Only(CertificateDer<'static>),
    /// Anybody: whoever is in between can read and forge what is said.
    Anybody,
}

impl Trust {
    /// The client's side of TLS in these versions, with the cryptography of `ring`. What it shows of itself is left to
    /// the caller.
    ///
    /// # Errors
    ///
    /// A file of authorities that can't be read, or holds none.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| Fault::new(format!("TLS can't be set up: {error}")))?;
        let unvouched = |only| Arc::new(Unvouched { only, algorithms });
        Ok(match self {
            Trust::Public => {
                builder.with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
            }
            Trust::File(path) => builder.with_root_certificates(authorities(path)?),
            Trust::Only(certificate) => {
                builder.dangerous().with_custom_certificate_verifier(unvouched(Some(certificate.clone())))
            }
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(unvouched(None)),
        })
    }
}

/// The name or address that the other end's certificate must be for; IPv6 with or without brackets.
///
/// # Errors
///
/// What no certificate can be for.
pub fn server_name(host: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| Fault::new(format!("`{host}` is not a name that a certificate can have")))
}

fn authorities(path: &Path) -> Result<RootCertStore, Fault> {
    let unusable = |error: &dyn std::fmt::Display| {
        Fault::new(format!("CA file `{}`: {error}", path.display())).help("It must hold certificates in PEM.")
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"it holds no certificate"));
    }
    Ok(roots)
}

/// Asks no authority: takes `only` this certificate, or any. The other end must hold its key all the same.
#[derive(Debug)]
struct Unvouched {
    only: Option<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Unvouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.only {
            Some(only) if only != end_entity => {
                Err(rustls::Error::General("the server shows another certificate than the configured one".to_owned()))
            }
            Some(_) | None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{CertificateDer, ServerCertVerifier, Trust, UnixTime, Unvouched, server_name};
    use std::time::Duration;

    #[test]
    fn one_certificate_is_taken_and_no_other() {
        let (own, other) = (CertificateDer::from(vec![1]), CertificateDer::from(vec![2]));
        let name = server_name("localhost").unwrap();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let takes = |only: Option<&CertificateDer<'static>>, shown: &CertificateDer<'_>| {
            let verifier = Unvouched { only: only.cloned(), algorithms };
            verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::since_unix_epoch(Duration::ZERO)).is_ok()
        };
        assert!(takes(Some(&own), &own) && !takes(Some(&own), &other));
        assert!(takes(None, &own) && takes(None, &other));
    }

    #[test]
    fn a_file_without_authorities_is_told_with_its_name() {
        for (path, why) in [("/dev/null", "it holds no certificate"), ("/nowhere/ca.pem", "No such file")] {
            let fault = Trust::File(path.into()).client(rustls::DEFAULT_VERSIONS).map(drop).unwrap_err();
            assert!(fault.message.contains(path) && fault.message.contains(why), "{fault}");
        }
    }

    #[test]
    fn addresses_are_names_too() {
        for host in ["app.example.com", "127.0.0.1", "::1", "[::1]"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        assert!(server_name("a b").unwrap_err().message.contains("`a b`"));
    }
}
