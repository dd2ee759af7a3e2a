//! A storm of wrong passwords from one address, against the real binary, while people from other addresses sign in.
//!
//! Digests are argon2id as `hash-password` makes them. The stranger sends wrong passwords at a steady rate, each to one of
//! both doors and for a name that somebody has or one that nobody has, at random. Meanwhile a person signs in at the portal and
//! another by Basic at the gate every 300 ms, each from an address of their own; their latency counts from when they were
//! due. Printed are how many of them got in, and what the stranger was told for each name.
//!
//! `cargo bench --bench storm`; the rates a second and the seconds for each by `PORTCULLIS_STORM_RATES` (`20,200`) and
//! `PORTCULLIS_STORM_SECONDS` (30). It fails if fewer than 99 of 100 people get in at either door.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis::factor::password::NewDigest;
use server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

#[path = "workload/server.rs"]
mod server;

/// How often somebody signs in at each door.
const EVERY: Duration = Duration::from_millis(300);
const STRANGER: &str = "203.0.113.66";
/// What the stranger tries: a name that somebody has, and one that nobody has.
const NAMES: [&str; 2] = ["victim", "nobody"];

const CONFIG: &str = "
server: {address: 'tcp://127.0.0.1:0/'}
portal: {address: 'tcp://127.0.0.1:0/'}
authentication_backend: {file: {path: users.yaml}}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control: {default_policy: one_factor}
";

/// A person, and whom the stranger is after.
fn users() -> String {
    let digest = |password: &[u8]| NewDigest::default().hash(password, &ring::rand::SystemRandom::new()).unwrap();
    format!(
        "users:\n  person: {{displayname: Person, password: '{}'}}\n  victim: {{displayname: Victim, password: '{}'}}\n",
        digest(b"password"),
        digest(b"another")
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    Portal,
    Gate,
}

const DOORS: [Door; 2] = [Door::Portal, Door::Gate];

/// Where each door is.
#[derive(Clone)]
struct Doors {
    portal: String,
    gate: String,
}

impl Doors {
    /// The status that `login` with `password` is answered; 0 is none at all.
    async fn try_at(&self, door: Door, address: &str, login: &str, password: &str) -> u16 {
        let (to, request) = match door {
            Door::Portal => {
                let body = format!(r#"{{"username":"{login}","password":"{password}"}}"#);
                let request = format!(
                    "POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nX-Forwarded-For: {address}\r\n\
                     Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                (&self.portal, request)
            }
            Door::Gate => {
                let basic = STANDARD.encode(format!("{login}:{password}"));
                let request = format!(
                    "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-For: {address}\r\n\
                     X-Forwarded-Host: app.example.com\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
                     X-Forwarded-Uri: /\r\nAuthorization: Basic {basic}\r\nConnection: close\r\n\r\n"
                );
                (&self.gate, request)
            }
        };
        status(to, &request).await.unwrap_or(0)
    }
}

async fn status(address: &str, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// What everybody was told in one storm.
#[derive(Default)]
struct Told {
    /// The people's, with how long each took.
    people: BTreeMap<Door, Vec<(u16, Duration)>>,
    /// The stranger's, by name and status.
    stranger: BTreeMap<(Door, &'static str, u16), u32>,
}

async fn storm(doors: &Doors, rate: u32, span: Duration) -> Told {
    let (mut people, mut stranger) = (JoinSet::new(), JoinSet::new());
    let start = Instant::now();
    let flood = async {
        for n in 0..span.as_secs() as u32 * rate {
            sleep_until(start + Duration::from_secs(1) * n / rate).await;
            // At random: in turn, whichever comes after the longer gap would find more of the places free.
            let (doors, chance) = (doors.clone(), mixed(u64::from(std::process::id()) << 32 | u64::from(n)));
            let (name, door) = (NAMES[(chance & 1) as usize], DOORS[(chance >> 1 & 1) as usize]);
            stranger.spawn(async move {
                (door, name, doors.try_at(door, STRANGER, name, &format!("wrong{rate}-{n}")).await)
            });
        }
    };
    let honest = async {
        for n in 0..(span.as_millis() / EVERY.as_millis()) as u32 {
            let due = start + EVERY * n;
            sleep_until(due).await;
            for (half, door) in DOORS.into_iter().enumerate() {
                let doors = doors.clone();
                people.spawn(async move {
                    let address = format!("198.{}.{}.{}", 18 + half, n / 250, n % 250 + 1);
                    let status = doors.try_at(door, &address, "person", "password").await;
                    (door, status, due.elapsed())
                });
            }
        }
    };
    tokio::join!(flood, honest);
    let mut told = Told::default();
    for (door, status, took) in people.join_all().await {
        told.people.entry(door).or_default().push((status, took));
    }
    for one in stranger.join_all().await {
        *told.stranger.entry(one).or_default() += 1;
    }
    told
}

/// Random bits from a number (splitmix64).
fn mixed(n: u64) -> u64 {
    let z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How long a person takes to get in when nobody else is there.
async fn at_rest(doors: &Doors, door: Door) -> Duration {
    let mut took = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(doors.try_at(door, "198.18.0.1", "person", "password").await, 200);
        took.push(started.elapsed());
    }
    percentile(&mut took, 0.5)
}

fn percentile(took: &mut [Duration], part: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * part) as usize]
}

/// Prints it, and whether enough people got in.
fn report(rate: u32, told: &Told) -> bool {
    let mut enough = true;
    println!("{rate} wrong passwords a second from one address:");
    for (door, answers) in &told.people {
        let mut took: Vec<Duration> = answers.iter().map(|(_, took)| *took).collect();
        let signed_in = answers.iter().filter(|(status, _)| *status == 200).count();
        enough &= signed_in * 100 >= answers.len() * 99;
        println!(
            "  people at the {door:?}: {signed_in} of {} got in; p50 {:?}, p99 {:?}",
            answers.len(),
            percentile(&mut took, 0.5),
            percentile(&mut took, 0.99),
        );
    }
    for door in DOORS {
        let told_for = |name: &str| {
            let of_name = told.stranger.iter().filter(|((at, of, _), _)| *at == door && *of == name);
            let all: u32 = of_name.clone().map(|(_, count)| count).sum();
            let shares = of_name.map(|((.., status), count)| {
                format!("{status} {count} ({:.1} %)", f64::from(*count) * 100.0 / f64::from(all))
            });
            shares.collect::<Vec<_>>().join(", ")
        };
        println!(
            "  the stranger at the {door:?}: a name that exists: {}; one that doesn't: {}",
            told_for(NAMES[0]),
            told_for(NAMES[1])
        );
    }
    enough
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("PORTCULLIS_STORM_SECONDS").map_or(30, |text| text.parse().expect("seconds"));
    let rates = std::env::var("PORTCULLIS_STORM_RATES").unwrap_or_else(|_| "20,200".to_owned());
    let mut enough = true;
    for rate in rates.split(',').map(|rate| rate.trim().parse().expect("a rate")) {
        let server = Server::start(CONFIG, &users(), None);
        let doors = Doors { portal: server.portal.clone(), gate: server.gate.clone() };
        for door in DOORS {
            println!("at rest, a person at the {door:?} gets in within {:?}", at_rest(&doors, door).await);
        }
        let told = storm(&doors, rate, Duration::from_secs(seconds)).await;
        enough &= report(rate, &told);
    }
    if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
