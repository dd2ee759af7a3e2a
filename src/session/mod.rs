//! Sessions: what ties requests to one sign-in, for each cookie domain apart.
//!
//! A cookie carries 256 random bits; a store keeps what they stand for under their hash. Nothing is kept for people
//! who have not signed in, and an id that we did not make is never taken up. A session ends at its absolute expiry,
//! after inactivity, or when somebody ends it; activity never makes it longer than it was made. When the store can't
//! be asked, the answer is [`StoreUnavailable`] and never "nobody" (W6).
//!
//! This room knows nothing of HTTP beyond `Cookie` and `Set-Cookie` (RFC 6265bis), of policies, or of user backends.
//! It reads no clock. Sessions are meant as in NIST SP 800-63B section 7.

mod cookie;
mod memory;
mod model;
pub mod redis;
mod site;
mod store;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::secret::Secret;
use crate::subject::Identity;

use cookie::{Candidates, SessionId};

pub use cookie::SetCookie;
pub use memory::Memory;
pub use model::{Factors, Session};
pub use site::{CookieDomain, PortalUrl, SameSite, Site, Sites};
pub use store::{Account, Key, SESSIONS_PER_ACCOUNT, Store, StoreUnavailable};

/// How sessions are kept, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cookie domains.
    pub sites: Sites,
    /// Where sessions are kept.
    pub store: StoreSettings,
    /// What the keys of stored sessions are derived from; only a store outside this process needs it.
    pub secret: Option<Secret<String>>,
}

/// Where sessions are kept.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// In this process; gone after a restart.
    Memory {
        /// The most sessions that are kept.
        capacity: usize,
    },
    /// In Redis: for more than one replica.
    Redis(redis::Settings),
}

/// The sessions of all sites.
#[derive(Debug)]
pub struct Sessions {
    sites: Sites,
    kept: Kept,
    errors: AtomicU64,
}

/// The store that was chosen at start-up.
#[derive(Debug)]
enum Kept {
    Memory(Memory),
    Redis(redis::Redis),
}

/// What has been counted so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions now; `None` where the store is shared and only it knows.
    pub active: Option<u64>,
    /// Sessions that gave way because the store was full.
    pub evicted: u64,
    /// Calls that the store did not answer.
    pub store_errors: u64,
    /// Notes of activity that were dropped: the queue was full, or the store did not take them.
    pub touches_dropped: u64,
    /// Stored sessions that could not be opened: another secret, or somebody's tampering.
    pub unreadable: u64,
}

/// A session that a request showed, and the key it is kept under. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Found {
    key: Key,
    session: Arc<Session>,
}

impl Deref for Found {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Sessions {
    /// Opens the store. Redis need not be up: until it is, lookups answer [`StoreUnavailable`].
    ///
    /// What a store does in the background is done on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// Settings that can't work: Redis without a secret, unreadable certificates.
    pub async fn open_store(settings: &Settings) -> Result<Sessions, Fault> {
        let sites = settings.sites.clone();
        let kept = match &settings.store {
            StoreSettings::Memory { capacity } => Kept::Memory(Memory::new(*capacity)),
            StoreSettings::Redis(redis) => {
                let secret = settings.secret.as_ref().ok_or_else(|| {
                    Fault::new("sessions are kept in Redis but there is no `session.secret`").help(
                        "They are stored encrypted: set a long random `session.secret`, the same for all replicas.",
                    )
                })?;
                Kept::Redis(redis::Redis::open(redis, secret, &sites).await?)
            }
        };
        Ok(Sessions { sites, kept, errors: AtomicU64::new(0) })
    }

    /// The sites.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// The session that a request shows at `site`, if there is one and it has not ended.
    ///
    /// `cookies` are the values of all `Cookie` headers, in order. Of several cookies with our name the first that
    /// stands for a session is used (W13), unless two stand for different people or there are more than sixteen: then
    /// somebody planted one, and nobody is believed (A73). Values that stand for no session here don't count, so that
    /// planting a few locks nobody out (A128). A session that was made for another site ends, but for one whose domain
    /// this site lies below.
    ///
    /// # Errors
    ///
    /// When the store can't be asked.
    pub async fn find<'c>(
        &self,
        site: &Site,
        cookies: impl Iterator<Item = &'c [u8]>,
        now: UnixTime,
    ) -> Result<Option<Found>, StoreUnavailable> {
        let candidates = Candidates::read(cookies, &site.cookie_name);
        let chosen = match &candidates.first {
            None => None,
            Some(only) if candidates.more.is_empty() => self.valid(site, only.key(), now).await?,
            Some(_) => Box::pin(self.valid_of(site, candidates.iter().map(SessionId::key).collect(), now)).await?,
        };
        if let Some(found) = &chosen {
            self.note_activity(site, found, now);
        }
        Ok(chosen)
    }

