//! Signing in: the one procedure behind the portal's first factor and behind Basic credentials.
//!
//! Look the user up, see whether they may try, check the password, put the outcome on record, and answer no
//! sooner than anybody else is answered. It promises that
//!
//! - failures count wherever they happen (`failures`),
//! - no more is hashed at once than the pool allows (A89), and whoever floods it refuses only themselves (`queue`,
//!   `slots`; A113),
//! - whether somebody has a name shows in nothing: known, unknown and banned names wait the same turn, cost the same work
//!   (A85, A117) and the same time (`delay`, `costs`; A126),
//! - no clock that somebody can set frees, bans or prolongs anything (A131).
//!
//! It knows neither HTTP nor sessions, and no password reaches the log.

use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::{Instant, sleep};

use crate::factor::password::{MAX_PASSWORD_BYTES, PasswordProof};
use crate::identity::Account;
use crate::identity::file::FileBackend;
use crate::regulation::{Limits, Standing};
use crate::subject::Identity;
use crate::telemetry::metrics::Checked;

mod attempt;
mod basic;
mod costs;
mod delay;
mod failures;
pub mod pool;
mod queue;
mod slots;
mod tag;

pub use attempt::Attempt;
use attempt::ResolvedAttempt;
pub use basic::BasicCache;
use basic::InFlight;
use costs::DigestCosts;
use delay::{Effort, ResponseDelay};
use failures::Failures;
use pool::{HashingPool, NotChecked};
use queue::Door;
use slots::AttemptSlots;

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
    failures: Failures,
    pool: HashingPool,
    portal: DoorState,
    basic: DoorState,
    costs: DigestCosts,
    /// Of this process only: for the tags of names and passwords.
    key: hmac::Key,
    in_flight: InFlight<Outcome>,
    random: SystemRandom,
}

/// What each door has of its own.
struct DoorState {
    slots: AttemptSlots,
    delay: ResponseDelay,
}

