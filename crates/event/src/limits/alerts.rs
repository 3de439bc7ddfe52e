//! The bounds of alerts.

use std::time::Duration;

/// Time between two checks of the server.
pub const ALERT_INTERVAL: Duration = Duration::from_secs(2);
/// Checks in a row at which a condition does not hold, before its alert is over.
pub const ALERT_CHECKS_UNTIL_OVER: u32 = 5;
/// Checks in a row at which a view is too far behind, before that is an alert. After an outage, most views catch up in less.
pub const ALERT_CHECKS_UNTIL_BEHIND: u32 = 5;
/// The lag of a view beyond which an alert is raised, unless the configuration has another one.
pub const ALERT_LAG_DEFAULT: Duration = Duration::from_secs(300);
/// Dead letters are not new any more if none was added for this time.
pub const DEAD_LETTERS_QUIET_DURATION: Duration = Duration::from_secs(3600);
/// The count of new dead letters stops there.
pub const NEW_DEAD_LETTERS_COUNTED_MAX: usize = 10_000;
/// Pauses before an alert that could not be sent is sent again.
pub const ALERT_RETRY_DELAY_MIN: Duration = Duration::from_secs(2);
pub const ALERT_RETRY_DELAY_MAX: Duration = Duration::from_secs(300);
/// Time for writing the state of the alerts. An alert is sent even if the disk does not answer.
pub const ALERT_SAVE_DURATION_MAX: Duration = Duration::from_secs(2);
