//! `FILE.STREAM.rejected`: lists the refused lines with their reasons, one JSON object per line. Entries are written before
//! the next chunk is sent. Each line has one entry, even if several senders write or one is killed.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::uploader::UploadName;

pub const EXTENSION: &str = "rejected";
/// How many characters of an upload's name distinguish it from others at the same path.
const UPLOAD_CHARS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedLine {
    pub line: u64,
    pub reason: String,
    pub text: String,
}

#[derive(Serialize, Deserialize)]
struct RejectedEntry<L> {
    #[serde(flatten)]
    line: L,
    /// The path may get other content later, whose line 1 is another line.
    #[serde(alias = "source")]
    upload: String,
}

pub struct Rejected {
    path: PathBuf,
    upload: String,
    /// The keys of this upload's lines that have an entry.
    known: HashSet<u64>,
    /// The offset up to which the file was read.
    read_to: u64,
}

impl Rejected {
    pub fn new(file: &Path, upload: &UploadName) -> Self {
        let mut path = file.as_os_str().to_owned();
        path.push(format!(".{}.{EXTENSION}", upload.stream));
        let upload = upload.name.chars().take(UPLOAD_CHARS).collect();
        Self { path: PathBuf::from(path), upload, known: HashSet::new(), read_to: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many lines of this upload have an entry.
    pub fn count(&mut self) -> io::Result<u64> {
        match File::open(&self.path) {
            Ok(file) => self.read(&file).map(|_| self.known.len() as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes entries for the lines that have none. They are on stable storage when this returns.
    pub fn add(&mut self, lines: Vec<RejectedLine>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let is_new = !self.path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        // Several senders of the same file write in turn.
        file.lock()?;
        let whole = self.read(&file)?;
        if file.metadata()?.len() > whole {
            // A sender was killed while it wrote an entry.
            file.set_len(whole)?;
        }
        let mut bytes = Vec::new();
        for line in lines {
            if self.known.insert(key(&line)) {
                serde_json::to_writer(&mut bytes, &RejectedEntry { line, upload: self.upload.clone() })?;
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

    /// Reads the entries that were added since the last call. Returns the end of the last complete line.
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
            // Lines that people added are ignored.
            if let Ok(entry) = serde_json::from_slice::<RejectedEntry<RejectedLine>>(&text)
                && entry.upload == self.upload
            {
                self.known.insert(key(&entry.line));
            }
        }
    }
}

/// Returns the key of a line. A line that was completed later has another text, and so another key.
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

    fn rejected(file: &Path, name: &str) -> Rejected {
        let upload = UploadName { stream: "sales".to_owned(), name: name.to_owned() };
        Rejected::new(file, &upload)
    }

    fn written(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).expect("readable");
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["line"].as_u64();
        text.lines().filter_map(number).collect()
    }

    #[test]
    fn each_line_is_written_once_by_several_writers() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.jsonl");
        let (mut one, mut two) = (rejected(&file, "s"), rejected(&file, "s"));
        assert_eq!(one.count().expect("nothing"), 0);
        one.add(vec![line(1, "a"), line(2, "b")]).expect("written");
        two.add(vec![line(2, "b"), line(3, "c")]).expect("written");
        one.add(vec![line(3, "c"), line(3, "completed")]).expect("written");
        assert_eq!(written(one.path()), [1, 2, 3, 3]);
        let mut other = rejected(&file, "t");
        assert_eq!((one.count().expect("counts"), other.count().expect("counts")), (4, 0));
        other.add(vec![line(1, "a")]).expect("written");
        assert_eq!(written(one.path()), [1, 2, 3, 3, 1]);
    }

    #[test]
    fn an_incomplete_last_entry_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.jsonl");
        rejected(&file, "s").add(vec![line(1, "a"), line(2, "b")]).expect("written");
        let path = folder.path().join("a.jsonl.sales.rejected");
        let whole = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("cut");
        rejected(&file, "s").add(vec![line(2, "b")]).expect("written");
        assert_eq!(std::fs::read(&path).expect("readable"), whole);
    }
}
