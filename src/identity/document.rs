//! The users file as it is written: its keys, where each stands, and writing it back.
//!
//! Reading keeps every value and where it stands in the text, so that one can be changed without touching
//! the rest ([`edit`](super::edit)). What the values mean is [`file`](super::file)'s matter.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::fault::Fault;

/// Something wrong in a users file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The file.
    pub file: PathBuf,
    /// Where in it; `None` if it is about the whole file.
    pub at: Option<Position>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, ": {}", self.fault.message)?;
        match &self.fault.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// A place in a file, counted from 1 in lines and characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in the line.
    pub column: u64,
}

impl Position {
    fn of<T>(spanned: &Spanned<T>) -> Position {
        Position { line: spanned.referenced.line(), column: spanned.referenced.column() }
    }
}

/// The bytes of the text that a key or a scalar takes, quotes included; `None` where the parser can't tell.
fn bytes_of<T>(spanned: &Spanned<T>) -> Option<Range<usize>> {
    let span = spanned.referenced.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    Some(start..start.checked_add(usize::try_from(span.byte_len()?).ok()?)?)
}

/// A fault and where it stands.
pub type Located = (Option<Position>, Fault);

/// What kind of value a key takes.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    List,
    Texts,
    Any,
}

/// Every key of an account, in the order in which they are written.
const KEYS: [(&str, Kind); 20] = [
    ("disabled", Kind::Flag),
    ("displayname", Kind::Text),
    ("password", Kind::Text),
    ("email", Kind::Text),
    ("groups", Kind::List),
    ("given_name", Kind::Text),
    ("middle_name", Kind::Text),
    ("family_name", Kind::Text),
    ("nickname", Kind::Text),
    ("gender", Kind::Text),
    ("birthdate", Kind::Text),
    ("website", Kind::Text),
    ("profile", Kind::Text),
    ("picture", Kind::Text),
    ("zoneinfo", Kind::Text),
    ("locale", Kind::Text),
    ("phone_number", Kind::Text),
    ("phone_extension", Kind::Text),
    ("address", Kind::Texts),
    ("extra", Kind::Any),
];

/// A users file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The accounts, in the order of the file.
    pub users: Vec<Entry>,
}

/// One account, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The user name, which is the key it stands under.
    pub name: String,
    /// Where the name stands.
    pub at: Position,
    /// The bytes of the name.
    pub(super) span: Option<Range<usize>>,
    pub(super) fields: Vec<Field>,
}

/// A key of an account, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub key: &'static str,
    pub value: Value,
    at: Position,
    /// The bytes of the key.
    pub key_span: Option<Range<usize>>,
    /// The bytes of the value, if it is a scalar.
    pub span: Option<Range<usize>>,
}

impl Entry {
    /// An account with nothing but a name.
    pub fn new(name: &str) -> Entry {
        Entry { name: name.to_owned(), ..Entry::default() }
    }

    /// The text of `key`; empty text and null are nothing.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.field(key)?.value.as_str().filter(|text| !text.is_empty())
    }

    /// Whether the account is switched off.
    pub fn is_disabled(&self) -> bool {
        self.field("disabled").and_then(|field| field.value.as_bool()).unwrap_or_default()
    }

    /// The entries of the list `key`.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.field(key).and_then(|field| field.value.as_array()).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Where the value of `key` stands, or else the account.
    pub fn position(&self, key: &str) -> Position {
        self.field(key).map_or(self.at, |field| field.at)
    }

    /// Sets `key`, in its place if it is there already. A key that no account has is not set.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let Some((key, _)) = KEYS.iter().find(|(known, _)| *known == key) else { return };
        let value = value.into();
        match self.fields.iter_mut().find(|field| field.key == *key) {
            Some(field) => field.value = value,
            None => self.fields.push(Field { key, value, at: self.at, key_span: None, span: None }),
        }
    }

    /// The account as lines of a users file, each behind `indent`. Every scalar is written as JSON, which YAML
    /// contains and which leaves nothing to guess: no name turns into a number or a boolean.
    pub(super) fn render(&self, indent: &str, line_end: &str) -> String {
        let name = Value::from(self.name.as_str());
        if self.fields.is_empty() {
            return format!("{indent}{name}: {{}}{line_end}");
        }
        let fields = self.fields.iter().map(|field| format!("{indent}  {}: {}{line_end}", field.key, field.value));
        format!("{indent}{name}:{line_end}{}", fields.collect::<String>())
    }

    pub(super) fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

