//! Counts how often somebody who is signed in was sent straight back to the same address, so that a
//! disagreement between the gate and the portal ends on a page and not in a circle (A67).
//!
//! The count is in a cookie of the portal's own that lasts a few seconds. Nothing is decided by it
//! but whether the next redirect is made or offered as a link. Pure.

use sha1::{Digest, Sha1};

/// `__Host-`: no other host can set it, and it reaches no application.
const COOKIE: &str = "__Host-portcullis_returns";

/// How many times in a row somebody is sent back without being asked.
const MOST: u8 = 3;

/// How long a count lasts, in seconds. A circle turns many times in this; a person does not.
const LASTS_SECS: u8 = 15;

/// How often the browser was sent to `target` in the last seconds, if it may be sent there once more.
pub fn next<'c>(cookies: impl Iterator<Item = &'c [u8]>, target: &str) -> Option<Count> {
    let tag = tag(target);
    let so_far = cookies
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .find_map(|value| value.strip_suffix(tag.as_str())?.strip_suffix('.')?.parse::<u8>().ok())
        .unwrap_or(0);
    (so_far < MOST).then(|| Count { times: so_far.saturating_add(1), tag })
}

/// One more return to one address.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    times: u8,
    tag: String,
}

impl Count {
    /// The `Set-Cookie` value that remembers it.
    pub fn set_cookie(&self) -> String {
        let Count { times, tag } = self;
        format!("{COOKIE}={times}.{tag}; Max-Age={LASTS_SECS}; Path=/; Secure; HttpOnly; SameSite=Lax")
    }
}

/// Tells addresses apart; nothing rests on its strength.
fn tag(target: &str) -> String {
    Sha1::digest(target).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn a67_a_circle_is_left_after_three_turns() {
        let mut jar = String::from("theme=dark");
        for turn in 1..=3 {
            let count = next([jar.as_bytes()].into_iter(), "https://app.example.com/").expect("sent on");
            let cookie = count.set_cookie();
            assert!(cookie.starts_with(&format!("__Host-portcullis_returns={turn}.")), "{cookie}");
            jar = format!("theme=dark; {}", cookie.split(';').next().unwrap());
        }
        assert_eq!(next([jar.as_bytes()].into_iter(), "https://app.example.com/"), None);
        assert!(next([jar.as_bytes()].into_iter(), "https://app.example.com/b").is_some(), "another address");
    }

    #[test]
    fn what_is_no_count_is_none() {
        for jar in [
            "",
            "__Host-portcullis_returns=",
            "__Host-portcullis_returns=999.x",
            "x__Host-portcullis_returns=3",
            "=;=;",
        ] {
            assert!(next([jar.as_bytes()].into_iter(), "https://app.example.com/").is_some(), "{jar}");
        }
    }
}
