//! The query criterion: what a rule wants of the parameters in a request's query.
//!
//! Keys and values are compared after form-decoding, by letter case. Applications differ in which of
//! several values they take, and in what they make of a pair with a `;` or a bad escape. So a term has
//! three answers: it holds, it fails, or it is *unclear*, because it holds for one of the values and not
//! for another, or because a pair that nobody can read for certain may be the one it is about. The
//! policy takes the strictest outcome of an unclear term: a repeated or garbled parameter can't be used
//! to slip past a rule, nor into one.

use std::borrow::Cow;

use crate::fault::Fault;
use crate::policy::pattern::Expression;
use crate::policy::rule::Fit;
use crate::policy::syntax;
use crate::subject::Subject;

/// One condition on one parameter of the query.
#[derive(Clone, Debug)]
pub struct QueryTerm {
    pub(super) key: Box<str>,
    pub(super) test: Test,
}

/// What is wanted of a parameter. One that is absent is compared as the empty text.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Present,
    Absent,
    Equal(Box<str>),
    NotEqual(Box<str>),
    Pattern(Box<str>, Expression),
    NotPattern(Box<str>, Expression),
}

const OPERATORS: [&str; 6] = ["present", "absent", "equal", "not equal", "pattern", "not pattern"];

impl QueryTerm {
    /// A condition as written: the parameter's name, the operator and the value to compare with. Without
    /// an operator it is `present`, or `equal` where there is a value.
    ///
    /// # Errors
    ///
    /// A [`Fault`] for a missing key, an unknown operator (letter case counts), a value that is missing or
    /// too many, and a bad regular expression.
    pub fn new(key: Option<&str>, operator: Option<&str>, value: Option<&str>) -> Result<QueryTerm, Fault> {
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| {
            Fault::new("a query condition without a `key`").help("Name the parameter, as in `key: token`.")
        })?;
        let given = value.filter(|value| !value.is_empty());
        let operator = operator.unwrap_or(if given.is_some() { "equal" } else { "present" });
        let wanted = || {
            value.ok_or_else(|| {
                Fault::new(format!("operator `{operator}` needs a `value`")).help("Add what to compare with.")
            })
        };
        let unwanted = || match given {
            Some(value) => Err(Fault::new(format!("operator `{operator}` takes no value, but `{value}` is given"))
                .help("Leave the value out, or use `equal`.")),
            None => Ok(()),
        };
        let pattern = || {
            let text = wanted()?;
            Ok::<_, Fault>((Box::from(text), Expression::compile(text, &syntax::parse(text)?)?))
        };
        let test = match operator {
            "present" => unwanted().map(|()| Test::Present)?,
            "absent" => unwanted().map(|()| Test::Absent)?,
            "equal" => Test::Equal(wanted()?.into()),
            "not equal" => Test::NotEqual(wanted()?.into()),
            "pattern" => pattern().map(|(text, expression)| Test::Pattern(text, expression))?,
            "not pattern" => pattern().map(|(text, expression)| Test::NotPattern(text, expression))?,
            unknown => {
                let meant = OPERATORS
                    .into_iter()
                    .find(|known| strsim::damerau_levenshtein(known, &unknown.to_ascii_lowercase()) <= 2);
                let known = "The operators are present, absent, equal, not equal, pattern and not pattern.";
                return Err(Fault::new(format!("unknown query operator `{unknown}`")).help(match meant {
                    Some(meant) => format!("Did you mean `{meant}`? {known}"),
                    None => known.to_owned(),
                }));
            }
        };
        Ok(QueryTerm { key: key.into(), test })
    }

    /// Whether the term holds for a query, given without its `?`.
    pub(super) fn fit(&self, query: Option<&str>) -> Fit {
        let (mut yes, mut no, mut found) = (false, false, false);
        for pair in pairs(query.unwrap_or_default()) {
            match pair {
                Pair::Plain(key, value) if *key == *self.key => {
                    found = true;
                    if self.holds(Some(&value)) { yes = true } else { no = true }
                }
                Pair::GarbledValue(key) if *key == *self.key => {
                    found = true;
                    match self.test {
                        Test::Present => yes = true,
                        Test::Absent => no = true,
                        _ => (yes, no) = (true, true),
                    }
                }
                Pair::Garbled => (yes, no) = (true, true),
                Pair::Plain(..) | Pair::GarbledValue(_) => {}
            }
        }
        if !found && !yes {
            if self.holds(None) { yes = true } else { no = true }
        }
        match (yes, no) {
            (true, true) => Fit::Unclear,
            (true, false) => Fit::Match,
            (false, _) => Fit::Miss,
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let text = value.unwrap_or_default();
        match &self.test {
            Test::Present => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Equal(wanted) => **wanted == *text,
            Test::NotEqual(unwanted) => **unwanted != *text,
            Test::Pattern(_, expression) => expression.matches(&Subject::default(), text),
            Test::NotPattern(_, expression) => !expression.matches(&Subject::default(), text),
        }
    }
}

impl std::fmt::Display for QueryTerm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::Present => write!(f, "`{key}` present"),
            Test::Absent => write!(f, "`{key}` absent"),
            Test::Equal(value) => write!(f, "`{key}` equal `{value}`"),
            Test::NotEqual(value) => write!(f, "`{key}` not equal `{value}`"),
            Test::Pattern(text, _) => write!(f, "`{key}` pattern `{text}`"),
            Test::NotPattern(text, _) => write!(f, "`{key}` not pattern `{text}`"),
        }
    }
}

