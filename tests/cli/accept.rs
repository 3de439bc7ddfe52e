//! `millrace view accept`.

use crate::harness::TestApp;
use crate::{sell, stderr};

#[test]
fn a_view_without_a_change_has_nothing_to_accept() {
    let app = TestApp::start();
    let accept = || {
        let output = app.command(&["view", "accept", "revenue"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    let expected = "view `revenue` has this definition already\n";
    assert_eq!(accept(), expected);
    sell(&app, "user1", "1");
    app.settle();
    assert_eq!(accept(), expected);
}
