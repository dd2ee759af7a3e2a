//! Certificates for our own listeners, by rustls with ring.
//!
//! The files are watched: a renewed certificate is shown to those who connect from then on, and nobody who
//! is connected notices. Files that can't be used change nothing but the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsSettings;
use crate::fault::Fault;
use crate::watch::{POLL, Watch};

/// The server side of TLS of one listener, as its files last were when they could be used.
#[derive(Debug)]
pub struct Certificates {
    settings: TlsSettings,
    current: RwLock<Arc<ServerConfig>>,
    watch: Mutex<Watch>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file that can't be read or holds nothing of the kind, or a key that is not the certificate's.
    pub fn load(settings: TlsSettings) -> Result<Arc<Certificates>, Fault> {
        let mut files = vec![settings.certificate.clone(), settings.key.clone()];
        files.extend(settings.client_authorities.iter().cloned());
        let watch = Mutex::new(Watch::new(files));
        let current = RwLock::new(server_config(&settings)?);
        Ok(Arc::new(Certificates { settings, current, watch }))
    }

    /// What a connection that is accepted now is to use.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over changes to the files of `all` from now on, in a thread that ends with the last of them.
    ///
    /// # Errors
    ///
    /// The thread can't be started.
    pub fn watch(all: &[Arc<Certificates>]) -> std::io::Result<()> {
        let mut all: Vec<Weak<Certificates>> = all.iter().map(Arc::downgrade).collect();
        if all.is_empty() {
            return Ok(());
        }
        std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            while !all.is_empty() {
                std::thread::sleep(POLL);
                all.retain(|certificates| match certificates.upgrade() {
                    Some(certificates) => {
                        certificates.poll();
                        true
                    }
                    None => false,
                });
            }
        })?;
        Ok(())
    }

    /// Looks once whether the files have changed, and takes over what they hold.
    fn poll(&self) {
        if !self.watch.lock().unwrap_or_else(PoisonError::into_inner).has_changed() {
            return;
        }
        let certificate = self.settings.certificate.display();
        match server_config(&self.settings) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!(file = %certificate, "the certificate changed and was taken over");
            }
            Err(fault) => {
                tracing::error!(file = %certificate, error = %fault, "the certificate changed but can't be used; the old one stays");
            }
        }
    }
}

/// Builds the server side of TLS from a PEM chain (leaf first), its key, and the authorities whose
/// certificates clients must show, if there are any (RFC 8446 section 4.3.2).
fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, Fault> {
    let TlsSettings { certificate, key, client_authorities } = settings;
    let chain = certificates("certificate", certificate)?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(format!("TLS can't be set up: {error}")))?;
    let builder = if client_authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(authorities(client_authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| Fault::new(format!("client certificates can't be checked: {error}")))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_single_cert(chain, private_key).map_err(|error| {
        Fault::new(format!(
            "the certificate `{}` and the key `{}` don't go together: {error}",
            certificate.display(),
            key.display()
        ))
        .help("Give the chain and the key that it was made for.")
    })?;
    if !client_authorities.is_empty() {
        // A resumed session skips the look at the client's certificate, which may have expired since (RFC 8446 §2.2).
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn authorities(files: &[PathBuf]) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for file in files {
        for certificate in certificates("certificate of an authority", file)? {
            roots.add(certificate).map_err(|error| unusable("certificate of an authority", file, &error))?;
        }
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(what, file, &error))?;
    if found.is_empty() {
        return Err(unusable(what, file, &"it holds no certificate"));
    }
    Ok(found)
}

fn unusable(what: &str, file: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(format!("the {what} `{}` can't be used: {error}", file.display()))
        .help("Give the path of a PEM file that this user may read.")
}
