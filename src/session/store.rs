//! What a session store promises.
//!
//! A store keeps sessions under a [`Key`], knows nothing of cookies, and decides nothing: who calls it checks
//! whether what it finds is still good. Every store passes the same suite (`tests/session_store.rs`).
//!
//! A cache in front of a store, and stores on Sentinel or Cluster, are further implementations of [`Store`].

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use ring::digest;

use super::model::Session;

/// Where a session is kept: the SHA-256 of its id.
///
/// It is no secret, but it is not printed either: logs are read by more people than the store is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes, which are a digest.
    pub const fn new(digest: [u8; 32]) -> Key {
        Key(digest)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Hash for Key {
    /// A digest is uniform already: eight bytes of it make a good hash, and only keys that we made are ever kept.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.first_chunk().map_or(0, |head| u64::from_ne_bytes(*head)));
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Whose a session is: a digest of a user name and of the cookie domain that the person signed in at.
///
/// A store finds by it what belongs together. It is the first half of a SHA-256, which is enough that nobody can give
/// themselves a name with another's digest. It is no secret, but names can be tried on it: what leaves this process is keyed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account([u8; 16]);

impl Account {
    /// Whose `session` is.
    pub fn of(session: &Session) -> Account {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [session.domain.as_str(), session.identity.username()] {
            context.update(&part.len().to_be_bytes()); // so that no two pairs are the same bytes
            context.update(part.as_bytes());
        }
        Account(context.finish().as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(…)")
    }
}

/// How many sessions an account may have at any one time.
///
/// More than a person with many devices and scripts has, and few enough that one who signs in for ever takes nobody else's
/// place in a full store.
pub const SESSIONS_PER_ACCOUNT: usize = 64;

/// Takes the number that [`Key`] gives as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Keeps sessions.
///
/// All of it may be called at the same time from many tasks. What one call has stored or removed is what the next one
/// sees, from whichever process. A store may forget a session once it has expired, and must not bring back one that
/// was removed: `update` and `touch` change only what is there (A80).
pub trait Store: Send + Sync {
    /// The session under `key`, if there is one. It may have expired.
    fn load(&self, key: &Key) -> impl Future<Output = Result<Option<Arc<Session>>, StoreUnavailable>> + Send;

    /// The sessions under each of `keys`, in their order, as [`load`](Store::load) has them; in one round trip.
    fn load_all(
        &self,
        keys: &[Key],
    ) -> impl Future<Output = Result<Vec<Option<Arc<Session>>>, StoreUnavailable>> + Send;

    /// Keeps a new session under `key`, until it expires. Where its [`Account`] has [`SESSIONS_PER_ACCOUNT`] already, the one that
    /// began first ends.
    fn insert(&self, key: &Key, session: Arc<Session>) -> impl Future<Output = Result<(), StoreUnavailable>> + Send;

    /// Puts `session` in the place of the one under `key`. Answers whether there was one; if not, nothing is kept.
    fn update(&self, key: &Key, session: Arc<Session>) -> impl Future<Output = Result<bool, StoreUnavailable>> + Send;

    /// Forgets the session under `key`. Answers whether there was one.
    fn remove(&self, key: &Key) -> impl Future<Output = Result<bool, StoreUnavailable>> + Send;

    /// Forgets the sessions under all of `keys`, in one round trip. Answers how many there were.
    fn remove_all(&self, keys: &[Key]) -> impl Future<Output = Result<usize, StoreUnavailable>> + Send;

    /// Notes that `session` is in use, later and off the caller's path. May be dropped, which is counted.
    fn touch(&self, key: &Key, session: &Arc<Session>);

    /// Waits until everything noted so far is written or given up.
    fn flush(&self) -> impl Future<Output = ()> + Send;
}

/// The store could not be asked: whether there is such a session is not known (W6).
///
/// It displays what failed, for the log; it holds no secret.
#[derive(Clone, Debug)]
pub struct StoreUnavailable(Arc<str>);

impl StoreUnavailable {
    /// Says what failed, in one sentence.
    pub(super) fn new(what: impl Into<Arc<str>>) -> StoreUnavailable {
        StoreUnavailable(what.into())
    }
}

impl fmt::Display for StoreUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreUnavailable {}
