//! One attempt to sign in: what it shows, whose account it is about, what of it is counted and logged.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ring::hmac;

use super::basic::InFlightKey;
use super::failures::Counted;
use super::queue::Door;
use super::tag::{CredentialTag, NameKind, NameTag};
use super::{Refused, SignedIn};
use crate::address::AddressPrefix;
use crate::factor::password::PasswordProof;
use crate::identity::{Account, Accounts};
use crate::object::Object;
use crate::secret::Secret;

/// The longest path in the log, in bytes.
const LOGGED_PATH_BYTES: usize = 200;

/// Somebody trying to sign in with a password.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The login name, as typed.
    pub login: &'a str,
    /// The password.
    pub password: Secret<String>,
    /// Where from; `None` where that can't be told.
    pub address: Option<IpAddr>,
    /// What they were after, where that is known.
    pub url: Option<&'a str>,
    /// And with which method.
    pub method: Option<&'a str>,
}

/// An attempt and the account it is about, if there is one.
pub(super) struct ResolvedAttempt<'a> {
    pub accounts: &'a Accounts,
    pub account: Option<&'a Arc<Account>>,
    pub attempt: &'a Attempt<'a>,
    pub door: Door,
    pub prefix: AddressPrefix,
    pub counted: Counted,
    /// The login as it is compared.
    folded: Cow<'a, str>,
}

impl<'a> ResolvedAttempt<'a> {
    pub fn new(accounts: &'a Accounts, attempt: &'a Attempt<'a>, door: Door, key: &hmac::Key) -> ResolvedAttempt<'a> {
        let account = accounts.find(attempt.login);
        let folded = accounts.fold(attempt.login);
        let prefix = AddressPrefix::of(attempt.address);
        let (kind, name, digest) = match account {
            Some(account) => (NameKind::User, account.identity.username(), &account.password),
            None => (NameKind::Unknown, &*folded, accounts.decoy()),
        };
        let counted = Counted {
            name: NameTag::of(key, kind, name),
            is_user: account.is_some(),
            prefix,
            credential: CredentialTag::of(key, name, attempt.password.expose(), digest),
        };
        ResolvedAttempt { accounts, account, attempt, door, prefix, counted, folded }
    }

    /// The canonical name of the user.
    pub fn username(&self) -> Option<&'a str> {
        self.account.map(|account| account.identity.username())
    }

    /// Which attempts this one shares a check with.
    pub fn in_flight_key(&self, key: &hmac::Key) -> InFlightKey {
        (NameTag::of(key, NameKind::Login, &self.folded), self.counted.credential, self.prefix)
    }

    /// The attempt's outcome.
    pub fn conclude(&self, outcome: Result<PasswordProof, Refused>) -> Result<SignedIn, Refused> {
        match (outcome, self.account) {
            (Ok(proof), Some(account)) => Ok(SignedIn { identity: account.identity.clone(), proof }),
            (Ok(_), None) => Err(self.refuse(Refused::Unavailable)),
            (Err(reason), _) => Err(self.refuse(reason)),
        }
    }

    /// Tells the log. A name that nobody has is not repeated: it may be a password in the wrong field.
    pub fn refuse(&self, reason: Refused) -> Refused {
        let reason_in_log = match (reason, self.account) {
            (Refused::Credentials, None) => "unknown user",
            (Refused::Credentials, Some(_)) => "wrong password",
            (Refused::Banned, _) => "banned",
            (Refused::Busy, _) => "too many attempts at once",
            (Refused::Unavailable, _) => "the check broke down",
        };
        let place = self.attempt.url.and_then(place);
        tracing::warn!(
            reason = reason_in_log,
            door = self.door.as_str(),
            client = self.attempt.address.map(tracing::field::display),
            user = self.username(),
            method = self.attempt.method.filter(|method| is_method(method)),
            host = place.as_ref().map(|(host, _)| host.as_str()),
            path = place.as_ref().map(|(_, path)| *path),
            "sign-in refused"
        );
        reason
    }
}

/// Whether the gate would take this for a method.
fn is_method(text: &str) -> bool {
    Object::from_parts(text.as_bytes(), b"https", b"localhost", b"/").is_ok()
}

/// The host and the path of a URL that anybody may have written, if they can be read. The query is left out, as it may
/// hold tokens.
fn place(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = Object::from_parts(b"GET", scheme.as_bytes(), authority.as_bytes(), b"/").ok()?.host().to_owned();
    let path = target.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = path.get(..path.floor_char_boundary(LOGGED_PATH_BYTES))?;
    Some((host, path)).filter(|_| !path.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::{is_method, place};

    #[test]
    fn the_log_has_host_and_path_and_nothing_that_is_neither() {
        let long = format!("https://app.example.com/{}", "é".repeat(30_000));
        let cut = format!("/{}", "é".repeat(99));
        #[rustfmt::skip]
        let table: [(&str, &str, Option<(&str, &str)>); 10] = [
            // because                          url                                      host and path
            ("as it is",                        "https://App.example.com/a/b",           Some(("app.example.com", "/a/b"))),
            ("no query",                        "https://app.example.com/a?token=s",     Some(("app.example.com", "/a"))),
            ("no fragment",                     "https://app.example.com/a#token=s",     Some(("app.example.com", "/a"))),
            ("nor of the root",                 "https://app.example.com?token=s",       Some(("app.example.com", "/"))),
            ("the root",                        "wss://app.example.com:8443",            Some(("app.example.com", "/"))),
            ("a long path is cut",              &long,                                   Some(("app.example.com", &cut))),
            ("user information is a secret",    "https://john:s3cret@app.example.com/",  None),
            ("a path without a host",           "/a/b",                                  None),
            ("another scheme",                  "javascript://app.example.com/%0aalert", None),
            ("control characters",              "https://app.example.com/\u{7f}\n",      None),
        ];
        for (because, url, expected) in table {
            let place = place(url);
            assert_eq!(place.as_ref().map(|(host, path)| (host.as_str(), *path)), expected, "{because}");
        }
        assert!(is_method("GET") && is_method("PROPFIND"));
        assert!(!["", "get", "GET /", "G\u{7f}", &"A".repeat(33)].into_iter().any(is_method));
    }
}
