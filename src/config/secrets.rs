//! Which parts of a configuration are never shown, whatever is wrong with them or beside them.
//!
//! In a file that was parsed, the place of each value says whether it may be a secret: under a key that holds one,
//! under an unknown key that looks as if it were meant to, or where no value belongs and somebody may have left out
//! a colon. Of a file that could not be parsed nobody knows what is a value: of a line only a key that there is, is
//! shown. In doubt a value is blanked; the place and the message are there all the same.

use std::ops::Range;

use super::keys;

/// Words that make an unknown key look like one that holds a secret.
const WORDS: [&str; 12] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "token",
    "key",
    "credential",
    "private",
    "hmac",
    "jwt",
];

/// Whether the value of the key `name` may be a secret, if nothing is known but its name.
///
/// A bare `key` on its own line is the name of a query parameter in a rule or the path of a key file, so that is for
/// [`Scope`] to say.
pub(super) fn may_hold_a_secret(name: &str) -> bool {
    name != "key" && if keys::is_a_name(name) { holds_a_secret(name) } else { looks_like_a_secret(name) }
}

/// Whether a key that there is holds a secret, by its last name.
fn holds_a_secret(name: &str) -> bool {
    ["key", "secret", "password", "token"].iter().any(|end| name.ends_with(end))
}

/// Whether an unknown key may be meant for one that holds a secret: it has one of the [`WORDS`] in it, or it or a part
/// of it is mistyped for one, or for a key that holds a secret.
fn looks_like_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    let near = |word: &str, meant: &str| keys::nearest(word, std::iter::once(meant)).is_some();
    WORDS.iter().any(|word| {
        letters.contains(word) || near(&name, word) || name.split(['_', '-', '.', ' ']).any(|part| near(part, word))
    }) || keys::names().any(|known| holds_a_secret(known) && near(&name, known))
}

/// Where a value of a configuration stands, as far as that says whether it may be shown.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The key in the table, while all above it are there.
    path: Option<String>,
    is_secret: bool,
}

impl Scope {
    /// The whole configuration.
    pub fn root() -> Scope {
        Scope { path: Some(String::new()), is_secret: false }
    }

    /// The value of `key` in here.
    pub fn below(&self, key: &str) -> Scope {
        const QUERY: &str = "access_control.rules[].query";
        if self.is_secret {
            return Scope { path: None, is_secret: true };
        }
        if let Some(path) = self.path.as_ref().filter(|path| path.starts_with(QUERY)) {
            // `{key: token, operator: present}` names a parameter.
            return Scope { path: Some(path.clone()), is_secret: false };
        }
        match self.path.as_ref().and_then(|path| keys::find(path, key)) {
            Some((path, _)) => {
                let is_a_path = path.ends_with("tls.key");
                Scope { is_secret: holds_a_secret(key) && !is_a_path && !keys::is_section(&path), path: Some(path) }
            }
            None => Scope { path: None, is_secret: looks_like_a_secret(key) },
        }
    }

    /// An item of the list that this is.
    pub fn item(&self) -> Scope {
        Scope { path: self.path.as_ref().map(|path| format!("{path}[]")), ..self.clone() }
    }

    /// Whether it may be a secret.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Whether a text may not be shown: it may be a secret, or `secret hunter2`, where keys belong.
    pub fn hides_text(&self) -> bool {
        let is_section = |path: &String| keys::is_section(path.trim_end_matches("[]"));
        self.is_secret || self.path.as_ref().is_some_and(is_section)
    }

    /// Whether `key`, which stands in here, may not be shown itself: it is part of a secret, or holds more than a name,
    /// as `secret=hunter2` does.
    pub fn hides_key(&self, key: &str) -> bool {
        self.is_secret || self.below(key).path.is_none() && is_more_than_a_name(key)
    }
}

fn is_more_than_a_name(key: &str) -> bool {
    key.contains(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '/' | '*'))
}

