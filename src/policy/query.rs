//! The query criterion: what a rule wants of the parameters in a request's query.
//!
//! Keys and values are compared after form-decoding, by letter case. Applications differ in which of several values they
//! take, in what they make of a pair with a `;` or a bad escape, and in which keys they take for one (`key.rs`). So a term
//! has three answers: it holds, it fails, or it is *unclear*, because it holds for one of the values and not for another,
//! or because a pair that nobody can read for certain may be the one it is about. The policy takes the strictest outcome
//! of an unclear term: a repeated, garbled or disguised parameter can't be used to slip past a rule, nor into one.

mod key;

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::fault::Fault;
use crate::object::percent_escape;
use crate::policy::pattern::Expression;
use crate::policy::rule::Fit;
use crate::policy::syntax;
use crate::subject::Subject;
use crate::work::{Budget, Exceeded, MAX_PARAMETERS};

use key::Spellings;

/// What it costs to decode one byte of a query.
const UNITS_PER_BYTE: usize = 2;
/// What it costs to see whether a parameter is the one that a term is about.
const UNITS_PER_PARAMETER: usize = 4;

/// One condition on one parameter of the query.
#[derive(Clone, Debug)]
pub struct QueryTerm {
    pub(super) key: Box<str>,
    spellings: Spellings<'static>,
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
        Ok(QueryTerm { key: key.into(), spellings: Spellings::of(key).into_owned(), test })
    }

    /// Whether the term holds for a query.
    ///
    /// # Errors
    ///
    /// [`Exceeded::Work`] where `budget` does not cover it.
    pub(super) fn fit(&self, query: &Query<'_>, budget: &mut Budget) -> Result<Fit, Exceeded> {
        let (mut yes, mut no, mut found) = (query.any_key, query.any_key, false);
        budget.spend(query.parameters.len() * UNITS_PER_PARAMETER)?;
        for Parameter { key, spellings, value } in &query.parameters {
            let is_ours = **key == *self.key;
            if !is_ours && !self.spellings.may_be_read_from(spellings) {
                continue;
            }
            found |= is_ours;
            match (&self.test, value) {
                (Test::Present, _) => yes = true,
                (Test::Absent, _) => no = true,
                (_, Some(value)) if is_ours => {
                    let is_search = matches!(self.test, Test::Pattern(..) | Test::NotPattern(..));
                    budget.spend(value.len() + if is_search { Budget::PER_SEARCH } else { 0 })?;
                    if self.holds(Some(value)) { yes = true } else { no = true }
                }
                // A list, an object, or not what the rule is about: nobody can tell what it is compared with.
                _ => (yes, no) = (true, true),
            }
        }
        if !found {
            if self.holds(None) { yes = true } else { no = true }
        }
        Ok(match (yes, no) {
            (true, true) => Fit::Unclear,
            (true, false) => Fit::Match,
            (false, _) => Fit::Miss,
        })
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

/// The parameters of one query, decoded once for all the terms that are asked about it.
#[derive(Debug, Default)]
pub(super) struct Query<'q> {
    parameters: Vec<Parameter<'q>>,
    /// Whether a pair can't be read, so that its key may be any.
    any_key: bool,
}

#[derive(Debug)]
struct Parameter<'q> {
    key: Cow<'q, str>,
    spellings: Spellings<'q>,
    /// `None` where it is garbled.
    value: Option<Cow<'q, str>>,
}

impl<'q> Query<'q> {
    /// Decodes a query, given without its `?`.
    fn parse(text: &'q str, budget: &mut Budget) -> Result<Query<'q>, Exceeded> {
        budget.spend(text.len() * UNITS_PER_BYTE)?;
        let mut query = Query::default();
        for pair in pairs(text) {
            let (key, value) = match pair {
                Pair::Plain(key, value) => (key, Some(value)),
                Pair::GarbledValue(key) => (key, None),
                Pair::Garbled => {
                    query.any_key = true;
                    continue;
                }
            };
            if query.parameters.len() == MAX_PARAMETERS {
                return Err(Exceeded::Parameters);
            }
            budget.spend(key::units(&key))?;
            let spellings = match &key {
                Cow::Borrowed(key) => Spellings::of(key),
                Cow::Owned(key) => Spellings::of(key).into_owned(),
            };
            query.parameters.push(Parameter { key, spellings, value });
        }
        Ok(query)
    }
}

/// A query that is decoded when the first rule asks about it.
#[derive(Debug)]
pub(super) struct LazyQuery<'q> {
    text: &'q str,
    parsed: OnceCell<Query<'q>>,
}

