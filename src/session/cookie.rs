//! The session cookie: its value, how it is found in a request, and how it is set and taken away.
//!
//! A value is 256 bits from the operating system and says nothing (A77). Reading cookies follows RFC 6265bis
//! section 4.2.1 and allocates nothing; it never decides whether a value is good, only whether it could be one of ours.

use std::fmt;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memchr;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use crate::clock::UnixTime;

use super::StoreUnavailable;
use super::site::Site;
use super::store::Key;

/// The length of a cookie's value: 32 bytes in base64url without padding (RFC 4648 section 5).
const VALUE_LEN: usize = 43;

/// How many different values of our cookie are looked up for one request: enough that some which a host beside the
/// applications has planted lock nobody out (A128), and few enough to be cheap.
///
/// Of more, none is believed. Which of them are looked at must not be up to whoever sends them: a session of
/// somebody else's that is not looked at could not contradict the one that is (A73).
const MAX_CANDIDATES: usize = 16;

/// The 256 random bits that a cookie carries. Who holds them is signed in, so they are not printed, and
/// no store sees them: it knows their hash.
pub struct SessionId([u8; 32]);

impl SessionId {
    /// A fresh id.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random bytes; there is no weaker source to turn to (A77).
    pub(super) fn generate() -> Result<SessionId, StoreUnavailable> {
        let mut id = SessionId([0; 32]);
        match SystemRandom::new().fill(&mut id.0) {
            Ok(()) => Ok(id),
            Err(_) => Err(StoreUnavailable::new("the operating system gave no random bytes for a session id")),
        }
    }

    /// Reads a cookie's value; only the one spelling that [`SessionId::write`] makes is an id.
    fn parse(value: &[u8]) -> Option<SessionId> {
        if value.len() != VALUE_LEN {
            return None;
        }
        let mut id = SessionId([0; 32]);
        // Decoding wants room for what 43 characters might hold by rough estimate; it checks that spare bits are zero.
        let mut bytes = [0; 33];
        let ok = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).is_ok_and(|len| len == 32);
        if let (true, Some(decoded)) = (ok, bytes.first_chunk::<32>()) {
            id.0 = *decoded;
        }
        bytes.zeroize();
        ok.then_some(id)
    }

    fn write(&self, out: &mut String) {
        URL_SAFE_NO_PAD.encode_string(self.0, out);
    }

    /// The key under which a store keeps the session: the SHA-256 of the id, from which it can't be found.
    pub(super) fn key(&self) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        Key::new(key)
    }
}

impl Drop for SessionId {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The different values of our cookie in one request, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The first, which is the only one nearly always: it takes no memory from elsewhere.
    pub first: Option<SessionId>,
    pub more: Vec<SessionId>,
}

impl Candidates {
    /// Finds the cookie called `name` in the values of all `Cookie` headers.
    ///
    /// Pairs are split at each `;`, as RFC 6265bis has it: quotes mean nothing, so `a="x; sid=y"` holds a pair `sid`
    /// with the value `y"`. A value in quotes is not one of ours, and a pair without a name (`=sid=y`) is not called
    /// `sid` (A76). Values that no id could have are passed over; of too many that could, none is taken.
    pub(super) fn read<'c>(headers: impl Iterator<Item = &'c [u8]>, name: &str) -> Candidates {
        let mut found = Candidates::default();
        let mut fits = true;
        each_id(headers, name, |id| fits = fits && found.add(id));
        if fits { found } else { Candidates::default() }
    }

    /// Takes in `id` unless it is there; answers whether there was room.
    fn add(&mut self, id: SessionId) -> bool {
        let Some(first) = &self.first else {
            self.first = Some(id);
            return true;
        };
        if first.0 == id.0 || self.more.iter().any(|known| known.0 == id.0) {
            return true;
        }
        let fits = self.more.len() + 1 < MAX_CANDIDATES;
        if fits {
            // All at once: growing would leave copies of ids behind.
            self.more.reserve_exact(if self.more.is_empty() { MAX_CANDIDATES - 1 } else { 0 });
            self.more.push(id);
        }
        fits
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SessionId> {
        self.first.iter().chain(&self.more)
    }
}

