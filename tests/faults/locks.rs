//! Other programs that use the same tables. They lock rows and tables, also in another order, so the database rejects
//! some plans. The whole plan is rolled back and retried, and no event becomes a dead letter.

use crate::harness::servers::{Kind, Server};
use crate::harness::wait_for;
use crate::rig::{Rig, shared};

on_each_server!(
    a_plan_that_a_deadlock_ends_is_retried,
    a_plan_that_the_server_rejects_halfway_is_retried,
    a_lock_timeout_only_delays,
);

fn a_plan_that_a_deadlock_ends_is_retried(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    // In a deadlock, PostgreSQL ends the transaction that waited first, MariaDB the one that has written less.
    let (before, sleep) = match kind {
        Kind::Postgres => ("", "SELECT pg_sleep(0.2)"),
        Kind::Mariadb => ("INSERT INTO ballast SELECT seq FROM seq_1_to_3000;", "DO sleep(0.2)"),
    };
    server.sql(&rig.url, "CREATE TABLE ballast (n INT)");
    let lock = |user: &str| format!("UPDATE users_revenue SET revenue = revenue WHERE user_id = '{user}'");
    // Millrace locks rows in the order of their keys; this transaction locks them in the opposite order.
    let contrary = format!("BEGIN; {before} {}; {sleep}; {}; COMMIT", lock("user-9"), lock("user-0"));
    rig.load(|| {
        rig.wait_for_progress("revenue");
        wait_for("a deadlock to end plans", || {
            // The database may also end this transaction.
            drop(server.try_sql(&rig.url, &contrary));
            rig.retries() >= 2
        });
        rig.wait_for_progress("revenue");
    });
    rig.demand_exact(server);
}

/// A trigger imitates a serialization failure of PostgreSQL and a lock time-out of MariaDB, which rolls back only the
/// statement. Without a rollback of the whole plan the claim would stay and the rows would be missing.
fn a_plan_that_the_server_rejects_halfway_is_retried(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
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
    // The MariaDB client needs another delimiter, because the trigger's body contains semicolons.
    let trigger = match kind {
        Kind::Postgres => trigger.to_owned(),
        Kind::Mariadb => format!("DELIMITER //\n{}//", trigger.replacen(';', "//\n", 1)),
    };
    rig.load(|| {
        rig.wait_for_progress("revenue");
        server.sql(&rig.url, &trigger);
        wait_for("plans to be rejected", || rig.retries() >= 10);
        server.sql(&rig.url, no_trigger);
        rig.wait_for_progress("revenue");
    });
    rig.demand_exact(server);
}

/// Holds locks for longer than a statement waits: the ledger waits for a row, the table view for its table.
fn a_lock_timeout_only_delays(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    let (sleep, table) = match kind {
        Kind::Postgres => ("SELECT pg_sleep(180)", "BEGIN; LOCK TABLE sales IN ACCESS EXCLUSIVE MODE"),
        Kind::Mariadb => ("DO sleep(180)", "LOCK TABLES sales WRITE"),
    };
    let row = "BEGIN; UPDATE users_revenue SET revenue = revenue WHERE user_id = 'user-9'";
    let row_exists = "SELECT count(*) FROM users_revenue WHERE user_id = 'user-9'";
    rig.load(|| {
        rig.wait_for_progress("revenue");
        // The table exists only after its first row.
        rig.wait_for_progress("sales");
        wait_for("a row to lock", || server.sql(&rig.url, row_exists) == "1");
        std::thread::scope(|scope| {
            for locked in [row, table] {
                let (rig, sql) = (&rig, format!("{locked}; {sleep}"));
                // Sleeps until `end_sleepers` ends it.
                scope.spawn(move || server.try_sql(&rig.url, &sql).unwrap_err());
            }
            let waits = |view| rig.app.view(view)["state"] == "waiting";
            wait_for("both views to report that they wait", || waits("revenue") && waits("sales"));
            rig.wait_for_progress("sale_counts");
            rig.wait_for_events(20);
            assert_eq!(end_sleepers(server, &rig, sleep), 2);
        });
        rig.wait_for_progress("revenue");
        rig.wait_for_progress("sales");
    });
    rig.demand_exact(server);
}

/// Ends the sleeping sessions in this database, and returns their number.
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
