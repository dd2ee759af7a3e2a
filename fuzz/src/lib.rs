//! What each fuzz target does with a stranger's bytes, and what must then hold.
//!
//! A target is a function from bytes to nothing that panics when something is wrong. It knows no fuzzer:
//! libFuzzer calls it by way of `fuzz_targets/`, and `tests/fuzz.rs` includes this very file and calls it with
//! the corpora, with what once went wrong, and with mutations of both.
//!
//! What must hold is written anew here, from the manual and the RFCs, in the plainest way; it shares
//! nothing with the code it judges but the types. The rule above all others: no allow without a named
//! rule, and that rule is one that [`Reference`](portcullis::policy::reference::Reference) finds too.

pub mod check_request;
pub mod cookie;
pub mod corpora;
pub mod express;
pub mod forwarded;
pub mod gate;
pub mod host;
pub mod path;
pub mod rd;
pub mod request;
pub mod rules;
pub mod work;

use portcullis::session::{Site, Sites};

/// A target: its name, under which its corpus is kept, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("check_request", check_request::run),
    ("cookie", cookie::run),
    ("express", express::run),
    ("forwarded", forwarded::run),
    ("host", host::run),
    ("path", path::run),
    ("rd", rd::run),
    ("request", request::run),
    ("rules", rules::run),
    ("work", work::run),
];

/// The sites of all targets: two domains, and an address.
fn sites() -> Sites {
    let site = |domain: &str| {
        let host = if domain.starts_with('[') { domain.to_owned() } else { format!("auth.{domain}") };
        Site {
            portal: Some(format!("https://{host}/").parse().expect("a portal")),
            cookie_name: String::from("sid"),
            ..Site::new(domain.parse().expect("a cookie domain"))
        }
    };
    Sites::new(vec![site("example.com"), site("example.org"), site("[2001:db8::7]")]).expect("sites")
}

/// Whether `host`, in lower case and without port, lies in one of [`sites`].
fn is_ours(host: &str) -> bool {
    let below = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    below("example.com") || below("example.org") || host == "2001:db8::7"
}
