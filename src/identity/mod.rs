//! Who exists: the accounts that a user backend knows, ready to be looked up.
//!
//! [`Accounts`] is one consistent set, built when a backend loads and only read after that. A lookup is in
//! memory and never waits. Nothing here checks a password; that is `signin`'s, through `factor`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::factor::password::PasswordHash;
use crate::subject::Identity;

pub(crate) mod document;
pub(crate) mod edit;
pub mod file;

/// How often a session looks whether its account has changed (`authentication_backend.refresh_interval`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Not before it ends.
    Never,
    /// At every request.
    Always,
    /// When this long has passed since it last looked.
    Every(Duration),
}

impl Default for Refresh {
    /// Every five minutes.
    fn default() -> Refresh {
        Refresh::Every(Duration::from_secs(300))
    }
}

/// A person who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who it is; the user name is the canonical one.
    pub identity: Identity,
    /// What the password is checked against.
    pub password: PasswordHash,
}

/// Every account that may sign in, and the names by which each is found.
#[derive(Debug)]
pub struct Accounts {
    by_name: HashMap<String, Arc<Account>>,
    /// By address in lower case; empty where addresses are no login names.
    by_email: HashMap<String, Arc<Account>>,
    ignore_case: bool,
    /// Whether addresses are login names.
    search_email: bool,
    decoy: PasswordHash,
    /// A decoy of each kind and cost, with its description; empty where all digests cost the same.
    kinds: Vec<(String, PasswordHash)>,
}

impl Accounts {
    /// The account that `login` means: by e-mail address, then by name, in whatever letter case is allowed.
    pub fn find(&self, login: &str) -> Option<&Arc<Account>> {
        if !self.by_email.is_empty()
            && let Some(account) = self.by_email.get(&login.to_lowercase())
        {
            return Some(account);
        }
        if self.ignore_case { self.by_name.get(&login.to_lowercase()) } else { self.by_name.get(login) }
    }

    /// `login` as it is compared with names and addresses, whether or not somebody has it: other spellings of one login
    /// are the same. What is counted or shared by login must not differ between those who exist and those who don't.
    pub fn fold<'a>(&self, login: &'a str) -> Cow<'a, str> {
        let is_folded = self.ignore_case || (self.search_email && login.contains('@'));
        if is_folded { Cow::Owned(login.to_lowercase()) } else { Cow::Borrowed(login) }
    }

    /// The account whose canonical user name is `username`.
    pub fn named(&self, username: &str) -> Option<&Arc<Account>> {
        self.by_name.get(username)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// What to check a password against when nobody has that name: as much work as most accounts (A85).
    pub fn decoy(&self) -> &PasswordHash {
        &self.decoy
    }

    /// A decoy of each kind and cost of digest that accounts have, with what [`PasswordHash::work`] says of it; nothing
    /// where all cost the same.
    pub fn kinds(&self) -> &[(String, PasswordHash)] {
        &self.kinds
    }
}

#[cfg(test)]
mod tests;
