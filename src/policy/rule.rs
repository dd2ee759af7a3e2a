//! A rule: criteria, and what is required where all of them are met.

use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;
use crate::policy::decision::Requirement;
use crate::policy::network::Network;
use crate::policy::pattern::{HostPattern, ResourcePattern};
use crate::policy::query::{LazyQuery, Query, QueryTerm};
use crate::subject::Subject;
use crate::work::{Budget, Exceeded};

/// When a rule applies. A list with nothing in it is always met, except that of the hosts, which must
/// hold something; otherwise one entry is enough.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// `domain` and `domain_regex`.
    pub hosts: Vec<HostPattern>,
    /// `resources`: path and query.
    pub resources: Vec<ResourcePattern>,
    /// `methods`.
    pub methods: Vec<MethodName>,
    /// `networks`, names already looked up.
    pub networks: Vec<Network>,
    /// `subject`: any of these groups of terms, of which all must be met.
    pub subjects: Vec<Vec<SubjectTerm>>,
    /// `query`: any of these groups of terms, of which all must be met.
    pub query: Vec<Vec<QueryTerm>>,
}

/// A part of a rule, as configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// `domain`
    Domain,
    /// `domain_regex`
    DomainRegex,
    /// `resources`
    Resources,
    /// `methods`
    Methods,
    /// `networks`
    Networks,
    /// `subject`
    Subject,
    /// `query`
    Query,
    /// `policy`
    Policy,
}

impl Criterion {
    /// The key in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Criterion::Domain => "domain",
            Criterion::DomainRegex => "domain_regex",
            Criterion::Resources => "resources",
            Criterion::Methods => "methods",
            Criterion::Networks => "networks",
            Criterion::Subject => "subject",
            Criterion::Query => "query",
            Criterion::Policy => "policy",
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a rule, or a part of it, fits a request; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It does not apply.
    Miss,
    /// Applications may differ on whether it does (see [`query`](crate::policy::query)), or what it asks about is not known.
    Unclear,
    /// It applies.
    Match,
}

impl From<bool> for Fit {
    fn from(matches: bool) -> Fit {
        if matches { Fit::Match } else { Fit::Miss }
    }
}

/// The name of a method that rules may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodName(u8);

/// RFC 9110 and RFC 4918.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "CONNECT",
    "OPTIONS",
    "COPY",
    "LOCK",
    "MKCOL",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "UNLOCK",
];

impl MethodName {
    /// The method in upper case.
    pub fn as_str(self) -> &'static str {
        METHODS.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

impl FromStr for MethodName {
    type Err = Fault;

    fn from_str(text: &str) -> Result<MethodName, Fault> {
        let position = |name: &str| METHODS.iter().position(|known| *known == name).and_then(|n| u8::try_from(n).ok());
        position(text).map(MethodName).ok_or_else(|| {
            let fault = Fault::new(format!("unknown method `{text}`"));
            match position(&text.to_ascii_uppercase()) {
                Some(_) => fault.help(format!("Write it in upper case: `{}`.", text.to_ascii_uppercase())),
                None => fault.help(format!("The methods are {}.", METHODS.join(", "))),
            }
        })
    }
}

/// The methods of a rule as bits; no bit for a method that rules can't name.
pub(super) fn method_bit(method: &str) -> u16 {
    METHODS.iter().position(|known| *known == method).map_or(0, |n| 1 << n)
}

/// One condition on who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectTerm {
    /// `user:NAME`: this user.
    User(Box<str>),
    /// `group:NAME`: a member of this group.
    Group(Box<str>),
    /// `oauth2:client:ID`: this OAuth 2.0 client.
    Client(Box<str>),
}

impl SubjectTerm {
    /// Whether the subject meets it; letter case counts.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            SubjectTerm::User(name) => subject.username == Some(&**name),
            SubjectTerm::Group(name) => subject.groups.contains(name),
            SubjectTerm::Client(id) => subject.client_id == Some(&**id),
        }
    }
}

impl fmt::Display for SubjectTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectTerm::User(name) => write!(f, "user:{name}"),
            SubjectTerm::Group(name) => write!(f, "group:{name}"),
            SubjectTerm::Client(id) => write!(f, "oauth2:client:{id}"),
        }
    }
}

impl FromStr for SubjectTerm {
    type Err = Fault;

