//! Typed reading of the merged tree: asks a section for the values it should have, and notes every
//! value that is of the wrong kind.
//!
//! A reader never stops at a fault: it answers `None`, which is also the answer for a key that is not
//! there, and reading goes on with whatever default applies.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::diagnostic::{Diagnostic, Place};
use super::raw::{Node, Value};
use super::secrets::may_hold_a_secret;
use super::value::{Address, Size, Span};
use crate::fault::Fault;

/// What has been found wrong so far.
pub(super) type Faults = Vec<Diagnostic>;

/// A map of keys, which may be absent: then it is empty.
#[derive(Clone)]
pub(super) struct Section<'t> {
    path: String,
    node: Option<&'t Node>,
    /// Where to point if something in it is missing.
    pub place: Place,
}

/// A value that is there, and the key it belongs to.
#[derive(Clone)]
pub(super) struct Field<'t> {
    /// The key as it is called in messages.
    pub name: String,
    pub node: &'t Node,
    /// Where the key stands.
    pub key: Place,
}

/// A text, and where it stands.
#[derive(Clone)]
pub(super) struct Text<'t> {
    pub text: &'t str,
    pub place: Place,
}

impl<'t> Section<'t> {
    /// The whole configuration.
    pub fn root(tree: &'t Node) -> Section<'t> {
        Section { path: String::new(), node: Some(tree), place: tree.place.clone() }
    }

    /// Whether it is there at all.
    pub fn is_present(&self) -> bool {
        self.node.is_some()
    }

    /// The value of `key`; `None` where there is no such key, or nothing after it.
    pub fn field(&self, key: &str) -> Option<Field<'t>> {
        let entry = self.node?.entry(key)?;
        if matches!(entry.node.value, Value::Null) {
            return None;
        }
        let name = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Field { name, node: &entry.node, key: entry.place.clone() })
    }

    /// Where `key` stands, if it is written and holds nothing: no value, empty text or an empty list.
    pub fn blank(&self, key: &str) -> Option<Place> {
        let entry = self.node?.entry(key)?;
        let is_blank = match &entry.node.value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Untyped(_) | Value::Map(_) => false,
        };
        is_blank.then(|| entry.place.clone())
    }

    /// Every key there is, for a section whose keys are names.
    pub fn fields(&self) -> Vec<Field<'t>> {
        match self.node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().filter_map(|entry| self.field(&entry.key)).collect(),
            _ => Vec::new(),
        }
    }

    /// The section below `key`.
    pub fn section(&self, key: &str, faults: &mut Faults) -> Section<'t> {
        match self.field(key) {
            Some(field) => field.section(faults),
            None => {
                let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
                Section { path, node: None, place: self.place.clone() }
            }
        }
    }

    /// Text.
    pub fn text(&self, key: &str, faults: &mut Faults) -> Option<Text<'t>> {
        self.field(key)?.text(faults)
    }

    /// Text that a room parses.
    pub fn parse<T: FromStr<Err = Fault>>(&self, key: &str, faults: &mut Faults) -> Option<T> {
        self.field(key)?.text(faults)?.parse(faults)
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str, faults: &mut Faults) -> Option<bool> {
        let field = self.field(key)?;
        match &field.node.value {
            Value::Bool(value) => return Some(*value),
            Value::Text(text) | Value::Untyped(text) if text == "true" => return Some(true),
            Value::Text(text) | Value::Untyped(text) if text == "false" => return Some(false),
            _ => faults.push(field.wrong("`true` or `false`", "true")),
        }
        None
    }

    /// A whole number within `range`.
    pub fn integer<N>(&self, key: &str, range: RangeInclusive<N>, faults: &mut Faults) -> Option<N>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        let field = self.field(key)?;
        let within = || format!("It is a whole number from {} to {}.", range.start(), range.end());
        // No number is held out as an example: to many keys 0 means that something is off.
        let no_number = || {
            let mut wrong = field.wrong("a whole number", "");
            wrong.help = Some(within());
            wrong
        };
        let (Value::Number(text) | Value::Text(text) | Value::Untyped(text)) = &field.node.value else {
            faults.push(no_number());
            return None;
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty()
            || !digits.bytes().all(|byte| byte.is_ascii_digit())
            || digits.len() > 1 && digits.starts_with('0')
        {
            faults.push(no_number());
            return None;
        }
        match text.parse::<N>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let fault = Fault::new(format!("`{}` can't be {text}", field.name)).help(within());
                faults.push(Diagnostic::error(&field.node.place, fault));
                None
            }
        }
    }

    /// A span of time; see [`Span`].
    pub fn span(&self, key: &str, faults: &mut Faults) -> Option<Span> {
        self.field(key)?.number_or_text("a span of time", "1h30m", faults)?.parse(faults)
    }

    /// A size; see [`Size`].
    pub fn size(&self, key: &str, range: RangeInclusive<usize>, faults: &mut Faults) -> Option<usize> {
        let field = self.field(key)?;
        let text = field.number_or_text("a size", "64KiB", faults)?;
        let Size(bytes) = text.parse(faults)?;
        if !range.contains(&bytes) {
            let fault = Fault::new(format!("`{}` can't be {}", field.name, text.text)).help(format!(
                "It is a size from {} to {} bytes.",
                range.start(),
                range.end()
            ));
            text.refuse(fault, faults);
            return None;
        }
        Some(bytes)
    }

    /// An address; `port` is for where none is written.
    pub fn address(&self, key: &str, port: u16, faults: &mut Faults) -> Option<Address> {
        let text = self.text(key, faults)?;
        Address::parse(text.text, port).map_err(|fault| text.refuse(fault, faults)).ok()
    }

    /// Several texts, or one; a variable holds them with commas between.
    pub fn texts(&self, key: &str, faults: &mut Faults) -> Vec<Text<'t>> {
        self.field(key).map(|field| field.texts(faults)).unwrap_or_default()
    }

    /// The sections of a list.
    pub fn sections(&self, key: &str, faults: &mut Faults) -> Vec<Section<'t>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let Value::List(items) = &field.node.value else {
            faults.push(field.wrong("a list", "[…]"));
            return Vec::new();
        };
        items.iter().map(|item| item_of(&field.name, item).section(faults)).collect()
    }
}

