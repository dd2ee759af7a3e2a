//! Commands on their way to Redis and back.
//!
//! They run on few multiplexed connections that a pool keeps: each is made when it is first needed, replaced when it
//! breaks, and every command has a deadline. It knows nothing of sessions.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::{bb8, redis};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::super::store::StoreUnavailable;
use super::{Endpoint, Settings, Tls, TlsVersion};
use crate::fault::Fault;
use crate::trust::{self, Trust};

/// Runs commands: picks a connection, keeps the deadline, tries again.
#[derive(Debug)]
pub struct Wire {
    pool: bb8::Pool<Dialler>,
    timeout: Duration,
    max_retries: u32,
}

impl Wire {
    /// Connections are made when they are needed, on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// Settings that can't work.
    pub fn new(settings: &Settings) -> Result<Wire, Fault> {
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
    ///
    /// # Errors
    ///
    /// When there is no answer in time, or Redis refuses.
    pub async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreUnavailable> {
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
            tracing::warn!("the certificate of Redis is not checked: `skip_verify` is on");
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
