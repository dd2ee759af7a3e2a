//! Rule files: loading any text ends in settings or in faults, what is accepted decides as the reference
//! does, and no fault shows a secret (A105, A108).

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use portcullis::config::{self, Diagnostic, Environment};
use portcullis::object::Object;
use portcullis::policy::Policy;
use portcullis::policy::reference::Reference;
use portcullis::subject::{AssuranceLevel, Groups, Subject};

/// Stands in the file as the value of keys whose values are secrets.
const PLANTED: &str = "hunter2hunter2";

/// Such keys, before or behind what is fuzzed.
const SECRETS: &str = "session:
  secret: 'hunter2hunter2'
  redis:
    host: redis
    password: hunter2hunter2
storage: {encryption_key: hunter2hunter2}
identity_validation:
  reset_password:
    jwt_secret: |
      hunter2hunter2
";

thread_local! {
    static FOLDER: OnceCell<(tempfile::TempDir, PathBuf)> = const { OnceCell::new() };
}

/// The first byte of `data` says where secrets stand, the rest is the file.
pub fn run(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    // What the fuzzer writes itself is no secret; nor may it name a file that never ends.
    if holds(text, "hunter2") || holds(text, "/dev") || holds(text, "/proc") || holds(text, "/sys") {
        return;
    }
    FOLDER.with(|folder| {
        let (_, path) = folder.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("rules.yaml");
            (folder, path)
        });
        let text = match first {
            b'<' => [SECRETS.as_bytes(), text].concat(),
            b'>' => [text, b"\n", SECRETS.as_bytes()].concat(),
            _ => text.to_vec(),
        };
        std::fs::write(path, text).expect("the file");
        check(path);
    });
}

fn check(path: &Path) {
    let files = [path.to_owned()];
    let environment = Environment::new([]);
    match config::load_policy(&files, &environment) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(shows_no_secret);
            assert!(loaded.warnings.iter().all(|warning| !warning.is_error(false)), "an error that is none");
            decides_as_the_reference(&loaded.settings);
        }
        Err(faults) => {
            faults.iter().for_each(shows_no_secret);
            assert!(faults.iter().any(|fault| fault.is_error(false)), "refused, and no word about why: {faults:?}");
        }
    }
    match config::load(&files, &environment) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(shows_no_secret);
            assert!(!format!("{:?}", loaded.settings).contains(PLANTED), "settings print a secret");
            assert_eq!(loaded.settings.policy.rule_count(), loaded.settings.policy.rules().len());
        }
        Err(faults) => faults.iter().for_each(shows_no_secret),
    }
}

fn shows_no_secret(fault: &Diagnostic) {
    let shown = fault.to_string();
    assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
    assert!(!shown.contains('\u{1b}'), "a terminal would obey this: {shown:?}");
}

fn decides_as_the_reference(policy: &Policy) {
    let reference = Reference::new(policy.rules(), policy.default_requirement());
    let lints = policy.lints();
    assert!(lints.iter().all(|lint| lint.rule < policy.rule_count()), "a lint about a rule that is not there");
    let subjects = [
        Subject::anonymous(None),
        Subject::anonymous(Some([192, 0, 2, 7].into())),
        Subject {
            username: Some("john"),
            groups: Groups::new("dev,admins"),
            client_id: None,
            address: Some([10, 9, 0, 1].into()),
            level: AssuranceLevel::OneFactor,
        },
        Subject {
            username: Some("Jane"),
            groups: Groups::new(""),
            client_id: Some("client"),
            address: "2001:db8:1::5".parse().ok(),
            level: AssuranceLevel::TwoFactor,
        },
    ];
    for (method, url) in [
        ("GET", "https://app.example.com/"),
        ("POST", "https://john.example.com/api/a.css?token=1&b=c"),
        ("OPTIONS", "https://dev.example.com/public/..;/admin?token=2;token=3"),
        ("GET", "wss://secure.example.com//a%2fb?x"),
    ] {
        let object = Object::from_url(method.as_bytes(), url.as_bytes()).expect("an object");
        for subject in &subjects {
            let Ok(verdict) = policy.decide(subject, &object) else { continue };
            assert_eq!(verdict, reference.decide(subject, &object), "{method} {url} {subject:?}: {policy:?}");
            assert_eq!(
                policy.explain(subject, &object).map(|explanation| explanation.verdict),
                Ok(verdict),
                "explained as it is decided"
            );
            assert!(verdict.rule.is_none_or(|rule| (rule as usize) < policy.rule_count()), "a rule that is there");
        }
    }
}

fn holds(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}
