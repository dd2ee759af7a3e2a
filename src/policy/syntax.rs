//! Regular expressions as rule files write them: RE2 syntax, run by the `regex` crate.
//!
//! The two agree on most things. Where they don't, the text is translated, and faults point at the
//! text as it was written: `\d \s \w \b` are ASCII, `\Q…\E` quotes, `\017` is octal, a brace that
//! repeats nothing is itself, and `[`, `&&`, `--` and `~~` mean nothing special inside a class.
//! `\C`, half a character, has no meaning here and is refused.

use std::ops::Range;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::Hir;

use crate::fault::Fault;

/// The most memory that one compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 4 * 1024 * 1024;
/// The longest expression, in bytes.
const MAX_TEXT: usize = 32 * 1024;
/// How deep groups may nest.
const NEST_LIMIT: u32 = 100;

/// An expression that is valid, in the three shapes that are needed of it.
pub(super) struct Parsed {
    /// The text in the syntax of the `regex` crate.
    pub translated: String,
    /// What it means.
    pub hir: Hir,
    /// Whether it holds a group named `User`; `Group`.
    pub user: bool,
    pub group: bool,
}

/// Reads an expression in RE2 syntax.
pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    if text.len() > MAX_TEXT {
        return Err(Fault::new("a regular expression longer than 32 KiB"));
    }
    let Translated { text: translated, origin } = translate(text)?;
    let point = |span: &regex_syntax::ast::Span| {
        let start = origin.get(span.start.offset).copied().unwrap_or(text.len());
        let end = origin.get(span.end.offset).copied().unwrap_or(text.len());
        start..end.max(start)
    };
    let fault = |what: String, at: Range<usize>| {
        Fault::new(format!("bad regular expression `{text}`: {what}"))
            .help("Regular expressions follow the RE2 syntax, without look-around and back-references.")
            .at(at)
    };
    let ast = regex_syntax::ast::parse::ParserBuilder::new()
        .nest_limit(NEST_LIMIT)
        .build()
        .parse(&translated)
        .map_err(|error| fault(error.kind().to_string(), point(error.span())))?;
    let hir = regex_syntax::hir::translate::TranslatorBuilder::new()
        .build()
        .translate(&translated, &ast)
        .map_err(|error| fault(error.kind().to_string(), point(error.span())))?;
    let (mut user, mut group) = (false, false);
    names(&hir, &mut |name| {
        user |= name == "User";
        group |= name == "Group";
    });
    Ok(Parsed { translated, hir, user, group })
}

/// Compiles an expression that [`parse`] took.
pub(super) fn compile(text: &str, translated: &str) -> Result<Arc<Regex>, Fault> {
    RegexBuilder::new(translated).size_limit(SIZE_LIMIT).nest_limit(NEST_LIMIT).build().map(Arc::new).map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => {
                Fault::new(format!("the regular expression `{text}` is too large once its repetitions are written out"))
                    .help("Repeat less often: `{1,1000}` makes a thousand copies.")
            }
            _ => Fault::new(format!("bad regular expression `{text}`")),
        }
    })
}

fn names(hir: &Hir, see: &mut impl FnMut(&str)) {
    use regex_syntax::hir::HirKind;
    match hir.kind() {
        HirKind::Capture(capture) => {
            if let Some(name) = &capture.name {
                see(name);
            }
            names(&capture.sub, see);
        }
        HirKind::Repetition(repetition) => names(&repetition.sub, see),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().for_each(|hir| names(hir, see)),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}

/// A translated text, and for each byte of it (and its end) the byte of the original it stands for.
struct Translated {
    text: String,
    origin: Vec<usize>,
}

impl Translated {
    fn push(&mut self, text: &str, from: usize) {
        self.text.push_str(text);
        self.origin.resize(self.text.len(), from);
    }

    fn push_literal(&mut self, c: char, from: usize) {
        if regex_syntax::is_meta_character(c) || matches!(c, '-' | '&' | '~') {
            self.push("\\", from);
        }
        self.push(c.encode_utf8(&mut [0; 4]), from);
    }
}

/// Reads the original character by character.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, prefix: &str) -> bool {
        let taken = self.rest().starts_with(prefix);
        self.at += if taken { prefix.len() } else { 0 };
        taken
    }
}

fn translate(text: &str) -> Result<Translated, Fault> {
    let mut cursor = Cursor { text, at: 0 };
    let mut out = Translated { text: String::with_capacity(text.len()), origin: Vec::with_capacity(text.len()) };
    loop {
        let from = cursor.at;
        let Some(c) = cursor.next() else { break };
        match c {
            '\\' => escape(&mut cursor, &mut out, from)?,
            '[' => class(&mut cursor, &mut out, from)?,
            '{' => match repetition(cursor.rest()) {
                Some(len) => {
                    out.push(text.get(from..=from + len).unwrap_or_default(), from);
                    cursor.at += len;
                }
                None => out.push_literal('{', from),
            },
            '}' => out.push_literal('}', from),
            c => out.push(c.encode_utf8(&mut [0; 4]), from),
        }
    }
    out.origin.push(text.len());
    Ok(out)
}

