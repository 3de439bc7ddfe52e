//! One attempt to send a notification.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::Millis;

use super::lane::Waiting;
use super::recorder::Recording;
use crate::destinations::{Content, Destination, Outcome, Verdict};
use crate::store::{AfterAttempt, AttemptRecord, Leased};

/// An attempt that has ended.
pub struct Ended {
    pub lane: String,
    pub waiting: Waiting,
    pub begun: Millis,
    pub duration: Duration,
    pub outcome: Outcome,
}

/// Returns the record that gives a delivery back.
pub fn not_made(Waiting { leased, permit, .. }: Waiting) -> Recording {
    let record = AttemptRecord {
        key: leased.key,
        lease: leased.lease,
        attempt: leased.attempt,
        begun: Millis::now(),
        duration_millis: 0,
        status: None,
        answer: String::new(),
        error: None,
        next: AfterAttempt::NotMade,
    };
    Recording { record, permit }
}

/// Makes one attempt.
pub async fn attempt(lane: String, destination: Arc<Destination>, waiting: Waiting) -> Ended {
    let (begun, clock) = (Millis::now(), Instant::now());
    let Leased { key, created, content, .. } = &waiting.leased;
    let outcome = match serde_json::from_str::<Content>(content) {
        Ok(content) => {
            let (id, created) = (key.notification.clone(), *created);
            // In a task of its own, so that a panic is a failed attempt.
            let sent = tokio::spawn(async move { destination.send(&id, created, &content).await });
            sent.await.unwrap_or_else(|error| Outcome::failed(format!("the attempt ended early: {error}")))
        }
        Err(error) => Outcome::answered(
            Verdict::Refused,
            None,
            "",
            format!("the stored content cannot be read: {error}"),
        ),
    };
    failpoint::hit("delivery.sent");
    Ended { lane, waiting, begun, duration: clock.elapsed(), outcome }
}
