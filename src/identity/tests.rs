use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::document::{Document, Entry};
use super::file::{FileBackend, Settings};
use crate::factor::password::NewDigest;

const DIGEST: &str = "$5$saltsalt$qHOZbnAoEc9DTZ0Px7QCZY75UK1NDbTU0irT48X7cZ4";
const BCRYPT: &str = "$2y$05$abcdefghijklmnopqrstuuTLHD9g6X7GmLzel.2Pgs/XnRHeo8Wpu";

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), watch: true, search_email: false, search_case_insensitive: false }
}

/// A backend on `text`; `D` stands for a digest.
fn load(text: &str, adjust: impl FnOnce(&mut Settings)) -> Result<FileBackend, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.yaml");
    std::fs::write(&path, text.replace(" D\n", &format!(" '{DIGEST}'\n"))).unwrap();
    let mut settings = settings(&path);
    adjust(&mut settings);
    FileBackend::load(settings, NewDigest::default()).map_err(|diagnoses| {
        let prefix = format!("{}/", dir.path().display());
        diagnoses.iter().map(|diagnosis| diagnosis.to_string().replace(&prefix, "")).collect()
    })
}

fn name_of(backend: &FileBackend, login: &str) -> Option<String> {
    backend.find(login).map(|account| account.identity.username().to_owned())
}

const TWO: &str = "users:
  john:
    displayname: John Doe
    password: D
    email: John@Example.com
    groups: [admins, dev]
    given_name: John
    phone_number: +1555
    phone_extension: 007
    address: { street_address: Main Street 1, region: }
    extra: { shift: 3, on_call: true, sites: [a, b] }
  bob:
    disabled: true
    displayname: Bob
    password: D
";

#[test]
fn accounts_are_read_from_a_file() {
    let backend = load(TWO, |_| ()).unwrap();
    let john = backend.find("john").unwrap();
    assert_eq!(john.identity.display_name(), "John Doe");
    assert_eq!(john.identity.groups().iter().collect::<Vec<_>>(), ["admins", "dev"]);
    assert_eq!(john.identity.emails().collect::<Vec<_>>(), ["John@Example.com"]);
    assert!(john.password.verify(b"portcullis").is_some());
    assert_eq!(name_of(&backend, "bob"), None, "disabled is unknown");
    for other in ["John", "john ", "john@example.com", "", "nobody"] {
        assert_eq!(name_of(&backend, other), None, "{other:?}");
    }
}

#[test]
fn a84_other_spellings_lead_to_the_canonical_name() {
    let backend = load(TWO, |settings| settings.search_email = true).unwrap();
    for login in ["john", "john@example.com", "JOHN@EXAMPLE.COM"] {
        assert_eq!(name_of(&backend, login).as_deref(), Some("john"), "{login}");
    }
    assert_eq!(name_of(&backend, "JOHN"), None);
    let backend = load(TWO, |settings| settings.search_case_insensitive = true).unwrap();
    for login in ["john", "JOHN", "John"] {
        assert_eq!(name_of(&backend, login).as_deref(), Some("john"), "{login}");
    }
    assert_eq!(name_of(&backend, "john@example.com"), None);
}

#[test]
fn faults_are_told_with_their_place() {
    #[rustfmt::skip]
    let table = [
        // because                   file                                                                              first line says
        ("no YAML",                  "users: [",                                                                       "users.yaml:1:"),
        ("a list of users",          "users:\n  - john\n",                                                             "users.yaml:2:3: "),
        ("no users key",             "# nothing\nuser: {}\n",                                                          "users.yaml:2:1: unknown key `user`\n  help: did you mean `users`?"),
        ("nothing at all",           "",                                                                               "users.yaml: the file has no `users`"),
        ("users without a value",    "users:\n",                                                                       "users.yaml: the file has no `users`"),
        ("a mistyped key",           "users:\n  a:\n    displayname: A\n    pasword: D\n",                             "users.yaml:4:5: unknown key `pasword`\n  help: did you mean `password`?"),
        ("no password",              "users:\n  a:\n    displayname: A\n",                                             "users.yaml:2:3: user `a` has no `password`"),
        ("an empty password",        "users:\n  a:\n    displayname: A\n    password:\n",                              "user `a` has no `password`"),
        ("no display name",          "users:\n  a:\n    password: D\n",                                                "users.yaml:2:3: user `a` has no `displayname`"),
        ("a plain password",         "users:\n  a:\n    displayname: A\n    password: hunter2\n",                      "users.yaml:4:15: the password of user `a` can't be used: the password is not a digest"),
        ("the same user twice",      "users:\n  a:\n    displayname: A\n    password: D\n  a:\n    displayname: B\n",  "users.yaml:5:3: the key `a` is there twice\n  help: Remove or rename one of them."),
        ("two documents",            "users: {}\n---\nusers: {}\n",                                                    "users.yaml:3:1: a second YAML document"),
        ("an account of no shape",   "users:\n  a: 1\n",                                                               "users.yaml:2:6: keys with values are wanted here\n  help: An account is `john: {"),
        ("groups that are no list",  "users:\n  a:\n    groups: admins\n",                                             "users.yaml:3:13: a list is wanted here\n  help: An account is `john: {"),
        ("a tab",                    "users:\n\ta:\n",                                                                "a tab can't indent YAML\n  help: Indent with spaces."),
        ("a48: a comma in a group",  "users:\n  a:\n    displayname: A\n    password: D\n    groups: ['x,y']\n",       "users.yaml:2:3: group `x,y` holds a comma"),
        ("a47: a line in a name",    "users:\n  \"a\\nb\":\n    displayname: A\n    password: D\n",                    "users.yaml:2:3: user name \"a\\nb\" holds a control character"),
        ("a disabled one is read",   "users:\n  a:\n    disabled: true\n    displayname: A\n    password: x\n",        "users.yaml:5:15: "),
        ("a flag that is none",      "users:\n  a:\n    disabled: perhaps\n",                                          "users.yaml:3:15: "),
    ];
    for (because, text, says) in table {
        let faults = load(text, |_| ()).expect_err(because);
        assert!(faults[0].contains(says), "{because}: {faults:?}");
        assert!(
            !faults.iter().any(|fault| fault.contains("hunter2") || fault.contains("$5$")),
            "{because}: {faults:?}"
        );
    }
}

