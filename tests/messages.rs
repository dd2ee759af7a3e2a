//! Each diagnostic of the configuration, word for word.
//!
//! A case is `tests/data/config/NAME.yaml`, or two files `NAME.1.yaml` and `NAME.2.yaml`; variables in
//! `NAME.env`, one `NAME=value` a line; and what is said of it in `NAME.txt`. Unless the name begins with
//! `bare_`, it is laid over `tests/data/base.yaml`, which has what must be there.

#![cfg(test)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use portcullis::config::{self, Environment};

#[derive(Default)]
struct Case {
    files: Vec<PathBuf>,
    environment: Vec<(String, OsString)>,
    expected: String,
}

fn cases() -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir("tests/data/config").unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (case, _) = name.split_once('.').unwrap();
        let bare = case.starts_with("bare_");
        let case = cases.entry(case.to_owned()).or_insert_with(|| Case {
            files: if bare { vec![] } else { vec!["tests/data/base.yaml".into()] },
            ..Case::default()
        });
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => case.files.push(path),
            Some("txt") => case.expected = std::fs::read_to_string(path).unwrap(),
            Some("env") => case.environment = environment(&path),
            _ => {}
        }
    }
    cases
}

fn environment(path: &Path) -> Vec<(String, OsString)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), OsString::from(value)))
        .collect()
}

fn said(case: &Case) -> String {
    let environment = Environment::new(case.environment.clone());
    let (verdict, said) = match config::load(&case.files, &environment) {
        Ok(loaded) => ("good", loaded.warnings),
        Err(said) => ("refused", said),
    };
    let mut text: String = said.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    text.push_str(&format!("=> {verdict}\n"));
    text
}

#[test]
fn every_message_is_word_for_word_as_expected() {
    let cases = cases();
    assert!(cases.len() > 20, "where are they?");
    let mut wrong = String::new();
    for (name, case) in &cases {
        let said = said(case);
        if said != case.expected {
            wrong.push_str(&format!("--- {name}: expected\n{}--- {name}: said\n{said}\n", case.expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_message_shows_a_secret() {
    for (name, case) in &cases() {
        assert!(!said(case).contains("hunter2"), "{name}");
    }
}