impl<'q> LazyQuery<'q> {
    /// A query without its `?`; none at all is an empty one.
    pub(super) fn new(text: Option<&'q str>) -> LazyQuery<'q> {
        LazyQuery { text: text.unwrap_or_default(), parsed: OnceCell::new() }
    }

    pub(super) fn text(&self) -> &'q str {
        self.text
    }

    /// The parameters.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] where there are too many, or `budget` does not cover reading them.
    pub(super) fn parsed(&self, budget: &mut Budget) -> Result<&Query<'q>, Exceeded> {
        if let Some(query) = self.parsed.get() {
            return Ok(query);
        }
        let query = Query::parse(self.text, budget)?;
        Ok(self.parsed.get_or_init(|| query))
    }
}

/// One pair of a query, as far as it can be read.
pub(super) enum Pair<'q> {
    /// Key and value.
    Plain(Cow<'q, str>, Cow<'q, str>),
    /// A key whose value is garbled.
    GarbledValue(Cow<'q, str>),
    /// Anything: a `;` that some take for `&`, a key that does not decode, or that holds a control character.
    Garbled,
}

/// The pairs of a query (URL Standard §5.1), garbled ones included.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        if pair.contains(';') {
            return Pair::Garbled;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(key) = form_decode(key).filter(|key| !key.contains(char::is_control)) else { return Pair::Garbled };
        // Where a NUL ends a text, the value is another one.
        match form_decode(value).filter(|value| !value.contains('\0')) {
            Some(value) => Pair::Plain(key, value),
            None => Pair::GarbledValue(key),
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
                let value = percent_escape(after)?;
                rest = after.get(2..)?;
                value
            }
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The query as applications read it, for patterns that reach it: form-decoded once, pair by pair, keys without leading
/// blanks. What is no escape stays; what is not UTF-8 becomes U+FFFD, and a control character a space, so that no line
/// ends inside it. `None` where that changes nothing.
pub(super) fn decoded(query: &str) -> Option<String> {
    if !query.contains(['%', '+', ' ']) {
        return None;
    }
    let mut decoded = Vec::with_capacity(query.len());
    let (mut rest, mut begins_key) = (query.as_bytes(), true);
    while let [byte, after @ ..] = rest {
        rest = after;
        let byte = match byte {
            b'&' => {
                decoded.push(b'&');
                begins_key = true;
                continue;
            }
            b'+' => b' ',
            b'%' => percent_escape(after).map_or(b'%', |byte| {
                rest = after.get(2..).unwrap_or_default();
                byte
            }),
            byte => *byte,
        };
        if begins_key && byte == b' ' {
            continue;
        }
        begins_key = false;
        decoded.push(if byte.is_ascii_control() { b' ' } else { byte });
    }
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    (decoded != query).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::{LazyQuery, QueryTerm, decoded};
    use crate::policy::rule::Fit::{self, Match, Miss, Unclear};
    use crate::work::{Budget, Exceeded, MAX_PARAMETERS};

    fn term(operator: &str, value: Option<&str>) -> QueryTerm {
        QueryTerm::new(Some("admin"), Some(operator), value).unwrap()
    }

    type Row = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, Fit);

    #[test]
    fn a_parameter_is_compared_after_decoding() {
        #[rustfmt::skip]
        let table: [Row; 40] = [
            // because                                   operator       value        query                      fit
            ("it is there",                              "present",     None,        Some("admin=1"),           Match),
            ("without a value too",                      "present",     None,        Some("x&admin"),           Match),
            ("another key",                              "present",     None,        Some("administrator=1"),   Miss),
            ("a115: keys have a case, but for ASP.NET",  "present",     None,        Some("Admin=1"),           Unclear),
            ("a115: the same of one that must not be",   "absent",      None,        Some("ADMIN=1"),           Unclear),
            ("a115: PHP's, Rack's and qs' lists",        "absent",      None,        Some("admin[]=1"),         Unclear),
            ("a115: encoded",                            "absent",      None,        Some("admin%5b%5d=1"),     Unclear),
            ("a115: objects",                            "present",     None,        Some("admin[a]=1"),        Unclear),
            ("a115: of a list nobody knows the value",   "not equal",   Some("1"),   Some("admin[]=2"),         Unclear),
            ("a115: nor whether it is one",              "equal",       Some("1"),   Some("admin[]=1"),         Unclear),
            ("a115: PHP's leading blank",                "absent",      None,        Some("+admin=1"),          Unclear),
            ("a115: encoded",                            "absent",      None,        Some("%20admin=1"),        Unclear),
            ("a115: what is plainly there is there",     "present",     None,        Some("admin[]=1&admin=2"), Match),
            ("a115: and not absent",                     "absent",      None,        Some("admin[]=1&admin=2"), Miss),
            ("a115: a NUL in a key, where PHP cuts it",  "absent",      None,        Some("admin%00x=1"),       Unclear),
            ("a115: a NUL in a value",                   "not equal",   Some("1"),   Some("admin=1%00x"),       Unclear),
            ("a115: other names are other names",        "absent",      None,        Some("my_admin[]=1&x.admin=2"), Match),
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
            let mut budget = Budget::new();
            let query = LazyQuery::new(query);
            let query = query.parsed(&mut budget).unwrap();
            assert_eq!(term(operator, value).fit(query, &mut budget), Ok(fit), "{because}: {query:?}");
        }
    }

    #[test]
    fn a112_parameters_are_bounded_and_paid_for() {
        let parsed = |text: &str| {
            let mut budget = Budget::new();
            LazyQuery::new(Some(text)).parsed(&mut budget).map(|_| budget.spent())
        };
        assert!(parsed(&"a&".repeat(MAX_PARAMETERS)).is_ok());
        assert_eq!(parsed(&"a&".repeat(MAX_PARAMETERS + 1)), Err(Exceeded::Parameters));
        assert_eq!(parsed(&"a".repeat(100_000)), Err(Exceeded::Work));
        let mut budget = Budget::new();
        let query = "admin=x&".repeat(100);
        let query = LazyQuery::new(Some(&query));
        let query = query.parsed(&mut budget).unwrap();
        let mut terms = 0;
        while term("pattern", Some("y$")).fit(query, &mut budget).is_ok() {
            terms += 1;
        }
        assert!((1..10).contains(&terms), "{terms} terms look at a hundred values each");
    }

    #[test]
    fn a116_a_query_is_decoded_as_applications_do() {
        #[rustfmt::skip]
        let table = [
            // because                              sent                        decoded
            ("nothing to decode",                   "page=admin&x=1",           None),
            ("nothing that decodes",                "page=100%&x=%zz",          None),
            ("a value",                             "page=%61dmin",             Some("page=admin")),
            ("a key",                               "p%61ge=admin&x",           Some("page=admin&x")),
            ("a blank",                             "q=a+b",                    Some("q=a b")),
            ("blanks before a key",                 "+page=admin&%20x=1",       Some("page=admin&x=1")),
            ("once",                                "page=%2561dmin",           Some("page=%61dmin")),
            ("a line break ends no line",           "x=%0a&page=%61dmin",       Some("x= &page=admin")),
            ("what is no UTF-8",                    "x=%ff&page=%61dmin",       Some("x=\u{fffd}&page=admin")),
            ("beside what is no escape",            "x=%zz&page=%61dmin",       Some("x=%zz&page=admin")),
        ];
        for (because, sent, expected) in table {
            assert_eq!(decoded(sent).as_deref(), expected, "{because}");
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
