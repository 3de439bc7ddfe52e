//! `/v1/backup`: all that this node keeps as one file, while it goes on. The store first, the log after it,
//! so that whatever the store has counted is in the log; what was removed of the log in between is kept for
//! as long as the backup takes.

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

/// Removes what a backup left that a crash cut off; what it left of the log, the log removes.
pub fn clear(data: &Path) {
    match std::fs::remove_file(data.join(SNAPSHOT_FILE)) {
        Ok(()) => tracing::info!(file = SNAPSHOT_FILE, "a backup that a crash cut off is removed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(file = SNAPSHOT_FILE, %error, "what a backup left cannot be removed"),
    }
}

/// Answers once the snapshot exists. Until then a failure is an error response; later it aborts the body.
async fn backup(_: Administrator, State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let turn = Arc::clone(&api.backups)
        .try_acquire_owned()
        .map_err(|_| ApiError::conflict("another backup is being taken".to_owned()))?;
    let (pieces, waiting) = mpsc::channel(BACKUP_PIECES_WAITING_MAX);
    let (begun, ready) = oneshot::channel();
    let pieces = Pieces { pieces, filling: Vec::new(), stopping: api.stopping.clone() };
    tokio::task::spawn_blocking(move || take(&api, turn, begun, pieces));
    ready.await.unwrap_or(Err(Refusal::Stopping.into()))?;
    let tar = HeaderValue::from_static("application/x-tar");
    Ok(([(header::CONTENT_TYPE, tar)], Body::new(BackupBody(waiting))).into_response())
}

/// Takes the backup, and gives its pieces out for as long as somebody takes them.
fn take(
    api: &Api,
    _turn: OwnedSemaphorePermit,
    begun: oneshot::Sender<Result<(), ApiError>>,
    pieces: Pieces,
) {
    let created = Millis::now();
    let wanted = || !pieces.pieces.is_closed() && !pieces.stopping.asked();
    let taken = match Taken::now(api, wanted) {
        Ok(taken) => taken,
        Err(refusal) => return drop(begun.send(Err(refusal))),
    };
    if begun.send(Ok(())).is_err() {
        return;
    }
    let broken_off = pieces.pieces.clone();
    match taken.give(pieces, created) {
        Ok(manifest) => {
            tracing::info!(
                begin = manifest.begin,
                end = manifest.end,
                bytes = manifest.bytes(),
                "a backup is taken"
            );
        }
        Err(error) => {
            tracing::warn!(%error, "a backup has broken off");
            drop(broken_off.blocking_send(Err(error)));
        }
    }
}

/// What a backup is made of; all of it goes away with this.
struct Taken {
    /// Or the name of the server that keeps it.
    store: Result<File, String>,
    positions: Vec<ViewPosition>,
    log: LogCopy,
}

impl Taken {
    fn now(api: &Api, wanted: impl Fn() -> bool) -> Result<Self, ApiError> {
        let mut tries = 0;
        let (store, positions, log) = loop {
            tries += 1;
            // What is removed of the log while the snapshot is taken may be what a view in it reads next.
            let held = api.log.hold()?;
            let (store, positions) = stored(api, &wanted)?;
            match held.up_to_now() {
                // An erasure came between: the store may not have undone what the log has no text of any more.
                Err(CopyError::Rewritten) if tries < SNAPSHOT_TRIES_MAX => {}
                log => break (store, positions, log?),
            }
        };
        let beyond = positions.iter().find(|row| row.log == log.id && row.position > log.end);
        if let Some(ViewPosition { view, position, .. }) = beyond {
            let end = log.end;
            return Err(Refusal::Unexpected(format!(
                "view `{view}` stands at {position}, beyond the log's end {end}"
            ))
            .into());
        }
        Ok(Self { store, positions, log })
    }

    fn give(self, output: impl Write, created: Millis) -> io::Result<Manifest> {
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

/// Whatever of the store belongs into the backup.
fn stored(
    api: &Api,
    wanted: impl Fn() -> bool,
) -> Result<(Result<File, String>, Vec<ViewPosition>), ApiError> {
    match api.store.elsewhere() {
        None => snapshot(api, wanted).map(|(file, positions)| (Ok(file), positions)),
        Some(name) => Ok((Err(name), api.runtime.block_on(api.store.positions())?)),
    }
}

/// The store's copy, which has no name any more and is gone with whoever reads it, crash or not.
fn snapshot(api: &Api, wanted: impl Fn() -> bool) -> Result<(File, Vec<ViewPosition>), ApiError> {
    room(api)?;
    let path = api.data.join(SNAPSHOT_FILE);
    let _named = Snapshot::begin(&path)?;
    let positions = api.store.snapshot(&path, wanted)?;
    let unreadable =
        |error: io::Error| ApiError::from(Refusal::Unexpected(format!("{}: {error}", path.display())));
    Ok((File::open(&path).map_err(unreadable)?, positions))
}

/// A snapshot must not be what makes the disk too full for events.
fn room(api: &Api) -> Result<(), ApiError> {
    let bytes = api.store.snapshot_bytes()?;
    match beyond_reserve(&api.data).is_some_and(|beyond| bytes > beyond) {
        true => Err(ApiError::NoDiskSpace { what: "a backup", bytes }),
        false => Ok(()),
    }
}

/// The snapshot's name, for as long as it needs one.
struct Snapshot(PathBuf);

impl Snapshot {
    fn begin(path: &Path) -> Result<Self, ApiError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Refusal::Unexpected(format!("{}: {error}", path.display())).into())
            }
            _ => Ok(Self(path.to_owned())),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // The next backup, and the next start, try it again.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Cuts what is written into pieces, and waits until somebody takes them, or the server stops.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    filling: Vec<u8>,
    stopping: Stop,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.filling.extend_from_slice(bytes);
        if self.filling.len() >= BACKUP_PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stopping.asked() {
            return Err(io::Error::other("the server stops"));
        }
        let piece = Bytes::from(std::mem::take(&mut self.filling));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "its client has gone");
        if piece.is_empty() { Ok(()) } else { self.pieces.blocking_send(Ok(piece)).map_err(gone) }
    }
}

/// The pieces as the body of an answer. An error among them breaks the answer off, so that no client
/// takes it for whole.
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
