//! Whether files have changed since they were read.
//!
//! By polling. Notifications would be quicker, but they name a directory entry: they miss what a Kubernetes
//! ConfigMap does (a symbolic link two levels up is swapped) and what happens on the other side of a network
//! mount. A `stat` a second costs nothing. It reads no file and knows nothing of what they hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often a watched file is looked at.
pub const POLL: Duration = Duration::from_secs(1);

/// What a look at watched files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new, or nothing that has settled yet.
    Nothing,
    /// The files are to be read again.
    Changed,
    /// One of them is gone or empty, or can't be looked at. Whatever is there next counts as a change.
    Missing,
}

/// Files that are read together, and what is remembered of them between two looks.
#[derive(Clone, Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    loaded: Vec<Option<Stamp>>,
    seen: Vec<Option<Stamp>>,
}

/// What changes when a file does, whichever way it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Inode and time of the last change of any kind, permissions included, where there are such things.
    state: (u64, i64, i64),
}

impl Stamp {
    /// The file that `path` leads to now, links followed; nothing if there is none.
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let state = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let state = (0, 0, 0);
        Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), state })
    }
}

impl Watch {
    /// Looks at `files` for the first time. To be called before they are read, so that no change is missed.
    pub fn new(files: Vec<PathBuf>) -> Watch {
        let now: Vec<_> = files.iter().map(|file| Stamp::of(file).filter(|stamp| stamp.length > 0)).collect();
        Watch { files, loaded: now.clone(), seen: now }
    }

    /// Looks once.
    ///
    /// A change counts when two looks in a row agree on it, so that a file that is being written in place is
    /// not read half done, nor a key without its certificate. Each is reported once, whatever comes of it.
    pub fn look(&mut self) -> Look {
        let now: Vec<_> = self.files.iter().map(|file| Stamp::of(file).filter(|stamp| stamp.length > 0)).collect();
        let settled = now == self.seen;
        self.seen.clone_from(&now);
        if !settled || now == self.loaded {
            return Look::Nothing;
        }
        let is_missing = now.contains(&None);
        self.loaded = now;
        if is_missing { Look::Missing } else { Look::Changed }
    }

    /// Looks once, and says whether the files are to be read again. One that is gone or empty is between two states.
    pub fn has_changed(&mut self) -> bool {
        self.look() == Look::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, Watch};

    #[test]
    fn a_change_counts_once_and_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "1").unwrap();
        let mut watch = Watch::new(vec![one.clone(), other.clone()]);
        assert!(!watch.has_changed() && !watch.has_changed(), "nothing happened");
        std::fs::write(&one, "22").unwrap();
        assert!(!watch.has_changed(), "it may still be written");
        std::fs::write(&other, "22").unwrap();
        assert!(!watch.has_changed(), "the other one moved");
        assert!(watch.has_changed());
        assert!(!watch.has_changed(), "it was told");
        std::fs::remove_file(&one).unwrap();
        std::fs::write(&other, "").unwrap();
        assert!(!watch.has_changed() && !watch.has_changed(), "between two states");
        std::fs::write(&one, "333").unwrap();
        std::fs::write(&other, "333").unwrap();
        assert!(!watch.has_changed() && watch.has_changed());
    }

    #[test]
    fn a_file_that_is_gone_is_told_once_and_is_a_change_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let (file, away) = (folder.path().join("file"), folder.path().join("away"));
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        for round in 0..2 {
            std::fs::rename(&file, &away).unwrap();
            let looks = [watch.look(), watch.look(), watch.look()];
            assert_eq!(looks, [Look::Nothing, Look::Missing, Look::Nothing], "{round}");
            std::fs::rename(&away, &file).unwrap();
            assert_eq!([watch.look(), watch.look(), watch.look()], [Look::Nothing, Look::Changed, Look::Nothing]);
        }
    }

    #[test]
    fn a_link_that_is_swapped_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (link, next) = (folder.path().join("link"), folder.path().join("next"));
        for name in ["first", "second"] {
            std::fs::write(folder.path().join(name), "same").unwrap();
        }
        std::os::unix::fs::symlink("first", &link).unwrap();
        let mut watch = Watch::new(vec![link.clone()]);
        std::os::unix::fs::symlink("second", &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
        assert!(!watch.has_changed() && watch.has_changed(), "same length, another file");
    }
}
