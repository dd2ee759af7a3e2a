//! `authentication_backend` and `regulation`: who may sign in, and how often they may try.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::read::{Faults, Field, Section};
use super::value::Span;
use crate::factor::password::{Argon2Variant, BcryptVariant, NewDigest, Pbkdf2Variant, Sha2CryptVariant};
use crate::fault::Fault;
use crate::identity::{Refresh, file};
use crate::regulation::Limits;
use crate::signin;

/// `authentication_backend.file`.
pub(super) fn users(root: &Section<'_>, faults: &mut Faults) -> Option<file::Settings> {
    let backend = root.section("authentication_backend", faults);
    let users = backend.section("file", faults);
    let path = users.text("path", faults);
    let watch = users.boolean("watch", faults).unwrap_or(false);
    let search = users.section("search", faults);
    let search_email = search.boolean("email", faults).unwrap_or(false);
    let search_case_insensitive = search.boolean("case_insensitive", faults).unwrap_or(false);
    match path.filter(|path| !path.text.is_empty()) {
        Some(path) => {
            Some(file::Settings { path: PathBuf::from(path.text), watch, search_email, search_case_insensitive })
        }
        None => {
            // A path of the wrong kind, and a backend that is not served, have been refused already.
            let is_said = |field: Option<Field<'_>>| field.is_some_and(|field| !field.node.value.says_nothing());
            if !is_said(users.field("path")) && !is_said(backend.field("ldap")) {
                faults.push(Diagnostic::error(
                    &users.place,
                    Fault::new("`authentication_backend.file.path` is missing")
                        .help("Nobody could sign in: name the users file, as in `path: users.yaml`."),
                ));
            }
            None
        }
    }
}

/// `authentication_backend.refresh_interval`; a watched file is looked at on every request, as that
/// costs nothing.
pub(super) fn refresh(root: &Section<'_>, watch: bool, faults: &mut Faults) -> Refresh {
    let backend = root.section("authentication_backend", faults);
    let word = backend.field("refresh_interval").and_then(|field| field.text(&mut Faults::new()));
    match word.map(|text| text.text) {
        Some("disable") => Refresh::Never,
        Some("always") => Refresh::Always,
        _ => match backend.span("refresh_interval", faults) {
            Some(span) => span.positive().map_or(Refresh::Always, Refresh::Every),
            None if watch => Refresh::Always,
            None => Refresh::default(),
        },
    }
}

/// `authentication_backend.file.password`: how new digests are made.
pub(super) fn hashing(root: &Section<'_>, faults: &mut Faults) -> NewDigest {
    let file = root.section("authentication_backend", faults).section("file", faults);
    let password = file.section("password", faults);
    let algorithm: Option<Algorithm> = password.parse("algorithm", faults);
    // All of them are read, so that faults in those that are not chosen are found too.
    let argon2 = argon2(&password.section("argon2", faults), faults);
    let sha2crypt = sha2crypt(&password.section("sha2crypt", faults), faults);
    let pbkdf2 = pbkdf2(&password.section("pbkdf2", faults), faults);
    let bcrypt = bcrypt(&password.section("bcrypt", faults), faults);
    let scrypt = scrypt(&password.section("scrypt", faults), faults);
    let (key, chosen) = match algorithm.map_or("argon2", |algorithm| algorithm.0) {
        "sha2crypt" => ("sha2crypt", sha2crypt),
        "pbkdf2" => ("pbkdf2", pbkdf2),
        "bcrypt" => ("bcrypt", bcrypt),
        "scrypt" => ("scrypt", scrypt),
        _ => ("argon2", argon2),
    };
    match chosen.checked() {
        Ok(digest) => digest,
        Err(fault) => {
            let place =
                password.field(key).or(password.field("algorithm")).map_or(password.place.clone(), |field| field.key);
            faults.push(Diagnostic::error(&place, fault));
            NewDigest::default()
        }
    }
}