/// An unknown key as it may be shown in a message: as far as it is a name.
pub(super) fn shown(key: &str) -> String {
    let name: String = key.chars().take_while(|c| !is_more_than_a_name(&c.to_string())).collect();
    if name.len() == key.len() { name } else { format!("{name}…") }
}

/// From which byte of `line` on nothing is shown, if it is of a file that was parsed: where one of the `hidden` ranges
/// begins, or behind the first key that is named like a secret, whatever the parser made of it. `start` is the byte
/// of the file at which the line begins.
pub(super) fn hidden_from(line: &str, start: usize, hidden: &[Range<usize>]) -> Option<usize> {
    let reaches = |range: &&Range<usize>| range.start < start + line.len() && range.end > start;
    let first = hidden.iter().filter(reaches).map(|range| range.start.saturating_sub(start)).min();
    let first = first.map(|at| at.max(line.len() - line.trim_start().len()));
    first.into_iter().chain(behind_a_secret_key(line)).chain(in_a_comment(line)).chain(in_an_address(line)).min()
}

/// Behind the `://` of an address with an `@` after it, or behind the first colon of a word with one.
fn in_an_address(line: &str) -> Option<usize> {
    let whole = line.find("://").map(|at| at + 3).filter(|at| line.get(*at..).is_some_and(|rest| rest.contains('@')));
    let mut start = 0;
    let words = line.split_inclusive(char::is_whitespace).filter_map(|word| {
        let begins = start;
        start += word.len();
        let (colon, at) = (word.find(':')?, word.rfind('@')?);
        let is_scheme = word.get(colon..)?.starts_with("://");
        (colon + 1 < at && !is_scheme).then_some(begins + colon + 1)
    });
    words.chain(whole).min()
}

/// Behind the first key on `line` that is named like a secret, if anything follows.
fn behind_a_secret_key(line: &str) -> Option<usize> {
    line.match_indices(':').find_map(|(colon, _)| {
        let name = line.get(..colon)?.trim_end().trim_end_matches(['"', '\'']);
        let name = name.rsplit([' ', '{', ',', '"', '\'', '\t', '[']).next().unwrap_or(name);
        let value = line.get(colon + 1..)?;
        (may_hold_a_secret(name) && !value.trim().is_empty()).then(|| colon + 1 + usize::from(value.starts_with(' ')))
    })
}

/// A comment that speaks of a secret may hold one.
fn in_a_comment(line: &str) -> Option<usize> {
    let at = line.find(" #").or_else(|| line.find("\t#"))?;
    let comment = line.get(at..)?.to_lowercase();
    WORDS.iter().any(|word| comment.contains(word)).then_some(at + 2)
}

/// From which byte of `line` on nothing is shown, if it is of a file that can't be parsed.
pub(super) fn hidden_from_unparsed(line: &str) -> Option<usize> {
    let indent = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
    let content = line.get(indent..).unwrap_or_default();
    if content.trim().is_empty() || content.trim() == "..." {
        return None;
    }
    let Some((name, value)) = content.split_once(':') else { return Some(indent) };
    if !keys::is_a_name(name.trim_matches([' ', '"', '\''])) {
        return Some(indent);
    }
    let colon = indent + name.len() + 1;
    (!value.trim().is_empty()).then(|| colon + usize::from(value.starts_with(' ')))
}

