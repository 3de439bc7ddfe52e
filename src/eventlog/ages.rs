//! How old events are, by a clock of the log's own. It counts only time that passed for certain: while the server
//! runs, and between two runs if the machine's clock says so plausibly. So a machine's clock that is wrong makes
//! no event old. At intervals the log's end is noted: what lies below it is at least as old as the note.
//!
//! The file `log-ages.json` in the data folder keeps this over a restart. Without it, ages are taken from the
//! times at which events were received, as far as those are plausible.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use event::limits::{
    AGE_GAP_MAX, AGE_HELD_DURATION, AGE_LEAPS_MAX, AGE_LOOK_INTERVAL, AGE_NOTE_INTERVAL, AGE_STEP_MAX,
};
use event::{LogId, Millis};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How exactly an age is known: to this part of it.
const NOTES_AN_AGE: u64 = 128;
/// How often the thread looks whether the log is still open.
const PAUSE: Duration = Duration::from_secs(1);

/// The ages of one log's events. Clones share them.
#[derive(Clone)]
pub struct Ages(Arc<Mutex<Kept>>);

struct Kept {
    /// None of ages that a test made.
    file: Option<PathBuf>,
    state: State,
}

/// What the file holds. All times are milliseconds; those that are not said to be of the machine's clock are of
/// the log's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    log: String,
    now: u64,
    /// What the machine's clock showed at that time.
    clock: i64,
    /// Until then nothing is to be called old.
    held_until: u64,
    /// When the machine's clock leapt, and by how much: time that does not count.
    leaps: Vec<(u64, i64)>,
    /// When the log ended where.
    ends: Vec<(u64, u64)>,
}

impl Ages {
    /// Reads the ages of a log out of its data folder. `ends` lists where the log ended when some of its events were
    /// received, in order; it is asked for where the file says nothing.
    pub fn open(data: &Path, log: LogId, end: u64, ends: impl FnOnce() -> Vec<(Millis, u64)>) -> Self {
        let file = data.join("log-ages.json");
        let now = Millis::now();
        let mut state = match read(&file, log) {
            Some(state) => state,
            None => State::of_received(log, &ends(), now),
        };
        if let Some(leap) = state.start(now, end) {
            report(leap);
        }
        save(&file, &state);
        Self(Arc::new(Mutex::new(Kept { file: Some(file), state })))
    }

    /// Ages as of `now`, when the log had ended at these positions.
    pub fn noted(now: Millis, ends: &[(Millis, u64)]) -> Self {
        let mut state = State::beginning(LogId([0; 16]), now);
        state.ends = ends.iter().map(|(at, end)| (at.0.unsigned_abs(), *end)).collect();
        state.now = now.0.unsigned_abs();
        Self(Arc::new(Mutex::new(Kept { file: None, state })))
    }

    /// Looks at the clocks and at the log's end, now and then, on a thread of its own, until the log is closed.
    pub fn keep_current(&self, end: watch::Receiver<u64>) {
        let ages = Arc::downgrade(&self.0);
        std::thread::Builder::new()
            .name("log-ages".to_owned())
            .spawn(move || keep_current(&ages, &end))
            .expect("a thread can be started");
    }

    /// Below this position, every event is older than `age`.
    pub fn end_older_than(&self, age: Duration) -> u64 {
        self.kept().state.end_older_than(age)
    }

    /// For how long nothing is to be called old, because the machine's clock has leapt.
    pub fn held(&self) -> Option<Duration> {
        let kept = self.kept();
        let left = kept.state.held_until.saturating_sub(kept.state.now);
        (left > 0).then_some(Duration::from_millis(left))
    }

    /// By how much the machine's clock leapt ahead within `span`, all leaps together.
    pub fn leapt_within(&self, span: Duration) -> Duration {
        self.kept().state.leapt_within(span)
    }

