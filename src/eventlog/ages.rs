//! How old events are, by a clock of the log's own. It counts only time that certainly passed: while the server
//! runs, and between two runs if the machine's clock says so plausibly. So a wrong clock makes no event old. The
//! log's end is noted at intervals: events below a note are at least as old as the note.
//!
//! The file `log-ages.json` in the data folder keeps this over a restart. Without it, ages are estimated from the
//! times at which events were received.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use event::limits::{
    AGE_GAP_MAX, AGE_HELD_DURATION, AGE_LEAPS_MAX, AGE_LOOK_INTERVAL, AGE_NOTE_INTERVAL, AGE_STEP_MAX,
    CONFIGURED_DURATION_MAX,
};
use event::{LogId, Millis};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Ages are known to one part in so many.
const NOTES_AN_AGE: u64 = 128;
/// How often the clocks are compared.
const PAUSE: Duration = Duration::from_secs(1);

/// The ages of one log's events. Clones share them.
#[derive(Clone)]
pub struct Ages(Arc<Shared>);

struct Shared {
    /// Absent in tests, where no time passes.
    file: Option<PathBuf>,
    current: Mutex<Current>,
    /// Held while the file is written.
    saving: Mutex<()>,
}

struct Current {
    state: State,
    /// The time since the machine's boot to which the state is brought up.
    at: Duration,
    /// True if the clock has leapt since the file was last written.
    leapt: bool,
}

/// The content of the file. All times are milliseconds; those of the machine's clock are called so, all others are
/// of the log's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    log: String,
    now: u64,
    /// The machine's clock at that time.
    clock: i64,
    /// Until then nothing is called old.
    held_until: u64,
    /// When the machine's clock leapt, and by how much: time that does not count.
    leaps: Vec<(u64, i64)>,
    /// When the log ended where.
    ends: Vec<(u64, u64)>,
    /// Streams of which retention has deleted events within the log.
    #[serde(default)]
    given_up: BTreeSet<String>,
}

impl Ages {
    /// Reads the ages of a log from its data folder. `ends` lists where the log ended when some of its events were
    /// received, in order; it is called if the file is missing.
    pub fn open(data: &Path, log: LogId, end: u64, ends: impl FnOnce() -> Vec<(Millis, u64)>) -> Self {
        let file = data.join("log-ages.json");
        let now = Millis::now();
        let mut state = match read(&file, log) {
            Some(state) => state,
            None => State::of_received(log, &ends(), now),
        };
        state.start(now).into_iter().for_each(report);
        state.note(end);
        let current = Mutex::new(Current { state, at: since_boot(), leapt: false });
        let ages = Self(Arc::new(Shared { file: Some(file), current, saving: Mutex::default() }));
        ages.save();
        ages
    }

    /// Ages as of `now`, when the log had ended at these positions.
    pub fn noted(now: Millis, ends: &[(Millis, u64)]) -> Self {
        let mut state = State::beginning(LogId([0; 16]), now);
        state.ends = ends.iter().map(|(at, end)| (at.0.unsigned_abs(), *end)).collect();
        state.now = now.0.unsigned_abs();
        let current = Mutex::new(Current { state, at: since_boot(), leapt: false });
        Self(Arc::new(Shared { file: None, current, saving: Mutex::default() }))
    }

    /// Starts a thread that compares the clocks and notes the log's end at intervals, until the log is closed.
    pub fn keep_current(&self, end: watch::Receiver<u64>) {
        let shared = Arc::downgrade(&self.0);
        std::thread::Builder::new()
            .name("log-ages".to_owned())
            .spawn(move || keep_current(&shared, &end))
            .expect("a thread can be started");
    }

    /// Returns a position below which every event is older than `age`.
    pub fn end_older_than(&self, age: Duration) -> u64 {
        self.current().state.end_older_than(age)
    }

    /// Returns for how long nothing is called old, because the machine's clock has leapt.
    pub fn held(&self) -> Option<Duration> {
        let current = self.current();
        let left = current.state.held_until.saturating_sub(current.state.now);
        (left > 0).then_some(Duration::from_millis(left))
    }

    /// Returns by how much the machine's clock has leapt ahead since `span` before the event at `position` came.
    pub fn leapt_since(&self, position: u64, span: Duration) -> Duration {
        self.current().state.leapt_since(position, span)
    }

