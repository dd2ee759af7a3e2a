//! Remembering that Basic credentials were right, and checking equal ones only once (A90).
//!
//! Nothing here keeps a password: what is kept is an HMAC under a key that lives and dies with the process,
//! over the user name, the password and the digest it was checked against, each with its length in front.
//! So `ab` with `c` is not `a` with `bc`, and a changed password is forgotten by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ring::hmac;
use subtle::ConstantTimeEq;
use tokio::sync::OnceCell;

use crate::clock::UnixTime;
use crate::factor::password::{PasswordHash, PasswordProof};

/// How many users a cache remembers.
const CAPACITY: usize = 16_384;

/// What stands for one user name, password and digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

impl Tag {
    pub(super) fn of(key: &hmac::Key, username: &str, password: &str, digest: &PasswordHash) -> Tag {
        let mut context = hmac::Context::with_key(key);
        for part in [username.as_bytes(), password.as_bytes(), &digest.fingerprint()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Tag(tag)
    }
}

/// Basic credentials that were right a short while ago (`scheme_basic_cache_lifespan`), one entry for each user.
pub struct BasicCache {
    lifespan: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    tag: Tag,
    made: UnixTime,
    proof: PasswordProof,
}

impl BasicCache {
    /// A cache that remembers for `lifespan`, in whole seconds; under a second is not at all.
    pub fn new(lifespan: Duration) -> BasicCache {
        BasicCache { lifespan, entries: Mutex::new(HashMap::new()) }
    }

    /// The proof from when these very credentials were right.
    pub(super) fn find(&self, username: &str, tag: &Tag, now: UnixTime) -> Option<PasswordProof> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(username).filter(|entry| self.is_fresh(entry, now))?;
        bool::from(entry.tag.0.ct_eq(&tag.0)).then(|| entry.proof.clone())
    }

    /// Remembers a success.
    pub(super) fn remember(&self, username: &str, tag: Tag, proof: PasswordProof, now: UnixTime) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY && !entries.contains_key(username) {
            entries.retain(|_, entry| self.is_fresh(entry, now));
            if entries.len() >= CAPACITY {
                return;
            }
        }
        entries.insert(username.to_owned(), Entry { tag, made: now, proof });
    }

    /// An entry from the future, after the clock was set back, is not fresh.
    fn is_fresh(&self, entry: &Entry, now: UnixTime) -> bool {
        entry.made <= now && now.saturating_since(entry.made) < self.lifespan
    }
}

impl std::fmt::Debug for BasicCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BasicCache({:?})", self.lifespan)
    }
}

/// Which attempts are equal: the same credentials from the same address.
pub(super) type FlightKey = (Tag, Option<IpAddr>);

/// Checks under way, so that equal attempts share one.
pub(super) struct Flights<T>(Mutex<HashMap<FlightKey, Weak<OnceCell<T>>>>);

impl<T> Flights<T> {
    pub(super) fn new() -> Flights<T> {
        Flights(Mutex::new(HashMap::new()))
    }

    /// The check for `key` that is under way, or a new one.
    ///
    /// It lives as long as somebody waits for it; entries of those that are over are swept out as new ones
    /// come, which keeps them as few as the places for attempts.
    pub(super) fn join(&self, key: FlightKey) -> Arc<OnceCell<T>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        if flights.len() >= 64 {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let flight = Arc::new(OnceCell::new());
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::hmac;

    use super::Tag;
    use crate::factor::password::PasswordHash;

    /// `password`, and the same under another salt.
    const DIGESTS: [&str; 2] = [
        "$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7",
        "$5$rounds=1000$0123456789abcdee$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7",
    ];

    proptest! {
        /// Wherever a text is cut into a name and a password, and whichever digest it is for.
        #[test]
        fn a104_no_two_credentials_share_a_key(text in "[a-c:\0é]{0,8}", one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>()) {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
            let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let tag = |cut: usize, digest: &str| {
                let (name, password) = text.split_at(cut);
                Tag::of(&key, name, password, &digest.parse::<PasswordHash>().unwrap()).0
            };
            let (one, two) = (cuts[one.index(cuts.len())], cuts[two.index(cuts.len())]);
            prop_assert_eq!(tag(one, DIGESTS[0]) == tag(two, DIGESTS[0]), one == two);
            prop_assert_ne!(tag(one, DIGESTS[0]), tag(two, DIGESTS[1]));
        }
    }
}
