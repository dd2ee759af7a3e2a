//! Sessions in Redis, for more than one replica.
//!
//! A session is kept under `portcullis:s:` and its key in hexadecimal, sealed (`seal.rs`). The keys of an account's sessions
//! are in a sorted set under `portcullis:u:` and a keyed digest of the account, by when they began. Redis may be away at
//! any time (`wire.rs`); nothing here ends the process or waits for it. Notes of activity are written by a task of their
//! own, and dropped when too many wait.
//!
//! It takes Redis 6.0 or later (for `KEEPTTL`), or what speaks like it, and these commands: GET, MGET, SET, DEL, EXISTS,
//! EXPIRE, ZADD, ZCARD, ZRANGE, ZREM, PING and SELECT. No command names keys of two kinds, and none is a script.

mod seal;
mod wire;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::redis::{self, Pipeline};
use tokio::sync::{mpsc, oneshot};

use crate::fault::Fault;
use crate::secret::Secret;

use super::model::Session;
use super::site::{CookieDomain, Sites};
use super::store::{Account, Key, SESSIONS_PER_ACCOUNT, Store, StoreUnavailable};

use seal::Seal;
use wire::Wire;

/// How many notes of activity wait at most. At one write per session and minute that is what a busy server has in a
/// second.
const QUEUE_LEN: usize = 4096;

/// How many notes of activity are written in one round trip.
const BATCH_LEN: usize = 64;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The ACL user; `None` for the default user.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret<String>>,
    /// The database number; 0 by default.
    pub database_index: u32,
    /// How long a command may take, connecting included; 5 seconds by default.
    pub timeout: Duration,
    /// The most connections; 8 by default. Each carries any number of commands at a time.
    pub max_connections: u32,
    /// Connections that are kept ready; 0 by default.
    pub min_idle: u32,
    /// How often a command is tried again when its connection breaks, within the same deadline; 3 by default.
    pub max_retries: u32,
    /// TLS, if it is to be used.
    pub tls: Option<Tls>,
}

impl Settings {
    /// `endpoint` with defaults for all else.
    pub fn new(endpoint: Endpoint) -> Settings {
        Settings {
            endpoint,
            username: None,
            password: None,
            database_index: 0,
            timeout: Duration::from_secs(5),
            max_connections: 8,
            min_idle: 0,
            max_retries: 3,
            tls: None,
        }
    }
}

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or address, and a port.
    Tcp {
        /// Host name or address; IPv6 without brackets.
        host: String,
        /// Port; usually 6379.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// TLS towards Redis.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The name that its certificate must have; the host by default.
    pub server_name: Option<String>,
    /// Takes any certificate: whoever is in between can read and forge sessions' traffic.
    pub skip_verify: bool,
    /// The lowest version to speak; TLS 1.2 by default.
    pub minimum_version: Option<TlsVersion>,
    /// The highest version to speak; TLS 1.3 by default.
    pub maximum_version: Option<TlsVersion>,
    /// A file with the certificates (PEM) of the authorities to trust, in place of the usual ones.
    pub ca: Option<PathBuf>,
    /// Our certificate and those above it, where Redis asks for one: PEM, the text itself.
    pub certificate_chain: Option<String>,
    /// The private key to it: PEM, the text itself.
    pub private_key: Option<Secret<String>>,
}

/// A version of TLS. Older ones than these are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The store.
#[derive(Debug)]
pub struct Redis {
    wire: Arc<Wire>,
    seal: Arc<Seal>,
    domains: Box<[CookieDomain]>,
    /// The longest that a session may live, in seconds.
    longest: u64,
    queue: mpsc::Sender<Job>,
    touches_dropped: Arc<AtomicU64>,
    unreadable: AtomicU64,
}

impl Redis {
    /// Opens the store; connections are made when they are needed, on the runtime that this is called on.
    ///
    /// Values are sealed under keys derived from `secret`: with another one, all that is stored reads as no session.
    /// `sites` are those known: sessions share the text of their domains.
    ///
    /// # Errors
    ///
    /// Settings that can't work: unreadable certificates, TLS over a unix socket, no version of TLS in the range.
    pub async fn open(settings: &Settings, secret: &Secret<String>, sites: &Sites) -> Result<Redis, Fault> {
        let wire = Arc::new(Wire::new(settings)?);
        let seal = Arc::new(Seal::new(secret));
        let touches_dropped = Arc::new(AtomicU64::new(0));
        let (queue, jobs) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(write_touches(jobs, wire.clone(), seal.clone(), touches_dropped.clone()));
        tokio::spawn(greet(wire.clone()));
        let domains = sites.iter().map(|site| site.domain.clone()).collect();
        let lifetimes = sites.iter().map(|site| site.expiration.max(site.remember_me.unwrap_or_default()).as_secs());
        let longest = lifetimes.max().unwrap_or_default().max(1);
        Ok(Redis { wire, seal, domains, longest, queue, touches_dropped, unreadable: AtomicU64::new(0) })
    }

