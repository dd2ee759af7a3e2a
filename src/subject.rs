//! Who asks: the subject of a decision (NIST SP 800-162), the identity behind it, and how well it has
//! been proven (the assurance level, after SP 800-63B).
//!
//! An [`Identity`] is safe to put into a header by construction: what could not be carried was
//! refused or replaced when it was made. Nothing here knows where an identity came from.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;

use crate::fault::Fault;

/// How much has been proven: nothing, one factor, or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssuranceLevel {
    /// Nobody has signed in.
    #[default]
    Anonymous,
    /// One factor, such as a password.
    OneFactor,
    /// Two factors of different kinds.
    TwoFactor,
}

impl AssuranceLevel {
    /// The level as the portal's API counts it: 0, 1 or 2.
    pub const fn as_number(self) -> u8 {
        match self {
            AssuranceLevel::Anonymous => 0,
            AssuranceLevel::OneFactor => 1,
            AssuranceLevel::TwoFactor => 2,
        }
    }
}

/// The groups of a subject, as one comma-separated text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups<'a>(&'a str);

impl<'a> Groups<'a> {
    /// Reads a comma-separated list; spaces around a name are not part of it.
    pub fn new(joined: &'a str) -> Groups<'a> {
        Groups(joined)
    }

    /// Whether there is no group at all.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The names, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(',').map(str::trim).filter(|group| !group.is_empty())
    }

    /// Whether `name` is one of them; letter case counts.
    pub fn contains(self, name: &str) -> bool {
        self.iter().any(|group| group == name)
    }

    /// Whether `name` is one of them, whatever its ASCII case.
    pub fn contains_ignore_ascii_case(self, name: &str) -> bool {
        self.iter().any(|group| group.eq_ignore_ascii_case(name))
    }
}

/// Who asks, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The canonical user name.
    pub username: Option<&'a str>,
    /// The groups of that user.
    pub groups: Groups<'a>,
    /// The OAuth 2.0 client, where a client and not a person asks.
    pub client_id: Option<&'a str>,
    /// Where the request came from; `None` where that can't be told: whether a rule by network applies is unclear then.
    pub address: Option<IpAddr>,
    /// How much has been proven.
    pub level: AssuranceLevel,
}

impl<'a> Subject<'a> {
    /// A stranger at `address`.
    pub fn anonymous(address: Option<IpAddr>) -> Subject<'a> {
        Subject { address, ..Subject::default() }
    }

    /// Whether nothing is known of who asks: no user, no group, no client.
    ///
    /// An IPv4 address written as IPv6 is to be unmapped before it gets here.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_none() && self.groups.is_empty() && self.client_id.is_none()
    }
}

/// An account as a user backend knows it, laid out as one block of text.
///
/// A session keeps one of these for each person signed in, and the gate copies slices of it into
/// answers, so it is one allocation and cloning it copies no text.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    text: Bytes,
    username_end: u32,
    groups_end: u32,
    name_end: u32,
    email_end: u32,
}

impl Identity {
    /// Lays out an identity.
    ///
    /// Control characters in the display name become spaces.
    ///
    /// # Errors
    ///
    /// What a comma-separated header could not carry: an empty user name, control characters in the
    /// user name, a group or an e-mail address, a comma in a group or an address, spaces around any of them.
    pub fn new<'a>(
        username: &str,
        display_name: &str,
        groups: impl IntoIterator<Item = &'a str>,
        emails: impl IntoIterator<Item = &'a str>,
    ) -> Result<Identity, Fault> {
        check("user name", username)?;
        let mut text = String::from(username);
        let username_end = text.len();
        for (n, group) in groups.into_iter().enumerate() {
            check("group", group)?;
            if group.contains(',') {
                return Err(Fault::new(format!("group `{group}` holds a comma"))
                    .help("Applications read the groups as a comma-separated list: rename the group."));
            }
            if n > 0 {
                text.push(',');
            }
            text.push_str(group);
        }
        let groups_end = text.len();
        text.extend(display_name.chars().map(|c| if c.is_control() { ' ' } else { c }));
        let name_end = text.len();
        let mut email_end = None;
        for email in emails {
            check("e-mail address", email)?;
            if email.contains(',') {
                return Err(Fault::new(format!("e-mail address `{email}` holds a comma"))
                    .help("Write each address as an entry of its own."));
            }
            if email_end.is_some() {
                text.push(',');
            }
            text.push_str(email);
            email_end.get_or_insert(text.len());
        }
        let end = |at: usize| u32::try_from(at).map_err(|_| Fault::new("the account is larger than 4 GiB"));
        Ok(Identity {
            username_end: end(username_end)?,
            groups_end: end(groups_end)?,
            name_end: end(name_end)?,
            email_end: end(email_end.unwrap_or(text.len()))?,
            text: Bytes::from(text),
        })
    }

    /// The canonical user name.
    pub fn username(&self) -> &str {
        self.str(0, self.username_end)
    }

    /// The groups.
    pub fn groups(&self) -> Groups<'_> {
        Groups(self.str(self.username_end, self.groups_end))
    }

    /// What the person is called; may be empty.
    pub fn display_name(&self) -> &str {
        self.str(self.groups_end, self.name_end)
    }

    /// The addresses, the first one being the one to write to.
    pub fn emails(&self) -> impl Iterator<Item = &str> {
        self.str(self.name_end, self.len()).split(',').filter(|email| !email.is_empty())
    }

    /// User name, joined groups, display name and first e-mail address, each a slice of one block.
    pub fn header_values(&self) -> [Bytes; 4] {
        [
            self.slice(0, self.username_end),
            self.slice(self.username_end, self.groups_end),
            self.slice(self.groups_end, self.name_end),
            self.slice(self.name_end, self.email_end),
        ]
    }

    /// The same texts, borrowed.
    pub fn header_texts(&self) -> [&[u8]; 4] {
        let part = |from: u32, to: u32| self.text.get(from as usize..to as usize).unwrap_or_default();
        [
            part(0, self.username_end),
            part(self.username_end, self.groups_end),
            part(self.groups_end, self.name_end),
            part(self.name_end, self.email_end),
        ]
    }

    /// This identity as the subject of a decision.
    pub fn subject(&self, address: Option<IpAddr>, level: AssuranceLevel) -> Subject<'_> {
        Subject { username: Some(self.username()), groups: self.groups(), client_id: None, address, level }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    fn slice(&self, from: u32, to: u32) -> Bytes {
        self.text.slice(from as usize..to as usize)
    }

    fn str(&self, from: u32, to: u32) -> &str {
        // INVARIANT: made from a `String` and cut only where two strings met, so this is always text.
        self.text.get(from as usize..to as usize).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.username())
    }
}

