//! Cookie headers: a session is found by the value that was set, under its name and in its one spelling;
//! of too many values, or of two people's, nobody is believed (A73, A75, A76).

use std::time::Duration;

use portcullis::clock::UnixTime;
use portcullis::session::{Factors, Sessions, Settings, Site, Sites, StoreSettings};
use portcullis::subject::Identity;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// What stands for the values of three sessions: two of john's and one of jane's.
const MARKS: [&str; 3] = ["{john}", "{also john}", "{jane}"];

struct Fixture {
    runtime: tokio::runtime::Runtime,
    sessions: Sessions,
    values: [String; 3],
}

thread_local! {
    static FIXTURE: Fixture = fixture();
}

fn fixture() -> Fixture {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let site = Site {
        cookie_name: String::from("sid"),
        inactivity: Duration::ZERO,
        ..Site::new("example.com".parse().expect("a cookie domain"))
    };
    let sites = Sites::new(vec![site]).expect("a site");
    let settings = Settings { sites, store: StoreSettings::Memory { capacity: 100 }, secret: None };
    let sessions = runtime.block_on(Sessions::open_store(&settings)).expect("a store");
    let site = sessions.sites().iter().next().expect("a site");
    let open = |name: &str| {
        let identity = Identity::new(name, "", [], []).expect("an identity");
        let cookie = sessions.open(site, identity, Factors::PASSWORD, false, NOW);
        let cookie = runtime.block_on(cookie).expect("a session");
        cookie.as_str().trim_start_matches("sid=").split(';').next().unwrap_or_default().to_owned()
    };
    let values = [open("john"), open("john"), open("jane")];
    Fixture { runtime, sessions, values }
}

/// `data` are the values of the `Cookie` headers, a line each.
pub fn run(data: &[u8]) {
    FIXTURE.with(|fixture| {
        let mut data = data.to_vec();
        for (mark, value) in MARKS.into_iter().zip(&fixture.values) {
            data = super::gate::replaced(&data, mark.as_bytes(), value.as_bytes());
        }
        // A header's value holds no control bytes but tabs (RFC 9110 section 5.5); hyper refuses others.
        let fits = |line: &&[u8]| line.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').filter(fits).collect();
        let site = fixture.sessions.sites().iter().next().expect("a site");
        let found = fixture.runtime.block_on(fixture.sessions.find(site, lines.iter().copied(), NOW));
        let found = found.expect("memory answers");
        let name = found.as_ref().map(|found| found.identity.username());
        assert_eq!(name, expected(&lines, &fixture.values), "{:?}", String::from_utf8_lossy(&data));
        assert_eq!(fixture.sessions.stats().active, Some(3), "reading cookies keeps nothing and ends nothing");
    });
}

/// The rule in words: pairs at each `;`, the name to the first `=`, white space around both dropped; values
/// that could be an id, each once, at most sixteen; the first that is a session, unless two people are meant.
fn expected(lines: &[&[u8]], values: &[String; 3]) -> Option<&'static str> {
    let mut candidates: Vec<String> = Vec::new();
    for pair in lines.iter().flat_map(|line| line.split(|&byte| byte == b';')) {
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        if name != b"sid" {
            continue;
        }
        let value = String::from_utf8_lossy(value).into_owned();
        if could_be_an_id(&value) && !candidates.contains(&value) {
            candidates.push(value);
        }
    }
    if candidates.len() > 16 {
        return None;
    }
    let known = candidates.iter().filter_map(|value| values.iter().position(|known| known == value));
    let mut people: Vec<&'static str> = known.map(|at| if at == 2 { "jane" } else { "john" }).collect();
    people.dedup();
    match people[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// 43 characters of base64url, the last of which carries four bits.
fn could_be_an_id(value: &str) -> bool {
    value.len() == 43
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && value.ends_with(|c| "AEIMQUYcgkosw048".contains(c))
}
