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
            "session: {{cookies: [{{domain: example.com, authelia_url: 'https://auth.example.com/'}}]}}\n\
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
    fn a09_a_bypass_that_a_query_can_satisfy_is_an_error_to_the_strict() {
        let (good, said) = run(LOOSE, Some("users: {}\n"), false);
        assert!(good && said.contains(": warning: a query can satisfy the bypass pattern `/img/`"), "{said}");
        let (good, said) = run(LOOSE, Some("users: {}\n"), true);
        assert!(!good && said.contains(": a query can satisfy the bypass pattern `/img/`"), "{said}");
        assert!(said.ends_with("\n1 fault, 0 warnings\n"), "{said}");
    }
}
