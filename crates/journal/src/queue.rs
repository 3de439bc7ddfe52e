//! What waits to be written. `append` encodes its frame here under a short lock and
//! gives it its position; the writer takes whole groups out.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LogId;
use crate::command::{Command, Work, WriterError};
use crate::frame::{self, FRAME_HEADER_BYTES, Frame, FrameKind, PAYLOAD_BYTES_MAX};

/// Called exactly once with the first position of what was appended, after it is
/// synced, or with the refusal. It runs on the writer's thread and must not block.
pub type Done = Box<dyn FnOnce(Result<u64, AppendError>) + Send>;

/// Why an append was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the journal's queue is full")]
    QueueFull,
    #[error("a payload of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the journal's disk is full")]
    DiskFull,
    #[error("the journal is poisoned: {reason}")]
    Poisoned { reason: String },
    #[error("the journal is closed")]
    Closed,
}

/// Empty groups kept so that their buffers need not be allocated again.
const SPARE_GROUPS_MAX: usize = 2;

pub(crate) struct Queue {
    log_id: LogId,
    group_bytes_max: usize,
    queue_bytes_max: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Held by the one whose errand it is, until it has its answer.
    asking: Mutex<()>,
}

struct State {
    groups: VecDeque<Group>,
    bytes: usize,
    next_position: u64,
    /// What every append is told once the log is poisoned or closed.
    refusal: Option<AppendError>,
    closing: Option<Closing>,
    command: Option<Command>,
    /// Appends that wait in all groups.
    waiting: usize,
    /// The writer sleeps until so many wait.
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
    /// Where its frame begins in the group.
    pub offset: usize,
    done: Done,
}

/// How the writer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Somebody asked for it: record the clean stop.
    Clean,
    /// The journal was dropped.
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
            state: Mutex::new(State {
                groups: VecDeque::new(),
                bytes: 0,
                next_position,
                refusal: None,
                closing: None,
                command: None,
                waiting: 0,
                wake_at: None,
                spare: Vec::new(),
            }),
            work: Condvar::new(),
            asking: Mutex::new(()),
        }
    }

    pub(crate) fn append(&self, payload: &[u8], count: NonZeroU32, done: Done) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return done(Err(AppendError::TooLarge { bytes: payload.len(), bytes_max: PAYLOAD_BYTES_MAX }));
        }
        // The long part of the checksum is computed before the lock.
        let checksum = frame::payload_checksum(payload);
        let mut state = self.state();
        if let Some(refusal) = state.refusal_for(payload.len(), self.queue_bytes_max) {
            drop(state);
            return done(Err(refusal));
        }
        state.push(self, payload, count, checksum, done);
        let waiting = state.waiting;
        let wake = state.wake_at.take_if(|wake_at| waiting >= *wake_at).is_some();
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// The oldest group, whose buffers come back by `recycle`.
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
        // A buffer grown by one huge payload would be held for ever.
        if state.spare.len() < SPARE_GROUPS_MAX
            && group.bytes.capacity() <= self.group_bytes_max.saturating_mul(2)
        {
            state.spare.push(group);
        }
    }

    /// Sleeps until there is something to do, or for `idle_after`.
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

    /// How many appends wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Lets a first append wait for others: until so many are there, for `time` at most, and no longer than
    /// while some come within each `pause`.
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

    /// Empties the queue; what is appended next begins at `next_position`.
    pub(crate) fn restart_at(&self, next_position: u64) -> Vec<Group> {
        let mut state = self.state();
        state.next_position = next_position;
        state.empty()
    }

    /// Empties the queue and refuses all that comes later.
    pub(crate) fn refuse_all(&self, refusal: AppendError) -> Vec<Group> {
        let mut state = self.state();
        state.refusal = Some(refusal);
        // Who waits for it finds the refusal.
        state.command = None;
        state.empty()
    }

    /// Has the writer do something besides appends, and waits until it is done.
    pub(crate) fn ask(&self, work: Work) -> Result<u64, WriterError> {
        let _turn = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
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

    pub(crate) fn take_errand(&self) -> Option<Command> {
        self.state().command.take()
    }

    /// What every append is told, once the log is poisoned or closed.
    pub(crate) fn refusal(&self) -> Option<AppendError> {
        self.state().refusal.clone()
    }

    /// No more appends; the writer ends once it has written what waits.
    pub(crate) fn close(&self, closing: Closing) {
        let mut state = self.state();
        state.refusal.get_or_insert(AppendError::Closed);
        state.closing.get_or_insert(closing);
        drop(state);
        self.work.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        // One append always finds room in an empty queue, or the largest never would.
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
        // A group is written only after the one before is synced, so what lies unsynced
        // before a frame is exactly what lies before it in its group.
        let unsynced = offset as u32;
        frame::write(&mut group.bytes, &queue.log_id, frame, unsynced, checksum);
        self.next_position =
            self.next_position.checked_add(count.get().into()).expect("positions last for ever");
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
    /// Tells everybody who waits that it is synced.
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
    /// Whatever ends the writer, nobody is left without an answer.
    fn drop(&mut self) {
        if !self.waiters.is_empty() {
            self.refuse(&AppendError::Poisoned {
                reason: "the journal's writer ended before it was synced".to_owned(),
            });
        }
    }
}

impl Waiter {
    fn answer(self, outcome: Result<u64, AppendError>) {
        let done = self.done;
        // One caller's panic must leave nobody else without an answer. The panic hook
        // has reported it already.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || done(outcome)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_append_waits_for_the_others_and_no_longer_than_told() {
        let queue = Queue::new(LogId::from_bytes([7; 16]), 0, 1 << 20, 1 << 20);
        let append = || queue.append(b"x", NonZeroU32::MIN, Box::new(|_| {}));
        append();
        let [short, long] = [Duration::from_millis(1), Duration::from_secs(60)];
        let begun = Instant::now();
        for (time, pause) in [(short, long), (long, short)] {
            queue.gather(3, time, pause);
            assert_eq!(queue.waiting(), 1, "nobody else came");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|_| append()));
            queue.gather(3, long, long);
        });
        assert!(begun.elapsed() < long, "it waits no longer than there is something to wait for");
        let group = queue.take().expect("a group waits");
        assert_eq!((group.waiters.len(), queue.waiting()), (3, 0));
    }
}
