//! Reads a backup from beginning to end and, for `restore`, writes its parts into a folder. The backup is valid only
//! if every part matches the manifest at its end.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use event::limits::{BACKUP_MANIFEST_BYTES_MAX, BACKUP_PIECE_BYTES};
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Part, sum};
use super::tar::{BLOCK_BYTES, Block, Header, padding};
use super::{LOG_FOLDER, MANIFEST_NAME, MANIFEST_SUM_NAME, VERSION, VERSION_NAME, hex, is_part};

/// The reason why a backup was refused. The messages follow a text that names the backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it is not a backup of millrace")]
    NotABackup,
    #[error("it has version {0}, but this millrace reads versions up to {VERSION}; use a newer one")]
    NewerVersion(u32),
    #[error("it is cut off: the end is missing")]
    Cut,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("`{path}` cannot be written: {source}", path = path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Checks that a backup is complete and unchanged, without writing anything.
pub fn verify(source: impl Read) -> Result<Manifest, BackupError> {
    Reader { source, folder: None, parts: Vec::new() }.read()
}

/// Checks a backup and writes its parts into `folder`, which must exist and be empty. When this returns, the content
/// of the folder is on stable storage. The caller has to sync the parent folder for the folder's own name.
pub fn unpack(source: impl Read, folder: &Path) -> Result<Manifest, BackupError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Unwritable { path, source }
    };
    let log = folder.join(LOG_FOLDER);
    DirBuilder::new().mode(0o700).create(&log).map_err(unwritable(&log))?;
    let manifest = Reader { source, folder: Some(folder), parts: Vec::new() }.read()?;
    for made in [&log, folder] {
        File::open(made).and_then(|made| made.sync_all()).map_err(unwritable(made))?;
    }
    Ok(manifest)
}

struct Reader<'a, R> {
    source: R,
    folder: Option<&'a Path>,
    parts: Vec<Part>,
}

impl<R: Read> Reader<'_, R> {
    fn read(mut self) -> Result<Manifest, BackupError> {
        self.version()?;
        loop {
            let header = self.header()?.ok_or_else(|| damaged("a header is not valid"))?;
            match header.name.as_str() {
                MANIFEST_NAME => {
                    let manifest = self.manifest(&header)?;
                    self.end()?;
                    return Ok(manifest);
                }
                name if is_part(name) && self.parts.iter().all(|part| part.name != name) => {
                    self.part(header)?;
                }
                name => return Err(damaged(&format!("it contains `{name}`, which is not expected"))),
            }
        }
    }

    /// Reads the version. It comes first, so that a backup of a later version is not reported as damaged.
    fn version(&mut self) -> Result<(), BackupError> {
        let header = self.header()?.filter(|header| header.name == VERSION_NAME);
        let header = header.ok_or(BackupError::NotABackup)?;
        let text = self.read_small(&header)?;
        let version = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
        match version {
            Some(VERSION) => Ok(()),
            Some(newer) if newer > VERSION => Err(BackupError::NewerVersion(newer)),
            _ => Err(damaged("its version is not a valid number")),
        }
    }

    fn header(&mut self) -> Result<Option<Header>, BackupError> {
        let mut block: Block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        Ok(Header::parse(&block))
    }

    fn part(&mut self, header: Header) -> Result<(), BackupError> {
        let path = self.folder.map(|folder| folder.join(&header.name));
        let unwritable = |source| {
            let path = path.clone().unwrap_or_default();
            BackupError::Unwritable { path, source }
        };
        let mut file = match &path {
            Some(path) => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                Some(made.map_err(unwritable)?)
            }
            None => None,
        };
        let (mut digest, mut left, mut piece) = (Sha256::new(), header.bytes, vec![0; BACKUP_PIECE_BYTES]);
        while left > 0 {
            let piece = &mut piece[..usize::try_from(left).unwrap_or(usize::MAX).min(BACKUP_PIECE_BYTES)];
            self.fill(piece)?;
            digest.update(&*piece);
            if let Some(file) = &mut file {
                file.write_all(piece).map_err(unwritable)?;
            }
            left -= piece.len() as u64;
        }
        if let Some(file) = &file {
            file.sync_all().map_err(unwritable)?;
        }
        self.pad(header.bytes)?;
        self.parts.push(Part { name: header.name, bytes: header.bytes, sha256: hex(&digest.finalize()) });
        Ok(())
    }

    fn manifest(&mut self, header: &Header) -> Result<Manifest, BackupError> {
        let text = self.read_small(header)?;
        let matches = match self.header()?.filter(|header| header.name == MANIFEST_SUM_NAME) {
            Some(header) => self.read_small(&header)? == sum(&text).as_bytes(),
            None => false,
        };
        if !matches {
            return Err(damaged("the checksum of its manifest does not match"));
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| damaged(&format!("its manifest cannot be parsed: {error}")))?;
        for (index, part) in self.parts.iter().enumerate() {
            if manifest.parts.get(index) != Some(part) {
                return Err(damaged(&format!("`{}` does not match the manifest", part.name)));
            }
        }
        if manifest.parts.len() == self.parts.len() {
            Ok(manifest)
        } else {
            Err(damaged("parts that its manifest lists are missing"))
        }
    }

    /// Checks that exactly two blocks of zeros follow the manifest.
    fn end(&mut self) -> Result<(), BackupError> {
        let mut zeros = [0; 2 * BLOCK_BYTES];
        self.fill(&mut zeros)?;
        let more = self.source.read(&mut [0]).map_err(BackupError::Unreadable)?;
        if zeros == [0; 2 * BLOCK_BYTES] && more == 0 {
            Ok(())
        } else {
            Err(damaged("there is data after its end"))
        }
    }

    fn read_small(&mut self, header: &Header) -> Result<Vec<u8>, BackupError> {
        if header.bytes > BACKUP_MANIFEST_BYTES_MAX as u64 {
            return Err(damaged(&format!("`{}` is too large", header.name)));
        }
        let mut content = vec![0; header.bytes as usize];
        self.fill(&mut content)?;
        self.pad(header.bytes)?;
        Ok(content)
    }

    fn pad(&mut self, bytes: u64) -> Result<(), BackupError> {
        let mut zeros = [0; BLOCK_BYTES];
        let zeros = &mut zeros[..padding(bytes)];
        self.fill(zeros)?;
        if zeros.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(damaged("there is data between two parts"))
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::Cut,
            _ => BackupError::Unreadable(error),
        })
    }
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

