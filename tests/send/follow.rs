//! `--follow`: what is appended, and what becomes of a file that is rotated.

use super::*;
use crate::harness::wait_for;

/// A follower that is told to end, and ends well, when the test is through with it.
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

    /// Whether it has the file open that is there now.
    fn holds(&self, path: &std::path::Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        open.filter_map(|entry| entry.path().read_link().ok()).any(|target| target == path)
    }

    fn end(mut self, signal: &str) -> (i32, Value) {
        Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        (output.status.code().unwrap_or_else(|| panic!("{}", said(&output))), outcome(&output))
    }
}

fn arrives(app: &TestApp, events: u64) {
    wait_for("what was appended", || stored(app) >= events);
}

#[test]
fn what_is_appended_is_sent_line_by_line() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let follower = Follower::start(&app, &["a.jsonl"]);
    arrives(&app, 10);
    // A half line waits for its other half.
    let line = sale(11);
    append(&app, "a.jsonl", &line[..12]);
    append(&app, "a.jsonl", line[12..].to_owned() + &sales(12, 21) + &sale(21)[..9]);
    arrives(&app, 20);
    let (code, outcome) = follower.end("-TERM");
    assert_eq!((code, &outcome["events"], &outcome["rejected"]), (0, &20.into(), &0.into()));
    append(&app, "a.jsonl", &sale(21)[9..]);
    let follower = Follower::start(&app, &["a.jsonl"]);
    arrives(&app, 21);
    assert_eq!(follower.end("-INT").1["events"], 1);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 22), 21));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn a_file_that_is_replaced_is_sent_from_its_first_line() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let follower = Follower::start(&app, &["a.jsonl"]);
    arrives(&app, 10);
    // The last line of the old file has no line break, and the new one begins as the old one did.
    append(&app, "a.jsonl", sale(11).trim_end());
    let path = app.folder.path().join("a.jsonl");
    std::fs::rename(&path, app.folder.path().join("a.jsonl.1")).unwrap();
    write(&app, "a.jsonl", sales(1, 15));
    arrives(&app, 25);
    // Cut, and written anew.
    write(&app, "a.jsonl", sales(1, 6));
    arrives(&app, 30);
    assert_eq!(follower.end("-TERM").0, 0);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 12) + sum(1, 15) + sum(1, 6), 30));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn two_followers_count_once_over_a_rotation() {
    let app = TestApp::start();
    let path = write(&app, "a.jsonl", sales(1, 11));
    let followers = [Follower::start(&app, &["a.jsonl"]), Follower::start(&app, &["a.jsonl"])];
    arrives(&app, 10);
    let all_hold = |path: &std::path::Path| followers.iter().all(|follower| follower.holds(path));
    wait_for("both to have the file", || all_hold(&path));
    // The new file begins with all of the old one.
    std::fs::remove_file(&path).unwrap();
    write(&app, "a.jsonl", sales(1, 21));
    wait_for("both to have the new file", || all_hold(&path));
    append(&app, "a.jsonl", sales(21, 31));
    let expected = sum(1, 11) + sum(1, 31);
    wait_for("everything", || balance(&app) >= expected);
    for follower in followers {
        assert_eq!(follower.end("-TERM").0, 0);
    }
    assert_eq!((balance(&app), open_dead_letters(&app)), (expected, 0));
}

#[test]
fn files_that_come_later_are_followed_too() {
    let app = TestApp::start();
    std::fs::create_dir(app.folder.path().join("in")).unwrap();
    let follower = Follower::start(&app, &["in", "late.jsonl"]);
    write(&app, "in/a.jsonl", sales(1, 11));
    arrives(&app, 10);
    write(&app, "late.jsonl", sales(11, 21));
    arrives(&app, 20);
    assert_eq!(follower.end("-TERM").0, 0);
    assert_eq!(balance(&app), sum(1, 21));
}

#[test]
fn a_follower_that_is_killed_goes_on_where_it_was() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    for round in 1..=5 {
        let follower = Follower::start(&app, &["a.jsonl"]);
        append(&app, "a.jsonl", sales(round * 10 + 1, round * 10 + 11));
        arrives(&app, round * 10 + 10);
        // kill -9.
        drop(follower);
    }
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 61), 60));
}
