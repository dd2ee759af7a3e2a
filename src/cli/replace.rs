//! Replacing a file that a server reads: it sees the old one or the new one, never half of one, and can read the
//! new one if it could read the old one.
//!
//! A new file is written beside the old one and renamed over it. It has the same owner, group, mode, access list
//! and other attributes; where they can't be kept, and somebody who could read the old one might not be able to
//! read the new one, nothing is replaced. A file that is a mount of its own can't be renamed over. It is not
//! written in place either: a crash in between would leave a part of it, in which somebody who was
//! disabled may be enabled.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

use crate::fault::Fault;

/// Puts `text` in the place of `target`, or makes the file, for its owner alone. What is worth saying about it is
/// returned.
///
/// # Errors
///
/// What keeps it from being written or from being read by whoever could; the file is then as it was.
pub fn replace(target: &Path, text: &str) -> Result<Option<String>, Fault> {
    replace_by(target, text, &|from, to| std::fs::rename(from, to))
}

/// `rename` is a parameter so that tests can have it fail as over a mount.
fn replace_by(
    target: &Path,
    text: &str,
    rename: &dyn Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<Option<String>, Fault> {
    let before = match std::fs::metadata(target) {
        Ok(before) if !before.is_file() => return Err(Fault::new("the users file is not a regular file")),
        Ok(before) => Some(before),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&error)),
    };
    let mut name = OsString::from(".");
    name.push(target.file_name().ok_or_else(|| Fault::new("the path of the users file names no file"))?);
    name.push(format!(".{}.new", std::process::id()));
    let beside = target.with_file_name(name);
    let written = write_beside(&beside, target, before.as_ref(), text).and_then(|remark| {
        rename(&beside, target).map_err(|error| failed(&error))?;
        File::open(folder_of(target)).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
        Ok(remark)
    });
    if written.is_err() {
        // It may never have been made.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The folder that a file is in.
pub fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_beside(beside: &Path, target: &Path, before: Option<&Metadata>, text: &str) -> Result<Option<String>, Fault> {
    // Nobody else's until it is known whose it is to be.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    let remark = match before {
        Some(before) => keep_access(&file, target, before)?,
        None => file.metadata().ok().filter(|made| made.uid() == 0).map(|_| {
            "the file is new, and only root may read it: give it to the user that the server runs as".to_owned()
        }),
    };
    file.sync_all().map_err(|error| failed(&error))?;
    Ok(remark)
}

/// Gives `file` the owner, group, attributes and mode of `target`, which has the metadata `before`.
fn keep_access(file: &File, target: &Path, before: &Metadata) -> Result<Option<String>, Fault> {
    let owner = |of: &Metadata| (of.uid(), of.gid());
    let mut now = file.metadata().map_err(|error| failed(&error))?;
    let mut mode = before.mode() & 0o777;
    let mut remark = None;
    if owner(before) != owner(&now) && fchown(file, Some(before.uid()), Some(before.gid())).is_err() {
        // Only root can give a file away, but members of a group can leave it to the group.
        let _ = fchown(file, None, Some(before.gid()));
        now = file.metadata().map_err(|error| failed(&error))?;
        if !is_read_as_before(mode, before.uid() == now.uid(), before.gid() == now.gid()) {
            return Err(Fault::new(
                "the users file belongs to another user or group, and the server might not be able to read it any more",
            )
            .help("Run this command as its owner, or as root."));
        }
        mode &= 0o644;
        remark = Some(format!("the file belongs to user {} and group {} now", now.uid(), now.gid()));
    }
    keep_attributes(file, target)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(|error| failed(&error))?;
    Ok(remark)
}

/// Whether everybody who could read a file with `mode` still can, and nobody else, after its owner or its group
/// may have changed.
fn is_read_as_before(mode: u32, same_owner: bool, same_group: bool) -> bool {
    let everybody = mode & 0o444 == 0o444;
    let owner_alone = mode & 0o044 == 0;
    everybody || same_owner && (same_group || owner_alone)
}

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Whether an extended attribute goes with the file: the access list, labels, and what people have noted. Not what
/// is worked out from the content, such as `security.ima`.
fn is_kept(attribute: &[u8]) -> bool {
    attribute == ACCESS_LIST
        || attribute == b"security.selinux"
        || attribute == b"security.SMACK64"
        || attribute.starts_with(b"user.")
}

fn keep_attributes(file: &File, target: &Path) -> Result<(), Fault> {
    // The most that Linux takes, for a list as for a value.
    let mut names = vec![0; 64 * 1024];
    let found = match listxattr(target, names.as_mut_slice()) {
        Ok(len) => names.get(..len).unwrap_or_default(),
        Err(Errno::NOTSUP) => &[],
        Err(error) => return Err(not_kept("attributes", error)),
    };
    let kept: Vec<&[u8]> = found.split(|&byte| byte == 0).filter(|name| is_kept(name)).collect();
    let (mut wanted, mut present) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    for name in &kept {
        let failed = |error| not_kept(&format!("attribute `{}`", String::from_utf8_lossy(name)), error);
        let len = getxattr(target, *name, wanted.as_mut_slice()).map_err(failed)?;
        let wanted = wanted.get(..len).unwrap_or_default();
        // A label may be the folder's doing and not ours to set.
        let is_there =
            fgetxattr(file, *name, present.as_mut_slice()).is_ok_and(|len| present.get(..len) == Some(wanted));
        if !is_there {
            fsetxattr(file, *name, wanted, XattrFlags::empty()).map_err(failed)?;
        }
    }
    if !kept.contains(&ACCESS_LIST) {
        // The folder may hand one down, which would let in who could not read the old file.
        match fremovexattr(file, ACCESS_LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(not_kept("access list", error)),
        }
    }
    Ok(())
}