    fn from_str(text: &str) -> Result<SubjectTerm, Fault> {
        type Make = fn(Box<str>) -> SubjectTerm;
        let kinds: [(&str, Make); 3] =
            [("user:", SubjectTerm::User), ("group:", SubjectTerm::Group), ("oauth2:client:", SubjectTerm::Client)];
        let found = kinds.into_iter().find_map(|(prefix, make)| Some((make, text.strip_prefix(prefix)?.trim())));
        match found {
            Some((_, "")) => {
                Err(Fault::new(format!("subject `{text}` names nobody")).help("Write a name behind the colon."))
            }
            Some((make, name)) => Ok(make(name.into())),
            None => Err(Fault::new(format!("unknown subject `{text}`"))
                .help("A subject is `user:NAME`, `group:NAME` or `oauth2:client:ID`.")),
        }
    }
}

/// One entry of `access_control.rules` that makes sense.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) criteria: Criteria,
    pub(super) requirement: Requirement,
    pub(super) methods: u16,
    pub(super) subject_rule: bool,
}

impl Rule {
    /// Makes a rule of criteria that make sense together.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with the criterion it is about: no host; a method twice; a group
    /// of terms with nothing in it, which would match everything; `bypass` for certain subjects only,
    /// which nobody could tell before they have signed in.
    pub fn new(criteria: Criteria, requirement: Requirement) -> Result<Rule, Vec<(Criterion, Fault)>> {
        let mut faults = Vec::new();
        if criteria.hosts.is_empty() {
            let fault = Fault::new("a rule without `domain` and `domain_regex`")
                .help("Name the hosts it is about, as in `domain: app.example.com`.");
            faults.push((Criterion::Domain, fault));
        }
        let mut methods = 0;
        for method in &criteria.methods {
            let bit = method_bit(method.as_str());
            if methods & bit != 0 {
                faults.push((Criterion::Methods, Fault::new(format!("method `{}` twice", method.as_str()))));
            }
            methods |= bit;
        }
        let empty = |criterion| {
            let fault = Fault::new(format!("an empty list inside `{criterion}`"))
                .help("It would match everything: fill it, or take it out.");
            (criterion, fault)
        };
        faults.extend(criteria.subjects.iter().filter(|all| all.is_empty()).map(|_| empty(Criterion::Subject)));
        faults.extend(criteria.query.iter().filter(|all| all.is_empty()).map(|_| empty(Criterion::Query)));

        let asking: Vec<(Criterion, &str)> = asking_for_subject(&criteria).collect();
        if requirement == Requirement::Bypass {
            faults.extend(asking.iter().map(|(criterion, text)| {
                let what = match criterion {
                    Criterion::Subject => "`subject`".to_owned(),
                    _ => format!("`{text}`, which asks for the subject"),
                };
                let fault = Fault::new(format!("policy `bypass` with {what}"))
                    .help("Who asks is known only after signing in: use `one_factor`, or let everybody pass.");
                (*criterion, fault)
            }));
        }
        let subject_rule = !asking.is_empty();
        if faults.is_empty() { Ok(Rule { criteria, requirement, methods, subject_rule }) } else { Err(faults) }
    }

    /// What the rule requires.
    pub fn requirement(&self) -> Requirement {
        self.requirement
    }

    /// Its criteria.
    pub fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// What its expressions and conditions add to the budget of a question.
    pub(super) fn grant(&self) -> u32 {
        let Criteria { hosts, resources, query, .. } = &self.criteria;
        let expressions = hosts.iter().filter(|pattern| pattern.is_regex()).count()
            + resources.iter().filter(|pattern| pattern.is_regex()).count();
        let conditions: usize = query.iter().map(Vec::len).sum();
        let units = |count: usize, each: u32| u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(each);
        // One for asking the rule at all.
        units(expressions, Budget::PER_EXPRESSION)
            .saturating_add(1)
            .saturating_add(units(conditions, Budget::PER_CONDITION))
    }

    /// Whether any of its hosts is the object's.
    pub(super) fn fits_host(&self, subject: &Subject<'_>, host: &str, budget: &mut Budget) -> Result<bool, Exceeded> {
        any(&self.criteria.hosts, |pattern| pattern.matches(subject, host, budget))
    }

    /// How everything but the host fits, cheapest test first.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] where `budget` does not cover it.
    pub(super) fn fit_apart_from_host(
        &self,
        evaluation: &Evaluation<'_, '_>,
        budget: &mut Budget,
    ) -> Result<Fit, Exceeded> {
        budget.spend(1)?;
        let method = self.fit_method(evaluation.method);
        if method == Fit::Miss {
            return Ok(Fit::Miss);
        }
        let resource = self.fit_resource(evaluation, budget)?;
        if resource == Fit::Miss {
            return Ok(Fit::Miss);
        }
        let network = self.fit_network(evaluation.subject);
        if network == Fit::Miss || !self.fits_subject(evaluation.subject) {
            return Ok(Fit::Miss);
        }
        Ok(method.min(resource).min(network).min(self.fit_query(evaluation, budget)?))
    }

