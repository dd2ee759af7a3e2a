//! Configuration: files and the environment in, settings or every diagnostic out.
//!
//! Three shapes and no more: the tree as written (`raw.rs`), where everything knows its place; the
//! settings as meant, which each room defines for itself; and, of the rules, the policy as run. What is
//! a good value is for the rooms to say; what only `config` knows is where it stood.
//!
//! It reads the files it is given, the environment it is given, and the files that `…_FILE` variables
//! name. It opens nothing else and no socket, so that checking a configuration changes nothing.

mod access;
mod accounts;
mod diagnostic;
mod keys;
mod listen;
mod raw;
mod read;
mod secrets;
mod sessions;
mod source;
mod value;

use std::path::PathBuf;

use crate::authz::settings::Endpoint;
use crate::factor::password::NewDigest;
use crate::peer::TrustedProxies;
use crate::policy::Policy;
use crate::telemetry::log;
use crate::{identity, regulation, session, signin};

pub use diagnostic::{Diagnostic, Position, Severity};
pub use listen::{Limits, Listener, TlsSettings};
pub use source::Environment;
pub use value::Address;

use read::{Faults, Section};

/// Everything that `serve` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The rules, compiled (`access_control`).
    pub policy: Policy,
    /// The cookie domains, and where sessions are kept (`session`).
    pub session: session::Settings,
    /// The users file (`authentication_backend.file`).
    pub users: identity::file::Settings,
    /// How often sessions look whether their account has changed (`authentication_backend.refresh_interval`).
    pub refresh: identity::Refresh,
    /// How new password digests are made (`authentication_backend.file.password`).
    pub hashing: NewDigest,
    /// How many passwords may be checked at once (`signin`).
    pub hashing_pool: signin::pool::Settings,
    /// How much guessing is put up with (`regulation`).
    pub regulation: regulation::Limits,
    /// The authorization endpoints (`server.endpoints.authz`).
    pub endpoints: Vec<Endpoint>,
    /// Where the gate listens (`server`).
    pub gate: Listener,
    /// Where Envoy asks over gRPC (`server.grpc`); `None` unless it has an address.
    pub grpc: Option<Listener>,
    /// Where the portal listens (`portal`).
    pub portal: Listener,
    /// Where metrics are served (`telemetry.metrics`); `None` if they are switched off.
    pub metrics: Option<Listener>,
    /// Whose forwarded facts are believed (`server.trusted_proxies`).
    pub trusted_proxies: TrustedProxies,
    /// Whether a request may say where people sign in (`server.portal_override`).
    pub portal_override: bool,
    /// What the listeners put up with.
    pub limits: Limits,
    /// The log (`log`).
    pub log: log::Settings,
}

/// A configuration that can be used, and what is to be said of it all the same.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What was read.
    pub settings: T,
    /// In the order of the files. Those of [`Severity::Strict`] are errors to whoever asks for that.
    pub warnings: Vec<Diagnostic>,
}

/// Reads `files` in order, each over those before it, and `environment` over all.
///
/// # Errors
///
/// Everything that is wrong, and the warnings, in the order of the files.
pub fn load(files: &[PathBuf], environment: &Environment) -> Result<Loaded<Settings>, Vec<Diagnostic>> {
    with_tree(files, environment, |root, faults| {
        let access = access::policy(root, faults);
        access::clients_are_listed(root, faults);
        let session = sessions::settings(root, faults);
        let users = accounts::users(root, faults);
        let refresh = accounts::refresh(root, users.as_ref().is_some_and(|users| users.watch), faults);
        let hashing = accounts::hashing(root, faults);
        let hashing_pool = accounts::hashing_pool(root, faults);
        let regulation = accounts::regulation(root, faults);
        let endpoints = listen::endpoints(root, faults);
        let gate = listen::gate(root, faults);
        let grpc = listen::grpc(root, faults);
        let portal = listen::portal(root, faults);
        let metrics = listen::metrics(root, faults);
        listen::distinct(root, &gate, grpc.as_ref(), &portal, metrics.as_ref(), faults);
        listen::reachable(root, &gate, grpc.as_ref(), &portal, faults);
        let trusted_proxies = listen::trusted_proxies(root, faults);
        let portal_override = listen::portal_override(root, faults);
        let limits = listen::limits(root, faults);
        let log = listen::log(root, faults);
        if let Some(access) = &access {
            access.lints(faults);
            access.network_lints(&trusted_proxies, faults);
            if let Some(session) = &session {
                let portals = session.sites.iter().filter_map(|site| site.portal.as_ref());
                access.portal_is_reachable(&portals.map(|portal| portal.host()).collect::<Vec<_>>(), faults);
            }
        }
        Some(Settings {
            policy: access?.policy,
            session: session?,
            users: users?,
            refresh,
            hashing,
            hashing_pool,
            regulation,
            endpoints,
            gate,
            grpc,
            portal,
            metrics,
            trusted_proxies,
            portal_override,
            limits,
            log,
        })
    })
}

/// Reads only what the `policy` commands need: `access_control` and `definitions`. A rule may name any OAuth 2.0
/// client here, since the list of them is elsewhere.
///
/// # Errors
///
/// Everything that is wrong with those, and every unknown key.
pub fn load_policy(files: &[PathBuf], environment: &Environment) -> Result<Loaded<Policy>, Vec<Diagnostic>> {
    with_tree(files, environment, |root, faults| {
        let access = access::policy(root, faults)?;
        access.lints(faults);
        Some(access.policy)
    })
}

/// Each diagnostic once: a section is read by as many as want something of it, and each says what is
/// wrong with it. Expects them sorted.
fn once(faults: Faults) -> Faults {
    let mut kept = Faults::with_capacity(faults.len());
    for fault in faults {
        let mut beside = kept.iter().rev().take_while(|other: &&Diagnostic| other.reading_order(&fault).is_eq());
        if !beside.any(|other| *other == fault) {
            kept.push(fault);
        }
    }
    kept
}

/// Reads the tree, has `compile` make something of it, and sorts what is said of both.
fn with_tree<T>(
    files: &[PathBuf],
    environment: &Environment,
    compile: impl FnOnce(&Section<'_>, &mut Faults) -> Option<T>,
) -> Result<Loaded<T>, Vec<Diagnostic>> {
    let mut faults = Faults::new();
    let (tree, complete) = source::read(files, environment, &mut faults);
    keys::check(&tree, &mut faults);
    // Without one of the files, whatever it holds would be said to be missing.
    let settings = if complete { compile(&Section::root(&tree), &mut faults) } else { None };
    faults.sort_by(Diagnostic::reading_order);
    let faults = once(faults);
    match settings {
        Some(settings) if faults.iter().all(|fault| !fault.is_error(false)) => {
            Ok(Loaded { settings, warnings: faults })
        }
        _ => Err(faults),
    }
}
