use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pool::{HashingPool, Settings as PoolSettings};
use super::{Attempt, BasicCache, Refreshed, Refused, SignIn};
use crate::clock::UnixTime;
use crate::factor::password::NewDigest;
use crate::identity::file::{FileBackend, Settings};
use crate::regulation::Limits;
use crate::secret::Secret;

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

struct Bench {
    signin: SignIn,
    accounts: Arc<FileBackend>,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

fn users(password: &str) -> String {
    let digest = crate::factor::password::NewDigest::Sha2Crypt {
        variant: crate::factor::password::Sha2CryptVariant::Sha256,
        iterations: 1000,
    }
    .hash(password.as_bytes(), &ring::rand::SystemRandom::new())
    .unwrap();
    format!(
        "users:\n  john:\n    displayname: John\n    email: john@example.com\n    groups: [dev]\n    password: {digest}\n  \
         ab:\n    displayname: AB\n    password: {digest}\n"
    )
}

fn bench(limits: Limits) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.yaml");
    std::fs::write(&path, users("portcullis")).unwrap();
    let settings = Settings { path: path.clone(), watch: false, search_email: true, search_case_insensitive: true };
    let accounts = Arc::new(FileBackend::load(settings, NewDigest::default()).unwrap());
    let pool = HashingPool::start(PoolSettings { threads: Some(NonZeroUsize::MIN), ..PoolSettings::default() });
    let signin = SignIn::new(Arc::clone(&accounts), limits, pool.unwrap()).unwrap();
    Bench { signin, accounts, path, _dir: dir }
}

fn attempt<'a>(login: &'a str, password: &str) -> Attempt<'a> {
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    Attempt { login, password: Secret::new(password.to_owned()), address, url: None, method: None }
}