#[test]
fn every_fault_is_told_at_once_and_in_order() {
    let text = "users:\n  b:\n    displayname: B\n    password: x\n  a:\n    password: D\n  c:\n    displayname: C\n";
    let faults = load(text, |_| ()).unwrap_err();
    let lines: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["users.yaml:4:15", "users.yaml:5:3", "users.yaml:7:3"]);
    let faults = load("users:\n  a:\n    emial: x\n    pasword: D\nuser: 1\n", |_| ()).unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn login_names_that_mean_two_accounts_are_refused() {
    let user =
        |name: &str, email: &str| format!("  {name}:\n    displayname: X\n    password: D\n    email: {email}\n");
    let same_email = format!("users:\n{}{}", user("a", "x@example.com"), user("b", "X@example.com"));
    let email_is_name = format!("users:\n{}{}", user("a", "b"), user("b", "y@example.com"));
    let own_name = format!("users:\n{}", user("a@example.com", "a@example.com"));
    let upper_case = format!("users:\n{}", user("Ann", "ann@example.com"));
    #[rustfmt::skip]
    let table = [
        // because                                       file             e-mail  case    refused
        ("two with one address",                         &same_email,     true,   false,  true),
        ("which matters not if it is no login name",     &same_email,     false,  false,  false),
        ("an address that is another's name",            &email_is_name,  true,   false,  true),
        ("also where only case is ignored",              &email_is_name,  false,  true,   true),
        ("an address that is one's own name",            &own_name,       true,   true,   false),
        ("an upper-case name where case is ignored",     &upper_case,     false,  true,   true),
        ("and where it is not",                          &upper_case,     true,   false,  false),
    ];
    for (because, text, email, case, refused) in table {
        let loaded = load(text, |settings| {
            settings.search_email = email;
            settings.search_case_insensitive = case;
        });
        assert_eq!(loaded.is_err(), refused, "{because}: {:?}", loaded.err());
    }
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let faults = FileBackend::load(settings(Path::new("/nonexistent/users.yaml")), NewDigest::default()).unwrap_err();
    let text = faults[0].to_string();
    assert!(text.contains("portcullis users add --file /nonexistent/users.yaml NAME"), "{text}");
}

#[test]
fn a85_the_decoy_is_of_the_commonest_kind() {
    let user = |name: &str, digest: &str| format!("  {name}:\n    displayname: X\n    password: '{digest}'\n");
    let text = format!("users:\n{}{}{}", user("a", BCRYPT), user("b", DIGEST), user("c", BCRYPT));
    let backend = load(&text, |_| ()).unwrap();
    assert_eq!(backend.accounts().decoy().work(), "bcrypt cost=5");
    let nobody = load("users: {}\n", |_| ()).unwrap();
    assert_eq!(nobody.accounts().decoy().work(), "argon2id m=65536,t=3,p=4");
    assert!(nobody.accounts().is_empty());
}

#[test]
fn a_changed_file_is_taken_over_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.yaml");
    let user = |name: &str| format!("users:\n  {name}:\n    displayname: X\n    password: '{DIGEST}'\n");
    std::fs::write(&path, user("one")).unwrap();
    let backend = Arc::new(FileBackend::load(settings(&path), NewDigest::default()).unwrap());
    let mut watch = crate::watch::Watch::new(vec![path.clone()]);
    let names = |name: &str| backend.find(name).is_some();

    std::fs::write(&path, user("second")).unwrap();
    backend.poll(&mut watch);
    assert!(names("one"), "a file may still be growing when it is first seen to have changed");
    backend.poll(&mut watch);
    assert!(names("second") && !names("one"));

    std::fs::write(&path, "users: [").unwrap();
    backend.poll(&mut watch);
    backend.poll(&mut watch);
    assert!(names("second"), "a broken file changes nothing");

    std::fs::write(&path, "").unwrap();
    backend.poll(&mut watch);
    backend.poll(&mut watch);
    assert!(names("second"), "nor does an empty one");

    std::fs::remove_file(&path).unwrap();
    backend.poll(&mut watch);
    backend.poll(&mut watch);
    assert!(names("second"), "nor one that is gone");

    let other = dir.path().join("other.yaml");
    std::fs::write(&other, user("linked")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&other, &path).unwrap();
    backend.poll(&mut watch);
    backend.poll(&mut watch);
    assert!(names("linked"), "a link is followed");
}

