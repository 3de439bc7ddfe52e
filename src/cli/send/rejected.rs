//! `FILE.rejected`: the lines that the server refused, with their reasons, as lines of JSON. Written
//! before the next chunk is sent, each line once, whoever writes and whatever is killed between.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub const EXTENSION: &str = "rejected";
/// How much of a source's name tells it from others at the same path.
const SOURCE_CHARS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedLine {
    pub line: u64,
    pub reason: String,
    pub text: String,
}

#[derive(Serialize, Deserialize)]
struct Written<L> {
    #[serde(flatten)]
    line: L,
    /// Other content may come to the same path: its line 1 is another line 1.
    upload: String,
}

pub struct Rejected {
    path: PathBuf,
    upload: String,
    /// The lines of this source that are written, and how far the file was read for them.
    known: HashSet<u64>,
    read_to: u64,
}

impl Rejected {
    pub fn new(file: &Path, upload: &str) -> Self {
        let mut path = file.as_os_str().to_owned();
        path.push(".");
        path.push(EXTENSION);
        let upload = upload.chars().take(SOURCE_CHARS).collect();
        Self { path: PathBuf::from(path), upload, known: HashSet::new(), read_to: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines of this source are written.
    pub fn count(&mut self) -> io::Result<u64> {
        match File::open(&self.path) {
            Ok(file) => self.read(&file).map(|_| self.known.len() as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes those lines that are not there yet; they are on stable storage when this returns.
    pub fn add(&mut self, lines: Vec<RejectedLine>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let is_new = !self.path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        // Two that send the same file write here in turn.
        file.lock()?;
        let whole = self.read(&file)?;
        if file.metadata()?.len() > whole {
            // Somebody was killed within a line.
            file.set_len(whole)?;
        }
        let mut bytes = Vec::new();
        for line in lines {
            if self.known.insert(key(&line)) {
                serde_json::to_writer(&mut bytes, &Written { line, upload: self.upload.clone() })?;
                bytes.push(b'\n');
            }
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        self.read_to = whole + bytes.len() as u64;
        match (is_new, self.path.parent()) {
            (true, Some(folder)) => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Takes in what was written since the last time; the answer is the end of the last whole line.
    fn read(&mut self, mut file: &File) -> io::Result<u64> {
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut reader = BufReader::new(Read::by_ref(&mut file));
        let mut text = Vec::new();
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text)?;
            if !text.ends_with(b"\n") {
                return Ok(self.read_to);
            }
            self.read_to += length as u64;
            // What people have written between is theirs.
            if let Ok(written) = serde_json::from_slice::<Written<RejectedLine>>(&text)
                && written.upload == self.upload
            {
                self.known.insert(key(&written.line));
            }
        }
    }
}

/// A line that was completed since is another one.
fn key(line: &RejectedLine) -> u64 {
    let mut hasher = DefaultHasher::new();
    (line.line, &line.text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, text: &str) -> RejectedLine {
        RejectedLine { line: number, reason: "is bad".to_owned(), text: text.to_owned() }
    }

    fn written(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).expect("readable");
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["line"].as_u64();
        text.lines().filter_map(number).collect()
    }

    #[test]
    fn each_line_is_written_once_whoever_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.jsonl");
        let (mut one, mut two) = (Rejected::new(&file, "s"), Rejected::new(&file, "s"));
        assert_eq!(one.count().expect("nothing"), 0);
        one.add(vec![line(1, "a"), line(2, "b")]).expect("written");
        two.add(vec![line(2, "b"), line(3, "c")]).expect("written");
        one.add(vec![line(3, "c"), line(3, "completed")]).expect("written");
        assert_eq!(written(one.path()), [1, 2, 3, 3]);
        let mut other = Rejected::new(&file, "t");
        assert_eq!((one.count().expect("counts"), other.count().expect("counts")), (4, 0));
        other.add(vec![line(1, "a")]).expect("written");
        assert_eq!(written(one.path()), [1, 2, 3, 3, 1]);
    }

    #[test]
    fn a_line_that_broke_off_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.jsonl");
        Rejected::new(&file, "s").add(vec![line(1, "a"), line(2, "b")]).expect("written");
        let path = folder.path().join("a.jsonl.rejected");
        let whole = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("cut");
        Rejected::new(&file, "s").add(vec![line(2, "b")]).expect("written");
        assert_eq!(std::fs::read(&path).expect("readable"), whole);
    }
}
