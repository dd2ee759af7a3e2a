//! Examines a reverse proxy from both sides: what of a client's spoofed, doubled, aliased and encoded requests reaches
//! the gate and the application.
//!
//! Two probes stand in for the gate and the application; a client sends made-up requests to the proxy's address and to
//! no other. Nothing here knows the gate, its rules or its settings: it is the proxy that is examined, and what matters
//! is what arrives. It changes nothing, follows nothing, and reports nothing but what it saw by itself.

mod cases;
mod catalogue;
mod checks;
mod client;
mod probe;
mod wire;

use std::net::SocketAddr;

use ring::rand::{SecureRandom, SystemRandom};
use url::{Position, Url};

pub use cases::Dialect;
pub use catalogue::{Check, Proxy, Severity};
pub use checks::Found;

use crate::fault::Fault;
use crate::trust::Trust;
use cases::{Case, Site};
use checks::{Bench, Exchange};
use client::Door;
use probe::{Answer, Probe};

/// What to examine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A page behind the proxy; every request is sent to its host, below its path.
    pub url: Url,
    /// Where the proxy is (`host:port`), if not where the URL says.
    pub connect: Option<String>,
    /// Whom to believe that it is the proxy.
    pub trust: Trust,
    /// Where the gate's probe listens.
    pub gate: SocketAddr,
    /// Where the application's probe listens.
    pub application: SocketAddr,
    /// The kind of proxy, if it is not to be recognised.
    pub proxy: Option<Proxy>,
    /// Further paths to try, below that of the page.
    pub also: Vec<String>,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kind of proxy, if it is known.
    pub proxy: Option<Proxy>,
    /// How it asks.
    pub dialect: Dialect,
    /// How many requests were sent.
    pub requests: usize,
    /// Everything found, the gravest first.
    pub found: Vec<Found>,
}

impl Report {
    /// How much of this weight was found.
    pub fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|found| found.check.severity == severity).count()
    }
}

/// Sends everything and judges what arrived.
///
/// # Errors
///
/// When nothing could be found out: an address that can't be listened on or reached, or a probe that was not asked.
pub async fn examine(settings: &Settings) -> Result<Report, Fault> {
    let (site, door) = target(settings)?;
    let gate = listen(settings.gate, "the gate", "--listen-auth").await?;
    let application = listen(settings.application, "the application", "--listen-app").await?;
    let mut run = Run { site: &site, door: &door, token: token()?, sent: 0 };

    let plain = run.send(&Case::plain(), Some(&gate), &application).await?;
    reached(&plain, &gate, &application)?;
    let bench = Bench::new(&site, &plain).ok_or_else(|| Fault::new("the gate's probe was not asked"))?;

    let mut exchanges = vec![plain.clone()];
    for case in cases::cases(&site, bench.dialect) {
        exchanges.push(run.send(&case, Some(&gate), &application).await?);
    }
    gate.close().await;
    exchanges.push(run.send(&cases::away(), None, &application).await?);

    Ok(Report {
        proxy: settings.proxy.or_else(|| checks::recognise(&plain)),
        dialect: bench.dialect,
        requests: run.sent,
        found: checks::examine(&bench, &exchanges),
    })
}

