//! The queue of appends that are not written yet. `append` encodes a frame under a short lock and assigns its
//! position. The writer takes out whole groups.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LogId;
use crate::frame::{self, FRAME_HEADER_BYTES, Frame, FrameKind, PAYLOAD_BYTES_MAX};
use crate::writer_command::{Command, Work, WriterError};

/// The callback of an append. It is called exactly once: after the sync with the position of the first event, or
/// with the refusal. It runs on the writer's thread, or on the caller's if the append is refused at once. It must
/// not block.
pub type Done = Box<dyn FnOnce(Result<u64, AppendError>) + Send>;

/// Why an append was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the queue of the journal is full; try again later")]
    QueueFull,
    #[error("the payload has {bytes} bytes, but the limit is {bytes_max} bytes")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the disk of the journal is full; free some space")]
    DiskFull,
    #[error("the journal has failed and accepts no more appends: {reason}")]
    Poisoned { reason: String },
    #[error("the journal is closed")]
    Closed,
}

impl From<AppendError> for WriterError {
    /// Converts the refusal of all further appends. Only `Poisoned` and `Closed` are permanent refusals.
    fn from(refusal: AppendError) -> Self {
        match refusal {
            AppendError::Poisoned { reason } => Self::Poisoned { reason },
            _ => Self::Closed,
        }
    }
}

/// The number of empty groups that are kept, so that their buffers are not allocated again.
const SPARE_GROUPS_MAX: usize = 2;

pub(crate) struct Queue {
    log_id: LogId,
    group_bytes_max: usize,
    queue_bytes_max: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Held by the thread that gave a command until it has the result, so that there is one command at a time.
    command_lock: Mutex<()>,
}

#[derive(Default)]
struct State {
    groups: VecDeque<Group>,
    bytes: usize,
    next_position: u64,
    /// The answer to every append after the log was poisoned or closed.
    refusal: Option<AppendError>,
    closing: Option<Closing>,
    command: Option<Command>,
    /// The number of appends in all groups.
    waiting: usize,
    /// The number of queued appends at which a sleeping writer is woken.
    wake_at: Option<usize>,
    spare: Vec<Group>,
}

/// Frames that are written and synced together.
#[derive(Default)]
pub(crate) struct Group {
    pub bytes: Vec<u8>,
    pub waiters: Vec<Waiter>,
    pub first: u64,
    pub end: u64,
}

pub(crate) struct Waiter {
    pub position: u64,
    /// The offset of its frame in the group.
    pub offset: usize,
    done: Done,
}

/// How the writer has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// `close` was called: record the clean stop.
    Clean,
    /// The journal was dropped without `close`.
    Dropped,
}

/// Why the writer woke up.
pub(crate) enum Woken {
    Work,
    Idle,
    Closing(Closing),
}

impl Queue {
    pub(crate) fn new(
        log_id: LogId,
        next_position: u64,
        group_bytes_max: usize,
        queue_bytes_max: usize,
    ) -> Self {
        Self {
            log_id,
            group_bytes_max,
            queue_bytes_max,
            state: Mutex::new(State { next_position, ..State::default() }),
            work: Condvar::new(),
            command_lock: Mutex::new(()),
        }
    }