    /// Signs a person in at `site`: a session starts, under a fresh id. Answers with the cookie to set.
    ///
    /// What the request shows must be closed first: under an id that somebody planted it would live on (A72).
    ///
    /// # Errors
    ///
    /// When the store can't be asked, or the operating system gives no random bytes. Nobody is signed in then.
    pub async fn open(
        &self,
        site: &Site,
        identity: Identity,
        factors: Factors,
        remember: bool,
        now: UnixTime,
    ) -> Result<SetCookie, StoreUnavailable> {
        let id = SessionId::generate()?;
        let session = Arc::new(Session::start(site, identity, factors, remember, now));
        let expires = session.expires;
        self.count(self.kept.insert(&id.key(), session).await)?;
        Ok(SetCookie::set(site, &id, expires))
    }

    /// Signs a person out: every session that the request shows ends, be there one or many (A73). Answers with the
    /// cookie that takes theirs away, whether or not there was a session.
    ///
    /// # Errors
    ///
    /// When the store can't be asked: the session lives on, and the person must be told.
    pub async fn close<'c>(
        &self,
        site: &Site,
        cookies: impl Iterator<Item = &'c [u8]>,
    ) -> Result<SetCookie, StoreUnavailable> {
        // Of all, whatever their number: were it bounded, whoever plants more would keep the person's own alive. How many there
        // are is bounded by the length of a request's head, and they take one round trip.
        let keys = cookie::keys(cookies, &site.cookie_name);
        if !keys.is_empty() {
            self.count(self.kept.remove_all(&keys).await)?;
        }
        Ok(SetCookie::expire(site))
    }

    /// Ends a session, as when its account is gone.
    ///
    /// # Errors
    ///
    /// When the store can't be asked: the session lives on.
    pub async fn end(&self, found: &Found) -> Result<(), StoreUnavailable> {
        self.count(self.kept.remove(&found.key).await)?;
        Ok(())
    }

    /// Notes that the account's details were compared and are next due at `next_due`; `identity` where they have
    /// changed.
    ///
    /// Answers with the session as it is now, or `None` if it ended meanwhile: it is not brought back. Who compares
    /// at each request anyway has nothing to note unless something changed.
    ///
    /// # Errors
    ///
    /// When the store can't be asked and `identity` was given.
    pub async fn refreshed(
        &self,
        found: &Found,
        identity: Option<Identity>,
        next_due: UnixTime,
    ) -> Result<Option<Found>, StoreUnavailable> {
        let Some(identity) = identity else {
            found.postpone_refresh(next_due);
            self.kept.touch(&found.key, &found.session);
            return Ok(Some(found.clone()));
        };
        let changed = found.with_identity(identity);
        changed.postpone_refresh(next_due);
        let changed = Found { key: found.key, session: Arc::new(changed) };
        let there = self.count(self.kept.update(&changed.key, changed.session.clone()).await)?;
        Ok(there.then_some(changed))
    }

    /// Forgets the sessions that have ended. To be called about once a minute.
    pub fn sweep(&self, now: UnixTime) {
        match &self.kept {
            Kept::Memory(memory) => memory.retain(|session| {
                let site = self.sites.iter().find(|site| site.domain == session.domain);
                site.is_some_and(|site| !session.has_ended(site.inactivity, now))
            }),
            // Redis forgets by itself.
            Kept::Redis(_) => {}
        }
    }

    /// Waits until notes of activity are written or given up, as when the server stops. To be given a deadline: with
    /// Redis away, each batch is given up only when its own has passed.
    pub async fn flush(&self) {
        self.kept.flush().await;
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        let store_errors = self.errors.load(Ordering::Relaxed);
        match &self.kept {
            Kept::Memory(memory) => Stats {
                active: Some(memory.count() as u64),
                evicted: memory.evicted(),
                store_errors,
                ..Stats::default()
            },
            Kept::Redis(redis) => Stats {
                store_errors,
                touches_dropped: redis.touches_dropped(),
                unreadable: redis.unreadable(),
                ..Stats::default()
            },
        }
    }

    /// The session under `key` if it is good at `site`; one that has ended, or is shown at another site, is forgotten.
    async fn valid(&self, site: &Site, key: Key, now: UnixTime) -> Result<Option<Found>, StoreUnavailable> {
        let Some(session) = self.count(self.kept.load(&key).await)? else { return Ok(None) };
        match standing(site, &session, now) {
            Standing::Good => Ok(Some(Found { key, session })),
            Standing::Elsewhere => Ok(None),
            standing @ (Standing::Ended | Standing::Foreign) => {
                if standing == Standing::Foreign {
                    warn_of_foreign(site, &session);
                }
                self.count(self.kept.remove(&key).await)?;
                Ok(None)
            }
        }
    }

    /// The first session under `keys` that is good at `site`, unless another is somebody else's.
    async fn valid_of(&self, site: &Site, keys: Vec<Key>, now: UnixTime) -> Result<Option<Found>, StoreUnavailable> {
        let sessions = self.count(self.kept.load_all(&keys).await)?;
        let (mut good, mut over): (Vec<Found>, Vec<Key>) = (Vec::new(), Vec::new());
        let mut has_warned = false; // one line a request is enough
        for (key, session) in keys.into_iter().zip(sessions) {
            let Some(session) = session else { continue };
            match standing(site, &session, now) {
                Standing::Good => good.push(Found { key, session }),
                Standing::Elsewhere => {}
                Standing::Ended => over.push(key),
                Standing::Foreign => {
                    if !std::mem::replace(&mut has_warned, true) {
                        warn_of_foreign(site, &session);
                    }
                    over.push(key);
                }
            }
        }
        if !over.is_empty() {
            self.count(self.kept.remove_all(&over).await)?;
        }
        let mut good = good.into_iter();
        let first = good.next();
        let contradicted = first.as_ref().is_some_and(|first| {
            let name = first.identity.username();
            good.any(|other| other.identity.username() != name)
        });
        Ok(first.filter(|_| !contradicted))
    }

    fn note_activity(&self, site: &Site, found: &Found, now: UnixTime) {
        if found.remember || site.inactivity.is_zero() {
            return;
        }
        if found.session.note_activity(self.kept.touch_interval(site.inactivity), now) {
            self.kept.touch(&found.key, &found.session);
        }
    }

    fn count<T>(&self, answer: Result<T, StoreUnavailable>) -> Result<T, StoreUnavailable> {
        if answer.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// What a stored session is worth at a site.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    /// It was made for a domain above: browsers send its cookie here as well.
    Elsewhere,
    /// It has expired.
    Ended,
    /// It was made for another domain, and ends: somebody else holds its cookie.
    Foreign,
}

