//! Every bound of the system, in one place, units last. A queue, a body, a batch or a depth that is
//! not bounded here is a defect.

use std::time::Duration;

// Requests.
/// One event as text; also the longest line of an NDJSON body.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// What `export` prints around an event, on the same line.
pub const ENVELOPE_BYTES_MAX: usize = 2 * 1024;
/// An object or array in one request; more than this belongs into NDJSON.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What all bodies that are being read may hold in memory together; beyond it the answer is 503.
pub const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What all bodies from one address (of IPv6: from one /64) may hold. It leaves room for a largest body from another.
pub const BODIES_OF_ADDRESS_BYTES_MAX: usize = BODIES_BYTES_MAX - BODY_BYTES_MAX;
/// What all bodies may hold that came without a key, and those among them from one address.
pub const OPEN_BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const OPEN_BODIES_OF_ADDRESS_BYTES_MAX: usize = 8 * 1024 * 1024;
pub const ARRAY_EVENTS_MAX: usize = 10_000;
/// Lines of NDJSON that are admitted, stored and acknowledged together.
pub const CHUNK_LINES_MAX: usize = 1_000;
/// A chunk ends at this many bytes even if it has fewer lines than it might.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Refusals listed in one answer; the rest is only counted.
pub const REFUSALS_LISTED_MAX: usize = 1_000;
/// Faults reported of one event.
pub const EVENT_FAULTS_MAX: usize = 16;
pub const JSON_DEPTH_MAX: usize = 64;
pub const JSON_KEYS_MAX: usize = 256;
pub const CLIENT_ID_CHARS_MAX: usize = 200;
/// An attribute of a CloudEvent.
pub const CLOUD_ATTRIBUTE_CHARS_MAX: u32 = 1_000;
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// What one connection reads at a time, and may keep of it; a head has to fit.
pub const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// What all answers that wait for their readers may hold in memory together, but for small ones; beyond it the
/// answer is 503.
pub const ANSWERS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// An answer of so many bytes is small.
pub const ANSWER_BYTES_SMALL_MAX: usize = 16 * 1024;
pub const HEADER_READ_DURATION_MAX: Duration = Duration::from_secs(75);
/// A body that stands still for this long ends its request.
pub const BODY_IDLE_DURATION_MAX: Duration = Duration::from_secs(30);
/// A body that is kept in memory until it is whole has to be whole by then.
pub const BODY_DURATION_MAX: Duration = Duration::from_secs(300);
/// It has to bring so many bytes in each span until then: about 1 KiB a second.
pub const BODY_SPAN_BYTES_MIN: usize = 32 * 1024;
pub const BODY_SPAN: Duration = Duration::from_secs(30);
/// A client that reads nothing of an answer for this long is let go.
pub const ANSWER_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// What a client still sends when its connection is to end is read for so long, and dropped: reset at
/// once, it might never see the answer that says why.
pub const LINGER_DURATION_MAX: Duration = Duration::from_secs(5);
pub const LINGER_IDLE_DURATION_MAX: Duration = Duration::from_millis(250);
/// A client that has not come to an understanding about encryption by then is let go.
pub const HANDSHAKE_DURATION_MAX: Duration = Duration::from_secs(10);
/// How often the files of the certificate are looked at.
pub const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(3);
pub const CONNECTIONS_MAX: usize = 16_384;
/// At the limit of connections, one that has waited for a request for so long makes room for a new one; and how often
/// that is looked for.
pub const IDLE_CONNECTION_KEPT_DURATION: Duration = Duration::from_secs(5);
pub const IDLE_CONNECTION_LOOK_INTERVAL: Duration = Duration::from_millis(50);
pub const WAIT_APPLIED_DURATION_MAX: Duration = Duration::from_secs(30);
pub const TAIL_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);
pub const TAIL_EVENTS_MAX: usize = 1_000;
pub const LIST_ROWS_MAX: usize = 1_000;
/// Event text in one page of a tail or of dead letters, which ends early for it.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a page of a tail reads of the log in one go.
pub const TAIL_READ_BYTES_MAX: usize = 256 * 1024;
/// What one request for a tail reads of the log, most of it perhaps other streams'.
pub const TAIL_SCAN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Dead letters that are read from the store together: each may hold the largest event.
pub const DEAD_LETTERS_READ_ROWS_MAX: usize = 16;
/// Positions whose dead letters are looked up together.
pub const LETTERS_LOOKED_UP_MAX: usize = 500;
/// Rows of a table that are read together: each may hold the largest event.
pub const WIDE_ROWS_READ_MAX: usize = 16;
/// Numbers of a table that one request looks through for rows that fit a filter.
pub const ROWS_SCANNED_MAX: i64 = 1_000_000;
/// Requests that read the log at one time; the others wait for their turn. Each holds a thread and a page.
pub const READS_AT_ONCE_MAX: usize = 8;
/// Looks into the log for single events that corrections take back, at one time.
pub const LOG_LOOKS_AT_ONCE_MAX: usize = 4;
/// Why an event is taken back, in its sender's words.
pub const CORRECTION_REASON_CHARS_MAX: usize = 1_000;
/// Threads for work that blocks: as many as may wait for the disk at one time, by the bounds here, and some
/// to spare. Each keeps memory of its own.
pub const BLOCKING_THREADS_MAX: usize = 40;
/// Rebuilds and reconciliations at one time: they take long, and are not to keep readers waiting.
pub const LOG_REPLAYS_AT_ONCE_MAX: usize = 2;
/// Keys, and networks of senders, whose requests are counted at one time; those beyond share one count.
pub const SENDERS_COUNTED_MAX: usize = 65_536;
/// Those that ask no more are forgotten this often, at most.
pub const SENDERS_FORGOTTEN_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The body that describes a new key.
pub const KEY_BODY_BYTES_MAX: usize = 64 * 1024;
/// From here on, checking a body would keep other requests waiting.
pub const QUICK_BODY_BYTES_MAX: usize = 128 * 1024;
/// What of a compressed body is taken apart in one go, of which about `QUICK_BODY_BYTES_MAX` come at most.
pub const CODED_STEP_BYTES_MAX: usize = 16 * 1024;
/// How far back a zstd body may refer: what RFC 9659 allows for HTTP.
pub const ZSTD_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one gzip body takes while it is taken apart: state, buffers, the longest header.
pub const GZIP_STATE_BYTES_MAX: usize = 320 * 1024;
/// The same of a zstd body, beside its window: a block may say of itself what no honest one is.
pub const ZSTD_STATE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a receipt waits for the gate to come to an event that was acknowledged a moment ago.
pub const RECEIPT_DEDUP_DURATION_MAX: Duration = Duration::from_secs(2);
/// The same before it is said what of a source has arrived: that has to be all that was acknowledged.
pub const DEDUP_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);