/// What became of a password that was checked.
#[derive(Clone, Debug)]
struct Outcome {
    result: Result<PasswordProof, Refused>,
    /// How long the hash took.
    hashed: Duration,
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
        let costs = DigestCosts::default();
        // Begins to measure them.
        let _ = costs.floor(&accounts.accounts());
        Ok(SignIn {
            accounts,
            failures: Failures::new(limits),
            pool,
            portal: DoorState { slots: AttemptSlots::new(), delay: ResponseDelay::portal() },
            basic: DoorState { slots: AttemptSlots::new(), delay: ResponseDelay::basic() },
            costs,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &random)?,
            in_flight: InFlight::new(),
            random,
        })
    }

    /// The portal's first factor. Every answer but [`Refused::Busy`] is held back for the portal's `ResponseDelay`.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason in the log.
    pub async fn first_factor(&self, attempt: Attempt<'_>) -> Result<SignedIn, Refused> {
        let accounts = self.accounts.accounts();
        let attempt = ResolvedAttempt::new(&accounts, &attempt, Door::Portal, &self.key);
        let Some(_slot) = self.portal.slots.enter(attempt.prefix) else { return Err(attempt.refuse(Refused::Busy)) };
        let started = Instant::now();
        let Outcome { result, hashed } = self.check(&attempt).await;
        if let Err(Refused::Busy) = result {
            return Err(attempt.refuse(Refused::Busy));
        }
        let effort = Effort { worked: started.elapsed(), hashed };
        let delay = self.portal.delay.delay(effort, self.costs.floor(&accounts), &self.random);
        if result.is_ok() {
            self.portal.delay.succeeded(effort.worked);
        }
        sleep(delay).await;
        attempt.conclude(result)
    }

    /// Basic credentials (RFC 7617), which come with every request.
    ///
    /// The user is looked up and the ban checked each time; the hash is skipped if `cache` knows the
    /// credentials. Failures are held back for the `ResponseDelay` of Basic, successes no longer than they need.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason in the log.
    pub async fn basic(&self, attempt: Attempt<'_>, cache: Option<&BasicCache>) -> Result<SignedIn, Refused> {
        let accounts = self.accounts.accounts();
        let attempt = ResolvedAttempt::new(&accounts, &attempt, Door::Basic, &self.key);
        if let Some(proof) = cache.and_then(|cache| self.remembered(&attempt, cache)) {
            return attempt.conclude(Ok(proof));
        }
        let Some(_slot) = self.basic.slots.enter(attempt.prefix) else { return Err(attempt.refuse(Refused::Busy)) };
        let started = Instant::now();
        let shared = self.in_flight.join(attempt.in_flight_key(&self.key));
        let Outcome { result, hashed } = shared.cell.get_or_init(|| self.check(&attempt)).await.clone();
        drop(shared);
        let effort = Effort { worked: started.elapsed(), hashed };
        match &result {
            Ok(proof) => {
                self.basic.delay.succeeded(effort.worked);
                if let (Some(cache), Some(username)) = (cache, attempt.username()) {
                    cache.remember(username, attempt.counted.credential, proof.clone(), now());
                }
            }
            Err(Refused::Busy) => {}
            Err(_) => sleep(self.basic.delay.delay(effort, self.costs.floor(&accounts), &self.random)).await,
        }
        attempt.conclude(result)
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

    /// The proof from a short while ago, unless there is a ban.
    fn remembered(&self, attempt: &ResolvedAttempt<'_>, cache: &BasicCache) -> Option<PasswordProof> {
        match self.failures.standing(&attempt.counted, now()) {
            Standing::Banned { .. } => None,
            Standing::Free => cache.find(attempt.username()?, &attempt.counted.credential, now()),
        }
    }

    /// Checks the password, real or not, and puts the outcome on record.
    ///
    /// Whether there is such a user, and whether there is a ban, shows neither in who is refused a place nor in the
    /// work that is done (A117): both wait their turn like everybody else, and have a decoy checked.
    async fn check(&self, attempt: &ResolvedAttempt<'_>) -> Outcome {
        let standing = self.failures.standing(&attempt.counted, now());
        let account = attempt.account.filter(|_| standing == Standing::Free);
        match self.hash(attempt, account).await {
            Err(NotChecked::Busy) => Outcome { result: Err(Refused::Busy), hashed: Duration::ZERO },
            Err(NotChecked::Failed) => Outcome { result: Err(Refused::Unavailable), hashed: Duration::ZERO },
            Ok(pool::Checked { took, .. }) if standing != Standing::Free => {
                Outcome { result: Err(Refused::Banned), hashed: took }
            }
            Ok(pool::Checked { proof, took }) => {
                // No password fits the decoy; it is not relied upon.
                let proof = proof.filter(|_| account.is_some());
                let result = match self.failures.conclude(&attempt.counted, proof.is_some(), now()) {
                    Standing::Banned { .. } => Err(Refused::Banned),
                    Standing::Free => proof.ok_or(Refused::Credentials),
                };
                Outcome { result, hashed: took }
            }
        }
    }

    /// Hashes in the attempt's turn: the password of `account`, or against the decoy.
    async fn hash(
        &self,
        attempt: &ResolvedAttempt<'_>,
        account: Option<&Arc<Account>>,
    ) -> Result<pool::Checked, NotChecked> {
        let (door, prefix) = (attempt.door, attempt.prefix);
        if attempt.attempt.password.expose().len() > MAX_PASSWORD_BYTES {
            // It is wrong. It waits its turn without a copy of what may be very long.
            return self.pool.run(door, prefix, |_| pool::Checked { proof: None, took: Duration::ZERO }).await;
        }
        let digest = account.map_or(attempt.accounts.decoy(), |account| &account.password);
        self.pool.verify(door, prefix, digest.clone(), attempt.attempt.password.clone()).await
    }
}

/// The moment on the monotonic clock, which stands still in tests that pause time.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