fn target(settings: &Settings) -> Result<(Site, Door), Fault> {
    let url = &settings.url;
    let (Some(host), true) = (url.host_str(), matches!(url.scheme(), "http" | "https")) else {
        return Err(Fault::new(format!("`{url}` is no web address"))
            .help("Give a page behind the proxy, as in `--url https://app.example.com/`."));
    };
    let plain =
        |path: &&String| path.starts_with('/') && path.bytes().all(|c| c.is_ascii_graphic() && !b"?#".contains(&c));
    if let Some(path) = settings.also.iter().find(|path| !plain(path)) {
        return Err(Fault::new(format!("`{}` is no path", path.escape_debug()))
            .help("Begin with a slash and leave out the query, as in `--also /downloads/`."));
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let address = settings.connect.clone().unwrap_or_else(|| format!("{host}:{port}"));
    let server_name = (url.scheme() == "https").then_some(host);
    let site = Site {
        scheme: url.scheme().to_owned(),
        authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
        base: url.path().trim_end_matches('/').to_owned(),
        also: settings.also.clone(),
    };
    Ok((site, Door::new(address, server_name, &settings.trust)?))
}

async fn listen(address: SocketAddr, what: &str, option: &str) -> Result<Probe, Fault> {
    Probe::listen(address).await.map_err(|error| {
        Fault::new(format!("can't listen on `{address}` in place of {what}: {error}")).help(format!(
            "Stop what listens there, or choose another address by `{option}` and point the proxy at it."
        ))
    })
}

/// Refuses to judge by half of the picture.
fn reached(plain: &Exchange, gate: &Probe, application: &Probe) -> Result<(), Fault> {
    let reply = match &plain.reply {
        Ok(head) => format!("it answered `{}`", head.second_word()),
        Err(error) => format!("it answered nothing ({error})"),
    };
    let mut others = String::new();
    for (probe, name) in [(gate, "gate"), (application, "application")] {
        if probe.strangers() > 0 {
            others += &format!(" Other requests came to the {name}'s probe: {}.", probe.strangers());
        }
    }
    if gate.spoke_http2() {
        return Err(Fault::new("the proxy speaks HTTP/2 to the gate's probe, which only reads HTTP/1.1")
            .help("Examine Envoy by `http_service`, not by `grpc_service`."));
    }
    let (gate, application) = (gate.address(), application.address());
    match (plain.asked.is_empty(), plain.served.is_empty()) {
        (false, false) => Ok(()),
        (true, true) => Err(Fault::new(format!("the proxy reached neither probe: {reply}")).help(format!(
            "Point it at `{gate}` in place of the gate and at `{application}` in place of the application.{others}"
        ))),
        (true, false) => Err(Fault::new("the request reached the application's probe, but the gate's was not asked")
            .help(format!(
                "Either nothing protects this address, or the proxy asks elsewhere than at `{gate}`.{others}"
            ))),
        (false, true) => Err(Fault::new(format!(
            "the gate's probe was asked and said yes, but the request did not reach the application's: {reply}"
        ))
        .help(format!("Point the proxy at `{application}` in place of the application.{others}"))),
    }
}

/// Requests under way.
struct Run<'a> {
    site: &'a Site,
    door: &'a Door,
    token: String,
    sent: usize,
}

impl Run<'_> {
    /// Sends one request and gathers what the probes saw of it. `gate` is away where there is none.
    async fn send(&mut self, case: &Case, gate: Option<&Probe>, application: &Probe) -> Result<Exchange, Fault> {
        self.sent += 1;
        // The last letter keeps the first mark from being the beginning of the tenth.
        let mark = format!("pd{}n{}e", self.token, self.sent);
        if let Some(gate) = gate {
            gate.expect(&mark, case.answer.clone());
        }
        application.expect(&mark, Answer::status(200));
        let reply = self.door.send(&case.bytes(self.site, &mark)).await;
        if self.sent == 1
            && let Err(error) = &reply
            && error.kind() != std::io::ErrorKind::UnexpectedEof
        {
            return Err(unreachable(error));
        }
        Ok(Exchange {
            attempt: case.attempt,
            method: case.method,
            target: case.target(self.site, &mark),
            mark,
            asked: gate.map(Probe::received).unwrap_or_default(),
            served: application.received(),
            reply: reply.map_err(|error| error.to_string()),
        })
    }
}

fn unreachable(error: &std::io::Error) -> Fault {
    use rustls::CertificateError as Bad;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(bad)) = tls else {
        return Fault::new(format!("can't reach the proxy: {error}"))
            .help("Name the proxy's address by `--connect HOST:PORT` if it is not where the URL says.");
    };
    let reason = match bad {
        Bad::UnknownIssuer => "its issuer is not among the authorities",
        Bad::Expired | Bad::ExpiredContext { .. } => "it has expired",
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "it is for another host",
        _ => "it is not valid for a server, as many self-signed ones are not",
    };
    Fault::new(format!("the proxy's certificate is not believed: {reason}"))
        .help("Name the authority by `--ca FILE`, or accept any certificate by `--insecure`.")
}

/// What marks this run: 64 random bits, so that no other traffic is taken for it.
fn token() -> Result<String, Fault> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::new("the system gives no random numbers"))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
