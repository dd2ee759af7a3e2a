//! A configuration file as it is written: a tree in which everything knows its place.
//!
//! The parser decides what is a number or a boolean and what is text, and expands aliases and merge
//! keys. Files are laid over each other here; what any key means is nobody's business yet.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::diagnostic::{Diagnostic, Place, Source};
use super::secrets::{self, Scope};
use crate::fault::Fault;
use crate::identity::document::quotes_the_text;

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    pub value: Value,
    pub place: Place,
}

/// A value as it is written.
#[derive(Clone)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Null,
    /// `true` or `false`, unquoted.
    Bool(bool),
    /// An unquoted number, as it is spelt.
    Number(String),
    /// Any other scalar.
    Text(String),
    /// From an environment variable: of whatever kind is wanted.
    Untyped(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in the order of the file, each key once.
    Map(Vec<Entry>),
}

/// A key, where it stands, and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Value {
    /// Whether nothing is said: no value, empty text, an empty list, or keys without values.
    pub fn says_nothing(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) => false,
            Value::Text(text) | Value::Untyped(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.iter().all(|entry| entry.node.value.says_nothing()),
        }
    }
}

impl Node {
    /// An empty map that stands nowhere.
    pub fn empty() -> Node {
        Node { value: Value::Map(Vec::new()), place: Place::Nowhere }
    }

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Lays `over` on top: maps key by key, anything else replaces what was there. A key with nothing
    /// after it does not take away a map that an earlier file wrote.
    pub fn overlay(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Map(_), Value::Null) => {}
            (Value::Map(entries), Value::Map(others)) => {
                for other in others {
                    match entries.iter_mut().find(|entry| entry.key == other.key) {
                        Some(entry) => {
                            entry.place = other.place;
                            entry.node.overlay(other.node);
                        }
                        None => entries.push(other),
                    }
                }
            }
            (value, other) => {
                *value = other;
                self.place = over.place;
            }
        }
    }

    /// Puts `node` at `path`, making maps on the way.
    pub fn insert(&mut self, path: &[&str], node: Node) {
        let Some((key, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        let at = match entries.iter().position(|entry| entry.key == *key) {
            Some(at) => at,
            None => {
                entries.push(Entry { key: (*key).to_owned(), place: node.place.clone(), node: Node::empty() });
                entries.len() - 1
            }
        };
        if let Some(entry) = entries.get_mut(at) {
            entry.node.insert(rest, node);
        }
    }

    /// The value at `path`, if there is one that is not null.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        let found = path.iter().try_fold(self, |node, key| node.entry(key).map(|entry| &entry.node))?;
        (!matches!(found.value, Value::Null)).then_some(found)
    }
}

/// Parses the text of a file; `None` where it can't be, with the reason in `faults`.
pub(super) fn parse(source: &Arc<Source>, faults: &mut Vec<Diagnostic>) -> Option<Node> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_total_scalar_bytes: 512 * 1024 * 1024,
            max_depth: 64,
            max_documents: 2,
        },
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Written>>>(&source.text, options) {
        Ok(None) => {
            source.parsed(Vec::new());
            Some(Node::empty())
        }
        Ok(Some(spanned)) => {
            let mut hidden = Vec::new();
            // Where a secret is whose place isn't known, no value is shown.
            if hide(&spanned, &Scope::root(), source, &mut hidden).is_some() {
                source.parsed(hidden);
            }
            Some(settle(spanned, source, faults))
        }
        Err(error) => {
            faults.push(unreadable(source, error.without_snippet()));
            None
        }
    }
}

/// A value as the parser hands it over.
enum Written {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Written>>),
    Map(Vec<(Spanned<Key>, Spanned<Written>)>),
}

/// A key as the parser hands it over; `None` where it is not text.
struct Key(Option<String>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Written;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Written, E> {
                Ok(Written::Null)
            }
            fn visit_none<E>(self) -> Result<Written, E> {
                Ok(Written::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
                Ok(Written::Bool(value))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
                Ok(Written::Number)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
                Ok(Written::Number)
            }
            fn visit_i128<E>(self, _: i128) -> Result<Written, E> {
                Ok(Written::Number)
            }
            fn visit_u128<E>(self, _: u128) -> Result<Written, E> {
                Ok(Written::Number)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
                Ok(Written::Number)
            }
            fn visit_str<E>(self, value: &str) -> Result<Written, E> {
                Ok(Written::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Written::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Written::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Key(Some(text))),
            _ => Ok(Key(None)),
        }
    }
}

