//! What is wrong with a configuration, where it stands and how to mend it; and how that is shown.
//!
//! A [`Diagnostic`] is plain text: it keeps the one line it points at and nothing else of the file.
//! What may be a secret is blanked when it is made (`secrets.rs` says what that is), so one may be printed and
//! logged as it is.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use super::secrets;
use crate::fault::Fault;

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// A warning that `check --strict` counts as an error.
    Strict,
    /// Usable, and probably not what was meant.
    Warning,
}

/// One thing wrong with the configuration.
///
/// Displays as `file:line:column: message`, the line with a caret under the fault, and the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong: one sentence, lower case, the reader's own words in backticks.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
    /// Where.
    pub position: Position,
    order: usize,
}

/// Where a diagnostic points, as plain values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nowhere in particular: something is missing altogether.
    Nowhere,
    /// A file as a whole.
    File(PathBuf),
    /// A place in a file.
    Line {
        /// The file, as it was named.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// The line, with what may be a secret blanked.
        excerpt: String,
        /// Where in the excerpt the carets begin, and how many, in characters; never none.
        carets: (usize, usize),
    },
    /// An environment variable.
    Variable(String),
}

impl Diagnostic {
    pub(super) fn new(severity: Severity, place: &Place, fault: Fault) -> Diagnostic {
        let (position, order) = place.position(fault.at);
        // A room's fault may quote the value that it is about.
        let message = place.without_secrets(&fault.message);
        let help = fault.help.as_deref().map(|help| place.without_secrets(help));
        Diagnostic { severity, message, help, position, order }
    }

    pub(super) fn error(place: &Place, fault: Fault) -> Diagnostic {
        Diagnostic::new(Severity::Error, place, fault)
    }

    pub(super) fn warning(place: &Place, fault: Fault) -> Diagnostic {
        Diagnostic::new(Severity::Warning, place, fault)
    }

    /// Whether this is an error, given whether `--strict` was asked for.
    pub fn is_error(&self, strict: bool) -> bool {
        match self.severity {
            Severity::Error => true,
            Severity::Strict => strict,
            Severity::Warning => false,
        }
    }