    pub(crate) fn append(&self, payload: &[u8], count: NonZeroU32, done: Done) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return done(Err(AppendError::TooLarge { bytes: payload.len(), bytes_max: PAYLOAD_BYTES_MAX }));
        }
        // The checksum of the payload takes long, so it is computed before the lock is taken.
        let checksum = frame::payload_checksum(payload);
        let mut state = self.state();
        if let Some(refusal) = state.refusal_for(payload.len(), self.queue_bytes_max) {
            drop(state);
            return done(Err(refusal));
        }
        let position = state.next_position;
        // Only a test acknowledges early, to prove that its checker finds the loss.
        let (done, early) = if failpoint::skips("journal.await_durable") {
            (Box::new(|_| {}) as Done, Some(done))
        } else {
            (done, None)
        };
        state.push(self, payload, count, checksum, done);
        let waiting = state.waiting;
        let wake = state.wake_at.take_if(|wake_at| waiting >= *wake_at).is_some();
        drop(state);
        if let Some(early) = early {
            early(Ok(position));
        }
        if wake {
            self.work.notify_one();
        }
    }

    /// Removes the oldest group. The caller gives its buffers back with `recycle`.
    pub(crate) fn take(&self) -> Option<Group> {
        let mut state = self.state();
        let group = state.groups.pop_front()?;
        state.bytes -= group.bytes.len();
        state.waiting -= group.waiters.len();
        Some(group)
    }

    pub(crate) fn recycle(&self, mut group: Group) {
        group.bytes.clear();
        group.waiters.clear();
        let mut state = self.state();
        // A buffer that one huge payload has grown would otherwise occupy memory until the log is closed.
        if state.spare.len() < SPARE_GROUPS_MAX
            && group.bytes.capacity() <= self.group_bytes_max.saturating_mul(2)
        {
            state.spare.push(group);
        }
    }

    /// Blocks until there is work, at most for `idle_after`.
    pub(crate) fn wait(&self, idle_after: Duration) -> Woken {
        let mut state = self.state();
        loop {
            if state.has_work() {
                return Woken::Work;
            }
            if let Some(closing) = state.closing {
                return Woken::Closing(closing);
            }
            state.wake_at = Some(1);
            let (woken, timeout) =
                self.work.wait_timeout(state, idle_after).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && !state.has_work() && state.closing.is_none() {
                state.wake_at = None;
                return Woken::Idle;
            }
        }
    }

    /// Returns the number of queued appends.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Delays the commit so that the group contains more appends. Blocks until `waiting_min` appends are queued,
    /// until the first group is full, until `time` has passed, or until no append arrives during a `pause`.
    pub(crate) fn gather(&self, waiting_min: usize, time: Duration, pause: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        let mut before = 0;
        while state.waiting < waiting_min && state.groups.len() < 2 && state.closing.is_none() {
            let left = deadline.saturating_duration_since(Instant::now()).min(pause);
            if left.is_zero() || state.waiting == before {
                break;
            }
            before = state.waiting;
            state.wake_at = Some(waiting_min);
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wake_at = None;
    }

    /// Empties the queue. The next append gets position `next_position`.
    pub(crate) fn restart_at(&self, next_position: u64) -> Vec<Group> {
        let mut state = self.state();
        state.next_position = next_position;
        state.empty()
    }

    /// Empties the queue and refuses all later appends.
    pub(crate) fn refuse_all(&self, refusal: AppendError) -> Vec<Group> {
        let mut state = self.state();
        state.refusal = Some(refusal);
        // Dropping the command wakes the thread that waits for it; that thread then returns the refusal.
        state.command = None;
        state.empty()
    }

    /// Gives a command to the writer and blocks until it is done.
    pub(crate) fn ask(&self, work: Work) -> Result<u64, WriterError> {
        let _turn = event::lock(&self.command_lock);
        let (command, answer) = Command::new(work);
        let mut state = self.state();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone().into());
        }
        state.command = Some(command);
        drop(state);
        self.work.notify_one();
        answer.recv().unwrap_or_else(|_| Err(self.refusal().unwrap_or(AppendError::Closed).into()))
    }

    pub(crate) fn take_command(&self) -> Option<Command> {
        self.state().command.take()
    }

    /// Returns the refusal of all further appends, or `None` while the log is open and not poisoned.
    pub(crate) fn refusal(&self) -> Option<AppendError> {
        self.state().refusal.clone()
    }

    /// Refuses all further appends. The writer ends after it has written the queued ones.
    pub(crate) fn close(&self, closing: Closing) {
        let mut state = self.state();
        state.refusal.get_or_insert(AppendError::Closed);
        state.closing.get_or_insert(closing);
        drop(state);
        self.work.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        event::lock(&self.state)
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.groups.is_empty() || self.command.is_some()
    }

    fn refusal_for(&self, payload_bytes: usize, queue_bytes_max: usize) -> Option<AppendError> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        // An empty queue accepts one append of any size. Otherwise the largest would never be accepted.
        let bytes = self.bytes + FRAME_HEADER_BYTES + payload_bytes;
        (bytes > queue_bytes_max && !self.groups.is_empty()).then_some(AppendError::QueueFull)
    }

    fn push(&mut self, queue: &Queue, payload: &[u8], count: NonZeroU32, checksum: u32, done: Done) {
        let bytes = FRAME_HEADER_BYTES + payload.len();
        let fits = |group: &Group| group.bytes.len() + bytes <= queue.group_bytes_max;
        if !self.groups.back().is_some_and(fits) {
            let mut group = self.spare.pop().unwrap_or_default();
            group.first = self.next_position;
            self.groups.push_back(group);
        }
        let group = self.groups.back_mut().expect("a group was just pushed");
        let frame =
            Frame { position: self.next_position, count: count.get(), kind: FrameKind::Data, payload };
        let offset = group.bytes.len();
        // A group is written only after the previous group is synced. So the unsynced bytes before a frame are
        // exactly the bytes before it in its own group.
        let unsynced = offset as u32;
        frame::write(&mut group.bytes, &queue.log_id, frame, unsynced, checksum);
        self.next_position =
            self.next_position.checked_add(count.get().into()).expect("u64 positions are never used up");
        group.end = self.next_position;
        group.waiters.push(Waiter { position: frame.position, offset, done });
        self.bytes += bytes;
        self.waiting += 1;
    }

    fn empty(&mut self) -> Vec<Group> {
        self.bytes = 0;
        self.waiting = 0;
        self.groups.drain(..).collect()
    }
}

impl Group {
    /// Acknowledges all appends of the group. It must be synced before.
    pub(crate) fn acknowledge(&mut self) {
        for waiter in self.waiters.drain(..) {
            let position = waiter.position;
            waiter.answer(Ok(position));
        }
    }

    pub(crate) fn refuse(&mut self, refusal: &AppendError) {
        for waiter in self.waiters.drain(..) {
            waiter.answer(Err(refusal.clone()));
        }
    }
}

impl Drop for Group {
    /// Refuses the appends that are still unanswered, so that every callback is called even if the writer ends early.
    fn drop(&mut self) {
        if !self.waiters.is_empty() {
            self.refuse(&AppendError::Poisoned {
                reason: "the journal's writer ended before it synced this append".to_owned(),
            });
        }
    }
}

impl Waiter {
    fn answer(self, outcome: Result<u64, AppendError>) {
        let done = self.done;
        // A panic in one callback must not stop the other appends from being answered. The panic hook has already
        // reported it.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || done(outcome)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_append_waits_for_others_but_not_longer_than_allowed() {
        let queue = Queue::new(LogId([7; 16]), 0, 1 << 20, 1 << 20);
        let append = || queue.append(b"x", NonZeroU32::MIN, Box::new(|_| {}));
        append();
        let [short, long] = [Duration::from_millis(1), Duration::from_secs(60)];
        let begun = Instant::now();
        for (time, pause) in [(short, long), (long, short)] {
            queue.gather(3, time, pause);
            assert_eq!(queue.waiting(), 1, "no other append arrived");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|_| append()));
            queue.gather(3, long, long);
        });
        assert!(begun.elapsed() < long, "it stops waiting when the expected appends are queued");
        let group = queue.take().expect("a group waits");
        assert_eq!((group.waiters.len(), queue.waiting()), (3, 0));
    }
}