/// Notes the bytes of all that is never shown; `None` where they can't be told.
fn hide(spanned: &Spanned<Written>, scope: &Scope, source: &Source, hidden: &mut Vec<Range<usize>>) -> Option<()> {
    // Of an alias, where it stands and what it stands for.
    let places = [spanned.referenced, spanned.defined];
    match &spanned.value {
        Written::Bool(_) | Written::Number if scope.is_secret() => hide_bytes(places, source, hidden)?,
        Written::Text(_) if scope.hides_text() => hide_bytes(places, source, hidden)?,
        Written::Null | Written::Bool(_) | Written::Number | Written::Text(_) => {}
        Written::List(items) => {
            for item in items {
                hide(item, &scope.item(), source, hidden)?;
            }
        }
        Written::Map(entries) => {
            for (key, value) in entries {
                let name = key.value.0.clone().unwrap_or_else(|| raw(key.defined, source));
                if scope.hides_key(&name) {
                    hide_bytes([key.referenced, key.defined], source, hidden)?;
                }
                hide(value, &scope.below(&name), source, hidden)?;
            }
        }
    }
    Some(())
}

fn hide_bytes(places: [Location; 2], source: &Source, hidden: &mut Vec<Range<usize>>) -> Option<()> {
    let known = places.into_iter().filter(|at| *at != Location::UNKNOWN).filter_map(|at| bytes_of(at, source));
    let before = hidden.len();
    hidden.extend(known.map(|(start, len)| start..start.saturating_add(len)));
    (hidden.len() > before).then_some(())
}

/// Gives everything its place, and refuses keys that stand twice or are not text.
fn settle(spanned: Spanned<Written>, source: &Arc<Source>, faults: &mut Vec<Diagnostic>) -> Node {
    let place = place_of(spanned.referenced, spanned.defined, source);
    let value = match spanned.value {
        Written::Null => Value::Null,
        Written::Bool(value) => Value::Bool(value),
        Written::Number => Value::Number(raw(spanned.defined, source)),
        Written::Text(text) => Value::Text(text),
        Written::List(items) => Value::List(items.into_iter().map(|item| settle(item, source, faults)).collect()),
        Written::Map(written) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(written.len());
            for (key, value) in written {
                let place = place_of(key.referenced, key.defined, source);
                let node = settle(value, source, faults);
                // `1:` and `true:` are keys too, spelt as they are.
                let key = key.value.0.unwrap_or_else(|| raw(key.defined, source));
                if entries.iter().any(|entry| entry.key == key) {
                    faults.push(Diagnostic::error(
                        &place,
                        Fault::new(format!("the key `{}` stands here twice", secrets::shown(&key)))
                            .help("Keep one of them."),
                    ));
                    continue;
                }
                entries.push(Entry { key, place, node });
            }
            Value::Map(entries)
        }
    };
    Node { value, place }
}

/// The text at a location, as it is spelt.
fn raw(at: Location, source: &Source) -> String {
    bytes_of(at, source).and_then(|(start, len)| source.text.get(start..start + len)).unwrap_or("").trim().to_owned()
}

fn bytes_of(at: Location, source: &Source) -> Option<(usize, usize)> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    (start <= source.text.len()).then_some((start, len))
}

/// Where a value is used; of an alias, where the alias stands.
fn place_of(referenced: Location, defined: Location, source: &Arc<Source>) -> Place {
    for at in [referenced, defined] {
        if let Some((start, len)) = bytes_of(at, source)
            && at != Location::UNKNOWN
        {
            let len = len.min(source.text.len() - start);
            // A span may reach over the line breaks after it.
            let len = source.text.get(start..start + len).map_or(len, |text| text.trim_end().len());
            return Place::Span { source: Arc::clone(source), start, len };
        }
    }
    Place::File { path: source.path.clone(), order: source.order }
}

