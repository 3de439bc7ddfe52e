//! A view that is far behind folds batches before the store has applied the previous ones. A kill in between loses
//! nothing and counts nothing twice.

use std::fmt::Write;

use crate::harness::{TestApp, wait_for};

const SALES: &str = "/v1/streams/revenue/events";
/// Enough for several batches.
const EVENTS: usize = 200_000;
const USERS: usize = 7_000;

fn sales() -> String {
    (0..EVENTS).fold(String::new(), |mut lines, number| {
        let user = number % USERS;
        writeln!(lines, r#"{{"userId":"u{user}","name":"add_revenue","value":1}}"#).unwrap();
        lines
    })
}

#[test]
fn a_view_that_is_killed_while_it_is_far_behind_counts_each_event_once() {
    let mut app = TestApp::start();
    let client = app.client();
    let first = r#"{"userId":"u0","name":"add_revenue","value":1}"#;
    assert_eq!(client.post(&format!("{SALES}?wait=applied"), first).status, 200);
    app.sql("ALTER TABLE users_revenue RENAME TO away");
    assert_eq!(client.post_lines(SALES, &sales()).status, 200);
    app.stop();
    app.sql("ALTER TABLE away RENAME TO users_revenue");
    // `@2`: at the second hit of a point, another plan is being applied or waits.
    for point in
        ["views.folded=abort@2", "store.written=abort@2", "store.committed=abort@1", "views.applied=abort@1"]
    {
        // The process may end before it listens, because views continue as soon as they run.
        drop(app.try_restart_with(|before| {
            before.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), point.to_owned())];
        }));
        wait_for("the kill", || app.is_gone());
    }
    app.restart_with(|before| before.environment.clear());
    app.settle();
    for (user, sales) in [("u0", EVENTS.div_ceil(USERS) + 1), ("u6999", EVENTS / USERS)] {
        assert_eq!(app.balance(user), Some(sales.to_string()), "{user}");
    }
    let report = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!((&report["differenceCount"], &report["keys"]), (&0.into(), &USERS.into()), "{report}");
}
