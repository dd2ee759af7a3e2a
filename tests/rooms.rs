//! Which room may import which: every `crate::` path in `src` against the layers of ARCHITECTURE.md.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms by layer; a room imports only from lower layers, from itself, and from `telemetry` if it
/// is none of the pure ones.
const LAYERS: [&[&str]; 8] = [
    &["address", "clock", "fault", "secret", "watch", "work"],
    &["object", "peer", "subject", "trust"],
    &["policy", "regulation", "factor"],
    &["session", "identity", "storage", "notify"],
    &["signin"],
    &["authz", "doctor", "portal"],
    &["config"],
    &["server", "cli"],
];

/// The vocabulary and the rooms that decide.
const PURE_LAYERS: usize = 3;

/// What those may not touch: runtimes, sockets, stores, logs.
const NOT_IN_PURE_ROOMS: [&str; 7] = ["tokio", "hyper", "redis", "bb8", "tracing", "serde", "serde_saphyr"];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("read the folder") {
        let path = entry.expect("read the entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names that follow `crate::` in `text`, braces opened up one level.
fn imported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in text.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let inside = list.split('}').next().unwrap_or_default();
            names.extend(inside.split(',').map(|item| item.trim().split("::").next().unwrap_or_default().to_owned()));
        } else {
            names.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn each_room_imports_only_from_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&src).expect("below src");
        let first = relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("read the source");
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        *seen.entry(room.clone()).or_default() += 1;
        if room == "telemetry" {
            let foreign: Vec<_> = imported(&code).into_iter().filter(|name| name != "telemetry").collect();
            if !foreign.is_empty() {
                wrong.push(format!("{}: telemetry calls nobody, yet imports {foreign:?}", relative.display()));
            }
            continue;
        }
        let Some(own) = layer(&room) else {
            wrong.push(format!("{}: the room `{room}` has no layer", relative.display()));
            continue;
        };
        for name in imported(&code) {
            let fine = name == room
                || (name == "telemetry" && own >= PURE_LAYERS)
                || layer(&name).is_some_and(|other| other < own)
                || (room == "cli" && name == "server");
            if !fine {
                wrong.push(format!("{}: `{room}` (layer {own}) imports `{name}`", relative.display()));
            }
        }
        if own < PURE_LAYERS {
            for runtime in NOT_IN_PURE_ROOMS {
                if code.contains(&format!("{runtime}::")) {
                    wrong.push(format!("{}: `{room}` is pure, yet uses `{runtime}`", relative.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.len() > 10, "the walk found only {seen:?}");
}

#[test]
fn the_walk_sees_what_is_imported() {
    assert_eq!(imported("use crate::{policy::Policy, session}; crate::authz::Gate"), ["policy", "session", "authz"]);
    assert_eq!(layer("policy"), Some(2));
}
