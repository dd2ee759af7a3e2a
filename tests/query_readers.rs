//! A parameter that real PHP or real `qs` (Express) reads as the rule's is never missed by a condition on the query (A115).
//!
//! `scripts/test-tools.sh` installs both.

#![cfg(test)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis::object::Object;
use portcullis::policy::{Criteria, HostPattern, Policy, QueryTerm, Requirement, Rule};
use portcullis::subject::Subject;

/// Reads queries, a line each, and prints `1` for each in which it finds `key`, and `0` otherwise.
const PHP: &str = r#"while (($line = fgets(STDIN)) !== false) { parse_str(rtrim($line, "\n"), $read); echo isset($read[$argv[1]]) ? "1" : "0"; }"#;
const NODE: &str = r#"
const qs = require('qs');
for (const line of require('fs').readFileSync(0, 'latin1').split('\n').slice(0, -1)) {
  const found = [{}, {allowDots: true}].some(options => qs.parse(line, options)[process.argv[1]] !== undefined);
  process.stdout.write(found ? '1' : '0');
}"#;

const KEYS: [&str; 3] = ["debug", "a_b", "x"];

/// Queries in which the key stands in many disguises, and random ones of the same pieces.
fn queries(key: &str) -> Vec<String> {
    let keys = [key.to_owned(), key.replace('_', "."), key.replace('_', "%20"), key.replace('_', "["), escaped(key)];
    let before = ["", "+", "%20", "++", "[", "%5b", "]", ".", "_", "x=1&", "&", "x=1;", "%00", "%0a", "x[", "?"];
    let behind = [
        "", "[]", "[a]", "[][b]", "%5B%5D", "[", "]", "%00", "%00x", ".", ".a", "+", "%20", "[a", "[]]", "%5ba%5d",
        "[0]=1&",
    ];
    let mut queries = Vec::new();
    for key in &keys {
        for before in before {
            queries.extend(behind.map(|behind| format!("{before}{key}{behind}=1")));
        }
    }
    let pieces: Vec<&str> =
        keys.iter().map(String::as_str).chain(before).chain(behind).chain(["=", "=1", "&", "a", "b"]).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    queries.extend((0..20_000).map(|_| (0..=below(5)).map(|_| pieces[below(pieces.len())]).collect::<String>()));
    queries
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// For each query whether the program finds the key.
fn found(program: &mut Command, queries: &[String]) -> Vec<bool> {
    let mut child =
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("scripts/test-tools.sh installs it");
    let mut input = child.stdin.take().expect("its input");
    let lines = queries.join("\n") + "\n";
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("its answer");
    writer.join().expect("the writer").expect("it reads all");
    assert!(output.status.success());
    output.stdout.iter().map(|byte| *byte == b'1').collect()
}

/// Where the parameter must be absent, and where it must be there.
fn policies(key: &str) -> [Policy; 2] {
    let policy = |operator: &str, requirement, default| {
        let term = QueryTerm::new(Some(key), Some(operator), None).expect("a condition");
        let hosts = vec![HostPattern::domain("app.example.com").expect("a host")];
        let criteria = Criteria { hosts, query: vec![vec![term]], ..Criteria::default() };
        Policy::compile(vec![Rule::new(criteria, requirement).expect("a rule")], default)
    };
    [
        policy("absent", Requirement::Bypass, Requirement::Deny),
        policy("present", Requirement::Deny, Requirement::Bypass),
    ]
}

fn nothing_is_missed(reader: &str, program: impl Fn(&str) -> Command) {
    for key in KEYS {
        let queries = queries(key);
        let found = found(&mut program(key), &queries);
        assert_eq!(found.len(), queries.len());
        assert!(found.iter().filter(|found| **found).count() > 100, "{reader} finds the key in many");
        let policies = policies(key);
        for (query, _) in queries.iter().zip(found).filter(|(_, found)| *found) {
            let target = format!("/?{query}");
            let object = Object::from_parts(b"GET", b"https", b"app.example.com", target.as_bytes());
            let Ok(object) = object else { continue };
            for policy in &policies {
                let verdict = policy.decide(&Subject::anonymous(None), &object).map(|verdict| verdict.requirement);
                assert_ne!(verdict, Ok(Requirement::Bypass), "{reader} reads `{key}` from `{query}`");
            }
        }
    }
}

#[test]
fn a115_php_reads_no_parameter_that_a_condition_misses() {
    nothing_is_missed("PHP", |key| {
        let mut php = Command::new("php");
        php.args(["-d", "display_errors=0", "-r", PHP, "--", key]);
        php
    });
}

#[test]
fn a115_qs_reads_no_parameter_that_a_condition_misses() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    nothing_is_missed("qs", |key| {
        let mut node = Command::new("node");
        node.env("NODE_PATH", tools.join("node_modules")).args(["-e", NODE, "--", key]);
        node
    });
}
