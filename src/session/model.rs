//! What a session is: who signed in, with which factors, where and until when.
//!
//! A [`Session`] does not change, but for two moments that requests move forward: the last activity, and
//! when the account's details are next compared. Any other change is a new session under the same key or a new one.
//! Nothing here does IO.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::subject::{AssuranceLevel, Identity, Subject};

use super::site::{CookieDomain, Site};

/// The factors that a person has shown in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Factors(u8);

impl Factors {
    /// Knowledge: a password.
    pub const PASSWORD: Factors = Factors(1);
    /// Possession: a time-based one-time password (RFC 6238).
    pub const TOTP: Factors = Factors(1 << 1);
    /// Possession: a WebAuthn authenticator.
    pub const WEBAUTHN: Factors = Factors(1 << 2);
    /// The WebAuthn authenticator verified its user. It makes no factor of its own: what a phone checked
    /// is not what we checked.
    pub const WEBAUTHN_USER_VERIFIED: Factors = Factors(1 << 3);
    /// Possession: a confirmation on a phone, by Duo.
    pub const DUO: Factors = Factors(1 << 4);

    /// These factors and those of `other`.
    pub const fn and(self, other: Factors) -> Factors {
        Factors(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Factors) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether something known was shown: a password.
    pub const fn knowledge(self) -> bool {
        self.contains(Factors::PASSWORD)
    }

    /// Whether something owned was shown: an authenticator app, a security key, a phone.
    pub const fn possession(self) -> bool {
        self.contains(Factors::TOTP) || self.contains(Factors::WEBAUTHN) || self.contains(Factors::DUO)
    }

    /// The level they reach: two need different kinds (SP 800-63B section 4.2).
    pub const fn level(self) -> AssuranceLevel {
        match (self.knowledge(), self.possession()) {
            (true, true) => AssuranceLevel::TwoFactor,
            (true, false) | (false, true) => AssuranceLevel::OneFactor,
            (false, false) => AssuranceLevel::Anonymous,
        }
    }
}

/// One sign-in and what has become of it.
///
/// It ends at [`Session::expires`], whatever happens, or earlier when nobody used it for the site's inactivity.
#[derive(Debug)]
#[repr(C)] // in this order: what every decision reads stands first, in two cache lines
pub struct Session {
    /// The absolute end.
    pub expires: UnixTime,
    last_active: AtomicU64,
    refresh_due: AtomicU64,
    /// The factors that were shown.
    pub factors: Factors,
    /// Whether the person asked to be remembered: longer life, no inactivity.
    pub remember: bool,
    /// The cookie domain that it was made for, and the only one it is good for.
    pub domain: CookieDomain,
    /// Who signed in.
    pub identity: Identity,
    /// When the person signed in.
    pub created: UnixTime,
    /// When the first factor was last shown.
    pub first_factor_at: UnixTime,
    /// When a second factor was last shown, if one was.
    pub second_factor_at: Option<UnixTime>,
}

impl Session {
    /// A session that starts `now` at `site`.
    ///
    /// `remember` counts only where the site allows it. The account's details are due for comparison at once: how
    /// often they are is not known here.
    pub fn start(site: &Site, identity: Identity, factors: Factors, remember: bool, now: UnixTime) -> Session {
        let remembered = site.remember_me.filter(|_| remember);
        Session {
            expires: now + remembered.unwrap_or(site.expiration),
            last_active: AtomicU64::new(now.as_secs()),
            refresh_due: AtomicU64::new(now.as_secs()),
            factors,
            remember: remembered.is_some(),
            identity,
            domain: site.domain.clone(),
            created: now,
            first_factor_at: now,
            second_factor_at: (factors.level() == AssuranceLevel::TwoFactor).then_some(now),
        }
    }

    /// The same session with other details of its person.
    pub fn with_identity(&self, identity: Identity) -> Session {
        Session {
            expires: self.expires,
            last_active: AtomicU64::new(self.last_active().as_secs()),
            refresh_due: AtomicU64::new(self.refresh_at().as_secs()),
            factors: self.factors,
            remember: self.remember,
            identity,
            domain: self.domain.clone(),
            created: self.created,
            first_factor_at: self.first_factor_at,
            second_factor_at: self.second_factor_at,
        }
    }