// The log.
/// Appends that wait for the disk, in bytes; beyond it the answer is 503.
pub const LOG_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Room kept free on the disk of the data folder, so that views can go on while new events are refused.
pub const DISK_FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// On a small disk: this share of it instead.
pub const DISK_FREE_SHARE_MIN: u64 = 8;
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(250);

// Batches.
pub const BATCH_EVENTS_MAX: usize = 32_768;
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What all views of a process may hold of batches at one time, but those whose store is waited for.
pub const BATCHES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A view that is so far behind folds what comes next while its store is at work.
pub const AHEAD_POSITIONS_MIN: u64 = 8_192;
/// Up to how many bytes batches are joined, whose rows are sums, while they wait for the store.
pub const JOINED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How far a view may be ahead, in memory, of the position its store knows, over events not its own.
pub const UNSAVED_POSITIONS_MAX: u64 = 100_000;
/// For how long: what is old is given up below the positions that the store knows.
pub const UNSAVED_DURATION_MAX: Duration = Duration::from_secs(600);
/// A view that keeps up begins a batch no sooner than this after the one before: under load, each commit
/// then carries many events, and the doors get the processor. Part of how soon an event is visible.
pub const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(8);
/// Fewer events than this are no load: what follows them is not held back.
pub const BATCH_EVENTS_PACED_MIN: usize = 16;
/// The gate's own pace, in front of the views'.
pub const DEDUP_INTERVAL_MIN: Duration = Duration::from_millis(2);
/// Dead letters in a row, with nothing applied between them, that pause a view.
pub const DEAD_IN_A_ROW_MAX: usize = 100;
/// How long a letter that is sent again may keep corrections waiting for the gate.
pub const LETTER_TURN_DURATION_MAX: Duration = Duration::from_secs(1);
/// Dead letters of one batch that the log names one by one; the rest it counts.
pub const DEAD_LETTERS_LOGGED_MAX: usize = 16;
/// A plan of more than so many cells is committed by itself.
pub const PLAN_CELLS_TOGETHER_MAX: usize = 8_192;
/// Plans that SQLite commits together.
pub const PLANS_TOGETHER_MAX: usize = 64;