impl Document {
    /// Reads a users file.
    ///
    /// # Errors
    ///
    /// Text that is no YAML, or a value of the wrong shape: that fault alone, as what follows can't be read.
    /// Otherwise every unknown key.
    pub fn parse(text: &str) -> Result<Document, Vec<Located>> {
        let options = serde_saphyr::options! {
            // An excerpt would show digests.
            with_snippet: false,
            leading_zero_numbers_as_strings: true,
            // A few hundred thousand accounts; what anchors may multiply stays bounded as it is.
            budget: serde_saphyr::budget! { max_nodes: 16_000_000, max_events: 32_000_000, max_total_scalar_bytes: 1 << 30 },
        };
        let raw: RawDocument = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let at = error.location().filter(|at| at.line() > 0);
            let at = at.map(|at| Position { line: at.line(), column: at.column() });
            vec![(at, unreadable(error.without_snippet()))]
        })?;
        if !raw.unknown.is_empty() {
            return Err(raw.unknown);
        }
        let Some(users) = raw.users else {
            return Err(vec![(
                None,
                Fault::new("the file has no `users`").help("Add one with `portcullis users add`."),
            )]);
        };
        Ok(Document { users })
    }

    /// The account under exactly this name.
    pub fn find_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.users.iter_mut().find(|user| user.name == name)
    }

    /// The whole file as text, without the comments and the layout that it may have been read from.
    pub fn render(&self) -> String {
        if self.users.is_empty() {
            return "users: {}\n".to_owned();
        }
        let users = self.users.iter().map(|user| user.render("  ", "\n"));
        format!("users:\n{}", users.collect::<String>())
    }

    /// Whether `other` has the same accounts with the same values, however they are laid out. The keys of an
    /// account may come in any order, the accounts may not.
    pub fn says_the_same_as(&self, other: &Document) -> bool {
        let content = |user: &Entry| -> (String, BTreeMap<&'static str, Value>) {
            (user.name.clone(), user.fields.iter().map(|field| (field.key, field.value.clone())).collect())
        };
        self.users.iter().map(content).eq(other.users.iter().map(content))
    }

    /// The same faults, of the file at `path`.
    pub fn diagnose(path: &Path, faults: Vec<Located>) -> Vec<Diagnosis> {
        faults.into_iter().map(|(at, fault)| Diagnosis { file: path.to_owned(), at, fault }).collect()
    }
}

/// Whether the parser's message may hold words of the text: values, and among them secrets. Those that are listed
/// here are known not to.
pub(crate) fn quotes_the_text(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error;
    !matches!(
        error,
        // Of the scanner, whose messages are fixed.
        Error::ExternalMessage { .. }
            | Error::Eof { .. }
            | Error::MultipleDocuments { .. }
            | Error::Unexpected { .. }
            | Error::MergeValueNotMapOrSeqOfMaps { .. }
            | Error::UnexpectedSequenceEnd { .. }
            | Error::UnexpectedMappingEnd { .. }
            | Error::InvalidBooleanStrict { .. }
            | Error::NullIntoString { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
            | Error::FoldedBlockScalarMustIndentContent { .. }
            | Error::RecursiveReferencesRequireWeakTypes { .. }
            | Error::InvalidScalar { .. }
            | Error::UnexpectedContainerEndWhileReadingKeyNode { .. }
            | Error::ContainerEndMismatch { .. }
            | Error::UnknownAnchor { .. }
            | Error::Budget { .. }
    )
}

/// The parser's fault without the place, which is told apart, and without its own advice to programmers.
fn unreadable(error: &serde_saphyr::Error) -> Fault {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" `{}`", key.escape_debug()));
            Fault::new(format!("the key{key} is there twice")).help("Remove or rename one of them.")
        }
        serde_saphyr::Error::MultipleDocuments { .. } => Fault::new("a second YAML document")
            .help("A users file is one document: remove the `---` and what follows."),
        other if quotes_the_text(other) => {
            Fault::new("this value is not of the kind that is wanted here").help(EXAMPLE)
        }
        other => {
            let message = other.to_string();
            let first = message.lines().next().unwrap_or_default();
            let first = first.split(" at line ").next().unwrap_or_default();
            if first.contains("tabs") {
                return Fault::new("a tab can't indent YAML").help("Indent with spaces.");
            }
            Fault::new(match first {
                "expected sequence start" => "a list is wanted here",
                "expected mapping start" => "keys with values are wanted here",
                other => other,
            })
            .help(EXAMPLE)
        }
    }
}

