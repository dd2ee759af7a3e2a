//! Sessions in Redis, for more than one replica.
//!
//! A session is kept under `portcullis:s:` and its key in hexadecimal, sealed with AES-256-GCM under a key of its own
//! that is derived from `session.secret` (HKDF, RFC 5869) and bound to the name it is kept under: who reads the store
//! learns nothing, and who writes to it can make no session up and give none to another cookie (A81), but can take one
//! away or put back what it once was, until it expires. What can't be opened is no session.
//!
//! Commands run on few multiplexed connections that a pool keeps: each is made when it is first needed, replaced when
//! it breaks, and every command has a deadline. Redis may be away at any time; nothing here ends the process or waits
//! for it.
//!
//! It takes Redis 6.0 or later (for `KEEPTTL`), or what speaks like it, and five commands: GET, SET, DEL, PING and
//! SELECT.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::{bb8, redis};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, hkdf};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::fault::Fault;
use crate::secret::Secret;
use crate::trust::{self, Trust};

use super::model::{Record, Session};
use super::site::CookieDomain;
use super::store::{Key, Store, StoreUnavailable};

/// The first byte of a stored value: how the rest is laid out.
const VERSION: u8 = 1;

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
    queue: mpsc::Sender<Job>,
    touches_dropped: Arc<AtomicU64>,
    unreadable: AtomicU64,
}

impl Redis {
    /// Opens the store; connections are made when they are needed, on the runtime that this is called on.
    ///
    /// Values are sealed under keys derived from `secret`: with another one, all that is stored reads as no session.
    /// `domains` are the cookie domains known, whose text sessions share.
    ///
    /// # Errors
    ///
    /// Settings that can't work: unreadable certificates, TLS over a unix socket, no version of TLS in the range.
    pub async fn open(
        settings: &Settings,
        secret: &Secret<String>,
        domains: Vec<CookieDomain>,
    ) -> Result<Redis, Fault> {
        let wire = Arc::new(Wire::new(settings)?);
        let seal = Arc::new(Seal::new(secret));
        let touches_dropped = Arc::new(AtomicU64::new(0));
        let (queue, jobs) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(write_touches(jobs, wire.clone(), seal.clone(), touches_dropped.clone()));
        tokio::spawn(greet(wire.clone()));
        Ok(Redis { wire, seal, domains: domains.into(), queue, touches_dropped, unreadable: AtomicU64::new(0) })
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
        let name = name_of(key);
        let (value,): (Option<Vec<u8>>,) = self.wire.run(redis::pipe().cmd("GET").arg(&name)).await?;
        let Some(value) = value else { return Ok(None) };
        match self.seal.open(key, &name, value, &self.domains) {
            Ok(session) => Ok(Some(Arc::new(session))),
            Err(why) => {
                // With another secret this happens at every request of everybody: say it ever more rarely.
                let so_far = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
                if so_far.is_power_of_two() {
                    tracing::warn!(so_far, "a stored session can't be opened and counts as none: {why}");
                }
                Ok(None)
            }
        }
    }

