//! `/v1/backup`: all data of this node as one file, while the node runs. The store is copied first and the log after
//! it, so that the log contains all events that the store has counted. Files that the log deletes in between stay
//! readable until the backup ends.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use event::limits::{BACKUP_PIECE_BYTES, BACKUP_PIECES_WAITING_MAX, SNAPSHOT_TRIES_MAX};
use event::{Millis, Stop};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Api;
use crate::admission::Refusal;
use crate::backup::{Archive, LOG_FOLDER, Manifest, STORE_NAME, StoredPosition};
use crate::http::{Administrator, ApiError};
use crate::log::{CopyError, LogCopy, beyond_reserve};
use crate::store::ViewPosition;

const SNAPSHOT_FILE: &str = "backup.db.tmp";

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/backup", get(backup)).with_state(Arc::clone(api))
}

/// Removes the snapshot of a backup that a crash interrupted. The log removes its own files.
pub fn clear(data: &Path) {
    match std::fs::remove_file(data.join(SNAPSHOT_FILE)) {
        Ok(()) => tracing::info!(file = SNAPSHOT_FILE, "removed the snapshot of an interrupted backup"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(file = SNAPSHOT_FILE, %error, "cannot remove the snapshot of an interrupted backup");
        }
    }
}

/// Responds once the snapshot exists. Until then a failure is an error response; later it aborts the body.
async fn backup(_: Administrator, State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let permit = Arc::clone(&api.backups)
        .try_acquire_owned()
        .map_err(|_| ApiError::conflict("another backup is running".to_owned()))?;
    let (pieces, waiting) = mpsc::channel(BACKUP_PIECES_WAITING_MAX);
    let (started, ready) = oneshot::channel();
    let writer = PieceWriter { pieces, buffer: Vec::new(), stopping: api.stopping.clone() };
    tokio::task::spawn_blocking(move || run(&api, permit, started, writer));
    ready.await.unwrap_or(Err(Refusal::Stopping.into()))?;
    let tar = HeaderValue::from_static("application/x-tar");
    Ok(([(header::CONTENT_TYPE, tar)], Body::new(BackupBody(waiting))).into_response())
}

/// Takes the backup, and sends its pieces until the client disconnects.
fn run(
    api: &Api,
    _permit: OwnedSemaphorePermit,
    started: oneshot::Sender<Result<(), ApiError>>,
    writer: PieceWriter,
) {
    let created = Millis::now();
    let wanted = || !writer.pieces.is_closed() && !writer.stopping.asked();
    let parts = match BackupParts::collect(api, wanted) {
        Ok(parts) => parts,
        Err(refusal) => return drop(started.send(Err(refusal))),
    };
    if started.send(Ok(())).is_err() {
        return;
    }
    let pieces = writer.pieces.clone();
    match parts.write(writer, created) {
        Ok(manifest) => {
            tracing::info!(
                begin = manifest.begin,
                end = manifest.end,
                bytes = manifest.bytes(),
                "backup completed"
            );
        }
        Err(error) => {
            tracing::warn!(%error, "backup failed");
            drop(pieces.blocking_send(Err(error)));
        }
    }
}

/// The parts of a backup, whose files are deleted when it is dropped.
struct BackupParts {
    /// The copy of the store, or the name of the database server that has the store.
    store: Result<File, String>,
    positions: Vec<ViewPosition>,
    log: LogCopy,
}

impl BackupParts {
    fn collect(api: &Api, wanted: impl Fn() -> bool) -> Result<Self, ApiError> {
        let mut tries = 0;
        let (store, positions, log) = loop {
            tries += 1;
            // Retention may delete events that a view in the snapshot has not applied yet, so the log is pinned
            // first.
            let pinned = api.log.pin()?;
            let (store, positions) = store_part(api, &wanted)?;
            match pinned.up_to_now() {
                // An erasure ran in between: the snapshot may still contain rows of an event that the log has erased.
                Err(CopyError::Rewritten) if tries < SNAPSHOT_TRIES_MAX => {}
                log => break (store, positions, log?),
            }
        };
        let beyond = positions.iter().find(|row| row.log == log.id && row.position > log.end);
        if let Some(ViewPosition { view, position, .. }) = beyond {
            let end = log.end;
            return Err(Refusal::Unexpected(format!(
                "view `{view}` is at position {position}, but the log ends at {end}"
            ))
            .into());
        }
        Ok(Self { store, positions, log })
    }