/// Says why a file is not YAML.
fn unreadable(source: &Arc<Source>, error: &serde_saphyr::Error) -> Diagnostic {
    let start = error.location().filter(|at| *at != Location::UNKNOWN).and_then(|at| match bytes_of(at, source) {
        Some((start, _)) => Some(start),
        // The scanner counts lines and columns only.
        None => byte_at(&source.text, at.line(), at.column()),
    });
    let place = match start {
        Some(start) => Place::Span { source: Arc::clone(source), start, len: 1 },
        None => Place::File { path: source.path.clone(), order: source.order },
    };
    let fault = match error {
        serde_saphyr::Error::MultipleDocuments { .. } => Fault::new("a second document begins here")
            .help("A configuration is one document: remove the line `---`, or make a second file and name both."),
        serde_saphyr::Error::UnsupportedTag { .. } => {
            Fault::new("this value has a tag, and tags mean nothing here").help("Remove the word that begins with `!`.")
        }
        serde_saphyr::Error::InvalidScalar { .. }
        | serde_saphyr::Error::InvalidBinaryBase64 { .. }
        | serde_saphyr::Error::BinaryNotUtf8 { .. }
        | serde_saphyr::Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            Fault::new("this value is not what its tag says").help("Remove the tag, the word that begins with `!`.")
        }
        _ => match start.and_then(|start| tab_before(&source.text, start)) {
            Some(tab) => {
                return Diagnostic::error(
                    &Place::Span { source: Arc::clone(source), start: tab, len: 1 },
                    Fault::new("a tab can't indent YAML").help("Indent with spaces."),
                );
            }
            None => {
                let reason = reason(error);
                let value = start.and_then(|start| source.text.get(start..)).unwrap_or_default();
                let help = mend(&reason, value);
                Fault::new(format!("this is not YAML: {reason}")).help(help)
            }
        },
    };
    Diagnostic::error(&place, fault)
}

/// The byte at a line and a column, both counted from 1.
fn byte_at(text: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let mut lines = text.split_inclusive('\n');
    let start: usize = lines.by_ref().take(before).map(str::len).sum();
    let line = lines.next().unwrap_or("");
    Some(start + line.char_indices().nth(column).map_or(line.trim_end().len(), |(at, _)| at))
}

/// The first tab in the indentation of the line that holds byte `start`.
fn tab_before(text: &str, start: usize) -> Option<usize> {
    let line_start = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let indent = line.len() - line.trim_start().len();
    line.get(..indent)?.find('\t').map(|at| line_start + at)
}

/// What to do where the parser gave up, at `value`.
fn mend(reason: &str, value: &str) -> &'static str {
    if value.starts_with('*') {
        return "Put quotes around what begins with `*`, as in `'*.example.com'`.";
    }
    if reason.contains("escape character") {
        return "Put a text with `\\` in single quotes: `'^app\\.example\\.com$'`.";
    }
    "Look here and at the line above: a quote that is not closed, a colon that is missing, or a key that does not begin \
     below its neighbours."
}

