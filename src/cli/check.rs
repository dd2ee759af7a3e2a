//! `portcullis check`: says everything that is wrong with a configuration, and changes nothing.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Diagnostic, Environment, Settings, TlsSettings};
use crate::identity::file::FileBackend;
use crate::server::tls::Certificates;
use crate::session::StoreSettings;

/// Reads `files` and `environment` as `serve` would, and the users file and certificates they name, and prints each fault
/// and warning and a closing line to `out`.
///
/// A hint is printed as well, and counts as nothing.
///
/// Exits 0 if `serve` could start on it, a file that is not here aside; 1 if not, or if `strict` and there is a warning that is an error
/// under `--strict`.
///
/// # Errors
///
/// What `out` has against being written to.
pub fn check(files: &[PathBuf], strict: bool, environment: &Environment, out: &mut dyn Write) -> io::Result<ExitCode> {
    let (settings, said) = match config::load(files, environment) {
        Ok(loaded) => (Some(loaded.settings), loaded.warnings),
        Err(said) => (None, said),
    };
    let mut faults = said.iter().filter(|diagnostic| diagnostic.is_error(strict)).count();
    let mut warnings = said.len() - faults;
    for diagnostic in &said {
        print(diagnostic, strict, out)?;
    }
    if let Some(settings) = &settings {
        let users = &settings.users;
        if users.path.exists() {
            for diagnosis in FileBackend::load(users.clone(), settings.hashing).err().into_iter().flatten() {
                faults += 1;
                writeln!(out, "{diagnosis}")?;
            }
        } else {
            // The configuration may be checked where the users are not.
            warnings += 1;
            let path = users.path.display();
            writeln!(out, "warning: the users file `{path}` is not here, so it was not checked")?;
            writeln!(
                out,
                "  help: Make it by `portcullis users add --file {path} NAME`, or check where the server runs."
            )?;
        }
    }
    for (key, tls) in settings.iter().flat_map(certificates) {
        let mut files = [&tls.certificate, &tls.key].into_iter().chain(&tls.client_authorities);
        if let Some(path) = files.find(|path| !path.exists()) {
            warnings += 1;
            writeln!(out, "warning: the file `{}` of `{key}` is not here, so it was not checked", path.display())?;
            writeln!(out, "  help: Put it there, or check where the server runs: it does not start without.")?;
        } else if let Err(fault) = Certificates::load(tls.clone()) {
            faults += 1;
            writeln!(out, "`{key}`: {}", fault.message)?;
            if let Some(help) = fault.help {
                writeln!(out, "  help: {help}")?;
            }
        }
    }
    if let Some(hint) = settings.as_ref().and_then(hint) {
        writeln!(out, "{hint}")?;
    }
    match settings {
        Some(settings) if faults == 0 => {
            write!(out, "configuration is good: {}", summary(&settings))?;
            writeln!(
                out,
                "{}",
                if warnings == 0 { String::new() } else { format!("; {}", counted(warnings, "warning")) }
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Some(_) | None => {
            writeln!(out, "{}, {}", counted(faults, "fault"), counted(warnings, "warning"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is good and could be better (A134).
fn hint(settings: &Settings) -> Option<String> {
    let site = settings.session.sites.iter().find(|site| !site.cookie_needs_tls())?;
    Some(format!(
        "hint: by plain http, every host of `{}` and whoever is on the way can set a session cookie `{}` for your people\n  \
         help: Browsers keep it out if `session.name` begins with `__Secure-`, as in `__Secure-portcullis_session`; people \
         sign in once more after the change.",
        site.domain, site.cookie_name
    ))
}

/// The certificates of the listeners, by the key that names them.
fn certificates(settings: &Settings) -> impl Iterator<Item = (&'static str, &TlsSettings)> {
    let grpc = settings.grpc.as_ref().map(|listener| ("server.grpc.tls", listener));
    let listeners = [("server.tls", &settings.gate), ("portal.tls", &settings.portal)].into_iter().chain(grpc);
    listeners.filter_map(|(key, listener)| Some((key, listener.tls.as_ref()?)))
}

/// A warning that counts as an error is printed as one.
fn print(diagnostic: &Diagnostic, strict: bool, out: &mut dyn Write) -> io::Result<()> {
    if diagnostic.is_error(strict) {
        let mut printed = diagnostic.clone();
        printed.severity = config::Severity::Error;
        return writeln!(out, "{printed}");
    }
    writeln!(out, "{diagnostic}")
}

fn summary(settings: &Settings) -> String {
    let store = match settings.session.store {
        StoreSettings::Memory { .. } => "memory",
        StoreSettings::Redis(_) => "Redis",
    };
    format!(
        "{}, {}, {}, sessions in {store}",
        counted(settings.policy.rule_count(), "rule"),
        counted(settings.endpoints.len(), "endpoint"),
        counted(settings.session.sites.iter().count(), "cookie domain"),
    )
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::check;
    use crate::config::Environment;

    fn run(rules: &str, users: Option<&str>, strict: bool) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        if let Some(users) = users {
            std::fs::write(path("users.yaml"), users).unwrap();
        }
        let users = path("users.yaml");
        let text = format!(
            "session: {{name: __Secure-sid, cookies: [{{domain: example.com, authelia_url: 'https://auth.example.com/'}}]}}\n\
             authentication_backend: {{file: {{path: '{}'}}}}\naccess_control:\n  rules:\n    - {rules}\n",
            users.display(),
        );
        std::fs::write(path("rules.yaml"), text).unwrap();
        let mut out = Vec::new();
        let code = check(&[path("rules.yaml")], strict, &Environment::default(), &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap().replace(&shown(dir.path()), "DIR");
        (format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS), shown)
    }

    fn shown(path: &Path) -> String {
        path.display().to_string()
    }

    const RULE: &str = "{domain: app.example.com, policy: one_factor}";
    const LOOSE: &str = "{domain: app.example.com, resources: '/img/', policy: bypass}";

    #[test]
    fn a_good_configuration_says_what_it_holds() {
        let users = "users: {john: {displayname: J, password: '$2b$12$abcdefghijklmnopqrstuusPZG56Jbz4j3tTdbSHnUzM8OiUL2mSm'}}\n";
        let said = "configuration is good: 1 rule, 4 endpoints, 1 cookie domain, sessions in memory\n";
        assert_eq!(run(RULE, Some(users), true), (true, said.to_owned()));
    }

    #[test]
    fn users_that_are_elsewhere_are_a_warning_and_bad_ones_a_fault() {
        let (good, said) = run(RULE, None, true);
        assert!(good && said.starts_with("warning: the users file `DIR/users.yaml` is not here"), "{said}");
        assert!(said.ends_with("sessions in memory; 1 warning\n"), "{said}");
        let (good, said) = run(RULE, Some("users: {john: {displayname: J}}\n"), false);
        assert!(!good && said.starts_with("DIR/users.yaml:1:"), "{said}");
        assert!(said.ends_with("\n1 fault, 0 warnings\n"), "{said}");
    }

    #[test]
    fn certificates_that_are_elsewhere_are_a_warning_and_bad_ones_a_fault() {
        let with = |file: &str| format!("{RULE}\nserver: {{tls: {{certificate: {file}, key: {file}}}}}");
        let (good, said) = run(&with("/nowhere/c.pem"), Some("users: {}\n"), false);
        assert!(good && said.starts_with("warning: the file `/nowhere/c.pem` of `server.tls` is not here"), "{said}");
        let (good, said) = run(&with("Cargo.toml"), Some("users: {}\n"), false);
        assert!(!good && said.starts_with("`server.tls`: ") && said.contains("`Cargo.toml`"), "{said}");
        assert!(said.ends_with("\n1 fault, 0 warnings\n"), "{said}");
    }

    #[test]
    fn a134_a_cookie_that_plain_http_can_set_is_worth_a_hint_and_no_more() {
        let run = |name: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            std::fs::write(path("users.yaml"), "users: {}\n").unwrap();
            let text = format!(
                "session: {{{name}cookies: [{{domain: a.example.com, authelia_url: 'https://auth.a.example.com/'}}, \
                 {{domain: example.com, authelia_url: 'https://auth.example.com/'}}]}}\n\
                 authentication_backend: {{file: {{path: '{}'}}}}\naccess_control: {{rules: [{RULE}]}}\n",
                path("users.yaml").display(),
            );
            std::fs::write(path("c.yaml"), text).unwrap();
            let mut out = Vec::new();
            let code = check(&[path("c.yaml")], true, &Environment::default(), &mut out).unwrap();
            assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
            String::from_utf8(out).unwrap()
        };
        for name in ["", "name: sid, ", "name: __secure-sid, "] {
            let said = run(name);
            assert_eq!(said.matches("hint: ").count(), 1, "one for all domains: {said}");
            assert!(said.contains("`__Secure-portcullis_session`") && said.ends_with("in memory\n"), "{said}");
        }
        let said = run("name: __Secure-sid, ");
        assert!(!said.contains("hint"), "{said}");
    }

    #[test]
    fn a09_a_bypass_that_a_query_can_satisfy_is_an_error_to_the_strict() {
        let (good, said) = run(LOOSE, Some("users: {}\n"), false);
        assert!(good && said.contains(": warning: a query can satisfy the bypass pattern `/img/`"), "{said}");
        let (good, said) = run(LOOSE, Some("users: {}\n"), true);
        assert!(!good && said.contains(": a query can satisfy the bypass pattern `/img/`"), "{said}");
        assert!(said.ends_with("\n1 fault, 0 warnings\n"), "{said}");
    }

    const MARK: &str = "hunter2";

    /// `key` with one letter left out, doubled, replaced or changed places with the next.
    fn mistyped(key: &str, at: usize, how: u8) -> String {
        let mut letters: Vec<char> = key.chars().collect();
        let at = at % letters.len();
        match how % 5 {
            0 => drop(letters.remove(at)),
            1 => letters.insert(at, letters[at]),
            2 => letters[at] = 'x',
            3 if at + 1 < letters.len() => letters.swap(at, at + 1),
            _ => {}
        }
        letters.into_iter().collect()
    }

    /// Lines with a secret under `key`, spelt in one of many ways, most of them wrong.
    fn spelt(key: &str, layout: u8) -> String {
        match layout % 23 {
            0 => format!("  {key}: {MARK}\n"),
            1 => format!("  '{key}': \"{MARK}\"\n"),
            2 => format!("  {key}: |\n    first\n    {MARK}\n"),
            3 => format!("  {key}: >-\n  {MARK}\n"),
            4 => format!("  {key}:\n\t{MARK}\n"),
            5 => format!("  {key}:\t{MARK} # {key}\n"),
            6 => format!("  {key}: '{MARK}\n  name: y\n"),
            7 => format!("  {key}: \"a\n{MARK}\n"),
            8 => format!("  {key}: [{MARK}, {{a: {MARK}}}]\n"),
            9 => format!("  {key}: {{a: {MARK}, {MARK}: b}}\n"),
            10 => format!("   {key}: {MARK}\n"),
            11 => format!("  ? {key}\n  : {MARK}\n"),
            12 => format!("  {key} {MARK}\n"),
            13 => format!("  {key}={MARK}\n"),
            14 => format!("  {key}:{MARK}\n"),
            15 => format!("  {key}: &a {MARK}\n  inactivity: *a\n"),
            16 => format!("  redis: {{host: [x], {key}: {MARK}, timeout: [x]}}\n"),
            17 => format!("  cookies: [{{domain: [x], {key}:\n {MARK}, zzz: 1}}]\n"),
            18 => format!("  {key}: !tag {MARK}\n"),
            19 => format!("  cookies: [{{domain: x.test, authelia_url: 'http://u:{MARK}@x.test/', {key}: a}}]\n"),
            20 => format!("  default_redirection_url: https://u:{MARK}@x.test/\n  {key}: [x]\n"),
            21 => format!("  redis: {{host: ['u:{MARK}@x.test'], {key}: a}}\n"),
            _ => format!("  - {key}: {MARK}\n"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        /// Everything that `serve`, `policy` and `users` print of a configuration is made as this is.
        #[test]
        fn a125_no_secret_under_a_mistyped_key_is_ever_shown(
            key in prop::sample::select(vec![
                "secret", "password", "private_key", "encryption_key", "jwt_secret", "client_secret", "hmac_secret",
                "token", "api_key", "credentials", "passwd", "sentinel_password", "passphrase",
            ]),
            (at, how) in (0_usize..20, 0_u8..5),
            layout in 0_u8..23,
            section in prop::sample::select(vec!["session", "sesion", "notifier", "zzz"]),
            beside in prop::sample::select(vec!["", "  inactivity: [x]\n", "  zzz: 1\n", "  name: a: b\n", "  name: {{x}}\n"]),
            user_digest in prop::sample::select(vec!["$", "", "$2b$", "$x$y$"]),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let key = mistyped(key, at, how);
            let config = format!(
                "authentication_backend: {{file: {{path: '{}'}}}}\naccess_control: {{default_policy: one_factor}}\n\
                 {section}:\n{beside}{}{beside}",
                path("users.yaml").display(),
                spelt(&key, layout),
            );
            std::fs::write(path("c.yaml"), &config).unwrap();
            // Good in itself, so that the users file is read.
            let good = format!(
                "session: {{cookies: [{{domain: example.com, authelia_url: 'https://auth.example.com/'}}]}}\n\
                 authentication_backend: {{file: {{path: '{}'}}}}\naccess_control: {{default_policy: one_factor}}\n",
                path("users.yaml").display(),
            );
            std::fs::write(path("good.yaml"), good).unwrap();
            let users = format!("users:\n  a:\n    displayname: A\n    password: '{user_digest}{MARK}'\n");
            std::fs::write(path("users.yaml"), format!("{users}  b:\n{}", spelt(&mistyped("password", at, how), layout).replace("  ", "    "))).unwrap();
            std::fs::write(path("secret"), format!("{MARK}\n{MARK}")).unwrap();
            let name = key.to_uppercase();
            let environment = Environment::new([
                (format!("PORTCULLIS_SESSION_{name}"), MARK.into()),
                (format!("PORTCULLIS_SESSION_REDIS_{name}_FILE"), path("secret").into()),
                ("PORTCULLIS_SESSION_REDIS_TLS_PRIVATE_KEY_FILE".to_owned(), MARK.into()),
                ("PORTCULLIS_SERVER_ADDRESS".to_owned(), format!("tcp://u:{MARK}@x.test:1").into()),
            ]);
            for (files, environment) in [("c.yaml", &environment), ("c.yaml", &Environment::default()), ("good.yaml", &Environment::default())] {
                let mut out = Vec::new();
                check(&[path(files)], true, environment, &mut out).unwrap();
                let out = String::from_utf8(out).unwrap();
                prop_assert!(!out.contains(MARK), "{}\n{}", config, out);
                prop_assert!(!out.is_empty());
            }
        }
    }
}