/// An item of the list `name`, which stands for itself in messages.
pub(super) fn item_of<'t>(name: &str, item: &'t Node) -> Field<'t> {
    Field { name: format!("{name}[]"), node: item, key: item.place.clone() }
}

impl<'t> Field<'t> {
    /// The section that this is.
    pub fn section(&self, faults: &mut Faults) -> Section<'t> {
        let node = match &self.node.value {
            Value::Map(_) => Some(self.node),
            _ => {
                let below =
                    Fault::new(format!("`{}` takes keys and values, not {}", self.name, kind(&self.node.value)))
                        .help("Write them on lines of their own below it, further indented.");
                faults.push(Diagnostic::error(&self.node.place, below));
                None
            }
        };
        Section { path: self.name.clone(), node, place: self.key.clone() }
    }

    /// Text.
    pub fn text(&self, faults: &mut Faults) -> Option<Text<'t>> {
        match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => Some(Text { text, place: self.node.place.inside_quotes() }),
            Value::Number(_) | Value::Bool(_) => {
                faults.push(self.unquoted());
                None
            }
            _ => {
                faults.push(self.wrong("text", "'…'"));
                None
            }
        }
    }

    /// Text, or a number that stands for itself.
    fn number_or_text(&self, what: &str, example: &str, faults: &mut Faults) -> Option<Text<'t>> {
        match &self.node.value {
            Value::Number(text) => Some(Text { text, place: self.node.place.clone() }),
            Value::Text(_) | Value::Untyped(_) => self.text(faults),
            _ => {
                faults.push(self.wrong(what, example));
                None
            }
        }
    }

    /// Several texts, or one.
    pub fn texts(&self, faults: &mut Faults) -> Vec<Text<'t>> {
        match &self.node.value {
            Value::List(items) => items.iter().filter_map(|item| item_of(&self.name, item).text(faults)).collect(),
            Value::Untyped(list) => list
                .split(',')
                .map(|text| Text { text: text.trim(), place: self.node.place.clone() })
                .filter(|text| !text.text.is_empty())
                .collect(),
            _ => self.text(faults).into_iter().collect(),
        }
    }

    /// The wrong kind of value, and how to write the right one.
    pub fn wrong(&self, wanted: &str, example: &str) -> Diagnostic {
        let key = self.name.trim_end_matches("[]");
        let key = key.rsplit('.').next().unwrap_or(key);
        let help = if self.name.ends_with("[]") {
            format!("Write `- {example}`.")
        } else {
            format!("Write `{key}: {example}`.")
        };
        // Where a list belongs, a text may be a key and its value with the colon left out.
        let is_shown = !may_hold_a_secret(key) && !wanted.starts_with("a list");
        let found = match &self.node.value {
            Value::Text(text) | Value::Untyped(text) | Value::Number(text) if is_shown => format!("`{text}`"),
            value => kind(value).to_owned(),
        };
        Diagnostic::error(
            &self.node.place,
            Fault::new(format!("`{}` takes {wanted}, not {found}", self.name)).help(help),
        )
    }

    /// A number or a boolean where text is meant: it may not be what it looks like (`0123` is 83 to
    /// some, `1e3` is 1000), so nothing is guessed.
    fn unquoted(&self) -> Diagnostic {
        let what = kind(&self.node.value);
        let fault = Fault::new(format!("`{}` takes text, and without quotes this is {what}", self.name));
        let key = self.name.trim_end_matches("[]");
        let key = key.rsplit('.').next().unwrap_or(key);
        let written = match &self.node.value {
            Value::Number(text) if !may_hold_a_secret(key) => text.clone(),
            Value::Bool(value) => value.to_string(),
            _ => "…".to_owned(),
        };
        Diagnostic::error(
            &self.node.place,
            match self.name.ends_with("[]") {
                true => fault.help(format!("Put it in quotes: `- '{written}'`.")),
                false => fault.help(format!("Put it in quotes: `{key}: '{written}'`.")),
            },
        )
    }
}

impl Text<'_> {
    /// What it says to a room.
    pub fn parse<T: FromStr<Err = Fault>>(&self, faults: &mut Faults) -> Option<T> {
        self.text.parse().map_err(|fault| self.refuse(fault, faults)).ok()
    }

    /// Notes what a room has against it.
    pub fn refuse(&self, fault: Fault, faults: &mut Faults) {
        // Where the text is spelt with escapes, bytes of the value are not bytes of the file.
        let fault = match &self.place {
            Place::Span { len, .. } if *len == self.text.len() => fault,
            _ => Fault { at: None, ..fault },
        };
        faults.push(Diagnostic::error(&self.place, fault));
    }
}

/// What a value is called.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Text(_) | Value::Untyped(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "keys and values",
    }
}
