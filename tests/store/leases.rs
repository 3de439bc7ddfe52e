//! Leases of deliveries: who may attempt what, and what is left after a process has ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::LogId;
use millrace::store::{
    AfterAttempt, AttemptRecord, ColumnKind, LeaseId, LeaseRequest, Leased, NewDelivery, NotificationChange,
    NotificationChanges, NotificationTables, Plan, QueuedNotification, Table, ViewTables,
};

use crate::harness::StoreKind;
use crate::opened::{Opened, claim, text};

on_each_database!(
    deliveries_whose_attempts_were_cut_off_several_times_are_leased_one_by_one,
    the_lanes_of_hosts_are_found_in_pages,
    a_lease_whose_answer_was_lost_can_be_ended,
);

const NAME: ColumnKind = ColumnKind::Text { chars_max: 255 };
const NODE: LogId = LogId([7; 16]);

/// Queues a notification for each lane.
fn queued(store_kind: StoreKind, lanes: &[&str]) -> Opened {
    let opened = Opened::on(store_kind);
    let whole = Arc::new(Table::new("t", 1, &[("id", NAME), ("status", NAME)]));
    let tables = vec![Table::clone(&whole)];
    opened.begin("v", ViewTables { tables, owned: true, ..ViewTables::default() }).unwrap();
    let queue = |(number, lane): (usize, &&str)| {
        let id = format!("n{number}");
        let destination = lane.split(' ').next().unwrap().to_owned();
        let delivery = NewDelivery { destination, lane: (*lane).to_owned(), content: "{}".to_owned() };
        let (row, deliveries) = (vec![text(&id), text("QUEUED")], vec![delivery]);
        NotificationChange::Queue(QueuedNotification { id, position: 0, row, deliveries })
    };
    let tables = NotificationTables { whole: Arc::clone(&whole), queued: whole };
    let changes = lanes.iter().enumerate().map(queue).collect();
    let notifications = Some(NotificationChanges { tables, changes });
    opened.apply(Plan { notifications, ..Plan::new(claim("v", 0, 1)) }).unwrap();
    opened
}

fn lease(opened: &Opened) -> Vec<Leased> {
    let (lane, lease) = ("shop".to_owned(), LeaseId::fresh());
    let request = LeaseRequest { lane, deliveries_max: 10, owner: NODE, lease, millis: 60_000 };
    opened.run(opened.store.lease(request)).unwrap()
}

fn record(opened: &Opened, leased: &Leased, next: AfterAttempt) {
    let record = AttemptRecord {
        key: leased.key.clone(),
        lease: leased.lease,
        attempt: leased.attempt,
        begun: event::Millis::now(),
        duration_millis: 1,
        status: Some(200),
        answer: String::new(),
        error: None,
        next,
    };
    let changed = opened.run(opened.store.record_attempts(Arc::new(vec![record]), Arc::new(|_: &str| None)));
    assert_eq!(changed.unwrap().len(), 1);
}

fn deliveries_whose_attempts_were_cut_off_several_times_are_leased_one_by_one(store_kind: StoreKind) {
    let opened = queued(store_kind, &["shop"; 4]);
    for _ in 0..3 {
        assert_eq!(lease(&opened).len(), 4);
        // The process ends, and its next one begins.
        assert_eq!(opened.run(opened.store.end_leases_of(NODE)).unwrap(), 4);
    }
    let mut sent = BTreeSet::new();
    for _ in 0..4 {
        let alone = lease(&opened);
        assert_eq!((alone.len(), alone[0].cut_off), (1, 3));
        record(&opened, &alone[0], AfterAttempt::Sent);
        sent.insert(alone[0].key.notification.clone());
    }
    assert_eq!(sent.len(), 4);
    assert!(lease(&opened).is_empty());
}

fn a_lease_whose_answer_was_lost_can_be_ended(store_kind: StoreKind) {
    let opened = queued(store_kind, &["shop"; 2]);
    let lost = lease(&opened);
    assert!(lost.len() == 2 && lease(&opened).is_empty());
    opened.run(opened.store.end_lease(LeaseId([9; 16]))).unwrap();
    assert!(lease(&opened).is_empty(), "another lease ends");
    opened.run(opened.store.end_lease(lost[0].lease)).unwrap();
    let again = lease(&opened);
    assert_eq!(
        again.iter().map(|one| (one.attempt, one.failed, one.cut_off)).collect::<Vec<_>>(),
        [(2, 0, 1); 2]
    );
    again.iter().for_each(|one| record(&opened, one, AfterAttempt::Retry { millis: 0 }));
    let third = lease(&opened);
    let counts: Vec<_> = third.iter().map(|one| (one.attempt, one.failed, one.cut_off)).collect();
    assert_eq!(counts, [(3, 1, 0); 2], "with a known outcome, none counts as cut off");
}

fn the_lanes_of_hosts_are_found_in_pages(store_kind: StoreKind) {
    let lanes =
        ["shop b:1", "shop", "shop a:1", "shops c:1", "shop B:1", "shop b:1", "sho d:1", "shop [::1]:1"];
    let opened = queued(store_kind, &lanes);
    let after = |after: &str, count| {
        let found = opened.run(opened.store.lanes_after("shop", after, count)).unwrap();
        assert!(found.iter().all(|(_, due_in)| (-60_000..=0).contains(due_in)), "{found:?}");
        found.into_iter().map(|(lane, _)| lane).collect::<Vec<String>>()
    };
    let all = after("", 10);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(all, sorted, "in the order of bytes");
    let found: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(found, BTreeSet::from(["shop B:1", "shop a:1", "shop b:1", "shop [::1]:1"]));
    let mut one_by_one = Vec::new();
    while let [lane] = after(one_by_one.last().map_or("", String::as_str), 1).as_slice() {
        one_by_one.push(lane.clone());
    }
    assert_eq!(one_by_one, all);
    assert_eq!(opened.run(opened.store.waiting("shop", 100)).unwrap(), 6);
    assert_eq!(opened.run(opened.store.waiting("shop", 3)).unwrap(), 3);
}
