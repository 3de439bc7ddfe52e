//! The bounds of subscriptions: readers that are told of changes.

use std::time::Duration;

/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// The text of one subscription, such as the parameter of a URL.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// Time between two messages about one value, at least. Of the changes in between, the newest is sent.
pub const VALUE_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// A value that was read before that time is read again for a new reader.
pub const VALUE_AGE_MAX: Duration = Duration::from_secs(1);
/// Pause before a value is read again that the database cannot give.
pub const VALUE_FAILED_INTERVAL: Duration = Duration::from_secs(10);
/// Time to wait for a value that is as new as what the reader has got from another server.
pub const VALUE_WAIT_DURATION_MAX: Duration = Duration::from_secs(2);
/// Values that are read in one transaction.
pub const VALUES_READ_MAX: usize = 64;
/// Pause before values are read again that could not be read.
pub const VALUES_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Notifications in the value of a subscription to all of them: the newest.
pub const NOTIFICATIONS_WATCHED_MAX: usize = 50;
/// Time between two looks for changes that other nodes have committed.
pub const OTHER_NODES_INTERVAL: Duration = Duration::from_millis(500);
/// Pause between two reads for the subscribers of a stream, so that one read takes what arrives together.
pub const FEED_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Events or rows of one page for subscribers, and their texts together unless a single one is larger.
pub const FEED_PAGE_ITEMS_MAX: usize = 1_000;
pub const FEED_PAGE_BYTES_MAX: usize = 64 * 1024;
/// Positions of a log that are searched for the rows of one page.
pub const FEED_POSITIONS_READ_MAX: u64 = 10_000;
/// Pages that subscribers can be behind. Then a subscriber reads by itself what it has not got.
pub const FEED_PAGES_MAX: usize = 64;
/// The last pages of one feed together, unless a single one is larger.
pub const FEED_RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Subscribers that read old events or rows at the same time.
pub const FEED_REPLAYS_AT_ONCE_MAX: usize = 4;
/// The pages of these subscribers that are not sent yet, together.
pub const FEED_REPLAYED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A subscriber that has been up to date and falls further behind misses what is in between.
pub const FEED_BEHIND_POSITIONS_MAX: u64 = 100_000;
/// Time after which a subscriber without changes is told its place, so that it resumes there.
pub const FEED_PLACE_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two signs of life on a connection without changes.
pub const LIVE_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Messages that are sent together.
pub const LIVE_CHUNK_BYTES: usize = 16 * 1024;
/// The time that a reader waits before it connects again. Each is told its own, so that not all come at once.
pub const LIVE_RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
pub const LIVE_RETRY_DELAY_MAX: Duration = Duration::from_secs(4);
/// How long a token for a reader can be valid.
pub const TOKEN_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
pub const TOKEN_DURATION_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// What one token allows to read.
pub const TOKEN_GRANTS_MAX: usize = 20;
/// Time without a byte after which a reader counts its connection as lost: several signs of life are missing.
pub const LIVE_SILENCE_DURATION_MAX: Duration = Duration::from_secs(45);
/// A message that the commands take. The largest one has an event.
pub const LIVE_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Attempts to note that rows of a view were replaced, before the failure counts.
pub const GENERATION_TRIES_MAX: u32 = 6;
