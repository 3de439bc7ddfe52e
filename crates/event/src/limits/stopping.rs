//! The bounds of a stop: how long a server that stops waits, and for what.

use std::time::Duration;

/// How long a server whose log has failed still answers, so that `/ready` can give the reason.
pub const LOG_FAILED_ANSWERS_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a stopping server still accepts lines of open requests. Then each client learns how many are stored.
pub const STOP_LINES_DURATION_MAX: Duration = Duration::from_secs(5);
/// How long a stopping server keeps connections without a request: one may be under way, or not read yet.
pub const STOP_IDLE_DURATION_MAX: Duration = Duration::from_millis(100);
/// How long a stopping server waits for a reader of live changes to read the last message.
pub const STOP_ENDLESS_DURATION_MAX: Duration = Duration::from_secs(1);
/// How long a stopping server waits for open requests. Then they are cut off.
pub const STOP_REQUESTS_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a stopping server waits for its views. They continue at the next start.
pub const STOP_VIEWS_DURATION_MAX: Duration = Duration::from_secs(15);
