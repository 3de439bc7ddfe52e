//! The bounds of delivery: notifications on their way to destinations.

use std::time::Duration;

/// The delays before the attempts that follow a failed one.
pub const RETRY_SCHEDULE_DEFAULT: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// Delays in a schedule.
pub const RETRIES_MAX: usize = 100;
/// The largest delay in a schedule, and the largest one that a receiver can ask for.
pub const RETRY_AFTER_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Attempts at one destination at the same time.
pub const ATTEMPTS_AT_ONCE_DEFAULT: usize = 32;
pub const ATTEMPTS_AT_ONCE_MAX: usize = 1_000;
/// Attempts at one host at the same time, if the URL of a destination depends on the event.
pub const ATTEMPTS_AT_ONE_HOST_MAX: usize = 8;
/// Time for a connection, and for a whole attempt.
pub const CONNECT_DURATION_DEFAULT: Duration = Duration::from_secs(10);
pub const ATTEMPT_DURATION_DEFAULT: Duration = Duration::from_secs(30);
pub const ATTEMPT_DURATION_MAX: Duration = Duration::from_secs(300);
/// The part of an answer that is read, and the part that is kept with the attempt.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
pub const ANSWER_KEPT_BYTES_MAX: usize = 1024;
/// Attempts in a row that a crash cut off, before the notification becomes a dead letter.
pub const ATTEMPTS_CUT_OFF_MAX: i64 = 20;
/// Attempts in a row that a crash cut off, before the notification is attempted alone.
pub const ATTEMPTS_CUT_OFF_ALONE_MIN: i64 = 3;
/// Attempts that are kept for one notification and destination: the last ones.
pub const ATTEMPTS_KEPT_MAX: i64 = 50;
/// How long attempts are kept.
pub const ATTEMPTS_KEPT_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The number of destinations of one view.
pub const DESTINATIONS_OF_VIEW_MAX: usize = 8;
/// A notification as it is sent, with all its parts.
pub const CONTENT_BYTES_MAX: usize = 256 * 1024;
/// Notifications in one batch of a view, divided by the number of its destinations, and the size of their contents.
pub const NOTIFICATIONS_TOGETHER_MAX: usize = 4_096;
pub const CONTENTS_TOGETHER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The work of one template: steps of its interpreter.
pub const TEMPLATE_FUEL_MAX: u64 = 100_000;
/// The text of one template.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Values in one condition of a filter.
pub const FILTER_VALUES_MAX: usize = 1_000;
/// Deliveries that are leased ahead for each attempt that can run, and for one destination in all.
pub const LEASED_FOR_EACH_ATTEMPT: usize = 8;
pub const LEASED_MAX: usize = 256;
/// Time for which a delivery may wait after it was leased. Then it is given back.
pub const LEASED_WAIT_DURATION_MAX: Duration = Duration::from_secs(10);
/// How much longer than an attempt a lease is: for the wait before the attempt, and for the record after it.
pub const LEASE_DURATION_EXTRA: Duration = Duration::from_secs(60);
/// Time between two looks for deliveries that another node has queued, or that are due.
pub const DELIVERY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Outcomes that are recorded in one transaction.
pub const OUTCOMES_TOGETHER_MAX: usize = 256;
/// Hosts of one destination that one look finds, if its URL depends on the event. The next look finds the following ones.
pub const LANES_MAX: usize = 500;
/// Leases for hosts that are made one after another, before the attempts of the first ones begin.
pub const LEASES_TOGETHER_MAX: usize = 32;
/// Attempts at such a host at the same time before one of them succeeds.
pub const ATTEMPTS_AT_NEW_HOST_MAX: usize = 2;
/// Pause between two looks for hosts, so that one look finds those of many notifications.
pub const LANES_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Time between two looks for hosts of a destination whose URL does not depend on the event any more.
pub const OLD_LANES_INTERVAL: Duration = Duration::from_secs(30);
/// Attempts at all hosts of such a destination at the same time.
pub const ATTEMPTS_AT_ALL_HOSTS_MAX: usize = 512;
/// A destination counts as broken after this time and this many attempts without a success. From then on it gets one
/// attempt at a time, with pauses between them.
pub const BREAKER_DURATION_MIN: Duration = Duration::from_secs(60);
pub const BREAKER_FAILURES_MIN: u32 = 20;
pub const BREAKER_PAUSE_MIN: Duration = Duration::from_millis(100);
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time to finish attempts when the server stops.
pub const DELIVERY_STOP_DURATION_MAX: Duration = Duration::from_secs(5);
/// Time between two looks for attempts that are older than they are kept.
pub const OLD_ATTEMPTS_INTERVAL: Duration = Duration::from_secs(3600);
pub const OLD_ATTEMPTS_ROWS_MAX: usize = 500;
/// The count of waiting deliveries stops there.
pub const WAITING_COUNTED_MAX: usize = 1_000_000;