// Erasing.
/// Events of one person that are erased together; asked for again, the rest is.
pub const ERASED_EVENTS_MAX: u64 = 1_000_000;
/// Corrections in one record.
pub const CORRECTIONS_RECORD_MAX: usize = 1_000;
pub const ERASURE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
pub const ERASURE_POLL_INTERVAL: Duration = Duration::from_millis(50);
pub const ERASURE_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// For so long the one who asks for an erasure waits for its end; then it is said that it goes on.
pub const ERASURE_WAIT_DURATION_MAX: Duration = Duration::from_secs(30);

// Retention.
/// What is younger is always kept.
pub const RETENTION_DURATION_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// How often the ages of the log's events are written down, and how often the log's end is noted for them.
pub const AGE_LOOK_INTERVAL: Duration = Duration::from_secs(60);
pub const AGE_NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// A longer stop of the server, or leap of the clock, does not count as age; a weekend does. It is less than what is
/// always kept, so that no single wrong start can make a young event old.
pub const AGE_GAP_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// A clock may be set by this much without being called wrong.
pub const AGE_STEP_MAX: Duration = Duration::from_secs(3600);
/// After a leap of the clock nothing is given up as old for so long.
pub const AGE_HELD_DURATION: Duration = Duration::from_secs(24 * 3600);
/// Leaps that are remembered.
pub const AGE_LEAPS_MAX: usize = 64;
/// Rows that are given up in one transaction.
pub const RETENTION_ROWS_MAX: usize = 10_000;
/// How long those who need the log's past may have to wait behind whoever gives it up and waits itself.
pub const RETENTION_TURN_DURATION_MAX: Duration = Duration::from_millis(100);
/// How long is waited for the gate, with everybody else waiting.
pub const RETENTION_DEDUP_DURATION_MAX: Duration = Duration::from_secs(1);
/// Into so many segments, at least, the time is divided for which events are kept.
pub const SEGMENTS_A_RETENTION: u32 = 8;

// The store.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// A paused view looks by itself, this often, whether what stopped it is mended.
pub const PAUSE_RECHECK_INTERVAL: Duration = Duration::from_secs(2);
/// For so long a look at the metrics waits for what only the store knows.
pub const METRICS_STORE_DURATION_MAX: Duration = Duration::from_secs(1);
/// How often SQLite's files are checked to be where they were opened.
pub const STORE_FILES_CHECK_INTERVAL: Duration = Duration::from_secs(1);
pub const STORE_READERS_MAX: usize = 8;
/// Connections to a database server on which views and the gate write.
pub const STORE_WRITERS_MAX: usize = 8;
/// A database server that does not answer for so long is taken for gone.
pub const STORE_ANSWER_DURATION_MAX: Duration = Duration::from_secs(60);
/// And for what goes over a whole table: making an index, noting what was there.
pub const STORE_TABLE_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// For as long a connection is kept that nobody uses.
pub const STORE_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// Until a connection to PostgreSQL stands.
pub const POSTGRES_CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// Of that, to reach one of the addresses that a host's name may have.
pub const POSTGRES_REACH_DURATION_MAX: Duration = Duration::from_secs(3);
/// How long a session of PostgreSQL waits for what another one holds.
pub const POSTGRES_LOCK_DURATION_MAX: Duration = Duration::from_secs(10);
/// A transaction of a process that stands still is ended by the server after so long.
pub const POSTGRES_IDLE_DURATION_MAX: Duration = Duration::from_secs(60);
/// A session that is given up in the middle of something says goodbye for so long.
pub const POSTGRES_GOODBYE_DURATION_MAX: Duration = Duration::from_secs(1);
/// Statements that a session of PostgreSQL keeps prepared.
pub const POSTGRES_STATEMENTS_MAX: usize = 128;
/// Of what types a table's columns are is looked up again after so long: somebody may have changed it.
pub const POSTGRES_FORMS_AGE_MAX: Duration = Duration::from_secs(60);
/// Rows for PostgreSQL are sent in pieces of so much.
pub const POSTGRES_COPY_PIECE_BYTES: usize = 64 * 1024;

/// A store that another program holds is waited for so long before it counts as busy.
pub const BUSY_DURATION_MAX: Duration = Duration::from_secs(2);
/// Ids that the gate looks up together on a database server.
pub const SEEN_LOOKED_UP_MAX: usize = 4_096;
/// Ids of notifications that are looked up, or deleted, together.
pub const NOTIFICATIONS_LOOKED_UP_MAX: usize = 500;
/// Others' row numbers between two of a batch, beyond which they are not read with it.
pub const ROW_NUMBERS_GAP_MAX: u64 = 1_000;
/// Of a value in a comparison's answer.
pub const SHOWN_CHARS_MAX: usize = 60;
/// Rows up to which plans share an entry of where rows came from: under little load, each plan has one row.
pub const NOTE_ROWS_JOINED_MAX: usize = 512;
/// Rows that one statement inserts.
pub const ROWS_A_STATEMENT_MAX: usize = 16;
/// Rows that a rebuild reads, compares and mends together.
pub const REBUILD_ROWS_MAX: usize = 10_000;

