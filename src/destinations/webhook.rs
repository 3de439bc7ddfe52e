//! `[destination.NAME]` with `kind = "webhook"`: notifications are sent as HTTP requests in the form of Standard
//! Webhooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use event::limits::{ATTEMPT_DURATION_DEFAULT, ATTEMPT_DURATION_MAX, CONNECT_DURATION_DEFAULT};
use event::{SettingErrors, WrittenDuration};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::address_policy::AddressPolicy;
use super::at_once::AtOnce;
use super::notice::Notice;
use super::outcome::Outcome;
use super::retry::RetrySchedule;
use super::secret_setting::{SecretSettings, SecretText};
use super::signature::Secret;
use super::template::{Escape, Template};
use super::webhook_sender::{RequestSettings, WebhookRequest, WebhookSender};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSection {
    url: String,
    method: Option<String>,
    /// Names, each with its value, which may be a secret.
    #[serde(default)]
    headers: BTreeMap<String, SecretText>,
    body: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    secrets: Vec<SecretText>,
    secrets_file: Option<PathBuf>,
    secrets_env: Option<String>,
    #[serde(default)]
    allow_private: bool,
    connect_timeout: Option<WrittenDuration>,
    timeout: Option<WrittenDuration>,
    pub retry: Option<RetrySchedule>,
    pub at_once: Option<AtOnce>,
}

/// A webhook that is ready to be sent to.
#[derive(Clone)]
pub struct Webhook {
    url: UrlOf,
    policy: AddressPolicy,
    /// `None` stands for the body of Standard Webhooks.
    body: Option<Template>,
    send_within: Duration,
    sender: Arc<WebhookSender>,
}

#[derive(Clone)]
enum UrlOf {
    /// Never stored with notifications, because it may contain a secret.
    Fixed(String),
    /// Depends on the event.
    Template(Template),
}

/// A notification as it is stored until it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookContent {
    /// Set if it depends on the event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    url: Option<String>,
    body: String,
}

impl WebhookContent {
    /// Returns the content with only the scheme and the host of the URL.
    pub fn without_path(mut self) -> Self {
        self.url = self.url.map(|url| match Url::parse(&url) {
            Ok(url) => format!("{}/...", url.origin().ascii_serialization()),
            Err(_) => String::new(),
        });
        self
    }
}

const JSON: &str = "application/json";
/// Headers that millrace sets itself.
const RESERVED_HEADERS: [&str; 6] =
    ["webhook-id", "webhook-timestamp", "webhook-signature", "content-length", "host", "content-type"];

impl WebhookSection {
    pub fn build(&self, errors: &mut SettingErrors) -> Option<Webhook> {
        let policy = AddressPolicy { allow_private: self.allow_private };
        let url = errors.take(&["url"], self.url_of(policy));
        let content_type = self.content_type.as_deref().unwrap_or(JSON);
        let escape = match content_type {
            json if json.contains("json") => Escape::Json,
            html if html.contains("html") || html.contains("xml") => Escape::Html,
            _ => Escape::Plain,
        };
        if self.body.is_none() && content_type != JSON {
            errors.add(&["content_type"], "has no `body` of this type; the built-in body is JSON");
        }
        let body = match &self.body {
            Some(text) => errors.take(&["body"], Template::compile(text, escape)).map(Some),
            None => Some(None),
        };
        let send_within = bounded(self.timeout, ATTEMPT_DURATION_DEFAULT, "timeout", errors);
        let settings = RequestSettings {
            method: self.method(errors),
            headers: self.headers(content_type, errors),
            secrets: self.secrets(errors),
            policy,
            connect_within: bounded(
                self.connect_timeout,
                CONNECT_DURATION_DEFAULT,
                "connect_timeout",
                errors,
            ),
            send_within,
        };
        let sender = errors.take(&[], WebhookSender::new(settings))?;
        Some(Webhook { url: url?, policy, body: body?, send_within, sender: Arc::new(sender) })
    }

    fn url_of(&self, policy: AddressPolicy) -> Result<UrlOf, String> {
        if self.url.contains("{{") || self.url.contains("{%") {
            return Template::compile(&self.url, Escape::Url).map(UrlOf::Template);
        }
        let url = Url::parse(&self.url).map_err(|error| format!("has an invalid `url`: {error}"))?;
        policy.check_url(&url).map_err(|reason| format!("has a `url` that cannot be used: {reason}"))?;
        Ok(UrlOf::Fixed(self.url.clone()))
    }

