//! Contract 1: revenue, one event at a time.

use crate::harness::TestApp;

#[test]
fn a_sale_goes_from_socket_to_balance() {
    let app = TestApp::start();
    let answer = app.client().post("/liveEvent", r#"{"userId":"user1","name":"add_revenue","value":100}"#);
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["message"], "Event received");
    assert!(body["eventId"].as_str().is_some_and(|id| id.len() == 36));
    app.settle();
    let answer = app.client().get("/userEvents/user1");
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"[{"user_id":"user1","revenue":100}]"#));
}
