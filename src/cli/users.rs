//! `portcullis users …`: the accounts of a users file.
//!
//! A change touches the lines of the account concerned and replaces the file in one step, so that a server that
//! watches it sees the old one or the new one. It is not made if the server could not take the result over.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use ring::rand::SystemRandom;

use super::password_input::Ask;
use super::replace::{folder_of, replace};
use crate::factor::password::{NewDigest, PasswordHash};
use crate::fault::Fault;
use crate::identity::document::{Diagnosis, Document, Entry, Located};
use crate::identity::edit::{self, Edit};
use crate::identity::file;
use crate::object::is_host;
use crate::subject::Identity;

/// What may be said to `users`.
#[derive(Debug, clap::Args)]
pub struct UsersArgs {
    /// The users file, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH", global = true)]
    pub file: Option<std::path::PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One thing to do to a users file.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add an account; the file is made if there is none.
    Add {
        /// The user name.
        name: String,
        /// What the person is called, if not by the user name.
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// The e-mail address.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// A group; may be repeated.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set the password of an account.
    Password {
        /// The user name.
        name: String,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Print the accounts, one a line: name, state, kind of digest, display name, address and groups, parted by tabs.
    List,
    /// Keep somebody out without removing the account.
    Disable {
        /// The user name.
        name: String,
    },
    /// Let somebody in again.
    Enable {
        /// The user name.
        name: String,
    },
    /// Remove an account.
    Remove {
        /// The user name.
        name: String,
    },
}

impl Command {
    /// Whether the password is to be read from standard input.
    pub fn password_stdin(&self) -> bool {
        match self {
            Command::Add { password_stdin, .. } | Command::Password { password_stdin, .. } => *password_stdin,
            Command::List | Command::Disable { .. } | Command::Enable { .. } | Command::Remove { .. } => false,
        }
    }
}

/// A users file, and what is known of the server that reads it.
#[derive(Clone, Debug)]
pub struct UsersFile {
    /// Where it is, and how the server looks accounts up in it.
    pub settings: file::Settings,
    /// Whether the configuration says so. If not, the file was named by itself, and the rest is not known.
    pub is_configured: bool,
    /// How new digests are made.
    pub new_digest: NewDigest,
}

impl UsersFile {
    /// The file at `path`, read by a server of which nothing is known.
    pub fn named(path: &Path) -> UsersFile {
        let path = path.to_owned();
        UsersFile {
            settings: file::Settings { path, watch: false, search_email: false, search_case_insensitive: false },
            is_configured: false,
            new_digest: NewDigest::default(),
        }
    }

    /// When a running server goes by a change.
    fn reload(&self) -> &'static str {
        match (self.is_configured, self.settings.watch) {
            (true, true) => "a running server takes this over within seconds",
            (true, false) => {
                "a running server keeps the old accounts until it is restarted, as \
                 `authentication_backend.file.watch` is off"
            }
            (false, _) => {
                "a running server takes this over within seconds if `authentication_backend.file.watch` is on; \
                 otherwise restart it"
            }
        }
    }
}

/// Does `command` to `users`, with the password that `ask` gives where one is wanted. What was asked for goes to
/// `out`, remarks to `remarks`.
///
/// # Errors
///
/// Everything that is wrong with the file, or what could not be done to it; it is then as it was. Or the change is
/// made, and other faults in the file keep the server from taking it over.
pub fn run(
    command: &Command,
    users: &UsersFile,
    ask: Ask<'_>,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<(), Vec<Diagnosis>> {
    let path = &users.settings.path;
    let told = |fault| vec![Diagnosis { file: path.clone(), at: None, fault }];
    if let Command::List = command {
        let (_, document) = read(path)?;
        return list(&document, out).map_err(|error| told(Fault::new(format!("can't print the accounts: {error}"))));
    }
    // That a remark can't be written is no failure.
    let mut remark = |text: &str| drop(writeln!(remarks, "{}: {text}", path.display()));
    let digest = match command {
        Command::Add { .. } | Command::Password { .. } => {
            // Before the password is asked for, so that nobody types one in vain.
            prepare(command, path)?;
            let password = ask().map_err(told)?;
            if password.expose().chars().count() < SHORT {
                remark(&format!("the password has fewer than {SHORT} characters, and may be guessed"));
            }
            users.new_digest.hash(password.expose().as_bytes(), &SystemRandom::new()).map_err(told)?
        }
        _ => String::new(),
    };
    // A link is followed, so that the file it leads to is replaced and not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.clone());
    let _one_at_a_time = lock(&target);
    let (text, document) = prepare(command, path)?;
    let new = account(command, &digest);
    let Some(edit) = edit(command, &new, digest) else { return Ok(()) };
    let edited = edit::apply(&text, &document, &edit).map_err(told)?;
    if edited.text == text {
        return Ok(());
    }
    let left = faults_left(users, &text, &edited.text)?;
    if let Some(note) = replace(&target, &edited.text).map_err(told)? {
        remark(&note);
    }
    if edited.anew {
        remark("the file was written anew, and its layout is lost");
    }
    if left.is_empty() {
        remark(users.reload());
        return Ok(());
    }
    let fault = Fault::new("the change is made, but no server can take it over").help("Mend what follows.");
    Err(told(fault).into_iter().chain(Document::diagnose(path, left)).collect())
}

/// The faults that the file had before and still has.
///
/// # Errors
///
/// Those that the change would bring: no server could go by the file any more.
fn faults_left(users: &UsersFile, before: &str, after: &str) -> Result<Vec<Located>, Vec<Diagnosis>> {
    let faults = |text: &str| file::check(text, &users.settings, users.new_digest).err().unwrap_or_default();
    let known = faults(before);
    let (left, new): (Vec<_>, Vec<_>) =
        faults(after).into_iter().partition(|(_, fault)| known.iter().any(|(_, other)| other.message == fault.message));
    if new.is_empty() {
        return Ok(left);
    }
    // Their places are in a text that nobody has.
    Err(Document::diagnose(&users.settings.path, new.into_iter().map(|(_, fault)| (None, fault)).collect()))
}

/// Below this many characters a password is remarked upon.
const SHORT: usize = 8;

/// The file as it is, for `command` to change; `add` is content with none.
fn prepare(command: &Command, path: &Path) -> Result<(String, Document), Vec<Diagnosis>> {
    let told = |fault| vec![Diagnosis { file: path.to_owned(), at: None, fault }];
    let makes_one = matches!(command, Command::Add { .. });
    let (text, document) = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && makes_one => (String::new(), Document::default()),
        Ok(text) if makes_one && names_nobody(&text) => (text, Document::default()),
        _ => read(path)?,
    };
    let is_there = |name: &str| document.users.iter().any(|user| user.name == name);
    match command {
        Command::List => {}
        Command::Add { name, display_name, email, groups, .. } => {
            is_free(name, &document).map_err(told)?;
            if let Some(email) = email.as_deref().filter(|email| !is_email(email)) {
                return Err(told(
                    Fault::new(format!("{email:?} is not an e-mail address")).help("Write it as `john@example.com`."),
                ));
            }
            let groups = groups.iter().map(String::as_str);
            Identity::new(name, display_name.as_deref().unwrap_or(name), groups, email.as_deref()).map_err(told)?;
        }
        Command::Password { name, .. }
        | Command::Disable { name }
        | Command::Enable { name }
        | Command::Remove { name } => {
            if !is_there(name) {
                return Err(told(
                    Fault::new(format!("there is no user {name:?}"))
                        .help("`portcullis users list` prints those there are."),
                ));
            }
        }
    }
    Ok((text, document))
}

