//! A warm decision allocates nothing: reading a plain request, and asking the policy about it.

#![cfg(test)]

use portcullis::object::Object;
use portcullis::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use portcullis::subject::{AssuranceLevel, Identity};

fn policy() -> Policy {
    let rules = (0..1_000).map(|n| {
        let host = if n % 10 == 0 { format!("*.team{n}.example.com") } else { format!("app{n}.example.com") };
        let mut criteria = Criteria { hosts: vec![HostPattern::domain(&host).unwrap()], ..Criteria::default() };
        match n % 5 {
            0 => criteria.resources.push(r"^/some(/.*)?$".parse().unwrap()),
            1 => criteria.subjects.push(vec!["group:dev".parse().unwrap()]),
            2 => criteria.methods.push("GET".parse().unwrap()),
            3 => criteria.networks.push("10.0.0.0/8".parse().unwrap()),
            _ => criteria.resources.push(r"^/(items|users)/\d+$".parse().unwrap()),
        }
        Rule::new(criteria, Requirement::OneFactor).unwrap()
    });
    Policy::compile(rules.collect(), Requirement::Deny)
}

#[test]
fn a_warm_decision_allocates_nothing() {
    let policy = policy();
    let john = Identity::new("john", "John Doe", ["ops", "dev"], ["john@example.com"]).unwrap();
    let subject = john.subject(Some([10, 1, 2, 3].into()), AssuranceLevel::OneFactor);
    let hosts: Vec<String> = (0..200)
        .map(|n| if n % 10 == 0 { format!("x.team{n}.example.com") } else { format!("app{n}.example.com") })
        .collect();
    let targets = ["/some/path?a=1&b=two%20words", "/items/42", "/", "/index.html"];
    let ask = || {
        let mut matched = 0;
        for host in &hosts {
            for target in targets {
                let object = Object::from_parts(b"GET", b"https", host.as_bytes(), target.as_bytes()).unwrap();
                matched += usize::from(policy.decide(&subject, &object).rule.is_some());
            }
        }
        matched
    };
    let cold = ask();
    let mut warm = 0;
    let counted = allocation_counter::measure(|| warm = ask());
    assert_eq!(cold, warm);
    assert!(warm > 300, "the questions meet rules: {warm}");
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