    fn write(self, output: impl Write, created: Millis) -> io::Result<Manifest> {
        let Self { store, positions, log } = self;
        let mut archive = Archive::begin(output, created)?;
        let elsewhere = match store {
            Ok(store) => {
                archive.part(STORE_NAME.to_owned(), store.metadata()?.len(), store)?;
                None
            }
            Err(elsewhere) => Some(elsewhere),
        };
        let (id, begin, end) = (log.id, log.begin, log.end);
        let (mark_name, mark) = log.mark;
        for segment in log.segments {
            let name = format!("{LOG_FOLDER}/{}", segment.name);
            archive.part(name, segment.bytes, File::open(&segment.path)?)?;
        }
        archive.part(format!("{LOG_FOLDER}/{mark_name}"), mark.len() as u64, &mark[..])?;
        let stored = |row: ViewPosition| StoredPosition {
            view: row.view,
            log_id: row.log.to_string(),
            position: row.position,
        };
        archive.finish(id, begin..end, positions.into_iter().map(stored).collect(), elsewhere)
    }
}

/// Returns the copy of the store and the positions of its views. A store on a database server is only named.
fn store_part(
    api: &Api,
    wanted: impl Fn() -> bool,
) -> Result<(Result<File, String>, Vec<ViewPosition>), ApiError> {
    match api.store.server_name() {
        None => snapshot(api, wanted).map(|(file, positions)| (Ok(file), positions)),
        Some(name) => Ok((Err(name), api.runtime.block_on(api.store.positions())?)),
    }
}

/// Returns a copy of the store. Its name is removed at once, so that the system deletes the file when it is closed,
/// even after a crash.
fn snapshot(api: &Api, wanted: impl Fn() -> bool) -> Result<(File, Vec<ViewPosition>), ApiError> {
    check_disk_space(api)?;
    let path = api.data.join(SNAPSHOT_FILE);
    let _named = TemporaryName::new(&path)?;
    let positions = api.store.snapshot(&path, wanted)?;
    let unreadable =
        |error: io::Error| ApiError::from(Refusal::Unexpected(format!("{}: {error}", path.display())));
    Ok((File::open(&path).map_err(unreadable)?, positions))
}

/// Fails if the snapshot would use disk space that is reserved for events.
fn check_disk_space(api: &Api) -> Result<(), ApiError> {
    let bytes = api.store.snapshot_bytes()?;
    if beyond_reserve(&api.data).is_some_and(|beyond| bytes > beyond) {
        Err(ApiError::NoDiskSpace { what: "a backup", bytes })
    } else {
        Ok(())
    }
}

/// The snapshot's file name, which is removed when this is dropped.
struct TemporaryName(PathBuf);

impl TemporaryName {
    /// Removes a file that an earlier backup left at this path.
    fn new(path: &Path) -> Result<Self, ApiError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Refusal::Unexpected(format!("{}: {error}", path.display())).into())
            }
            _ => Ok(Self(path.to_owned())),
        }
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        // If this fails, the next backup or the next start removes the file.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Cuts its input into pieces and sends them. It blocks while the client is slow, and fails if the server stops.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    stopping: Stop,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BACKUP_PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stopping.asked() {
            return Err(io::Error::other("the server is shutting down"));
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has disconnected");
        if piece.is_empty() { Ok(()) } else { self.pieces.blocking_send(Ok(piece)).map_err(gone) }
    }
}

/// The pieces as the body of a response. An error among them aborts the response, so that no client takes an
/// incomplete backup for a complete one.
struct BackupBody(mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for BackupBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.get_mut().0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
