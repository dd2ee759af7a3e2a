//! The index over all rules: what makes a decision among ten thousand rules cost about as much as one
//! among ten.
//!
//! A host leads to a *plan*: the rules that may apply to it, in order. Literal hosts are found by hash,
//! the others by the longest wildcard that covers them; rules whose host takes an expression or the
//! subject to decide are in every plan that they could be in, and are asked. A plan is made at its
//! first use. Their number is bounded by the rules, not by traffic: all hosts under a wildcard share one.
//!
//! A plan longer than a few rules has an index over the literal prefixes of its resource patterns, so
//! that only rules whose prefix the path begins with are looked at.
//!
//! Rules are told apart by their position, and the lowest one wins.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;

use crate::object::Object;
use crate::policy::decision::{Requirement, Verdict};
use crate::policy::pattern::{Expression, Form, HostKind};
use crate::policy::query::{self, LazyQuery};
use crate::policy::rule::{Evaluation, Fit, Rule, method_bit};
use crate::subject::Subject;
use crate::work::{Budget, Exceeded};

/// Up to this many rules, asking each in turn is as fast as walking an index.
const SHORT_PLAN: usize = 8;

/// Rules, and how to find those that may apply.
#[derive(Debug)]
pub(super) struct Matcher {
    rules: Box<[Rule]>,
    default: Requirement,
    exact: HashMap<Box<str>, usize>,
    /// By suffix, beginning with a dot. Longer than no key is a host under none of them.
    suffix: HashMap<Box<str>, usize>,
    /// The first one is for hosts that nothing names.
    nodes: Vec<Node>,
    /// Rules that may apply to hosts that they don't name: expressions, and templates.
    open: Vec<u32>,
}

/// A host or a suffix that some rule names.
#[derive(Debug)]
struct Node {
    name: Name,
    /// The rules that name it, in order.
    rules: Vec<u32>,
    /// The longest suffix around it.
    parent: Option<usize>,
    plan: OnceLock<Plan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Anything,
    Suffix(Box<str>),
    Host(Box<str>),
}

/// The rules that may apply to a host, in order.
#[derive(Debug)]
struct Plan {
    candidates: Vec<Candidate>,
    /// Whether a pattern may depend on what the query holds: then it is asked about the decoded query too.
    reaches_query: bool,
    /// Whether a rule has conditions on the query.
    asks_query: bool,
    /// What the expressions and conditions of the candidates add to the budget of a question.
    grant: u32,
    /// For a plan that is long.
    index: Option<PrefixIndex>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    rule: u32,
    /// Whether the rule's hosts still have to be asked: an expression, or a template of the subject.
    ask_host: bool,
}

