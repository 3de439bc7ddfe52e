//! Every bound of the system, in one place, units last. A queue, a body, a batch or a depth that is
//! not bounded here is a defect.

use std::time::Duration;

mod alerts;
mod delivery;
mod live;
mod sockets;
mod stopping;

pub use alerts::*;
pub use delivery::*;
pub use live::*;
pub use sockets::*;
pub use stopping::*;

// Requests.
/// The text of one event, and a line of an NDJSON body. Everything that holds whole events is sized by it.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// The part of a line of `export` that is not the event's own text. Exported lines may be longer by this much.
pub const ENVELOPE_BYTES_MAX: usize = 2 * 1024;
/// An object or array in one request, which is held in memory as a whole. NDJSON has no such limit.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Memory of all bodies that are being read. Beyond it the response is 503.
pub const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The same for one address (IPv6: one /64). One largest body from another address still fits beside it.
pub const BODIES_OF_ADDRESS_BYTES_MAX: usize = BODIES_BYTES_MAX - BODY_BYTES_MAX;
/// Memory of all bodies that came without a key. The rest stays free for senders with a key.
pub const OPEN_BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same for one address, so that one sender without a key cannot block the others.
pub const OPEN_BODIES_OF_ADDRESS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events in one array, which are checked and stored together. Larger amounts have to be sent as NDJSON.
pub const ARRAY_EVENTS_MAX: usize = 10_000;
/// Lines of NDJSON that are checked, stored and acknowledged together.
pub const CHUNK_LINES_MAX: usize = 1_000;
/// A chunk ends at this size even if it has fewer lines, so that long lines do not fill the memory.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Refusals (or differences of a comparison) that one response lists. The others are only counted.
pub const REFUSALS_LISTED_MAX: usize = 1_000;
/// Faults of refused events that one response lists. After them, it lists only the first fault of each event.
pub const FAULTS_LISTED_MAX: usize = 4_000;
/// Faults that are reported of one event: an object may have thousands of bad keys.
pub const EVENT_FAULTS_MAX: usize = 16;
/// Nesting of objects and arrays in an event, so that no later reader of the event fails on it.
pub const JSON_DEPTH_MAX: usize = 64;
/// Keys of one object that is checked key by key, because each key is compared with all keys before it.
pub const JSON_KEYS_MAX: usize = 256;
/// A client's id for an event, or an `Idempotency-Key`: its length is the client's choice.
pub const CLIENT_ID_CHARS_MAX: usize = 200;
/// One attribute of a CloudEvent: the specification sets no limit.
pub const CLOUD_ATTRIBUTE_CHARS_MAX: u32 = 1_000;
/// The head of a request: its first line and its headers.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// The read buffer of one connection, which keeps it while it is open. A request head has to fit.
pub const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Memory of all large responses that clients have not read yet. Beyond it the response is 503.
pub const RESPONSES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Responses up to this size are not counted in `RESPONSES_BYTES_MAX`.
pub const RESPONSE_BYTES_SMALL_MAX: usize = 16 * 1024;
/// Time for a client to send a request head. A connection that takes longer is closed.
pub const HEADER_READ_DURATION_MAX: Duration = Duration::from_secs(75);
/// Time without a byte of the body. Then the request is refused.
pub const BODY_IDLE_DURATION_MAX: Duration = Duration::from_secs(30);
/// Time for a body that is held in memory until it is complete.
pub const BODY_DURATION_MAX: Duration = Duration::from_secs(300);
/// Such a body brings at least this many bytes in each `BODY_SPAN`, about 1 KiB/s. A slower one only holds memory.
pub const BODY_SPAN_BYTES_MIN: usize = 32 * 1024;
/// The span over which `BODY_SPAN_BYTES_MIN` is measured.
pub const BODY_SPAN: Duration = Duration::from_secs(30);
/// Time in which a client reads nothing of a response. Then its connection is closed, which frees the response.
pub const RESPONSE_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// Time to read and discard the rest of a request before its connection is closed. An immediate close would
/// reset the connection, and the client might lose the response that gives the reason.
pub const LINGER_DURATION_MAX: Duration = Duration::from_secs(5);
/// The same wait ends earlier if nothing arrives for this long.
pub const LINGER_IDLE_DURATION_MAX: Duration = Duration::from_millis(250);
/// Time for a TLS handshake. Then the connection is closed.
pub const HANDSHAKE_DURATION_MAX: Duration = Duration::from_secs(10);
/// How often the certificate files are checked for a change.
pub const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Open connections. The process's limit of open files may lower it.
pub const CONNECTIONS_MAX: usize = 16_384;
/// At the limit of connections, one that has been idle for this long may be closed for a new one.
pub const IDLE_CONNECTION_DURATION_MIN: Duration = Duration::from_secs(5);
/// How often an idle connection is searched for while a new one waits.
pub const IDLE_CONNECTION_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How long `?wait=applied` waits for the views. Then the response is 202.
pub const WAIT_APPLIED_DURATION_MAX: Duration = Duration::from_secs(30);
/// After this long, `?wait=applied` no longer waits for a view that is paused. By then, a view has noticed that a person
/// has mended it.
pub const WAIT_PAUSED_DURATION_MAX: Duration = Duration::from_secs(5);
/// How long `accept` waits until a view has finished its present work.
pub const ACCEPT_HOLD_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a request for a stream's events may wait for new ones.
pub const TAIL_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);
/// Events in one page of a stream.
pub const TAIL_EVENTS_MAX: usize = 1_000;
/// Rows in one page of a list.
pub const LIST_ROWS_MAX: usize = 1_000;
/// Event text in one page of events, dead letters or rows. A page that reaches it ends early.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One read of the log for a page of events. It is small, so that a page of ten events does not cost megabytes.
pub const TAIL_READ_BYTES_MAX: usize = 256 * 1024;
/// Log bytes that one request for events reads: most of them may belong to other streams.
pub const TAIL_SCAN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Dead letters in one read of the store: each may hold an event of the largest size.
pub const DEAD_LETTERS_READ_ROWS_MAX: usize = 16;
/// Positions in one query for their dead letters: each position is a parameter of the statement.
pub const DEAD_LETTERS_LOOKED_UP_MAX: usize = 500;
/// Dead letters that the answer to events with `wait=applied` lists.
pub const DEAD_LETTERS_ANSWERED_MAX: usize = 100;
/// Ranges of the log whose events the answer to a request with `wait=applied` looks up. Beyond it, the answer is 202.
pub const ANSWERED_RANGES_MAX: usize = 10_000;
/// The same for the events that the request's corrections undo. An array of corrections always fits.
pub const ANSWERED_CORRECTIONS_MAX: usize = ARRAY_EVENTS_MAX;
/// The same for the earlier runs of lines that the request's lines repeat.
pub const ANSWERED_RUNS_MAX: usize = 1_000;
/// Positions whose skipped events are read together, for an answer with `wait=applied`.
pub const SKIPPED_READ_POSITIONS_MAX: u64 = 10_000;
/// Rows of a view's table in one read: each may hold an event of the largest size.
pub const WIDE_ROWS_READ_MAX: usize = 16;
/// Row numbers that one request with a filter searches. The response says where the next request continues.
pub const ROWS_SCANNED_MAX: i64 = 1_000_000;
/// Requests that read the log at one time; others wait. Each of them holds a thread and a page.
pub const READS_AT_ONCE_MAX: usize = 8;
/// Log reads at one time that look up the event that a correction undoes.
pub const LOG_LOOKUPS_AT_ONCE_MAX: usize = 4;
/// The reason of a correction, as its sender wrote it.
pub const CORRECTION_REASON_CHARS_MAX: usize = 1_000;
/// Threads for blocking work: enough for all that the limits here allow to wait for the disk at one time,
/// and a few more. Each thread takes memory.
pub const BLOCKING_THREADS_MAX: usize = 40;
/// Long scans of the log at one time, such as rebuilds and reconciliations. They must not delay readers.
pub const LOG_REPLAYS_AT_ONCE_MAX: usize = 2;
/// Senders (keys and networks) whose requests are counted one by one. All others share one count.
pub const SENDERS_COUNTED_MAX: usize = 65_536;
/// Time between two removals of senders that have become idle: each removal goes through all of them.
pub const SENDERS_FORGOTTEN_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How exact the time of a key's last use is.
pub const KEY_USE_NOTED_INTERVAL: Duration = Duration::from_secs(60);
/// The JSON body of an administrator's request, such as the description of a new key.
pub const KEY_BODY_BYTES_MAX: usize = 64 * 1024;
/// The definition of a view that is accepted before a configuration has it.
pub const DEFINITION_BYTES_MAX: usize = 1024 * 1024;
/// The largest body that is checked on an async thread. A larger one would delay other requests.
pub const QUICK_BODY_BYTES_MAX: usize = 128 * 1024;
/// Compressed bytes that one step decodes. A step yields about `QUICK_BODY_BYTES_MAX` at most.
pub const CODED_STEP_BYTES_MAX: usize = 16 * 1024;
/// The window of a zstd body: RFC 9659 allows this much for HTTP.
pub const ZSTD_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory of one gzip decoder: state, buffers and the longest header.
pub const GZIP_STATE_BYTES_MAX: usize = 320 * 1024;
/// Memory of one zstd decoder beside its window. A malicious block may claim more than an honest one needs.
pub const ZSTD_STATE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a receipt waits until dedup has processed an event that was acknowledged a moment ago.
pub const RECEIPT_DEDUP_DURATION_MAX: Duration = Duration::from_secs(2);
/// The same for an answer that must include all acknowledged events, such as the list of an upload's lines.
pub const DEDUP_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);

