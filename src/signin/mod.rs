//! Signing in: the one procedure behind the portal's first factor and behind Basic credentials.
//!
//! Look the user up, see whether they may try, check the password, put the outcome on record, and answer no
//! sooner than anybody else is answered. It promises that failures count wherever they happen, that an
//! unknown user costs the work of a known one (A85), and that no more is hashed at once than the pool
//! allows (A89). It knows neither HTTP nor sessions, and no password reaches the log.

use std::net::IpAddr;
use std::sync::Arc;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::{Instant, sleep};

use crate::clock::UnixTime;
use crate::factor::password::PasswordProof;
use crate::identity::file::FileBackend;
use crate::identity::{Account, Accounts};
use crate::object::Object;
use crate::regulation::{Limits, Standing};
use crate::secret::Secret;
use crate::subject::Identity;
use crate::telemetry::log::excerpt;
use crate::telemetry::metrics::Checked;

mod attempts;
mod basic;
mod pace;
pub mod pool;

use attempts::{Attempts, Counted};
pub use basic::BasicCache;
use basic::{Flights, Tag};
use pace::Pace;
use pool::{HashingPool, NotChecked};

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

/// Somebody who showed the right password.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who it is.
    pub identity: Identity,
    /// Evidence of the password.
    pub proof: PasswordProof,
}

/// Why an attempt was refused. Whoever tried is told the same for the first two.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// No such user, or not this password.
    Credentials,
    /// Too many failures, of the user or from the address.
    Banned,
    /// Too many attempts at once; nothing was checked. Worth a 429 with `Retry-After`.
    Busy,
    /// The check itself broke down.
    Unavailable,
}

/// What has become of an account that somebody is signed in with.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as it was.
    Unchanged,
    /// Its name, groups or addresses are others now.
    Changed(Identity),
    /// It is removed or disabled: the session is to end.
    Gone,
}

/// An attempt's outcome as it is counted.
pub fn checked<T>(outcome: &Result<T, Refused>) -> Checked {
    match outcome {
        Ok(_) => Checked::Accepted,
        Err(Refused::Credentials) => Checked::Rejected,
        Err(Refused::Banned) => Checked::Banned,
        Err(Refused::Busy | Refused::Unavailable) => Checked::Unavailable,
    }
}

/// The sign-in procedure and all it remembers.
pub struct SignIn {
    accounts: Arc<FileBackend>,
    attempts: Attempts,
    pool: HashingPool,
    portal: Pace,
    basic: Pace,
    /// Of this process only: for the tags of Basic credentials.
    key: hmac::Key,
    flights: Flights<Result<PasswordProof, Refused>>,
    random: SystemRandom,
}

impl SignIn {
    /// Signs people in to `accounts`, within `limits`, hashing in `pool`.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn new(
        accounts: Arc<FileBackend>,
        limits: Limits,
        pool: HashingPool,
    ) -> Result<SignIn, ring::error::Unspecified> {
        let random = SystemRandom::new();
        Ok(SignIn {
            accounts,
            attempts: Attempts::new(limits),
            pool,
            portal: Pace::portal(),
            basic: Pace::basic(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &random)?,
            flights: Flights::new(),
            random,
        })
    }

    /// The portal's first factor. Every answer but [`Refused::Busy`] takes the portal's `Pace`.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason in the log.
    pub async fn first_factor(&self, attempt: Attempt<'_>, now: UnixTime) -> Result<SignedIn, Refused> {
        let accounts = self.accounts.accounts();
        let trial = Trial::new(&accounts, &attempt, "portal");
        let Some(_place) = self.portal.enter() else { return Err(trial.refuse(Refused::Busy)) };
        let started = Instant::now();
        let outcome = match self.attempts.standing(trial.counted(), now) {
            Standing::Banned { .. } => Err(Refused::Banned),
            Standing::Free => self.check(&trial, now).await,
        };
        let worked = started.elapsed();
        if let Err(Refused::Busy) = outcome {
            return Err(trial.refuse(Refused::Busy));
        }
        let delay = self.portal.delay(worked, &self.random);
        if outcome.is_ok() {
            self.portal.succeeded(worked);
        }
        sleep(delay).await;
        trial.conclude(outcome)
    }

    /// Basic credentials (RFC 7617), which come with every request.
    ///
    /// The user is looked up and the ban checked each time; the hash is skipped if `cache` knows the
    /// credentials. Failures take the `Pace` of Basic, successes no longer than they need.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason in the log.
    pub async fn basic(
        &self,
        attempt: Attempt<'_>,
        cache: Option<&BasicCache>,
        now: UnixTime,
    ) -> Result<SignedIn, Refused> {
        let accounts = self.accounts.accounts();
        let trial = Trial::new(&accounts, &attempt, "basic");
        let standing = self.attempts.standing(trial.counted(), now);
        let tag = trial.tag(&self.key);
        if let (Standing::Free, Some(cache), Some(account)) = (standing, cache, trial.account)
            && let Some(proof) = cache.find(account.identity.username(), &tag, now)
        {
            return trial.conclude(Ok(proof));
        }
        let Some(_place) = self.basic.enter() else { return Err(trial.refuse(Refused::Busy)) };
        let started = Instant::now();
        let outcome = match standing {
            Standing::Banned { .. } => Err(Refused::Banned),
            Standing::Free => {
                let flight = self.flights.join((tag, attempt.address));
                flight.get_or_init(|| self.check(&trial, now)).await.clone()
            }
        };
        let worked = started.elapsed();
        match &outcome {
            Ok(proof) => {
                self.basic.succeeded(worked);
                if let (Some(cache), Some(account)) = (cache, trial.account) {
                    cache.remember(account.identity.username(), tag, proof.clone(), now);
                }
            }
            Err(Refused::Busy) => {}
            Err(_) => sleep(self.basic.delay(worked, &self.random)).await,
        }
        trial.conclude(outcome)
    }

    /// What has become of the account behind `known`.
    pub fn refresh(&self, known: &Identity) -> Refreshed {
        match self.accounts.accounts().named(known.username()) {
            None => Refreshed::Gone,
            Some(account) if account.identity == *known => Refreshed::Unchanged,
            Some(account) => Refreshed::Changed(account.identity.clone()),
        }
    }

    /// How many passwords have been hashed since the start.
    pub fn checks(&self) -> u64 {
        self.pool.checks()
    }

    /// Checks the password, real or not, and puts the outcome on record.
    async fn check(&self, trial: &Trial<'_>, now: UnixTime) -> Result<PasswordProof, Refused> {
        let digest = trial.account.map_or(trial.accounts.decoy(), |account| &account.password);
        let checked = self.pool.verify(digest.clone(), trial.attempt.password.clone()).await;
        let proof = checked.map_err(|reason| match reason {
            NotChecked::Busy => Refused::Busy,
            NotChecked::Failed => Refused::Unavailable,
        })?;
        // No password fits the decoy; it is not relied upon.
        let proof = proof.filter(|_| trial.account.is_some());
        match self.attempts.conclude(trial.counted(), proof.is_some(), now) {
            Standing::Banned { .. } => Err(Refused::Banned),
            Standing::Free => proof.ok_or(Refused::Credentials),
        }
    }
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").finish_non_exhaustive()
    }
}

