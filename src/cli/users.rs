//! `portcullis users …`: the accounts of a users file.
//!
//! A change rewrites the file whole, beside it and then in its place, so that a server that watches it sees
//! the old one or the new one. Every key is kept; comments are not, and that is said.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;

use super::password_input::Ask;
use crate::factor::password::{NewDigest, PasswordHash};
use crate::fault::Fault;
use crate::identity::document::{Diagnosis, Document, Entry};
use crate::subject::Identity;

/// What may be said to `users`.
#[derive(Debug, clap::Args)]
pub struct UsersArgs {
    /// The users file, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH", global = true)]
    pub file: Option<PathBuf>,
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

/// Does `command` to the users file at `path`. New digests are made as `new_digest` says, of the password
/// that `ask` gives. What was asked for goes to `out`, remarks to `remarks`.
///
/// # Errors
///
/// Everything that is wrong with the file, or what could not be done to it; it is then as it was.
pub fn run(
    command: &Command,
    path: &Path,
    new_digest: NewDigest,
    ask: Ask<'_>,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<(), Vec<Diagnosis>> {
    let told = |fault| vec![Diagnosis { file: path.to_owned(), at: None, fault }];
    if let Command::List = command {
        let (_, document) = read(path)?;
        return list(&document, out).map_err(|error| told(Fault::new(format!("can't print the accounts: {error}"))));
    }
    // A link is followed, so that the file it leads to is replaced and not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let digest = match command {
        Command::Add { .. } | Command::Password { .. } => {
            // Before the password is asked for, so that nobody types one in vain.
            prepare(command, path)?;
            let password = ask().map_err(told)?;
            new_digest.hash(password.expose().as_bytes(), &SystemRandom::new()).map_err(told)?
        }
        _ => String::new(),
    };
    let _one_at_a_time = lock(&target);
    let (text, mut document) = prepare(command, path)?;
    change(&mut document, command, digest).map_err(told)?;
    replace(&target, &document.render()).map_err(told)?;
    if text.lines().any(|line| line.trim_start().starts_with('#') || line.contains(" #")) {
        // The file is written; that a remark about it can't be is no failure.
        let _ = writeln!(remarks, "{}: comments are not kept when the file is rewritten", path.display());
    }
    Ok(())
}

/// The file as it is, for `command` to change; `add` is content with none.
fn prepare(command: &Command, path: &Path) -> Result<(String, Document), Vec<Diagnosis>> {
    let told = |fault| vec![Diagnosis { file: path.to_owned(), at: None, fault }];
    let makes_one = matches!(command, Command::Add { .. });
    let (text, mut document) = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && makes_one => (String::new(), Document::default()),
        Ok(text) if makes_one && names_nobody(&text) => (text, Document::default()),
        _ => read(path)?,
    };
    let (Command::Add { name, .. }
    | Command::Password { name, .. }
    | Command::Disable { name }
    | Command::Enable { name }
    | Command::Remove { name }) = command
    else {
        return Ok((text, document));
    };
    match (document.find_mut(name).is_some(), command) {
        (true, Command::Add { .. }) => Err(told(
            Fault::new(format!("there is a user {name:?} already"))
                .help("Set the password with `portcullis users password`, or choose another name."),
        )),
        (false, Command::Add { display_name, email, groups, .. }) => {
            let groups = groups.iter().map(String::as_str);
            let account = Identity::new(name, display_name.as_deref().unwrap_or(name), groups, email.as_deref());
            account.map(|_| (text, document)).map_err(told)
        }
        (true, _) => Ok((text, document)),
        (false, _) => Err(told(
            Fault::new(format!("there is no user {name:?}")).help("`portcullis users list` prints those there are."),
        )),
    }
}

/// Whether this is a users file that nobody has been written into yet.
fn names_nobody(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || matches!(line, "---" | "users:"))
}