    /// Writes down what is known, as the last thing before a stop.
    pub fn save(&self) {
        let (file, state) = {
            let kept = self.kept();
            (kept.file.clone(), kept.state.clone())
        };
        if let Some(file) = file {
            save(&file, &state);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_current(ages: &Weak<Mutex<Kept>>, end: &watch::Receiver<u64>) {
    let (mut looked, mut saved) = (since_boot(), since_boot());
    // The other end is the log's: it is gone with it.
    while end.has_changed().is_ok()
        && let Some(ages) = ages.upgrade().map(Ages)
    {
        let now = since_boot();
        let leap = ages.kept().state.run(Millis::now(), now.saturating_sub(looked), *end.borrow());
        looked = now;
        leap.into_iter().for_each(report);
        if leap.is_some() || now.saturating_sub(saved) >= AGE_LOOK_INTERVAL {
            ages.save();
            saved = now;
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
        "the machine's clock leapt: the difference does not count as age, and nothing is given up as old for a day"
    );
}

fn read(file: &Path, log: LogId) -> Option<State> {
    let text = std::fs::read_to_string(file).ok()?;
    match serde_json::from_str::<State>(&text) {
        Ok(state) => (state.log == log.to_string()).then_some(state),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the ages of the log's events are not readable and are made anew");
            None
        }
    }
}

/// A crash leaves the old file or the new one. A disk without room leaves the old one: ages are then somewhat
/// lower than they might be.
fn save(file: &Path, state: &State) {
    let written = || -> std::io::Result<()> {
        let text = serde_json::to_string(state)?;
        let unfinished = file.with_extension("json.tmp");
        let mut open = std::fs::File::create(&unfinished)?;
        std::io::Write::write_all(&mut open, text.as_bytes())?;
        open.sync_all()?;
        std::fs::rename(&unfinished, file)
    };
    if let Err(error) = written() {
        tracing::debug!(file = %file.display(), %error, "the ages of the log's events could not be written");
    }
}

impl State {
    fn beginning(log: LogId, now: Millis) -> Self {
        let (leaps, ends) = (Vec::new(), Vec::new());
        Self { log: log.to_string(), now: 0, clock: now.0, held_until: 0, leaps, ends }
    }

    /// What the times say at which events were received. A time that has not come yet says nothing. No time
    /// is known to have passed since the last of them.
    fn of_received(log: LogId, ends: &[(Millis, u64)], now: Millis) -> Self {
        let mut state = Self::beginning(log, now);
        let mut latest = i64::MIN;
        for (time, end) in ends.iter().filter(|(time, _)| (0..=now.0).contains(&time.0)) {
            // Events below were received no later than this, but for clocks that were set back.
            latest = latest.max(time.0);
            state.ends.push((latest.unsigned_abs(), *end));
        }
        if let Some((last, _)) = state.ends.last() {
            (state.now, state.clock) = (*last, latest);
        }
        state
    }

    /// Goes on after a restart; the leap that there was, if there was one.
    fn start(&mut self, clock: Millis, end: u64) -> Option<i64> {
        let gap = clock.0.saturating_sub(self.clock);
        let plausible = (0..=millis(AGE_GAP_MAX)).contains(&gap);
        self.advance(clock, if plausible { gap } else { 0 }, end)
    }

    /// Goes on after `passed`; the leap that there was, if there was one.
    fn run(&mut self, clock: Millis, passed: Duration, end: u64) -> Option<i64> {
        self.advance(clock, millis(passed), end)
    }

    fn advance(&mut self, clock: Millis, counted: i64, end: u64) -> Option<i64> {
        let leap = clock.0.saturating_sub(self.clock).saturating_sub(counted);
        self.clock = clock.0;
        self.now += counted.unsigned_abs();
        let leapt = leap.abs() > millis(AGE_STEP_MAX);
        if leapt {
            self.held_until = self.now + millis(AGE_HELD_DURATION).unsigned_abs();
            self.leaps.push((self.now, leap));
            let over = self.leaps.len().saturating_sub(AGE_LEAPS_MAX);
            self.leaps.drain(..over);
        }
        self.note(end);
        leapt.then_some(leap)
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

    fn leapt_within(&self, span: Duration) -> Duration {
        let since = self.now.saturating_sub(millis(span).unsigned_abs());
        let ahead = self.leaps.iter().filter(|(at, leap)| *at >= since && *leap > 0);
        Duration::from_millis(ahead.map(|(_, leap)| leap.unsigned_abs()).fold(0, u64::saturating_add))
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
        assert_eq!(state.start(Millis(BEGUN), 0), None);
        state
    }

    /// Runs for so many hours, with one event in each; the clock begins at `clock`.
    fn run(state: &mut State, clock: i64, hours: i64) {
        for hour in 1..=hours {
            let end = state.ends.last().map_or(0, |(_, end)| *end) + 1;
            assert_eq!(state.run(Millis(clock + hour * HOUR), Duration::from_secs(3600), end), None);
        }
    }

    #[test]
    fn events_are_as_old_as_the_time_since_they_were_appended() {
        let mut state = new();
        run(&mut state, BEGUN, 30 * 24);
        assert_eq!(state.end_older_than(days(31)), 0);
        let of_ten_days = state.end_older_than(days(10));
        assert!((468..480).contains(&of_ten_days), "{of_ten_days} of 720 events, one an hour");
        assert_eq!(state.end_older_than(Duration::ZERO), 719, "the last is no older than nothing");
    }

    #[test]
    fn a_clock_that_is_wrong_at_a_start_makes_nothing_old_however_often_it_is_started() {
        for wrong in [400 * DAY, -400 * DAY, 4 * DAY, 73 * HOUR, -2 * HOUR] {
            let mut state = new();
            run(&mut state, BEGUN, 10);
            let clock = BEGUN + 10 * HOUR + wrong;
            assert_eq!(state.start(Millis(clock), 10), Some(wrong));
            assert!(state.held_until > state.now);
            // Further starts see no leap, and nothing is old by the first one.
            for _ in 0..5 {
                assert_eq!(state.start(Millis(clock), 10), None);
                assert_eq!(state.end_older_than(days(1)), 0);
            }
            assert!(state.held_until > state.now, "for a day, through all restarts");
            run(&mut state, clock, 25);
            assert!(state.held_until <= state.now);
            assert_eq!(state.end_older_than(days(2)), 0);
            // Put right, it leaps once more, unless that looks like a stop of two hours.
            let leap = state.start(Millis(clock + 25 * HOUR - wrong), 40);
            assert_eq!(leap.is_some(), wrong != -2 * HOUR, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_leaps_while_the_server_runs_makes_nothing_old() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let leapt = Millis(BEGUN + 400 * DAY);
        assert_eq!(state.run(leapt, Duration::from_secs(1), 10), Some(400 * DAY - 10 * HOUR - 1_000));
        assert_eq!(state.end_older_than(days(1)), 0);
        assert!(state.held_until - state.now == days(1).as_millis() as u64);
    }

    #[test]
    fn a_weekend_counts_and_a_holiday_does_not() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 63 * HOUR), 1), None);
        assert_eq!((state.end_older_than(days(2)), state.held_until), (1, 0));
        assert!(state.start(Millis(BEGUN + 63 * HOUR + 14 * DAY), 1).is_some());
        assert_eq!(state.end_older_than(days(3)), 0);
        assert!(AGE_GAP_MAX < event::limits::RETENTION_DURATION_MIN);
    }

    #[test]
    fn a_stop_of_hours_counts_and_a_small_step_of_the_clock_is_no_leap() {
        let mut state = new();
        run(&mut state, BEGUN, 1);
        assert_eq!(state.start(Millis(BEGUN + 20 * HOUR), 1), None);
        assert_eq!(state.end_older_than(Duration::from_secs(18 * 3600)), 1);
        assert_eq!(state.run(Millis(BEGUN + 20 * HOUR - 30 * 60_000), Duration::from_secs(1), 1), None);
        assert_eq!(state.held_until, 0);
    }

    #[test]
    fn leaps_ahead_are_known_for_as_long_as_they_matter() {
        let mut state = new();
        run(&mut state, BEGUN, 10);
        let clock = BEGUN + 10 * HOUR + 400 * DAY;
        state.start(Millis(clock), 10);
        assert_eq!(state.leapt_within(days(7)), days(400));
        run(&mut state, clock, 8 * 24);
        assert_eq!(state.leapt_within(days(7)), Duration::ZERO);
        state.start(Millis(BEGUN), 300);
        assert_eq!(state.leapt_within(days(7)), Duration::ZERO, "back is not ahead");
    }

    #[test]
    fn without_a_file_ages_are_those_of_the_times_received_and_no_leap_is_believed() {
        let received = [(Millis(BEGUN), 1), (Millis(BEGUN + 10 * DAY), 5), (Millis(BEGUN + 20 * DAY), 9)];
        let of = |now: i64| {
            let mut state = State::of_received(LogId([7; 16]), &received, Millis(now));
            let leap = state.start(Millis(now), 12);
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
        let state = ages.kept().state.clone();
        assert_eq!(read(&file, log), Some(state));
        assert_eq!(read(&file, LogId([8; 16])), None);
        std::fs::write(&file, "{").expect("written");
        assert_eq!(read(&file, log), None);
        assert_eq!(Ages::open(folder.path(), log, 3, none).held(), None);
    }

    proptest! {
        #[test]
        fn the_file_reads_as_it_was_written(
            now: u64, clock: i64, held_until: u64,
            leaps: Vec<(u64, i64)>, ends: Vec<(u64, u64)>,
        ) {
            let state = State { log: LogId([7; 16]).to_string(), now, clock, held_until, leaps, ends };
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("log-ages.json");
            save(&file, &state);
            prop_assert_eq!(read(&file, LogId([7; 16])), Some(state));
        }

        #[test]
        fn ten_years_of_notes_are_few_and_none_is_younger_than_it_says(spans in prop::collection::vec(1_u64..200, 400)) {
            let mut state = new();
            let (mut clock, mut appended) = (BEGUN, Vec::new());
            for (end, hours) in spans.iter().enumerate() {
                clock += *hours as i64 * HOUR;
                state.run(Millis(clock), Duration::from_secs(hours * 3600), end as u64 + 1);
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