// The log.
/// Appends that wait for the disk. Beyond it the response is 503.
pub const LOG_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Disk space that stays free in the data folder: new events are refused below it, and views can still write.
pub const DISK_FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// A smaller disk keeps this share free instead: one part in 8.
pub const DISK_FREE_SHARE_MIN: u64 = 8;
/// How often the free disk space is checked. Appends in between are counted.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(250);

// Batches.
/// Events in one batch of a view, which are folded together.
pub const BATCH_EVENTS_MAX: usize = 32_768;
/// The shortest and the longest `age` of a view's `batch`, and the one of a `batch` that sets only `events`.
pub const BATCH_AGE_MIN: Duration = Duration::from_millis(1);
pub const BATCH_AGE_MAX: Duration = Duration::from_secs(3600);
pub const BATCH_AGE_DEFAULT: Duration = Duration::from_secs(5);
/// One read of the log for a view with `batch`. It is small, because such a view may need few events of it.
pub const WAITING_READ_BYTES_MAX: usize = 256 * 1024;
/// Log bytes that are read for one batch.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Batches of all views in memory. It does not include batches of views that wait for their store.
pub const BATCHES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A view that is this far behind folds the next batch while its store applies the last one.
pub const PIPELINE_POSITIONS_MIN: u64 = 8_192;
/// Batches that only add to sums are merged up to this size while they wait for the store.
pub const MERGED_PLAN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Positions that a view may pass in memory before it stores its position, if none of the events is its own.
pub const UNSAVED_POSITIONS_MAX: u64 = 100_000;
/// The same as a time: retention deletes only below stored positions, so an old one would block it.
pub const UNSAVED_DURATION_MAX: Duration = Duration::from_secs(600);
/// Time between the starts of two batches of a view that keeps up. Under load each commit then carries many
/// events, and the sources get the processor. It is part of the delay until an event is visible.
pub const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(8);
/// A batch with fewer events is not load, and the next batch is not delayed.
pub const BATCH_EVENTS_PACED_MIN: usize = 16;
/// The same interval for dedup, which all views wait for.
pub const DEDUP_INTERVAL_MIN: Duration = Duration::from_millis(2);
/// Dead letters in a row, with no applied event between them, that pause a view: single events are not the cause
/// then.
pub const DEAD_LETTERS_IN_A_ROW_MAX: usize = 100;
/// How long the retry of a dead letter waits for dedup while it blocks corrections.
pub const DEAD_LETTER_TURN_DURATION_MAX: Duration = Duration::from_secs(1);
/// Dead letters of one batch that get a line each in the program log. The others are only counted.
pub const DEAD_LETTERS_LOGGED_MAX: usize = 16;
/// A larger plan has a SQLite transaction to itself: its sync is then a small part of the cost.
pub const PLAN_CELLS_TOGETHER_MAX: usize = 8_192;
/// Plans in one SQLite transaction.
pub const PLANS_TOGETHER_MAX: usize = 64;

