//! A certification authority that lives as long as one test, and a certificate for every host of example.com.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub struct Certificates {
    /// PEM: the certificate, its key, and both in one file.
    pub chain: PathBuf,
    pub key: PathBuf,
    pub both: PathBuf,
    /// PEM: the authority.
    pub authority: PathBuf,
    /// A client that trusts this authority and no other.
    pub client: Arc<ClientConfig>,
    /// One that shows a certificate of this authority besides.
    pub proxy: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes them in `folder`.
    #[track_caller]
    pub fn new(folder: &Path) -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("generate a key");
        let authority = params.self_signed(&key).expect("sign itself");
        let issuer = Issuer::new(params, key);

        let leaf_key = KeyPair::generate().expect("generate a key");
        let names = ["example.com", "*.example.com"].map(str::to_owned);
        let leaf = CertificateParams::new(names).expect("valid names").signed_by(&leaf_key, &issuer).expect("sign");

        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots);
        let own_key = KeyPair::generate().expect("generate a key");
        let own = CertificateParams::new(["proxy".to_owned()]).expect("valid names");
        let own: CertificateDer<'static> = own.signed_by(&own_key, &issuer).expect("sign").der().clone();
        let own_key = PrivateKeyDer::try_from(own_key.serialize_der()).expect("a key");
        let proxy = client.clone().with_client_auth_cert(vec![own], own_key).expect("a key and its certificate");

        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("write a certificate");
            path
        };
        Certificates {
            chain: write("chain.pem", leaf.pem()),
            key: write("key.pem", leaf_key.serialize_pem()),
            both: write("both.pem", leaf.pem() + &leaf_key.serialize_pem()),
            authority: write("authority.pem", authority.pem()),
            client: Arc::new(client.with_no_client_auth()),
            proxy: Arc::new(proxy),
        }
    }
}
