//! The ages of events, measured by the log's own clock. That clock counts the time while the server runs, and the
//! time between two runs if the system clock gives a plausible difference. So a wrong system clock makes no event
//! old. The end of the log is noted at intervals: events below a noted end are at least as old as the note.
//!
//! A *jump* is a change of the system clock that does not agree with the time that has passed.
//!
//! The file `log-ages.json` in the data folder keeps this data over a restart. Without the file, ages are estimated
//! from the times at which events were received.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use event::limits::{
    AGE_GAP_MAX, AGE_HOLD_DURATION, AGE_JUMPS_MAX, AGE_NOTE_INTERVAL, AGE_SAVE_INTERVAL, AGE_STEP_MAX,
    CONFIGURED_DURATION_MAX,
};
use event::{LogId, Millis};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The precision of ages: an age is exact to one part in 128.
const NOTES_PER_AGE: u64 = 128;
/// How often the clocks are compared.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The ages of one log's events. Clones share them.
#[derive(Clone)]
pub struct Ages(Arc<Shared>);

struct Shared {
    /// `None` for ages with a fixed time, as tests use them.
    file: Option<PathBuf>,
    current: Mutex<Current>,
    /// Locked while the file is written.
    saving: Mutex<()>,
}

struct Current {
    state: State,
    /// The time since the machine's boot at which the state was last updated.
    updated: Duration,
    /// True if the clock has jumped since the file was last written.
    jumped: bool,
}

/// The content of the file. All times are milliseconds. Those of the system clock are marked; all others are times
/// of the log's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    log: String,
    now: u64,
    /// The time of the system clock at `now`.
    clock: i64,
    /// Until this time no event is treated as old.
    held_until: u64,
    /// By how much the system clock went back in total. A jump ahead that only makes up for it does not count as
    /// age.
    #[serde(default)]
    behind: u64,
    /// The times and sizes of the jumps of the system clock, whether they counted as age or not.
    #[serde(rename = "leaps")]
    jumps: Vec<(u64, i64)>,
    /// The noted ends of the log, each with its time.
    ends: Vec<(u64, u64)>,
    /// Streams of which retention has erased events in the middle of the log.
    #[serde(default, rename = "given_up")]
    deleted_streams: BTreeSet<String>,
}

impl Ages {
    /// Reads the ages of a log from its data folder. `ends` returns ends of the log with the times of their events,
    /// in order; it is called only if the file is missing or not usable.
    pub fn open(data: &Path, log: LogId, end: u64, ends: impl FnOnce() -> Vec<(Millis, u64)>) -> Self {
        let file = data.join("log-ages.json");
        let now = Millis::now();
        let mut state = match read(&file, log) {
            Some(state) => state,
            None => State::of_received(log, &ends(), now),
        };
        // An older copy of the log may have been restored.
        state.ends.retain(|(_, noted)| *noted <= end);
        state.start(now).into_iter().for_each(report_jump);
        state.note(end);
        let current = Mutex::new(Current { state, updated: since_boot(), jumped: false });
        let ages = Self(Arc::new(Shared { file: Some(file), current, saving: Mutex::default() }));
        ages.save();
        ages
    }

    /// Returns the ages at a fixed time `now` for these noted ends.
    pub fn noted(now: Millis, ends: &[(Millis, u64)]) -> Self {
        let mut state = State::beginning(LogId([0; 16]), now);
        state.ends = ends.iter().map(|(at, end)| (at.0.unsigned_abs(), *end)).collect();
        state.now = now.0.unsigned_abs();
        let current = Mutex::new(Current { state, updated: since_boot(), jumped: false });
        Self(Arc::new(Shared { file: None, current, saving: Mutex::default() }))
    }

    /// Starts a thread that compares the clocks and notes the log's end at intervals, until the log is closed.
    pub fn keep_current(&self, end: watch::Receiver<u64>) -> std::io::Result<()> {
        let shared = Arc::downgrade(&self.0);
        event::start_thread("log-ages", move || keep_current(&shared, &end)).map(drop)
    }

