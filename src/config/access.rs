//! `access_control` and `definitions.network`: the rules, as the policy wants them.

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Place, Severity};
use super::keys;
use super::raw::Value;
use super::read::{Faults, Field, Section, Text, item_of};
use super::secrets;
use crate::fault::Fault;
use crate::peer::TrustedProxies;
use crate::policy::{
    self, Criteria, HostPattern, Lint, MethodName, Network, Policy, QueryTerm, Requirement, Rule, SubjectTerm,
};

/// The policy, and where its rules stand.
pub(super) struct Access<'t> {
    pub policy: Policy,
    rules: Vec<Section<'t>>,
}

/// Reads and compiles the rules; `None` where one of them has a fault.
pub(super) fn policy<'t>(root: &Section<'t>, faults: &mut Faults) -> Option<Access<'t>> {
    let known = faults.len();
    let access = root.section("access_control", faults);
    let networks = Networks::read(root, &access, faults);
    let default = access.text("default_policy", faults).filter(|text| !text.text.is_empty());
    let default_policy = match &default {
        Some(text) => text.parse(faults),
        None => Some(Requirement::Deny),
    };
    let mut rules = Vec::new();
    let mut sections = Vec::new();
    for section in access.sections("rules", faults) {
        if let Some(rule) = rule(&section, &networks, faults) {
            rules.push(rule);
            sections.push(section);
        }
    }
    if access.sections("rules", &mut Faults::new()).is_empty()
        && access.field("rules").is_none_or(|rules| matches!(rules.node.value, Value::List(_)))
        && let Some(default_policy) = default_policy
    {
        no_rules(default_policy, default.map_or(access.place.clone(), |text| text.place), faults);
    }
    let faultless = faults.iter().skip(known).all(|fault| !fault.is_error(false));
    let policy = Policy::compile(rules, default_policy?);
    faultless.then_some(Access { policy, rules: sections })
}

fn no_rules(default: Requirement, place: Place, faults: &mut Faults) {
    let fault = Fault::new(format!("there are no rules, so the default policy `{default}` decides everything"));
    faults.push(match default {
        Requirement::Deny => {
            Diagnostic::error(&place, fault.help("Nobody could reach anything: write `access_control.rules`."))
        }
        Requirement::Bypass => {
            Diagnostic::error(&place, fault.help("Everybody could reach everything: write `access_control.rules`."))
        }
        Requirement::OneFactor | Requirement::TwoFactor => {
            Diagnostic::warning(&place, fault.help("Write `access_control.rules` if that is not what is meant."))
        }
    });
}

/// The networks that have a name.
struct Networks(HashMap<String, Vec<Network>>);

impl Networks {
    /// Reads `definitions.network`, and the older list `access_control.networks`.
    fn read(root: &Section<'_>, access: &Section<'_>, faults: &mut Faults) -> Networks {
        let mut networks = HashMap::new();
        let definitions = root.section("definitions", faults).section("network", faults);
        for field in definitions.fields() {
            let name = field.name.strip_prefix("definitions.network.").unwrap_or(&field.name).to_owned();
            networks.insert(name, parse_all(&field.texts(faults), faults));
        }
        for entry in access.sections("networks", faults).iter().filter(|entry| entry.is_present()) {
            let found = parse_all(&entry.texts("networks", faults), faults);
            let Some(name) = entry.text("name", faults) else {
                if entry.field("name").is_none() {
                    let fault = Fault::new("this network has no `name`").help("Name it, as in `name: internal`.");
                    faults.push(Diagnostic::error(&entry.place, fault));
                }
                continue;
            };
            if networks.insert(name.text.to_owned(), found).is_some() {
                let fault = Fault::new(format!("the network `{}` is defined twice", name.text));
                name.refuse(fault.help("Keep one of them, best under `definitions.network`."), faults);
            }
        }
        Networks(networks)
    }

