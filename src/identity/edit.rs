//! Changes to the text of a users file that touch nothing but the account concerned.
//!
//! Comments, layout and the spelling of everything else stay. The parser says where a value stands; how the text
//! around it is laid out is guessed, and the guess is not trusted: the new text is read again, and is taken only
//! if it says what the old one said but for the one change. Otherwise the file is written anew, if it has no
//! comments that would be lost, or not at all.

use serde_json::Value;

use super::document::{Document, Entry};
use crate::fault::Fault;

/// One change to a users file.
#[derive(Clone, Debug)]
pub enum Edit<'e> {
    /// A new account, below the others.
    Add(&'e Entry),
    /// Another value for a key of the account with this name.
    Set(&'e str, &'static str, Value),
    /// The account with this name goes.
    Remove(&'e str),
}

/// The text of a file after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// Whether it had to be written anew, so that its layout is lost.
    pub anew: bool,
}

/// Makes `edit` to `text`, which says what `document` does.
///
/// # Errors
///
/// The change can't be made without losing comments.
pub fn apply(text: &str, document: &Document, edit: &Edit<'_>) -> Result<Edited, Fault> {
    let mut wanted = document.clone();
    match edit {
        Edit::Add(user) => wanted.users.push((*user).clone()),
        Edit::Set(name, key, value) => {
            if let Some(user) = wanted.find_mut(name) {
                user.set(key, value.clone());
            }
        }
        Edit::Remove(name) => wanted.users.retain(|user| user.name != *name),
    }
    if wanted.says_the_same_as(document) {
        return Ok(Edited { text: text.to_owned(), anew: false });
    }
    let says_what_is_wanted =
        |text: &String| Document::parse(text).is_ok_and(|document| document.says_the_same_as(&wanted));
    if let Some(text) = candidates(text, document, edit).into_iter().find(says_what_is_wanted) {
        return Ok(Edited { text, anew: false });
    }
    if has_comments(text) {
        return Err(Fault::new(
            "the users file is laid out in a way that can't be changed without losing its comments",
        )
        .help("Write each account on lines of its own below `users:`, or make this change with an editor."));
    }
    Ok(Edited { text: wanted.render(), anew: true })
}

/// What the text may be after the change, likelier ones first.
fn candidates(text: &str, document: &Document, edit: &Edit<'_>) -> Vec<String> {
    let user = |name: &str| document.users.iter().find(|user| user.name == name);
    match edit {
        Edit::Add(new) => added(text, document, new),
        Edit::Set(name, key, value) => user(name).map(|user| set(text, user, key, value)).unwrap_or_default(),
        Edit::Remove(name) => user(name).and_then(|user| removed(text, document, user)).into_iter().collect(),
    }
}

/// A new account on lines of its own at the end: nothing can follow the accounts but comments.
fn added(text: &str, document: &Document, new: &Entry) -> Vec<String> {
    let first = document.users.first().and_then(|user| user.span.as_ref()).map(|span| span.start);
    let indent = first.and_then(|at| text.get(line_start(text, at)..at)).filter(|indent| is_blank(indent));
    let entry = new.render(indent.unwrap_or("  "), line_end_of(text));
    // Where there is nobody yet: `users:`, `users: {}`, or nothing but comments.
    let bases = [text.to_owned(), text.replacen("users: {}", "users:", 1), begun(text, "users:")];
    bases.into_iter().map(|base| begun(&base, "") + &entry).collect()
}

/// `text` with its last line ended, and `line` below it.
fn begun(text: &str, line: &str) -> String {
    let end = line_end_of(text);
    let missing = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    let line = if line.is_empty() { String::new() } else { format!("{line}{end}") };
    format!("{text}{missing}{line}")
}

/// Another value in the place of the one that is there, or a line or a pair of its own behind the name.
fn set(text: &str, user: &Entry, key: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut insert = |at: usize, end: usize, new: &str| {
        if let (Some(before), Some(after)) = (text.get(..at), text.get(end..)) {
            found.push(format!("{before}{new}{after}"));
        }
    };
    if let Some(field) = user.field(key) {
        // The span of a plain scalar may reach over the line breaks after it.
        if let Some(span) = &field.span
            && let Some(len) = text.get(span.clone()).map(|written| written.trim_end().len())
            && len > 0
        {
            insert(span.start, span.start + len, &value.to_string());
        }
    } else if let (Some(name), Some(first)) =
        (&user.span, user.fields.first().and_then(|field| field.key_span.as_ref()))
    {
        if let Some(indent) = text.get(line_start(text, first.start)..first.start)
            && is_blank(indent)
        {
            let at = line_end(text, name.start);
            insert(at, at, &format!("{indent}{key}: {value}{}", line_end_of(text)));
        }
        insert(first.start, first.start, &format!("{key}: {value}, "));
    }
    found
}

