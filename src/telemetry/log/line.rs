//! What one line says: an event's fields, each cut, escaped and in its place.
//!
//! Most of what a line tells came from a stranger. Values are cut while they are collected, so that a long one costs no
//! more than a short one, and cut again as they are escaped, so that escapes can't lengthen a line. Nothing that would
//! end a line, move a cursor or turn the direction of writing is written as it is (A105).
//!
//! The fields that a ban hangs on come before those in which a stranger writes freely: a reader that matches from the
//! beginning of the line can't be told somebody else's address.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::Format;

/// The longest line, its end included. A request writes two at most: 2 KiB.
pub(super) const LINE: usize = 1_024;

/// The longest value, escaped.
const VALUE: usize = 256;

/// The longest value of [`DIAGNOSIS`], which shows a piece of a file that the operator wrote.
const DIAGNOSED: usize = 4_096;

/// The one field that comes on top of [`LINE`]: no stranger has a part in it.
const DIAGNOSIS: &str = "diagnosis";

/// Stands where something was cut off.
const ELLIPSIS: char = '…';

/// The order of the fields that there is an order for; others follow as they come.
const ORDER: [&str; 12] =
    ["reason", "door", "repeated", "client", "peer", "user", "endpoint", "rule", "method", "host", "path", "error"];

/// What an event says.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub message: String,
    values: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    /// A number or a truth value, as both formats write it.
    Plain(String),
}

impl Fields {
    /// Nothing but a message.
    pub fn new(message: &str) -> Fields {
        Fields { message: message.to_owned(), values: Vec::new() }
    }

    /// Those of `event`.
    pub fn of(event: &Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    /// A text value by its name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find_map(|(known, value)| match value {
            Value::Text(text) if *known == name => Some(text.as_str()),
            Value::Text(_) | Value::Plain(_) => None,
        })
    }

    /// Adds a text value.
    pub fn push_text(&mut self, name: &'static str, text: &str) {
        let mut excerpt = Excerpt::of(name);
        // An error means that it is full.
        let _ = excerpt.write_str(text);
        self.push(name, Value::Text(excerpt.into_text()));
    }

    /// Adds a number.
    pub fn push_number(&mut self, name: &'static str, number: u64) {
        self.push(name, Value::Plain(number.to_string()));
    }

    fn push(&mut self, name: &'static str, value: Value) {
        match value {
            Value::Text(text) if name == "message" => self.message = text,
            value => self.values.push((name, value)),
        }
    }

    /// The line that says so, with its end.
    pub fn line(mut self, format: Format, stamp: &str, level: Level) -> String {
        let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
        self.values.sort_by_key(|(name, _)| place(name));
        match format {
            Format::Text => self.text_line(stamp, level),
            Format::Json => self.json_line(stamp, level),
        }
    }

    /// `STAMP LEVEL message name=value name="another value"`
    fn text_line(&self, stamp: &str, level: Level) -> String {
        let mut line = format!("{stamp} {level:>5} ");
        escape(&mut line, &self.message, VALUE);
        for (name, value) in &self.values {
            let Some(room) = room(name, &line, " =\"\"\n") else { continue };
            line.extend([" ", name, "="]);
            match value {
                Value::Plain(plain) => line.push_str(plain),
                Value::Text(text) if is_one_word(text) => escape(&mut line, text, room),
                Value::Text(text) => {
                    line.push('"');
                    escape(&mut line, text, room);
                    line.push('"');
                }
            }
        }
        line.push('\n');
        line
    }

    /// One object, without nesting; no name needs escaping.
    fn json_line(&self, stamp: &str, level: Level) -> String {
        let mut line = format!(r#"{{"timestamp":"{stamp}","level":"{level}","message":""#);
        escape(&mut line, &self.message, VALUE);
        line.push('"');
        for (name, value) in &self.values {
            let Some(room) = room(name, &line, ",\"\":\"\"}\n") else { continue };
            line.extend([",\"", name, "\":"]);
            match value {
                Value::Plain(plain) => line.push_str(plain),
                Value::Text(text) => {
                    line.push('"');
                    escape(&mut line, text, room);
                    line.push('"');
                }
            }
        }
        line.push_str("}\n");
        line
    }
}