    /// Returns the streams of which retention has deleted events within the log.
    pub fn given_up(&self) -> BTreeSet<String> {
        self.current().state.given_up.clone()
    }

    /// Notes durably that retention deletes events of a stream. Blocks.
    pub fn give_up(&self, stream: &str) -> std::io::Result<()> {
        let new = self.current().state.given_up.insert(stream.to_owned());
        if new { self.try_save() } else { Ok(()) }
    }

    /// Writes the file. Without room on the disk the old one stays, and ages are somewhat lower than they might be.
    pub fn save(&self) {
        if let Err(error) = self.try_save() {
            tracing::debug!(%error, "the ages of the log's events could not be written");
        }
    }

    fn try_save(&self) -> std::io::Result<()> {
        let Some(file) = &self.0.file else { return Ok(()) };
        let _saving = self.0.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.current().state.clone();
        write(file, &state)
    }

    /// Returns the state as of this moment, so that no caller misses a leap that has just happened.
    fn current(&self) -> MutexGuard<'_, Current> {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.file.is_some() {
            let now = since_boot();
            let passed = now.saturating_sub(current.at);
            current.at = now;
            if let Some(leap) = current.state.advance(Millis::now(), passed) {
                current.leapt = true;
                report(leap);
            }
        }
        current
    }
}

fn keep_current(shared: &Weak<Shared>, end: &watch::Receiver<u64>) {
    let mut saved = since_boot();
    // The other end is the log's: it is gone with it.
    while end.has_changed().is_ok()
        && let Some(ages) = shared.upgrade().map(Ages)
    {
        let leapt = {
            let mut current = ages.current();
            current.state.note(*end.borrow());
            std::mem::take(&mut current.leapt)
        };
        // A leap is written down at once: a kill must not make the next start forget it.
        if leapt || since_boot().saturating_sub(saved) >= AGE_LOOK_INTERVAL {
            ages.save();
            saved = since_boot();
        }
        drop(ages);
        std::thread::sleep(PAUSE);
    }
}

/// Time that the machine spent asleep counts as well, where the system tells it.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn report(leap: i64) {
    let hours = leap / 3_600_000;
    tracing::warn!(
        hours,
        "the machine's clock leapt, or the server was stopped for more than 3 days: this time does not count as age, and retention deletes nothing for a day"
    );
}

fn read(file: &Path, log: LogId) -> Option<State> {
    let text = std::fs::read_to_string(file).ok()?;
    match serde_json::from_str::<State>(&text) {
        Ok(state) => (state.log == log.to_string()).then_some(state),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the ages of the log's events cannot be read and are estimated again");
            None
        }
    }
}

