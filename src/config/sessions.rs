//! `session`: cookie domains and where sessions are kept.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::raw::Value;
use super::read::{Faults, Section, Text};
use super::value::Span;
use crate::fault::Fault;
use crate::secret::Secret;
use crate::session::redis::{self, Endpoint, Tls, TlsVersion};
use crate::session::{CookieDomain, SameSite, Settings, Site, Sites, StoreSettings};

/// Reads the section; `None` where a fault in it leaves nothing to go on with.
pub(super) fn settings(root: &Section<'_>, faults: &mut Faults) -> Option<Settings> {
    let session = root.section("session", faults);
    let sites = sites(&session, faults);
    let secret = session.text("secret", faults).filter(|secret| !secret.text.is_empty());
    let redis = session.section("redis", faults);
    let memory = session.section("memory", faults);
    let capacity = memory.integer("capacity", 1..=100_000_000, faults).unwrap_or(100_000);
    let store = if session.field("redis").is_some() {
        if let Some(field) = session.field("memory") {
            faults.push(Diagnostic::warning(
                &field.key,
                Fault::new("`session.memory` has no effect: sessions are kept in Redis").help("Remove one of the two."),
            ));
        }
        if session.field("secret").is_none()
            || session.text("secret", &mut Faults::new()).is_some_and(|text| text.text.is_empty())
        {
            faults.push(Diagnostic::error(
                &redis.place,
                Fault::new("sessions kept in Redis need `session.secret`").help(
                    "They are encrypted with it: set a long random text, best as `PORTCULLIS_SESSION_SECRET_FILE`.",
                ),
            ));
        }
        store(&redis, faults).map(StoreSettings::Redis)
    } else {
        Some(StoreSettings::Memory { capacity })
    };
    if let Some(secret) = secret.as_ref().filter(|secret| secret.text.chars().count() < 20) {
        faults.push(Diagnostic::warning(
            &secret.place,
            Fault::new("`session.secret` is short").help("Take 64 random characters, so that it can't be guessed."),
        ));
    }
    Some(Settings { sites: sites?, store: store?, secret: secret.map(|secret| Secret::new(secret.text.to_owned())) })
}

/// The keys that stand under `session` for all cookie domains, and under each of `session.cookies`.
#[derive(Clone)]
struct Common {
    name: String,
    same_site: SameSite,
    inactivity: Duration,
    expiration: Duration,
    remember_me: Option<Duration>,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            name: "authelia_session".to_owned(),
            same_site: SameSite::Lax,
            inactivity: Duration::from_secs(5 * 60),
            expiration: Duration::from_secs(60 * 60),
            remember_me: Some(Duration::from_secs(30 * 24 * 60 * 60)),
        }
    }
}

impl Common {
    /// What `section` says, and `self` where it says nothing.
    fn with(self, section: &Section<'_>, faults: &mut Faults) -> Common {
        let positive = |key: &str, default: Duration, faults: &mut Faults| {
            section.span(key, faults).and_then(Span::positive).unwrap_or(default)
        };
        Common {
            inactivity: positive("inactivity", self.inactivity, faults),
            expiration: positive("expiration", self.expiration, faults),
            remember_me: match section.span("remember_me", faults) {
                Some(span) if span.is_secs(-1) => None,
                Some(span) => span.positive().or(self.remember_me),
                None => self.remember_me,
            },
            same_site: section.parse("same_site", faults).unwrap_or(self.same_site),
            name: match section.text("name", faults) {
                Some(name) if !name.text.is_empty() => name.text.to_owned(),
                Some(_) | None => self.name,
            },
        }
    }

    fn site(self, domain: CookieDomain) -> Site {
        Site {
            cookie_name: self.name,
            same_site: self.same_site,
            inactivity: self.inactivity,
            expiration: self.expiration,
            remember_me: self.remember_me,
            ..Site::new(domain)
        }
    }
}

