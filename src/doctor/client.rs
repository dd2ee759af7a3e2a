//! The client's side: bytes as they stand, over TCP or TLS, to one address and no other. It follows no redirect and
//! keeps no connection.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::Head;
use crate::fault::Fault;

/// How long the proxy may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom to believe that the proxy is who it says.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The authorities that browsers know.
    Public,
    /// The authorities in this PEM file, and no other.
    File(PathBuf),
    /// Anybody: for a self-signed certificate.
    Anybody,
}

/// The proxy's address.
pub struct Door {
    /// `host:port`.
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Door {
    /// A door at `address` (`host:port`); over TLS to `server_name` where there is one.
    ///
    /// # Errors
    ///
    /// A file of authorities that can't be read, or a name that no certificate can carry.
    pub fn new(address: String, server_name: Option<&str>, trust: &Trust) -> Result<Door, Fault> {
        let Some(name) = server_name else { return Ok(Door { address, tls: None }) };
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Fault::new(format!("`{name}` is no name that a certificate can carry")))?;
        Ok(Door { address, tls: Some((TlsConnector::from(Arc::new(tls_config(trust)?)), name)) })
    }

    /// Sends `bytes` and reads the head of the answer.
    ///
    /// # Errors
    ///
    /// What the connection or TLS says; `TimedOut` after 20 seconds; `UnexpectedEof` where no answer comes.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<Head> {
        let exchange = async {
            let tcp = TcpStream::connect(&self.address).await?;
            match &self.tls {
                Some((connector, name)) => speak(connector.connect(name.clone(), tcp).await?, bytes).await,
                None => speak(tcp, bytes).await,
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> io::Result<Head> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = Head::read(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        // An interim answer (RFC 9110 §15.2); 101 is a last one.
        if !head.second_word().starts_with('1') || head.second_word() == "101" {
            return Ok(head);
        }
    }
}

fn tls_config(trust: &Trust) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(error.to_string()))?;
    let config = match trust {
        Trust::Public => {
            let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::File(path) => {
            let bad = |error: String| Fault::new(format!("`{}`: {error}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("no certificate in it".to_owned()).help("It must hold certificates in PEM."));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth()
        }
    };
    Ok(config)
}

/// Accepts every certificate: what is sent here is made up, and holds nobody's secret.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