fn change(document: &mut Document, command: &Command, digest: String) -> Result<(), Fault> {
    match command {
        Command::Add { name, display_name, email, groups, .. } => {
            let mut user = Entry::new(name);
            user.set("displayname", display_name.as_deref().unwrap_or(name));
            user.set("password", digest);
            if let Some(email) = email {
                user.set("email", email.as_str());
            }
            if !groups.is_empty() {
                user.set("groups", groups.clone());
            }
            document.users.push(user);
        }
        Command::Password { name, .. } => set(document, name, "password", digest),
        Command::Disable { name } => set(document, name, "disabled", true),
        Command::Enable { name } => set(document, name, "disabled", false),
        Command::Remove { name } => document.users.retain(|user| user.name != *name),
        Command::List => {}
    }
    Ok(())
}

fn set(document: &mut Document, name: &str, key: &str, value: impl Into<serde_json::Value>) {
    if let Some(user) = document.find_mut(name) {
        user.set(key, value);
    }
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

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts `text` in the place of `target` in one step: a new file beside it, readable by its owner alone,
/// written to the disk and then renamed.
fn replace(target: &Path, text: &str) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::new(format!("the users file can't be written: {error}"));
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().ok_or_else(|| Fault::new("the path of the users file names no file"))?);
    name.push(format!(".{}.new", std::process::id()));
    let beside = target.with_file_name(name);
    let written = write_beside(&beside, target, text)
        .and_then(|()| std::fs::rename(&beside, target).map_err(failed))
        .and_then(|()| File::open(folder_of(target)).and_then(|folder| folder.sync_all()).map_err(failed));
    if written.is_err() {
        // It may never have been made.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_beside(beside: &Path, target: &Path, text: &str) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::new(format!("the users file can't be written: {error}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let before = std::fs::metadata(target).ok();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        options.mode(before.as_ref().map_or(0o600, |before| before.mode() & 0o600));
    }
    let mut file = options.open(beside).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let now = file.metadata().map_err(failed)?;
        // A file of root's that only its owner may read would lock the server out.
        if let Some(before) = &before
            && (before.uid(), before.gid()) != (now.uid(), now.gid())
        {
            fchown(&file, Some(before.uid()), Some(before.gid())).map_err(|_| {
                Fault::new("the users file belongs to another user or group")
                    .help("Run this command as its owner, or as root.")
            })?;
        }
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Command, run};
    use crate::factor::password::{NewDigest, Sha2CryptVariant};
    use crate::identity::file::{FileBackend, Settings};
    use crate::secret::Secret;

    const QUICK: NewDigest = NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha256, iterations: 1000 };

    /// Runs a command with `password`; what it printed and what it remarked, or its first fault.
    fn did(path: &Path, command: Command, password: &str) -> Result<(String, String), String> {
        let (mut out, mut remarks) = (Vec::new(), Vec::new());
        let ask = || Ok(Secret::new(password.to_owned()));
        run(&command, path, QUICK, &ask, &mut out, &mut remarks)
            .map_err(|diagnoses| diagnoses.first().unwrap().to_string())?;
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

    #[test]
    fn lost_comments_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        did(&path, add("john"), "first").unwrap();
        let (_, quiet) = did(&path, Command::Disable { name: "john".to_owned() }, "").unwrap();
        assert_eq!(quiet, "");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# the team\n{text}")).unwrap();
        let (_, remark) = did(&path, Command::Enable { name: "john".to_owned() }, "").unwrap();
        assert!(remark.contains("comments are not kept"), "{remark}");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone_and_a_link_stays() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("users.yaml"), dir.path().join("link.yaml"));
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        did(&path, add("john"), "first").unwrap();
        assert_eq!(mode(), 0o600);
        for (had, has) in [(0o644, 0o600), (0o400, 0o400)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(had)).unwrap();
            did(&path, Command::Disable { name: "john".to_owned() }, "").unwrap();
            assert_eq!(mode(), has, "{had:o}");
        }
        std::os::unix::fs::symlink(&path, &link).unwrap();
        did(&link, Command::Enable { name: "john".to_owned() }, "").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(accounts(&path).find("john").is_some());
    }
}