/// The length of `n}`, `n,}` or `n,m}` at the start of `text`; anything else after a brace is no repetition.
fn repetition(text: &str) -> Option<usize> {
    let (inner, _) = text.split_once('}')?;
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(inner.len() + 1)
}

/// An escape outside a class; the backslash is read.
fn escape(cursor: &mut Cursor<'_>, out: &mut Translated, from: usize) -> Result<(), Fault> {
    if cursor.take("Q") {
        let (quoted, len) = match cursor.rest().split_once("\\E") {
            Some((quoted, _)) => (quoted, quoted.len() + 2),
            None => (cursor.rest(), cursor.rest().len()),
        };
        for (at, c) in quoted.char_indices() {
            out.push_literal(c, cursor.at + at);
        }
        cursor.at += len;
        return Ok(());
    }
    // Without the Unicode flag these are what RE2 makes of them.
    let ascii = match cursor.peek() {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('s') => "[\\t\\n\\x0C\\r ]",
        Some('S') => "[^\\t\\n\\x0C\\r ]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('b') => "(?-u:\\b)",
        Some('B') => "(?-u:\\B)",
        Some('C') => {
            return Err(Fault::new(format!(
                "bad regular expression `{}`: `\\C` matches half a character",
                cursor.text
            ))
            .help("Write `.` for any character.")
            .at(from..from + 2));
        }
        _ => return other_escape(cursor, out, from),
    };
    cursor.next();
    out.push(ascii, from);
    Ok(())
}

/// Escapes that stand for one character, or for a class that both dialects know.
fn other_escape(cursor: &mut Cursor<'_>, out: &mut Translated, from: usize) -> Result<(), Fault> {
    let octal = cursor.rest().bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if octal > 1 || cursor.rest().starts_with('0') {
        let digits = cursor.rest().get(..octal).unwrap_or_default();
        let value = u32::from_str_radix(digits, 8).unwrap_or_default();
        cursor.at += octal;
        out.push(&format!("\\x{{{value:x}}}"), from);
        return Ok(());
    }
    // Word boundaries here, and angle brackets to RE2.
    if let Some(bracket @ ('<' | '>')) = cursor.peek() {
        cursor.next();
        out.push_literal(bracket, from);
        return Ok(());
    }
    out.push("\\", from);
    // Whatever is in braces belongs to the escape: `\x{2f}`, `\p{Greek}`.
    match cursor.next() {
        Some(c) => {
            out.push(c.encode_utf8(&mut [0; 4]), from);
            if matches!(c, 'x' | 'p' | 'P') && cursor.peek() == Some('{') {
                let len = cursor.rest().find('}').map_or(cursor.rest().len(), |end| end + 1);
                out.push(cursor.rest().get(..len).unwrap_or_default(), from);
                cursor.at += len;
            }
        }
        None => {
            return Err(Fault::new(format!("bad regular expression `{}`: it ends in a backslash", cursor.text))
                .at(from..from + 1));
        }
    }
    Ok(())
}

/// A class; its opening bracket is read.
fn class(cursor: &mut Cursor<'_>, out: &mut Translated, from: usize) -> Result<(), Fault> {
    out.push("[", from);
    if cursor.take("^") {
        out.push("^", from + 1);
    }
    let mut first = true;
    loop {
        let at = cursor.at;
        let Some(c) = cursor.peek() else {
            return Err(Fault::new(format!("bad regular expression `{}`: a class without its `]`", cursor.text))
                .at(from..cursor.text.len()));
        };
        if c == ']' && !first {
            cursor.next();
            out.push("]", at);
            return Ok(());
        }
        first = false;
        if let Some(name) = cursor.rest().strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
            let len = name.0.len() + 4;
            out.push(cursor.rest().get(..len).unwrap_or_default(), at);
            cursor.at += len;
            continue;
        }
        if !class_item(cursor, out)? {
            continue;
        }
        // A range, unless the hyphen is the last thing in the class.
        let mut after = cursor.rest().chars();
        if after.next() == Some('-') && after.next().is_some_and(|c| c != ']') {
            out.push("-", cursor.at);
            cursor.next();
            class_item(cursor, out)?;
        }
    }
}