// Erasing.
/// Events that one erasure includes. A second request for the same person erases the rest.
pub const ERASED_EVENTS_MAX: u64 = 1_000_000;
/// Corrections in one record of the log.
pub const CORRECTIONS_RECORD_MAX: usize = 1_000;
/// How often an erasure that waits checks whether it can continue.
pub const ERASURE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a request for an erasure checks whether it is complete.
pub const ERASURE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time until an erasure that failed is tried again.
pub const ERASURE_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long a request waits for the end of its erasure. Then the response is 202, and the erasure continues.
pub const ERASURE_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);

// Retention.
/// Events younger than this are never deleted by retention.
pub const RETENTION_DURATION_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often retention looks for old events.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// How often the ages of the log's events are saved to their file.
pub const AGE_SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// How often the end of the log is noted. Ages cannot be more precise.
pub const AGE_NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// A longer stop of the server, or a larger jump of the clock, does not count as age; a weekend does. It is less than
/// `RETENTION_DURATION_MIN`, so that one start with a wrong clock cannot make a young event old.
pub const AGE_GAP_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// The clock may be adjusted by this much without being treated as wrong.
pub const AGE_STEP_MAX: Duration = Duration::from_secs(3600);
/// After a jump of the clock, nothing is treated as old for this long.
pub const AGE_HOLD_DURATION: Duration = Duration::from_secs(24 * 3600);
/// Jumps of the clock that are remembered, the latest ones.
pub const AGE_JUMPS_MAX: usize = 64;
/// Rows that one transaction of retention deletes.
pub const RETENTION_ROWS_MAX: usize = 10_000;
/// How long retention waits for the history lock: everyone else who needs the lock waits behind it.
pub const RETENTION_LOCK_DURATION_MAX: Duration = Duration::from_millis(100);
/// How long retention waits for dedup while it has the history lock and blocks everyone else.
pub const RETENTION_DEDUP_DURATION_MAX: Duration = Duration::from_secs(1);
/// Segments that the shortest retention time is divided into, at least. A segment is deleted as a whole, so its
/// oldest event outlives that time by about one part in 8.
pub const SEGMENTS_PER_RETENTION_MIN: u32 = 8;