    /// The order of reading: files as they were named and top to bottom, then variables, then what
    /// stands nowhere.
    pub(super) fn reading_order(&self, other: &Diagnostic) -> Ordering {
        let key = |diagnostic: &Diagnostic| match &diagnostic.position {
            Position::Line { line, column, .. } => (diagnostic.order, *line, *column),
            Position::File(_) => (diagnostic.order, 0, 0),
            Position::Variable(_) => (usize::MAX - 1, 0, 0),
            Position::Nowhere => (usize::MAX, 0, 0),
        };
        let name = |diagnostic: &Diagnostic| match &diagnostic.position {
            Position::Variable(name) => Some(name.clone()),
            Position::Line { .. } | Position::File(_) | Position::Nowhere => None,
        };
        key(self).cmp(&key(other)).then_with(|| name(self).cmp(&name(other)))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Position::Nowhere => {}
            Position::File(file) => write!(f, "{}: ", file.display())?,
            Position::Line { file, line, column, .. } => write!(f, "{}:{line}:{column}: ", file.display())?,
            Position::Variable(name) => write!(f, "{name}: ")?,
        }
        if self.severity != Severity::Error {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let Position::Line { line, excerpt, carets: (before, count), .. } = &self.position {
            write!(f, "\n{line:>5} | {excerpt}\n      | {:before$}{}", "", "^".repeat(*count))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// The text of one file, kept while it is being read and wiped afterwards.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: Zeroizing<String>,
    /// Its place among the files, for sorting.
    pub order: usize,
    /// The bytes that are never shown, once it has been parsed.
    hidden: OnceLock<Vec<Range<usize>>>,
}

impl Source {
    /// A file that has not been parsed.
    pub fn new(path: PathBuf, text: String, order: usize) -> Source {
        Source { path, text: Zeroizing::new(text), order, hidden: OnceLock::new() }
    }

    /// Says that it has been parsed, and what of it is never shown. Until then no value of it is.
    pub fn parsed(&self, hidden: Vec<Range<usize>>) {
        // Nothing parses it twice.
        let _ = self.hidden.set(hidden);
    }

    /// From which byte of `line` on nothing is shown; the line begins at byte `start`.
    fn hidden_from(&self, line: &str, start: usize) -> Option<usize> {
        match self.hidden.get() {
            Some(hidden) => secrets::hidden_from(line, start, hidden),
            None => secrets::hidden_from_unparsed(line),
        }
    }
}

/// Where a value stands.
#[derive(Clone)]
pub(super) enum Place {
    /// Nowhere: it is not there.
    Nowhere,
    /// The file as a whole.
    File { path: PathBuf, order: usize },
    /// These bytes of a file.
    Span { source: Arc<Source>, start: usize, len: usize },
    /// This environment variable.
    Variable(String),
}

impl Place {
    /// As plain values; `within` narrows it to these bytes of the value.
    fn position(&self, within: Option<std::ops::Range<usize>>) -> (Position, usize) {
        match self {
            Place::Nowhere => (Position::Nowhere, usize::MAX),
            Place::File { path, order } => (Position::File(path.clone()), *order),
            Place::Variable(name) => (Position::Variable(name.clone()), usize::MAX),
            Place::Span { source, start, len } => {
                let (start, len) = match within {
                    Some(at) if at.end <= *len => (start + at.start, at.len()),
                    Some(_) | None => (*start, *len),
                };
                (excerpt(source, start, len), source.order)
            }
        }
    }

    /// A message about what stands here, without the user name and password of an address, and without a value in
    /// backticks that is not to be shown: an alias brings one to where it is quoted.
    fn without_secrets(&self, message: &str) -> String {
        let mut message = secrets::without_userinfo(message);
        if let Place::Span { source, .. } = self {
            for range in source.hidden.get().into_iter().flatten() {
                let value = source.text.get(range.clone()).unwrap_or_default().trim().trim_matches(['"', '\'']);
                if !value.is_empty() {
                    message = message.replace(&format!("`{value}`"), "`***`");
                }
            }
        }
        message
    }

    /// Where the text of a scalar begins: past an opening quote.
    pub fn inside_quotes(&self) -> Place {
        if let Place::Span { source, start, len } = self
            && let Some(raw) = source.text.get(*start..start + len)
            && raw.len() >= 2
            && (raw.starts_with('"') && raw.ends_with('"') || raw.starts_with('\'') && raw.ends_with('\''))
        {
            return Place::Span { source: Arc::clone(source), start: start + 1, len: len - 2 };
        }
        self.clone()
    }
}

/// The widest excerpt shown, in characters.
const WIDEST: usize = 160;

/// The line of `source` that holds byte `start`, and where the `len` bytes from there are in it.
fn excerpt(source: &Source, start: usize, len: usize) -> Position {
    let text = source.text.as_str();
    let mut start = start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let (before, after) = text.split_at(start);
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let (head, tail) = (&before[line_start..], after.split('\n').next().unwrap_or(""));
    let column = head.chars().count();
    let tail = tail.strip_suffix('\r').unwrap_or(tail);
    let covered = tail.char_indices().take_while(|(at, _)| *at < len).count().max(1);

    let mut shown: String = format!("{head}{tail}");
    let mut carets = (column, covered);
    if let Some(kept) = source.hidden_from(&shown, line_start) {
        shown.truncate(kept);
        let kept = shown.chars().count();
        shown.push_str("***");
        if carets.0 + carets.1 > kept {
            carets = (carets.0.min(kept), if carets.0 >= kept { 3 } else { kept + 3 - carets.0 });
        }
    }
    // A window of a long line, so that the caret can be seen; and nothing that a terminal would obey.
    let skip = if shown.chars().count() > WIDEST && carets.0 > WIDEST / 2 { carets.0 - WIDEST / 2 } else { 0 };
    let excerpt: String = shown
        .chars()
        .skip(skip)
        .take(WIDEST)
        .map(|shown| if shown.is_control() && shown != '\t' { '\u{fffd}' } else { shown })
        // A tab has no width of its own to put a caret under.
        .map(|shown| if shown == '\t' { ' ' } else { shown })
        .collect();
    let before = carets.0 - skip;
    let carets = (before, carets.1.min(WIDEST.saturating_sub(before)).max(1));
    Position::Line { file: source.path.clone(), line, column: column + 1, excerpt, carets }
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Place, Source};
    use crate::fault::Fault;
    use std::sync::Arc;

    fn at(text: &str, needle: &str) -> String {
        let source = Arc::new(Source::new("rules.yaml".into(), text.to_owned(), 0));
        // Where it can be: what can't is shown as such.
        crate::config::raw::parse(&source, &mut Vec::new());
        let start = text.find(needle).unwrap();
        Diagnostic::error(&Place::Span { source, start, len: needle.len() }, Fault::new("wrong").help("Mend it."))
            .to_string()
    }

    #[test]
    fn a_diagnostic_points_at_its_line() {
        assert_eq!(
            at("a: 1\nrule:\n  policy: two-factor\n", "two-factor"),
            "rules.yaml:3:11: wrong\n    3 |   policy: two-factor\n      |           ^^^^^^^^^^\n  help: Mend it."
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(at("é: ü x\n", "x"), "rules.yaml:1:6: wrong\n    1 | é: ü x\n      |      ^\n  help: Mend it.");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (text, needle) in [
            ("session:\n  secret: hunter2 # x\n", "hunter2"),
            ("session:\n  secret: hunter2\n", "secret"),
            ("session: {name: a, \"password\" : hunter2}\n", "name"),
            ("session:\n  secret: |\n    abc\n    hunter2\n  name: x\n", "hunter2"),
            ("session:\n  secret:\n    - hunter2\n", "hunter2"),
            ("duo_api:\n  secret_key: 'hunter2\n", "'"),
            ("a:\n  - client_secret: hunter2\n    more: [hunter2\n", "client"),
        ] {
            let shown = at(text, needle);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("***"), "{shown}");
            assert!(shown.contains('^'), "{shown}");
        }
        assert!(
            at("access_control:\n  rules:\n    - query: [[{key: token, value: 'x'}]]\n", "token").contains("token")
        );
        assert!(at("password:\n  a: b\nname: john\n", "john").contains("john"));
    }

    #[test]
    fn a_line_can_not_command_the_terminal() {
        assert!(!at("a: \u{1b}[2Jx\n", "x").contains('\u{1b}'));
        let long = format!("a: {}x\n", "y".repeat(5000));
        assert!(at(&long, "x").len() < 600);
    }
}