/// Refuses a name that is taken, in whatever letter case.
fn is_free(name: &str, document: &Document) -> Result<(), Fault> {
    let taken = document.users.iter().find(|user| user.name.to_lowercase() == name.to_lowercase());
    let Some(taken) = taken else { return Ok(()) };
    if taken.name == name {
        return Err(Fault::new(format!("there is a user {name:?} already"))
            .help("Set the password with `portcullis users password`, or choose another name."));
    }
    Err(Fault::new(format!("there is a user {:?}, who differs from {name:?} only by letter case", taken.name)).help(
        "Choose another name: `{user}` in the domain of a rule and `search.case_insensitive` make one of the two.",
    ))
}

/// Whether `text` has the form of an address that mail can be sent to: something, one `@`, and a host.
fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"@<>(),:;\"\\[]".contains(c);
    !local.is_empty() && local.chars().all(is_plain) && is_host(&host.to_lowercase())
}

/// Whether this is a users file that nobody has been written into yet.
fn names_nobody(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || matches!(line, "---" | "users:"))
}

/// The account that `add` makes; an empty one for every other command.
fn account(command: &Command, digest: &str) -> Entry {
    let Command::Add { name, display_name, email, groups, .. } = command else { return Entry::default() };
    let mut user = Entry::new(name);
    user.set("displayname", display_name.as_deref().unwrap_or(name));
    user.set("password", digest);
    if let Some(email) = email {
        user.set("email", email.as_str());
    }
    if !groups.is_empty() {
        user.set("groups", groups.clone());
    }
    user
}

