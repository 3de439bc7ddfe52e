//! Moves a file that was sent. It never overwrites another file, and never moves a file that was not sent.

use std::fs::{self, File, FileTimes};
use std::io::{self, ErrorKind, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// How many names are tried in the target folder.
const NAMES_MAX: u32 = 100_000;

pub enum Moved {
    To(PathBuf),
    /// The path names another file or none, or the file has grown during a copy. Nothing was removed from the path.
    NotMoved,
}

/// Moves the file that is open as `file` from `path` into `folder`. If its name exists there, it gets a number.
pub fn move_file(path: &Path, file: &File, folder: &Path) -> io::Result<Moved> {
    fs::create_dir_all(folder)?;
    if !is_same(path, file)? {
        return Ok(Moved::NotMoved);
    }
    for number in 1..NAMES_MAX {
        let target = folder.join(numbered(path, number));
        match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) if is_same(&target, file)? => {
                sync(folder)?;
                sync(path.parent().unwrap_or(Path::new("/")))?;
                return Ok(Moved::To(target));
            }
            Ok(()) => {
                // Another file replaced this one just before the move. Move it back, unless a third one is there now.
                renameat_with(CWD, &target, CWD, path, RenameFlags::NOREPLACE)?;
                return Ok(Moved::NotMoved);
            }
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) if !path.exists() => return Ok(Moved::NotMoved),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => match copy(path, file, folder, &target) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                copied => return copied,
            },
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "all numbered names exist there already"))
}

/// Copies the file to another file system, and removes the original when the copy is complete and synced.
fn copy(path: &Path, mut file: &File, folder: &Path, target: &Path) -> io::Result<Moved> {
    if target.exists() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.join(format!(".{name}.{}.part", std::process::id()));
    let copied = (|| {
        let mut copy = File::create(&partial)?;
        file.rewind()?;
        io::copy(&mut file, &mut copy)?;
        let metadata = file.metadata()?;
        copy.set_permissions(metadata.permissions())?;
        copy.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
        copy.sync_all()?;
        match renameat_with(CWD, &partial, CWD, target, RenameFlags::NOREPLACE) {
            // If the file system does not support this rename, use a link, which does not overwrite a file either.
            Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(&partial, target),
            renamed => renamed.map_err(io::Error::from),
        }
    })();
    let _ = fs::remove_file(&partial);
    copied?;
    sync(folder)?;
    // If the original has grown or was replaced meanwhile, it stays, and the next run continues with it.
    if !is_same(path, file)? || file.metadata()?.len() != fs::metadata(target)?.len() {
        return Ok(Moved::NotMoved);
    }
    fs::remove_file(path)?;
    sync(path.parent().unwrap_or(Path::new("/")))?;
    Ok(Moved::To(target.to_owned()))
}

/// Returns true if `path` names the open file `file`.
fn is_same(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((own.dev(), own.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns `a.jsonl`, `a-2.jsonl`, `a-3.jsonl` and so on.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    if number == 1 {
        return name.into();
    }
    let mut numbered = path.file_stem().unwrap_or_default().to_owned();
    numbered.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        numbered.push(".");
        numbered.push(extension);
    }
    numbered.into()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(path: &Path, file: &File, folder: &Path) -> Option<String> {
        match move_file(path, file, folder).expect("moves") {
            Moved::To(target) => target.file_name().map(|name| name.to_string_lossy().into_owned()),
            Moved::NotMoved => None,
        }
    }

    #[test]
    fn no_file_is_overwritten_and_no_other_file_is_moved() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, done) = (folder.path().join("a.jsonl"), folder.path().join("done"));
        for (content, name) in [("one", "a.jsonl"), ("two", "a-2.jsonl"), ("three", "a-3.jsonl")] {
            fs::write(&path, content).expect("written");
            let file = File::open(&path).expect("opens");
            assert_eq!(moved(&path, &file, &done).as_deref(), Some(name));
            assert_eq!(fs::read_to_string(done.join(name)).expect("moved"), content);
            assert_eq!(moved(&path, &file, &done), None);
            fs::write(&path, "another").expect("written");
            assert_eq!(moved(&path, &file, &done), None);
            assert!(path.exists());
        }
    }

    #[test]
    fn a_copy_to_another_file_system_removes_the_original() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
        fs::write(&path, "one").expect("written");
        let file = File::open(&path).expect("opens");
        assert!(matches!(copy(&path, &file, folder.path(), &target), Ok(Moved::To(_))));
        assert_eq!(fs::read_to_string(&target).expect("copied"), "one");
        assert!(!path.exists());
        fs::write(&path, "two").expect("written");
        let file = File::open(&path).expect("opens");
        let taken = copy(&path, &file, folder.path(), &target).err().map(|error| error.kind());
        assert_eq!(taken, Some(ErrorKind::AlreadyExists));
        assert_eq!(fs::read_to_string(&target).expect("kept"), "one");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2);
    }
}
