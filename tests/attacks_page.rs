//! Holds `docs/attacks.md` against the tree: every entry of the catalogue has its row, every test that carries a number is
//! named in that row, and every test that is named exists. And that no room but one can write a 2xx for the gate.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ENTRIES: u32 = 136;

struct Row {
    verdict: String,
    answer: String,
    tests: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The name of every function in the tree.
fn functions() -> BTreeSet<String> {
    let files = ["src", "tests"].iter().flat_map(|folder| sources(&root().join(folder)));
    let mut names = BTreeSet::new();
    for file in files {
        for rest in read(&file).split("fn ").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if rest[name.len()..].starts_with('(') {
                names.insert(name);
            }
        }
    }
    names
}

/// The entries that a test's name carries: `a01_a03_to_a05_w9_what_it_shows`.
fn numbers(name: &str) -> BTreeSet<u32> {
    let (mut found, mut last, mut range) = (BTreeSet::new(), 0, false);
    for word in name.split('_') {
        let number = |letter| word.strip_prefix(letter).and_then(|digits: &str| digits.parse::<u32>().ok());
        match (number('a'), word) {
            (Some(number), _) => {
                found.extend(if range { last + 1..=number } else { number..=number });
                (last, range) = (number, false);
            }
            (None, "to") if last > 0 => range = true,
            (None, _) if number('w').is_some() => {}
            (None, _) => break,
        }
    }
    found
}

fn rows() -> BTreeMap<u32, Row> {
    let page = read(&root().join("docs/attacks.md"));
    let mut rows = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| A")) {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect();
        let [number, _, verdict, answer, tests] = cells[..] else { panic!("five cells: {line}") };
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let row = Row { verdict: verdict.to_owned(), answer: answer.to_owned(), tests };
        let number = number.parse().unwrap_or_else(|_| panic!("`A{number}` is no entry"));
        assert!(rows.insert(number, row).is_none(), "A{number} twice");
    }
    rows
}

#[test]
fn every_entry_has_a_row_that_says_what_becomes_of_it() {
    let rows = rows();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=ENTRIES).collect::<Vec<_>>());
    for (number, row) in &rows {
        assert!(!row.answer.is_empty(), "A{number:02} says nothing");
        let carried = row.tests.iter().any(|test| numbers(test).contains(number));
        match row.verdict.as_str() {
            "tested" => assert!(carried, "A{number:02} has no test that carries its number"),
            "later" | "not applicable" => assert!(!carried, "A{number:02} has a test, and is not `tested`"),
            other => panic!("A{number:02}: `{other}` is no verdict"),
        }
    }
}

#[test]
fn the_page_names_every_test_and_no_other() {
    let (rows, functions) = (rows(), functions());
    for (number, row) in &rows {
        for test in &row.tests {
            assert!(functions.contains(test), "A{number:02} names `{test}`, which is gone");
        }
    }
    for name in &functions {
        for number in numbers(name) {
            let row = rows.get(&number).unwrap_or_else(|| panic!("`{name}` is about A{number:02}, which has no row"));
            assert!(row.tests.contains(name), "`{name}` is missing from the row of A{number:02}");
        }
    }
}

#[test]
fn numbers_are_read_from_names() {
    #[rustfmt::skip]
    let table: [(&str, &[u32]); 5] = [
        ("a05_double_slash",            &[5]),
        ("a01_to_a03_a10_w9_a104_path", &[1, 2, 3, 10, 104]),
        ("w9_a52_nothing",              &[52]),
        ("a_person_is_a07",             &[]),
        ("answers_a05",                 &[]),
    ];
    for (name, expected) in table {
        assert_eq!(numbers(name).into_iter().collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Rule 1 of the catalogue. `policy::Permit` can be made only by a verdict, and each of the two functions that write a yes
/// takes one; this is the rest: nobody else in the gate writes answers. A message of gRPC is a 200 whatever it says.
#[test]
fn a15_only_two_functions_of_the_gate_write_a_yes() {
    for file in sources(&root().join("src/authz")) {
        let text = read(&file);
        let writes = [
            "StatusCode::OK",
            "StatusCode::ACCEPTED",
            "StatusCode::NO_CONTENT",
            "from_u16",
            "Response::new",
            "Response::builder",
        ];
        let found = writes.iter().any(|words| text.contains(words));
        let may = ["answer.rs", "grpc/frame.rs", "tests.rs"].iter().any(|name| file.ends_with(name));
        assert!(!found || may, "{} writes an answer by itself", file.display());
    }
    let over_http = read(&root().join("src/authz/answer.rs"));
    assert!(over_http.contains("pub(super) fn allow(_permit: Permit,"), "a yes needs a permit");
    assert_eq!(over_http.matches("Response::new(").count(), 2, "one in `allow`, and one that is given its status");
    let over_grpc = read(&root().join("src/authz/grpc/response.rs"));
    assert!(over_grpc.contains("pub fn allow(\n        _permit: Permit,"), "a yes needs a permit over gRPC too");
    assert_eq!(over_grpc.matches("code: OK }").count(), 1, "it is the one that says so");
}