/// The keys of all values of the cookie called `name`, however many there are: for ending what they stand for.
pub(super) fn keys<'c>(headers: impl Iterator<Item = &'c [u8]>, name: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    each_id(headers, name, |id| keys.push(id.key()));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Calls `see` with every value of the cookie called `name` that could be an id.
fn each_id<'c>(headers: impl Iterator<Item = &'c [u8]>, name: &str, mut see: impl FnMut(SessionId)) {
    for header in headers {
        let mut rest = header;
        loop {
            let (pair, after) = match memchr(b';', rest) {
                Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
                None => (rest, None),
            };
            if let Some(id) = value_of(pair, name).and_then(SessionId::parse) {
                see(id);
            }
            match after {
                Some(after) => rest = after,
                None => break,
            }
        }
    }
}

/// The value of `pair` if it is called `name`, which is compared byte by byte.
fn value_of<'c>(pair: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let after = pair.trim_ascii().strip_prefix(name.as_bytes())?.trim_ascii_start();
    Some(after.strip_prefix(b"=")?.trim_ascii_start())
}

impl Site {
    /// The `Cookie` header without this site's session cookie, for an application that has no business with it (A51);
    /// empty if that was all. `None` where it is not there.
    ///
    /// Pairs that are not UTF-8 go with it: what asks for this can't carry them.
    pub fn without_session_cookie<'c>(&self, headers: impl Iterator<Item = &'c [u8]>) -> Option<String> {
        let (mut others, mut found) = (String::new(), false);
        for pair in headers.flat_map(|header| header.split(|&byte| byte == b';')) {
            if value_of(pair, &self.cookie_name).is_some() {
                found = true;
                continue;
            }
            let Ok(pair) = std::str::from_utf8(pair.trim_ascii()) else { continue };
            if !others.is_empty() && !pair.is_empty() {
                others.push_str("; ");
            }
            others.push_str(pair);
        }
        found.then_some(others)
    }
}

/// The value of a `Set-Cookie` header. It holds a secret and does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SetCookie(String);

impl SetCookie {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sets the cookie of `site` to `id` until `expires`.
    pub(super) fn set(site: &Site, id: &SessionId, expires: UnixTime) -> SetCookie {
        let mut cookie = format!("{}=", site.cookie_name);
        id.write(&mut cookie);
        SetCookie(attributes(cookie, site, expires))
    }

