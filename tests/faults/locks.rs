//! Others who work in the same tables: they hold rows and tables, lock them in another order, and some plans
//! are turned down for it. All of the plan is rolled back and tried again, and no event is to blame.

use crate::harness::servers::{Kind, Server};
use crate::harness::wait_for;
use crate::rig::{Rig, shared};

on_each_server!(
    a_plan_that_a_deadlock_ends_is_tried_again,
    a_plan_that_the_server_turns_down_half_done_is_tried_again,
    a_lock_that_is_waited_for_in_vain_only_delays,
);

fn a_plan_that_a_deadlock_ends_is_tried_again(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    // PostgreSQL ends whoever waited first, MariaDB whoever has written less.
    let (before, sleep) = match kind {
        Kind::Postgres => ("", "SELECT pg_sleep(0.2)"),
        Kind::Mariadb => ("INSERT INTO ballast SELECT seq FROM seq_1_to_3000;", "DO sleep(0.2)"),
    };
    server.sql(&rig.url, "CREATE TABLE ballast (n INT)");
    let lock = |user: &str| format!("UPDATE users_revenue SET revenue = revenue WHERE user_id = '{user}'");
    // Millrace has them in the order of their keys.
    let contrary = format!("BEGIN; {before} {}; {sleep}; {}; COMMIT", lock("user-9"), lock("user-0"));
    rig.load(|| {
        rig.goes_on("revenue");
        wait_for("a deadlock to end plans", || {
            // It may be the other one that is ended.
            drop(server.try_sql(&rig.url, &contrary));
            rig.retries() >= 2
        });
        rig.goes_on("revenue");
    });
    rig.demand_exact(server);
}

/// As PostgreSQL does to a transaction that saw too little of another, and MariaDB by its statement: without a
/// rollback the claim would stay, and the rows would be missing.
fn a_plan_that_the_server_turns_down_half_done_is_tried_again(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    let (trigger, no_trigger) = match kind {
        Kind::Postgres => (
            "CREATE SEQUENCE turns; CREATE FUNCTION turn_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('turns') % 40 = 0 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER turn_down BEFORE INSERT ON users_revenue FOR EACH ROW EXECUTE FUNCTION turn_down()",
            "DROP TRIGGER turn_down ON users_revenue",
        ),
        Kind::Mariadb => (
            "CREATE SEQUENCE turns; CREATE TRIGGER turn_down BEFORE INSERT ON users_revenue FOR EACH ROW \
             IF NEXT VALUE FOR turns % 40 = 0 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1205; END IF",
            "DROP TRIGGER turn_down",
        ),
    };
    // Of more than one statement, but for the client's own separator.
    let trigger = match kind {
        Kind::Postgres => trigger.to_owned(),
        Kind::Mariadb => format!("DELIMITER //\n{}//", trigger.replacen(';', "//\n", 1)),
    };
    rig.load(|| {
        rig.goes_on("revenue");
        server.sql(&rig.url, &trigger);
        wait_for("plans to be turned down", || rig.retries() >= 10);
        server.sql(&rig.url, no_trigger);
        rig.goes_on("revenue");
    });
    rig.demand_exact(server);
}

/// Longer than a statement waits: the ledger for a row, the table's view for the table.
fn a_lock_that_is_waited_for_in_vain_only_delays(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    let (sleep, table) = match kind {
        Kind::Postgres => ("SELECT pg_sleep(180)", "BEGIN; LOCK TABLE sales IN ACCESS EXCLUSIVE MODE"),
        Kind::Mariadb => ("DO sleep(180)", "LOCK TABLES sales WRITE"),
    };
    let row = "BEGIN; UPDATE users_revenue SET revenue = revenue WHERE user_id = 'user-9'";
    let there = "SELECT count(*) FROM users_revenue WHERE user_id = 'user-9'";
    rig.load(|| {
        rig.goes_on("revenue");
        // Before its first row there is no table to lock.
        rig.goes_on("sales");
        wait_for("a row to hold", || server.sql(&rig.url, there) == "1");
        std::thread::scope(|scope| {
            for locked in [row, table] {
                let (rig, sql) = (&rig, format!("{locked}; {sleep}"));
                // Until it is ended.
                scope.spawn(move || server.try_sql(&rig.url, &sql).unwrap_err());
            }
            let waits = |view| rig.app.view(view)["waiting"].is_string();
            wait_for("both views to have waited in vain", || waits("revenue") && waits("sales"));
            rig.goes_on("sale_counts");
            rig.more(20);
            assert_eq!(end_sleepers(server, &rig, sleep), 2);
        });
        rig.goes_on("revenue");
        rig.goes_on("sales");
    });
    rig.demand_exact(server);
}

/// Ends the sessions that hold something in this database; how many there were.
fn end_sleepers(server: &Server, rig: &Rig, sleep: &str) -> usize {
    let database = rig.url.rsplit('/').next().unwrap();
    match server.kind {
        Kind::Postgres => {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE '%{sleep}%' AND pid <> pg_backend_pid()"
            );
            server.administer(&sql).lines().count()
        }
        Kind::Mariadb => {
            let sql = format!(
                "SELECT id FROM information_schema.processlist WHERE db = '{database}' AND info LIKE '%{sleep}%' AND id <> connection_id()"
            );
            let sleepers = server.administer(&sql);
            sleepers.lines().for_each(|id| drop(server.administer(&format!("KILL {id}"))));
            sleepers.lines().count()
        }
    }
}