/// How long the value of `name` may be at the end of `line`, with `marks` around it; `None` if it is not worth it.
fn room(name: &str, line: &str, marks: &str) -> Option<usize> {
    /// As long as any number.
    const LEAST: usize = 20;
    if name == DIAGNOSIS {
        return Some(DIAGNOSED);
    }
    let room = LINE.saturating_sub(line.len() + name.len() + marks.len());
    Some(room.min(VALUE)).filter(|room| *room >= LEAST)
}

/// Whether a value needs no quotes in the text format.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c == ' ' || c == '=' || escaped(c).is_some())
}

/// Adds as much of `text`, escaped as JSON has it, as fits into `room` bytes.
fn escape(line: &mut String, text: &str, room: usize) {
    let (start, end) = (line.len(), line.len() + room);
    let mut fits = start; // with an ellipsis behind it
    for c in text.chars() {
        match escaped(c) {
            Some(escape) => line.push_str(&escape),
            None => line.push(c),
        }
        if line.len() > end {
            line.truncate(fits);
            line.push(ELLIPSIS);
            return;
        }
        if line.len() + ELLIPSIS.len_utf8() <= end {
            fits = line.len();
        }
    }
}

/// How `c` is written if not as it is: what JSON demands, and whatever is not seen or changes how other text is.
fn escaped(c: char) -> Option<String> {
    match c {
        '"' => Some("\\\"".to_owned()),
        '\\' => Some("\\\\".to_owned()),
        '\n' => Some("\\n".to_owned()),
        '\r' => Some("\\r".to_owned()),
        '\t' => Some("\\t".to_owned()),
        ' '..='~' => None,
        // What Rust would not print as it is: control characters, separators, marks of direction, what is not assigned.
        c if c.escape_debug().len() > 1 => {
            Some(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect())
        }
        _ => None,
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), Value::Plain(value.to_string()));
    }

    /// What has a `Display` form comes here too.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut excerpt = Excerpt::of(field.name());
        // An error means that it is full.
        let _ = write!(excerpt, "{value:?}");
        self.push(field.name(), Value::Text(excerpt.into_text()));
    }
}

/// The beginning of a value. It stops whoever writes it once it is long enough.
struct Excerpt {
    text: String,
    room: usize,
    is_cut: bool,
}

impl Excerpt {
    fn of(name: &str) -> Excerpt {
        Excerpt { text: String::new(), room: if name == DIAGNOSIS { DIAGNOSED } else { VALUE }, is_cut: false }
    }

    fn into_text(mut self) -> String {
        if self.is_cut {
            self.text.push(ELLIPSIS);
        }
        self.text
    }
}

impl Write for Excerpt {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let (part, rest) = part.split_at(part.floor_char_boundary(self.room));
        self.text.push_str(part);
        self.room -= part.len();
        self.is_cut = !rest.is_empty();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{DIAGNOSED, Fields, LINE, VALUE};
    use crate::telemetry::log::Format;

    const STAMP: &str = "2026-11-27T23:44:07.123456Z";
    const FORMATS: [Format; 2] = [Format::Text, Format::Json];

