//! Which keys there are: those we read, those that Authelia has and we do not, and what to say of the
//! rest.
//!
//! The table is `known_keys.txt`; this is the only reader of it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::diagnostic::{Diagnostic, Place};
use super::raw::{Node, Value};
use super::secrets;
use crate::fault::Fault;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Authelia's, and read.
    Served,
    /// Authelia's, and an error.
    Refused,
    /// Authelia's, and passed over with a warning.
    Known,
    /// Ours alone.
    Ours,
}

struct Key {
    standing: Standing,
    /// Whether anything below it is read.
    leads_on: bool,
}

static TABLE: LazyLock<HashMap<&'static str, Key>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Key> =
        listed().map(|(path, standing)| (path, Key { standing, leads_on: false })).collect();
    for (path, standing) in listed() {
        if matches!(standing, Standing::Served | Standing::Ours) {
            let mut path = path;
            while let Some(end) = path.rfind(['.', '[']) {
                path = path.get(..end).unwrap_or("");
                if let Some(key) = table.get_mut(path) {
                    key.leads_on = true;
                }
            }
        }
    }
    table
});

/// Every path that others lie below.
static SECTIONS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let ends = |path: &'static str| path.match_indices(['.', '[']).filter_map(|(end, _)| path.get(..end));
    listed().flat_map(|(path, _)| ends(path)).chain([""]).collect()
});

/// The last name of every key.
static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let last = |path: &'static str| path.trim_end_matches("[]").rsplit('.').next();
    listed().filter_map(|(path, _)| last(path)).filter(|name| *name != "*").collect()
});

/// Whether keys lie below `path`, read or not.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.contains(path)
}

/// Whether some key has this last name.
pub(super) fn is_a_name(name: &str) -> bool {
    NAMES.contains(name)
}

/// The last name of every key, each once.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied()
}

/// Every key, in the order of the table.
pub(super) fn listed() -> impl Iterator<Item = (&'static str, Standing)> {
    include_str!("known_keys.txt").lines().filter_map(|line| {
        let (standing, path) = line.split_once(' ')?;
        let standing = match standing {
            "served" => Standing::Served,
            "refused" => Standing::Refused,
            "known" => Standing::Known,
            "ours" => Standing::Ours,
            _ => return None,
        };
        Some((path.trim(), standing))
    })
}

/// Whether anything that is read lies below `path`, so that it takes keys and no value of its own.
pub(super) fn leads_on(path: &str) -> bool {
    TABLE.get(path).is_some_and(|key| key.leads_on)
}

/// Judges every key of `tree`: unknown and refused ones are errors, those not served are warnings.
pub(super) fn check(tree: &Node, faults: &mut Vec<Diagnostic>) {
    walk(tree, "", "", faults);
}

/// `pattern` is where we are in the table, `path` what the reader calls it.
fn walk(node: &Node, pattern: &str, path: &str, faults: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let (pattern, standing) = match find(pattern, &entry.key) {
                    Some(found) => found,
                    None => {
                        faults.push(unknown(path, pattern, &entry.key, &entry.place));
                        continue;
                    }
                };
                let here = join(path, &entry.key);
                match standing {
                    _ if leads_on(&pattern) => walk(&entry.node, &pattern, &here, faults),
                    Standing::Served | Standing::Ours => {}
                    // Templates of a configuration write down every key there is.
                    Standing::Refused if entry.node.value.says_nothing() => {}
                    Standing::Refused => faults.push(Diagnostic::error(&entry.place, refused(&here))),
                    Standing::Known => faults.push(Diagnostic::warning(&entry.place, not_served(&here))),
                }
            }
        }
        Value::List(items) => {
            for item in items {
                walk(item, &format!("{pattern}[]"), &format!("{path}[]"), faults);
            }
        }
        _ => {}
    }
}

/// The entry of the table for `key` below `pattern`.
pub(super) fn find(pattern: &str, key: &str) -> Option<(String, Standing)> {
    [key, "*"].into_iter().find_map(|name| {
        let path = join(pattern, name);
        TABLE.get(path.as_str()).map(|key| (path, key.standing))
    })
}

