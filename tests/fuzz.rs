//! The short run of the fuzz targets: the committed corpora, what once went wrong, and mutations of both
//! from a fixed seed. The long run, with libFuzzer, is described in `fuzz/README.md`.

#![cfg(test)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use targets::{TARGETS, corpora, gate};

#[test]
fn check_requests_hold() {
    hold("check_request", 6_000);
}

#[test]
fn cookies_hold() {
    hold("cookie", 20_000);
}

#[test]
fn plain_requests_hold() {
    hold("express", 5_000);
}

#[test]
fn forwarded_chains_hold() {
    hold("forwarded", 40_000);
}

#[test]
fn hosts_hold() {
    hold("host", 20_000);
}

#[test]
fn paths_hold() {
    hold("path", 3_000);
}

#[test]
fn return_addresses_hold() {
    hold("rd", 20_000);
}

#[test]
fn requests_hold() {
    hold("request", 5_000);
}

#[test]
fn rule_files_hold() {
    hold("rules", 600);
}

#[test]
fn work_is_bounded() {
    hold("work", 1_000);
}

#[test]
fn every_target_is_run_here_and_by_libfuzzer() {
    let here = fs::read_to_string(file!()).unwrap();
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(here.contains(&format!("hold(\"{name}\", ")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder().join("fuzz_targets").join(name).with_extension("rs").exists(), "{name}");
    }
}

#[test]
fn the_corpora_reach_an_allow_in_every_dialect_and_by_every_rule() {
    for name in ["request", "check_request"] {
        kept(name).iter().for_each(|input| target(name)(input));
    }
    gate::with(|fixture| {
        let allowed = fixture.allowed().join("\n");
        for endpoint in ["forward-auth", "auth-request", "ext-authz", "legacy", "grpc"] {
            assert!(allowed.contains(&format!("endpoint=\"{endpoint}\"")), "{endpoint} never allowed: {allowed}");
        }
        // The first rule denies.
        for rule in 2..=gate::rules().len() {
            assert!(allowed.contains(&format!("rule=\"{rule}\"")), "rule {rule} never allowed: {allowed}");
        }
    });
}

#[test]
fn a_corpus_reads_back_as_it_was_written() {
    let inputs = vec![Vec::new(), (0..=255).collect(), b"\\x41 \\n '\"".to_vec()];
    let mut read = corpora::unpack(&corpora::pack(inputs.clone()));
    read.sort();
    let mut inputs = inputs;
    inputs.sort();
    assert_eq!(read, inputs);
}

/// Runs a target on its corpus, on what once went wrong, and on as many mutations.
fn hold(name: &str, mutations: usize) {
    let run = target(name);
    let inputs = [kept(name), regressions(name)].concat();
    assert!(inputs.len() > 10, "{name} has a corpus");
    for input in &inputs {
        let _shown = Shown { name, input };
        run(input);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..mutations {
        let input = &mutated(&inputs, &mut random);
        let _shown = Shown { name, input };
        run(input);
    }
}

fn target(name: &str) -> fn(&[u8]) {
    TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target of this name").1
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn kept(name: &str) -> Vec<Vec<u8>> {
    corpora::unpack(&fs::read_to_string(folder().join("corpora").join(name).with_extension("txt")).unwrap())
}

/// What once went wrong, a file each, named for what it was.
fn regressions(name: &str) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder().join("regressions").join(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Says which input it was, if a target panics.
struct Shown<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {}", self.name, self.input.escape_ascii());
        }
    }
}

/// A generator of the xorshift kind: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// One of `inputs`, changed in one to four places.
fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TELLING: &[u8] = b"/.%;\\?#@:,= \t\"'[]{}<>*&|-_~\0\x7f\x80\xff0aA2fe5c";
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let from = random.below(bytes.len() + 1);
        let to = (from + random.below(16)).min(bytes.len());
        match random.below(6) {
            0 if from < bytes.len() => bytes[from] ^= 1 << random.below(8),
            1 if from < bytes.len() => bytes[from] = TELLING[random.below(TELLING.len())],
            2 => bytes.insert(from, TELLING[random.below(TELLING.len())]),
            3 => drop(bytes.drain(from..to)),
            4 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(from..from, again);
            }
            _ => {
                let other = &inputs[random.below(inputs.len())];
                let start = random.below(other.len() + 1);
                let end = (start + random.below(24)).min(other.len());
                bytes.splice(from..to, other[start..end].iter().copied());
            }
        }
    }
    bytes
}
