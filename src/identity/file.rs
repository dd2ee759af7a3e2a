//! Accounts in a YAML file (`authentication_backend.file`).
//!
//! The file is read whole and swapped in whole: a reader sees the old accounts or the new ones, never a
//! mixture. A file that can't be understood changes nothing but the log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use ring::rand::SystemRandom;

use super::document::{Diagnosis, Document, Entry, Located};
use super::{Account, Accounts};
use crate::factor::password::{NewDigest, PasswordHash};
use crate::fault::Fault;
use crate::subject::Identity;
use crate::watch::{Look, POLL, Watch};

/// Where the accounts are and by what names they are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The users file.
    pub path: PathBuf,
    /// Whether changes to it are taken over while running.
    pub watch: bool,
    /// Whether an e-mail address is a login name (`search.email`).
    pub search_email: bool,
    /// Whether letter case is ignored in user names (`search.case_insensitive`).
    pub search_case_insensitive: bool,
}

/// The accounts of a users file, as it last was when it could be understood.
#[derive(Debug)]
pub struct FileBackend {
    settings: Settings,
    new_digest: NewDigest,
    current: RwLock<Arc<Accounts>>,
    /// The file when it was first read: what happened since is a change.
    first: Watch,
    /// Whether the file had a name when it was first read, as far as the file system tells.
    was_linked: bool,
    stale: AtomicBool,
}

impl FileBackend {
    /// Reads the file. `new_digest` says what work to do for an unknown user while there are no accounts.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, in its order.
    pub fn load(settings: Settings, new_digest: NewDigest) -> Result<FileBackend, Vec<Diagnosis>> {
        let first = Watch::new(vec![settings.path.clone()]);
        let accounts = read(&settings, new_digest)?;
        let was_linked = !is_unlinked(&settings.path);
        let current = RwLock::new(Arc::new(accounts));
        Ok(FileBackend { settings, new_digest, current, first, was_linked, stale: AtomicBool::new(false) })
    }

    /// Whether the file has changed and could not be taken over: it is gone, can't be read, is faulty, or was
    /// replaced where this process can't see it.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// The account that `login` means. A disabled account is no account.
    pub fn find(&self, login: &str) -> Option<Arc<Account>> {
        self.accounts().find(login).cloned()
    }

    /// The accounts as they are now, for several questions that must agree.
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again and takes over what it says.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; the accounts stay as they were.
    pub fn reload(&self) -> Result<(), Vec<Diagnosis>> {
        let accounts = Arc::new(read(&self.settings, self.new_digest)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = accounts;
        Ok(())
    }

    /// Takes over changes to the file from now on, if that is set, in a thread that ends with the backend.
    ///
    /// # Errors
    ///
    /// The thread can't be started.
    pub fn watch(self: &Arc<FileBackend>) -> std::io::Result<()> {
        if !self.settings.watch {
            return Ok(());
        }
        let backend: Weak<FileBackend> = Arc::downgrade(self);
        let mut watch = self.first.clone();
        std::thread::Builder::new().name("users-file".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(POLL);
                let Some(backend) = backend.upgrade() else { return };
                backend.poll(&mut watch);
            }
        })?;
        Ok(())
    }

    /// Looks once whether the file has changed, and takes over what it says.
    pub(super) fn poll(&self, watch: &mut Watch) {
        let is_stale = match watch.look() {
            Look::Nothing => return,
            Look::Missing => {
                tracing::error!(file = %self.settings.path.display(), "the users file is gone or empty; the old accounts stay");
                true
            }
            Look::Changed => self.take_over(),
        };
        self.stale.store(is_stale, Ordering::Relaxed);
    }

    /// Takes over what the file says now; answers whether it could not.
    fn take_over(&self) -> bool {
        if let Err(diagnoses) = self.reload() {
            for diagnosis in diagnoses {
                tracing::error!(%diagnosis, "the users file changed but is faulty; the old accounts stay");
            }
            return true;
        }
        if self.was_linked && is_unlinked(&self.settings.path) {
            tracing::error!(
                file = %self.settings.path.display(),
                "the users file is mounted by itself and was replaced outside: this is the old one; mount its folder"
            );
            return true;
        }
        tracing::info!(
            file = %self.settings.path.display(),
            accounts = self.accounts().len(),
            "the users file changed and was taken over"
        );
        false
    }
}

/// Whether the file that `path` leads to has no name any more. A file that is mounted by itself stays reachable
/// when another one takes its place where it came from (a container's single-file mount), and nothing else tells.
fn is_unlinked(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|file| file.nlink() == 0)
}

fn read(settings: &Settings, new_digest: NewDigest) -> Result<Accounts, Vec<Diagnosis>> {
    let path = &settings.path;
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fault = match error.kind() {
            std::io::ErrorKind::NotFound => Fault::new("the users file does not exist")
                .help(format!("Create it with `portcullis users add --file {} NAME`.", path.display())),
            _ => Fault::new(format!("the users file can't be read: {error}"))
                .help("`authentication_backend.file.path` must be a file that the server's user may read."),
        };
        vec![Diagnosis { file: path.clone(), at: None, fault }]
    })?;
    let accounts = Document::parse(&text).and_then(|document| compile(&document, settings, new_digest));
    accounts.map_err(|faults| Document::diagnose(path, faults))
}

