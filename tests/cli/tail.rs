//! `millrace tail`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{TestApp, wait_for};
use crate::{failed, lines_of_json, run, sell};

/// A stop waits up to 10 s for running requests. A waiting `tail` must not use up this time.
const STOP_DURATION_MAX: Duration = Duration::from_secs(5);

#[test]
fn events_are_printed_exactly_as_sent() {
    let app = TestApp::start();
    sell(&app, "user1", "999999999999999.9999");
    sell(&app, "user2", "1.50");
    let text = run(&app, &["tail", "revenue"]);
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    let ending = r#"{"userId":"user1","name":"add_revenue","value":999999999999999.9999}"#;
    assert!(first.ends_with(ending) && first.contains("  0  "), "{first}");
    assert!(second.ends_with(r#""value":1.50}"#), "{second}");
    let positions = |arguments: &[&str]| -> Vec<u64> {
        let events = lines_of_json(&run(&app, arguments));
        events.iter().map(|event| event["position"].as_u64().unwrap()).collect()
    };
    assert_eq!(positions(&["tail", "revenue", "--json", "-n", "1"]), [1]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "0", "-n", "1"]), [0]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "0"]), [0, 1]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "2"]), [0; 0]);
    assert!(failed(&app, 5, &["tail", "sales"]).contains("`revenue`"));
}

#[test]
fn follow_prints_new_events_until_it_is_interrupted() {
    let app = TestApp::start();
    sell(&app, "before", "1");
    let mut tail = Follow::start(&app, &["tail", "revenue", "--follow", "--json"]);
    wait_for("the event before", || tail.seen("before"));
    sell(&app, "after", "2");
    wait_for("the event after", || tail.seen("after"));
    Command::new("kill").args(["-INT", &tail.child.id().to_string()]).status().unwrap();
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
}

#[test]
fn follow_stops_after_a_given_number_of_events() {
    let app = TestApp::start();
    let mut tail = Follow::start(&app, &["tail", "revenue", "-f", "--from", "0", "-n", "2", "--json"]);
    sell(&app, "one", "1");
    sell(&app, "two", "2");
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
    wait_for("both lines", || tail.seen("one") && tail.seen("two"));
}

#[test]
fn follow_does_not_delay_a_stop_and_continues_after_a_restart() {
    let mut app = TestApp::start();
    let address = app.address.clone();
    app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address]);
    sell(&app, "before", "1");
    let tail = Follow::start(&app, &["tail", "revenue", "--follow"]);
    wait_for("the event before", || tail.seen("before"));
    let asked = Instant::now();
    assert_eq!(app.stop(), Some(0));
    assert!(asked.elapsed() < STOP_DURATION_MAX, "the stop took {:?}", asked.elapsed());
    app.restart();
    sell(&app, "after", "2");
    wait_for("the event after", || tail.seen("after"));
}

/// A `tail` process that runs during the test.
struct Follow {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follow {
    fn start(app: &TestApp, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.current_dir(app.folder.path()).env_clear().args(arguments);
        command.env("MILLRACE_URL", format!("http://{}", app.address));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { child, lines }
    }

    fn seen(&self, user: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(&format!("\"{user}\"")))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
