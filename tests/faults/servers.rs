//! Servers that are killed or do not respond. Meanwhile every event is accepted and the lag of the views is visible.
//! Once the server is back, the views catch up.

use crate::harness::TestApp;
use crate::harness::servers::{Kind, Setup};
use crate::harness::wait_for;
use crate::rig::{Rig, metrics, position, shared, start};

on_each_server!(
    while_the_server_is_down_every_event_is_accepted_and_applied_later,
    while_the_server_does_not_respond_events_are_accepted_and_the_lag_is_visible,
);

/// Returns the smallest lag of the ledger among the metrics, `/v1/views` and `/ready`.
fn lag(app: &TestApp) -> u64 {
    let metrics = metrics(app);
    let line = metrics.lines().find_map(|line| line.strip_prefix("millrace_view_lag{view=\"revenue\"} "));
    let views = app.client().get("/v1/views").json();
    let views = views["views"].as_array().unwrap();
    let listed = views.iter().find(|view| view["name"] == "revenue").unwrap()["lag"].as_u64().unwrap();
    let ready = app.view("revenue")["lag"].as_u64().unwrap();
    line.unwrap().parse::<u64>().unwrap().min(listed).min(ready)
}

/// Checks under load that events are accepted, and that the lag of the ledger is visible.
fn accepted_but_not_applied(rig: &Rig) {
    wait_for("a view to report that it waits", || rig.any_view_waits());
    let before = position(&rig.app, "revenue");
    rig.wait_for_events(200);
    wait_for("the lag to show", || lag(&rig.app) >= 200);
    assert_eq!(position(&rig.app, "revenue"), before);
    assert_eq!(rig.app.anonymous().get("/ready").status, 200, "events are accepted");
}

fn all_were_acknowledged(rig: &Rig) {
    let sent = rig.checker.history.requests();
    assert!(sent.iter().all(|known| known.acknowledged.is_some()), "every request was acknowledged");
}

fn while_the_server_is_down_every_event_is_accepted_and_applied_later(kind: Kind) {
    let mut server = start(kind, Setup::default());
    let rig = Rig::new(&server);
    rig.load(|| {
        rig.wait_for_progress("revenue");
        server.kill();
        accepted_but_not_applied(&rig);
        server.start_again();
        rig.wait_for_progress("revenue");
    });
    all_were_acknowledged(&rig);
    rig.demand_exact(&server);
    assert_eq!(lag(&rig.app), 0);
}

/// The server refuses nothing and answers nothing. Requests about millrace itself must not wait for it.
fn while_the_server_does_not_respond_events_are_accepted_and_the_lag_is_visible(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    rig.load(|| {
        rig.wait_for_progress("revenue");
        rig.proxy.stall();
        rig.wait_for_events(200);
        wait_for("the lag to show", || lag(&rig.app) >= 200);
        assert!(!rig.any_view_waits(), "the lag was visible before the store timed out");
        assert_eq!(rig.app.anonymous().get("/ready").status, 200, "events are accepted");
        rig.proxy.pass();
        rig.wait_for_progress("revenue");
    });
    all_were_acknowledged(&rig);
    rig.demand_exact(server);
}