/// One attempt and the account it is about, if there is one.
struct Trial<'a> {
    accounts: &'a Accounts,
    account: Option<&'a Arc<Account>>,
    attempt: &'a Attempt<'a>,
    door: &'static str,
}

impl<'a> Trial<'a> {
    fn new(accounts: &'a Accounts, attempt: &'a Attempt<'a>, door: &'static str) -> Trial<'a> {
        Trial { accounts, account: accounts.find(attempt.login), attempt, door }
    }

    fn username(&self) -> Option<&'a str> {
        self.account.map(|account| account.identity.username())
    }

    fn counted(&self) -> Counted<'a> {
        Counted { username: self.username(), address: self.attempt.address }
    }

    /// Over the canonical name; for a name that nobody has, over what was typed and the decoy.
    fn tag(&self, key: &hmac::Key) -> Tag {
        let (name, digest) = match self.account {
            Some(account) => (account.identity.username(), &account.password),
            None => (self.attempt.login, self.accounts.decoy()),
        };
        Tag::of(key, name, self.attempt.password.expose(), digest)
    }

    fn conclude(&self, outcome: Result<PasswordProof, Refused>) -> Result<SignedIn, Refused> {
        match (outcome, self.account) {
            (Ok(proof), Some(account)) => Ok(SignedIn { identity: account.identity.clone(), proof }),
            (Ok(_), None) => Err(self.refuse(Refused::Unavailable)),
            (Err(reason), _) => Err(self.refuse(reason)),
        }
    }

    /// Tells the log. A name that nobody has is not repeated: it may be a password in the wrong field.
    fn refuse(&self, reason: Refused) -> Refused {
        let reason_in_log = match (reason, self.account) {
            (Refused::Credentials, None) => "unknown user",
            (Refused::Credentials, Some(_)) => "wrong password",
            (Refused::Banned, _) => "banned",
            (Refused::Busy, _) => "too many attempts at once",
            (Refused::Unavailable, _) => "the check broke down",
        };
        // What they were after, if it is an address and a method at all. A query may hold tokens: the path ends before it.
        let object = self
            .attempt
            .url
            .and_then(|url| Object::from_url(self.attempt.method.unwrap_or("GET").as_bytes(), url.as_bytes()).ok());
        let path = object.as_ref().map(|object| excerpt(object.target().split('?').next().unwrap_or_default()));
        tracing::warn!(
            reason = reason_in_log,
            door = self.door,
            client = self.attempt.address.map(tracing::field::display),
            user = self.username(),
            method = object.as_ref().map(|object| object.method()),
            host = object.as_ref().map(|object| object.host()),
            path,
            "sign-in refused"
        );
        reason
    }
}

#[cfg(test)]
mod tests;