impl Matcher {
    pub(super) fn new(mut rules: Vec<Rule>, default: Requirement) -> Matcher {
        share_expressions(&mut rules);
        let mut matcher = Matcher {
            rules: rules.into(),
            default,
            exact: HashMap::new(),
            suffix: HashMap::new(),
            nodes: vec![Node { name: Name::Anything, rules: Vec::new(), parent: None, plan: OnceLock::new() }],
            open: Vec::new(),
        };
        matcher.index_hosts();
        matcher
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn default(&self) -> Requirement {
        self.default
    }

    fn index_hosts(&mut self) {
        for (n, rule) in (0..).zip(&self.rules) {
            for pattern in &rule.criteria.hosts {
                let (map, name) = match &pattern.kind {
                    HostKind::Exact(host) => (&mut self.exact, Name::Host(host.clone())),
                    HostKind::Suffix(suffix) => (&mut self.suffix, Name::Suffix(suffix.clone())),
                    HostKind::User(_) | HostKind::Group(_) | HostKind::Regex(_) => {
                        if self.open.last() != Some(&n) {
                            self.open.push(n);
                        }
                        continue;
                    }
                };
                let (Name::Host(key) | Name::Suffix(key)) = &name else { continue };
                let node = *map.entry(key.clone()).or_insert_with(|| {
                    self.nodes.push(Node { name, rules: Vec::new(), parent: None, plan: OnceLock::new() });
                    self.nodes.len() - 1
                });
                if let Some(node) = self.nodes.get_mut(node)
                    && node.rules.last() != Some(&n)
                {
                    node.rules.push(n);
                }
            }
        }
        let suffixes = &self.suffix;
        for node in self.nodes.iter_mut().skip(1) {
            let name = match &node.name {
                Name::Suffix(name) => name.get(1..).unwrap_or_default(),
                Name::Host(name) => name,
                Name::Anything => "",
            };
            node.parent = Some(longest_suffix(suffixes, name).unwrap_or(0));
        }
    }

    /// Decides an object: the strictest verdict over all its readings, the first of equals.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] where the request goes beyond what one may cost.
    pub(super) fn decide(
        &self,
        subject: &Subject<'_>,
        object: &Object<'_>,
        budget: &mut Budget,
    ) -> Result<Verdict, Exceeded> {
        let question = Question::new(self, subject, object);
        budget.grant(question.grant());
        let mut strictest: Option<Verdict> = None;
        question.each_reading(budget, |budget, reading| {
            let verdict = question.decide(reading, budget)?;
            let verdict = strictest.map_or(verdict, |before| before.stricter(verdict));
            strictest = Some(verdict);
            Ok(if verdict.is_strictest() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(strictest.unwrap_or(self.verdict(None)))
    }

    fn plan_of(&self, host: &str) -> Option<&Plan> {
        let node = self.exact.get(host).copied().or_else(|| longest_suffix(&self.suffix, host)).unwrap_or(0);
        let node = self.nodes.get(node)?;
        Some(node.plan.get_or_init(|| self.plan(node)))
    }

    fn verdict(&self, rule: Option<u32>) -> Verdict {
        match rule.and_then(|n| self.rules.get(n as usize)) {
            Some(found) => Verdict { requirement: found.requirement, rule, subject_rule: found.subject_rule },
            None => Verdict { requirement: self.default, rule: None, subject_rule: false },
        }
    }

    /// Merges the rules of a node and of the suffixes around it with the open ones that may apply.
    fn plan(&self, node: &Node) -> Plan {
        let mut candidates: Vec<Candidate> = self
            .open
            .iter()
            .filter(|n| self.rules.get(**n as usize).is_some_and(|rule| may_apply(rule, &node.name)))
            .map(|&rule| Candidate { rule, ask_host: true })
            .collect();
        let mut around = Some(node);
        while let Some(node) = around {
            candidates.extend(node.rules.iter().map(|&rule| Candidate { rule, ask_host: false }));
            around = node.parent.and_then(|parent| self.nodes.get(parent));
        }
        // A host that is named needs no asking, whatever else the rule says of hosts.
        candidates.sort_by_key(|candidate| (candidate.rule, candidate.ask_host));
        candidates.dedup_by_key(|candidate| candidate.rule);
        candidates.shrink_to_fit();
        let index = (candidates.len() > SHORT_PLAN).then(|| PrefixIndex::new(self.entries(&candidates)));
        let rules = || candidates.iter().filter_map(|candidate| self.rules.get(candidate.rule as usize));
        let reaches_query = rules().any(|rule| rule.criteria.resources.iter().any(|pattern| pattern.reaches_query));
        let asks_query = rules().any(|rule| !rule.criteria.query.is_empty());
        let grant = rules().map(Rule::grant).fold(0, u32::saturating_add);
        Plan { candidates, reaches_query, asks_query, grant, index }
    }

    /// The prefixes of the resources of each candidate, with its place in the plan.
    fn entries(&self, candidates: &[Candidate]) -> Vec<(&str, u32)> {
        let mut entries = Vec::with_capacity(candidates.len());
        for (place, candidate) in (0..).zip(candidates) {
            let Some(rule) = self.rules.get(candidate.rule as usize) else { continue };
            let resources = &rule.criteria.resources;
            if resources.is_empty() {
                entries.push(("", place));
            }
            entries
                .extend(resources.iter().flat_map(|pattern| pattern.prefixes.iter()).map(|prefix| (&**prefix, place)));
        }
        entries
    }
}

/// Lets patterns with the same text share one compiled expression: files repeat the same few, and each
/// one keeps scratch space of its own, warm only if it is used often.
fn share_expressions(rules: &mut [Rule]) {
    let mut known: HashMap<Box<str>, Expression> = HashMap::new();
    for rule in rules {
        let hosts = rule.criteria.hosts.iter_mut().filter_map(|pattern| match &mut pattern.kind {
            HostKind::Regex(expression) => Some((&pattern.text, expression)),
            _ => None,
        });
        let resources = rule.criteria.resources.iter_mut().filter_map(|pattern| match &mut pattern.form {
            Form::Regex(expression) => Some((&pattern.text, expression)),
            _ => None,
        });
        for (text, expression) in hosts.chain(resources) {
            let shared = known.entry(text.clone()).or_insert_with(|| expression.clone());
            *expression = shared.clone();
        }
    }
}

/// The value of the longest key that ends `host` at a label, and is shorter than it.
fn longest_suffix(suffixes: &HashMap<Box<str>, usize>, host: &str) -> Option<usize> {
    if suffixes.is_empty() {
        return None;
    }
    host.char_indices().filter(|&(at, c)| c == '.' && at > 0).find_map(|(at, _)| suffixes.get(host.get(at..)?).copied())
}

/// Whether a rule with an expression or a template may apply to hosts of this name.
fn may_apply(rule: &Rule, name: &Name) -> bool {
    rule.criteria.hosts.iter().any(|pattern| match (&pattern.kind, name) {
        (HostKind::Exact(_) | HostKind::Suffix(_), _) => false,
        (HostKind::User(rest) | HostKind::Group(rest), Name::Host(host)) => host.ends_with(&**rest),
        (HostKind::User(rest) | HostKind::Group(rest), Name::Suffix(suffix)) => {
            suffix.ends_with(&**rest) || rest.ends_with(&**suffix)
        }
        // Anonymous: the expression alone decides, so where it fails it fails for everyone.
        (HostKind::Regex(expression), Name::Host(host)) => expression.matches(&Subject::default(), host),
        (HostKind::User(_) | HostKind::Group(_) | HostKind::Regex(_), _) => true,
    })
}

/// One question, on its way through a plan.
pub(super) struct Question<'q> {
    matcher: &'q Matcher,
    plan: Option<&'q Plan>,
    subject: &'q Subject<'q>,
    object: &'q Object<'q>,
    method: Option<u16>,
    sent: LazyQuery<'q>,
}

/// One way to read what is asked for.
#[derive(Clone, Copy)]
pub(super) struct Reading<'r> {
    /// What patterns are matched against.
    pub resource: &'r str,
    /// The same with the query as it was sent, in which parameters are looked for.
    pub as_sent: &'r str,
}

impl<'q> Question<'q> {
    pub(super) fn new(matcher: &'q Matcher, subject: &'q Subject<'q>, object: &'q Object<'q>) -> Question<'q> {
        Question {
            matcher,
            plan: matcher.plan_of(object.host()),
            subject,
            object,
            method: object.names_method().then(|| method_bit(object.method())),
            sent: LazyQuery::new(object.query()),
        }
    }

    /// What the rules of this host add to the budget.
    pub(super) fn grant(&self) -> u32 {
        self.plan.map_or(0, |plan| plan.grant)
    }

    /// Calls `see` with each reading of the object, the usual one first, until it breaks off. Where a pattern may depend on
    /// the query, each reading is followed by the same with the query decoded, as every application sees it (A116).
    pub(super) fn each_reading(
        &self,
        budget: &mut Budget,
        mut see: impl FnMut(&mut Budget, Reading<'_>) -> Result<ControlFlow<()>, Exceeded>,
    ) -> Result<(), Exceeded> {
        let query = self.object.query().unwrap_or_default();
        let decoded = if self.plan.is_some_and(|plan| plan.reaches_query) {
            budget.spend(query.len())?;
            query::decoded(query)
        } else {
            None
        };
        for as_sent in self.object.readings() {
            if see(budget, Reading { resource: as_sent, as_sent })?.is_break() {
                return Ok(());
            }
            let path = decoded.as_ref().and_then(|_| as_sent.strip_suffix(query));
            if let (Some(path), Some(decoded)) = (path, &decoded) {
                budget.spend(path.len() + decoded.len())?;
                let resource = format!("{path}{decoded}");
                if see(budget, Reading { resource: &resource, as_sent })?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Decides one reading.
    pub(super) fn decide(&self, reading: Reading<'_>, budget: &mut Budget) -> Result<Verdict, Exceeded> {
        let Some(plan) = self.plan else { return Ok(self.matcher.verdict(None)) };
        let evaluation = self.evaluation(reading);
        match &plan.index {
            Some(index) if evaluation.names_target => self.first_of_index(&evaluation, &plan.candidates, index, budget),
            Some(_) | None => self.first_of(&evaluation, plan.candidates.iter(), budget),
        }
    }

    /// What rules are asked about a reading.
    pub(super) fn evaluation<'r>(&'r self, reading: Reading<'r>) -> Evaluation<'r, 'q> {
        let asks_query = self.plan.is_some_and(|plan| plan.asks_query);
        let read = asks_query.then(|| reading.as_sent.split_once('?').map_or("", |(_, query)| query));
        Evaluation {
            subject: self.subject,
            method: self.method,
            names_target: self.object.names_target(),
            resource: reading.resource,
            sent: &self.sent,
            read: read.filter(|read| *read != self.sent.text()).map(|read| LazyQuery::new(Some(read))),
        }
    }

    fn fit(&self, evaluation: &Evaluation<'_, '_>, candidate: Candidate, budget: &mut Budget) -> Result<Fit, Exceeded> {
        let Some(rule) = self.matcher.rules.get(candidate.rule as usize) else { return Ok(Fit::Miss) };
        let fit = rule.fit_apart_from_host(evaluation, budget)?;
        if fit != Fit::Miss && candidate.ask_host && !rule.fits_host(self.subject, self.object.host(), budget)? {
            return Ok(Fit::Miss);
        }
        Ok(fit)
    }

    /// The first candidate that matches, or a stricter one before it that may.
    fn first_of<'c>(
        &self,
        evaluation: &Evaluation<'_, '_>,
        candidates: impl Iterator<Item = &'c Candidate>,
        budget: &mut Budget,
    ) -> Result<Verdict, Exceeded> {
        let mut unclear: Option<Verdict> = None;
        let mut settled = self.matcher.verdict(None);
        for &candidate in candidates {
            let verdict = || self.matcher.verdict(Some(candidate.rule));
            match self.fit(evaluation, candidate, budget)? {
                Fit::Miss => {}
                Fit::Unclear => unclear = Some(unclear.map_or_else(verdict, |before| before.stricter(verdict()))),
                Fit::Match => {
                    settled = verdict();
                    break;
                }
            }
        }
        Ok(unclear.map_or(settled, |before| before.stricter(settled)))
    }

    /// The same with an index: several lists, each in order, of which the lowest match wins.
    fn first_of_index(
        &self,
        evaluation: &Evaluation<'_, '_>,
        candidates: &[Candidate],
        index: &PrefixIndex,
        budget: &mut Budget,
    ) -> Result<Verdict, Exceeded> {
        let mut best = u32::MAX;
        for list in index.walk(evaluation.resource) {
            for &place in list.iter().take_while(|place| **place < best) {
                let Some(&candidate) = candidates.get(place as usize) else { continue };
                match self.fit(evaluation, candidate, budget)? {
                    Fit::Miss => {}
                    Fit::Match => {
                        best = place;
                        break;
                    }
                    // Rare, for what is garbled, repeated or not known: then the order counts for more.
                    Fit::Unclear => return self.first_in_order(evaluation, candidates, index, budget),
                }
            }
        }
        Ok(self.matcher.verdict(candidates.get(best as usize).map(|candidate| candidate.rule)))
    }

    fn first_in_order(
        &self,
        evaluation: &Evaluation<'_, '_>,
        candidates: &[Candidate],
        index: &PrefixIndex,
        budget: &mut Budget,
    ) -> Result<Verdict, Exceeded> {
        let mut places: Vec<u32> = index.walk(evaluation.resource).flatten().copied().collect();
        budget.spend(places.len())?;
        places.sort_unstable();
        let candidates = places.iter().filter_map(|place| candidates.get(*place as usize));
        self.first_of(evaluation, candidates, budget)
    }
}

/// A radix tree over prefixes: each node adds some bytes to its parent's prefix, and lists what has
/// exactly this prefix.
#[derive(Debug)]
struct PrefixIndex {
    nodes: Vec<PrefixNode>,
    /// The labels of all nodes, one after the other.
    bytes: Box<[u8]>,
    /// What is listed, node after node, each list in order.
    listed: Box<[u32]>,
}

#[derive(Debug)]
struct PrefixNode {
    label: std::ops::Range<u32>,
    list: std::ops::Range<u32>,
    /// The first bytes of the children's labels, in order.
    edges: Box<[u8]>,
    /// Where the children are, one after the other.
    children: u32,
}

impl PrefixIndex {
    fn new(mut entries: Vec<(&str, u32)>) -> PrefixIndex {
        entries.sort_unstable();
        entries.dedup();
        let (mut nodes, mut bytes, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        // Breadth first, so that the children of a node are neighbours. `from..to` share `depth` bytes.
        let mut todo = std::collections::VecDeque::from([(0, entries.len(), 0)]);
        let mut next = 1;
        while let Some((from, to, depth)) = todo.pop_front() {
            let group = entries.get(from..to).unwrap_or_default();
            let (first, last) = match (group.first(), group.last()) {
                (Some((first, _)), Some((last, _))) => (first.as_bytes(), last.as_bytes()),
                _ => (&[][..], &[][..]),
            };
            // The root's label is empty, so that every walk begins alike. Sorted, the first and the last
            // have in common what all have.
            let common = if nodes.is_empty() { 0 } else { first.iter().zip(last).take_while(|(a, b)| a == b).count() };
            let label = bytes.len();
            bytes.extend_from_slice(first.get(depth..common).unwrap_or_default());
            let list = listed.len();
            let ends = group.iter().take_while(|(prefix, _)| prefix.len() == common).count();
            listed.extend(group.iter().take(ends).map(|(_, place)| *place));
            let (mut edges, mut start) = (Vec::new(), ends);
            let byte_at = |at: usize| group.get(at).and_then(|(prefix, _)| prefix.as_bytes().get(common)).copied();
            for at in ends..group.len() {
                if byte_at(at + 1) != byte_at(at) {
                    edges.extend(byte_at(at));
                    todo.push_back((from + start, from + at + 1, common));
                    start = at + 1;
                }
            }
            nodes.push(PrefixNode {
                label: count(label)..count(bytes.len()),
                list: count(list)..count(listed.len()),
                children: next,
                edges: edges.into(),
            });
            next += count(nodes.last().map_or(0, |node| node.edges.len()));
        }
        PrefixIndex { nodes, bytes: bytes.into(), listed: listed.into() }
    }

    /// The lists of all prefixes that `text` begins with, shortest first.
    fn walk<'i>(&'i self, text: &'i str) -> impl Iterator<Item = &'i [u32]> {
        let mut rest = text.as_bytes();
        let mut node = self.nodes.first();
        std::iter::from_fn(move || {
            let here = node.take()?;
            let label = self.bytes.get(here.label.start as usize..here.label.end as usize)?;
            rest = rest.strip_prefix(label)?;
            if let Some(byte) = rest.first()
                && let Some(edge) = here.edges.iter().position(|edge| edge == byte)
            {
                node = self.nodes.get(here.children as usize + edge);
            }
            self.listed.get(here.list.start as usize..here.list.end as usize)
        })
    }
}

/// A place in a list of rules or of their text, which `u32` always holds: configuration is not that large.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::PrefixIndex;

    #[test]
    fn the_index_finds_every_prefix_of_a_text() {
        let prefixes = ["/api/", "", "/a", "/api/v1", "/api/v2", "/b", "/api/", "ü", "/a"];
        let index = PrefixIndex::new(prefixes.into_iter().zip(0..).collect());
        for text in ["/api/v1/x", "/api/v", "/api", "/", "", "/b", "/bb", "ü", "x", "/a", "/api/v2"] {
            let mut found: Vec<u32> = index.walk(text).flatten().copied().collect();
            found.sort_unstable();
            let expected: Vec<u32> =
                prefixes.iter().zip(0..).filter(|(prefix, _)| text.starts_with(**prefix)).map(|(_, n)| n).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