/// `above` is what the reader calls the section that the key stands in.
fn unknown(above: &str, pattern: &str, key: &str, place: &Place) -> Diagnostic {
    let fault = Fault::new(format!("unknown key `{}`", join(above, &secrets::shown(key))));
    let path = join(above, key);
    if let Some(now) = renamed(&path) {
        return Diagnostic::error(place, fault.help(format!("It is an old name: write `{now}`.")));
    }
    let siblings: Vec<&str> = TABLE.keys().filter_map(|path| child_of(pattern, path)).collect();
    Diagnostic::error(
        place,
        match nearest(key, siblings.iter().copied()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            // The right name in the wrong place.
            None => match elsewhere(key) {
                Some(right) => fault.help(format!("did you mean `{right}`?")),
                None => fault.help("Remove it, or move it to where it belongs."),
            },
        },
    )
}

/// What older releases of Authelia called by this name.
fn renamed(path: &str) -> Option<&'static str> {
    Some(match path {
        "host" | "port" | "server.host" | "server.port" | "server.path" => "server.address: 'tcp://HOST:PORT/'",
        "tls_cert" => "server.tls.certificate",
        "tls_key" => "server.tls.key",
        "server.read_buffer_size" => "server.buffers.read",
        "session.remember_me_duration" => "session.remember_me",
        "log_level" | "logs_level" => "log.level",
        "log_format" => "log.format",
        "log_file_path" | "logs_file_path" => "log.file_path",
        _ => return None,
    })
}

/// The last name of `path` if it lies right below `pattern`.
fn child_of<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let rest = match pattern {
        "" => path,
        _ => path.strip_prefix(pattern)?.strip_prefix('.')?,
    };
    (!rest.contains(['.', '[']) && rest != "*").then_some(rest)
}

/// The only served key with this last name, if there is one and only one.
fn elsewhere(key: &str) -> Option<&'static str> {
    let mut found = listed().filter(|(path, standing)| {
        matches!(standing, Standing::Served | Standing::Ours) && path.rsplit('.').next() == Some(key)
    });
    match (found.next(), found.next()) {
        (Some((path, _)), None) => Some(path),
        _ => None,
    }
}

/// The name most like `word`, if any is near enough to have been meant.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(word.len()) / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}

/// What is said of a key of Authelia's that is passed over.
pub(super) fn not_served(path: &str) -> Fault {
    let fault = Fault::new(format!("`{path}` is not served yet"));
    match path {
        "totp" | "webauthn" | "duo_api" => fault.help(
            "Nobody can show a second factor yet: what a `two_factor` rule protects stays closed. Remove it to be rid of \
             this warning.",
        ),
        _ => fault.help("It has no effect; remove it to be rid of this warning."),
    }
}

fn refused(path: &str) -> Fault {
    let fault = Fault::new(format!("`{path}` is not served yet"));
    match path {
        "authentication_backend.ldap" => fault.help("Nobody could sign in: use `authentication_backend.file`."),
        "session.redis.high_availability" => {
            fault.help("One node would be used as if it were the whole: give `session.redis.host` a single server.")
        }
        _ => fault.help("Remove it."),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::{Standing, TABLE, listed, nearest};

    #[test]
    fn every_line_of_the_table_is_read_and_stands_once() {
        let lines = include_str!("known_keys.txt").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(listed().count(), lines);
        assert_eq!(TABLE.len(), lines);
        assert_eq!(TABLE["session.cookies[].domain"].standing, Standing::Served);
        assert!(TABLE["session"].leads_on && TABLE["access_control.rules"].leads_on);
        assert!(!TABLE["totp"].leads_on);
    }

    #[test]
    fn near_names_are_found() {
        let names = ["default_policy", "rules", "networks"];
        assert_eq!(nearest("defualt_policy", names.into_iter()), Some("default_policy"));
        assert_eq!(nearest("rule", names.into_iter()), Some("rules"));
        assert_eq!(nearest("session", names.into_iter()), None);
    }
}