/// The parser's own words, without the place, which is shown separately, and without words of the file.
fn reason(error: &serde_saphyr::Error) -> String {
    if quotes_the_text(error) {
        return "it can't be read from here on".to_owned();
    }
    let options = serde_saphyr::RenderOptions::default();
    let rendered = error.render_with_options(options);
    let first = rendered.lines().next().unwrap_or("").trim();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let first = first.split(" at line ").next().unwrap_or(first);
    first.trim_end_matches(['.', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, parse};
    use crate::config::diagnostic::{Diagnostic, Source};
    use std::sync::Arc;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let source = Arc::new(Source::new("c.yaml".into(), text.to_owned(), 0));
        let mut faults = Vec::new();
        let node = parse(&source, &mut faults);
        (node, faults.iter().map(ToString::to_string).collect())
    }

    fn shown(node: &Node) -> String {
        let value = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("bool {value}"),
            Value::Number(text) => format!("number {text}"),
            Value::Text(text) => format!("text {text}"),
            Value::Untyped(text) => format!("untyped {text}"),
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}{}: {}", entry.key, place(&entry.place), shown(&entry.node)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        };
        format!("{value}{}", place(&node.place))
    }

    fn place(place: &super::Place) -> String {
        let super::Place::Span { source, start, len } = place else { return "@?".to_owned() };
        let diagnostic = Diagnostic::error(place, crate::fault::Fault::new(""));
        let crate::config::Position::Line { line, column, .. } = diagnostic.position else { return String::new() };
        let text = &source.text[*start..*start + *len];
        format!("@{line}:{column}<{}>", text.replace('\n', "⏎"))
    }

    #[test]
    fn everything_knows_its_place() {
        let text = "a: 1\nb:\n  - 'x y'\n  - \"q\"\n  - &n plain # c\n  - *n\nc: {d: true, e: ~, f: yes}\ng: |\n  one\n  two\nh: 0123\n1: x\né: -1.5e3\r\n";
        let (node, faults) = read(text);
        assert_eq!(faults, Vec::<String>::new());
        let expected = "{a@1:1<a>: number 1@1:4<1>, \
            b@2:1<b>: [text x y@3:5<'x y'>, text q@4:5<\"q\">, text plain@5:8<plain>, text plain@6:5<*n>]@3:3<>, \
            c@7:1<c>: {d@7:5<d>: bool true@7:8<true>, e@7:14<e>: null@7:17<~>, f@7:20<f>: text yes@7:23<yes>}@7:4<{>, \
            g@8:1<g>: text one\ntwo\n@9:3<one⏎  two>, h@11:1<h>: number 0123@11:4<0123>, 1@12:1<1>: text x@12:4<x>, \
            é@13:1<é>: number -1.5e3@13:4<-1.5e3>}@1:1<>";
        assert_eq!(shown(&node.unwrap()), expected);
    }

    #[test]
    fn merge_keys_and_aliases_are_expanded() {
        let (node, faults) = read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n");
        assert_eq!(faults, Vec::<String>::new());
        let node = node.unwrap();
        assert_eq!(shown(&node.at(&["b", "x"]).unwrap().clone()), "number 1@3:7<*a>");
        assert_eq!(shown(&node.at(&["b", "y"]).unwrap().clone()), "number 3@4:6<3>");
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        for text in [
            "a: [1, 2\nb: 3\n",
            "a: 'x\n",
            "a:\n\tb: 1\n",
            "a: 1\n---\nb: 2\n",
            "a: *x\n",
            "a: b: c\n",
            "a: 1\n b: 2\n",
            "a: @x\n",
            "a: !!int x\n",
            "- a\nb: 1\n",
            "<<: 1\n",
            "\u{0}",
            "a: !x y\n",
            "a: &a [*a]\n",
        ] {
            let (node, faults) = read(text);
            assert!(node.is_none(), "{text:?}");
            assert_eq!(faults.len(), 1, "{text:?}");
            assert!(faults[0].starts_with("c.yaml:") && faults[0].contains('^'), "{}", faults[0]);
        }
    }

    #[test]
    fn an_alias_can_not_grow_without_bounds() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let items = vec![format!("*a{}", n - 1); 9].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(read(&text).0.is_none());
    }

    #[test]
    fn unusual_keys_are_keys() {
        let (node, faults) = read("1: a\ntrue: b\n~: c\n? [d]\n: e\n");
        assert_eq!(faults, Vec::<String>::new());
        let Value::Map(entries) = node.unwrap().value else { panic!() };
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys[..3], ["1", "true", "~"]);
    }

    #[test]
    fn keys_are_laid_over_each_other_and_lists_replaced() {
        let (under, _) = read("a: {x: 1, y: [1, 2]}\nb: {z: 1}\nc: 1\n");
        let (over, _) = read("a: {y: [3]}\nb:\nc: {d: 1}\n");
        let mut tree = under.unwrap();
        tree.overlay(over.unwrap());
        let at = |path: &[&str]| tree.at(path).map(shown).unwrap_or_default();
        assert!(at(&["a", "x"]).starts_with("number 1"));
        assert!(at(&["a", "y"]).starts_with("[number 3@"));
        assert!(at(&["b", "z"]).starts_with("number 1"));
        assert!(at(&["c", "d"]).starts_with("number 1"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ \\t\\n:a-c'\"{}\\[\\],&*!|>#0-9\u{e9}\\\\-]{0,60}") {
            let (node, faults) = read(&text);
            proptest::prop_assert!(node.is_some() || !faults.is_empty());
        }
    }
}