// MySQL and MariaDB.
pub const MYSQL_CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a statement waits for another's locks, until all of its transaction is tried again.
pub const MYSQL_LOCK_WAIT_DURATION_MAX: Duration = Duration::from_secs(10);
/// A transaction that wrote and then does nothing for so long is ended by the server, where it can.
pub const MYSQL_IDLE_TRANSACTION_DURATION_MAX: Duration = Duration::from_secs(60);
/// Silence after which the system looks whether the other end of a connection is still there.
pub const MYSQL_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Prepared statements of one connection.
pub const MYSQL_STATEMENTS_KEPT_MAX: usize = 128;
/// Parameters of one statement: the database knows 65,535, and keeps some hundred bytes for each.
pub const MYSQL_PARAMETERS_MAX: usize = 16_384;
/// Values of one statement together, unless one row is larger.
pub const MYSQL_STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// Keys that one statement looks up.
pub const MYSQL_KEYS_ASKED_MAX: usize = 64;
/// Letters of a text that is kept in its row, where it is in no key.
pub const MYSQL_VARCHAR_CHARS_MAX: u32 = 1_000;
/// What the texts of a row may take of it; beyond that they are kept apart.
pub const MYSQL_ROW_BYTES_MAX: u32 = 48 * 1024;
/// What of a row lies in its page.
pub const MYSQL_PAGE_ROW_BYTES_MAX: u32 = 7_000;

// Backups.
/// What is read, hashed and sent of a backup at a time.
pub const BACKUP_PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait for a client that takes its backup slowly.
pub const BACKUP_PIECES_WAITING_MAX: usize = 4;
/// Some hundred bytes for each segment of 64 MiB: enough for a log of many terabytes.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages of the store that are copied between two looks whether anybody still wants them.
pub const SNAPSHOT_STEP_PAGES: i32 = 1_000;
/// Snapshots that are taken for one backup while events are erased under it.
pub const SNAPSHOT_TRIES_MAX: usize = 3;
/// The log may remove a file while it is looked at for a backup; then it is looked at anew, so many times.
pub const LOG_COPY_TRIES_MAX: usize = 10;

// Statistics.
/// Values of a field that one question lists, the most frequent first.
pub const TOP_VALUES_MAX: usize = 100;
/// Fields that one view counts by: each event makes two rows for each.
pub const COUNTED_FIELDS_MAX: usize = 8;
/// Short, so that a key has room for what the field holds.
pub const COUNTED_NAME_CHARS_MAX: u32 = 64;
/// Questions at one time that add many days up; they take long, and are not to keep the others waiting.
pub const RANGES_AT_ONCE_MAX: usize = 2;

// The gate.
pub const DEDUP_WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A hundred years: longer than that is a mistake, and beyond what times are counted in.
pub const CONFIGURED_DURATION_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);
pub const DEDUP_ENTRIES_BATCH_MAX: usize = 20_000;
/// Ids that are forgotten together once their window is over.
pub const PRUNE_ROWS_MAX: usize = 10_000;
/// Client ids that the door remembers to answer a misused one with 409.
pub const RECENT_IDS_MAX: usize = 65_536;

// Text and numbers.
/// Fields of a stream: a fold notes in one word which of them it met.
pub const FIELDS_MAX: usize = 64;
pub const KEY_CHARS_MAX: u32 = 255;
/// Objects that a declared field may lie in.
pub const FIELD_DEPTH_MAX: usize = 8;
pub const EMAIL_CHARS_MAX: u32 = 254;
/// Digits of an amount before the point, and places behind it.
pub const AMOUNT_DIGITS_MAX: u32 = 15;
pub const AMOUNT_PLACES_MAX: u32 = 4;

// Stopping.
/// For so long a server whose log has failed still answers, so that `/ready` can say why.
pub const LOG_FAILED_ANSWERS_DURATION_MAX: Duration = Duration::from_secs(10);
/// For so long lines that are coming in are still taken; then their client learns how many are stored.
pub const STOP_LINES_DURATION_MAX: Duration = Duration::from_secs(5);
/// For so long connections without a request are kept: one may be on its way, or here and not read yet.
pub const STOP_IDLE_DURATION_MAX: Duration = Duration::from_millis(100);
pub const STOP_REQUESTS_DURATION_MAX: Duration = Duration::from_secs(10);
pub const STOP_VIEWS_DURATION_MAX: Duration = Duration::from_secs(15);