    fn method(&self, errors: &mut SettingErrors) -> Method {
        match self.method.as_deref() {
            None | Some("POST") => Method::POST,
            Some("PUT") => Method::PUT,
            Some("PATCH") => Method::PATCH,
            Some(other) => {
                errors.add(
                    &["method"],
                    format!("has method `{other}`; the methods are `POST`, `PUT` and `PATCH`"),
                );
                Method::POST
            }
        }
    }

    fn headers(&self, content_type: &str, errors: &mut SettingErrors) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match HeaderValue::from_str(content_type) {
            Ok(value) => drop(headers.insert(CONTENT_TYPE, value)),
            Err(_) => errors.add(&["content_type"], "has a `content_type` that cannot be sent"),
        }
        for (name, value) in &self.headers {
            let reserved = RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str());
            match (HeaderName::try_from(name), HeaderValue::from_str(&value.0)) {
                (Ok(_), _) if reserved => {
                    errors
                        .add(&["headers", name], format!("sets header `{name}`, which millrace sets itself"));
                }
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                _ => errors.add(&["headers", name], format!("has a header `{name}` that cannot be sent")),
            }
        }
        headers
    }

    fn secrets(&self, errors: &mut SettingErrors) -> Vec<Secret> {
        let settings = SecretSettings {
            name: "secrets",
            written: self.secrets.iter().map(|secret| secret.0.clone()).collect(),
            file: self.secrets_file.as_ref(),
            variable: self.secrets_env.as_ref(),
        };
        let read = settings.read(errors);
        read.iter().filter_map(|text| errors.take(&["secrets"], Secret::parse(text))).collect()
    }
}

/// Returns a time-out, or the default. Adds an error if it is too long.
pub fn bounded(
    written: Option<WrittenDuration>,
    default: Duration,
    name: &str,
    errors: &mut SettingErrors,
) -> Duration {
    let duration = written.map_or(default, |written| written.0);
    if duration.is_zero() || duration > ATTEMPT_DURATION_MAX {
        errors.add(
            &[name],
            format!("has a `{name}` that is not between 1s and {}s", ATTEMPT_DURATION_MAX.as_secs()),
        );
    }
    duration
}

impl Webhook {
    /// Fails with the reason if the notification cannot be sent in this form.
    pub fn render(&self, notice: &Notice<'_>) -> Result<WebhookContent, String> {
        let url = match &self.url {
            UrlOf::Fixed(_) => None,
            UrlOf::Template(template) => {
                let text = template.render(notice).map_err(|reason| format!("`url`: {reason}"))?;
                let url = Url::parse(&text).map_err(|error| format!("`url`: {error}"))?;
                self.policy.check_url(&url).map_err(|reason| format!("`url`: {reason}"))?;
                Some(text)
            }
        };
        let body = match &self.body {
            Some(template) => template.render(notice).map_err(|reason| format!("`body`: {reason}"))?,
            None => standard_body(notice),
        };
        Ok(WebhookContent { url, body })
    }

    /// Returns the host of a notification, if the URL depends on the event.
    pub fn host(content: &WebhookContent) -> Option<String> {
        let url = Url::parse(content.url.as_deref()?).ok()?;
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
    }

    pub fn has_many_hosts(&self) -> bool {
        matches!(self.url, UrlOf::Template(_))
    }

    pub fn attempt_within(&self) -> Duration {
        self.send_within
    }

    /// Returns where notifications go, without what may be a secret.
    pub fn shown(&self) -> String {
        match &self.url {
            UrlOf::Fixed(url) => {
                let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
                host.unwrap_or_default()
            }
            UrlOf::Template(_) => "a host for each event".to_owned(),
        }
    }

    pub async fn send(&self, id: &str, content: &WebhookContent) -> Outcome {
        let url = match (&content.url, &self.url) {
            (Some(url), _) | (None, UrlOf::Fixed(url)) => url.clone(),
            (None, UrlOf::Template(_)) => {
                return Outcome::failed(
                    "the notification has no URL of its own, because `url` did not depend on the event when it was queued",
                );
            }
        };
        self.sender.send(id, &WebhookRequest { url, body: content.body.clone() }).await
    }
}

/// Returns the body that Standard Webhooks recommends, with the payload as it was sent.
fn standard_body(notice: &Notice<'_>) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: Option<&'a RawValue>,
    }
    let data = serde_json::from_str(notice.payload).ok();
    let body = Body { r#type: notice.event_type, timestamp: notice.created.to_text(), data };
    serde_json::to_string(&body).expect("texts and JSON can be written as JSON")
}