/// Without the lines of `user`; comments stay that are indented no further than the name.
fn removed(text: &str, document: &Document, user: &Entry) -> Option<String> {
    let name = user.span.as_ref()?.start;
    let start = line_start(text, name);
    let indent = name - start;
    let mut end = line_end(text, name);
    let mut at = end;
    for line in text.get(end..)?.split_inclusive('\n') {
        at += line.len();
        let content = line.trim_start();
        if content.is_empty() || (content.starts_with('#') && line.len() - content.len() <= indent) {
            continue;
        }
        if line.len() - content.len() <= indent {
            break;
        }
        end = at;
    }
    let (before, after) = (text.get(..start)?, text.get(end..)?);
    if document.users.len() > 1 {
        return Some(format!("{before}{after}"));
    }
    // `users:` with nothing below it would not be a users file.
    let (head, tail) = before.rsplit_once("users:")?;
    Some(format!("{head}users: {{}}{tail}{after}"))
}

fn is_blank(indent: &str) -> bool {
    indent.bytes().all(|byte| byte == b' ')
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// Behind the line break of the line that holds `at`.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|after| after.find('\n')).map_or(text.len(), |found| at + found + 1)
}

fn line_end_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Whether there may be comments: a `#` at the beginning of a line or after a blank. It may be within quotes.
fn has_comments(text: &str) -> bool {
    text.lines().any(|line| line.starts_with('#') || line.contains(" #") || line.contains("\t#"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Edit, Edited, apply};
    use crate::identity::document::{Document, Entry};

    fn edited(text: &str, edit: &Edit<'_>) -> Result<Edited, String> {
        let document = Document::parse(text).unwrap_or_default();
        apply(text, &document, edit).map_err(|fault| fault.message)
    }

    /// The text after an edit that has to leave the layout alone.
    #[track_caller]
    fn text(before: &str, edit: &Edit<'_>) -> String {
        let Edited { text, anew } = edited(before, edit).unwrap();
        assert!(!anew, "written anew: {text}");
        text
    }

    fn new() -> Entry {
        let mut new = Entry::new("new");
        new.set("displayname", "New");
        new
    }

    const FILE: &str = "# The team.\n\nusers:\n  # The boss.\n  john: # since 2020\n    displayname: 'John Doe'   # odd spelling\n    \
         # argon2\n    password: \"x\" # changed in May\n    groups:\n      - admins # all of it\n\n  # Interns\n  \
         \"jane\":\n    displayname: Jane\n    disabled: true # gone\n    password: >-\n      folded\n      text\n# The end.\n";

    #[test]
    fn a118_only_the_lines_concerned_are_touched() {
        let disabled = text(FILE, &Edit::Set("john", "disabled", true.into()));
        assert_eq!(disabled, FILE.replace("# since 2020\n", "# since 2020\n    disabled: true\n"));
        let enabled = text(FILE, &Edit::Set("jane", "disabled", false.into()));
        assert_eq!(enabled, FILE.replace("disabled: true #", "disabled: false #"));
        let password = text(FILE, &Edit::Set("john", "password", "$5$y".into()));
        assert_eq!(password, FILE.replace("\"x\"", "\"$5$y\""));
        let removed = text(FILE, &Edit::Remove("john"));
        let (head, rest) = FILE.split_once("  john:").unwrap();
        assert_eq!(removed, format!("{head}\n  # Interns{}", rest.split_once("\n  # Interns").unwrap().1));
        let removed = text(FILE, &Edit::Remove("jane"));
        assert_eq!(removed, format!("{}# The end.\n", FILE.split_once("  \"jane\":").unwrap().0));
        let added = text(FILE, &Edit::Add(&new()));
        assert_eq!(added, format!("{FILE}  \"new\":\n    displayname: \"New\"\n"));
        assert_eq!(text(FILE, &Edit::Set("jane", "disabled", true.into())), FILE, "nothing to change");
    }

    #[test]
    fn a118_layouts_that_people_use_are_kept() {
        let flow =
            "users:\n  john: {displayname: J, password: 'x'} # the boss\n  jane: {displayname: J, password: 'y'}\n";
        let disabled = text(flow, &Edit::Set("john", "disabled", true.into()));
        assert_eq!(disabled, flow.replacen("{displayname", "{disabled: true, displayname", 1));
        assert_eq!(
            text(flow, &Edit::Remove("jane")),
            flow.lines().take(2).map(|l| format!("{l}\n")).collect::<String>()
        );
        let one = "---\nusers: # all\n    john:\n        password: x";
        assert_eq!(text(one, &Edit::Remove("john")), "---\nusers: {} # all\n");
        assert_eq!(text(one, &Edit::Add(&new())), format!("{one}\n    \"new\":\n      displayname: \"New\"\n"));
        let dos = "users:\r\n  john:\r\n    password: x\r\n";
        assert_eq!(text(dos, &Edit::Set("john", "disabled", true.into())).matches("\r\n").count(), 4);
        for nobody in ["", "# to be filled\n", "---\n# the team\nusers:\n", "users: {} # nobody\n", "users: {}"] {
            let added = text(nobody, &Edit::Add(&new()));
            assert_eq!(added.contains('#'), nobody.contains('#'), "{added}");
        }
    }

    #[test]
    fn a118_what_cannot_be_changed_in_place_is_written_anew_or_refused_but_no_comment_is_lost() {
        let shared = "users:\n  a:\n    password: &p x\n  b:\n    password: *p\n";
        let edit = Edit::Set("a", "password", Value::from("y"));
        let Edited { text, anew } = edited(shared, &edit).unwrap();
        let says = Document::parse(&text).unwrap();
        assert!(anew && says.users[0].text("password") == Some("y") && says.users[1].text("password") == Some("x"));
        let said = edited(&format!("{shared}# the end\n"), &edit).unwrap_err();
        assert!(said.contains("without losing its comments"), "{said}");
        let flow = "users: {a: {password: x}, b: {password: y}} # two\n";
        assert!(edited(flow, &Edit::Remove("a")).is_err());
        assert_eq!(edited(flow, &Edit::Set("a", "password", "z".into())).unwrap().text, flow.replace("x}", "\"z\"}"));
    }

    /// An account in one of several layouts, with comments in it.
    fn account(name: &str, layout: u8, n: usize) -> String {
        match layout % 4 {
            0 => format!("  {name}: # c{n}\n    displayname: D{n} # d{n}\n    password: 'p{n}'\n    groups: [a, b]\n"),
            1 => format!(
                "  '{name}':\n    # k{n}\n    password: \"p#{n}\"\n    displayname: it's\n    disabled: false # e{n}\n"
            ),
            2 => format!("  {name}: {{displayname: D, password: p{n}, email: a@b.c}} # f{n}\n"),
            _ => format!(
                "  # above{n}\n  {name}:\n    password: |-\n      # no comment {n}\n      more\n    extra: {{a: [1, # deep{n}\n      2]}}\n"
            ),
        }
    }

    proptest! {
        #[test]
        fn a118_a_change_to_one_account_leaves_every_other_line(
            layouts in prop::collection::vec(0_u8..4, 1..6),
            which in 0_usize..6,
            what in 0_u8..5,
        ) {
            let accounts: Vec<String> = layouts.iter().enumerate().map(|(n, layout)| account(&format!("u{n}"), *layout, n)).collect();
            let before = format!("# head\nusers:\n{}# tail\n", accounts.concat());
            let document = Document::parse(&before).map_err(|faults| TestCaseError::fail(format!("{faults:?}: {before}")))?;
            let which = which % accounts.len();
            let (name, new) = (format!("u{which}"), new());
            let edit = match what {
                0 => Edit::Add(&new),
                1 => Edit::Set(&name, "disabled", true.into()),
                2 => Edit::Set(&name, "disabled", false.into()),
                3 => Edit::Set(&name, "email", "x@example.com".into()),
                _ => Edit::Remove(&name),
            };
            let after = apply(&before, &document, &edit).map_err(|fault| TestCaseError::fail(format!("{fault}: {before}")))?;
            prop_assert!(!after.anew, "{}", before);
            for (n, account) in accounts.iter().enumerate().filter(|(n, _)| *n != which || what == 0) {
                prop_assert!(after.text.contains(account.trim_start_matches("  # above")), "{}: {}", n, after.text);
            }
            prop_assert!(after.text.starts_with("# head\n") && after.text.contains("# tail\n"));
            let comments = |text: &str| text.matches('#').count();
            prop_assert!(what == 4 || comments(&after.text) == comments(&before), "{}", after.text);
        }
    }
}