    /// Takes the cookie of `site` away. It names the same domain and path: browsers keep another cookie otherwise.
    pub(super) fn expire(site: &Site) -> SetCookie {
        SetCookie(attributes(format!("{}=", site.cookie_name), site, UnixTime::from_secs(0)))
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Appends the attributes of RFC 6265bis section 4.1.2. `Expires` alone, as `Max-Age` says nothing more.
fn attributes(mut cookie: String, site: &Site, expires: UnixTime) -> String {
    cookie.push_str("; Path=/");
    if !site.domain.is_address() {
        // A cookie can't be shared between addresses: for those it belongs to the host that set it.
        cookie.push_str("; Domain=");
        cookie.push_str(site.domain.as_str());
    }
    // An HTTP date has four digits for the year.
    let secs = expires.as_secs().min(253_402_300_799);
    let expires = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(secs));
    // Writing to a string does not fail.
    let _ = write!(cookie, "; Expires={expires}; HttpOnly; Secure; SameSite={}", site.same_site.attribute());
    cookie
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{Candidates, SessionId, SetCookie};
    use crate::clock::UnixTime;
    use crate::session::Site;

    fn value(id: &SessionId) -> String {
        let mut text = String::new();
        id.write(&mut text);
        text
    }

    fn id(seed: u8) -> SessionId {
        SessionId([seed; 32])
    }

    fn read(headers: &[&str]) -> Vec<[u8; 32]> {
        Candidates::read(headers.iter().map(|header| header.as_bytes()), "sid").iter().map(|id| id.0).collect()
    }

    #[test]
    fn a51_what_is_found_is_what_is_left_out() {
        let site = Site { cookie_name: "sid".to_owned(), ..Site::new("example.com".parse().unwrap()) };
        let without = |headers: &[&[u8]]| site.without_session_cookie(headers.iter().copied());
        #[rustfmt::skip]
        let table: [(&str, &[&[u8]], Option<&str>); 9] = [
            ("alone",                          &[b"sid=1"],                          Some("")),
            ("twice",                          &[b"sid=1; sid=2"],                   Some("")),
            ("first",                          &[b"sid=1; a=1; b=2"],                Some("a=1; b=2")),
            ("in the middle, spaces anywhere", &[b" a=1 ;; sid = 1;b=\"2 ;c=3\""],   Some("a=1; b=\"2; c=3\"")),
            ("in the second line",             &[b"a=1", b"sid=1", b"b=2"],          Some("a=1; b=2")),
            ("another's",                      &[b"xsid=1; sidx=2; SID=3; sid; =sid=4"], None),
            ("no cookie",                      &[],                                  None),
            ("what is not UTF-8 goes too",     &[b"a=\xff; sid=\xfe; b=2"],          Some("b=2")),
            ("but not for itself",             &[b"a=\xff"],                         None),
        ];
        for (because, headers, expected) in table {
            assert_eq!(without(headers).as_deref(), expected, "{because}");
        }
    }

    #[test]
    fn a76_cookies_are_split_as_rfc_6265bis_has_it() {
        let good = value(&id(1));
        #[rustfmt::skip]
        let table = [
            // because                                       header                                      found
            ("alone",                                        format!("sid={good}"),                      true),
            ("among others",                                 format!("a=1; sid={good}; b=2"),            true),
            ("the space after `;` may be missing",           format!("a=1;sid={good}"),                  true),
            ("white space around is no part of it",          format!("a=1;  sid = {good} ;b"),           true),
            ("names are compared by letter",                 format!("SID={good}"),                      false),
            ("a longer name is another name",                format!("xsid={good}; sid2={good}"),        false),
            ("a cookie without a name is not ours",          format!("=sid={good}"),                     false),
            ("a pair without `=` has no name",               String::from("sid"),                        false),
            ("quotes hide no `;`, but are part of a value",  format!("a=\"x; sid={good}\""),           false),
            ("what stands between quotes is split as well",  format!("a=\"x; sid={good}; b=\""),       true),
            ("a quoted value is none of ours",               format!("sid=\"{good}\""),                false),
            ("our name inside a value",                      format!("a=sid={good}"),                    false),
            ("a comma separates nothing",                    format!("a=1, sid={good}"),                 false),
            ("nothing",                                      String::new(),                              false),
            ("separators alone",                             String::from(";;; ; =; =="),                false),
        ];
        for (because, header, found) in table {
            assert_eq!(read(&[&header]).len(), usize::from(found), "{because}: {header}");
        }
    }

    #[test]
    fn a75_what_no_id_could_be_is_passed_over() {
        let good = value(&id(1));
        #[rustfmt::skip]
        let table = [
            ("empty",                          String::new()),
            ("too short",                      good[1..].to_owned()),
            ("too long",                       format!("{good}A")),
            ("padded",                         format!("{good}=")),
            ("standard base64",                format!("+{}", &good[1..])),
            ("spare bits set: a second name",  format!("{}F", &good[..42])),
            ("an escape",                      format!("%00{}", &good[3..])),
            ("8 kB",                           "A".repeat(8192)),
            ("a dot",                          format!("{}.", &good[..42])),
        ];
        for (because, bad) in table {
            assert_eq!(read(&[&format!("sid={bad}; sid={good}")]), [id(1).0], "{because}");
        }
    }

    #[test]
    fn a73_a128_up_to_sixteen_different_values_are_looked_up_and_of_more_none() {
        let pairs = |n: u8| (0..n).map(|seed| format!("sid={}", value(&id(seed)))).collect::<Vec<_>>();
        assert_eq!(
            read(&[&pairs(16).join("; ")]),
            (0..16).map(|seed| id(seed).0).collect::<Vec<_>>(),
            "in their order"
        );
        assert_eq!(read(&[&pairs(17).join("; ")]).len(), 0);
        let repeated = [pairs(16), pairs(16)].concat();
        assert_eq!(read(&[&repeated.join(";")]).len(), 16, "the same value twice is one");
        let headers = pairs(17);
        assert_eq!(read(&headers.iter().map(String::as_str).collect::<Vec<_>>()).len(), 0, "over several headers");
        let junk = vec!["sid=junk"; 3000].join("; ");
        assert_eq!(read(&[&format!("{junk}; sid={}", value(&id(7)))]), [id(7).0], "junk is not counted");
    }

    #[test]
    fn a73_a124_all_values_are_found_for_signing_out_each_once() {
        let pairs: Vec<_> = (0..=255).map(|seed| format!("sid={}", value(&id(seed)))).collect();
        let headers = [pairs.join("; "), pairs.join(";"), "sid=junk".to_owned()];
        let keys = super::keys(headers.iter().map(|header| header.as_bytes()), "sid");
        assert_eq!(keys.len(), 256);
        assert!((0..=255).all(|seed| keys.contains(&id(seed).key())));
    }

    #[test]
    fn a77_ids_differ_and_do_not_print() {
        let ids: HashSet<String> = (0..10_000).map(|_| value(&SessionId::generate().unwrap())).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 43));
        assert_eq!(format!("{:?}", id(1)), "***");
        assert_eq!(format!("{:?}", SetCookie(String::from("sid=x"))), "***");
        assert_ne!(id(1).key().as_bytes(), &[1; 32], "a store does not see the id");
    }

    #[test]
    fn a_cookie_is_set_and_taken_away_with_the_same_scope() {
        let mut site = Site::new("example.com".parse().unwrap());
        site.cookie_name = String::from("sid");
        assert_eq!(
            SetCookie::set(&site, &id(0), UnixTime::from_secs(1_700_000_000)).as_str(),
            format!(
                "sid={}; Path=/; Domain=example.com; Expires=Tue, 14 Nov 2023 22:13:20 GMT; HttpOnly; Secure; SameSite=Lax",
                "A".repeat(43)
            )
        );
        assert_eq!(
            SetCookie::expire(&site).as_str(),
            "sid=; Path=/; Domain=example.com; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=Lax"
        );
        site.domain = "192.0.2.7".parse().unwrap();
        assert!(!SetCookie::expire(&site).as_str().contains("Domain"), "an address is no domain");
        let end_of_time = SetCookie::set(&site, &id(0), UnixTime::from_secs(u64::MAX));
        assert!(end_of_time.as_str().contains("Expires=Fri, 31 Dec 9999 23:59:59 GMT"), "four digits for the year");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(headers in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let found = Candidates::read(headers.iter().map(Vec::as_slice), "sid");
            prop_assert!(found.iter().count() <= 16);
        }

        #[test]
        fn what_was_set_is_found_again(bytes: [u8; 32], before in "[a-z0-9=; ]{0,40}", after in "[ -~]{0,40}") {
            prop_assume!(!before.contains("sid") && !after.contains("sid"));
            let header = format!("{before};sid={};{after}", value(&SessionId(bytes)));
            prop_assert_eq!(read(&[&header]), [bytes]);
        }

        #[test]
        fn an_id_has_one_spelling(text in "[A-Za-z0-9_-]{43}") {
            if let Some(id) = SessionId::parse(text.as_bytes()) {
                prop_assert_eq!(value(&id), text);
            }
        }
    }
}
