//! Signing in through the real process, at both doors, while somebody means it no good.

#![cfg(test)]

mod harness;

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::client::{Client, Request};
use harness::portcullis::{CONFIG, Portcullis};
use portcullis::factor::password::{NewDigest, Sha2CryptVariant};
use ring::rand::SystemRandom;

const STRANGER: &str = "203.0.113.66";
/// Attempts that the stranger has under way at each door: more than the places of one, and a few.
const UNDER_WAY: usize = 24;

/// The status of signing in at the portal, through a proxy on loopback that says where from.
fn at_the_portal(server: &Portcullis, address: &str, login: &str, password: &str) -> u16 {
    let body = format!(r#"{{"username":"{login}","password":"{password}"}}"#);
    let request = Request::script("POST", "auth.example.com", "/api/firstfactor")
        .header("X-Forwarded-For", address)
        .body("application/json", body.as_bytes());
    Client::http(server.portal).send(&request).status
}

/// The status of Basic credentials at the gate.
fn at_the_gate(server: &Portcullis, address: &str, login: &str, password: &str) -> u16 {
    let basic = STANDARD.encode(format!("{login}:{password}"));
    let request = Request::script("GET", "gate", "/api/authz/forward-auth")
        .header("X-Forwarded-For", address)
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "app.example.com")
        .header("X-Forwarded-Uri", "/")
        .header("Authorization", &format!("Basic {basic}"));
    Client::http(server.gate).send(&request).status
}

type Door = fn(&Portcullis, &str, &str, &str) -> u16;

#[test]
fn a113_a_flood_from_one_address_refuses_nobody_but_itself() {
    let digest = NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha256, iterations: 40_000 };
    let digest = digest.hash(b"password", &SystemRandom::new()).expect("a digest");
    let users = format!("users:\n  john: {{displayname: John, password: '{digest}'}}\n");
    let config = CONFIG.replace("{more}", "") + "signin: {threads: 1}\n";
    let server = &Portcullis::start(&config, &[("users.yaml", &users)]);

    let doors: [Door; 2] = [at_the_portal, at_the_gate];
    let refused = &[AtomicUsize::new(0), AtomicUsize::new(0)];
    let (number, odd, done) = (&AtomicUsize::new(0), &AtomicU16::new(0), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (door, refused) in doors.into_iter().zip(refused).flat_map(|one| [one; UNDER_WAY]) {
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    let n = number.fetch_add(1, Relaxed);
                    match door(server, STRANGER, &format!("nobody{}", n % 50), &n.to_string()) {
                        401 => {}
                        429 => {
                            refused.fetch_add(1, Relaxed);
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        status => odd.store(status, Relaxed),
                    }
                }
            });
        }
        // The stranger's places are full at both doors.
        while odd.load(Relaxed) == 0 && refused.iter().any(|refused| refused.load(Relaxed) == 0) {
            std::thread::yield_now();
        }
        let others = (1..=10).map(|n| {
            let address = format!("198.51.100.{n}");
            scope.spawn(move || doors.map(|door| door(server, &address, "john", "password")))
        });
        let others: Vec<_> = others.collect::<Vec<_>>().into_iter().map(|other| other.join()).collect();
        done.store(true, Relaxed);
        for statuses in others {
            assert_eq!(statuses.expect("an answer"), [200, 200]);
        }
    });
    assert_eq!(odd.load(Relaxed), 0, "what a stranger was answered besides 401 and 429");
}