    /// Returns a position below which every event is older than `age`.
    pub fn end_older_than(&self, age: Duration) -> u64 {
        self.current().state.end_older_than(age)
    }

    /// Returns for how long no event will be treated as old because the system clock has jumped, or `None`.
    pub fn hold_remaining(&self) -> Option<Duration> {
        let current = self.current();
        let left = current.state.held_until.saturating_sub(current.state.now);
        (left > 0).then_some(Duration::from_millis(left))
    }

    /// Returns by how much the system clock has jumped ahead since `span` before the event at `position` was
    /// received. The result may be slightly larger. It includes stops of the server, because they look like a jump.
    pub fn jumped_ahead_since(&self, position: u64, span: Duration) -> Duration {
        self.current().state.jumped_ahead_since(position, span)
    }

    /// Returns the streams of which retention has erased events in the middle of the log.
    pub fn streams_with_deletions(&self) -> BTreeSet<String> {
        self.current().state.deleted_streams.clone()
    }

    /// Records durably that retention erases events of a stream. Blocks.
    pub fn note_deletion(&self, stream: &str) -> std::io::Result<()> {
        if !self.current().state.deleted_streams.insert(stream.to_owned()) {
            return Ok(());
        }
        let saved = self.try_save();
        if saved.is_err() {
            self.current().state.deleted_streams.remove(stream);
        }
        saved
    }

    /// Writes the file. If that fails, the old file stays, and ages are slightly too low after a restart.
    pub fn save(&self) {
        if let Err(error) = self.try_save() {
            tracing::debug!(%error, "`log-ages.json` could not be written; millrace tries again later");
        }
    }

    fn try_save(&self) -> std::io::Result<()> {
        let Some(file) = &self.0.file else { return Ok(()) };
        let _saving = event::lock(&self.0.saving);
        let state = self.current().state.clone();
        write(file, &state)
    }

    /// Returns the state, updated to this moment, so that no caller misses a jump that has just happened.
    fn current(&self) -> MutexGuard<'_, Current> {
        let mut current = event::lock(&self.0.current);
        if self.0.file.is_some() {
            let now = since_boot();
            let passed = now.saturating_sub(current.updated);
            current.updated = now;
            if let Some(jump) = current.state.run(Millis::now(), passed) {
                current.jumped = true;
                report_jump(jump);
            }
        }
        current
    }
}

fn keep_current(shared: &Weak<Shared>, end: &watch::Receiver<u64>) {
    let mut saved = since_boot();
    // The log has the sender of `end`, so an error means that the log is closed.
    while end.has_changed().is_ok()
        && let Some(ages) = shared.upgrade().map(Ages)
    {
        let jumped = {
            let mut current = ages.current();
            current.state.note(*end.borrow());
            std::mem::take(&mut current.jumped)
        };
        // A jump is saved immediately, so that the next start knows it even after a kill.
        if jumped || since_boot().saturating_sub(saved) >= AGE_SAVE_INTERVAL {
            ages.save();
            saved = since_boot();
        }
        drop(ages);
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Returns the time since the machine's boot. On Linux it includes the time during which the machine was suspended.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn report_jump(jump: i64) {
    let hours = jump / 3_600_000;
    tracing::warn!(
        hours,
        "the system clock jumped, or the server was stopped for more than 3 days: this time does not count as age, and retention deletes nothing for a day"
    );
}

fn read(file: &Path, log: LogId) -> Option<State> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        text => text.map_err(|error| error.to_string()),
    };
    let state = text.and_then(|text| serde_json::from_str::<State>(&text).map_err(|error| error.to_string()));
    match state {
        Ok(state) => (state.log == log.to_string() && state.is_sorted()).then_some(state),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the ages of the log's events cannot be read; they are estimated from the events");
            None
        }
    }
}