    /// The session in `value`, or none where it can't be opened.
    fn opened(&self, key: &Key, value: Option<Vec<u8>>) -> Option<Arc<Session>> {
        match self.seal.open(key, &name_of(key), value?, &self.domains) {
            Ok(session) => Some(Arc::new(session)),
            Err(why) => {
                // With another secret this happens at every request of everybody: say it ever more rarely.
                let so_far = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
                if so_far.is_power_of_two() {
                    tracing::warn!(so_far, error = %why, "a stored session can't be opened and counts as none");
                }
                None
            }
        }
    }

    /// Ends the sessions of an account that are too many, those that began first, but not the one under `newest`; and
    /// forgets in its set which ones are gone already. Two that do this at once do the same.
    async fn end_surplus(&self, account: &str, newest: &Key) -> Result<(), StoreUnavailable> {
        let (members,): (Vec<Vec<u8>>,) =
            self.wire.run(redis::pipe().cmd("ZRANGE").arg(account).arg(0).arg(-1)).await?;
        let keys = members.iter().filter_map(|member| member.as_slice().try_into().ok().map(Key::new));
        let older: Vec<Key> = keys.filter(|key| key != newest).collect();
        let mut ask = Pipeline::new();
        for key in &older {
            ask.cmd("EXISTS").arg(name_of(key));
        }
        let exists: Vec<bool> = if older.is_empty() { Vec::new() } else { self.wire.run(&ask).await? };
        let live = exists.iter().filter(|exists| **exists).count();
        let mut surplus = (live + 1).saturating_sub(SESSIONS_PER_ACCOUNT);
        let (mut ended, mut forgotten) = (Vec::new(), Vec::new());
        for (key, exists) in older.iter().zip(exists) {
            if exists && surplus == 0 {
                continue;
            }
            if exists {
                surplus -= 1;
                ended.push(name_of(key));
            }
            forgotten.push(key.as_bytes().as_slice());
        }
        let mut commands = Pipeline::new();
        if !ended.is_empty() {
            commands.cmd("DEL").arg(ended).ignore();
        }
        if !forgotten.is_empty() {
            commands.cmd("ZREM").arg(account).arg(forgotten).ignore();
        }
        if commands.is_empty() { Ok(()) } else { self.wire.run(&commands).await }
    }

    /// How many notes of activity were dropped.
    pub fn touches_dropped(&self) -> u64 {
        self.touches_dropped.load(Ordering::Relaxed)
    }

    /// How many values could not be opened.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

impl Store for Redis {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Session>>, StoreUnavailable> {
        let (value,): (Option<Vec<u8>>,) = self.wire.run(redis::pipe().cmd("GET").arg(name_of(key))).await?;
        Ok(self.opened(key, value))
    }

    async fn load_all(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Session>>>, StoreUnavailable> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = keys.iter().map(name_of).collect();
        let (values,): (Vec<Option<Vec<u8>>>,) = self.wire.run(redis::pipe().cmd("MGET").arg(names)).await?;
        Ok(keys.iter().zip(values).map(|(key, value)| self.opened(key, value)).collect())
    }

    async fn insert(&self, key: &Key, session: Arc<Session>) -> Result<(), StoreUnavailable> {
        let name = name_of(key);
        let value = self.seal.close(key, &name, &session)?;
        let account = named("portcullis:u:", &self.seal.account_name(&Account::of(&session)));
        // A span and not a moment: Redis' clock need not agree with ours.
        let lifetime = session.expires.saturating_since(session.created).as_secs().max(1);
        let mut commands = Pipeline::new();
        // The set first: were the connection to break in between, a session that is in no set could not be counted.
        commands.cmd("ZADD").arg(&account).arg(session.created.as_secs()).arg(key.as_bytes().as_slice()).ignore();
        commands.cmd("EXPIRE").arg(&account).arg(self.longest.max(lifetime)).ignore();
        commands.cmd("SET").arg(&name).arg(value).arg("EX").arg(lifetime).ignore();
        commands.cmd("ZCARD").arg(&account);
        let (noted,): (usize,) = self.wire.run(&commands).await?;
        if noted > SESSIONS_PER_ACCOUNT { self.end_surplus(&account, key).await } else { Ok(()) }
    }