    /// `method` is a bit of [`method_bit`]; none is known where the proxy named no method.
    pub(super) fn fit_method(&self, method: Option<u16>) -> Fit {
        match method {
            _ if self.methods == 0 => Fit::Match,
            Some(method) => (self.methods & method != 0).into(),
            None => Fit::Unclear,
        }
    }

    pub(super) fn fit_resource(&self, evaluation: &Evaluation<'_, '_>, budget: &mut Budget) -> Result<Fit, Exceeded> {
        let patterns = &self.criteria.resources;
        if patterns.is_empty() {
            return Ok(Fit::Match);
        }
        if !evaluation.names_target {
            return Ok(Fit::Unclear);
        }
        Ok(any(patterns, |pattern| pattern.matches(evaluation.subject, evaluation.resource, budget))?.into())
    }

    /// An address that is not known may lie in any network: whether the rule applies is unclear then, so that neither a
    /// denial is missed nor anything opened (A121). A method, a path and a query that the proxy does not name are treated alike.
    pub(super) fn fit_network(&self, subject: &Subject<'_>) -> Fit {
        let networks = &self.criteria.networks;
        match subject.address {
            _ if networks.is_empty() => Fit::Match,
            Some(address) => networks.iter().any(|network| network.contains(address)).into(),
            None => Fit::Unclear,
        }
    }

    /// An anonymous subject fits provisionally: the rule's requirement then leads to signing in.
    pub(super) fn fits_subject(&self, subject: &Subject<'_>) -> bool {
        let groups = &self.criteria.subjects;
        groups.is_empty()
            || subject.is_anonymous()
            || groups.iter().any(|all| all.iter().all(|term| term.matches(subject)))
    }

    /// A `?` that came out of an escape in the path begins a query of its own (A10). Where the rule fits that one and
    /// not the one that was sent, or the other way round, it is unclear whether it fits.
    pub(super) fn fit_query(&self, evaluation: &Evaluation<'_, '_>, budget: &mut Budget) -> Result<Fit, Exceeded> {
        if self.criteria.query.is_empty() {
            return Ok(Fit::Match);
        }
        if !evaluation.names_target {
            return Ok(Fit::Unclear);
        }
        let sent = self.fit_parameters(evaluation.sent.parsed(budget)?, budget)?;
        let Some(read) = &evaluation.read else { return Ok(sent) };
        let read = self.fit_parameters(read.parsed(budget)?, budget)?;
        Ok(if sent == read { sent } else { Fit::Unclear })
    }

    /// The best fit of any group of terms, each of which fits as badly as its worst term.
    fn fit_parameters(&self, query: &Query<'_>, budget: &mut Budget) -> Result<Fit, Exceeded> {
        let mut best = Fit::Miss;
        for terms in &self.criteria.query {
            let mut worst = Fit::Match;
            for term in terms {
                worst = worst.min(term.fit(query, budget)?);
                if worst == Fit::Miss {
                    break;
                }
            }
            best = best.max(worst);
            if best == Fit::Match {
                break;
            }
        }
        Ok(best)
    }
}

/// One reading of an object, as rules are asked about it.
pub(super) struct Evaluation<'r, 'q> {
    pub subject: &'r Subject<'r>,
    /// As [`method_bit`] gives it; `None` where the proxy named no method.
    pub method: Option<u16>,
    /// Whether the proxy named path and query.
    pub names_target: bool,
    /// What patterns are matched against.
    pub resource: &'r str,
    /// The query that was sent.
    pub sent: &'r LazyQuery<'q>,
    /// The query that an application finds in this reading, where it is not the one that was sent.
    pub read: Option<LazyQuery<'r>>,
}

/// Whether `test` holds for any of `items`.
fn any<T>(items: &[T], mut test: impl FnMut(&T) -> Result<bool, Exceeded>) -> Result<bool, Exceeded> {
    for item in items {
        if test(item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entries whose answer depends on who asks; one for `subject` as a whole.
fn asking_for_subject(criteria: &Criteria) -> impl Iterator<Item = (Criterion, &str)> {
    let hosts =
        criteria.hosts.iter().filter(|pattern| pattern.asks_for_subject()).map(|pattern| {
            (if pattern.is_regex() { Criterion::DomainRegex } else { Criterion::Domain }, pattern.as_str())
        });
    let resources = criteria.resources.iter().filter(|pattern| pattern.asks_for_subject());
    let subject = (!criteria.subjects.is_empty()).then_some((Criterion::Subject, "subject"));
    hosts.chain(resources.map(|pattern| (Criterion::Resources, pattern.as_str()))).chain(subject)
}