    /// The ranges that the entries of a rule mean: a name that is defined, an address or a range.
    fn resolve(&self, texts: &[Text<'_>], faults: &mut Faults) -> Vec<Network> {
        let mut networks = Vec::new();
        for text in texts {
            match self.0.get(text.text) {
                Some(named) => networks.extend(named),
                None => match text.text.parse() {
                    Ok(network) => networks.push(network),
                    Err(fault) => {
                        let near = keys::nearest(text.text, self.0.keys().map(String::as_str));
                        let fault = match near {
                            Some(near) => Fault::help(fault, format!("did you mean `{near}`?")),
                            None => fault,
                        };
                        text.refuse(fault, faults);
                    }
                },
            }
        }
        networks
    }
}

fn parse_all<T: std::str::FromStr<Err = Fault>>(texts: &[Text<'_>], faults: &mut Faults) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse(faults)).collect()
}

fn rule(section: &Section<'_>, networks: &Networks, faults: &mut Faults) -> Option<Rule> {
    if !section.is_present() {
        return None;
    }
    let known = faults.len();
    let mut hosts = Vec::new();
    for (key, parse) in [
        ("domain", HostPattern::domain as fn(&str) -> Result<HostPattern, Fault>),
        ("domain_regex", HostPattern::regex),
    ] {
        for text in section.texts(key, faults) {
            match parse(text.text) {
                Ok(host) => hosts.push(host),
                Err(fault) => text.refuse(fault, faults),
            }
        }
    }
    let resources = parse_all(&section.texts("resources", faults), faults);
    let methods: Vec<MethodName> = parse_all(&section.texts("methods", faults), faults);
    // A definition may be empty, but a rule that names it must not turn into one for everybody.
    let named = section.texts("networks", faults);
    let networks = networks.resolve(&named, faults);
    if networks.is_empty() && !named.is_empty() && known == faults.len() {
        let fault = Fault::new("none of these networks holds an address")
            .help("Give the definition some, or remove `networks`.");
        named.iter().take(1).for_each(|text| text.refuse(fault.clone(), faults));
    }
    let subjects = subjects(section, faults);
    let query = query(section, faults);
    if section.field("policy").is_none() {
        faults.push(Diagnostic::error(
            &section.place,
            Fault::new("this rule has no `policy`").help("The policies are bypass, one_factor, two_factor and deny."),
        ));
    }
    let requirement: Option<Requirement> = section.parse("policy", faults);
    if faults.len() > known {
        return None;
    }
    let criteria = Criteria { hosts, resources, methods, networks, subjects, query };
    match Rule::new(criteria, requirement?) {
        Ok(rule) => Some(rule),
        Err(found) => {
            for (criterion, fault) in found {
                let place =
                    section.field(criterion.as_str()).map_or(section.place.clone(), |field| field.node.place.clone());
                faults.push(Diagnostic::error(&place, fault));
            }
            None
        }
    }
}

fn subjects(section: &Section<'_>, faults: &mut Faults) -> Vec<Vec<SubjectTerm>> {
    let groups = subject_groups(section, faults);
    groups.iter().map(|group| parse_all(group, faults)).collect()
}

/// Text is a group of one; in a list each text is, and each list is a group.
fn subject_groups<'t>(section: &Section<'t>, faults: &mut Faults) -> Vec<Vec<Text<'t>>> {
    let Some(field) = section.field("subject") else { return Vec::new() };
    match &field.node.value {
        Value::List(items) => items.iter().map(|item| item_of(&field.name, item).texts(faults)).collect(),
        _ => vec![field.texts(faults)],
    }
}

/// Refuses a rule for an OAuth 2.0 client that is not listed. Clients are not served yet, so the list is read for
/// this alone; what is wrong with it otherwise is nobody's business here.
pub(super) fn clients_are_listed(root: &Section<'_>, faults: &mut Faults) {
    let silent = &mut Faults::new();
    let clients = root.section("identity_providers", silent).section("oidc", silent).sections("clients", silent);
    let ids = clients.iter().filter_map(|client| match &client.field("client_id")?.node.value {
        Value::Text(id) | Value::Number(id) => Some(id.as_str()),
        _ => None,
    });
    let listed: Vec<&str> = ids.collect();
    for rule in root.section("access_control", silent).sections("rules", silent) {
        for text in subject_groups(&rule, silent).iter().flatten() {
            let Ok(SubjectTerm::Client(id)) = text.text.parse() else { continue };
            if listed.contains(&&*id) {
                continue;
            }
            let fault = Fault::new(format!("there is no client `{id}` in `identity_providers.oidc.clients`"));
            let fault = match keys::nearest(&id, listed.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `oauth2:client:{near}`?")),
                None => fault.help("List it there with its `client_id`, or take it out of this rule."),
            };
            text.refuse(fault, faults);
        }
    }
}

/// Each entry of the list is a group, or a term that is a group of one.
fn query(section: &Section<'_>, faults: &mut Faults) -> Vec<Vec<QueryTerm>> {
    let Some(field) = section.field("query") else { return Vec::new() };
    let Value::List(items) = &field.node.value else {
        faults.push(field.wrong("a list of lists", "[[{key: …}]]"));
        return Vec::new();
    };
    items
        .iter()
        .map(|item| {
            let item = item_of(&field.name, item);
            match &item.node.value {
                Value::List(terms) => {
                    terms.iter().filter_map(|term| query_term(&item_of(&item.name, term), faults)).collect()
                }
                _ => query_term(&item, faults).into_iter().collect(),
            }
        })
        .collect()
}