    async fn insert(&self, key: &Key, session: Arc<Session>) -> Result<(), StoreUnavailable> {
        let name = name_of(key);
        let value = self.seal.close(key, &name, &session)?;
        // A span and not a moment: Redis' clock need not agree with ours.
        let lifetime = session.expires.saturating_since(session.created).as_secs().max(1);
        self.wire.run::<()>(redis::pipe().cmd("SET").arg(&name).arg(value).arg("EX").arg(lifetime).ignore()).await
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

    fn touch(&self, key: &Key, session: &Arc<Session>) {
        if self.queue.try_send(Job::Touch(*key, session.clone())).is_err() {
            let so_far = self.touches_dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if so_far.is_power_of_two() {
                tracing::warn!(so_far, "too many notes of activity wait for redis; sessions may end early");
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
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().map_or('0', char::from);
    let mut name = String::with_capacity(13 + 64);
    name.push_str("portcullis:s:");
    for byte in key.as_bytes() {
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
    tracing::warn!(so_far, touches, "activity could not be noted; sessions may end early: {why}");
}

/// Says in the log whether Redis can be reached, so that a wrong address shows at start and not at the first sign-in.
async fn greet(wire: Arc<Wire>) {
    match wire.run::<()>(redis::pipe().cmd("PING").ignore()).await {
        Ok(()) => tracing::info!("redis answers"),
        Err(why) => tracing::warn!("redis does not answer yet; until it does, nobody is signed in: {why}"),
    }
}

/// Closes and opens stored values.
struct Seal {
    root: hkdf::Prk,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    fn new(secret: &Secret<String>) -> Seal {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis session store");
        Seal { root: salt.extract(secret.expose().as_bytes()) }
    }

    /// The key of one record. No two share one, so that random nonces do not run out (SP 800-38D section 8.3).
    fn record_key(&self, key: &Key) -> Result<aead::LessSafeKey, ring::error::Unspecified> {
        let info: [&[u8]; 2] = [b"session", key.as_bytes()];
        let key = self.root.expand(&info, &aead::AES_256_GCM)?;
        Ok(aead::LessSafeKey::new(key.into()))
    }

    /// Version, nonce, and the sealed JSON with its tag.
    fn close(&self, key: &Key, name: &str, session: &Session) -> Result<Vec<u8>, StoreUnavailable> {
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

    /// The session in `value`, which was found under `name`.
    fn open(&self, key: &Key, name: &str, mut value: Vec<u8>, domains: &[CookieDomain]) -> Result<Session, String> {
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

/// Runs commands: picks a connection, keeps the deadline, tries again.
#[derive(Debug)]
struct Wire {
    pool: bb8::Pool<Dialler>,
    timeout: Duration,
    max_retries: u32,
}

impl Wire {
    fn new(settings: &Settings) -> Result<Wire, Fault> {
        // The pool would not be built with no time at all.
        let timeout = settings.timeout.max(Duration::from_millis(1));
        let pool = bb8::Pool::builder()
            .max_size(settings.max_connections.max(1))
            .min_idle(settings.min_idle.min(settings.max_connections))
            // A PING for each check-out would double the round trips; broken connections are known without.
            .test_on_check_out(false)
            .connection_timeout(timeout)
            .build_unchecked(Dialler::new(settings)?);
        Ok(Wire { pool, timeout, max_retries: settings.max_retries })
    }

    /// Runs `commands` in one round trip and reads their answers as `T`. All that we send can be sent twice.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreUnavailable> {
        let started = Instant::now();
        let deadline = started + self.timeout;
        let too_late = || StoreUnavailable::new(format!("redis did not answer within {:?}", self.timeout));
        let mut retries = 0;
        loop {
            let mut line = timeout_at(deadline, self.line(started)).await.map_err(|_| too_late())??;
            let Ok(answer) = timeout_at(deadline, commands.query_async(&mut line.connection)).await else {
                // The other end may be gone without a word: whoever comes next gets a new connection.
                line.broken.store(true, Ordering::Relaxed);
                return Err(too_late());
            };
            let error: RedisError = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let read_only = error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly);
            let broken = error.is_unrecoverable_error() || error.is_io_error() || read_only;
            if broken {
                // A primary that became a replica refuses writes for as long as we hold on to it.
                line.broken.store(true, Ordering::Relaxed);
            }
            if !broken || retries >= self.max_retries {
                return Err(StoreUnavailable::new(format!("redis: {error}")));
            }
            retries += 1;
        }
    }

    /// A connection that works, as far as is known. The pool has it back before it is used: any number of commands
    /// share one.
    async fn line(&self, started: Instant) -> Result<Line, StoreUnavailable> {
        loop {
            let slot = self
                .pool
                .get()
                .await
                .map_err(|_| StoreUnavailable::new(format!("no connection to redis within {:?}", self.timeout)))?;
            match &*slot {
                Slot::Up(line) if !line.is_broken() => return Ok(line.clone()),
                Slot::Down { since, why } if *since >= started => return Err(why.clone()),
                // An old failure or a broken connection: the pool drops it and makes another.
                Slot::Up(_) | Slot::Down { .. } => {}
            }
        }
    }
}

/// One connection, shared by all who run commands on it.
#[derive(Clone, Debug)]
struct Line {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

impl Line {
    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// What the pool holds.
///
/// A connection that could not be made is handed out too. The pool would otherwise keep who waits until the deadline,
/// when it is known at once that nobody listens.
#[derive(Debug)]
enum Slot {
    /// It worked when it was last used.
    Up(Line),
    /// Tried at `since`. Who began to wait later than that had better try again.
    Down { since: Instant, why: StoreUnavailable },
}

/// Makes connections. All of them live on the runtime that opened the store: the gate and the portal have one each,
/// and a busy portal must not hold up a connection that the gate uses.
#[derive(Debug)]
struct Dialler {
    dial: Arc<Dial>,
    runtime: Handle,
}

impl Dialler {
    fn new(settings: &Settings) -> Result<Dialler, Fault> {
        Ok(Dialler { dial: Arc::new(Dial::new(settings)?), runtime: Handle::current() })
    }
}

impl bb8::ManageConnection for Dialler {
    type Connection = Slot;
    type Error = Infallible;

    async fn connect(&self) -> Result<Slot, Infallible> {
        let dial = self.dial.clone();
        let since = Instant::now();
        let deadline = since + dial.timeout;
        let dialled = self.runtime.spawn(async move { timeout_at(deadline, dial.connect()).await }).await;
        let why = match dialled {
            Ok(Ok(Ok(line))) => return Ok(Slot::Up(line)),
            Ok(Ok(Err(error))) => format!("redis can't be reached: {error}"),
            Ok(Err(_)) => format!("redis can't be reached: no answer within {:?}", self.dial.timeout),
            Err(_) => String::from("redis can't be reached: the server is stopping"),
        };
        Ok(Slot::Down { since, why: StoreUnavailable::new(why) })
    }

    async fn is_valid(&self, _: &mut Slot) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Slot) -> bool {
        match slot {
            Slot::Up(line) => line.is_broken(),
            Slot::Down { .. } => true,
        }
    }
}

/// What one connection takes.
struct Dial {
    endpoint: Endpoint,
    login: RedisConnectionInfo,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dial").field(&self.endpoint).finish()
    }
}

impl Dial {
    fn new(settings: &Settings) -> Result<Dial, Fault> {
        let mut login =
            RedisConnectionInfo::default().set_skip_set_lib_name().set_db(i64::from(settings.database_index));
        if let Some(username) = &settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password.expose());
        }
        let tls = match (&settings.tls, &settings.endpoint) {
            (None, _) => None,
            (Some(_), Endpoint::Unix(path)) => {
                return Err(Fault::new(format!("TLS towards the unix socket `{}`", path.display()))
                    .help("A unix socket does not leave the machine: leave `tls` out."));
            }
            (Some(tls), Endpoint::Tcp { host, .. }) => {
                let name = trust::server_name(tls.server_name.as_ref().unwrap_or(host))?;
                Some((TlsConnector::from(Arc::new(client_config(tls)?)), name))
            }
        };
        Ok(Dial { endpoint: settings.endpoint.clone(), login, tls, timeout: settings.timeout })
    }

    async fn connect(&self) -> Result<Line, RedisError> {
        match &self.endpoint {
            Endpoint::Unix(path) => self.log_in(UnixStream::connect(path).await?).await,
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                match &self.tls {
                    None => self.log_in(stream).await,
                    Some((tls, name)) => self.log_in(tls.connect(name.clone(), stream).await?).await,
                }
            }
        }
    }

    async fn log_in<S>(&self, stream: S) -> Result<Line, RedisError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // The deadline is kept by whoever waits for the answer.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.login, stream, config).await?;
        let broken = Arc::new(AtomicBool::new(false));
        let ended = broken.clone();
        tokio::spawn(async move {
            driver.await;
            ended.store(true, Ordering::Relaxed);
        });
        Ok(Line { connection, broken })
    }
}

/// TLS as configured.
fn client_config(tls: &Tls) -> Result<ClientConfig, Fault> {
    let minimum = tls.minimum_version.unwrap_or(TlsVersion::Tls12);
    let maximum = tls.maximum_version.unwrap_or(TlsVersion::Tls13);
    let versions: &[&'static rustls::SupportedProtocolVersion] = match (minimum, maximum) {
        (TlsVersion::Tls12, TlsVersion::Tls13) => &[&rustls::version::TLS13, &rustls::version::TLS12],
        (TlsVersion::Tls12, TlsVersion::Tls12) => &[&rustls::version::TLS12],
        (TlsVersion::Tls13, TlsVersion::Tls13) => &[&rustls::version::TLS13],
        (TlsVersion::Tls13, TlsVersion::Tls12) => {
            return Err(Fault::new("the minimum version of TLS is above the maximum"));
        }
    };
    let trust = match &tls.ca {
        _ if tls.skip_verify => {
            tracing::warn!("the certificate of redis is not checked: `skip_verify` is on");
            Trust::Anybody
        }
        Some(file) => Trust::File(file.clone()),
        None => Trust::Public,
    };
    let builder = trust.client(versions)?;
    match (&tls.certificate_chain, &tls.private_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(chain), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Fault::new(format!("the certificate chain for redis is not PEM: {error}")))?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|error| Fault::new(format!("the private key for redis is not PEM: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| Fault::new(format!("the certificate for redis can't be used: {error}")))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(Fault::new("a certificate chain for redis without a private key, or the other way round"))
        }
    }
}