const EXAMPLE: &str = "An account is `john: {displayname: John Doe, password: '$argon2id$…', email: john@example.com, \
                       groups: [admins]}`.";

#[derive(Default)]
struct RawDocument {
    users: Option<Vec<Entry>>,
    unknown: Vec<Located>,
}

impl<'de> Deserialize<'de> for RawDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawDocument, D::Error> {
        struct Root;
        impl<'de> Visitor<'de> for Root {
            type Value = RawDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with the key `users`")
            }

            fn visit_unit<E>(self) -> Result<RawDocument, E> {
                Ok(RawDocument::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawDocument, A::Error> {
                let mut raw = RawDocument::default();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    if key.value != "users" {
                        raw.unknown.push((Some(Position::of(&key)), unknown_key(&key.value, &["users"])));
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if let Some(users) = map.next_value::<Option<RawUsers>>()? {
                        raw.users = Some(users.entries);
                        raw.unknown.extend(users.unknown);
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Root)
    }
}

struct RawUsers {
    entries: Vec<Entry>,
    unknown: Vec<Located>,
}

impl<'de> Deserialize<'de> for RawUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawUsers, D::Error> {
        struct Users;
        impl<'de> Visitor<'de> for Users {
            type Value = RawUsers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from user names to accounts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawUsers, A::Error> {
                let mut users = RawUsers { entries: Vec::new(), unknown: Vec::new() };
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    let RawEntry { fields, unknown } = map.next_value()?;
                    users.unknown.extend(unknown);
                    let (at, span) = (Position::of(&name), bytes_of(&name));
                    users.entries.push(Entry { at, span, name: name.value, fields });
                }
                Ok(users)
            }
        }
        deserializer.deserialize_map(Users)
    }
}

struct RawEntry {
    fields: Vec<Field>,
    unknown: Vec<Located>,
}

impl<'de> Deserialize<'de> for RawEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawEntry, D::Error> {
        struct Account;
        impl<'de> Visitor<'de> for Account {
            type Value = RawEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an account with `password` and `displayname`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEntry, A::Error> {
                let mut entry = RawEntry { fields: Vec::new(), unknown: Vec::new() };
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let Some(&(known, kind)) = KEYS.iter().find(|(known, _)| *known == key.value) else {
                        let known: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
                        entry.unknown.push((Some(Position::of(&key)), unknown_key(&key.value, &known)));
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    // Asking for text keeps `+1555` and `007` as they were written.
                    let key_span = bytes_of(&key);
                    let (value, at, span) = match kind {
                        Kind::Text => located(map.next_value::<Spanned<Option<String>>>()?),
                        Kind::Flag => located(map.next_value::<Spanned<Option<bool>>>()?),
                        Kind::List => located(map.next_value::<Spanned<Option<Vec<String>>>>()?),
                        Kind::Texts => {
                            let texts = map.next_value::<Spanned<Option<BTreeMap<String, Option<String>>>>>()?;
                            let at = Position::of(&texts);
                            (serde_json::to_value(texts.value).unwrap_or_default(), at, None)
                        }
                        Kind::Any => located(map.next_value::<Spanned<Value>>()?),
                    };
                    entry.fields.push(Field { key: known, value, at, key_span, span });
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Account)
    }
}

fn located<T: Into<Value>>(spanned: Spanned<T>) -> (Value, Position, Option<Range<usize>>) {
    let (at, span) = (Position::of(&spanned), bytes_of(&spanned));
    (spanned.value.into(), at, span)
}

/// The fault of a key that nothing reads, with the nearest one that something does.
fn unknown_key(key: &str, known: &[&str]) -> Fault {
    let fault = Fault::new(format!("unknown key `{}`", key.escape_debug()));
    let nearest = known.iter().map(|known| (strsim::osa_distance(key, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 3 && distance < nearest.len() => {
            fault.help(format!("did you mean `{nearest}`?"))
        }
        _ => fault.help(format!("The keys are {}.", known.join(", "))),
    }
}