#[cfg(test)]
mod tests {
    use event::{LogId, Millis};

    use super::*;
    use crate::backup::{Archive, STORE_NAME};

    fn backup() -> (Vec<u8>, Manifest) {
        let mut bytes = Vec::new();
        let mut archive = Archive::begin(&mut bytes, Millis(1_700_000_000_000)).expect("begins");
        let mut part = |name: &str, content: &[u8]| {
            archive.part(name.to_owned(), content.len() as u64, content).expect("written");
        };
        part(STORE_NAME, &[7; 1_000]);
        part("journal/00000000000000000000.seg", b"events");
        part("journal/durable", b"");
        let manifest = archive.finish(LogId([3; 16]), 0..9, Vec::new(), None).expect("finished");
        (bytes, manifest)
    }

    #[test]
    fn a_written_backup_is_unpacked() {
        let (bytes, manifest) = backup();
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(unpack(&bytes[..], folder.path()).expect("whole"), manifest);
        assert_eq!(verify(&bytes[..]).expect("whole"), manifest);
        assert_eq!(std::fs::read(folder.path().join(STORE_NAME)).expect("there"), [7; 1_000]);
        let segment = folder.path().join("journal/00000000000000000000.seg");
        assert_eq!(std::fs::read(segment).expect("there"), b"events");
    }

    /// `BACKUP_FIXTURE_WRITE=1` writes the fixture again. The fixture of a released version must never change.
    #[test]
    fn a_backup_of_version_1_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup_v1.tar");
        if std::env::var_os("BACKUP_FIXTURE_WRITE").is_some() {
            std::fs::write(&path, backup().0).expect("written");
        }
        let manifest = verify(File::open(&path).expect("there")).expect("whole");
        let names: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, [STORE_NAME, "journal/00000000000000000000.seg", "journal/durable"]);
        assert_eq!((manifest.begin, manifest.end, manifest.bytes()), (0, 9, 1_006));
        assert_eq!(
            (manifest.log_id, manifest.created),
            ("03".repeat(16), Millis(1_700_000_000_000).to_text())
        );
    }

    #[test]
    fn a_backup_with_a_changed_or_missing_byte_is_refused() {
        let (bytes, _) = backup();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(verify(&changed[..]).is_err(), "a changed byte at {at}");
            let cut = verify(&bytes[..at]).expect_err("cut");
            assert!(matches!(cut, BackupError::Cut), "cut at {at}: {cut}");
        }
        assert!(verify(&[&bytes[..], b"\0"].concat()[..]).is_err());
    }

    #[test]
    fn other_files_and_later_versions_are_refused_with_different_errors() {
        let archive = |name: &str, content: &[u8]| {
            let header = Header { name: name.to_owned(), bytes: content.len() as u64, time: 0 };
            [&header.to_block(), content, &vec![0; padding(content.len() as u64)]].concat()
        };
        let refused = |bytes: &[u8]| verify(bytes).expect_err("refused");
        assert!(matches!(refused(&archive("readme", b"hello")), BackupError::NotABackup));
        assert!(matches!(refused(&archive(VERSION_NAME, b"2\n")), BackupError::NewerVersion(2)));
        let outside = [archive(VERSION_NAME, b"1\n"), archive("../api-key", b"x")].concat();
        assert!(refused(&outside).to_string().contains("`../api-key`"));
    }
}