fn standing(site: &Site, session: &Session, now: UnixTime) -> Standing {
    if session.domain == site.domain {
        return if session.has_ended(site.inactivity, now) { Standing::Ended } else { Standing::Good };
    }
    if session.domain.covers(site.domain.as_str()) { Standing::Elsewhere } else { Standing::Foreign }
}

fn warn_of_foreign(site: &Site, session: &Session) {
    tracing::warn!(
        user = session.identity.username(),
        host = %site.domain,
        made_for = %session.domain,
        "a session cookie was shown at another cookie domain; the session ends"
    );
}

impl Kept {
    /// How long activity need not be noted again, at a site with this `inactivity`. A session may end that much
    /// before its inactivity is up, never after.
    fn touch_interval(&self, inactivity: Duration) -> Duration {
        match self {
            // Nothing is sent anywhere: once a second, so that requests of one second leave the cache line alone.
            Kept::Memory(_) => Duration::from_secs(1),
            Kept::Redis(_) => (inactivity / 8).clamp(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

/// The store that was chosen. Dispatch is a `match`, so that a lookup in memory allocates nothing, nor has every
/// connection room for one in Redis.
impl Store for Kept {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Session>>, StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.load(key).await,
            Kept::Redis(store) => Box::pin(store.load(key)).await,
        }
    }

    async fn load_all(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Session>>>, StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.load_all(keys).await,
            Kept::Redis(store) => Box::pin(store.load_all(keys)).await,
        }
    }

    async fn insert(&self, key: &Key, session: Arc<Session>) -> Result<(), StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.insert(key, session).await,
            Kept::Redis(store) => Box::pin(store.insert(key, session)).await,
        }
    }

    async fn update(&self, key: &Key, session: Arc<Session>) -> Result<bool, StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.update(key, session).await,
            Kept::Redis(store) => Box::pin(store.update(key, session)).await,
        }
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.remove(key).await,
            Kept::Redis(store) => Box::pin(store.remove(key)).await,
        }
    }

    async fn remove_all(&self, keys: &[Key]) -> Result<usize, StoreUnavailable> {
        match self {
            Kept::Memory(store) => store.remove_all(keys).await,
            Kept::Redis(store) => Box::pin(store.remove_all(keys)).await,
        }
    }

    fn touch(&self, key: &Key, session: &Arc<Session>) {
        match self {
            Kept::Memory(store) => store.touch(key, session),
            Kept::Redis(store) => store.touch(key, session),
        }
    }

    async fn flush(&self) {
        match self {
            Kept::Memory(store) => store.flush().await,
            Kept::Redis(store) => Box::pin(store.flush()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{COOKIE, HeaderMap, HeaderValue};

    use super::{Sessions, Settings, Site, Sites, StoreSettings};
    use crate::clock::UnixTime;

    #[tokio::test]
    async fn the_cookies_of_a_request_can_be_looked_up_from_any_task() {
        let sites = Sites::new(vec![Site::new("example.com".parse().unwrap())]).unwrap();
        let settings = Settings { sites, store: StoreSettings::Memory { capacity: 10 }, secret: None };
        let sessions = Sessions::open_store(&settings).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b"));
        let task = tokio::spawn(async move {
            let site = sessions.sites().of("app.example.com").unwrap();
            let cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
            sessions.find(site, cookies, UnixTime::from_secs(0)).await.unwrap().is_none()
        });
        assert!(task.await.unwrap());
    }
}