/// What `command` changes.
fn edit<'e>(command: &'e Command, new: &'e Entry, digest: String) -> Option<Edit<'e>> {
    Some(match command {
        Command::List => return None,
        Command::Add { .. } => Edit::Add(new),
        Command::Password { name, .. } => Edit::Set(name, "password", digest.into()),
        Command::Disable { name } => Edit::Set(name, "disabled", true.into()),
        Command::Enable { name } => Edit::Set(name, "disabled", false.into()),
        Command::Remove { name } => Edit::Remove(name),
    })
}

fn list(document: &Document, out: &mut dyn Write) -> std::io::Result<()> {
    for user in &document.users {
        let state = if user.is_disabled() { "disabled" } else { "enabled" };
        let digest = match user.text("password").map(str::parse::<PasswordHash>) {
            Some(Ok(hash)) => hash.work(),
            Some(Err(_)) => "unusable password".to_owned(),
            None => "no password".to_owned(),
        };
        let groups = user.list("groups").collect::<Vec<_>>().join(",");
        let text = |key| user.text(key).unwrap_or_default().escape_debug();
        writeln!(
            out,
            "{}\t{state}\t{digest}\t{}\t{}\t{}",
            user.name.escape_debug(),
            text("displayname"),
            text("email"),
            groups.escape_debug()
        )?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<(String, Document), Vec<Diagnosis>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fault = match error.kind() {
            ErrorKind::NotFound => Fault::new("the users file does not exist").help("`portcullis users add` makes it."),
            _ => Fault::new(format!("the users file can't be read: {error}")),
        };
        vec![Diagnosis { file: path.to_owned(), at: None, fault }]
    })?;
    let document = Document::parse(&text).map_err(|faults| Document::diagnose(path, faults))?;
    Ok((text, document))
}

