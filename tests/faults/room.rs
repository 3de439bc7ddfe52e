//! Databases without room: a full disk, which goes by itself once somebody makes room; and packets that are
//! smaller than what there is to write.

use serde_json::Value;

use crate::harness::mariadb::Mariadb;
use crate::harness::servers::{Kind, Setup};
use crate::harness::small_disk::{SmallDisk, may_mount};
use crate::harness::{TestApp, wait_for};
use crate::load::Load;
use crate::rig::{Rig, VIEWS, sale, start};

on_each_server!(a_full_disk_of_the_database_delays_and_loses_nothing);

const DISK_BYTES: u64 = 200 << 20;

fn a_full_disk_of_the_database_delays_and_loses_nothing(kind: Kind) {
    let module = format!("{kind:?}").to_lowercase();
    if !may_mount(&format!("room::{module}::a_full_disk_of_the_database_delays_and_loses_nothing")) {
        return;
    }
    let mut server = start(kind, Setup::default());
    let disk = SmallDisk::under(&mut server, DISK_BYTES);
    let rig = Rig::before(&server);
    let filler = disk.filler();
    rig.load(|| {
        rig.goes_on("revenue");
        filler.fill();
        wait_for("the database to be without room", || rig.waits());
        rig.more(100);
        filler.empty();
        // PostgreSQL ends where it cannot write its log.
        server.start_again_if_gone();
        rig.goes_on("revenue");
    });
    rig.demand_exact(&server);
}

const PACKET_BYTES: usize = 256 * 1024;

#[test]
fn batches_are_cut_to_the_servers_packets_and_a_row_that_is_larger_is_a_dead_letter() {
    let server = Mariadb::with(Setup::default().setting("max-allowed-packet", &PACKET_BYTES.to_string()));
    let views = VIEWS
        .replace("fields.number", "fields.pad = { type = \"any\" }\nfields.number")
        .replace("columns = { ", "columns = { pad = \"pad\", ");
    let mut rig = Rig::started(&server, |start| start.config = Some(views));
    let load = Load::new(&rig.checker, rig.app.client());
    load.objects(60, 100_000);
    rig.load(|| rig.more(200));
    rig.demand_exact(&server);

    let large = |app: &TestApp, number: u32| {
        let pad = "x".repeat(PACKET_BYTES);
        let fields = r#""userId":"large","name":"add_revenue","value":1"#;
        let body = format!(r#"{{"id":"one",{fields},"number":{number},"pad":"{pad}"}}"#);
        sale(app, &body).json()["eventId"].as_str().unwrap().to_owned()
    };
    let id = large(&rig.app, 1);
    rig.app.settle();
    let letters = letters(&rig.app, 1);
    let of = |name: &str| letters[0][name].as_str().unwrap();
    assert_eq!((of("view"), of("eventId")), ("sales", id.as_str()));
    assert!(of("reason").contains("max_allowed_packet"), "{letters:?}");
    // The other views need less of it.
    assert_eq!(rig.app.balance("large").as_deref(), Some("1"));

    // The gate is passed by what it keeps a letter of, however large. The doors have forgotten the id.
    rig.app.restart();
    large(&rig.app, 2);
    sale(&rig.app, r#"{"userId":"large","name":"add_revenue","value":10,"number":3}"#);
    assert_eq!(rig.app.balance("large").as_deref(), Some("11"));
    self::letters(&rig.app, 2);
}

fn letters(app: &TestApp, count: usize) -> Vec<Value> {
    let letters = app.client().get("/v1/dead-letters").json();
    let letters = letters["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), count, "{letters:?}");
    letters.clone()
}