/// One pair of a query, as far as it can be read.
pub(super) enum Pair<'q> {
    /// Key and value.
    Plain(Cow<'q, str>, Cow<'q, str>),
    /// A key whose value is garbled.
    GarbledValue(Cow<'q, str>),
    /// Anything: a `;` that some take for `&`, or a key that does not decode.
    Garbled,
}

/// The pairs of a query (URL Standard §5.1), garbled ones included.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        if pair.contains(';') {
            return Pair::Garbled;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (form_decode(key), form_decode(value)) {
            (Some(key), Some(value)) => Pair::Plain(key, value),
            (Some(key), None) => Pair::GarbledValue(key),
            (None, _) => Pair::Garbled,
        }
    })
}

/// Form-decodes a key or a value; `None` for a bad escape or what is not UTF-8 afterwards.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
                let value = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
                rest = after.get(2..)?;
                value
            }
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::QueryTerm;
    use crate::policy::rule::Fit::{self, Match, Miss, Unclear};

    fn term(operator: &str, value: Option<&str>) -> QueryTerm {
        QueryTerm::new(Some("admin"), Some(operator), value).unwrap()
    }

    type Row = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, Fit);

    #[test]
    fn a_parameter_is_compared_after_decoding() {
        #[rustfmt::skip]
        let table: [Row; 27] = [
            // because                                   operator       value        query                      fit
            ("it is there",                              "present",     None,        Some("admin=1"),           Match),
            ("without a value too",                      "present",     None,        Some("x&admin"),           Match),
            ("another key",                              "present",     None,        Some("administrator=1"),   Miss),
            ("keys have a case",                         "present",     None,        Some("Admin=1"),           Miss),
            ("no query",                                 "present",     None,        None,                      Miss),
            ("an encoded key is the key",                "present",     None,        Some("%61dmin=1"),         Match),
            ("absent",                                   "absent",      None,        Some("x=1"),               Match),
            ("not absent",                               "absent",      None,        Some("admin="),            Miss),
            ("equal",                                    "equal",       Some("a b"), Some("admin=a+b"),         Match),
            ("equal, encoded",                           "equal",       Some("a b"), Some("admin=a%20b"),       Match),
            ("values have a case",                       "equal",       Some("a"),   Some("admin=A"),           Miss),
            ("an absent key equals nothing",             "equal",       Some(""),    Some("x=1"),               Match),
            ("an absent key is not equal to something",  "not equal",   Some("1"),   None,                      Match),
            ("pattern",                                  "pattern",     Some("^1"),  Some("admin=12"),          Match),
            ("pattern on an absent key",                 "pattern",     Some("^1"),  None,                      Miss),
            ("not pattern on an absent key",             "not pattern", Some("^1"),  None,                      Match),
            // W18
            ("`;` may begin another pair",               "absent",      None,        Some("x=1;admin=1"),       Unclear),
            ("and may not",                              "present",     None,        Some("x=1;admin=1"),       Unclear),
            ("a garbled value is a value",               "absent",      None,        Some("admin=%zz"),         Miss),
            ("but which?",                               "equal",       Some("1"),   Some("admin=%zz"),         Unclear),
            ("someone else's garbled value",             "absent",      None,        Some("q=100%"),            Match),
            ("a garbled key may be any",                 "absent",      None,        Some("%zzadmin=1"),        Unclear),
            ("broken UTF-8 is garbled",                  "equal",       Some("1"),   Some("admin=%ff"),         Unclear),
            ("repeated and contradicting",               "equal",       Some("1"),   Some("admin=1&admin=2"),   Unclear),
            ("repeated alike",                           "equal",       Some("1"),   Some("admin=1&admin=1"),   Match),
            ("repeated, none of them",                   "equal",       Some("1"),   Some("admin=3&admin=2"),   Miss),
            ("negative, repeated",                       "not equal",   Some("1"),   Some("admin=2&admin=1"),   Unclear),
        ];
        for (because, operator, value, query, fit) in table {
            assert_eq!(term(operator, value).fit(query), fit, "{because}: {query:?}");
        }
    }

    #[test]
    fn w21_operators_are_written_exactly() {
        #[rustfmt::skip]
        let table: [[Option<&str>; 4]; 10] = [
            // key          operator            value         message
            [Some("k"),     None,               None,         None],
            [Some("k"),     None,               Some("v"),    None],
            [Some("k"),     Some("equal"),      Some(""),     None],
            [None,          None,               None,         Some("a query condition without a `key`")],
            [Some(""),      Some("present"),    None,         Some("a query condition without a `key`")],
            [Some("k"),     Some("Equal"),      Some("v"),    Some("unknown query operator `Equal`")],
            [Some("k"),     Some("equal"),      None,         Some("operator `equal` needs a `value`")],
            [Some("k"),     Some("not pattern"), None,        Some("operator `not pattern` needs a `value`")],
            [Some("k"),     Some("absent"),     Some("v"),    Some("operator `absent` takes no value, but `v` is given")],
            [Some("k"),     Some("pattern"),    Some("("),    Some("bad regular expression `(`: unclosed group")],
        ];
        for [key, operator, value, message] in table {
            let made = QueryTerm::new(key, operator, value).map_err(|fault| fault.message);
            assert_eq!(made.as_ref().err().map(String::as_str), message, "{key:?} {operator:?} {value:?}");
        }
        assert!(QueryTerm::new(Some("k"), Some("Equal"), Some("v")).unwrap_err().help.unwrap().contains("`equal`?"));
    }
}
