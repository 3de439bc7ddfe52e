//! The subscriptions of a client over its socket, and their messages as JSON.

use event::limits::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use futures_util::FutureExt;
use serde_json::json;

use crate::admission::{Credentials, Keys, Reader, Refusal};
use crate::http::ApiError;
use crate::live::{Live, SubscriptionRequest, Subscriptions};

pub struct Watching {
    live: Live,
    keys: Keys,
    /// What the client may watch, or why nothing.
    reader: Result<Reader, Refusal>,
    subscriptions: Subscriptions,
}

impl Watching {
    /// Prepares for the subscriptions of a client that has shown these credentials.
    pub fn new(live: &Live, keys: &Keys, presented: Credentials<'_>) -> Self {
        let reader = keys.reader(presented);
        Self { live: live.clone(), keys: keys.clone(), reader, subscriptions: Subscriptions::default() }
    }

    /// Returns the reader, or why the client is none.
    pub fn reader(&self) -> Result<&Reader, Refusal> {
        self.reader.as_ref().map_err(Clone::clone)
    }

    /// Begins the subscription that a client has written, and returns its number.
    pub fn subscribe(&mut self, request: &str) -> Result<usize, ApiError> {
        if request.len() > SUBSCRIPTION_BYTES_MAX {
            let what = "a subscription";
            return Err(Refusal::TooLarge { what, bytes_max: SUBSCRIPTION_BYTES_MAX }.into());
        }
        if self.subscriptions.count() >= SUBSCRIPTIONS_MAX {
            let reason = format!("the connection has {SUBSCRIPTIONS_MAX} subscriptions already");
            return Err(ApiError::Parameter { name: "subscribe", reason });
        }
        let reader = self.reader()?;
        let request = SubscriptionRequest::parse(request)?;
        let target = self.live.target(&request)?;
        self.keys.may_watch(reader, target.watched())?;
        let messages = self.live.subscribe(&target)?;
        Ok(self.subscriptions.add(messages, request.after.as_deref()))
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, number: usize) -> Result<(), ApiError> {
        if self.subscriptions.remove(number) {
            Ok(())
        } else {
            let reason = format!("there is no subscription {number}");
            Err(ApiError::Parameter { name: "unsubscribe", reason })
        }
    }

    /// Waits for the next message of any subscription.
    pub async fn next(&mut self) -> String {
        let (number, message) = self.subscriptions.next().await;
        let place = json!(&**message.place());
        let head = format!(r#"{{"subscription":{number},"event":"{}","id":{place}"#, message.name());
        match message.content() {
            None => format!("{head}}}"),
            Some(content) => format!(r#"{head},"data":{content}}}"#),
        }
    }

    /// Returns the next message if there is one already.
    pub fn next_known(&mut self) -> Option<String> {
        self.next().now_or_never()
    }
}