fn sites(session: &Section<'_>, faults: &mut Faults) -> Option<Sites> {
    let common = Common::default().with(session, faults);
    let mut complete = true;
    let mut sites = Vec::new();
    let mut entries: Vec<Section<'_>> = Vec::new();
    for entry in session.sections("cookies", faults) {
        match site(&entry, common.clone(), faults) {
            Some(site) => {
                sites.push(site);
                entries.push(entry);
            }
            None => complete = false,
        }
    }
    match (session.field("cookies"), session.field("domain")) {
        (Some(_), Some(domain)) => {
            let fault = Fault::new("`session.domain` can't stand beside `session.cookies`")
                .help("It is the older form: make it an entry of `session.cookies`.");
            faults.push(Diagnostic::error(&domain.key, fault));
            return None;
        }
        (None, Some(domain)) => {
            let fault = Fault::new("`session.domain` is the older form")
                .help("Write `session.cookies` with `domain` and `authelia_url`.");
            faults.push(Diagnostic::warning(&domain.key, fault));
            sites.push(common.site(session.parse("domain", faults)?));
            entries.push(session.clone());
        }
        (Some(cookies), None) if !matches!(&cookies.node.value, Value::List(items) if items.is_empty()) => {}
        (_, None) => {
            let fault = Fault::new("`session.cookies` is missing")
                .help("Name at least one: `- {domain: example.com, authelia_url: 'https://auth.example.com/'}`.");
            faults.push(Diagnostic::error(&session.place, fault));
            return None;
        }
    }
    if sites.is_empty() {
        return None;
    }
    let silent = &mut Faults::new();
    match Sites::new(sites) {
        Ok(sites) => complete.then_some(sites),
        Err(found) => {
            for (index, key, fault) in found {
                let Some(entry) = entries.get(index) else { continue };
                let text = entry.text(key, silent);
                // The name may be that of all of them.
                let text = text.or_else(|| session.text(key, silent));
                match text {
                    Some(text) => text.refuse(fault, faults),
                    None => faults.push(Diagnostic::error(&entry.place, fault)),
                }
            }
            None
        }
    }
}

fn site(entry: &Section<'_>, common: Common, faults: &mut Faults) -> Option<Site> {
    if !entry.is_present() {
        return None;
    }
    let known = faults.len();
    let common = common.with(entry, faults);
    let domain: Option<CookieDomain> =
        required(entry, "domain", "Write the domain of the applications: `domain: example.com`.", faults)
            .and_then(|text| text.parse(faults));
    let portal = required(
        entry,
        "authelia_url",
        "Write where people sign in: `authelia_url: 'https://auth.example.com/'`.",
        faults,
    )
    .and_then(|text| text.parse(faults));
    let default_redirection = entry.parse("default_redirection_url", faults);
    let site = Site { portal, default_redirection, ..common.site(domain?) };
    // Warnings do not make an entry unusable.
    faults.iter().skip(known).all(|fault| !fault.is_error(false)).then_some(site)
}

/// A text that has to be there.
fn required<'t>(entry: &Section<'t>, key: &str, help: &str, faults: &mut Faults) -> Option<Text<'t>> {
    if entry.field(key).is_none() {
        faults.push(Diagnostic::error(&entry.place, Fault::new(format!("this entry has no `{key}`")).help(help)));
    }
    entry.text(key, faults)
}

