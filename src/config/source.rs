//! Where a configuration comes from: files, environment variables, and files that hold one secret.
//!
//! Nothing else is read here, and nothing of the environment is read anywhere else.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::diagnostic::{Diagnostic, Place, Source};
use super::keys::{self, Standing};
use super::raw::{self, Node, Value};
use crate::fault::Fault;

/// The environment variables that may be meant for us.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(String, OsString)>,
    files: Option<OsString>,
    filters: Option<OsString>,
}

/// Which files to read, where the command line names none; people moving over have it.
const FILES: &str = "X_AUTHELIA_CONFIG";
/// How files are to be rewritten before they are read.
const FILTERS: &str = "X_AUTHELIA_CONFIG_FILTERS";

/// Our prefix, and the one that people moving over have; ours wins.
const PREFIXES: [&str; 2] = ["PORTCULLIS_", "AUTHELIA_"];

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Environment {
        Environment::new(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))))
    }

    /// These variables; those that are not meant for us are passed over.
    pub fn new(variables: impl IntoIterator<Item = (String, OsString)>) -> Environment {
        let mut variables: Vec<_> = variables.into_iter().collect();
        let mut named = |wanted: &str| {
            let found = variables.iter().position(|(name, value)| name == wanted && !value.is_empty())?;
            Some(variables.swap_remove(found).1)
        };
        let (files, filters) = (named(FILES), named(FILTERS));
        let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !of_kubernetes(name);
        variables.retain(|(name, _)| ours(name));
        variables.sort();
        Environment { variables, files, filters }
    }

    /// The files of `X_AUTHELIA_CONFIG`, which are parted by commas; none if it is not set.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.files.as_deref().map(|files| files.as_encoded_bytes()).unwrap_or_default();
        let files = files.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|path| !path.is_empty());
        files.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
    }
}

/// Whether Kubernetes makes a variable of this name for a service that is called like us.
fn of_kubernetes(name: &str) -> bool {
    let port_of = |rest: &str| {
        rest.split_once('_').is_some_and(|(number, rest)| {
            number.bytes().all(|byte| byte.is_ascii_digit())
                && ["TCP", "UDP", "SCTP"].iter().any(|protocol| rest.starts_with(protocol))
        })
    };
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || PREFIXES.iter().any(|prefix| name.strip_prefix(prefix) == Some("PORT"))
        || name.match_indices("_PORT_").any(|(at, sep)| name.get(at + sep.len()..).is_some_and(port_of))
}

/// Reads `files`, lays each over those before it, and the environment over all.
///
/// What can't be read is told in `faults`; the rest is merged all the same, so that its faults are
/// found too; the second value is whether every file could be taken in.
pub(super) fn read(files: &[PathBuf], environment: &Environment, faults: &mut Vec<Diagnostic>) -> (Node, bool) {
    let mut tree = Node::empty();
    let mut complete = true;
    for (order, path) in files.iter().enumerate() {
        let Some(source) = file(path, order, faults) else {
            complete = false;
            continue;
        };
        let node = raw::parse(&source, faults);
        templates(&source, faults);
        let Some(node) = node else {
            complete = false;
            continue;
        };
        match node.value {
            Value::Map(_) => tree.overlay(node),
            Value::Null => {}
            _ => {
                complete = false;
                let fault =
                    Fault::new("a configuration is keys and values").help("Begin with a key, as in `access_control:`.");
                faults.push(Diagnostic::error(&node.place, fault));
            }
        }
    }
    variables(environment, &mut tree, faults);
    (tree, complete)
}

fn file(path: &Path, order: usize, faults: &mut Vec<Diagnostic>) -> Option<Arc<Source>> {
    let whole = || Place::File { path: path.to_owned(), order };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) => {
            let fault = Fault::new(format!("the file can't be read: {error}"))
                .help("Name the configuration by `--config FILE`; the user that runs this must be allowed to read it.");
            faults.push(Diagnostic::error(&whole(), fault));
            return None;
        }
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        faults.push(Diagnostic::error(&whole(), Fault::new("the file is UTF-16").help("Save it as UTF-8.")));
        return None;
    }
    // A byte order mark says nothing in UTF-8, and would count as a column.
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(&bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Arc::new(Source::new(path.to_owned(), text.to_owned(), order))),
        Err(error) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let source = Arc::new(Source::new(path.to_owned(), text, order));
            faults.push(Diagnostic::error(
                &Place::Span { source, start: error.valid_up_to(), len: 1 },
                Fault::new("the file is not UTF-8 from here on").help("Save it as UTF-8."),
            ));
            None
        }
    }
}

/// Warns of each line with a Go template, which would end up as the value that it should make.
fn templates(source: &Arc<Source>, faults: &mut Vec<Diagnostic>) {
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let written = line.split(" #").next().filter(|line| !line.trim_start().starts_with('#')).unwrap_or_default();
        if let Some(at) = written.find("{{")
            && let Some(end) = written.get(at..).and_then(|rest| rest.find("}}"))
        {
            let place = Place::Span { source: Arc::clone(source), start: start + at, len: end + 2 };
            let fault = Fault::new("templates are not served: this is taken as it stands")
                .help("Write the value, or put it into a variable such as `PORTCULLIS_SESSION_SECRET_FILE`.");
            faults.push(Diagnostic::warning(&place, fault));
        }
        start += line.len();
    }
}