fn not_kept(what: &str, error: Errno) -> Fault {
    Fault::new(format!("the {what} of the users file can't be kept: {}", Error::from(error)))
        .help("Run this command as the owner of the file, or as root.")
}

fn failed(error: &Error) -> Fault {
    match error.kind() {
        ErrorKind::ResourceBusy => Fault::new("the users file is mounted by itself, so it can't be replaced").help(
            "Mount the folder that it is in, as `deploy/compose.yaml` does: then a change reaches the server, too, \
             wherever it is made.",
        ),
        ErrorKind::ReadOnlyFilesystem => Fault::new("the users file can't be written: it is mounted read-only here")
            .help("Change it where it comes from, and mount its folder, not the file by itself."),
        ErrorKind::PermissionDenied => Fault::new(format!("the users file can't be written: {error}"))
            .help("Run this command as the owner of the file and its folder, or as root."),
        _ => Fault::new(format!("the users file can't be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Error;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::Path;

    use super::{Errno, XattrFlags, is_read_as_before, replace, replace_by};

    fn is_root(folder: &Path) -> bool {
        std::fs::metadata(folder).unwrap().uid() == 0
    }

    #[test]
    fn a118_mode_owner_and_group_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.yaml");
        std::fs::write(&path, "old").unwrap();
        for mode in [0o600, 0o640, 0o644, 0o660, 0o400, 0o440, 0o604] {
            if is_root(folder.path()) {
                chown(&path, Some(1234), Some(65532)).unwrap();
            }
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let before = std::fs::metadata(&path).unwrap();
            assert_eq!(replace(&path, "new").unwrap(), None);
            let after = std::fs::metadata(&path).unwrap();
            assert_ne!(before.ino(), after.ino(), "another file");
            let access = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid());
            assert_eq!(access(&before), access(&after), "{mode:o}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a118_a_file_whose_reader_might_be_locked_out_is_not_replaced() {
        #[rustfmt::skip]
        let table = [
            // because                                        mode    owner  group  replaced
            ("nothing changed",                               0o640,  true,  true,  true),
            ("everybody reads it",                            0o644,  false, false, true),
            ("the owner may not be in the group",             0o640,  false, true,  false),
            ("the group loses it",                            0o640,  true,  false, false),
            ("the group has no part in it",                   0o600,  true,  false, true),
            ("the owner loses it",                            0o600,  false, true,  false),
            ("the group was kept out, another is let in",     0o604,  true,  false, false),
        ];
        for (because, mode, owner, group, replaced) in table {
            assert_eq!(is_read_as_before(mode, owner, group), replaced, "{because}");
        }
    }

    #[test]
    fn a118_attributes_stay_and_the_folder_hands_nothing_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.yaml");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let list = |entries: &[(u16, u16, u32)]| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, rights, id) in entries {
                bytes.extend(tag.to_le_bytes());
                bytes.extend(rights.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
            bytes
        };
        const NOBODY: u32 = u32::MAX;
        // Read for user 65532 beside the owner, as `setfacl -m u:65532:r` writes it.
        let named = list(&[(1, 6, NOBODY), (2, 4, 65532), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
        let mut supported = 0;
        for (name, value) in [("user.note", b"kept".to_vec()), ("system.posix_acl_access", named.clone())] {
            match rustix::fs::setxattr(&path, name, &value, XattrFlags::empty()) {
                // Not every file system has them.
                Err(Errno::NOTSUP) => continue,
                set => set.unwrap(),
            }
            supported += 1;
            replace(&path, "new").unwrap();
            let mut found = vec![0; 256];
            let len = rustix::fs::getxattr(&path, name, found.as_mut_slice()).unwrap();
            assert_eq!(&found[..len], value, "{name}");
        }
        if supported == 2 {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "old").unwrap();
            let folder = folder.path();
            rustix::fs::setxattr(folder, "system.posix_acl_default", &named, XattrFlags::empty()).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            replace(&path, "new").unwrap();
            let inherited = rustix::fs::getxattr(&path, "system.posix_acl_access", vec![0; 256].as_mut_slice());
            assert_eq!(inherited, Err(Errno::NODATA), "the old file had none");
        }
    }

    #[test]
    fn a118_a_file_that_is_a_mount_of_its_own_is_left_alone_and_the_way_out_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.yaml");
        std::fs::write(&path, "old").unwrap();
        let fault = replace_by(&path, "new", &|_, _| Err(Error::from(Errno::BUSY))).unwrap_err();
        assert!(fault.message.contains("mounted by itself"), "{fault}");
        assert!(fault.help.as_ref().unwrap().contains("Mount the folder"), "{fault}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
        assert!(replace(folder.path(), "new").unwrap_err().message.contains("not a regular file"));
    }
}
