//! The parts of the table, one file for each.

mod anew;
mod database_ledger;
mod database_rows;
mod database_send;
mod delivery;
mod ledger;
mod live;
mod live_event;
mod memory;
mod ndjson;
mod rows;
mod send;
mod slow_sync;
mod sockets;
mod start;
mod stats;
mod visible;

use crate::Outcome;
use crate::setting::Setting;
use crate::table::Table;

pub struct Part {
    pub name: &'static str,
    pub measure: fn(&Setting, &mut Table) -> Outcome<()>,
}

/// All parts, in the order of the table.
pub const PARTS: [Part; 17] = [
    Part { name: "live_event", measure: live_event::measure },
    Part { name: "socketio", measure: sockets::socketio },
    Part { name: "websocket", measure: sockets::websocket },
    Part { name: "live", measure: live::measure },
    Part { name: "delivery", measure: delivery::measure },
    Part { name: "slow_sync", measure: slow_sync::measure },
    Part { name: "ndjson", measure: ndjson::measure },
    Part { name: "ledger", measure: ledger::measure },
    Part { name: "rows", measure: rows::measure },
    Part { name: "stats", measure: stats::measure },
    Part { name: "send", measure: send::measure },
    Part { name: "database_rows", measure: database_rows::measure },
    Part { name: "database_ledger", measure: database_ledger::measure },
    Part { name: "database_send", measure: database_send::measure },
    Part { name: "visible", measure: visible::measure },
    Part { name: "memory", measure: memory::measure },
    Part { name: "start", measure: start::measure },
];
