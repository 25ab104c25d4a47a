//! Which file a description's `program` is, and whether it may be run at all.
//!
//! An agent runs as the engine's own user and is told passwords. Its name comes from whoever may describe fence devices, so the name
//! alone must not decide: a file called `fence_x` that somebody without rights here has put anywhere, or a link of his to a shell, would be his way
//! in. Run is only what nobody but root and the engine's own user could have put there.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::device::is_agent;

/// Whoever else may write to a file: its group and everybody.
const OTHERS: u32 = 0o022;
const EVERYBODY: u32 = 0o002;
/// In a folder with this bit nobody may remove or rename what is another's (`/tmp`).
const STICKY: u32 = 0o1000;

/// The file to run: a path without any link in its folders. It keeps its own name where it is a link itself, for agents tell by the
/// name under which they are called what they are (`fence_ilo4` is `fence_ipmilan`).
///
/// # Errors
/// Why it is not run and what to do, without the program's name.
pub(super) fn find(program: &str, path: &str) -> Result<PathBuf, String> {
    if !is_agent(program) {
        return Err("is no fence agent; correct `program`".to_owned());
    }
    let given = Path::new(program);
    let found = if given.is_absolute() {
        given.to_owned()
    } else {
        let known = path.split(':').map(|folder| Path::new(folder).join(given));
        known.into_iter().find(|file| file.exists()).ok_or_else(|| {
            format!("is in none of {path}; install it on every engine, or give its absolute path")
        })?
    };
    let absent = |e: std::io::Error| {
        format!("cannot be looked up ({e}); install it on every engine, or correct `program`")
    };
    let (folder, name) = (found.parent().unwrap_or(Path::new("/")), found.file_name().unwrap_or_default());
    let called = fs::canonicalize(folder).map_err(absent)?.join(name);
    let file = fs::canonicalize(&called).map_err(absent)?;
    let metadata = fs::metadata(&file).map_err(absent)?;
    let real = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_agent(real) {
        return Err(format!(
            "is a link to {}, which is no fence agent; name the agent itself",
            file.display()
        ));
    }
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("is {}, which is no file that can be run; correct `program`", file.display()));
    }
    let us = rustix::process::geteuid().as_raw();
    for (path, metadata) in [(&called, fs::symlink_metadata(&called).map_err(absent)?), (&file, metadata)] {
        if let Some(why) = another_may_change(&metadata, us) {
            return Err(format!("is not run: {} {why}", path.display()));
        }
    }
    for folder in called.ancestors().skip(1).chain(file.ancestors().skip(1)) {
        let metadata = fs::symlink_metadata(folder).map_err(absent)?;
        if let Some(why) = another_may_change(&metadata, us) {
            return Err(format!("is not run: its folder {} {why}", folder.display()));
        }
    }
    Ok(called)
}

