//! A fault of ours in the log. A process of its own: who listens to panics is global.

#![cfg(test)]

use std::time::SystemTime;

use portcullis::telemetry::log::{self, Settings};

#[test]
fn a105_a_panic_is_one_line_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.txt");
    let settings = Settings { file: Some(file.clone()), ..Settings::default() };
    let writer = log::start(&settings, || SystemTime::UNIX_EPOCH).unwrap();
    let forged = format!("a\n2026-11-28T00:00:00Z  WARN forged {}", "x".repeat(10_000));
    assert!(std::panic::catch_unwind(|| panic!("of a stranger: {forged}")).is_err());
    drop(writer);
    let log = std::fs::read_to_string(&file).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    let start = "1970-01-01T00:00:00.000000Z ERROR a fault in this program error=\"of a stranger: a\\n2026-11-28T00:00:00Z  WARN forged xxx";
    assert!(log.starts_with(start) && log.contains("file=tests/log_panic.rs:") && log.len() < 1_024, "{log}");
}