/// The name of an algorithm that there is.
struct Algorithm(&'static str);

impl FromStr for Algorithm {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Algorithm, Fault> {
        NewDigest::named(text)?;
        ["argon2", "sha2crypt", "pbkdf2", "bcrypt", "scrypt"]
            .into_iter()
            .find(|name| *name == text)
            .map(Algorithm)
            .ok_or_else(|| Fault::new(format!("unknown algorithm `{text}`")))
    }
}

/// One of the variants of an algorithm, by name.
fn variant<T: Copy>(section: &Section<'_>, names: &[(&str, T)], default: T, faults: &mut Faults) -> T {
    let Some(text) = section.text("variant", faults) else { return default };
    match names.iter().find(|(name, _)| *name == text.text) {
        Some((_, variant)) => *variant,
        None => {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let fault = Fault::new(format!("unknown variant `{}`", text.text))
                .help(format!("The variants are {}.", known.join(", ")));
            text.refuse(fault, faults);
            default
        }
    }
}

/// A parameter; which values make sense together is the algorithm's to say.
fn number(section: &Section<'_>, key: &str, default: u32, faults: &mut Faults) -> u32 {
    section.integer(key, 1..=u32::MAX, faults).unwrap_or(default)
}

fn argon2(section: &Section<'_>, faults: &mut Faults) -> NewDigest {
    let names = [("argon2id", Argon2Variant::Id), ("argon2i", Argon2Variant::I), ("argon2d", Argon2Variant::D)];
    NewDigest::Argon2 {
        variant: variant(section, &names, Argon2Variant::Id, faults),
        memory_kib: number(section, "memory", 65536, faults),
        iterations: number(section, "iterations", 3, faults),
        parallelism: number(section, "parallelism", 4, faults),
        key_length: number(section, "key_length", 32, faults),
        salt_length: number(section, "salt_length", 16, faults),
    }
}

fn sha2crypt(section: &Section<'_>, faults: &mut Faults) -> NewDigest {
    let names = [("sha256", Sha2CryptVariant::Sha256), ("sha512", Sha2CryptVariant::Sha512)];
    if section.integer("salt_length", 1..=u32::MAX, faults).is_some_and(|length| length != 16)
        && let Some(field) = section.field("salt_length")
    {
        faults.push(Diagnostic::warning(
            &field.node.place,
            Fault::new("the salt of sha2crypt is always 16 characters long").help("Remove `salt_length`."),
        ));
    }
    NewDigest::Sha2Crypt {
        variant: variant(section, &names, Sha2CryptVariant::Sha512, faults),
        iterations: number(section, "iterations", 50_000, faults),
    }
}

fn pbkdf2(section: &Section<'_>, faults: &mut Faults) -> NewDigest {
    let names = [
        ("sha1", Pbkdf2Variant::Sha1),
        ("sha224", Pbkdf2Variant::Sha224),
        ("sha256", Pbkdf2Variant::Sha256),
        ("sha384", Pbkdf2Variant::Sha384),
        ("sha512", Pbkdf2Variant::Sha512),
    ];
    let variant = variant(section, &names, Pbkdf2Variant::Sha512, faults);
    NewDigest::Pbkdf2 {
        variant,
        iterations: number(section, "iterations", variant.default_rounds(), faults),
        salt_length: number(section, "salt_length", 16, faults),
    }
}

fn bcrypt(section: &Section<'_>, faults: &mut Faults) -> NewDigest {
    let names = [("standard", BcryptVariant::Standard), ("sha256", BcryptVariant::Sha256)];
    NewDigest::Bcrypt {
        variant: variant(section, &names, BcryptVariant::Standard, faults),
        cost: number(section, "cost", 12, faults),
    }
}

fn scrypt(section: &Section<'_>, faults: &mut Faults) -> NewDigest {
    // yescrypt digests are read, not made.
    variant(section, &[("scrypt", ())], (), faults);
    NewDigest::Scrypt {
        iterations: section.integer("iterations", 1..=58_u8, faults).unwrap_or(16),
        block_size: number(section, "block_size", 8, faults),
        parallelism: number(section, "parallelism", 1, faults),
        key_length: number(section, "key_length", 32, faults),
        salt_length: number(section, "salt_length", 16, faults),
    }
}

/// `regulation`.
pub(super) fn regulation(root: &Section<'_>, faults: &mut Faults) -> Limits {
    let regulation = root.section("regulation", faults);
    let defaults = Limits::default();
    let span = |key: &str, default: Duration, faults: &mut Faults| {
        regulation.span(key, faults).and_then(Span::positive).unwrap_or(default)
    };
    let find_time = span("find_time", defaults.find_time, faults);
    let ban_time = span("ban_time", defaults.ban_time, faults);
    let max_retries = regulation.integer("max_retries", 0..=Limits::MOST_RETRIES, faults);
    let (mut by_user, mut by_address) = (false, false);
    let modes = regulation.texts("modes", faults);
    for mode in &modes {
        match mode.text {
            "user" => by_user = true,
            "ip" => by_address = true,
            _ => mode
                .refuse(Fault::new(format!("unknown mode `{}`", mode.text)).help("The modes are user and ip."), faults),
        }
    }
    if modes.is_empty() {
        (by_user, by_address) = (defaults.by_user, defaults.by_address);
    }
    let limits =
        Limits { by_user, by_address, max_retries: max_retries.unwrap_or(defaults.max_retries), find_time, ban_time };
    limits.checked().unwrap_or_else(|fault| {
        let place = regulation.field("find_time").or(regulation.field("ban_time")).map(place_of_value);
        faults.push(Diagnostic::error(&place.unwrap_or(regulation.place.clone()), fault));
        defaults
    })
}

fn place_of_value(field: Field<'_>) -> super::diagnostic::Place {
    field.node.place.clone()
}

/// `signin`: the threads that hash passwords.
pub(super) fn hashing_pool(root: &Section<'_>, faults: &mut Faults) -> signin::pool::Settings {
    let section = root.section("signin", faults);
    let defaults = signin::pool::Settings::default();
    let threads = section.integer("threads", 1..=1024, faults).and_then(NonZeroUsize::new);
    let queue = section.integer("queue", 1..=100_000, faults).and_then(NonZeroUsize::new);
    signin::pool::Settings { threads: threads.or(defaults.threads), queue: queue.unwrap_or(defaults.queue) }
}
