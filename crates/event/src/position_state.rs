//! The state of a view or of dedup, in the form in which every answer shows it.

use serde::Serialize;

use crate::{Applied, Stalled};

/// How far a view or dedup is, and why it does not continue. `position` and both lags are `None` until the store has
/// told the position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PositionState {
    state: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    position: Option<u64>,
    /// In log positions, those of other streams included.
    lag: Option<u64>,
    /// Since the first event was received that is not applied.
    lag_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    #[default]
    Running,
    /// The store does not answer or is busy.
    Waiting,
    /// A person has to act.
    Paused,
}

impl PositionState {
    /// `end` is the end of the log. `lag_seconds` is used only if there are events that are not applied.
    pub(crate) fn of(applied: Applied, end: u64, lag_seconds: u64) -> Self {
        let position = applied.position_if_known();
        let lag = position.map(|position| end.saturating_sub(position));
        let lag_seconds = lag.map(|lag| if lag > 0 { lag_seconds } else { 0 });
        let (state, reason) = match applied.stalled {
            None => (Stage::Running, None),
            Some(Stalled::Waiting(reason)) => (Stage::Waiting, Some(reason)),
            Some(Stalled::Paused(reason)) => (Stage::Paused, Some(reason)),
        };
        Self { state, reason, position, lag, lag_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(state: Stage, reason: Option<&str>, numbers: [Option<u64>; 3]) -> PositionState {
        let [position, lag, lag_seconds] = numbers;
        PositionState { state, reason: reason.map(str::to_owned), position, lag, lag_seconds }
    }

    #[test]
    fn an_unknown_position_has_no_lag() {
        let unknown = Applied { stalled: Some(Stalled::Waiting("away".to_owned())), ..Applied::default() };
        let expected = state(Stage::Waiting, Some("away"), [None; 3]);
        assert_eq!(PositionState::of(unknown, 9, 7), expected);
    }

    #[test]
    fn a_view_at_the_end_has_no_lag_in_seconds() {
        let expected = |numbers| state(Stage::Running, None, numbers);
        let of = |position| PositionState::of(Applied::at(position), 9, 7);
        assert_eq!(of(9), expected([Some(9), Some(0), Some(0)]));
        assert_eq!(of(4), expected([Some(4), Some(5), Some(7)]));
    }
}