fn query_term(field: &Field<'_>, faults: &mut Faults) -> Option<QueryTerm> {
    const KEYS: [&str; 3] = ["key", "operator", "value"];
    let known = faults.len();
    let section = field.section(faults);
    if let Value::Map(entries) = &field.node.value {
        for entry in entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
            let fault = Fault::new(format!("unknown key `{}.{}`", field.name, secrets::shown(&entry.key)));
            let fault = match keys::nearest(&entry.key, KEYS.into_iter()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help("A term of a query has the keys key, operator and value."),
            };
            faults.push(Diagnostic::error(&entry.place, fault));
        }
    }
    let [key, operator, value] = KEYS.map(|key| section.text(key, faults));
    if faults.len() > known {
        return None;
    }
    let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.text.to_owned());
    QueryTerm::new(text(&key).as_deref(), text(&operator).as_deref(), text(&value).as_deref())
        .map_err(|fault| match &value {
            // Only a pattern has a fault at a place of its own.
            Some(value) if fault.at.is_some() => value.refuse(fault, faults),
            _ => faults.push(Diagnostic::error(&field.node.place, Fault { at: None, ..fault })),
        })
        .ok()
}

impl Access<'_> {
    /// What is allowed and yet likely not meant.
    pub fn lints(&self, faults: &mut Faults) {
        // Somebody meant to say who or what, and a rule that says nothing is about everybody and everything.
        for rule in &self.rules {
            for key in ["subject", "networks", "resources", "methods", "query"] {
                if let Some(place) = rule.blank(key) {
                    let fault = Fault::new(format!("`{key}` is empty, so this rule applies whatever that is"))
                        .help("Fill it, or take it out.");
                    faults.push(Diagnostic::new(Severity::Strict, &place, fault));
                }
            }
        }
        self.point_at(self.policy.lints(), faults);
    }

    /// Rules for networks from which proxies are believed (A133).
    pub fn network_lints(&self, trusted: &TrustedProxies, faults: &mut Faults) {
        self.point_at(self.policy.lint_networks(trusted), faults);
    }

    fn point_at(&self, lints: Vec<Lint>, faults: &mut Faults) {
        for lint in lints {
            let Some(rule) = self.rules.get(lint.rule) else { continue };
            let field = rule.field(lint.criterion.as_str());
            let item = field.as_ref().and_then(|field| match (&field.node.value, lint.entry) {
                (Value::List(items), Some(entry)) => items.get(entry),
                _ => None,
            });
            let place = match (item, field.as_ref()) {
                (Some(item), _) => item.place.inside_quotes(),
                (None, Some(field)) => field.node.place.inside_quotes(),
                (None, None) => rule.place.clone(),
            };
            let severity = match lint.severity {
                policy::Severity::Warning => Severity::Warning,
                policy::Severity::Strict => Severity::Strict,
            };
            faults.push(Diagnostic::new(severity, &place, lint.fault));
        }
    }

    /// Warns of a rule that names the host of a portal and asks people there to sign in: they could
    /// not reach the page to do it (A67).
    pub fn portal_is_reachable(&self, portals: &[String], faults: &mut Faults) {
        let silent = &mut Faults::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let strict =
                rule.parse::<Requirement>("policy", silent).is_some_and(|policy| policy != Requirement::Bypass);
            // A rule for some paths, methods or people only is deliberate.
            let whole = ["resources", "methods", "query", "subject"].iter().all(|key| rule.field(key).is_none());
            if !strict || !whole {
                continue;
            }
            for domain in
                rule.texts("domain", silent).iter().filter(|text| portals.iter().any(|host| host == text.text))
            {
                let freed = self.rules.iter().take(index).any(|earlier| {
                    earlier.parse::<Requirement>("policy", silent) == Some(Requirement::Bypass)
                        && earlier.texts("domain", silent).iter().any(|text| text.text == domain.text)
                });
                if !freed {
                    let fault = Fault::new(format!(
                        "`{}` is where people sign in, and this rule asks them to sign in first",
                        domain.text
                    ))
                    .help("Don't send the portal through the gate, or give it a `bypass` rule above this one.");
                    faults.push(Diagnostic::warning(&domain.place, fault));
                }
            }
        }
    }
}
