//! The tables that millrace keeps for itself in the user's database. Their names and columns are stored: changing one
//! needs a new schema version.

use super::tables::{ColumnKind, Table};

const NAME: ColumnKind = ColumnKind::Text { chars_max: 255 };
/// The identity of a log, an event or an upload.
const IDENTITY: ColumnKind = ColumnKind::Bytes { bytes_max: 16 };
const BODY_HASH: ColumnKind = ColumnKind::Bytes { bytes_max: 8 };
/// SHA-256, of a key or of a view's definition.
const HASH: ColumnKind = ColumnKind::Bytes { bytes_max: 32 };

/// View positions: one row per view and log. The claim moves them.
pub fn positions_table() -> Table {
    Table::new(
        "millrace_positions",
        3,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            // The stamp of the plan that moved the position last.
            ("stamp?", IDENTITY),
            // The hash of the definition that is in force; NULL for dedup, and for a rebuild's shadow.
            ("definition?", HASH),
            // Grows whenever rows that readers may hold were replaced or erased. NULL for dedup.
            ("generation?", ColumnKind::Integer),
        ],
    )
}

/// The definitions of the views: from which position of a log on each one applies.
pub fn definitions_table() -> Table {
    Table::new(
        "millrace_definitions",
        4,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("from_position", ColumnKind::Integer),
            ("hash", HASH),
            ("definition", ColumnKind::LongText),
            ("since", ColumnKind::Integer),
        ],
    )
}

/// Definitions that were accepted before a configuration has them.
pub fn prepared_table() -> Table {
    Table::new(
        "millrace_prepared",
        3,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("hash", HASH),
            ("definition", ColumnKind::LongText),
            ("prepared", ColumnKind::Integer),
        ],
    )
}

/// Identities that dedup has seen: client ids (line 0, 1 line) and runs of an upload's lines.
pub fn dedup_table() -> Table {
    Table::new(
        "millrace_seen",
        2,
        &[
            ("identity", IDENTITY),
            ("first_line", ColumnKind::Integer),
            ("line_count", ColumnKind::Integer),
            ("log_id", IDENTITY),
            ("position", ColumnKind::Integer),
            ("body_hash", BODY_HASH),
            ("received", ColumnKind::Integer),
            // 1 for a row without a time limit.
            ("kept", ColumnKind::Integer),
            // The time after which the row does not count; NULL for a row without a time limit.
            ("expires?", ColumnKind::Integer),
        ],
    )
}

/// Positions that dedup hides from all views: repeats, and events whose id was used for another body.
pub fn skipped_table() -> Table {
    Table::new(
        "millrace_skipped",
        3,
        &[
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("first_log_id", IDENTITY),
            ("first_position", ColumnKind::Integer),
            ("same_body", ColumnKind::Integer),
        ],
    )
}

/// Corrected events, each with the correction that undoes it.
pub fn taken_back_table() -> Table {
    Table::new(
        "millrace_taken_back",
        3,
        &[
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("by_position", ColumnKind::Integer),
        ],
    )
}

pub fn dead_letters_table() -> Table {
    Table::new(
        "millrace_dead_letters",
        1,
        &[
            ("id", NAME),
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("event_id", NAME),
            ("stream", NAME),
            ("reason", ColumnKind::LongText),
            ("event", ColumnKind::LongText),
            ("status", NAME),
            ("attempts", ColumnKind::Integer),
            ("created", ColumnKind::Integer),
            ("updated", ColumnKind::Integer),
            // Set for a notification that could not be sent; `event` is then what is sent.
            ("notification?", NAME),
            ("destination?", NAME),
            // Why a person dropped it.
            ("note?", ColumnKind::LongText),
        ],
    )
}

/// Deliveries: one for each notification and destination. The notification comes first in the key, so that no database
/// reads all deliveries of a view to find a few. `due` is the time of the next attempt, or the end of the
/// lease. A row with a lease and without an outcome is an attempt that is being made, or that was cut off.
pub fn deliveries_table() -> Table {
    let table = Table::new(
        "millrace_deliveries",
        3,
        &[
            ("notification", NAME),
            ("view", NAME),
            ("destination", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            // The destination, and the host if its URL depends on the event. One lane does not wait for another.
            ("lane", NAME),
            // 0 waiting, 1 sent, 2 dead, 3 dropped.
            ("state", ColumnKind::Integer),
            ("due", ColumnKind::Integer),
            ("lease?", IDENTITY),
            // The log of the node that has the lease.
            ("owner?", IDENTITY),
            // Attempts that failed, and attempts that begun, since the notification was queued or sent again.
            ("failed", ColumnKind::Integer),
            ("begun", ColumnKind::Integer),
            // All attempts.
            ("attempts", ColumnKind::Integer),
            ("created", ColumnKind::Integer),
            ("updated", ColumnKind::Integer),
        ],
    );
    let lane = table.columns.iter().position(|column| column.name == "lane");
    Table { by_bytes: lane, ..table }
}

/// What is sent, until it is sent.
pub fn contents_table() -> Table {
    let columns =
        [("notification", NAME), ("view", NAME), ("destination", NAME), ("content", ColumnKind::LongText)];
    Table::new("millrace_delivery_contents", 3, &columns)
}

/// The attempts at each delivery.
pub fn attempts_table() -> Table {
    Table::new(
        "millrace_attempts",
        4,
        &[
            ("notification", NAME),
            ("view", NAME),
            ("destination", NAME),
            ("attempt", ColumnKind::Integer),
            ("begun", ColumnKind::Integer),
            ("duration", ColumnKind::Integer),
            // `sent`, `failed` or `cut-off`.
            ("outcome", NAME),
            ("status?", ColumnKind::Integer),
            ("answer", ColumnKind::LongText),
            ("error?", ColumnKind::LongText),
        ],
    )
}

/// Positions that a view passed over because it could not apply them. Each has a dead letter. A rebuild passes over
/// them too.
pub fn passed_table() -> Table {
    Table::new(
        "millrace_passed",
        4,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
        ],
    )
}

