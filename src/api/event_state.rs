//! Finds the state of an event in each view, for its receipt.

use event::{EventId, LogId};
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use crate::http::ApiError;
use crate::store::{DEDUP_STORED_NAME, DeadLetter, DeadLetterStatus, Skipped, Store};

/// An event, as far as its state depends on it.
pub struct EventFacts<'a> {
    pub position: u64,
    /// The event that this correction undoes.
    pub corrects: Option<u64>,
    /// The dead letter of which this event is a retry.
    pub retry_of: Option<EventId>,
    /// The only view that applies the event.
    pub only_view: Option<&'a str>,
    pub text: Option<&'a str>,
}

/// The state of an event, apart from the positions of views.
pub struct EventState {
    pub skipped: Option<Skipped>,
    /// The event that this one repeats.
    pub repeat_of: Option<u64>,
    dead_letters: Vec<DeadLetter>,
    /// No view applies it: it is a repeat, or it corrects an event that another correction has undone.
    left_out: bool,
    pub taken_back_by: Option<u64>,
    /// The views that could not apply the correction of the event.
    not_undone_in: Vec<String>,
    only_view: Option<String>,
}

/// The dead letter of an event that reused an id for another body.
#[derive(Serialize)]
pub struct DedupDeadLetter {
    letter: String,
    status: &'static str,
    reason: String,
}

impl EventState {
    pub async fn of(api: &Api, event: &EventFacts<'_>) -> Result<Self, ApiError> {
        let (store, log, position) = (&api.store, api.log.id(), event.position);
        let skipped = store.skipped(log, position).await?;
        let superseded = match event.corrects {
            Some(target) => store.corrected_by(log, target).await?.is_some_and(|by| by != position),
            None => false,
        };
        let mut dead_letters = store.dead_letters_at(log, position).await?;
        let mut taken_back_by = store.corrected_by(log, position).await?;
        if let (Some(id), Some(view)) = (event.retry_of, event.only_view)
            && let Some(original) = store.dead_letter(id).await?
        {
            if taken_back_by.is_none() {
                taken_back_by = retry_taken_back_by(store, log, &original, event.text).await?;
            }
            // A retry that failed again has reopened the dead letter of its original.
            if !store.passed_positions(view, log, position, position + 1).await?.is_empty() {
                dead_letters.push(original);
            }
        }
        Ok(Self {
            repeat_of: match skipped {
                Some(skipped) => Some(original_of(api, position, skipped).await?),
                None => None,
            },
            skipped,
            dead_letters,
            left_out: skipped.is_some() || superseded,
            taken_back_by,
            not_undone_in: match taken_back_by {
                Some(by) => not_applied_in(store, log, by).await?,
                None => Vec::new(),
            },
            only_view: event.only_view.map(str::to_owned),
        })
    }

    /// Returns the state of the event at `position` in a view whose position is `at`.
    pub fn in_view(&self, view: &str, position: u64, at: u64) -> Value {
        let undone = self.taken_back_by.is_some_and(|by| at > by)
            && !self.not_undone_in.iter().any(|other| other == view);
        let of_view = |dead_letter: &&DeadLetter| dead_letter.view == view;
        if let Some(dead_letter) = self.dead_letters.iter().find(of_view) {
            let applied = dead_letter.status == DeadLetterStatus::Applied;
            return json!({
                "state": if applied && undone { "taken-back" } else { "dead-letter" },
                "letter": dead_letter.id.to_string(),
                "status": dead_letter.status.as_str(),
                "reason": dead_letter.reason,
            });
        }
        let is_for_other_view = self.only_view.as_ref().is_some_and(|only| only != view);
        let state = match at {
            _ if self.left_out || is_for_other_view => "left-out",
            _ if undone => "taken-back",
            at if at > position => "applied",
            _ => "waiting",
        };
        json!({ "state": state })
    }

    /// Returns the dead letter that dedup made of the event.
    pub fn dedup_dead_letter(&self) -> Option<DedupDeadLetter> {
        let dead_letter = self.dead_letters.iter().find(|letter| letter.view == DEDUP_STORED_NAME)?;
        Some(DedupDeadLetter {
            letter: dead_letter.id.to_string(),
            status: dead_letter.status.as_str(),
            reason: dead_letter.reason.clone(),
        })
    }
}

/// Returns the correction that undoes a retry because it undoes the original event of its dead letter.
pub async fn retry_taken_back_by(
    store: &Store,
    log: LogId,
    original: &DeadLetter,
    text: Option<&str>,
) -> Result<Option<u64>, ApiError> {
    let unchanged = original.log == log && text == Some(&original.event);
    Ok(if unchanged { store.corrected_by(log, original.position).await? } else { None })
}

/// Returns the views that could not apply the correction at `position`.
async fn not_applied_in(store: &Store, log: LogId, position: u64) -> Result<Vec<String>, ApiError> {
    let dead_letters = store.dead_letters_at(log, position).await?;
    let open = dead_letters.into_iter().filter(|letter| letter.status != DeadLetterStatus::Applied);
    Ok(open.map(|letter| letter.view).collect())
}

/// Returns the position of the event that the one at `position` repeats, in the log of that event.
async fn original_of(api: &Api, position: u64, skipped: Skipped) -> Result<u64, ApiError> {
    if skipped.first_log != api.log.id() {
        return Ok(skipped.first_position);
    }
    let log = api.log.clone();
    let read = tokio::task::spawn_blocking(move || log.original_line(position, skipped.first_position)).await;
    Ok(read.ok().transpose()?.flatten().filter(|at| *at < position).unwrap_or(skipped.first_position))
}
