//! Writes a backup, part by part, and computes the checksums.

use std::io::{self, Read, Write};
use std::ops::Range;

use event::limits::BACKUP_PIECE_BYTES;
use event::{LogId, Millis};
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Part, StoredPosition, sum};
use super::tar::{BLOCK_BYTES, Header, padding};
use super::{MANIFEST_NAME, MANIFEST_SUM_NAME, VERSION, VERSION_NAME, hex};

/// A backup that is being written.
pub struct Archive<W> {
    output: W,
    created: Millis,
    parts: Vec<Part>,
}

impl<W: Write> Archive<W> {
    pub fn begin(output: W, created: Millis) -> io::Result<Self> {
        let mut archive = Self { output, created, parts: Vec::new() };
        archive.write_small(VERSION_NAME, format!("{VERSION}\n").as_bytes())?;
        Ok(archive)
    }

    /// Writes a part with the first `bytes` bytes of `content`. Fails if `content` has fewer.
    pub fn part(&mut self, name: String, bytes: u64, content: impl Read) -> io::Result<()> {
        self.header(&name, bytes)?;
        let mut content = content.take(bytes);
        let (mut digest, mut left, mut piece) = (Sha256::new(), bytes, vec![0; BACKUP_PIECE_BYTES]);
        while left > 0 {
            let count = match content.read(&mut piece) {
                Ok(0) => {
                    let reason = format!("`{name}` is shorter than the expected {bytes} bytes");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            digest.update(&piece[..count]);
            self.output.write_all(&piece[..count])?;
            left -= count as u64;
        }
        self.pad(bytes)?;
        self.parts.push(Part { name, bytes, sha256: hex(&digest.finalize()) });
        Ok(())
    }

    /// Writes the manifest and the end of the file.
    pub fn finish(
        mut self,
        log: LogId,
        positions: Range<u64>,
        stored: Vec<StoredPosition>,
        store_elsewhere: Option<String>,
    ) -> io::Result<Manifest> {
        let manifest = Manifest {
            version: VERSION,
            millrace: env!("CARGO_PKG_VERSION").to_owned(),
            created: self.created.to_text(),
            log_id: log.to_string(),
            begin: positions.start,
            end: positions.end,
            positions: stored,
            store_elsewhere,
            parts: std::mem::take(&mut self.parts),
        };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        self.write_small(MANIFEST_NAME, &text)?;
        self.write_small(MANIFEST_SUM_NAME, sum(&text).as_bytes())?;
        self.output.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.output.flush()?;
        Ok(manifest)
    }

    fn write_small(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.header(name, content.len() as u64)?;
        self.output.write_all(content)?;
        self.pad(content.len() as u64)
    }

    fn header(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let time = u64::try_from(self.created.0 / 1_000).unwrap_or(0);
        let header = Header { name: name.to_owned(), bytes, time };
        self.output.write_all(&header.to_block())
    }

    fn pad(&mut self, bytes: u64) -> io::Result<()> {
        self.output.write_all(&[0; BLOCK_BYTES][..padding(bytes)])
    }
}
