//! Faults that a person must fix: a dropped table, a revoked privilege. The view concerned is paused and its reason
//! says what to do. The other views continue. Afterwards every event counts once.

use crate::harness::servers::{Kind, Server};
use crate::harness::wait_for;
use crate::rig::{Rig, paused, shared};

on_each_server!(
    a_dropped_table_pauses_only_its_view_until_it_is_rebuilt,
    a_revoked_privilege_pauses_only_its_view_until_it_is_granted,
);

fn wait_for_other_views(rig: &Rig) {
    rig.wait_for_progress("sale_counts");
    rig.wait_for_progress("sales");
}

fn a_dropped_table_pauses_only_its_view_until_it_is_rebuilt(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    rig.load(|| {
        rig.wait_for_progress("revenue");
        server.sql(&rig.url, "DROP TABLE users_revenue");
        let reason = paused(&rig.app, "revenue");
        assert!(reason.contains("`users_revenue` does not exist") && reason.contains("rebuild"), "{reason}");
        wait_for_other_views(&rig);
    });
    let rebuilt = rig.app.client().post("/v1/views/revenue/rebuild", "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    rig.demand_exact(server);
}

const LEAST: &str = "least";

/// Grants access to all existing tables, but no privilege to create any.
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

fn a_revoked_privilege_pauses_only_its_view_until_it_is_granted(kind: Kind) {
    let server = shared(kind);
    let mut rig = Rig::new(server);
    // First the owner creates the tables. Then millrace runs as a user who may only read and write them.
    rig.load(|| wait_for("all views to begin", || views_have_begun(&rig)));
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
        rig.wait_for_progress("revenue");
        server.sql(&rig.url, &format!("REVOKE INSERT, UPDATE ON {table} FROM {LEAST}"));
        let reason = paused(&rig.app, "revenue");
        assert!(reason.contains("users_revenue") && reason.contains("GRANT "), "{reason}");
        wait_for_other_views(&rig);
        grant(server, &rig.url);
        rig.wait_for_progress("revenue");
    });
    // `reconcile` creates tables, which only the owner may do.
    let as_owner = rig.proxy.url(&rig.url);
    rig.app.restart_with(|start| start.environment = store(as_owner));
    rig.demand_exact(server);
}

fn views_have_begun(rig: &Rig) -> bool {
    ["revenue", "sale_counts", "sales"].into_iter().all(|view| crate::rig::position(&rig.app, view) > 0)
}
