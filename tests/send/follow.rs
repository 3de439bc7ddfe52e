//! `--follow`: appended lines, new files and rotated files are sent.

use super::*;
use crate::harness::wait_for;

/// A `millrace send --follow` process, which is killed when it is dropped.
struct Follower(Option<Child>);

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Follower {
    fn start(app: &TestApp, arguments: &[&str]) -> Self {
        Self(Some(start(app, &[arguments, &["--follow"]].concat())))
    }

    fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Returns true if the process has the file open that is at this path now.
    fn has_open(&self, path: &std::path::Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        open.filter_map(|entry| entry.path().read_link().ok()).any(|target| target == path)
    }

    fn end(self, signal: &str) -> (i32, Value) {
        let output = self.ended(signal);
        (output.status.code().unwrap_or_else(|| panic!("{}", stderr(&output))), outcome(&output))
    }

    fn ended(mut self, signal: &str) -> Output {
        Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

fn wait_for_events(app: &TestApp, events: u64) {
    wait_for("the appended lines", || stored(app) >= events);
}

#[test]
fn appended_lines_are_sent() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let follower = Follower::start(&app, &["a.jsonl"]);
    wait_for_events(&app, 10);
    // Half a line is not sent until its other half is appended.
    let line = sale(11);
    append(&app, "a.jsonl", &line[..12]);
    append(&app, "a.jsonl", line[12..].to_owned() + &sales(12, 21) + &sale(21)[..9]);
    wait_for_events(&app, 20);
    let (code, outcome) = follower.end("-TERM");
    assert_eq!((code, &outcome["events"], &outcome["rejected"]), (0, &20.into(), &0.into()));
    append(&app, "a.jsonl", &sale(21)[9..]);
    let follower = Follower::start(&app, &["a.jsonl"]);
    wait_for_events(&app, 21);
    assert_eq!(follower.end("-INT").1["events"], 1);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 22), 21));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn a_file_that_is_replaced_is_sent_from_its_first_line() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let follower = Follower::start(&app, &["a.jsonl"]);
    wait_for_events(&app, 10);
    // The last line of the old file has no line break, and the new one begins as the old one did.
    append(&app, "a.jsonl", sale(11).trim_end());
    let path = app.folder.path().join("a.jsonl");
    std::fs::rename(&path, app.folder.path().join("a.jsonl.1")).unwrap();
    write(&app, "a.jsonl", sales(1, 15));
    wait_for_events(&app, 25);
    // Truncate the file and write it again.
    write(&app, "a.jsonl", sales(1, 6));
    wait_for_events(&app, 30);
    assert_eq!(follower.end("-TERM").0, 0);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 12) + sum(1, 15) + sum(1, 6), 30));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn two_followers_count_once_over_a_rotation() {
    let app = TestApp::start();
    let path = write(&app, "a.jsonl", sales(1, 11));
    let followers = [Follower::start(&app, &["a.jsonl"]), Follower::start(&app, &["a.jsonl"])];
    wait_for_events(&app, 10);
    let all_opened = |path: &std::path::Path| followers.iter().all(|follower| follower.has_open(path));
    wait_for("both to open the file", || all_opened(&path));
    // The new file begins with all of the old one.
    std::fs::remove_file(&path).unwrap();
    write(&app, "a.jsonl", sales(1, 21));
    wait_for("both to open the new file", || all_opened(&path));
    append(&app, "a.jsonl", sales(21, 31));
    let expected = sum(1, 11) + sum(1, 31);
    wait_for("everything", || balance(&app) >= expected);
    for follower in followers {
        assert_eq!(follower.end("-TERM").0, 0);
    }
    assert_eq!((balance(&app), open_dead_letters(&app)), (expected, 0));
}

#[test]
fn files_created_later_are_followed() {
    let app = TestApp::start();
    std::fs::create_dir(app.folder.path().join("in")).unwrap();
    let follower = Follower::start(&app, &["in", "late.jsonl"]);
    write(&app, "in/a.jsonl", sales(1, 11));
    wait_for_events(&app, 10);
    write(&app, "late.jsonl", sales(11, 21));
    wait_for_events(&app, 20);
    assert_eq!(follower.end("-TERM").0, 0);
    assert_eq!(balance(&app), sum(1, 21));
}

#[test]
fn a_killed_follower_resumes_where_it_stopped() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    for round in 1..=5 {
        let follower = Follower::start(&app, &["a.jsonl"]);
        append(&app, "a.jsonl", sales(round * 10 + 1, round * 10 + 11));
        wait_for_events(&app, round * 10 + 10);
        // Dropping it sends SIGKILL.
        drop(follower);
    }
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 61), 60));
}

#[test]
fn a_follower_reports_what_it_sends_and_rejects() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let follower = Follower::start(&app, &["a.jsonl"]);
    wait_for_events(&app, 10);
    append(&app, "a.jsonl", "bad\n".to_owned() + &sale(11));
    wait_for_events(&app, 11);
    let output = follower.ended("-TERM");
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    let text = stderr(&output);
    for part in ["a.jsonl: sending to stream `revenue`", ", rejected 1 line; the last is line 11: "] {
        assert!(text.contains(part), "{text}");
    }
    // The follower may have read the appended lines together with the first ones.
    let sent = text.lines().filter_map(|line| line.split_once("a.jsonl: sent ")?.1.split(' ').next());
    assert_eq!(sent.map(|count| count.parse::<u64>().unwrap()).sum::<u64>(), 11, "{text}");
}

#[test]
fn a_follower_skips_a_file_that_no_stream_accepts_until_it_changes() {
    let app = TestApp::start();
    write(&app, "in/header.jsonl", "{\"columns\":3}\n".to_owned() + &sale(1));
    let follower = Follower::start(&app, &["in"]);
    write(&app, "in/z.jsonl", sales(1, 11));
    wait_for_events(&app, 10);
    append(&app, "in/z.jsonl", sales(11, 21));
    wait_for_events(&app, 20);
    // The corrected file is sent.
    write(&app, "in/header.jsonl", sales(21, 31));
    wait_for_events(&app, 30);
    // The last file that cannot be sent decides the exit code.
    write(&app, "in/other.jsonl", "{\"columns\":3}\n");
    append(&app, "in/z.jsonl", sales(31, 41));
    wait_for_events(&app, 40);
    write(&app, "in/zz.jsonl", sales(41, 42));
    wait_for_events(&app, 41);
    let output = follower.ended("-TERM");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for name in ["header", "other"] {
        let note = format!("in/{name}.jsonl: line 1: no stream accepts it");
        let noted = text.lines().filter(|line| line.contains(&note) && line.ends_with("until it changes"));
        assert_eq!(noted.count(), 1, "{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.contains("other.jsonl: line 1: no stream accepts it"), "{text}");
    assert_eq!((balance(&app), outcome(&output)["events"].clone()), (sum(1, 42), 41.into()));
}
