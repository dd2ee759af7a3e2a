//! The example that ships starts on a fresh machine, decides what its table of cases expects, and lets the
//! people in its users file sign in.

#![cfg(test)]

use portcullis::cli;
use portcullis::config::{self, Environment};
use portcullis::identity::file::FileBackend;

#[test]
fn the_example_is_good_even_to_the_strict() {
    let mut out = Vec::new();
    let files = ["rules.example.yaml".into()];
    let code = cli::check::check(&files, true, &Environment::default(), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS), "{out}");
    assert_eq!(out, "configuration is good: 33 rules, 4 endpoints, 1 cookie domain, sessions in memory\n");
}

#[test]
fn the_example_decides_as_its_cases_expect() {
    let policy = config::load_policy(&["rules.example.yaml".into()], &Environment::default()).unwrap().settings;
    let args = cli::policy::TestArgs { cases: "rules.example.cases.yaml".into(), json: false };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    cli::policy::test(&policy, &args, &mut out, &mut err).unwrap();
    let out = String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap();
    let cases = include_str!("../rules.example.cases.yaml").matches("- {url:").count();
    assert_eq!(out, format!("{cases} passed, 0 failed\n"));
}

#[test]
fn every_rule_of_the_example_decides_some_case() {
    let cases = include_str!("../rules.example.cases.yaml");
    for rule in 1..=33 {
        assert!(cases.contains(&format!("rule: {rule}}}")), "no case for rule {rule}");
    }
}

#[test]
fn the_people_of_the_example_can_sign_in() {
    let settings = config::load(&["rules.example.yaml".into()], &Environment::default()).unwrap().settings;
    let users = FileBackend::load(settings.users, settings.hashing).unwrap();
    for (login, password) in [("john", "password"), ("john@example.com", "password"), ("jane", "correct horse")] {
        let account = users.find(login).unwrap();
        assert!(account.password.verify(password.as_bytes()).is_some(), "{login}");
    }
    assert!(users.find("john").unwrap().password.verify(b"wrong").is_none());
}