/// What a variable's name stands for.
#[derive(Clone, Copy)]
enum Target {
    /// The value of this key.
    Value(&'static str, Standing),
    /// The value of this key stands in the file that is named.
    File(&'static str, Standing),
}

/// Every name that a variable may have, without the prefix.
fn targets() -> HashMap<String, Target> {
    let mut targets = HashMap::new();
    let takes_a_value = |path: &str| !path.contains(['[', '*']) && !keys::leads_on(path);
    for (path, standing) in keys::listed().filter(|(path, _)| takes_a_value(path)) {
        let name = path.to_ascii_uppercase().replace('.', "_");
        if may_be_in_a_file(path) {
            targets.insert(format!("{name}_FILE"), Target::File(path, standing));
        }
        targets.insert(name, Target::Value(path, standing));
    }
    targets
}

/// Whether the key holds a secret (or a certificate), which may stand in a file of its own.
fn may_be_in_a_file(path: &str) -> bool {
    // These hold the path of a file as they are.
    let is_a_path = ["server.tls.key", "portal.tls.key"].contains(&path);
    ["key", "secret", "password", "token", "certificate_chain"].iter().any(|end| path.ends_with(end)) && !is_a_path
}

/// Lays the variables over `tree`.
fn variables(environment: &Environment, tree: &mut Node, faults: &mut Vec<Diagnostic>) {
    if environment.filters.is_some() {
        let fault = Fault::new("templates are not served, nor are other filters")
            .help("The files are read as they stand: write the values into them, or into variables.");
        faults.push(Diagnostic::warning(&Place::Variable(FILTERS.to_owned()), fault));
    }
    let targets = targets();
    let from_files = tree.clone();
    // What has been set by a variable, and by which.
    let mut set: HashMap<&'static str, (&str, String)> = HashMap::new();
    for prefix in PREFIXES {
        for (name, value) in &environment.variables {
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            let place = Place::Variable(name.clone());
            let Some(target) = targets.get(rest).copied() else {
                faults.push(unknown(prefix, rest, &targets, &place));
                continue;
            };
            let (Target::Value(path, standing) | Target::File(path, standing)) = target;
            if standing == Standing::Known {
                faults.push(Diagnostic::warning(&place, keys::not_served(path)));
                continue;
            }
            let Some(value) = value.to_str() else {
                faults.push(Diagnostic::error(&place, Fault::new("the value is not UTF-8")));
                continue;
            };
            let value = match target {
                Target::Value(..) => value.to_owned(),
                Target::File(..) => match secret(value) {
                    Ok(value) => value,
                    Err(fault) => {
                        faults.push(Diagnostic::error(&place, fault));
                        continue;
                    }
                },
            };
            let keys: Vec<&str> = path.split('.').collect();
            if matches!(target, Target::File(..)) && from_files.at(&keys).is_some() {
                faults.push(Diagnostic::error(
                    &place,
                    Fault::new(format!("`{path}` is set in a configuration file too")).help("Keep one of them."),
                ));
                continue;
            }
            if let Some((other, earlier)) = set.get(path) {
                let in_a_file = name.ends_with("_FILE") || other.ends_with("_FILE");
                if *earlier != value || in_a_file {
                    faults.push(Diagnostic::error(
                        &place,
                        Fault::new(format!("`{path}` is set by `{other}` too")).help("Keep one of them."),
                    ));
                }
                continue;
            }
            set.insert(path, (name, value.clone()));
            tree.insert(&keys, Node { value: Value::Untyped(value), place });
        }
    }
}

/// The content of a file that holds one secret, without the line breaks at its end.
fn secret(path: &str) -> Result<String, Fault> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
        // The path is not shown: it may be the secret itself, put there by mistake.
        Err(error) => Err(Fault::new(format!("the file that it names can't be read: {error}"))
            .help("The variable holds the path of a file with the value in it.")),
    }
}

fn unknown(prefix: &str, rest: &str, targets: &HashMap<String, Target>, place: &Place) -> Diagnostic {
    let fault = Fault::new("no key of the configuration has this variable");
    let names = targets.iter().filter(|(_, target)| {
        let (Target::Value(_, standing) | Target::File(_, standing)) = target;
        *standing != Standing::Known
    });
    let fault = match keys::nearest(rest, names.map(|(name, _)| name.as_str())) {
        Some(near) => fault.help(format!("did you mean `{prefix}{near}`?")),
        None => fault.help("Its name is the path of a key in upper case with `_` for `.`; lists of objects have none."),
    };
    match prefix {
        // Others may use this prefix for their own ends.
        "AUTHELIA_" => Diagnostic::warning(place, fault),
        _ => Diagnostic::error(place, fault),
    }
}

#[cfg(test)]
mod tests {
    use super::of_kubernetes;

    #[test]
    fn a_service_of_our_name_is_not_a_setting() {
        for name in [
            "PORTCULLIS_SERVICE_HOST",
            "PORTCULLIS_SERVICE_PORT",
            "PORTCULLIS_SERVICE_PORT_HTTP",
            "PORTCULLIS_PORT",
            "PORTCULLIS_PORT_9091_TCP",
            "PORTCULLIS_PORT_9091_TCP_PROTO",
            "PORTCULLIS_PORTAL_SERVICE_HOST",
            "AUTHELIA_PORT_9091_UDP_ADDR",
        ] {
            assert!(of_kubernetes(name), "{name}");
        }
        for name in ["PORTCULLIS_SESSION_REDIS_PORT", "PORTCULLIS_PORTAL_ADDRESS", "PORTCULLIS_SERVER_ADDRESS"] {
            assert!(!of_kubernetes(name), "{name}");
        }
    }
}