#[test]
fn a118_a_file_that_could_not_be_taken_over_is_stale_until_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.yaml");
    let good = format!("users:\n  one:\n    displayname: X\n    password: '{DIGEST}'\n");
    std::fs::write(&path, &good).unwrap();
    let backend = Arc::new(FileBackend::load(settings(&path), NewDigest::default()).unwrap());
    let mut watch = crate::watch::Watch::new(vec![path.clone()]);
    let stale = |watch: &mut crate::watch::Watch| {
        backend.poll(watch);
        backend.poll(watch);
        backend.is_stale()
    };
    assert!(!stale(&mut watch));
    let break_it: [(&str, &dyn Fn()); 4] = [
        ("faulty", &|| std::fs::write(&path, "users: [").unwrap()),
        ("empty", &|| std::fs::write(&path, "").unwrap()),
        ("gone", &|| std::fs::remove_file(&path).unwrap()),
        ("no file", &|| {
            let _ = std::fs::remove_file(&path);
            std::fs::create_dir(&path).unwrap();
        }),
    ];
    for (because, break_it) in break_it {
        break_it();
        assert!(stale(&mut watch), "{because}");
        assert!(stale(&mut watch), "{because}, and it stays so");
        assert!(backend.find("one").is_some(), "{because}: the old accounts stay");
        let _ = std::fs::remove_dir(&path);
        std::fs::write(&path, &good).unwrap();
        assert!(!stale(&mut watch), "{because}, and mended");
    }
}

#[test]
fn rewriting_keeps_what_was_there() {
    let text = TWO.replace(" D\n", &format!(" '{DIGEST}'\n"));
    let mut document = Document::parse(&text).unwrap();
    document.find_mut("john").unwrap().set("displayname", "Johnny: \"J\" #1");
    let again = Document::parse(&document.render()).unwrap();
    let (before, after) = (document.users.first().unwrap(), again.users.first().unwrap());
    assert_eq!(after.text("displayname"), Some("Johnny: \"J\" #1"));
    for (key, value) in [("phone_number", "+1555"), ("phone_extension", "007"), ("given_name", "John")] {
        assert_eq!(after.text(key), Some(value), "{key}");
    }
    assert_eq!(after.text("password"), before.text("password"));
    assert!(again.users[1].is_disabled());
    let rendered = document.render();
    for kept in [r#""street_address":"Main Street 1""#, r#""shift":3"#, r#""on_call":true"#, r#""sites":["a","b"]"#] {
        assert!(rendered.contains(kept), "{kept}: {rendered}");
    }
    assert_eq!(again.render(), rendered);
}

#[test]
fn a_large_company_fits() {
    let mut text = String::from("users:\n");
    for n in 0..20_000 {
        text.push_str(&format!("  user{n}:\n    displayname: {n}\n    password: '{DIGEST}'\n    email: u{n}@example.com\n    groups: [a, b, c]\n"));
    }
    let backend = load(&text, |settings| settings.search_email = true).unwrap_or_else(|faults| panic!("{}", faults[0]));
    assert_eq!(name_of(&backend, "U19999@example.com").as_deref(), Some("user19999"));
    assert_eq!(backend.find("user7").unwrap().identity.display_name(), "7");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        names in prop::collection::btree_set("\\PC{1,12}", 0..4),
        text in "\\PC{1,20}",
        groups in prop::collection::vec("\\PC{1,8}", 0..3),
        disabled in any::<bool>(),
    ) {
        let mut document = Document::default();
        for name in &names {
            let mut entry = Entry::new(name);
            entry.set("displayname", text.as_str());
            entry.set("disabled", disabled);
            entry.set("groups", groups.clone());
            document.users.push(entry);
        }
        let rendered = document.render();
        let again = Document::parse(&rendered).map_err(|faults| TestCaseError::fail(format!("{faults:?}: {rendered}")))?;
        prop_assert_eq!(again.render(), rendered);
        for (entry, name) in again.users.iter().zip(&names) {
            prop_assert_eq!(&entry.name, name);
            prop_assert_eq!(entry.text("displayname"), Some(text.as_str()));
            prop_assert_eq!(entry.is_disabled(), disabled);
            prop_assert_eq!(entry.list("groups").collect::<Vec<_>>(), groups.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn reading_a_users_file_never_panics(text in "(users:\n)?(  [a-z]{1,3}:\n|    (password|groups|extra|disabled): \\PC{0,9}\n|\\PC{0,9}\n){0,8}") {
        let _ = Document::parse(&text);
    }
}