/// Replaces the file atomically: after a crash there is either the old file or the new one.
fn write(file: &Path, state: &State) -> std::io::Result<()> {
    let unfinished = file.with_extension("json.tmp");
    let mut open = std::fs::File::create(&unfinished)?;
    std::io::Write::write_all(&mut open, serde_json::to_string(state)?.as_bytes())?;
    open.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    match file.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl State {
    fn beginning(log: LogId, now: Millis) -> Self {
        let (jumps, ends, deleted_streams) = (Vec::new(), Vec::new(), BTreeSet::new());
        let log = log.to_string();
        Self { log, now: 0, clock: now.0, held_until: 0, behind: 0, jumps, ends, deleted_streams }
    }

    fn is_sorted(&self) -> bool {
        let times = self.ends.iter().map(|(at, _)| *at).chain([self.now]);
        times.is_sorted() && self.ends.iter().map(|(_, end)| *end).is_sorted()
    }

    /// Estimates ages from the times at which events were received. Times in the future are ignored. The log's clock
    /// continues at the last of these times; `start` then decides whether the time since then is plausible.
    fn of_received(log: LogId, ends: &[(Millis, u64)], now: Millis) -> Self {
        let mut state = Self::beginning(log, now);
        let mut latest = i64::MIN;
        for (time, end) in ends.iter().filter(|(time, _)| (0..=now.0).contains(&time.0)) {
            // Events below `end` were received before this time, unless the clock ran backwards.
            latest = latest.max(time.0);
            state.ends.push((latest.unsigned_abs(), *end));
        }
        if let Some((last, _)) = state.ends.last() {
            (state.now, state.clock) = (*last, latest);
        }
        state
    }

    /// Continues after a restart. Returns the jump of the clock if it does not count as age.
    fn start(&mut self, clock: Millis) -> Option<i64> {
        self.advance(clock, Duration::ZERO, 0)
    }

    /// Continues after the time `passed`. Returns the jump of the clock if it does not count as age. A step of less
    /// than an hour never counts, because `passed` is known exactly.
    fn run(&mut self, clock: Millis, passed: Duration) -> Option<i64> {
        self.advance(clock, passed, millis(AGE_STEP_MAX).unsigned_abs())
    }

    /// Adds `passed` and decides whether a jump counts as age. A plausible jump ahead of at least `counted_min`
    /// counts. Its cause is either a stop of the server, or a machine without a clock battery that has learned the
    /// time after its start.
    fn advance(&mut self, clock: Millis, passed: Duration, counted_min: u64) -> Option<i64> {
        let passed = millis(passed);
        let jump = clock.0.saturating_sub(self.clock).saturating_sub(passed);
        self.clock = clock.0;
        self.now += passed.unsigned_abs();
        let plausible = jump.abs() <= millis(AGE_GAP_MAX);
        if plausible {
            let ahead = jump.max(0).unsigned_abs();
            let made_up = self.behind.min(ahead);
            self.behind = self.behind - made_up + jump.min(0).unsigned_abs();
            if ahead - made_up >= counted_min {
                // The jump must not shorten a hold.
                self.held_until += if self.held_until > self.now { ahead - made_up } else { 0 };
                self.now += ahead - made_up;
            }
        } else {
            self.behind = 0;
        }
        let step = millis(AGE_STEP_MAX);
        if jump.abs() > step {
            self.jumps.push((self.now, jump));
            let over = self.jumps.len().saturating_sub(AGE_JUMPS_MAX);
            self.jumps.drain(..over);
        }
        if jump < -step || !plausible {
            self.held_until = self.now + millis(AGE_HOLD_DURATION).unsigned_abs();
            return Some(jump);
        }
        None
    }

    fn note(&mut self, end: u64) {
        let due = match self.ends.last() {
            Some((at, noted)) => *noted < end && self.now - at >= millis(AGE_NOTE_INTERVAL).unsigned_abs(),
            None => true,
        };
        if due {
            self.ends.push((self.now, end));
            self.thin();
        }
    }

    /// Removes notes whose neighbours are close together in relation to their age. For old events a precision of days
    /// is enough.
    fn thin(&mut self) {
        let mut kept: Vec<(u64, u64)> = Vec::with_capacity(self.ends.len());
        for (index, (at, end)) in self.ends.iter().enumerate() {
            let neighbours = kept.last().zip(self.ends.get(index + 1));
            let apart = neighbours.map(|((before, _), (after, _))| after - before);
            if apart.is_none_or(|apart| apart > (self.now - at) / NOTES_PER_AGE) {
                kept.push((*at, *end));
            }
        }
        self.ends = kept;
    }

    fn end_older_than(&self, age: Duration) -> u64 {
        let Some(before) = self.now.checked_sub(millis(age).unsigned_abs()) else { return 0 };
        let older = self.ends.partition_point(|(at, _)| *at < before);
        self.ends[..older].last().map_or(0, |(_, end)| *end)
    }

    fn jumped_ahead_since(&self, position: u64, span: Duration) -> Duration {
        let received = self.ends.iter().rev().find(|(_, end)| *end <= position).map_or(0, |(at, _)| *at);
        let since = received.saturating_sub(millis(span).unsigned_abs());
        let ahead = self.jumps.iter().filter(|(at, jump)| *at >= since && *jump > 0);
        let sum = ahead.map(|(_, jump)| jump.unsigned_abs()).fold(0, u64::saturating_add);
        Duration::from_millis(sum).min(CONFIGURED_DURATION_MAX)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    const BEGUN: i64 = 20_000 * DAY;

    fn days(days: i64) -> Duration {
        Duration::from_millis((days * DAY).unsigned_abs())
    }

    fn new() -> State {
        let mut state = State::beginning(LogId([7; 16]), Millis(BEGUN));
        assert_eq!(state.start(Millis(BEGUN)), None);
        state.note(0);
        state
    }

    /// Runs for `hours` with one event per hour. The system clock starts at `clock`.
    fn run(state: &mut State, clock: i64, hours: i64) {
        for hour in 1..=hours {
            let end = state.ends.last().map_or(0, |(_, end)| *end) + 1;
            assert_eq!(state.run(Millis(clock + hour * HOUR), Duration::from_secs(3600)), None);
            state.note(end);
        }
    }

    #[test]
    fn events_are_as_old_as_the_time_since_they_were_appended() {
        let mut state = new();
        run(&mut state, BEGUN, 30 * 24);
        assert_eq!(state.end_older_than(days(31)), 0);
        let of_ten_days = state.end_older_than(days(10));
        assert!((468..480).contains(&of_ten_days), "{of_ten_days} of 720 events, one per hour");
        assert_eq!(state.end_older_than(Duration::ZERO), 719, "the last event has no age yet");
    }

    #[test]
    fn a_wrong_clock_at_repeated_starts_makes_no_event_old() {
        for wrong in [400 * DAY, -400 * DAY, 4 * DAY, 73 * HOUR, -2 * HOUR] {
            let mut state = new();
            run(&mut state, BEGUN, 10);
            let clock = BEGUN + 10 * HOUR + wrong;
            assert_eq!(state.start(Millis(clock)), Some(wrong));
            assert!(state.held_until > state.now);
            // Further starts see no jump, and the first jump has made no event old.
            for _ in 0..5 {
                assert_eq!(state.start(Millis(clock)), None);
                assert_eq!(state.end_older_than(days(1)), 0);
            }
            assert!(state.held_until > state.now, "the hold lasts for a day, over all restarts");
            run(&mut state, clock, 25);
            assert!(state.held_until <= state.now);
            assert_eq!(state.end_older_than(days(2)), 0);
            // Correcting the clock is a jump as well, unless it only makes up for two hours.
            let jump = state.start(Millis(clock + 25 * HOUR - wrong));
            assert_eq!(jump.is_some(), wrong != -2 * HOUR, "{wrong}");
            // After that, a stop over a weekend counts as age.
            let before = state.now;
            assert_eq!(state.start(Millis(clock + 25 * HOUR - wrong + 2 * DAY)), None);
            assert_eq!(state.now - before, (2 * DAY) as u64, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_jumps_while_the_server_runs_makes_no_event_old() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let jumped = Millis(BEGUN + 400 * DAY);
        assert_eq!(state.run(jumped, Duration::from_secs(1)), Some(400 * DAY - 10 * HOUR - 1_000));
        assert_eq!(state.end_older_than(days(1)), 0);
        assert!(state.held_until - state.now == days(1).as_millis() as u64);
    }

    #[test]
    fn a_stop_over_a_weekend_counts_as_age_and_two_weeks_do_not() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 63 * HOUR)), None);
        assert_eq!((state.end_older_than(days(2)), state.held_until), (1, 0));
        assert!(state.start(Millis(BEGUN + 63 * HOUR + 14 * DAY)).is_some());
        assert_eq!(state.end_older_than(days(3)), 0);
        assert!(AGE_GAP_MAX < event::limits::RETENTION_DURATION_MIN);
    }

    #[test]
    fn a_stop_of_hours_counts_as_age_and_a_small_step_of_the_clock_is_not_a_jump() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 20 * HOUR)), None);
        assert_eq!(state.end_older_than(Duration::from_secs(18 * 3600)), 1);
        assert_eq!(state.run(Millis(BEGUN + 20 * HOUR - 30 * 60_000), Duration::from_secs(1)), None);
        assert_eq!(state.held_until, 0);
    }

    #[test]
    fn a_clock_that_is_corrected_after_the_start_counts_the_time_that_the_machine_was_off() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + HOUR)), None);
        assert_eq!(state.run(Millis(BEGUN + 13 * HOUR), Duration::from_secs(5)), None);
        assert_eq!((state.end_older_than(Duration::from_secs(11 * 3600)), state.held_until), (1, 0));
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_makes_no_event_old_and_keeps_a_hold() {
        for step in [2 * HOUR, 2 * DAY, 400 * DAY] {
            let makes_up = step <= AGE_GAP_MAX.as_millis() as i64;
            let mut state = new();
            run(&mut state, BEGUN, 1);
            let second = Duration::from_secs(1);
            let mut clock = BEGUN + HOUR;
            for round in 1..=100 {
                clock += 1_000 - step;
                assert_eq!(state.run(Millis(clock), second), Some(-step), "{round}");
                clock += 1_000 + step;
                assert_eq!(state.run(Millis(clock), second).is_none(), makes_up, "{round}");
                assert!(state.held_until > state.now);
                assert_eq!(
                    state.jumped_ahead_since(1, days(7)),
                    Duration::from_millis(step as u64) * round.min(32)
                );
            }
            assert_eq!(state.now, (HOUR + 200_000) as u64, "{step}");
            // A start does not count a jump either if it only makes up for a step back.
            state.run(Millis(clock - step), Duration::ZERO);
            assert_eq!(state.start(Millis(clock)).is_none(), makes_up);
            assert_eq!(state.now, (HOUR + 200_000) as u64, "{step}");
        }
    }

    #[test]
    fn a_jump_that_counts_as_age_keeps_ids_longer_and_does_not_shorten_a_hold() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        let clock = BEGUN + HOUR + 5 * DAY;
        assert_eq!(state.start(Millis(clock)), Some(5 * DAY));
        let held = state.held_until - state.now;
        assert_eq!(state.run(Millis(clock + 2 * DAY), Duration::ZERO), None);
        assert_eq!(state.held_until - state.now, held);
        assert_eq!(state.jumped_ahead_since(1, days(7)), days(7));
    }

    #[test]
    fn a_jump_ahead_is_reported_for_events_that_came_within_the_span() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let clock = BEGUN + 10 * HOUR + 400 * DAY;
        state.start(Millis(clock));
        assert_eq!(state.jumped_ahead_since(10, days(7)), days(400));
        run(&mut state, clock, 9 * 24);
        assert_eq!(state.jumped_ahead_since(10 + 9 * 24, days(7)), Duration::ZERO);
        assert_eq!(state.jumped_ahead_since(20, days(7)), days(400), "an earlier event, checked late");
        state.start(Millis(BEGUN));
        assert_eq!(state.jumped_ahead_since(300, days(7)), Duration::ZERO, "a jump back is not a jump ahead");
    }

    #[test]
    fn without_a_file_ages_are_estimated_from_the_times_received() {
        let received = [(Millis(BEGUN), 1), (Millis(BEGUN + 10 * DAY), 5), (Millis(BEGUN + 20 * DAY), 9)];
        let of = |now: i64| {
            let mut state = State::of_received(LogId([7; 16]), &received, Millis(now));
            let jump = state.start(Millis(now));
            (state, jump)
        };
        let (state, jump) = of(BEGUN + 20 * DAY + HOUR);
        assert_eq!((state.end_older_than(days(9)), jump), (5, None));
        assert_eq!(state.end_older_than(days(11)), 1);
        assert_eq!(state.end_older_than(days(21)), 0);
        let (state, jump) = of(BEGUN + 420 * DAY);
        assert_eq!((state.end_older_than(days(30)), jump), (0, Some(400 * DAY)));
        // An event that was received while the clock was ahead has a time in the future, which is ignored.
        let (state, _) = of(BEGUN + 15 * DAY);
        assert_eq!((state.end_older_than(days(4)), state.end_older_than(days(10))), (1, 0));
        assert_eq!(State::of_received(LogId([7; 16]), &[], Millis(BEGUN)).now, 0);
    }

    #[test]
    fn a_file_of_another_log_and_a_broken_file_are_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, none) = (LogId([7; 16]), Vec::new);
        let ages = Ages::open(folder.path(), log, 3, none);
        let file = folder.path().join("log-ages.json");
        let state = ages.current().state.clone();
        ages.save();
        let saved = read(&file, log).expect("a file");
        assert_eq!((&saved.log, &saved.ends), (&state.log, &state.ends));
        assert_eq!(read(&file, LogId([8; 16])), None);
        std::fs::write(&file, "{").expect("written");
        assert_eq!(read(&file, log), None);
        assert_eq!(Ages::open(folder.path(), log, 3, none).hold_remaining(), None);
    }

    proptest! {
        #[test]
        fn the_file_survives_writing_and_reading(
            now: u64, clock: i64, held_until: u64,
            jumps: Vec<(u64, i64)>, ends: Vec<(u64, u64)>, deleted_streams: BTreeSet<String>, behind: u64,
        ) {
            let (mut now, mut ends) = (now, ends);
            ends.sort_unstable();
            ends.iter_mut().fold(0, |highest, (_, end)| {
                *end = highest.max(*end);
                *end
            });
            now = ends.last().map_or(now, |(at, _)| now.max(*at));
            let log = LogId([7; 16]).to_string();
            let state = State { log, now, clock, held_until, behind, jumps, ends, deleted_streams };
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("log-ages.json");
            write(&file, &state).expect("written");
            prop_assert_eq!(read(&file, LogId([7; 16])), Some(state));
        }

        #[test]
        fn ten_years_need_few_notes_and_no_event_is_younger_than_its_age(spans in prop::collection::vec(1_u64..200, 400)) {
            let mut state = new();
            let (mut clock, mut appended) = (BEGUN, Vec::new());
            for (end, hours) in spans.iter().enumerate() {
                clock += *hours as i64 * HOUR;
                state.run(Millis(clock), Duration::from_secs(hours * 3600));
                state.note(end as u64 + 1);
                appended.push(clock);
            }
            prop_assert!(state.ends.len() < 1_500);
            for age in [1, 7, 30, 365] {
                let end = state.end_older_than(days(age)) as usize;
                prop_assert!(appended[..end].iter().all(|at| clock - at >= age * DAY));
            }
        }
    }
}