/// Requested erasures: the remaining work, and finally the record that it was done.
pub fn erasures_table() -> Table {
    Table::new(
        "millrace_erasures",
        1,
        &[
            ("id", NAME),
            ("stream", NAME),
            ("field", NAME),
            ("value_hash", NAME),
            ("asked_by", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("events", ColumnKind::Integer),
            ("asked", ColumnKind::Integer),
            ("done?", ColumnKind::Integer),
            ("value", ColumnKind::LongText),
            ("positions", ColumnKind::LongBytes),
            ("undone", ColumnKind::LongBytes),
        ],
    )
}

/// How far retention has deleted a stream's old events.
pub fn retained_table() -> Table {
    Table::new(
        "millrace_retained",
        3,
        &[
            ("stream", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("blanked", ColumnKind::Integer),
        ],
    )
}

/// The events behind the rows of tables without a key. An entry describes the rows that one plan, or a few small
/// plans, added. `store/row_origins.rs` defines the encoding of `places`.
pub fn rows_table() -> Table {
    Table::new(
        "millrace_rows",
        4,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("first_position", ColumnKind::Integer),
            ("last_position", ColumnKind::Integer),
            ("first_row", ColumnKind::Integer),
            ("last_row", ColumnKind::Integer),
            ("row_count", ColumnKind::Integer),
            ("received_min", ColumnKind::Integer),
            ("received_max", ColumnKind::Integer),
            ("places", ColumnKind::LongBytes),
        ],
    )
}

/// The amounts that a view's table held before the view began.
pub fn opening_table() -> Table {
    Table::new("millrace_opening", 2, &[("view", NAME), ("row_key", NAME), ("amount", ColumnKind::Decimal)])
}

pub fn keys_table() -> Table {
    Table::new(
        "millrace_keys",
        1,
        &[
            ("id", NAME),
            ("name", NAME),
            ("hash", HASH),
            ("scopes", NAME),
            ("streams", ColumnKind::LongText),
            ("view_key?", ColumnKind::LongText),
            ("created", ColumnKind::Integer),
            ("revoked?", ColumnKind::Integer),
            ("id_scope?", ColumnKind::LongText),
            ("expires?", ColumnKind::Integer),
            ("last_used?", ColumnKind::Integer),
        ],
    )
}

/// Returns all tables that are created when a store is first opened.
pub fn own_tables() -> Vec<Table> {
    vec![
        positions_table(),
        definitions_table(),
        prepared_table(),
        dedup_table(),
        skipped_table(),
        taken_back_table(),
        dead_letters_table(),
        passed_table(),
        deliveries_table(),
        contents_table(),
        attempts_table(),
        rows_table(),
        opening_table(),
        erasures_table(),
        retained_table(),
        keys_table(),
    ]
}

/// Indexes on millrace's own tables: name, table, columns.
pub const OWN_INDEXES: [(&str, &str, &[&str]); 9] = [
    ("millrace_seen_expiry", "millrace_seen", &["kept", "expires", "received"]),
    ("millrace_taken_back_by", "millrace_taken_back", &["log_id", "by_position"]),
    ("millrace_rows_last", "millrace_rows", &["view", "last_row"]),
    ("millrace_dead_letters_status", "millrace_dead_letters", &["status", "id"]),
    ("millrace_dead_letters_updated", "millrace_dead_letters", &["status", "updated"]),
    ("millrace_dead_letters_place", "millrace_dead_letters", &["log_id", "position", "view"]),
    ("millrace_deliveries_due", "millrace_deliveries", &["state", "lane", "due"]),
    ("millrace_deliveries_place", "millrace_deliveries", &["log_id", "position"]),
    ("millrace_attempts_age", "millrace_attempts", &["begun"]),
];

/// The schema version that is written into the store. A store with a later version is refused. A store with an
/// earlier version gets the missing tables and columns, and its existing rows stay unchanged. Version 2 added
/// `millrace_positions.stamp`. Version 3 added `millrace_seen.expires` and `millrace_keys.id_scope`; a store of version
/// 2 keeps its index `millrace_seen_age`, which nothing uses any more. Version 4 added `millrace_positions.definition`
/// with the tables of definitions, and `millrace_keys.expires` and `last_used`. Version 5 added
/// `millrace_positions.generation`. Version 6 added the tables of deliveries, and `notification`, `destination` and `note`
/// of dead letters.
pub const SCHEMA_VERSION: i64 = 6;
