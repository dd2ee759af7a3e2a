//! What stands for names and passwords in memory, so that neither is kept.
//!
//! Each is an HMAC under a key that lives and dies with the process, over its parts with the length of each in front:
//! so `ab` with `c` is not `a` with `bc`.

use ring::hmac;

use crate::factor::password::PasswordHash;

/// What stands for one user name, password and digest: a changed password is forgotten by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CredentialTag(pub(super) [u8; 32]);

impl CredentialTag {
    pub(super) fn of(key: &hmac::Key, username: &str, password: &str, digest: &PasswordHash) -> CredentialTag {
        CredentialTag(sign(key, &[username.as_bytes(), password.as_bytes(), &digest.fingerprint()]))
    }
}

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A user's canonical name.
    User,
    /// A login that nobody has, folded.
    Unknown,
    /// What was typed, folded, whether or not somebody has it.
    Login,
}

/// What stands for a name. Names that nobody has are not kept as they are: one may be a password in the wrong field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NameTag(pub(super) [u8; 32]);

impl NameTag {
    pub(super) fn of(key: &hmac::Key, kind: NameKind, name: &str) -> NameTag {
        let kind: &[u8] = match kind {
            NameKind::User => b"user",
            NameKind::Unknown => b"unknown",
            NameKind::Login => b"login",
        };
        NameTag(sign(key, &[kind, name.as_bytes()]))
    }
}

fn sign(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::hmac;

    use super::{CredentialTag, NameKind, NameTag};
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
                CredentialTag::of(&key, name, password, &digest.parse::<PasswordHash>().unwrap())
            };
            let (one, two) = (cuts[one.index(cuts.len())], cuts[two.index(cuts.len())]);
            prop_assert_eq!(tag(one, DIGESTS[0]) == tag(two, DIGESTS[0]), one == two);
            prop_assert_ne!(tag(one, DIGESTS[0]), tag(two, DIGESTS[1]));
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_not_a_users() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let [user, unknown, login] =
            [NameKind::User, NameKind::Unknown, NameKind::Login].map(|kind| NameTag::of(&key, kind, "john"));
        assert!(user != unknown && unknown != login && user != login);
    }
}
