//! The bounds of alerts.

use std::time::Duration;

/// Time between two looks at the server.
pub const ALERT_INTERVAL: Duration = Duration::from_secs(2);
/// Looks in a row at which a condition does not hold, before its alert is over.
pub const ALERT_LOOKS_UNTIL_OVER: u32 = 2;
/// The lag of a view beyond which somebody is told, unless the configuration has another one.
pub const ALERT_LAG_DEFAULT: Duration = Duration::from_secs(300);
/// Dead letters are not new any more if none was added for this time.
pub const DEAD_LETTERS_QUIET_DURATION: Duration = Duration::from_secs(3600);
/// Pauses before an alert that could not be sent is sent again.
pub const ALERT_RETRY_DELAY_MIN: Duration = Duration::from_secs(2);
pub const ALERT_RETRY_DELAY_MAX: Duration = Duration::from_secs(300);