// The store.
/// The first delay before a transaction is tried again. It doubles each time.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// The largest such delay.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// How often a paused view checks whether the cause is fixed.
pub const PAUSE_RECHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long `/metrics` and `/v1/status` wait for values from the store. They answer without them afterwards.
pub const METRICS_STORE_DURATION_MAX: Duration = Duration::from_secs(1);
/// How often SQLite's files are checked: they must still be the files that were opened.
pub const STORE_FILES_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after the start SQLite's pages are checked for damage, and how often after that.
pub const STORE_DAMAGE_CHECK_DELAY: Duration = Duration::from_secs(10);
pub const STORE_DAMAGE_CHECK_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Connections for reading; further reads wait for one.
pub const STORE_READERS_MAX: usize = 8;
/// Connections to a database server on which views and dedup write.
pub const STORE_WRITERS_MAX: usize = 8;
/// How often the database is asked whether it can be used.
pub const STORE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the answer. An outage is reported within this and the interval, and a little more.
pub const STORE_PROBE_DURATION_MAX: Duration = Duration::from_secs(3);
/// How long a start waits for a database server before it serves without it.
pub const STORE_START_DURATION_MAX: Duration = Duration::from_secs(5);
/// How often the keys are read again, for changes by other nodes.
pub const KEYS_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Time for a database server to answer a statement. Then the connection counts as lost.
pub const STORE_ANSWER_DURATION_MAX: Duration = Duration::from_secs(60);
/// The same for a statement that goes through a whole table, such as one that creates an index.
pub const STORE_TABLE_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long an unused connection stays open: firewalls drop idle connections silently.
pub const STORE_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// Time to open a connection to PostgreSQL, for each host of the URL.
pub const POSTGRES_CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// The part of it for one address, because a host name may have several.
pub const POSTGRES_REACH_DURATION_MAX: Duration = Duration::from_secs(3);
/// How long a PostgreSQL session waits for a lock of another session.
pub const POSTGRES_LOCK_DURATION_MAX: Duration = Duration::from_secs(10);
/// PostgreSQL ends a transaction that is idle for this long, so that a frozen process cannot keep its locks.
pub const POSTGRES_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// How long an abandoned PostgreSQL session may take to close in an orderly way. Then it is cut off.
pub const POSTGRES_CLOSE_DURATION_MAX: Duration = Duration::from_secs(1);
/// Prepared statements that a PostgreSQL session keeps.
pub const POSTGRES_STATEMENTS_MAX: usize = 128;
/// How long the column types of a table are cached: somebody may change them.
pub const POSTGRES_COLUMN_TYPES_AGE_MAX: Duration = Duration::from_secs(60);
/// Rows for a PostgreSQL COPY are sent in pieces of about this size.
pub const POSTGRES_COPY_PIECE_BYTES: usize = 64 * 1024;

