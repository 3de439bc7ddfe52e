//! Sessions on a real server, for the tests in this folder.

#[path = "../../../tests/harness/mariadb.rs"]
mod mariadb;
#[path = "../../../tests/harness/postgres.rs"]
mod postgres;
#[path = "../../../tests/harness/process.rs"]
mod process;
#[path = "../../../tests/harness/servers.rs"]
pub mod servers;

use super::{Server, Session};
use crate::store::Password;
pub use mariadb::Mariadb;

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Opens a session in a new database. Returns the session and the database's URL.
pub async fn session() -> (Session, String) {
    let url = Mariadb::shared().new_database();
    (connected(&url).await, url)
}

pub async fn connected(url: &str) -> Session {
    let server = Server::parse(url, &Password::default()).expect("a url");
    server.connect().await.expect("connects")
}