/// Checks that a server with these settings could take over a users file with this text.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn check(text: &str, settings: &Settings, new_digest: NewDigest) -> Result<(), Vec<Located>> {
    Document::parse(text).and_then(|document| compile(&document, settings, new_digest)).map(drop)
}

/// Turns what is written into accounts, or into everything that is wrong with it.
fn compile(document: &Document, settings: &Settings, new_digest: NewDigest) -> Result<Accounts, Vec<Located>> {
    let mut faults = Vec::new();
    let mut by_name = HashMap::new();
    let mut by_email = HashMap::new();
    for entry in &document.users {
        if let Some(account) = account(entry, &mut faults)
            && !entry.is_disabled()
        {
            let account = Arc::new(account);
            if settings.search_email
                && let Some(email) = entry.text("email")
            {
                by_email.insert(email.to_lowercase(), Arc::clone(&account));
            }
            by_name.insert(entry.name.clone(), account);
        }
    }
    faults.extend(ambiguities(document, settings));
    let decoys = decoys(by_name.values(), new_digest).map_err(|fault| faults.push((None, fault))).ok();
    faults.sort_by_key(|(at, _)| *at);
    match decoys {
        Some((decoy, kinds)) if faults.is_empty() => Ok(Accounts {
            by_name,
            by_email,
            ignore_case: settings.search_case_insensitive,
            search_email: settings.search_email,
            decoy,
            kinds,
        }),
        _ => Err(faults),
    }
}

/// One account; its faults are noted, also those of a disabled one.
fn account(entry: &Entry, faults: &mut Vec<Located>) -> Option<Account> {
    let name = entry.name.escape_debug();
    let identity = Identity::new(
        &entry.name,
        entry.text("displayname").unwrap_or_default(),
        entry.list("groups"),
        entry.text("email"),
    );
    let identity = identity.map_err(|fault| faults.push((Some(entry.at), fault))).ok();
    if entry.text("displayname").is_none() {
        let fault = Fault::new(format!("user `{name}` has no `displayname`"));
        faults.push((Some(entry.position("displayname")), fault.help("Say what the person is called.")));
    }
    let Some(digest) = entry.text("password") else {
        let fault = Fault::new(format!("user `{name}` has no `password`"));
        faults.push((Some(entry.position("password")), fault.help("Make a digest with `portcullis hash-password`.")));
        return None;
    };
    let password = digest.parse::<PasswordHash>().map_err(|fault| {
        let message = format!("the password of user `{name}` can't be used: {}", fault.message);
        faults.push((Some(entry.position("password")), Fault { message, ..fault }));
    });
    Some(Account { identity: identity?, password: password.ok()? })
}

/// Login names that would mean two accounts, disabled ones included.
fn ambiguities(document: &Document, settings: &Settings) -> Vec<Located> {
    let mut faults = Vec::new();
    let mut owners: HashMap<String, &str> = HashMap::new();
    if settings.search_case_insensitive {
        for entry in document.users.iter().filter(|entry| entry.name.to_lowercase() != entry.name) {
            let fault = Fault::new(format!("user name `{}` is not in lower case", entry.name.escape_debug()));
            faults.push((
                Some(entry.at),
                fault.help("With `search.case_insensitive` every user name is written in lower case."),
            ));
        }
    }
    if settings.search_email || settings.search_case_insensitive {
        for entry in &document.users {
            owners.insert(entry.name.to_lowercase(), &entry.name);
        }
        for entry in &document.users {
            let Some(email) = entry.text("email") else { continue };
            let (at, user) = (Some(entry.position("email")), entry.name.escape_debug());
            let Some(owner) = owners.insert(email.to_lowercase(), &entry.name) else { continue };
            if owner != entry.name {
                let fault = Fault::new(format!(
                    "the e-mail address of user `{user}` is also the name or the address of user `{}`",
                    owner.escape_debug()
                ));
                faults.push((at, fault.help("A login name must mean one account: change one of them.")));
            }
        }
    }
    faults
}

/// A digest that does the work of the commonest kind, so that most names that exist and all that do not
/// take the same time; and one of each kind, if there are several.
fn decoys<'a>(
    accounts: impl Iterator<Item = &'a Arc<Account>>,
    new_digest: NewDigest,
) -> Result<(PasswordHash, Vec<(String, PasswordHash)>), Fault> {
    let mut kinds: HashMap<String, (usize, &PasswordHash)> = HashMap::new();
    for account in accounts {
        kinds.entry(account.password.work()).or_insert((0, &account.password)).0 += 1;
    }
    let random = SystemRandom::new();
    // Ties are settled by name, so that every replica picks the same.
    let decoy = match kinds.iter().max_by_key(|(work, (count, _))| (*count, *work)) {
        Some((_, (_, digest))) => digest.decoy(&random)?,
        None => new_digest.decoy(&random)?,
    };
    if kinds.len() < 2 {
        return Ok((decoy, Vec::new()));
    }
    let decoys = kinds.into_iter().map(|(work, (_, digest))| Ok((work, digest.decoy(&random)?)));
    Ok((decoy, decoys.collect::<Result<_, Fault>>()?))
}