/// How long SQLite waits for a lock of another program. Then the store counts as busy.
pub const BUSY_DURATION_MAX: Duration = Duration::from_secs(2);
/// Ids that dedup looks up with one query on a database server.
pub const DEDUP_IDS_LOOKED_UP_MAX: usize = 4_096;
/// Notifications that one statement looks up or deletes by id.
pub const NOTIFICATIONS_LOOKED_UP_MAX: usize = 500;
/// Rows of a batch whose numbers are further apart are read separately: rows of others lie between them.
pub const ROW_NUMBERS_GAP_MAX: u64 = 1_000;
/// A value in the report of a comparison. A longer one is cut.
pub const DIFFERENCE_VALUE_CHARS_MAX: usize = 60;
/// Rows in one shared entry of row origins. Under little load each plan has only one row.
pub const ROW_ORIGINS_JOINED_MAX: usize = 512;
/// Rows that one SQLite statement inserts.
pub const ROWS_PER_STATEMENT_MAX: usize = 16;
/// Rows that a rebuild reads, compares and repairs together.
pub const REBUILD_ROWS_MAX: usize = 10_000;

// MySQL and MariaDB.
/// Time to open a connection.
pub const MYSQL_CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a statement waits for a lock. Then the whole transaction is tried again.
pub const MYSQL_LOCK_WAIT_DURATION_MAX: Duration = Duration::from_secs(10);
/// MariaDB ends a transaction that wrote and is then idle for this long, so that it cannot keep rows locked.
pub const MYSQL_IDLE_TRANSACTION_DURATION_MAX: Duration = Duration::from_secs(60);
/// Silence after which TCP checks whether the other side still exists.
pub const MYSQL_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Prepared statements that one connection keeps.
pub const MYSQL_STATEMENTS_KEPT_MAX: usize = 128;
/// Parameters of one statement. The database allows 65,535, and keeps some hundred bytes for each.
pub const MYSQL_PARAMETERS_MAX: usize = 16_384;
/// All values of one statement, unless a single row is larger.
pub const MYSQL_STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// Keys that one statement looks up or deletes.
pub const MYSQL_KEYS_PER_STATEMENT_MAX: usize = 64;
/// A longer text becomes a TEXT column instead of VARCHAR, unless it is part of a key.
pub const MYSQL_VARCHAR_CHARS_MAX: u32 = 1_000;
/// Size of a row with VARCHAR texts. With more, the texts become TEXT columns: a row has 65,535 bytes at most.
pub const MYSQL_ROW_BYTES_MAX: u32 = 48 * 1024;
/// The part of a row that InnoDB stores in the row's own page: a page of 16 KiB must hold two rows.
pub const MYSQL_PAGE_ROW_BYTES_MAX: u32 = 7_000;

