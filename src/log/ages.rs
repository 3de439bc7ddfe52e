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
    /// By how much the machine's clock was set back: a leap ahead that only makes up for it does not count.
    #[serde(default)]
    behind: u64,
    /// When the machine's clock leapt, and by how much, whether that counted as age or not.
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
        // An older copy of the log may have been put back.
        state.ends.retain(|(_, noted)| *noted <= end);
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

    /// Returns by how much the machine's clock has leapt ahead since `span` before the event at `position` came, or
    /// somewhat more. A stop of the server cannot be told from a leap, and is part of it.
    pub fn leapt_since(&self, position: u64, span: Duration) -> Duration {
        self.current().state.leapt_since(position, span)
    }

    /// Returns the streams of which retention has deleted events within the log.
    pub fn given_up(&self) -> BTreeSet<String> {
        self.current().state.given_up.clone()
    }

    /// Notes durably that retention deletes events of a stream. Blocks.
    pub fn give_up(&self, stream: &str) -> std::io::Result<()> {
        if !self.current().state.given_up.insert(stream.to_owned()) {
            return Ok(());
        }
        let saved = self.try_save();
        if saved.is_err() {
            self.current().state.given_up.remove(stream);
        }
        saved
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
            if let Some(leap) = current.state.run(Millis::now(), passed) {
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
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        text => text.map_err(|error| error.to_string()),
    };
    let state = text.and_then(|text| serde_json::from_str::<State>(&text).map_err(|error| error.to_string()));
    match state {
        Ok(state) => (state.log == log.to_string() && state.is_in_order()).then_some(state),
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
        Self { log: log.to_string(), now: 0, clock: now.0, held_until: 0, behind: 0, leaps, ends, given_up }
    }

    fn is_in_order(&self) -> bool {
        let times = self.ends.iter().map(|(at, _)| *at).chain([self.now]);
        times.is_sorted() && self.ends.iter().map(|(_, end)| *end).is_sorted()
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

    /// Goes on after a restart. Returns the leap of the clock, if it does not count.
    fn start(&mut self, clock: Millis) -> Option<i64> {
        self.advance(clock, Duration::ZERO, 0)
    }

    /// Goes on after `passed`. Returns the leap of the clock, if it does not count. A step of less than an hour never
    /// counts: how much time has passed is known without it.
    fn run(&mut self, clock: Millis, passed: Duration) -> Option<i64> {
        self.advance(clock, passed, millis(AGE_STEP_MAX).unsigned_abs())
    }

    /// A leap ahead that is plausible counts if it is at least `counted_min`: that long the server was stopped, or a
    /// machine without a battery for its clock learns after its start how long it was off.
    fn advance(&mut self, clock: Millis, passed: Duration, counted_min: u64) -> Option<i64> {
        let passed = millis(passed);
        let leap = clock.0.saturating_sub(self.clock).saturating_sub(passed);
        self.clock = clock.0;
        self.now += passed.unsigned_abs();
        let plausible = leap.abs() <= millis(AGE_GAP_MAX);
        if plausible {
            let ahead = leap.max(0).unsigned_abs();
            let made_up = self.behind.min(ahead);
            self.behind = self.behind - made_up + leap.min(0).unsigned_abs();
            if ahead - made_up >= counted_min {
                // A hold is not shortened by it.
                self.held_until += if self.held_until > self.now { ahead - made_up } else { 0 };
                self.now += ahead - made_up;
            }
        } else {
            self.behind = 0;
        }
        let step = millis(AGE_STEP_MAX);
        if leap.abs() > step {
            self.leaps.push((self.now, leap));
            let over = self.leaps.len().saturating_sub(AGE_LEAPS_MAX);
            self.leaps.drain(..over);
        }
        if leap < -step || !plausible {
            self.held_until = self.now + millis(AGE_HELD_DURATION).unsigned_abs();
            return Some(leap);
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
        let came = self.ends.iter().rev().find(|(_, end)| *end <= position).map_or(0, |(at, _)| *at);
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
            // The correction is a leap as well, unless it only makes up for two hours.
            let leap = state.start(Millis(clock + 25 * HOUR - wrong));
            assert_eq!(leap.is_some(), wrong != -2 * HOUR, "{wrong}");
            // A weekend after it counts as any other.
            let before = state.now;
            assert_eq!(state.start(Millis(clock + 25 * HOUR - wrong + 2 * DAY)), None);
            assert_eq!(state.now - before, (2 * DAY) as u64, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_leaps_while_the_server_runs_makes_nothing_old() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let leapt = Millis(BEGUN + 400 * DAY);
        assert_eq!(state.run(leapt, Duration::from_secs(1)), Some(400 * DAY - 10 * HOUR - 1_000));
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
        assert_eq!(state.run(Millis(BEGUN + 20 * HOUR - 30 * 60_000), Duration::from_secs(1)), None);
        assert_eq!(state.held_until, 0);
    }

    #[test]
    fn a_machine_that_learns_after_its_start_how_long_it_was_off_is_not_taken_for_wrong() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + HOUR)), None);
        assert_eq!(state.run(Millis(BEGUN + 13 * HOUR), Duration::from_secs(5)), None);
        assert_eq!((state.end_older_than(Duration::from_secs(11 * 3600)), state.held_until), (1, 0));
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_makes_nothing_old_and_keeps_a_hold() {
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
                assert_eq!(state.leapt_since(1, days(7)), Duration::from_millis(step as u64) * round.min(32));
            }
            assert_eq!(state.now, (HOUR + 200_000) as u64, "{step}");
            // A start does not count what only makes up for a step back either.
            state.run(Millis(clock - step), Duration::ZERO);
            assert_eq!(state.start(Millis(clock)).is_none(), makes_up);
            assert_eq!(state.now, (HOUR + 200_000) as u64, "{step}");
        }
    }

    #[test]
    fn a_leap_that_counts_as_age_keeps_ids_longer_and_shortens_no_hold() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        let clock = BEGUN + HOUR + 5 * DAY;
        assert_eq!(state.start(Millis(clock)), Some(5 * DAY));
        let held = state.held_until - state.now;
        assert_eq!(state.run(Millis(clock + 2 * DAY), Duration::ZERO), None);
        assert_eq!(state.held_until - state.now, held);
        assert_eq!(state.leapt_since(1, days(7)), days(7));
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
            leaps: Vec<(u64, i64)>, ends: Vec<(u64, u64)>, given_up: BTreeSet<String>, behind: u64,
        ) {
            let (mut now, mut ends) = (now, ends);
            ends.sort_unstable();
            ends.iter_mut().fold(0, |highest, (_, end)| {
                *end = highest.max(*end);
                *end
            });
            now = ends.last().map_or(now, |(at, _)| now.max(*at));
            let state = State { log: LogId([7; 16]).to_string(), now, clock, held_until, behind, leaps, ends, given_up };
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