    async fn update(&self, key: &Key, session: Arc<Session>) -> Result<bool, StoreUnavailable> {
        let name = name_of(key);
        let value = self.seal.close(key, &name, &session)?;
        let mut command = Pipeline::new();
        replace(&mut command, &name, value);
        let (done,): (Option<String>,) = self.wire.run(&command).await?;
        Ok(done.is_some())
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreUnavailable> {
        let (removed,): (u64,) = self.wire.run(redis::pipe().cmd("DEL").arg(name_of(key))).await?;
        Ok(removed > 0)
    }

    async fn remove_all(&self, keys: &[Key]) -> Result<usize, StoreUnavailable> {
        if keys.is_empty() {
            return Ok(0);
        }
        let names: Vec<String> = keys.iter().map(name_of).collect();
        let (removed,): (usize,) = self.wire.run(redis::pipe().cmd("DEL").arg(names)).await?;
        Ok(removed)
    }

    fn touch(&self, key: &Key, session: &Arc<Session>) {
        if self.queue.try_send(Job::Touch(*key, session.clone())).is_err() {
            let so_far = self.touches_dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if so_far.is_power_of_two() {
                tracing::warn!(so_far, "too many notes of activity wait for Redis; sessions may end early");
            }
        }
    }

    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Job::Flush(done)).await.is_ok() {
            // An error means that the task has gone, and with it what could be waited for.
            let _ = written.await;
        }
    }
}

/// The name that Redis knows a session by.
fn name_of(key: &Key) -> String {
    named("portcullis:s:", key.as_bytes())
}

/// `prefix`, and the digest in hexadecimal.
fn named(prefix: &str, digest: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().map_or('0', char::from);
    let mut name = String::with_capacity(prefix.len() + 64);
    name.push_str(prefix);
    for byte in digest {
        name.push(digit(byte >> 4));
        name.push(digit(byte & 15));
    }
    name
}

/// Adds the command that puts `value` in the place of what is there, and does nothing if nothing is (A80). The end
/// stays as it was.
fn replace(pipeline: &mut Pipeline, name: &str, value: Vec<u8>) {
    pipeline.cmd("SET").arg(name).arg(value).arg("XX").arg("KEEPTTL");
}

/// What waits for the background task.
enum Job {
    Touch(Key, Arc<Session>),
    Flush(oneshot::Sender<()>),
}

/// Writes notes of activity, a batch at a time, until the store is dropped.
///
/// Between a session's being read and its note being written, another replica may have taken over changed details;
/// the note puts the old ones back, together with the old time at which they are due, and so they are compared again
/// at the next request.
async fn write_touches(mut jobs: mpsc::Receiver<Job>, wire: Arc<Wire>, seal: Arc<Seal>, dropped: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH_LEN);
    while jobs.recv_many(&mut batch, BATCH_LEN).await > 0 {
        let mut flushed = Vec::new();
        let mut seen = HashSet::new();
        let mut commands = Pipeline::new();
        // Newest first: of several notes on one session the last one counts.
        for job in batch.drain(..).rev() {
            match job {
                Job::Flush(done) => flushed.push(done),
                Job::Touch(key, _) if !seen.insert(key) => {}
                Job::Touch(key, session) => {
                    let name = name_of(&key);
                    match seal.close(&key, &name, &session) {
                        Ok(value) => replace(&mut commands, &name, value),
                        Err(why) => note_dropped(&dropped, 1, &why),
                    }
                }
            }
        }
        if !commands.is_empty()
            && let Err(why) = wire.run::<redis::Value>(&commands).await
        {
            note_dropped(&dropped, commands.len() as u64, &why);
        }
        for done in flushed {
            // Nobody waits any more: nothing to tell.
            let _ = done.send(());
        }
    }
}

fn note_dropped(dropped: &AtomicU64, touches: u64, why: &StoreUnavailable) {
    let so_far = dropped.fetch_add(touches, Ordering::Relaxed) + touches;
    tracing::warn!(so_far, error = %why, "activity could not be noted; sessions may end early");
}

/// Says in the log whether Redis can be reached, so that a wrong address shows at start and not at the first sign-in.
async fn greet(wire: Arc<Wire>) {
    match wire.run::<()>(redis::pipe().cmd("PING").ignore()).await {
        Ok(()) => tracing::info!("Redis answers"),
        Err(why) => tracing::warn!(error = %why, "Redis does not answer yet; until it does, nobody is signed in"),
    }
}