fn check(what: &str, value: &str) -> Result<(), Fault> {
    if value.is_empty() {
        return Err(Fault::new(format!("an empty {what}")));
    }
    if value.chars().any(char::is_control) {
        return Err(Fault::new(format!("{what} {value:?} holds a control character")));
    }
    if value.trim() != value {
        return Err(Fault::new(format!("{what} `{value}` begins or ends with a space")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AssuranceLevel, Groups, Identity};

    #[test]
    fn an_identity_gives_back_what_it_was_made_of() {
        let john = Identity::new("john", "John Doe", ["dev", "admins"], ["john@example.com", "j@example.org"]).unwrap();
        assert_eq!(john.username(), "john");
        assert_eq!(john.display_name(), "John Doe");
        assert_eq!(john.groups().iter().collect::<Vec<_>>(), ["dev", "admins"]);
        assert_eq!(john.emails().collect::<Vec<_>>(), ["john@example.com", "j@example.org"]);
        assert_eq!(john.header_values(), ["john", "dev,admins", "John Doe", "john@example.com"]);
        let bare = Identity::new("x", "", [], []).unwrap();
        assert_eq!(bare.header_values(), ["x", "", "", ""]);
        assert!(bare.groups().is_empty());
    }

    #[test]
    fn a47_control_characters_do_not_reach_a_header() {
        let bob = Identity::new("bob", "Bob\r\nRemote-Groups: admins", [], []).unwrap();
        assert_eq!(bob.display_name(), "Bob  Remote-Groups: admins");
        for bad in ["", "a\nb", "\u{85}", " a", "a\0"] {
            assert!(Identity::new(bad, "", [], []).is_err(), "{bad:?}");
            assert!(Identity::new("u", "", [bad], []).is_err(), "{bad:?}");
            assert!(Identity::new("u", "", [], [bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a48_a_group_that_reads_as_two_is_refused() {
        let fault = Identity::new("bob", "", ["users,admins"], []).unwrap_err();
        assert!(fault.message.contains("users,admins"), "{fault}");
    }

    proptest! {
        /// Whatever a directory holds: each attribute is a header of its own, or there is no identity.
        #[test]
        fn a47_a48_every_attribute_is_refused_or_fits_its_header(
            texts in prop::collection::vec(prop_oneof![any::<String>(), "[a-z,; \r\n\0é]{1,6}", Just("é".repeat(5_000))], 3..7),
        ) {
            let [username, name, email, groups @ ..] = texts.as_slice() else { return Ok(()) };
            let Ok(identity) = Identity::new(username, name, groups.iter().map(String::as_str), [email.as_str()]) else {
                return Ok(());
            };
            for value in identity.header_values() {
                let value = String::from_utf8(value.to_vec()).unwrap();
                prop_assert!(!value.contains(char::is_control), "{:?}", value);
            }
            let [user, joined, _, address] = identity.header_values();
            prop_assert_eq!(&*user, username.as_bytes());
            prop_assert_eq!(&*address, email.as_bytes());
            let joined = String::from_utf8(joined.to_vec()).unwrap();
            let read: Vec<&str> = joined.split(',').filter(|group| !group.is_empty()).collect();
            prop_assert_eq!(read, groups.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn groups_are_compared_by_letter_unless_asked() {
        let groups = Groups::new("Dev, ops");
        assert!(groups.contains("Dev") && groups.contains("ops") && !groups.contains("dev"));
        assert!(groups.contains_ignore_ascii_case("dEV"));
        assert!(AssuranceLevel::Anonymous < AssuranceLevel::OneFactor);
    }
}