fn later(secs: u64) -> UnixTime {
    NOW + Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn the_right_password_signs_in_under_the_canonical_name() {
    let bench = bench(Limits::default());
    for login in ["john", "JOHN", "John@Example.com"] {
        let signed_in = bench.signin.first_factor(attempt(login, "portcullis"), NOW).await.unwrap();
        assert_eq!(signed_in.identity.username(), "john", "{login}");
        let signed_in = bench.signin.basic(attempt(login, "portcullis"), None, NOW).await.unwrap();
        assert_eq!(signed_in.identity.groups().iter().collect::<Vec<_>>(), ["dev"]);
    }
}

#[tokio::test(start_paused = true)]
async fn every_wrong_way_is_refused_alike() {
    let bench = bench(Limits { max_retries: 0, ..Limits::default() });
    let long = "a".repeat(2000);
    for (login, password) in [("john", "wrong"), ("nobody", "portcullis"), ("", ""), ("john", ""), ("john", &long)] {
        let refused = bench.signin.first_factor(attempt(login, password), NOW).await.unwrap_err();
        assert_eq!(refused, Refused::Credentials, "{login}");
        let refused = bench.signin.basic(attempt(login, password), None, NOW).await.unwrap_err();
        assert_eq!(refused, Refused::Credentials, "{login}");
    }
}

#[tokio::test(start_paused = true)]
async fn a85_an_unknown_user_costs_the_same_hash() {
    let bench = bench(Limits::default());
    for login in ["john", "nobody", "john@example.com", "nobody@example.com"] {
        let before = bench.signin.checks();
        let _ = bench.signin.first_factor(attempt(login, "wrong"), NOW).await;
        assert_eq!(bench.signin.checks(), before + 1, "{login}");
    }
    let accounts = bench.accounts.accounts();
    assert_eq!(accounts.decoy().work(), accounts.find("john").unwrap().password.work());
}

#[tokio::test(start_paused = true)]
async fn a84_spellings_and_doors_share_one_budget() {
    let bench = bench(Limits::default());
    let _ = bench.signin.first_factor(attempt("john", "a"), NOW).await;
    let _ = bench.signin.basic(attempt("John", "b"), None, NOW).await;
    let _ = bench.signin.first_factor(attempt("JOHN@example.com", "c"), later(1)).await;
    let checks = bench.signin.checks();
    for now in [later(1), later(300)] {
        let refused = bench.signin.first_factor(attempt("john", "portcullis"), now).await.unwrap_err();
        assert_eq!(refused, Refused::Banned);
        let refused = bench.signin.basic(attempt("john@example.com", "portcullis"), None, now).await.unwrap_err();
        assert_eq!(refused, Refused::Banned);
    }
    assert_eq!(bench.signin.checks(), checks, "a banned user's password is not hashed");
    assert!(bench.signin.first_factor(attempt("ab", "portcullis"), later(1)).await.is_ok(), "others are not banned");
    assert!(bench.signin.first_factor(attempt("john", "portcullis"), later(301)).await.is_ok(), "the ban ends");
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_count() {
    let bench = bench(Limits::default());
    for _ in 0..3 {
        let _ = bench.signin.first_factor(attempt("john", "a"), NOW).await;
        let _ = bench.signin.first_factor(attempt("john", "b"), NOW).await;
        assert!(bench.signin.first_factor(attempt("john", "portcullis"), NOW).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn many_guesses_at_once_count_as_many() {
    let bench = Arc::new(bench(Limits::default()));
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..10 {
        let bench = Arc::clone(&bench);
        guesses.spawn(async move {
            bench.signin.first_factor(attempt("john", &format!("guess {n}")), NOW).await.unwrap_err()
        });
    }
    let refusals = guesses.join_all().await;
    assert_eq!(refusals.iter().filter(|&&refused| refused == Refused::Credentials).count(), 3);
    assert_eq!(refusals.iter().filter(|&&refused| refused == Refused::Banned).count(), 7);
}

#[tokio::test(start_paused = true)]
async fn the_portal_answers_at_its_own_pace() {
    let bench = bench(Limits::default());
    for (login, password) in [("john", "portcullis"), ("john", "wrong"), ("nobody", "wrong")] {
        let bench = self::bench(Limits::default());
        let started = Instant::now();
        let _ = bench.signin.first_factor(attempt(login, password), NOW).await;
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_millis(1086), "{login}: {took:?}");
    }
    // Ten successes that took no time (the clock is paused) leave the least.
    for _ in 0..10 {
        let _ = bench.signin.first_factor(attempt("john", "portcullis"), NOW).await;
    }
    let started = Instant::now();
    let _ = bench.signin.first_factor(attempt("john", "wrong"), NOW).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took <= Duration::from_millis(336), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn basic_failures_wait_and_successes_do_not() {
    let bench = bench(Limits { max_retries: 2, ..Limits::default() });
    let started = Instant::now();
    assert!(bench.signin.basic(attempt("john", "portcullis"), None, NOW).await.is_ok());
    assert_eq!(started.elapsed(), Duration::ZERO);
    for (login, refused) in [
        ("nobody", Refused::Credentials),
        ("john", Refused::Credentials),
        ("john", Refused::Credentials),
        ("john", Refused::Banned),
    ] {
        let started = Instant::now();
        assert_eq!(bench.signin.basic(attempt(login, "wrong"), None, NOW).await.unwrap_err(), refused);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(2) && took <= Duration::from_millis(2087), "{login}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a90_the_hash_is_skipped_while_the_cache_remembers() {
    let bench = bench(Limits::default());
    let cache = BasicCache::new(Duration::from_secs(60));
    #[rustfmt::skip]
    let table = [
        // because                                  login    password      now         good   hashed
        ("the first time",                          "john",  "portcullis", NOW,        true,  true),
        ("the second",                              "john",  "portcullis", NOW,        true,  false),
        ("under another spelling",                  "JOHN",  "portcullis", later(59),  true,  false),
        ("no longer than its life",                 "john",  "portcullis", later(60),  true,  true),
        ("which a clock set back does not prolong", "john",  "portcullis", later(10),  true,  true),
        ("another password",                        "john",  "portculliS", later(11),  false, true),
        ("the right one is still known",            "john",  "portcullis", later(11),  true,  false),
        ("a failure is not remembered",             "john",  "portculliS", later(11),  false, true),
        ("the same password of another",            "ab",    "portcullis", later(11),  true,  true),
    ];
    for (because, login, password, now, good, hashed) in table {
        let before = bench.signin.checks();
        let result = bench.signin.basic(attempt(login, password), Some(&cache), now).await;
        assert_eq!(result.is_ok(), good, "{because}");
        assert_eq!(bench.signin.checks() - before, u64::from(hashed), "{because}");
    }
}

#[tokio::test(start_paused = true)]
async fn a90_a_changed_password_or_account_is_noticed_at_once() {
    let bench = bench(Limits::default());
    let cache = BasicCache::new(Duration::from_secs(600));
    assert!(bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.is_ok());
    std::fs::write(&bench.path, users("changed")).unwrap();
    bench.accounts.reload().unwrap();
    assert!(bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.is_err());
    assert!(bench.signin.basic(attempt("john", "changed"), Some(&cache), NOW).await.is_ok());
    let disabled = users("changed").replace("  john:\n", "  john:\n    disabled: true\n");
    std::fs::write(&bench.path, disabled).unwrap();
    bench.accounts.reload().unwrap();
    assert!(bench.signin.basic(attempt("john", "changed"), Some(&cache), NOW).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_ban_counts_for_remembered_credentials_too() {
    let bench = bench(Limits::default());
    let cache = BasicCache::new(Duration::from_secs(600));
    assert!(bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.is_ok());
    for guess in ["a", "b", "c"] {
        let _ = bench.signin.first_factor(attempt("john", guess), NOW).await;
    }
    let refused = bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.unwrap_err();
    assert_eq!(refused, Refused::Banned);
}

#[tokio::test(start_paused = true)]
async fn a49_a90_equal_attempts_share_a_check_and_no_others_do() {
    let bench = Arc::new(bench(Limits { max_retries: 0, ..Limits::default() }));
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let holder = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.signin.pool.run(move |_| gate.recv().ok()).await }
    });
    tokio::task::yield_now().await;
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..30 {
        let bench = Arc::clone(&bench);
        // `a` with `bc` is not `ab` with `c`.
        let (login, password) = [("john", "portcullis"), ("a", "bportcullis"), ("ab", "portcullis")][n % 3];
        requests.spawn(async move {
            let result = bench.signin.basic(attempt(login, password), None, NOW).await;
            (login, result.map(|signed_in| signed_in.identity.username().to_owned()))
        });
    }
    tokio::task::yield_now().await;
    drop(go);
    holder.await.unwrap().unwrap();
    for (login, result) in requests.join_all().await {
        match login {
            "a" => assert_eq!(result, Err(Refused::Credentials)),
            _ => assert_eq!(result.as_deref(), Ok(login)),
        }
    }
    assert_eq!(bench.signin.checks(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_check_is_taken_over_by_who_still_waits() {
    let bench = Arc::new(bench(Limits::default()));
    let first = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.signin.basic(attempt("john", "portcullis"), None, NOW).await.is_ok() }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.signin.basic(attempt("john", "portcullis"), None, NOW).await.is_ok() }
    });
    tokio::task::yield_now().await;
    first.abort();
    assert!(second.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a78_a_changed_account_is_told_and_a_removed_one_is_gone() {
    let bench = bench(Limits::default());
    let john = bench.accounts.find("john").unwrap().identity.clone();
    assert_eq!(bench.signin.refresh(&john), Refreshed::Unchanged);
    std::fs::write(&bench.path, users("portcullis").replace("[dev]", "[ops]")).unwrap();
    bench.accounts.reload().unwrap();
    let Refreshed::Changed(changed) = bench.signin.refresh(&john) else { panic!("not changed") };
    assert_eq!(changed.groups().iter().collect::<Vec<_>>(), ["ops"]);
    std::fs::write(&bench.path, "users: {}").unwrap();
    bench.accounts.reload().unwrap();
    assert_eq!(bench.signin.refresh(&john), Refreshed::Gone);
}

#[tokio::test(start_paused = true)]
async fn without_a_place_everybody_is_told_to_come_back() {
    let bench = bench(Limits::default());
    let cache = BasicCache::new(Duration::from_secs(60));
    assert!(bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.is_ok());
    let places: Vec<_> = std::iter::from_fn(|| bench.signin.basic.enter()).collect();
    let checks = bench.signin.checks();
    for (login, password) in [("john", "wrong"), ("nobody", "wrong"), ("ab", "portcullis")] {
        let refused = bench.signin.basic(attempt(login, password), Some(&cache), NOW).await.unwrap_err();
        assert_eq!(refused, Refused::Busy, "{login}");
    }
    assert_eq!(bench.signin.checks(), checks);
    assert!(bench.signin.basic(attempt("john", "portcullis"), Some(&cache), NOW).await.is_ok(), "it is remembered");
    assert!(bench.signin.first_factor(attempt("ab", "portcullis"), NOW).await.is_ok(), "the portal has its own");
    drop(places);
}
