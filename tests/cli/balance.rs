//! `millrace view balance`.

use std::process::{Command, Stdio};

use crate::harness::{Start, TestApp};
use crate::{failed, run, sell};

#[test]
fn every_digit_is_shown() {
    let app = TestApp::start();
    sell(&app, "user1", "999999999999999.9999");
    sell(&app, "user2", "0.1");
    sell(&app, "user2", "0.2");
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "user1"]), "999999999999999.9999\n");
    assert_eq!(run(&app, &["view", "balance", "revenue", "user2"]), "0.3\n");
    let json = run(&app, &["view", "balance", "revenue", "user1", "--json"]);
    assert_eq!(json, "{\"key\":\"user1\",\"balance\":999999999999999.9999}\n");
    let listed = run(&app, &["view", "balance", "revenue"]);
    assert_eq!(
        listed,
        "KEY                 BALANCE\nuser1  999999999999999.9999\nuser2                   0.3\n"
    );
}

/// Commands read the same `.env` file as the server and the replaced services.
#[test]
fn commands_read_port_and_key_from_a_dotenv_file() {
    let dotenv = Some("API_KEY=\"secret\"\n".to_owned());
    let app = TestApp::with(Start { dotenv, ..Start::default() });
    sell(&app, "user1", "5");
    app.settle();
    let folder = tempfile::tempdir().unwrap();
    let port = app.address.rsplit(':').next().unwrap();
    std::fs::write(folder.path().join(".env"), format!("PORT: {port}\nAPI_KEY=secret#of-mine\n")).unwrap();
    let balance = |environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.current_dir(folder.path()).env_clear().envs(environment.iter().copied());
        command.args(["view", "balance", "revenue", "user1"]).output().unwrap()
    };
    assert_eq!(String::from_utf8(balance(&[]).stdout).unwrap(), "5\n");
    assert_eq!(balance(&[("MILLRACE_API_KEY", "wrong")]).status.code(), Some(4));
    assert_eq!(balance(&[("MILLRACE_URL", "http://127.0.0.1:1")]).status.code(), Some(3));
}

#[test]
fn a_list_is_read_to_its_end_in_pages() {
    let app = TestApp::start();
    let line =
        |user: usize| format!("{{\"userId\":\"a b/{user:05}\",\"name\":\"add_revenue\",\"value\":1}}\n");
    let body: String = (0..2_500).map(line).collect();
    assert_eq!(app.client().post_lines("/v1/streams/revenue/events", &body).status, 200);
    app.settle();
    let lines = run(&app, &["view", "balance", "revenue", "--json"]);
    let expected = |user: usize| format!("{{\"key\":\"a b/{user:05}\",\"balance\":1}}");
    assert_eq!(lines.lines().collect::<Vec<_>>(), (0..2_500).map(expected).collect::<Vec<_>>());
    assert_eq!(run(&app, &["view", "balance", "revenue"]).lines().count(), 2_501);
    assert_eq!(run(&app, &["view", "balance", "revenue", "a b/00007"]), "1\n");
}

#[test]
fn an_unknown_name_is_reported_with_the_known_ones() {
    let app = TestApp::start();
    assert!(failed(&app, 5, &["view", "balance", "revenue", "nobody"]).contains("no row for `nobody`"));
    let line = failed(&app, 5, &["view", "balance", "revenues"]);
    assert!(line.contains("`revenue`"), "{line}");
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    app.settle();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.current_dir(app.folder.path()).env_clear().args(["view", "balance", "revenue"]);
    command.args(["--url", &format!("http://{}", app.address)]).stdin(Stdio::null()).stdout(writer);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