// Backups.
/// Bytes of a backup that are read, hashed and sent together.
pub const BACKUP_PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait for a client that reads its backup slowly.
pub const BACKUP_PIECES_WAITING_MAX: usize = 4;
/// The manifest of a backup, which lists all parts. A segment of 64 MiB takes some hundred bytes of it, so this is
/// enough for a log of many terabytes.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages of the store that are copied before the next check whether the client is still connected.
pub const SNAPSHOT_STEP_PAGES: i32 = 1_000;
/// Snapshots that are taken for one backup if erasures invalidate them.
pub const SNAPSHOT_TRIES_MAX: usize = 3;
/// Attempts to list the log's files for a backup while the log deletes some of them.
pub const LOG_COPY_TRIES_MAX: usize = 10;

// Statistics.
/// Values of a field that one query lists, the most frequent first.
pub const TOP_VALUES_MAX: usize = 100;
/// Fields that one view counts by: each event adds two rows for each of them.
pub const COUNTED_FIELDS_MAX: usize = 8;
/// The name of such a field. It is part of a key, which must have space for the value, too.
pub const COUNTED_NAME_CHARS_MAX: u32 = 64;
/// Queries at one time that add up many days. They take long, and must not delay the others.
pub const RANGES_AT_ONCE_MAX: usize = 2;

// Dedup.
/// How long dedup remembers an id if the configuration does not say.
pub const DEDUP_WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A hundred years. A longer time in the configuration is a mistake, and would overflow the arithmetic of times.
pub const CONFIGURED_DURATION_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);
/// Ids, runs of lines and corrections in one transaction of dedup.
pub const DEDUP_ENTRIES_BATCH_MAX: usize = 20_000;
/// Ids beyond their window that one transaction deletes.
pub const PRUNE_ROWS_MAX: usize = 10_000;
/// Client ids in memory for an immediate 409 if one is reused for another event.
pub const RECENT_IDS_MAX: usize = 65_536;
/// Time to look up the reused ids of one request in the store. Without an answer, dedup decides later.
pub const IDS_LOOKUP_DURATION_MAX: Duration = Duration::from_secs(1);
/// Positions in memory of events that dedup skipped. Above that, the oldest are forgotten.
pub const SKIPPED_POSITIONS_MAX: usize = 65_536;

// Text and numbers.
/// Fields of a stream, and columns of a table: a fold marks the fields that it has found in the bits of a `u64`.
pub const FIELDS_MAX: usize = 64;
/// A text in a key, such as a user id: databases limit the size of an index entry.
pub const KEY_CHARS_MAX: u32 = 255;
/// Objects around a declared field.
pub const FIELD_DEPTH_MAX: usize = 8;
/// An e-mail address: the longest that SMTP can carry.
pub const EMAIL_CHARS_MAX: u32 = 254;
/// Digits of an amount before the decimal point.
pub const AMOUNT_DIGITS_MAX: u32 = 15;
/// Digits of an amount after the decimal point.
pub const AMOUNT_PLACES_MAX: u32 = 4;
