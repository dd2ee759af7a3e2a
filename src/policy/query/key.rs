//! In which spellings applications take a key of a query for another one.
//!
//! PHP drops leading blanks, writes `.`, blank and an unclosed `[` as `_`, and makes arrays of `key[…]`; `qs` (Express) and
//! Rack (Rails) do the latter too, Rack with brackets in front as well; binders of objects (`qs` with `allowDots`, Spring,
//! ASP.NET) also part a key at its dots; ASP.NET compares keys whatever their letter case. A key may be read as another one
//! if any of them reads it so. Pure text; what follows from it is decided where terms are.

use std::borrow::Cow;

/// A key as three kinds of applications see it, in lower case. Parts of a key are parted by `[`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spellings<'k> {
    /// All see the same: letters, digits, `_`, `-` and what else means nothing to any of them.
    One(Cow<'k, str>),
    Three {
        /// One word: `.`, blank and `[` are `_`.
        word: String,
        /// Parted at brackets, `.` and blank in the first part are `_`.
        brackets: String,
        /// Parted at brackets and dots.
        dots: String,
    },
}

impl<'k> Spellings<'k> {
    /// The spellings of the key of a term or of a parameter.
    pub(super) fn of(key: &'k str) -> Spellings<'k> {
        if !differ(key) {
            let has_upper_case = key.bytes().any(|byte| byte.is_ascii_uppercase());
            return Spellings::One(if has_upper_case { key.to_ascii_lowercase().into() } else { key.into() });
        }
        let key = lower_case(key.trim_start_matches(' '));
        let underscored = |c| if matches!(c, '.' | ' ') { '_' } else { c };
        let mut brackets = String::with_capacity(key.len());
        for (n, part) in parts(&key, &['[', ']']).enumerate() {
            if n == 0 {
                brackets.extend(part.chars().map(underscored));
            } else {
                brackets.extend(["[", part]);
            }
        }
        let mut dots = String::with_capacity(key.len());
        for (n, part) in parts(&key, &['.', '[', ']']).enumerate() {
            dots.extend([if n == 0 { "" } else { "[" }, part]);
        }
        let word = key.chars().map(|c| if c == '[' { '_' } else { underscored(c) }).collect();
        Spellings::Three { word, brackets, dots }
    }

    pub(super) fn into_owned(self) -> Spellings<'static> {
        match self {
            Spellings::One(word) => Spellings::One(word.into_owned().into()),
            Spellings::Three { word, brackets, dots } => Spellings::Three { word, brackets, dots },
        }
    }

    /// Whether some application may take a parameter with the key `other` for one with this key, or for a part of it.
    pub(super) fn may_be_read_from(&self, other: &Spellings<'_>) -> bool {
        self.word() == other.word() || holds(self.brackets(), other.brackets()) || holds(self.dots(), other.dots())
    }

    fn word(&self) -> &str {
        match self {
            Spellings::One(word) => word,
            Spellings::Three { word, .. } => word,
        }
    }

    fn brackets(&self) -> &str {
        match self {
            Spellings::One(word) => word,
            Spellings::Three { brackets, .. } => brackets,
        }
    }

    fn dots(&self) -> &str {
        match self {
            Spellings::One(word) => word,
            Spellings::Three { dots, .. } => dots,
        }
    }
}

/// Whether a key means something to one of them that it does not mean to all.
fn differ(key: &str) -> bool {
    key.bytes().any(|byte| matches!(byte, b'.' | b' ' | b'[' | b']') || !byte.is_ascii())
}

/// What it costs to write a key in all its spellings, in units of work, and to see whether it is one that is asked for.
pub(super) fn units(key: &str) -> usize {
    if differ(key) { 96 + 8 * key.len() } else { 4 }
}

/// The parts of a key without those that are empty, blanks around them taken off.
fn parts<'k>(key: &'k str, separators: &'k [char]) -> impl Iterator<Item = &'k str> {
    key.split(separators).map(|part| part.trim_matches(' ')).filter(|part| !part.is_empty())
}

/// Whether `part` is `whole`, or lies inside it.
fn holds(whole: &str, part: &str) -> bool {
    part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// Lower case as any of them folds it; the two letters that have no other way back fold too.
fn lower_case(text: &str) -> String {
    let fold = |c: char| match c {
        'ı' => 'i',
        'ſ' => 's',
        c => c,
    };
    text.chars().flat_map(char::to_lowercase).map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::Spellings;

    #[test]
    fn a115_a_key_is_known_in_every_spelling_that_some_application_reads() {
        #[rustfmt::skip]
        let table = [
            // because                                          rule's      sent            may be
            ("itself",                                          "debug",    "debug",        true),
            ("another",                                         "debug",    "debugger",     false),
            ("an underscore parts nothing",                     "debug",    "debug_level",  false),
            ("PHP, qs, Rack: a list",                           "debug",    "debug[]",      true),
            ("PHP, qs, Rack: an object",                        "debug",    "debug[a]",     true),
            ("PHP, qs, Rack: an object in a list",              "debug",    "debug[][a]",   true),
            ("PHP: a leading blank",                            "debug",    " debug",       true),
            ("PHP: two",                                        "debug",    "  debug[x]",   true),
            ("PHP: a dot is an underscore",                     "a_b",      "a.b",          true),
            ("PHP: so is a blank",                              "a_b",      "a b",          true),
            ("PHP: so is a bracket that nothing closes",        "a_b",      "a[b",          true),
            ("PHP: and what comes behind it",                   "a_b_c",    "a[b.c",        true),
            ("Rack: brackets in front",                         "debug",    "[debug]",      true),
            ("Rack: a bracket that nothing opens",              "debug",    "debug]",       true),
            ("ASP.NET: letter case",                            "debug",    "DEBUG",        true),
            ("the rule's too",                                  "Debug",    "dEbug",        true),
            ("beyond ASCII",                                    "größe",    "GRÖSSE",       false),
            ("a letter that folds to one of ASCII",             "kind",     "\u{212a}ind",  true),
            ("a long s",                                        "case",     "ca\u{17f}e",   true),
            ("qs with dots, Spring: a member",                  "debug",    "debug.level",  true),
            ("a rule about a member",                           "f[admin]", "f[admin]",     true),
            ("its parts",                                       "f[admin]", "f[admin][]",   true),
            ("with a dot",                                      "f[admin]", "f.admin",      true),
            ("a member of another name",                        "f[admin]", "f[user]",      false),
            ("all of it",                                       "f[admin]", "f",            false),
            ("a dot in the rule",                               "a.b",      "a_b",          true),
            ("and parted",                                      "a.b",      "a[b]",         true),
            ("nothing at all",                                  "debug",    "",             false),
            ("nothing but brackets",                            "debug",    "[]",           false),
        ];
        for (because, rule, sent, expected) in table {
            let rule = Spellings::of(rule);
            assert_eq!(rule.may_be_read_from(&Spellings::of(sent)), expected, "{because}: {sent}");
        }
    }
}