/// A crash leaves the old file or the new one.
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
        let (leaps, ends, given_up) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { log: log.to_string(), now: 0, clock: now.0, held_until: 0, leaps, ends, given_up }
    }

    /// Estimates ages from the times at which events were received. A time in the future says nothing. Nothing
    /// tells how much time has passed since the last of them.
    fn of_received(log: LogId, ends: &[(Millis, u64)], now: Millis) -> Self {
        let mut state = Self::beginning(log, now);
        let mut latest = i64::MIN;
        for (time, end) in ends.iter().filter(|(time, _)| (0..=now.0).contains(&time.0)) {
            // Events below were received no later than this, unless the clock ran backwards.
            latest = latest.max(time.0);
            state.ends.push((latest.unsigned_abs(), *end));
        }
        if let Some((last, _)) = state.ends.last() {
            (state.now, state.clock) = (*last, latest);
        }
        state
    }

    /// Goes on after a restart. Returns the leap of the clock, if there was one.
    fn start(&mut self, clock: Millis) -> Option<i64> {
        let gap = clock.0.saturating_sub(self.clock);
        let plausible = (0..=millis(AGE_GAP_MAX)).contains(&gap);
        let passed = if plausible { gap.unsigned_abs() } else { 0 };
        self.advance(clock, Duration::from_millis(passed))
    }

    /// Goes on after `passed`. Returns the leap of the clock, if there was one.
    fn advance(&mut self, clock: Millis, passed: Duration) -> Option<i64> {
        let passed = millis(passed);
        let ahead = clock.0.saturating_sub(self.clock).saturating_sub(passed);
        self.clock = clock.0;
        self.now += passed.unsigned_abs();
        if (millis(AGE_STEP_MAX)..=millis(AGE_GAP_MAX)).contains(&ahead) {
            // A machine without a battery for its clock learns after its start how long it was off.
            self.now += ahead.unsigned_abs();
            return None;
        }
        if ahead.abs() <= millis(AGE_STEP_MAX) {
            return None;
        }
        self.held_until = self.now + millis(AGE_HELD_DURATION).unsigned_abs();
        self.leaps.push((self.now, ahead));
        let over = self.leaps.len().saturating_sub(AGE_LEAPS_MAX);
        self.leaps.drain(..over);
        Some(ahead)
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

    /// Leaves out notes whose neighbours lie close together for their age: of long ago, days will do.
    fn thin(&mut self) {
        let mut kept: Vec<(u64, u64)> = Vec::with_capacity(self.ends.len());
        for (index, (at, end)) in self.ends.iter().enumerate() {
            let neighbours = kept.last().zip(self.ends.get(index + 1));
            let apart = neighbours.map(|((before, _), (after, _))| after - before);
            if apart.is_none_or(|apart| apart > (self.now - at) / NOTES_AN_AGE) {
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

    fn leapt_since(&self, position: u64, span: Duration) -> Duration {
        let came = self.ends.iter().find(|(_, end)| *end > position).map_or(self.now, |(at, _)| *at);
        let since = came.saturating_sub(millis(span).unsigned_abs());
        let ahead = self.leaps.iter().filter(|(at, leap)| *at >= since && *leap > 0);
        let sum = ahead.map(|(_, leap)| leap.unsigned_abs()).fold(0, u64::saturating_add);
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

    /// Runs for so many hours, with one event in each; the clock begins at `clock`.
    fn run(state: &mut State, clock: i64, hours: i64) {
        for hour in 1..=hours {
            let end = state.ends.last().map_or(0, |(_, end)| *end) + 1;
            assert_eq!(state.advance(Millis(clock + hour * HOUR), Duration::from_secs(3600)), None);
            state.note(end);
        }
    }

    #[test]
    fn events_are_as_old_as_the_time_since_they_were_appended() {
        let mut state = new();
        run(&mut state, BEGUN, 30 * 24);
        assert_eq!(state.end_older_than(days(31)), 0);
        let of_ten_days = state.end_older_than(days(10));
        assert!((468..480).contains(&of_ten_days), "{of_ten_days} of 720 events, one an hour");
        assert_eq!(state.end_older_than(Duration::ZERO), 719, "the last event is not older than nothing");
    }

    #[test]
    fn a_clock_that_is_wrong_at_a_start_makes_nothing_old_however_often_it_is_started() {
        for wrong in [400 * DAY, -400 * DAY, 4 * DAY, 73 * HOUR, -2 * HOUR] {
            let mut state = new();
            run(&mut state, BEGUN, 10);
            let clock = BEGUN + 10 * HOUR + wrong;
            assert_eq!(state.start(Millis(clock)), Some(wrong));
            assert!(state.held_until > state.now);
            // Further starts see no leap, and nothing is old by the first one.
            for _ in 0..5 {
                assert_eq!(state.start(Millis(clock)), None);
                assert_eq!(state.end_older_than(days(1)), 0);
            }
            assert!(state.held_until > state.now, "for a day, through all restarts");
            run(&mut state, clock, 25);
            assert!(state.held_until <= state.now);
            assert_eq!(state.end_older_than(days(2)), 0);
            // The correction is a leap as well, unless it looks like a stop of two hours.
            let leap = state.start(Millis(clock + 25 * HOUR - wrong));
            assert_eq!(leap.is_some(), wrong != -2 * HOUR, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_leaps_while_the_server_runs_makes_nothing_old() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let leapt = Millis(BEGUN + 400 * DAY);
        assert_eq!(state.advance(leapt, Duration::from_secs(1)), Some(400 * DAY - 10 * HOUR - 1_000));
        assert_eq!(state.end_older_than(days(1)), 0);
        assert!(state.held_until - state.now == days(1).as_millis() as u64);
    }

    #[test]
    fn a_weekend_counts_and_a_holiday_does_not() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 63 * HOUR)), None);
        assert_eq!((state.end_older_than(days(2)), state.held_until), (1, 0));
        assert!(state.start(Millis(BEGUN + 63 * HOUR + 14 * DAY)).is_some());
        assert_eq!(state.end_older_than(days(3)), 0);
        assert!(AGE_GAP_MAX < event::limits::RETENTION_DURATION_MIN);
    }

    #[test]
    fn a_stop_of_hours_counts_and_a_small_step_of_the_clock_is_no_leap() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 20 * HOUR)), None);
        assert_eq!(state.end_older_than(Duration::from_secs(18 * 3600)), 1);
        assert_eq!(state.advance(Millis(BEGUN + 20 * HOUR - 30 * 60_000), Duration::from_secs(1)), None);
        assert_eq!(state.held_until, 0);
    }

    #[test]
    fn a_machine_that_learns_after_its_start_how_long_it_was_off_is_not_taken_for_wrong() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + HOUR)), None);
        assert_eq!(state.advance(Millis(BEGUN + 13 * HOUR), Duration::from_secs(5)), None);
        assert_eq!((state.end_older_than(Duration::from_secs(11 * 3600)), state.held_until), (1, 0));
    }

    #[test]
    fn leaps_ahead_are_known_for_as_long_as_they_matter_to_an_event() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let clock = BEGUN + 10 * HOUR + 400 * DAY;
        state.start(Millis(clock));
        assert_eq!(state.leapt_since(10, days(7)), days(400));
        run(&mut state, clock, 9 * 24);
        assert_eq!(state.leapt_since(10 + 9 * 24, days(7)), Duration::ZERO);
        assert_eq!(state.leapt_since(20, days(7)), days(400), "an event that is looked at late");
        state.start(Millis(BEGUN));
        assert_eq!(state.leapt_since(300, days(7)), Duration::ZERO, "back is not ahead");
    }

    #[test]
    fn without_a_file_ages_are_those_of_the_times_received_and_no_leap_is_believed() {
        let received = [(Millis(BEGUN), 1), (Millis(BEGUN + 10 * DAY), 5), (Millis(BEGUN + 20 * DAY), 9)];
        let of = |now: i64| {
            let mut state = State::of_received(LogId([7; 16]), &received, Millis(now));
            let leap = state.start(Millis(now));
            (state, leap)
        };
        let (state, leap) = of(BEGUN + 20 * DAY + HOUR);
        assert_eq!((state.end_older_than(days(9)), leap), (5, None));
        assert_eq!(state.end_older_than(days(11)), 1);
        assert_eq!(state.end_older_than(days(21)), 0);
        let (state, leap) = of(BEGUN + 420 * DAY);
        assert_eq!((state.end_older_than(days(30)), leap), (0, Some(400 * DAY)));
        // One that was received while the clock was ahead has a time that has not come yet.
        let (state, _) = of(BEGUN + 15 * DAY);
        assert_eq!((state.end_older_than(days(4)), state.end_older_than(days(10))), (1, 0));
        assert_eq!(State::of_received(LogId([7; 16]), &[], Millis(BEGUN)).now, 0);
    }

    #[test]
    fn a_file_of_another_log_or_a_broken_one_is_not_believed() {
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
        assert_eq!(Ages::open(folder.path(), log, 3, none).held(), None);
    }

    proptest! {
        #[test]
        fn the_file_reads_as_it_was_written(
            now: u64, clock: i64, held_until: u64,
            leaps: Vec<(u64, i64)>, ends: Vec<(u64, u64)>, given_up: BTreeSet<String>,
        ) {
            let state = State { log: LogId([7; 16]).to_string(), now, clock, held_until, leaps, ends, given_up };
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("log-ages.json");
            write(&file, &state).expect("written");
            prop_assert_eq!(read(&file, LogId([7; 16])), Some(state));
        }

        #[test]
        fn ten_years_of_notes_are_few_and_none_is_younger_than_it_says(spans in prop::collection::vec(1_u64..200, 400)) {
            let mut state = new();
            let (mut clock, mut appended) = (BEGUN, Vec::new());
            for (end, hours) in spans.iter().enumerate() {
                clock += *hours as i64 * HOUR;
                state.advance(Millis(clock), Duration::from_secs(hours * 3600));
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
