//! Finds the files that the arguments name: files, folders, and patterns that the shell did not expand.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::cli::exit::Failure;

const EXTENSIONS: [&str; 3] = ["jsonl", "ndjson", "json"];
/// Limits how deep `**` descends, whatever links exist.
const DEPTH_MAX: usize = 64;

pub struct Targets {
    arguments: Vec<PathBuf>,
    /// The folder that sent files are moved to. Files in it are not found again.
    done: Option<PathBuf>,
}

impl Targets {
    pub fn new(arguments: &[PathBuf], done: Option<&Path>) -> Self {
        Self { arguments: arguments.to_vec(), done: done.map(Path::to_owned) }
    }

    /// Returns the canonical path of every file once, in the order of the arguments. Fails if an argument names
    /// nothing; an empty folder is not an error.
    pub fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let done = self.done.as_ref().and_then(|folder| folder.canonicalize().ok());
        let (mut seen, mut files) = (HashSet::new(), Vec::new());
        for argument in &self.arguments {
            let missing = || Failure::NotFound(format!("there is no file `{}`", argument.display()));
            if argument.is_dir() {
                fs::read_dir(argument)
                    .map_err(|error| Failure::Failed(format!("{}: {error}", argument.display())))?;
            }
            for path in self.named_by(argument).ok_or_else(missing)? {
                let path = path
                    .canonicalize()
                    .map_err(|error| Failure::NotFound(format!("{}: {error}", path.display())))?;
                // This applies to the files of folders and patterns. A file that is named itself is always sent.
                let is_done = !argument.is_file() && done.as_ref().is_some_and(|done| path.starts_with(done));
                if !is_done && seen.insert(path.clone()) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }

    /// Returns the existing files, by the paths that the arguments give. Missing files may appear later.
    pub fn present(&self) -> Vec<PathBuf> {
        self.arguments.iter().filter_map(|argument| self.named_by(argument)).flatten().collect()
    }

    pub fn bytes(&self) -> Result<u64, Failure> {
        Ok(self.files()?.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum())
    }

    /// Returns the files that one argument names, or `None` if nothing of that name exists.
    fn named_by(&self, argument: &Path) -> Option<Vec<PathBuf>> {
        if argument.is_dir() {
            let by_extension = |path: &PathBuf| {
                path.extension()
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == OsStr::new(known)))
            };
            return Some(
                children(argument).into_iter().filter(|path| path.is_file() && by_extension(path)).collect(),
            );
        }
        if argument.exists() {
            return Some(vec![argument.to_owned()]);
        }
        let parts: Vec<Component<'_>> = argument.components().collect();
        let mut found = Vec::new();
        expand(PathBuf::new(), &parts, 0, &mut found);
        found.sort();
        found.dedup();
        (!found.is_empty()).then_some(found)
    }
}

/// Returns the entries of a folder, sorted, without hidden files.
fn children(folder: &Path) -> Vec<PathBuf> {
    let folder_or_here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(folder_or_here).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut paths: Vec<PathBuf> = names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .map(|name| folder.join(name))
        .collect();
    paths.sort();
    paths
}

fn expand(at: PathBuf, parts: &[Component<'_>], depth: usize, found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else {
        if at.is_file() {
            found.push(at);
        }
        return;
    };
    let pattern = part.as_os_str().as_encoded_bytes();
    if pattern == b"**" {
        expand(at.clone(), rest, depth, found);
        let below = children(&at).into_iter().filter(|path| path.is_dir() && !path.is_symlink());
        if depth < DEPTH_MAX {
            below.for_each(|path| expand(path, parts, depth + 1, found));
        }
    } else if pattern.iter().any(|byte| matches!(byte, b'*' | b'?')) {
        for path in children(&at) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if matches(pattern, name) {
                expand(path, rest, depth, found);
            }
        }
    } else {
        let path = at.join(part);
        if path.exists() {
            expand(path, rest, depth, found);
        }
    }
}

/// Returns true if `name` matches a pattern of `*` and `?`. Backtracks only to the last `*`, so the time is at most
/// proportional to the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                // Skip one character, which may have several UTF-8 bytes.
                n += 1;
                while name.get(n).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    n += 1;
                }
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        let cases = [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.jsonl.rejected", false),
            ("a?c*", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("", "a", false),
        ];
        for (pattern, name, fits) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_and_patterns_name_files_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        for name in [
            "b.jsonl",
            "a.ndjson",
            "c.json",
            "d.txt",
            "a.jsonl.rejected",
            ".h.jsonl",
            "x/e.jsonl",
            "done/f.jsonl",
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, "").expect("written");
        }
        let names = |what: &[&str]| {
            let what: Vec<PathBuf> = what.iter().map(|what| root.join(what)).collect();
            let files = Targets::new(&what, Some(&root.join("done"))).files();
            let short = |path: PathBuf| path.strip_prefix(&root).expect("inside").display().to_string();
            files.map(|files| files.into_iter().map(short).collect::<Vec<_>>())
        };
        assert_eq!(names(&[""]), Ok(vec!["a.ndjson".into(), "b.jsonl".into(), "c.json".into()]));
        assert_eq!(names(&["*.jsonl", "b.jsonl"]), Ok(vec!["b.jsonl".into()]));
        assert_eq!(names(&["**/*.jsonl"]), Ok(vec!["b.jsonl".into(), "x/e.jsonl".into()]));
        assert_eq!(names(&["?/e.jsonl"]), Ok(vec!["x/e.jsonl".into()]));
        assert_eq!(names(&["done/*", "done"]), Ok(vec![]));
        assert_eq!(
            names(&["done/f.jsonl"]),
            Ok(vec!["done/f.jsonl".into()]),
            "a file that is named itself is sent"
        );
        assert!(matches!(names(&["*.none"]), Err(Failure::NotFound(_))));
        assert!(matches!(names(&["none.jsonl"]), Err(Failure::NotFound(_))));
    }
}
