//! `policy explain` and `policy test`: what the rules decide, and whether that is what was meant.
//!
//! Both ask the policy that the gate asks, compiled in the same way.

use std::io::{self, Write};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::object::{Malformed, Object};
use crate::policy::{Policy, Requirement, Verdict};
use crate::subject::{AssuranceLevel, Groups, Subject};
use crate::work::Exceeded;

/// Arguments of `policy explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The URL that is asked for, such as `https://app.example.com/a?b=c`
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The method of the request
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The user who asks; nobody, if left out
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The groups of that user, separated by commas
    #[arg(long, value_name = "GROUPS", default_value = "")]
    pub groups: String,
    /// The address that the request comes from; without it, a rule with `networks` may apply or not, and the stricter outcome counts
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<IpAddr>,
    /// The OAuth 2.0 client that asks
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `policy test`.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// The file of cases, YAML or JSON
    #[arg(value_name = "CASES")]
    pub cases: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints what the policy requires for one request, which rule decided, and why each earlier one did not.
///
/// # Errors
///
/// Those of `out`.
pub fn explain(policy: &Policy, args: &ExplainArgs, out: &mut dyn Write) -> io::Result<ExitCode> {
    let subject = subject(args.user.as_deref(), &args.groups, args.client_id.as_deref(), args.ip);
    let object = match read(&args.method, &args.url) {
        Ok(object) => object,
        Err(refusal) => return refused(&refusal, args.json, out),
    };
    let explanation = match policy.explain(&subject, &object) {
        Ok(explanation) => explanation,
        Err(exceeded) => return refused(&exceeded.into(), args.json, out),
    };
    let verdict = explanation.verdict;
    if args.json {
        let passed_over: Vec<Value> = explanation
            .passed_over
            .iter()
            .map(|passed| json!({"rule": passed.rule + 1, "criterion": passed.criterion.as_str(), "why": passed.why}))
            .collect();
        let document = json!({
            "requirement": verdict.requirement.as_str(),
            "rule": rule_number(verdict),
            "subject_rule": verdict.subject_rule,
            "provisional": explanation.provisional,
            "host": object.host(),
            "method": object.method(),
            "resource": explanation.resource,
            "readings": explanation.readings,
            "passed_over": passed_over,
            "notes": explanation.notes,
        });
        writeln!(out, "{document:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}, by {}", verdict.requirement, rule_name(verdict))?;
    writeln!(out, "  {} {}{}", object.method(), object.host(), explanation.resource)?;
    for passed in &explanation.passed_over {
        writeln!(out, "  rule #{}, {}: {}", passed.rule + 1, passed.criterion, passed.why)?;
    }
    match verdict.rule {
        Some(_) => writeln!(out, "  {} applies", rule_name(verdict))?,
        None => writeln!(out, "  no rule applies, so the default policy does")?,
    }
    for note in &explanation.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the gate would answer 400 before it asks any rule.
struct Refusal {
    label: &'static str,
    why: String,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        Refusal { label: malformed.label(), why: malformed.to_string() }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Refusal {
        Malformed::from(exceeded).into()
    }
}

/// Reads a request as the gate does, and refuses what it refuses.
fn read<'a>(method: &'a str, url: &'a str) -> Result<Object<'a>, Refusal> {
    let object = Object::from_url(method.as_bytes(), url.as_bytes())?;
    let scheme = object.scheme();
    if !scheme.is_secure() {
        let why = format!("cookies and credentials need https or wss, and this is {}", scheme.as_str());
        return Err(Refusal { label: "insecure_scheme", why });
    }
    Ok(object)
}

fn refused(refusal: &Refusal, json: bool, out: &mut dyn Write) -> io::Result<ExitCode> {
    let Refusal { label, why } = refusal;
    if json {
        writeln!(out, "{:#}", json!({"requirement": "refused", "rule": null, "reason": label, "why": why}))?;
    } else {
        writeln!(out, "refused: {why}")?;
        writeln!(out, "  no rule is asked about such a request")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    cases: Vec<Case>,
}

/// One question and its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    url: String,
    method: Option<String>,
    user: Option<String>,
    groups: Option<GroupNames>,
    ip: Option<IpAddr>,
    client_id: Option<String>,
    expect: Expect,
    rule: Option<RuleNumber>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`groups` is a list of names, or text with commas between them")]
enum GroupNames {
    List(Vec<String>),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Bypass,
    OneFactor,
    TwoFactor,
    Deny,
    Refused,
}

impl Expect {
    fn as_str(self) -> &'static str {
        match self {
            Expect::Bypass => Requirement::Bypass.as_str(),
            Expect::OneFactor => Requirement::OneFactor.as_str(),
            Expect::TwoFactor => Requirement::TwoFactor.as_str(),
            Expect::Deny => Requirement::Deny.as_str(),
            Expect::Refused => "refused",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "`rule` is the position of a rule, counted from 1, or `default`")]
enum RuleNumber {
    Position(NonZeroU32),
    Word(DefaultWord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum DefaultWord {
    #[serde(rename = "default")]
    Default,
}

/// Asks the policy every question of a file and compares the answers: a line on `out` for each that is
/// not as expected, and a count. The exit code is 0 if all are, 1 if any is not, and 2 if the file
/// can't be read, which `err` explains.
///
/// # Errors
///
/// Those of `out` and `err`.
pub fn test(policy: &Policy, args: &TestArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let cases = match read_cases(&args.cases) {
        Ok(cases) => cases,
        Err(message) => {
            writeln!(err, "{message}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut failed = 0;
    let mut report = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let answer = answer(policy, case);
        let passed = answer.is(case);
        failed += usize::from(!passed);
        if args.json {
            report.push(json!({
                "index": index,
                "expect": case.expect.as_str(),
                "actual": answer.actual,
                "rule": answer.rule,
                "passed": passed,
            }));
        } else if !passed {
            let expected = match case.rule {
                Some(rule) => format!("{} by {}", case.expect.as_str(), name(&rule_value(rule))),
                None => case.expect.as_str().to_owned(),
            };
            let method = case.method.as_deref().unwrap_or("GET");
            let who = case.user.as_deref().or(case.client_id.as_deref()).unwrap_or("anonymous");
            writeln!(
                out,
                "case #{}: {method} {} as {who}: expected {expected}, got {}",
                index + 1,
                case.url,
                answer.in_words
            )?;
        }
    }
    if args.json {
        writeln!(out, "{:#}", Value::Array(report))?;
    } else {
        writeln!(out, "{} passed, {failed} failed", cases.len() - failed)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_cases(path: &Path) -> Result<Vec<Case>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Cases = serde_saphyr::from_str(&text).map_err(|error| {
        let error = error.without_snippet();
        format!("{}: not a file of cases: {error}", path.display())
    })?;
    if cases.cases.is_empty() {
        return Err(format!("{}: no cases", path.display()));
    }
    Ok(cases.cases)
}

/// What the policy answers to a case.
struct Answer {
    actual: &'static str,
    rule: Value,
    in_words: String,
}

impl Answer {
    fn is(&self, case: &Case) -> bool {
        self.actual == case.expect.as_str() && case.rule.is_none_or(|rule| rule_value(rule) == self.rule)
    }
}

fn answer(policy: &Policy, case: &Case) -> Answer {
    let groups = match &case.groups {
        Some(GroupNames::List(names)) => names.join(","),
        Some(GroupNames::Text(names)) => names.clone(),
        None => String::new(),
    };
    let subject = subject(case.user.as_deref(), &groups, case.client_id.as_deref(), case.ip);
    let verdict = read(case.method.as_deref().unwrap_or("GET"), &case.url)
        .and_then(|object| Ok(policy.decide(&subject, &object)?));
    match verdict {
        Err(refusal) => Answer { actual: "refused", rule: Value::Null, in_words: format!("refused: {}", refusal.why) },
        Ok(verdict) => Answer {
            actual: verdict.requirement.as_str(),
            rule: rule_number(verdict),
            in_words: format!("{} by {}", verdict.requirement, rule_name(verdict)),
        },
    }
}

/// Who asks. The level does not matter to what is required.
fn subject<'a>(
    user: Option<&'a str>,
    groups: &'a str,
    client_id: Option<&'a str>,
    address: Option<IpAddr>,
) -> Subject<'a> {
    let address = address.map(|address| address.to_canonical());
    let user = user.filter(|user| !user.is_empty());
    Subject { username: user, groups: Groups::new(groups), client_id, address, level: AssuranceLevel::Anonymous }
}

/// The rule counted from 1, or `default`.
fn rule_number(verdict: Verdict) -> Value {
    verdict.rule.map_or_else(|| json!("default"), |rule| json!(u64::from(rule) + 1))
}

fn rule_value(rule: RuleNumber) -> Value {
    match rule {
        RuleNumber::Position(position) => json!(position),
        RuleNumber::Word(DefaultWord::Default) => json!("default"),
    }
}

fn rule_name(verdict: Verdict) -> String {
    name(&rule_number(verdict))
}

fn name(rule: &Value) -> String {
    match rule {
        Value::Number(number) => format!("rule #{number}"),
        _ => "the default policy".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::ExitCode;

    use clap::Parser;

    use super::{ExplainArgs, TestArgs, explain, test};
    use crate::policy::{Criteria, HostPattern, Policy, Requirement, Rule};

    #[derive(Parser)]
    enum Command {
        Explain(ExplainArgs),
        Test(TestArgs),
    }

    fn policy() -> Policy {
        let rule = |host: &str, resource: &str, subject: &str, requirement| {
            let subjects = if subject.is_empty() { vec![] } else { vec![vec![subject.parse().unwrap()]] };
            let resources = if resource.is_empty() { vec![] } else { vec![resource.parse().unwrap()] };
            let hosts = vec![HostPattern::domain(host).unwrap()];
            Rule::new(Criteria { hosts, resources, subjects, ..Criteria::default() }, requirement).unwrap()
        };
        Policy::compile(
            vec![
                rule("pub.example.com", "", "", Requirement::Bypass),
                rule("*.example.com", "^/admin", "group:admins", Requirement::TwoFactor),
                rule("*.example.com", "", "", Requirement::OneFactor),
            ],
            Requirement::Deny,
        )
    }

    /// Runs one command; gives its exit code, standard output and standard error.
    fn run(args: &[&str]) -> (ExitCode, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match Command::parse_from([&["policy"], args].concat()) {
            Command::Explain(args) => explain(&policy(), &args, &mut out),
            Command::Test(args) => test(&policy(), &args, &mut out, &mut err),
        };
        (code.unwrap(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn cases(text: &str, args: &[&str]) -> (ExitCode, String, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        run(&[&["test", file.path().to_str().unwrap()], args].concat())
    }

    #[test]
    fn explain_names_the_rule_and_why_each_earlier_one_did_not_decide() {
        let (code, out, _) =
            run(&["explain", "--url", "https://app.example.com/x?y", "--user", "john", "--groups", "dev"]);
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(
            out,
            "one_factor, by rule #3
  GET app.example.com/x?y
  rule #1, domain: the host `app.example.com` is not `pub.example.com`
  rule #2, resources: `/x?y` does not match `^/admin`
  rule #3 applies
"
        );
        let (_, out, _) =
            run(&["explain", "--url", "https://app.example.com/admin", "--user", "john", "--groups", "dev,ops"]);
        assert!(out.contains("rule #2, subject: the user `john` in `dev` or `ops` is not `group:admins`"), "{out}");
    }

    #[test]
    fn explain_says_what_a_sign_in_and_another_reading_would_change() {
        let (_, out, _) = run(&["explain", "--url", "https://app.example.com/admin"]);
        assert!(out.starts_with("two_factor, by rule #2") && out.contains("a sign-in would decide"), "{out}");
        let (_, out, _) = run(&["explain", "--url", "https://app.example.com/x/..;/admin"]);
        assert!(out.contains("strictest") && out.contains("`/admin`"), "{out}");
        let (_, out, _) = run(&["explain", "--url", "https://other.example.org/"]);
        assert!(out.starts_with("deny, by the default policy") && out.contains("403 at once"), "{out}");
        let (code, out, _) = run(&["explain", "--url", "https://app.example.com/%zz"]);
        assert!(code == ExitCode::SUCCESS && out.starts_with("refused: a `%` in the path"), "{out}");
        let (_, out, _) = run(&["explain", "--json", "--url", "https://pub.example.com/", "--method", "POST"]);
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&document["requirement"], &document["rule"]), (&"bypass".into(), &1.into()));
    }

    const CASES: &str = "
cases:
  - {url: 'https://pub.example.com/', expect: bypass, rule: 1}
  - {url: 'https://app.example.com/admin', user: john, groups: [dev, admins], expect: two_factor, rule: 2}
  - {url: 'https://app.example.com/admin', user: john, groups: 'dev, ops', ip: 10.0.0.1, expect: one_factor}
  - {url: 'https://app.example.com/admin', client_id: robot, method: POST, expect: one_factor, rule: 3}
  - {url: 'https://example.org/', expect: deny, rule: default}
  - {url: 'https://app.example.com/../..', expect: refused}
  - {url: 'http://app.example.com/', expect: refused}
";

    #[test]
    fn a_table_of_expectations_passes_or_says_which_did_not() {
        let (code, out, _) = cases(CASES, &[]);
        assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, "7 passed, 0 failed\n"));

        let wrong = CASES.replace("bypass, rule: 1", "bypass, rule: 2").replace("expect: deny", "expect: one_factor");
        let (code, out, _) = cases(&wrong, &[]);
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(
            out,
            "case #1: GET https://pub.example.com/ as anonymous: expected bypass by rule #2, got bypass by rule #1
case #5: GET https://example.org/ as anonymous: expected one_factor by the default policy, got deny by the default policy
5 passed, 2 failed
"
        );
        let (code, out, _) = cases(&wrong, &["--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(
            report[4],
            serde_json::json!({"index": 4, "expect": "one_factor", "actual": "deny", "rule": "default", "passed": false})
        );
        assert_eq!(report[5]["rule"], serde_json::Value::Null);
    }

    #[test]
    fn a_file_that_is_no_table_is_told_apart_from_a_failure() {
        for (text, told) in [
            ("cases: []", "no cases"),
            ("cases: [{url: x}]", "expect"),
            ("cases: [{url: x, expect: allow}]", "allow"),
            ("cases: [{url: x, expect: deny, ip: nowhere}]", "IP"),
            ("cases: [{url: x, expect: deny, rul: 1}]", "rul"),
            ("case: [", "not a file of cases"),
            (
                "cases: [{url: 'https://a.example.com/', expect: deny, rule: defalt}]",
                "`rule` is the position of a rule, counted from 1, or `default`",
            ),
            (
                "cases: [{url: 'https://a.example.com/', expect: deny, rule: 0}]",
                "`rule` is the position of a rule, counted from 1, or `default`",
            ),
        ] {
            let (code, out, err) = cases(text, &[]);
            assert_eq!((code, out.as_str()), (ExitCode::from(2), ""), "{text}");
            assert!(err.contains(told), "{text}: {err}");
        }
        let (code, _, err) = run(&["test", "/nowhere/cases.yaml"]);
        assert!(code == ExitCode::from(2) && err.contains("/nowhere/cases.yaml"), "{err}");
    }

    #[test]
    fn cases_may_be_json() {
        let (code, ..) = cases(r#"{"cases": [{"url": "https://pub.example.com/", "expect": "bypass"}]}"#, &[]);
        assert_eq!(code, ExitCode::SUCCESS);
    }
}
