//! What a person has to mend: a table that is gone, a right that was taken away. The view concerned stands
//! still and says what to do, the others go on, and afterwards every event counts once.

use crate::harness::servers::{Kind, Server};
use crate::harness::wait_for;
use crate::rig::{Rig, paused, shared};

on_each_server!(
    a_table_that_is_dropped_pauses_its_view_alone_until_it_is_rebuilt,
    a_right_that_is_revoked_pauses_its_view_alone_until_it_is_granted,
);

fn others_go_on(rig: &Rig) {
    rig.goes_on("sale_counts");
    rig.goes_on("sales");
}

fn a_table_that_is_dropped_pauses_its_view_alone_until_it_is_rebuilt(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    rig.load(|| {
        rig.goes_on("revenue");
        server.sql(&rig.url, "DROP TABLE users_revenue");
        let said = paused(&rig.app, "revenue");
        assert!(said.contains("`users_revenue` does not exist") && said.contains("rebuild"), "{said}");
        others_go_on(&rig);
    });
    let rebuilt = rig.app.client().post("/v1/views/revenue/rebuild", "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    rig.demand_exact(server);
}

const LEAST: &str = "least";

/// Everything that is there, as an administrator would who lets millrace make nothing.
fn grant(server: &Server, url: &str) {
    let database = url.rsplit('/').next().unwrap();
    match server.kind {
        Kind::Postgres => drop(server.sql(
            url,
            &format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {LEAST}; \
                 GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {LEAST}"
            ),
        )),
        Kind::Mariadb => {
            for table in server.sql(url, "SHOW TABLES").lines() {
                let right = "SELECT, INSERT, UPDATE, DELETE";
                server.administer(&format!("GRANT {right} ON `{database}`.`{table}` TO '{LEAST}'@'%'"));
            }
        }
    }
}

fn a_right_that_is_revoked_pauses_its_view_alone_until_it_is_granted(kind: Kind) {
    let server = shared(kind);
    let mut rig = Rig::before(server);
    // Its owner makes the tables, and then the one runs it who may only write into them.
    rig.load(|| wait_for("all views to have begun", || views_have_begun(&rig)));
    rig.app.settle();
    server.administer(&match kind {
        Kind::Postgres => format!("CREATE ROLE {LEAST} LOGIN PASSWORD 'secret'"),
        Kind::Mariadb => format!("CREATE USER '{LEAST}'@'%' IDENTIFIED BY 'secret'"),
    });
    grant(server, &rig.url);
    let as_least = rig.proxy.url(&rig.url).replace("//millrace:", &format!("//{LEAST}:"));
    let store = |url: String| vec![("MILLRACE_STORE".to_owned(), url)];
    rig.app.restart_with(|start| start.environment = store(as_least));
    let table = match kind {
        Kind::Postgres => "users_revenue".to_owned(),
        Kind::Mariadb => format!("{}.users_revenue", rig.url.rsplit('/').next().unwrap()),
    };
    rig.load(|| {
        rig.goes_on("revenue");
        server.sql(&rig.url, &format!("REVOKE INSERT, UPDATE ON {table} FROM {LEAST}"));
        let said = paused(&rig.app, "revenue");
        assert!(said.contains("users_revenue") && said.contains("GRANT "), "{said}");
        others_go_on(&rig);
        grant(server, &rig.url);
        rig.goes_on("revenue");
    });
    // To compare with the log takes tables of its own.
    let as_owner = rig.proxy.url(&rig.url);
    rig.app.restart_with(|start| start.environment = store(as_owner));
    rig.demand_exact(server);
}

fn views_have_begun(rig: &Rig) -> bool {
    ["revenue", "sale_counts", "sales"].into_iter().all(|view| crate::rig::position(&rig.app, view) > 0)
}
