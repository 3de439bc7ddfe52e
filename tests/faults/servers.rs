//! Servers that are killed, stand still, or cannot be reached: meanwhile every event is taken, how far views
//! are behind can be read, and once the server is back they catch up.

use crate::harness::TestApp;
use crate::harness::servers::{Kind, Setup};
use crate::harness::wait_for;
use crate::rig::{Rig, metrics, position, shared, start};

on_each_server!(
    while_the_server_is_gone_every_event_is_taken_and_then_caught_up_with,
    while_the_server_stands_still_events_are_taken_and_the_lag_is_shown,
);

/// How far behind the ledger is, by all who tell.
fn lag(app: &TestApp) -> u64 {
    let metrics = metrics(app);
    let line = metrics.lines().find_map(|line| line.strip_prefix("millrace_view_lag{view=\"revenue\"} "));
    let views = app.client().get("/v1/views").json();
    let views = views["views"].as_array().unwrap();
    let listed = views.iter().find(|view| view["name"] == "revenue").unwrap()["lag"].as_u64().unwrap();
    let ready = app.view("revenue")["lag"].as_u64().unwrap();
    line.unwrap().parse::<u64>().unwrap().min(listed).min(ready)
}

/// Under load: events are taken, and everybody sees that the ledger is behind.
fn taken_and_not_applied(rig: &Rig) {
    wait_for("a view to say why it waits", || rig.waits());
    let before = position(&rig.app, "revenue");
    rig.more(200);
    wait_for("the lag to show", || lag(&rig.app) >= 200);
    assert_eq!(position(&rig.app, "revenue"), before);
    assert_eq!(rig.app.stranger().get("/ready").status, 200, "it takes events");
}

fn all_were_acknowledged(rig: &Rig) {
    let sent = rig.checker.history.requests();
    assert!(sent.iter().all(|known| known.acknowledged.is_some()), "every request got its yes");
}

fn while_the_server_is_gone_every_event_is_taken_and_then_caught_up_with(kind: Kind) {
    let mut server = start(kind, Setup::default());
    let rig = Rig::before(&server);
    rig.load(|| {
        rig.goes_on("revenue");
        server.stop_hard();
        taken_and_not_applied(&rig);
        server.start_again();
        rig.goes_on("revenue");
    });
    all_were_acknowledged(&rig);
    rig.demand_exact(&server);
    assert_eq!(lag(&rig.app), 0);
}

/// Nothing is refused and nothing answers: whoever asks about millrace itself is not to wait for it.
fn while_the_server_stands_still_events_are_taken_and_the_lag_is_shown(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    rig.load(|| {
        rig.goes_on("revenue");
        rig.proxy.stall();
        rig.more(200);
        wait_for("the lag to show", || lag(&rig.app) >= 200);
        assert!(!rig.waits(), "it showed before the store was given up");
        assert_eq!(rig.app.stranger().get("/ready").status, 200, "it takes events");
        rig.proxy.pass();
        rig.goes_on("revenue");
    });
    all_were_acknowledged(&rig);
    rig.demand_exact(server);
}
