//! What is stored: sealed with AES-256-GCM under a key of each session's own that is derived from `session.secret`
//! (HKDF, RFC 5869), and bound to the name it is kept under.
//!
//! Who reads the store learns nothing, and who writes to it can make no session up and give none to another cookie
//! (A81), but can take one away or put back what it once was, until it expires. What can't be opened is no session.

use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, hkdf, hmac};

use super::super::model::{Record, Session};
use super::super::site::CookieDomain;
use super::super::store::{Account, Key, StoreUnavailable};
use crate::secret::Secret;

/// The first byte of a stored value: how the rest is laid out.
const VERSION: u8 = 1;

/// Closes and opens stored values.
pub struct Seal {
    root: hkdf::Prk,
    accounts: hmac::Key,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// Derives all keys from `secret`.
    pub fn new(secret: &Secret<String>) -> Seal {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis session store");
        let secret = secret.expose().as_bytes();
        Seal { root: salt.extract(secret), accounts: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// What an account is called in the store. Who reads there learns which sessions are one person's, not whose.
    pub fn account_name(&self, account: &Account) -> [u8; 32] {
        let mut message = hmac::Context::with_key(&self.accounts);
        message.update(b"portcullis account");
        message.update(account.as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(message.sign().as_ref());
        name
    }

    /// The key of one record. No two share one, so that random nonces do not run out (SP 800-38D section 8.3).
    fn record_key(&self, key: &Key) -> Result<aead::LessSafeKey, ring::error::Unspecified> {
        let info: [&[u8]; 2] = [b"session", key.as_bytes()];
        let key = self.root.expand(&info, &aead::AES_256_GCM)?;
        Ok(aead::LessSafeKey::new(key.into()))
    }

    /// Version, nonce, and the sealed JSON with its tag.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random bytes.
    pub fn close(&self, key: &Key, name: &str, session: &Session) -> Result<Vec<u8>, StoreUnavailable> {
        let json = serde_json::to_vec(&Record::of(session))
            .map_err(|error| StoreUnavailable::new(format!("a session could not be written down: {error}")))?;
        let sealed = || {
            let mut nonce = [0; aead::NONCE_LEN];
            SystemRandom::new().fill(&mut nonce)?;
            let mut body = json;
            let aad = aead::Aad::from(name.as_bytes());
            self.record_key(key)?.seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aad,
                &mut body,
            )?;
            Ok([&[VERSION], nonce.as_slice(), &body].concat())
        };
        sealed().map_err(|_: ring::error::Unspecified| StoreUnavailable::new("a session could not be encrypted"))
    }

    /// The session in `value`, which was found under `name`; or why it counts as none, in words for the log.
    pub fn open(&self, key: &Key, name: &str, mut value: Vec<u8>, domains: &[CookieDomain]) -> Result<Session, String> {
        let Some((&mut [version], rest)) = value.split_first_chunk_mut::<1>() else {
            return Err(String::from("it is empty"));
        };
        if version != VERSION {
            return Err(format!("it has version {version}, this program knows {VERSION}"));
        }
        let Some((&mut nonce, sealed)) = rest.split_first_chunk_mut::<{ aead::NONCE_LEN }>() else {
            return Err(String::from("it is cut short"));
        };
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let json = self
            .record_key(key)
            .and_then(|key| key.open_in_place(nonce, aead::Aad::from(name.as_bytes()), sealed).map(|json| &*json))
            .map_err(|_| "another `session.secret` was used, or somebody changed it")?;
        // What the JSON says is the person's and not for the log.
        let record: Record = serde_json::from_slice(json).map_err(|_| "it holds something else than a session")?;
        record.into_session(domains).map_err(|_| String::from("it holds a person or domain that can't be"))
    }
}
