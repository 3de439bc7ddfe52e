//! Databases without enough space: a full disk, after which millrace continues as soon as there is space, and a
//! packet limit that is smaller than a batch.

use serde_json::Value;

use crate::harness::mariadb::Mariadb;
use crate::harness::servers::{Kind, Setup};
use crate::harness::small_disk::{SmallDisk, can_mount};
use crate::harness::{TestApp, wait_for};
use crate::load::Load;
use crate::rig::{Rig, sale, start};

on_each_server!(a_full_disk_of_the_database_delays_and_loses_nothing);

const DISK_BYTES: u64 = 200 << 20;

fn a_full_disk_of_the_database_delays_and_loses_nothing(kind: Kind) {
    let module = format!("{kind:?}").to_lowercase();
    if !can_mount(&format!("room::{module}::a_full_disk_of_the_database_delays_and_loses_nothing")) {
        return;
    }
    let mut server = start(kind, Setup::default());
    let disk = SmallDisk::under(&mut server, DISK_BYTES);
    let rig = Rig::new(&server);
    let filler = disk.filler();
    rig.load(|| {
        rig.wait_for_progress("revenue");
        filler.fill();
        wait_for("the database to be full", || rig.any_view_waits());
        rig.wait_for_events(100);
        filler.empty();
        // PostgreSQL ends if it cannot write its write-ahead log.
        server.start_again_if_gone();
        rig.wait_for_progress("revenue");
    });
    rig.demand_exact(&server);
}

const PACKET_BYTES: usize = 256 * 1024;

#[test]
fn batches_fit_the_packet_limit_and_a_larger_row_becomes_a_dead_letter() {
    let server = Mariadb::with(Setup::default().setting("max-allowed-packet", &PACKET_BYTES.to_string()));
    let with_pad = |config: String| {
        config
            .replace("fields.number", "fields.pad = { type = \"any\" }\nfields.number")
            .replace("columns = { ", "columns = { pad = \"pad\", ")
    };
    let mut rig = Rig::started(&server, |start| start.config = start.config.take().map(with_pad));
    let load = Load::new(&rig.checker, rig.app.client());
    load.objects(60, 100_000);
    rig.load(|| rig.wait_for_events(200));
    rig.demand_exact(&server);

    let large = |app: &TestApp, number: u32| {
        let pad = "x".repeat(PACKET_BYTES);
        let fields = r#""userId":"large","name":"add_revenue","value":1"#;
        let body = format!(r#"{{"id":"one",{fields},"number":{number},"pad":"{pad}"}}"#);
        sale(app, &body).json()["eventId"].as_str().unwrap().to_owned()
    };
    let id = large(&rig.app, 1);
    rig.app.settle();
    let dead_letters = read_dead_letters(&rig.app, 1);
    let of = |name: &str| dead_letters[0][name].as_str().unwrap();
    assert_eq!((of("view"), of("eventId")), ("sales", id.as_str()));
    assert!(of("reason").contains("max_allowed_packet"), "{dead_letters:?}");
    // The other views do not store the large field.
    assert_eq!(rig.app.balance("large").as_deref(), Some("1"));

    // After a restart the sources no longer know the id, so dedup must make a dead letter of the second event. It
    // continues although the dead letter does not fit into a packet.
    rig.app.restart();
    large(&rig.app, 2);
    sale(&rig.app, r#"{"userId":"large","name":"add_revenue","value":10,"number":3}"#);
    assert_eq!(rig.app.balance("large").as_deref(), Some("11"));
    read_dead_letters(&rig.app, 2);
}

fn read_dead_letters(app: &TestApp, count: usize) -> Vec<Value> {
    let dead_letters = app.client().get("/v1/dead-letters").json();
    let dead_letters = dead_letters["deadLetters"].as_array().unwrap();
    assert_eq!(dead_letters.len(), count, "{dead_letters:?}");
    dead_letters.clone()
}
