//! What the log says about refused sign-ins. A process of its own: who listens to the log is global.

#![cfg(test)]

use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis::clock::UnixTime;
use portcullis::factor::password::NewDigest;
use portcullis::identity::file::{FileBackend, Settings};
use portcullis::regulation::Limits;
use portcullis::secret::Secret;
use portcullis::signin::pool::{self, HashingPool};
use portcullis::signin::{Attempt, SignIn};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_its_reason_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.yaml");
    // Of `portcullis`.
    let digest = "$5$saltsalt$qHOZbnAoEc9DTZ0Px7QCZY75UK1NDbTU0irT48X7cZ4";
    std::fs::write(&path, format!("users:\n  john:\n    displayname: John\n    password: {digest}\n")).unwrap();
    let settings = Settings { path, watch: false, search_email: false, search_case_insensitive: true };
    let accounts = Arc::new(FileBackend::load(settings, NewDigest::default()).unwrap());
    let limits = Limits { max_retries: 1, ..Limits::default() };
    let pool = HashingPool::start(pool::Settings { threads: Some(NonZeroUsize::MIN), ..pool::Settings::default() });
    let signin = SignIn::new(accounts, limits, pool.unwrap()).unwrap();

    for login in ["typed-password", "JOHN", "john"] {
        let attempt = Attempt {
            login,
            password: Secret::new("wr0ng-password".to_owned()),
            address: Some(IpAddr::from([192, 0, 2, 1])),
            url: Some("https://app.example.com/a?token=s3cret"),
            method: Some("GET"),
        };
        assert!(signin.first_factor(attempt, UnixTime::from_secs(1_000_000)).await.is_err());
    }

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("sign-in refused")).collect();
    let says = [r#"reason="unknown user""#, r#"reason="wrong password""#, r#"reason="banned""#];
    assert_eq!(refusals.len(), says.len(), "{log}");
    for (line, says) in refusals.iter().zip(says) {
        for fact in [says, "client=192.0.2.1", "door=\"portal\"", "host=\"app.example.com\"", "path=\"/a\""] {
            assert!(line.contains(fact), "{fact}: {line}");
        }
    }
    assert!(!refusals[0].contains("user="), "{log}");
    assert!(refusals[1].contains(r#"user="john""#) && !log.contains("Some("), "{log}");
    for secret in ["wr0ng-password", "typed-password", "s3cret", "$5$"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
