//! The store on a database server: what PostgreSQL and MySQL have in common.

mod pool;
mod server;
mod session;

pub use session::{Begin, Session};
