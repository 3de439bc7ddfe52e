//! The events `subscribe` and `unsubscribe` of a client that watches changes, and their answers.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use event::Millis;
use serde_json::json;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::packet::{self, Arguments};
use super::pending_event::{error_content, refusal};
use crate::http::{ApiError, Handshake};

/// The event that brings messages of subscriptions.
const LIVE_EVENT: &str = "live";

/// Returns whether an event of this name is about subscriptions, if no source takes events of this name.
pub fn is_live_event(name: &str) -> bool {
    matches!(name, "subscribe" | "unsubscribe")
}

/// Changes the subscriptions of a client, and returns the packet that answers it, if it waits for an answer.
pub fn answer(
    connection: &mut Connection,
    endpoint: &Endpoint,
    handshake: &Handshake,
    arguments: &Arguments<'_>,
    ack: Option<u64>,
) -> Option<String> {
    let outcome = connection.count(endpoint, handshake).and_then(|()| changed(connection, arguments));
    let (namespace, source) = (&connection.namespace.name, &connection.namespace.sources[0]);
    match (outcome, ack) {
        (Ok(number), Some(ack)) => {
            let answer = json!({ "status": "success", "subscription": number, "timestamp": Millis::now().0 });
            Some(packet::encode_ack(namespace, ack, &answer.to_string()))
        }
        (Ok(_), None) => None,
        (Err(error), ack) => {
            error.count();
            Some(match ack {
                Some(ack) => {
                    let mut answer = refusal(source, &error);
                    answer["status"] = "error".into();
                    packet::encode_ack(namespace, ack, &answer.to_string())
                }
                None => {
                    let content = error_content(source, &error);
                    packet::encode_event(namespace, source.error_event.as_str(), &content)
                }
            })
        }
    }
}

fn changed(connection: &mut Connection, arguments: &Arguments<'_>) -> Result<usize, ApiError> {
    let invalid = |reason: &str| ApiError::Parameter { name: "event", reason: reason.to_owned() };
    let (Some(text), 1) = (arguments.first, arguments.count) else {
        return Err(invalid("must have one argument: the subscription, or its number"));
    };
    if arguments.name == "subscribe" {
        return connection.watching.subscribe(text);
    }
    let number = text.parse().map_err(|_| invalid("is not the number of a subscription"))?;
    connection.watching.unsubscribe(number)?;
    Ok(number)
}

/// Waits for a message of a subscription, in any namespace. Returns the packet that brings it.
pub async fn next_change(connections: &mut [Connection]) -> String {
    poll_fn(|context| {
        let ready = connections.iter_mut().find_map(|connection| {
            match pin!(connection.watching.next()).poll(context) {
                Poll::Ready(message) => {
                    Some(packet::encode_event(&connection.namespace.name, LIVE_EVENT, &message))
                }
                Poll::Pending => None,
            }
        });
        let Some(packet) = ready else { return Poll::Pending };
        // The next time, another namespace comes first.
        connections.rotate_left(1);
        Poll::Ready(packet)
    })
    .await
}