fn store(redis: &Section<'_>, faults: &mut Faults) -> Option<redis::Settings> {
    if !redis.is_present() {
        return None;
    }
    let host = redis.text("host", faults).filter(|host| !host.text.is_empty());
    if host.is_none() && redis.text("host", &mut Faults::new()).is_none_or(|text| text.text.is_empty()) {
        faults.push(Diagnostic::error(
            &redis.place,
            Fault::new("`session.redis.host` is missing").help("Write a host, or the absolute path of a socket."),
        ));
    }
    let port = redis.integer("port", 1..=u16::MAX, faults).unwrap_or(6379);
    let settings = |endpoint| redis::Settings::new(endpoint);
    let defaults = settings(Endpoint::Unix(PathBuf::new()));
    let max_connections =
        redis.integer("maximum_active_connections", 1..=4096, faults).unwrap_or(defaults.max_connections);
    let min_idle = redis.integer("minimum_idle_connections", 0..=4096, faults).unwrap_or(defaults.min_idle);
    if min_idle > max_connections
        && let Some(field) = redis.field("minimum_idle_connections")
    {
        faults.push(Diagnostic::error(
            &field.node.place,
            Fault::new("more connections are to be idle than there may be")
                .help("Make `minimum_idle_connections` at most `maximum_active_connections`."),
        ));
    }
    let text = |key: &str, faults: &mut Faults| {
        redis.text(key, faults).map(|text| text.text.to_owned()).filter(|text| !text.is_empty())
    };
    let username = text("username", faults);
    let password = text("password", faults).map(Secret::new);
    let database_index = redis.integer("database_index", 0..=u32::MAX, faults).unwrap_or(defaults.database_index);
    let timeout = redis.span("timeout", faults).and_then(Span::positive).unwrap_or(defaults.timeout);
    let max_retries = redis.integer("max_retries", 0..=100, faults).unwrap_or(defaults.max_retries);
    let tls = tls(&redis.section("tls", faults), faults);
    let host = host?.text;
    let endpoint = match host.strip_prefix('/') {
        Some(_) => Endpoint::Unix(PathBuf::from(host)),
        None => Endpoint::Tcp { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port },
    };
    Some(redis::Settings {
        endpoint,
        username,
        password,
        database_index,
        timeout,
        max_connections,
        min_idle,
        max_retries,
        tls,
    })
}

/// TLS is spoken where the section is there, even if it is empty.
fn tls(tls: &Section<'_>, faults: &mut Faults) -> Option<Tls> {
    if !tls.is_present() {
        return None;
    }
    let skip_verify = tls.boolean("skip_verify", faults).unwrap_or(false);
    if skip_verify && let Some(field) = tls.field("skip_verify") {
        faults.push(Diagnostic::warning(
            &field.node.place,
            Fault::new("the certificate of Redis is not checked")
                .help("Whoever is in between can read and change what is stored: give `ca` the authority to trust."),
        ));
    }
    let minimum_version = tls.parse("minimum_version", faults).map(|Version(version)| version);
    let maximum_version = tls.parse("maximum_version", faults).map(|Version(version)| version);
    if let (Some(minimum), Some(maximum), Some(field)) =
        (minimum_version, maximum_version, tls.field("minimum_version"))
        && minimum > maximum
    {
        faults.push(Diagnostic::error(
            &field.node.place,
            Fault::new("`minimum_version` is above `maximum_version`").help("No version is left: change one of them."),
        ));
    }
    let mut text = |key: &str| tls.text(key, faults).map(|text| text.text.to_owned()).filter(|text| !text.is_empty());
    let (certificate_chain, private_key) = (text("certificate_chain"), text("private_key"));
    let (server_name, ca) = (text("server_name"), text("ca"));
    if certificate_chain.is_some() != private_key.is_some()
        && (tls.field("certificate_chain").is_none() || tls.field("private_key").is_none())
    {
        faults.push(Diagnostic::error(
            &tls.place,
            Fault::new("`certificate_chain` and `private_key` go together, and one of them is missing")
                .help("Give both, as PEM, or neither."),
        ));
    }
    Some(Tls {
        server_name,
        skip_verify,
        minimum_version,
        maximum_version,
        ca: ca.map(PathBuf::from),
        certificate_chain,
        private_key: private_key.map(Secret::new),
    })
}

/// A version of TLS as it is configured.
struct Version(TlsVersion);

impl FromStr for Version {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Version, Fault> {
        match text {
            "TLS1.2" => Ok(Version(TlsVersion::Tls12)),
            "TLS1.3" => Ok(Version(TlsVersion::Tls13)),
            "TLS1.0" | "TLS1.1" | "SSL3.0" => {
                Err(Fault::new(format!("`{text}` is broken and not spoken"))
                    .help("The versions are TLS1.2 and TLS1.3."))
            }
            _ => {
                Err(Fault::new(format!("unknown version of TLS `{text}`")).help("The versions are TLS1.2 and TLS1.3."))
            }
        }
    }
}
