//! `millrace view reconcile` and `millrace view rebuild`.

use crate::harness::TestApp;
use crate::{database, failed, run, sell, set_row, stderr, stdout, with_table};

#[test]
fn a_changed_balance_is_found_and_repaired_and_earlier_rows_stay() {
    let app = with_table(&[("", "7"), ("old", "10.5"), ("untouched", "3")]);
    sell(&app, "old", "1");
    sell(&app, "user1", "100");
    sell(&app, "user2", "0.0001");
    app.settle();
    assert_eq!(run(&app, &["view", "reconcile", "revenue"]), "");

    set_row(&app, "user1", "5");
    database(&app).execute("DELETE FROM users_revenue WHERE user_id = 'user2'", []).unwrap();
    let output = app.command(&["view", "reconcile", "revenue"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "KEY       HAS  SHOULD HAVE\nuser1       5          100\nuser2  no row       0.0001\n"
    );
    assert!(stderr(&output).contains("differs in 2 of 5 keys"), "{}", stderr(&output));
    assert_eq!(run(&app, &["view", "balance", "revenue", "user1"]), "5\n", "reconcile changes nothing");

    let rebuilt = run(&app, &["view", "rebuild", "revenue"]);
    assert!(rebuilt.starts_with("KEY       HAD  HAS NOW\nuser1       5      100\n"), "{rebuilt}");
    let balances =
        ["old", "untouched", "user1", "user2"].map(|user| run(&app, &["view", "balance", "revenue", user]));
    assert_eq!(balances, ["11.5\n", "3\n", "100\n", "0.0001\n"]);
    let report = run(&app, &["view", "reconcile", "revenue", "--json"]);
    assert!(report.contains("\"differenceCount\":0"), "{report}");
    // The rebuild stopped the view; now it continues.
    sell(&app, "user1", "1");
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "user1"]), "101\n");
}

#[test]
fn the_exit_code_tells_of_differences_even_if_nobody_reads_them() {
    let app = with_table(&[]);
    sell(&app, "user1", "100");
    app.settle();
    set_row(&app, "user1", "5");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = app.prepared(&["view", "reconcile", "revenue"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn an_earlier_amount_that_is_not_a_number_is_not_taken_as_zero() {
    let app = with_table(&[("bad", "abc")]);
    sell(&app, "good", "1");
    app.settle();
    set_row(&app, "bad", "10");
    for command in ["reconcile", "rebuild"] {
        assert!(failed(&app, 1, &["view", command, "revenue"]).contains("`abc`"));
    }
    let sql = "UPDATE millrace_opening SET amount = '10' WHERE row_key = 'bad'";
    database(&app).execute(sql, []).unwrap();
    run(&app, &["view", "rebuild", "revenue"]);
    assert_eq!(run(&app, &["view", "balance", "revenue", "bad"]), "10\n");
}

#[test]
fn an_unknown_view_is_named() {
    let app = TestApp::start();
    assert!(failed(&app, 5, &["view", "reconcile", "sales"]).contains("`revenue`"));
    assert!(failed(&app, 5, &["view", "rebuild", "sales"]).contains("`revenue`"));
}