/// `text` without what stands before the `@` of an address, which may be a user name and a password: from `://`, or
/// else from the first colon of the word, to the last `@`.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        // Whatever may be in a password, a line ends it.
        let line = after.split('\n').next().unwrap_or_default();
        rest = match line.rfind('@') {
            Some(at) => {
                shown.push_str("***");
                after.get(at..).unwrap_or_default()
            }
            None => after,
        };
    }
    shown.push_str(rest);
    let words = shown.split_inclusive(char::is_whitespace).map(|word| match (word.find(':'), word.rfind('@')) {
        (Some(colon), Some(at)) if colon + 1 < at && !word.contains("://") => {
            format!("{}***{}", word.get(..=colon).unwrap_or_default(), word.get(at..).unwrap_or_default())
        }
        _ => word.to_owned(),
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::{Scope, hidden_from, hidden_from_unparsed, may_hold_a_secret, shown, without_userinfo};

    #[test]
    fn a125_keys_that_hold_or_are_meant_to_hold_a_secret() {
        for name in [
            "secret",
            "secrit",
            "pasword",
            "password",
            "jwt_secert",
            "encyption_key",
            "encryption_key",
            "passwd",
            "paswd",
            "api-token",
            "apiToken",
            "tokn",
            "API_KEY",
            "credentials",
            "db_pass",
            "privat_key",
            "clientsecret",
        ] {
            assert!(may_hold_a_secret(name), "{name}");
        }
        for name in ["key", "key_length", "domain", "inactivty", "autelia_url", "zzz", "id_token_signed_response_alg"] {
            assert!(!may_hold_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a125_the_place_of_a_value_says_whether_it_is_a_secret() {
        #[rustfmt::skip]
        let table: [(&str, &[&str], bool); 13] = [
            ("a secret",                                &["session", "secret"],                                   true),
            ("mistyped",                                &["session", "secrit"],                                   true),
            ("below a mistyped section",                &["sesion", "secret"],                                    true),
            ("of a known one, below an unknown one",    &["zzz", "a", "tokn", "b"],                               true),
            ("how passwords are hashed",                &["authentication_backend", "file", "password", "algorithm"], false),
            ("in its place",                            &["authentication_backend", "file", "password"],          true),
            ("the path of a key",                       &["server", "tls", "key"],                                false),
            ("a key as it is",                          &["identity_providers", "oidc", "jwks", "[]", "key"],     true),
            ("a parameter of a rule",                   &["access_control", "rules", "[]", "query", "[]", "[]", "key"], false),
            ("a text where keys belong",                &["session"],                                             true),
            ("one in a list of them",                   &["access_control", "rules", "[]"],                       true),
            ("a list of texts",                         &["access_control", "rules", "[]", "domain", "[]"],       false),
            ("what is mistyped otherwise",              &["session", "inactivty"],                                false),
        ];
        for (because, path, hidden) in table {
            let scope = path.iter().fold(Scope::root(), |scope, name| match *name {
                "[]" => scope.item(),
                name => scope.below(name),
            });
            assert_eq!(scope.hides_text(), hidden, "{because}");
        }
        assert!(Scope::root().below("session").hides_key("secret=hunter2"));
        assert_eq!(shown("secret=hunter2"), "secret…");
    }

    #[test]
    fn a125_of_a_line_that_cannot_be_parsed_a_key_is_all_that_is_shown() {
        #[rustfmt::skip]
        let table = [
            ("  name: hunter2",        "  name: "),
            ("  - domain: *.x",        "  - domain: "),
            ("session:",               "session:"),
            ("---",                    "---"),
            ("  secret hunter2",       "  "),
            ("  hunter2: x",           "  "),
            ("\thunter2",              "\t"),
            ("'name': 'hunter2",       "'name': "),
        ];
        for (line, shown) in table {
            assert_eq!(&line[..hidden_from_unparsed(line).unwrap_or(line.len())], shown, "{line}");
        }
    }

    #[test]
    fn a125_no_user_name_and_password_of_an_address() {
        #[rustfmt::skip]
        let table = [
            ("`https://u:hunter2@h/x` is bad",  "`https://***@h/x` is bad"),
            ("https://u:hun/te r2@h",           "https://***@h"),
            ("redis://:hunter2@h:1 and more",   "redis://***@h:1 and more"),
            ("u:hunter2@h:1",                   "u:***@h:1"),
            ("https://h/x",                     "https://h/x"),
            ("email: a@example.com",            "email: a@example.com"),
        ];
        for (text, shown) in table {
            assert_eq!(without_userinfo(text), shown);
            let hidden = hidden_from(text, 0, &[]);
            assert_eq!(hidden.is_some(), text.contains("hunter2") || text.contains("te r2"), "{text}");
            assert!(hidden.is_none_or(|at| !text[..at].contains("hun")), "{text}");
        }
    }
}