    /// How much was proven.
    pub fn level(&self) -> AssuranceLevel {
        self.factors.level()
    }

    /// The person as the subject of a decision, asking from `address`.
    pub fn subject(&self, address: Option<IpAddr>) -> Subject<'_> {
        self.identity.subject(address, self.level())
    }

    /// When it was last used, to within the interval at which that is noted.
    pub fn last_active(&self) -> UnixTime {
        UnixTime::from_secs(self.last_active.load(Ordering::Relaxed))
    }

    /// Whether the account's details are due to be compared with the user backend.
    pub fn refresh_due(&self, now: UnixTime) -> bool {
        self.refresh_at() <= now
    }

    /// When the account's details are due to be compared.
    pub fn refresh_at(&self) -> UnixTime {
        UnixTime::from_secs(self.refresh_due.load(Ordering::Relaxed))
    }

    /// Whether it has ended by `now`, where a session without remember-me ends after `inactivity` unused.
    pub fn has_ended(&self, inactivity: Duration, now: UnixTime) -> bool {
        self.expires <= now || self.is_inactive(inactivity, now)
    }

    fn is_inactive(&self, inactivity: Duration, now: UnixTime) -> bool {
        !self.remember && !inactivity.is_zero() && self.last_active() + inactivity < now
    }

    /// Notes that it is in use, at most once in `interval`. Answers whether this call did: of requests that come
    /// at the same time, one.
    pub(super) fn note_activity(&self, interval: Duration, now: UnixTime) -> bool {
        let noted = self.last_active.load(Ordering::Relaxed);
        if now.saturating_since(UnixTime::from_secs(noted)) < interval {
            return false;
        }
        self.last_active.compare_exchange(noted, now.as_secs(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn postpone_refresh(&self, until: UnixTime) {
        self.refresh_due.store(until.as_secs(), Ordering::Relaxed);
    }
}

/// A session as it is written down. Members that are added later need a default.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    username: String,
    display_name: String,
    groups: Vec<String>,
    emails: Vec<String>,
    factors: Factors,
    remember: bool,
    domain: String,
    created: u64,
    first_factor_at: u64,
    second_factor_at: Option<u64>,
    expires: u64,
    last_active: u64,
    refresh_due: u64,
}

impl Record {
    /// Writes `session` down.
    pub(super) fn of(session: &Session) -> Record {
        let identity = &session.identity;
        Record {
            username: identity.username().to_owned(),
            display_name: identity.display_name().to_owned(),
            groups: identity.groups().iter().map(str::to_owned).collect(),
            emails: identity.emails().map(str::to_owned).collect(),
            factors: session.factors,
            remember: session.remember,
            domain: session.domain.as_str().to_owned(),
            created: session.created.as_secs(),
            first_factor_at: session.first_factor_at.as_secs(),
            second_factor_at: session.second_factor_at.map(UnixTime::as_secs),
            expires: session.expires.as_secs(),
            last_active: session.last_active().as_secs(),
            refresh_due: session.refresh_at().as_secs(),
        }
    }

    /// Reads it back; `domains` are those known, whose text is shared.
    pub(super) fn into_session(self, domains: &[CookieDomain]) -> Result<Session, crate::fault::Fault> {
        let domain = match domains.iter().find(|known| known.as_str() == self.domain) {
            Some(known) => known.clone(),
            None => self.domain.parse()?,
        };
        let groups = self.groups.iter().map(String::as_str);
        let emails = self.emails.iter().map(String::as_str);
        Ok(Session {
            expires: UnixTime::from_secs(self.expires),
            last_active: AtomicU64::new(self.last_active),
            refresh_due: AtomicU64::new(self.refresh_due),
            factors: self.factors,
            remember: self.remember,
            identity: Identity::new(&self.username, &self.display_name, groups, emails)?,
            domain,
            created: UnixTime::from_secs(self.created),
            first_factor_at: UnixTime::from_secs(self.first_factor_at),
            second_factor_at: self.second_factor_at.map(UnixTime::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Factors, Record, Session};
    use crate::clock::UnixTime;
    use crate::session::Site;
    use crate::subject::{AssuranceLevel, Identity};

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn session(remember: bool) -> Session {
        let site = Site::new("example.com".parse().unwrap());
        let john = Identity::new("john", "John Doe", ["dev", "ops"], ["j@example.com", "j@example.org"]).unwrap();
        Session::start(&site, john, Factors::PASSWORD, remember, NOW)
    }

    #[test]
    fn two_factors_are_two_kinds() {
        #[rustfmt::skip]
        let table = [
            (Factors::default(),                                         AssuranceLevel::Anonymous),
            (Factors::PASSWORD,                                          AssuranceLevel::OneFactor),
            (Factors::TOTP,                                              AssuranceLevel::OneFactor),
            (Factors::TOTP.and(Factors::WEBAUTHN),                       AssuranceLevel::OneFactor),
            (Factors::WEBAUTHN.and(Factors::WEBAUTHN_USER_VERIFIED),     AssuranceLevel::OneFactor),
            (Factors::WEBAUTHN_USER_VERIFIED,                            AssuranceLevel::Anonymous),
            (Factors::PASSWORD.and(Factors::WEBAUTHN_USER_VERIFIED),     AssuranceLevel::OneFactor),
            (Factors::PASSWORD.and(Factors::TOTP),                       AssuranceLevel::TwoFactor),
            (Factors::PASSWORD.and(Factors::WEBAUTHN),                   AssuranceLevel::TwoFactor),
            (Factors::PASSWORD.and(Factors::DUO),                        AssuranceLevel::TwoFactor),
        ];
        for (factors, level) in table {
            assert_eq!(factors.level(), level, "{factors:?}");
        }
    }

    #[test]
    fn a83_activity_does_not_move_the_absolute_end() {
        let session = session(false);
        let inactivity = Duration::from_secs(300);
        for minute in 0..60 {
            let now = NOW + Duration::from_secs(60 * minute);
            assert!(!session.has_ended(inactivity, now));
            assert!(session.note_activity(Duration::from_secs(1), now) || minute == 0);
        }
        assert!(session.has_ended(inactivity, NOW + Duration::from_secs(3600)));
    }

    #[test]
    fn inactivity_ends_a_session_unless_it_is_remembered_or_off() {
        let idle = NOW + Duration::from_secs(301);
        let limit = Duration::from_secs(300);
        assert!(!session(false).has_ended(limit, NOW + limit), "on the second it still lives");
        assert!(session(false).has_ended(limit, idle));
        assert!(!session(false).has_ended(Duration::ZERO, idle));
        assert!(!session(true).has_ended(limit, idle));
        assert!(session(true).has_ended(limit, NOW + Duration::from_secs(30 * 24 * 3600)));
    }

    #[test]
    fn activity_is_noted_once_in_an_interval() {
        let session = session(false);
        let interval = Duration::from_secs(30);
        assert!(!session.note_activity(interval, NOW + Duration::from_secs(29)));
        assert!(session.note_activity(interval, NOW + Duration::from_secs(30)));
        assert!(!session.note_activity(interval, NOW + Duration::from_secs(30)));
        assert!(!session.note_activity(interval, NOW), "a clock that was set back notes nothing");
        assert_eq!(session.last_active(), NOW + Duration::from_secs(30));
    }

    #[test]
    fn remember_me_that_is_switched_off_is_not_granted() {
        let mut site = Site::new("example.com".parse().unwrap());
        site.remember_me = None;
        let session = Session::start(&site, session(false).identity, Factors::PASSWORD, true, NOW);
        assert!(!session.remember);
        assert_eq!(session.expires, NOW + site.expiration);
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let session = session(true);
        let json = serde_json::to_vec(&Record::of(&session)).unwrap();
        let read = |domains: &[_]| serde_json::from_slice::<Record>(&json).unwrap().into_session(domains).unwrap();
        assert_eq!(format!("{:?}", read(&[])), format!("{session:?}"));
        let shared = read(std::slice::from_ref(&session.domain));
        assert!(std::ptr::eq(shared.domain.as_str(), session.domain.as_str()), "the text is shared");
        assert_eq!(shared.identity.header_values(), session.identity.header_values());
    }
}