/// One character of a class, or an escape; says whether it may begin a range.
fn class_item(cursor: &mut Cursor<'_>, out: &mut Translated) -> Result<bool, Fault> {
    let at = cursor.at;
    match cursor.next() {
        Some('\\') => {
            let set = match cursor.peek() {
                Some('d') => "0-9",
                Some('D') => "[^0-9]",
                Some('s') => "\\t\\n\\x0C\\r ",
                Some('S') => "[^\\t\\n\\x0C\\r ]",
                Some('w') => "0-9A-Za-z_",
                Some('W') => "[^0-9A-Za-z_]",
                Some('p' | 'P') => {
                    other_escape(cursor, out, at)?;
                    return Ok(false);
                }
                Some('b' | 'B' | 'C' | 'Q' | 'A' | 'z') => {
                    let end = cursor.at + 1;
                    return Err(Fault::new(format!(
                        "bad regular expression `{}`: an escape that has no meaning in a class",
                        cursor.text
                    ))
                    .at(at..end));
                }
                _ => {
                    other_escape(cursor, out, at)?;
                    return Ok(true);
                }
            };
            cursor.next();
            out.push(set, at);
            Ok(false)
        }
        Some(c) => {
            out.push_literal(c, at);
            Ok(true)
        }
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::{compile, parse};

    fn matches(pattern: &str, text: &str) -> bool {
        let parsed = parse(pattern).unwrap_or_else(|fault| panic!("{pattern}: {fault}"));
        compile(pattern, &parsed.translated).unwrap().is_match(text)
    }

    #[test]
    fn expressions_mean_what_they_mean_in_re2() {
        #[rustfmt::skip]
        let table = [
            // because                                  pattern               matches              does not
            ("digits are ASCII",                        r"^\d$",              "7",                 "٣"),
            ("so are word characters",                  r"^\w+$",             "aZ_9",              "é"),
            ("and their complements",                   r"^\W$",              "é",                 "a"),
            ("and spaces",                              r"^\s$",              " ",                 "\u{a0}"),
            ("a vertical tab is no space",              r"^\S$",              "\u{b}",             " "),
            ("word boundaries are ASCII",               r"a\b",               "aé",                "ab"),
            ("and their opposite",                      r"a\B",               "ab",                "aé"),
            ("in a class too",                          r"^[\d.]$",           "5",                 "٣"),
            ("and negated there",                       r"^[\D]$",            "x",                 "5"),
            ("a named class",                           r"^[[:word:]]$",      "w",                 "é"),
            ("quoting",                                 r"^\Qa.b[\E.$",       "a.b[x",             "aXb[x"),
            ("quoting to the end",                      r"^\Qa.b",            "a.b",               "aXb"),
            ("a lone brace is itself",                  r"^a{,5}$",           "a{,5}",             "aaa"),
            ("both of them",                            r"^{x}$",             "{x}",               "x"),
            ("a repetition is one",                     r"^a{2,3}$",          "aaa",               "a"),
            ("a bracket in a class is itself",          r"^[a[]$",            "[",                 "b"),
            ("a class that begins with a bracket",      r"^[]a]$",            "]",                 "b"),
            ("its complement",                          r"^[^]a]$",           "b",                 "]"),
            ("no intersections",                        r"^[a&&b]$",          "&",                 "-"),
            ("no symmetric differences",                r"^[a~~b]$",          "~",                 "-"),
            ("a range that begins with a hyphen",       r"^[--/]$",           ".",                 "a"),
            ("a range that ends with one",              r"^[+--]$",           ",",                 "a"),
            ("a hyphen at the end",                     r"^[a-]$",            "-",                 "b"),
            ("octal",                                   r"^\101\x42\x{43}$",  "ABC",               "abc"),
            ("the end is the end",                      r"a$",                "a",                 "a\n"),
            ("escaped angle brackets",                  r"^\<a\>[\<]$",       "<a><",              "a"),
            ("absolute anchors",                        r"\Aa\z",             "a",                 "ba"),
            ("Unicode classes",                         r"^\p{Greek}$",       "λ",                 "l"),
            ("characters, not bytes",                   r"^.$",               "é",                 "éé"),
            ("either way of naming",                    r"^(?P<a>x)(?<b>y)$", "xy",                "x"),
        ];
        for (because, pattern, yes, no) in table {
            assert!(matches(pattern, yes), "{because}: {pattern} on {yes}");
            assert!(!matches(pattern, no), "{because}: {pattern} on {no}");
        }
    }

    #[test]
    fn a_fault_points_at_what_was_written() {
        #[rustfmt::skip]
        let table = [
            // pattern          at fault
            ("^/a(b$",          "("),
            (r"^\d+/(b$",       "("),
            ("^/a)b$",          ")"),
            (r"^/\Cx",          r"\C"),
            ("^[a",             "[a"),
            (r"x[\b]",          r"\b"),
            ("a\\",             "\\"),
            (r"\dx(?=y)",       "(?="),
            ("[z-a]",           "z-a"),
        ];
        for (pattern, expected) in table {
            let Err(fault) = parse(pattern) else { panic!("{pattern} was taken") };
            assert_eq!(&pattern[fault.at.clone().unwrap()], expected, "{fault}");
            assert!(fault.message.contains(pattern), "{fault}");
        }
    }

    #[test]
    fn a102_an_expression_that_explodes_is_refused() {
        let parsed = parse("((a{1,900}){1,900})").unwrap();
        assert!(compile("…", &parsed.translated).is_err());
        let deep = "(".repeat(5000) + &")".repeat(5000);
        assert!(parse(&deep).is_err());
        assert!(parse(&"a".repeat(40_000)).is_err());
    }

    #[test]
    fn only_the_two_names_of_the_manual_ask_for_the_subject() {
        let named = |pattern: &str| parse(pattern).map(|parsed| (parsed.user, parsed.group)).unwrap();
        assert_eq!(named("^(?P<User>x)$"), (true, false));
        assert_eq!(named("^((?P<Group>x)|y)$"), (false, true));
        assert_eq!(named("^(?P<user>x)$"), (false, false));
    }
}