/// Why somebody besides root and us could have put this here, and the way out; `None` if nobody could.
fn another_may_change(metadata: &Metadata, us: u32) -> Option<String> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != us {
        return Some(format!(
            "belongs to user {owner}, who could change it; make root its owner (chown root)"
        ));
    }
    // A link has no mode of its own. A group's right to a folder is left to whoever gave it (Debian's /usr/local is of group staff).
    let (writable, remedy) = if metadata.is_symlink() {
        (false, "")
    } else if metadata.is_dir() {
        (mode & EVERYBODY != 0 && mode & STICKY == 0, "chmod o-w")
    } else {
        (mode & OTHERS != 0, "chmod go-w")
    };
    writable.then(|| {
        format!("can be written by others than its owner (mode {mode:04o}); take that away ({remedy})")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// An empty folder that only we may write to.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("halberd-program-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        mode(&folder, 0o755);
        folder.canonicalize().unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn agent(folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        fs::write(&file, "#!/bin/false\n").unwrap();
        mode(&file, 0o755);
        file
    }

    fn found(file: &Path) -> Result<PathBuf, String> {
        find(file.to_str().unwrap(), "/nonexistent")
    }

    fn refused(file: &Path, says: &str) {
        let why = found(file).unwrap_err();
        assert!(why.contains(says), "{}: {why}", file.display());
    }

    #[test]
    fn what_others_may_write_to_is_not_run() {
        let folder = folder("modes");
        let file = agent(&folder, "fence_x");
        assert_eq!(found(&file), Ok(file.clone()));
        for wrong in [0o775, 0o757, 0o777, 0o722] {
            mode(&file, wrong);
            refused(&file, &format!("(mode {wrong:04o}); take that away (chmod go-w)"));
        }
        mode(&file, 0o644);
        refused(&file, "no file that can be run");
        mode(&file, 0o700);
        for (wrong, well) in [(0o757, false), (0o777, false), (0o1777, true), (0o775, true)] {
            mode(&folder, wrong);
            match well {
                true => assert_eq!(found(&file), Ok(file.clone()), "{wrong:o}"),
                false => refused(&file, "take that away (chmod o-w)"),
            }
        }
        // Who may rename a folder farther up may put another one in its place.
        mode(&folder, 0o777);
        let deeper = folder.join("deeper");
        fs::create_dir(&deeper).unwrap();
        mode(&deeper, 0o755);
        refused(&agent(&deeper, "fence_x"), "its folder");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_run() {
        let folder = folder("owners");
        let file = agent(&folder, "fence_x");
        let us = rustix::process::geteuid().as_raw();
        let of = |path: &Path| fs::symlink_metadata(path).unwrap();
        assert_eq!(another_may_change(&of(&file), us), None);
        assert_eq!(another_may_change(&of(Path::new("/")), us.max(1)), None, "root's is everybody's");
        if us != 0 {
            let why = another_may_change(&of(&file), us + 1).unwrap();
            assert!(why.contains("belongs to user") && why.contains("chown root"), "{why}");
            return;
        }
        let somebody = Some(65_534);
        chown(&file, somebody, None).unwrap();
        refused(&file, "belongs to user 65534, who could change it; make root its owner");
        chown(&file, Some(0), None).unwrap();
        chown(&folder, somebody, None).unwrap();
        refused(&file, "its folder");
        chown(&folder, Some(0), None).unwrap();
        let link = folder.join("fence_y");
        symlink(&file, &link).unwrap();
        assert_eq!(found(&link), Ok(link.clone()));
        std::os::unix::fs::lchown(&link, somebody, None).unwrap();
        refused(&link, "fence_y belongs to user 65534");
    }

    #[test]
    fn a_link_is_followed_to_an_agent_and_nowhere_else() {
        let folder = folder("links");
        let agents = folder.join("agents");
        fs::create_dir(&agents).unwrap();
        mode(&agents, 0o755);
        let real = agent(&agents, "fence_ipmilan");
        let link = folder.join("fence_ilo4");
        symlink(&real, &link).unwrap();
        assert_eq!(found(&link), Ok(link.clone()), "called by its own name");
        mode(&agents, 0o777);
        refused(&link, "its folder");
        mode(&agents, 0o755);
        // The folders are resolved, so that nobody can turn one of them between this look and the start.
        let way = folder.join("way");
        symlink(&agents, &way).unwrap();
        assert_eq!(found(&way.join("fence_ipmilan")), Ok(real));
        let shell = folder.join("fence_shell");
        symlink("/bin/sh", &shell).unwrap();
        refused(&shell, "no fence agent; name the agent itself");
        refused(&folder.join("fence_absent"), "cannot be looked up");
        refused(Path::new("/bin/sh"), "is no fence agent");
        fs::create_dir(folder.join("fence_folder")).unwrap();
        refused(&folder.join("fence_folder"), "no file that can be run");
    }

    #[test]
    fn a_bare_name_is_looked_for_in_the_path() {
        let folder = folder("path");
        let file = agent(&folder, "fence_x");
        let path = format!("/nonexistent:{}", folder.display());
        assert_eq!(find("fence_x", &path), Ok(file));
        let why = find("fence_y", &path).unwrap_err();
        assert!(why.contains(&path) && why.contains("install it on every engine"), "{why}");
    }
}