    fn line(format: Format, message: &str, fields: &[(&'static str, &str)]) -> String {
        let mut said = Fields::new(message);
        for (name, value) in fields {
            said.push_text(name, value);
        }
        said.push_number("count", 7);
        said.line(format, STAMP, Level::INFO)
    }

    #[test]
    fn a_line_in_both_formats() {
        let fields = [("path", "/a b"), ("error", ""), ("client", "2001:db8::1"), ("user", "o'brien é")];
        assert_eq!(
            line(Format::Text, "signed in", &fields),
            "2026-11-27T23:44:07.123456Z  INFO signed in client=2001:db8::1 user=\"o'brien é\" path=\"/a b\" error=\"\" count=7\n"
        );
        assert_eq!(
            line(Format::Json, "signed in", &fields),
            "{\"timestamp\":\"2026-11-27T23:44:07.123456Z\",\"level\":\"INFO\",\"message\":\"signed in\",\
             \"client\":\"2001:db8::1\",\"user\":\"o'brien é\",\"path\":\"/a b\",\"error\":\"\",\"count\":7}\n"
        );
    }

    #[test]
    fn a105_values_are_quoted_and_escaped() {
        #[rustfmt::skip]
        let table = [
            // because                         value                         as text
            ("one word",                       "/a?b&c",                     "/a?b&c"),
            ("a blank",                        "a b",                        r#""a b""#),
            ("what looks like a field",        "/client=192.0.2.1",          r#""/client=192.0.2.1""#),
            ("a quote",                        "a\"b",                       r#""a\"b""#),
            ("a backslash",                    "a\\b",                       r#""a\\b""#),
            ("the end of a line",              "a\r\nb\tc",                  r#""a\r\nb\tc""#),
            ("a terminal's escape",            "\u{1b}[2J",                  r#""\u001b[2J""#),
            ("DEL and C1",                     "\u{7f}\u{85}\u{9b}",         r#""\u007f\u0085\u009b""#),
            ("line and paragraph separators",  "\u{2028}\u{2029}",           r#""\u2028\u2029""#),
            ("marks of direction",             "\u{202e}\u{2066}\u{200f}",   r#""\u202e\u2066\u200f""#),
            ("beyond the basic plane",         "\u{e0001}",                  r#""\udb40\udc01""#),
            ("letters of any script",          "жé漢",                       "жé漢"),
        ];
        for (because, value, expected) in table {
            let text = line(Format::Text, "x", &[("path", value)]);
            assert_eq!(text, format!("{STAMP}  INFO x path={expected} count=7\n"), "{because}");
            let json = line(Format::Json, "x", &[("path", value)]);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(read["path"], value, "{because}: {json}");
            assert!(!json.trim_end().contains(|c: char| c.is_control()), "{because}: {json}");
        }
    }

    #[test]
    fn a114_a_value_and_a_line_are_cut_and_stay_whole() {
        for fill in ["x", "\u{7f}", "\"", "é", "漢", "\u{e0001}", "\n"] {
            let long = fill.repeat(70_000);
            for format in FORMATS {
                let one = line(format, "refused", &[("path", &long)]);
                assert!(one.len() < VALUE + 130, "{format:?} {fill:?}: {}", one.len());
                let names = ["host", "reason", "user", "door", "error", "client", "method", "peer", "endpoint"];
                let all = line(format, &long, &names.map(|name| (name, long.as_str())));
                assert!(all.len() <= LINE, "{format:?} {fill:?}: {}", all.len());
                assert!(all.len() > LINE - 50, "{format:?} {fill:?}: the room is used: {}", all.len());
                for line in [one, all] {
                    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
                    assert!(line.contains('…'), "{line}");
                    if format == Format::Json {
                        let read: serde_json::Value =
                            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                        assert!(read["message"].is_string(), "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn a114_what_fits_exactly_is_not_cut() {
        for length in [VALUE - 3, VALUE - 2, VALUE - 1, VALUE] {
            let value = "x".repeat(length);
            assert!(line(Format::Text, "x", &[("path", &value)]).contains(&format!("path={value} ")), "{length}");
        }
        let cut = line(Format::Text, "x", &[("path", &"x".repeat(VALUE + 1))]);
        assert!(cut.contains(&format!("path={}… ", "x".repeat(VALUE - 3))), "{cut}");
    }

    #[test]
    fn a114_a_diagnosis_may_be_longer_but_has_an_end() {
        for format in FORMATS {
            let line = line(format, "x", &[("diagnosis", &"\n".repeat(100_000)), ("path", "/a")]);
            assert!(line.contains("/a") && line.len() > DIAGNOSED && line.len() < DIAGNOSED + LINE, "{}", line.len());
        }
    }
}