/// Keeps two of these commands from overwriting each other's work, where the file system can lock a folder.
fn lock(target: &Path) -> Option<File> {
    let folder = File::open(folder_of(target)).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Command, UsersFile, is_email, run};
    use crate::factor::password::{NewDigest, Sha2CryptVariant};
    use crate::identity::file::{FileBackend, Settings};
    use crate::secret::Secret;

    const QUICK: NewDigest = NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha256, iterations: 1000 };

    /// Runs a command with `password`; what it printed and what it remarked, or its first fault.
    fn did(path: &Path, command: Command, password: &str) -> Result<(String, String), String> {
        did_to(&UsersFile { new_digest: QUICK, ..UsersFile::named(path) }, command, password)
    }

    fn did_to(users: &UsersFile, command: Command, password: &str) -> Result<(String, String), String> {
        let (mut out, mut remarks) = (Vec::new(), Vec::new());
        let ask = || Ok(Secret::new(password.to_owned()));
        run(&command, users, &ask, &mut out, &mut remarks)
            .map_err(|diagnoses| diagnoses.iter().map(|diagnosis| format!("{diagnosis}\n")).collect::<String>())?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(remarks).unwrap()))
    }

    fn add(name: &str) -> Command {
        Command::Add {
            name: name.to_owned(),
            display_name: Some("A Name".to_owned()),
            email: Some("a@example.com".to_owned()),
            groups: vec!["dev".to_owned(), "ops".to_owned()],
            password_stdin: true,
        }
    }

    fn accounts(path: &Path) -> FileBackend {
        let settings =
            Settings { path: path.to_owned(), watch: false, search_email: false, search_case_insensitive: false };
        FileBackend::load(settings, QUICK).unwrap()
    }

    #[test]
    fn the_life_of_an_account() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let name = || "john".to_owned();
        did(&path, add("john"), "first").unwrap();
        let john = accounts(&path).find("john").unwrap();
        assert_eq!(john.identity.display_name(), "A Name");
        assert_eq!(john.identity.groups().iter().collect::<Vec<_>>(), ["dev", "ops"]);
        assert!(john.password.verify(b"first").is_some());

        did(&path, Command::Password { name: name(), password_stdin: true }, "second").unwrap();
        let john = accounts(&path).find("john").unwrap();
        assert!(john.password.verify(b"second").is_some() && john.password.verify(b"first").is_none());

        did(&path, Command::Disable { name: name() }, "").unwrap();
        assert!(accounts(&path).find("john").is_none());
        let (listed, _) = did(&path, Command::List, "").unwrap();
        assert_eq!(listed, "john\tdisabled\tsha256-crypt rounds=1000\tA Name\ta@example.com\tdev,ops\n");
        did(&path, Command::Enable { name: name() }, "").unwrap();
        assert!(accounts(&path).find("john").is_some());

        did(&path, Command::Remove { name: name() }, "").unwrap();
        assert!(accounts(&path).accounts().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let missing = did(&path, Command::List, "").unwrap_err();
        assert!(missing.contains("does not exist"), "{missing}");
        did(&path, add("john"), "first").unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let nobody = || "nobody".to_owned();
        for (command, password, says) in [
            (add("john"), "x", "already"),
            (add("a,\nb"), "x", "control character"),
            (add(""), "x", "empty user name"),
            (add("new"), "", "empty"),
            (Command::Password { name: nobody(), password_stdin: true }, "x", "no user \"nobody\""),
            (Command::Disable { name: nobody() }, "", "no user"),
            (Command::Remove { name: nobody() }, "", "no user"),
        ] {
            let fault = did(&path, command, password).expect_err(says);
            assert!(fault.contains(says), "{fault}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_names_nobody_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        for text in ["", "---\n# the team\nusers:\n", "users: {}\n"] {
            std::fs::write(&path, text).unwrap();
            did(&path, add("john"), "first").unwrap();
            assert!(accounts(&path).find("john").is_some(), "{text:?}");
        }
        std::fs::write(&path, "users: [\n").unwrap();
        assert!(did(&path, add("john"), "first").is_err(), "but nothing that can't be read is overwritten");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "users: [\n");
    }

    fn disable(name: &str) -> Command {
        Command::Disable { name: name.to_owned() }
    }

    #[test]
    fn a118_comments_and_layout_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let text = include_str!("../../users.example.yaml");
        std::fs::write(&path, text).unwrap();
        did(&path, disable("john"), "").unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, text.replace("  john:\n", "  john:\n    disabled: true\n"));
        did(&path, add("new"), "a password").unwrap();
        let added = std::fs::read_to_string(&path).unwrap();
        assert!(added.starts_with(&written) && accounts(&path).find("new").is_some(), "{added}");
        std::fs::write(&path, "users: {john: {displayname: J, password: &p x}, jane: {password: *p}} # two\n").unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let said = did(&path, Command::Password { name: "john".to_owned(), password_stdin: true }, "x").unwrap_err();
        assert!(said.contains("without losing its comments"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a118_it_is_said_when_a_running_server_goes_by_the_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        did(&path, add("john"), "a password").unwrap();
        let known = |watch| UsersFile {
            settings: Settings { watch, ..UsersFile::named(&path).settings },
            is_configured: true,
            new_digest: QUICK,
        };
        let enable = || Command::Enable { name: "john".to_owned() };
        let (_, said) = did_to(&known(true), disable("john"), "").unwrap();
        assert!(said.ends_with(": a running server takes this over within seconds\n"), "{said}");
        let (_, said) = did_to(&known(false), enable(), "").unwrap();
        assert!(said.contains("until it is restarted"), "{said}");
        let (_, said) = did(&path, disable("john"), "").unwrap();
        assert!(said.contains("otherwise restart it"), "{said}");
        let (_, said) = did(&path, disable("john"), "").unwrap();
        assert_eq!(said, "", "nothing was changed");
        let (_, said) = did(&path, Command::Password { name: "john".to_owned(), password_stdin: true }, "x").unwrap();
        assert!(said.contains("fewer than 8 characters"), "{said}");
    }

    #[test]
    fn a118_an_account_that_is_hardly_meant_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        did(&path, add("john"), "a password").unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let said = did(&path, add("JOHN"), "a password").unwrap_err();
        assert!(said.contains("only by letter case"), "{said}");
        let with_email = |email: &str| match add("new") {
            Command::Add { name, display_name, groups, password_stdin, .. } => {
                Command::Add { name, display_name, email: Some(email.to_owned()), groups, password_stdin }
            }
            other => other,
        };
        let said = did(&path, with_email("notamail"), "a password").unwrap_err();
        assert!(said.contains("is not an e-mail address"), "{said}");
        // The server would not load a file with two accounts of one address.
        let mut settings = UsersFile::named(&path).settings;
        settings.search_email = true;
        let users = UsersFile { settings, is_configured: true, new_digest: QUICK };
        let said = did_to(&users, add("new"), "a password").unwrap_err();
        assert!(said.contains("is also the name or the address of user `john`"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        for good in ["john@example.com", "j.d+x@localhost", "o'x@EXAMPLE.com", "ü@xn--bcher-kva.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "john", "@example.com", "john@", "a@b@c", "a b@c.d", "John <j@c.d>", "j@exa mple.com", "j@-"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a118_a_change_that_no_server_can_take_over_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        did(&path, add("john"), "a password").unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{good}  jane:\n    displayname: Jane\n    password: hunter2\n")).unwrap();
        let said = did(&path, disable("john"), "").unwrap_err();
        assert!(said.contains("no server can take it over") && said.contains("password of user `jane`"), "{said}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("disabled: true"), "it is made all the same");
        did(&path, Command::Password { name: "jane".to_owned(), password_stdin: true }, "a password").unwrap();
        assert!(accounts(&path).find("jane").is_some(), "and a change that mends the file is one");
    }

    #[cfg(unix)]
    #[test]
    fn a118_what_could_be_read_still_can_be_and_a_link_stays() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("users.yaml"), dir.path().join("link.yaml"));
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        did(&path, add("john"), "first").unwrap();
        assert_eq!(mode(), 0o600);
        for (n, had) in [0o644, 0o640, 0o400].into_iter().enumerate() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(had)).unwrap();
            let name = "john".to_owned();
            did(&path, if n % 2 == 0 { Command::Disable { name } } else { Command::Enable { name } }, "").unwrap();
            assert_eq!(mode(), had, "{had:o}");
        }
        std::os::unix::fs::symlink(&path, &link).unwrap();
        did(&link, Command::Enable { name: "john".to_owned() }, "").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(accounts(&path).find("john").is_some());
    }
}
