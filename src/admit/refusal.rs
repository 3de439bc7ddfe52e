//! Every reason to refuse, and the one place where reasons become HTTP: status, stable code, retry time.
//! Each contract puts them into its own shape; the native API's is RFC 9457.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::FieldError;
use serde::Serialize;

use super::Wording;
use crate::eventlog::AppendError;
use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unauthorized,
    Forbidden,
    /// A browser says that a page of another site asks.
    ForeignPage,
    UnknownHost(String),
    ContentType {
        expected: &'static str,
    },
    ContentEncoding,
    TooLarge {
        what: &'static str,
        max: usize,
    },
    /// More events than one array may hold.
    TooMany {
        max: usize,
    },
    SlowBody,
    BrokenBody(String),
    /// What came is not what its `Content-Encoding` says.
    NotDecoded(&'static str),
    Invalid(FieldError),
    /// Several events of one request; only the first refusals are listed.
    InvalidMany {
        errors: Vec<Indexed>,
        count: usize,
    },
    /// What stopped a body of lines, of which the first ones are durable by then.
    AfterLines {
        durable_lines: u64,
        refusal: Box<Refusal>,
    },
    Parameter {
        name: &'static str,
        reason: String,
    },
    NotFound(String),
    NoRoute,
    MethodNotAllowed,
    Conflict(String),
    /// More than the configuration lets one key or address ask.
    TooManyRequests {
        whose: &'static str,
        seconds: u64,
    },
    QueueFull,
    DiskFull,
    /// What was asked for takes room for a while.
    NoRoom {
        what: &'static str,
        bytes: u64,
    },
    /// Nothing of this request is stored.
    LogFailed,
    /// The log failed with this request in line: nobody knows before the next start.
    LogFailedUnder,
    /// Bytes of the log that were durable cannot be read any more.
    LogDamaged(String),
    StoreUnavailable(String),
    /// The machine does not give what it always gives.
    Unexpected(String),
    Stopping,
}

/// What was wrong with one event of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Indexed {
    #[serde(flatten)]
    pub place: Place,
    #[serde(flatten)]
    pub error: FieldError,
}

/// Which of several events: counted from 0 in an array, from 1 in lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Index(u64),
    Line(u64),
}

impl Refusal {
    pub fn too_many_requests(whose: &'static str, wait: Duration) -> Self {
        Self::TooManyRequests { whose, seconds: wait.as_millis().div_ceil(1000).max(1) as u64 }
    }

    /// Nobody knows yet what of it are repeats: the gate has not come to it.
    pub fn unsettled() -> Self {
        Self::StoreUnavailable("what has arrived is not settled yet".to_owned())
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ForeignPage => StatusCode::FORBIDDEN,
            Self::UnknownHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::ContentType { .. } | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } | Self::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody(_)
            | Self::NotDecoded(_)
            | Self::Invalid(_)
            | Self::InvalidMany { .. }
            | Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::AfterLines { refusal, .. } => refusal.status(),
            Self::NotFound(_) | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::QueueFull | Self::LogFailed | Self::StoreUnavailable(_) | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::DiskFull | Self::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::LogFailedUnder | Self::LogDamaged(_) | Self::Unexpected(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// Stable; documented in docs/API.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ForeignPage => "foreign-page",
            Self::UnknownHost(_) => "unknown-host",
            Self::ContentType { .. } => "content-type",
            Self::ContentEncoding => "content-encoding",
            Self::TooLarge { .. } | Self::TooMany { .. } => "too-large",
            Self::SlowBody => "slow-body",
            Self::BrokenBody(_) | Self::NotDecoded(_) => "broken-body",
            Self::Invalid(_) | Self::InvalidMany { .. } => "invalid-event",
            Self::AfterLines { refusal, .. } => refusal.code(),
            Self::Parameter { .. } => "invalid-parameter",
            Self::NotFound(_) => "not-found",
            Self::NoRoute => "no-route",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict(_) => "conflict",
            Self::TooManyRequests { .. } => "too-many-requests",
            Self::QueueFull => "overloaded",
            Self::DiskFull | Self::NoRoom { .. } => "disk-full",
            Self::LogFailed | Self::LogFailedUnder => "log-failed",
            Self::LogDamaged(_) => "log-damaged",
            Self::Unexpected(_) => "unexpected",
            Self::StoreUnavailable(_) => "store-unavailable",
            Self::Stopping => "stopping",
        }
    }

    /// In words for whoever reads the answer.
    pub fn detail(&self) -> String {
        match self {
            Self::Unauthorized => "Unauthorized".to_owned(),
            Self::Forbidden => "Forbidden".to_owned(),
            Self::ForeignPage => {
                "pages of other sites may ask only doors and reads that name them under `origins`; a name of this server's own goes under `hosts`"
                    .to_owned()
            }
            Self::UnknownHost(host) => {
                format!("this server is not known as `{host}`; name it under `hosts` in the configuration")
            }
            Self::ContentType { expected } => format!("Content-Type must be {expected}"),
            Self::ContentEncoding => "Content-Encoding must be gzip or zstd".to_owned(),
            Self::TooLarge { what, max } => format!("{what} is larger than {max} bytes"),
            Self::TooMany { max } => {
                format!("an array of more than {max} events; send them as lines (application/x-ndjson)")
            }
            Self::SlowBody => "the body did not arrive in time".to_owned(),
            Self::BrokenBody(reason) => format!("the body broke off: {reason}"),
            Self::NotDecoded(coding) => format!("the body is broken, or no whole {coding} stream"),
            Self::Invalid(error) => error.to_string(),
            Self::InvalidMany { count, .. } => format!("{count} of the events cannot be taken"),
            Self::AfterLines { refusal, .. } => refusal.detail(),
            Self::Parameter { name, reason } => format!("{name}: {reason}"),
            Self::NotFound(what) => what.clone(),
            Self::NoRoute => "there is nothing at this path".to_owned(),
            Self::MethodNotAllowed => "this path does not take this method".to_owned(),
            Self::Conflict(reason) => reason.clone(),
            Self::TooManyRequests { whose, seconds } => {
                format!("this {whose} asks more often than it may; try again in {seconds} s")
            }
            Self::QueueFull => "more is waiting than can be taken now; try again".to_owned(),
            Self::DiskFull => "the disk is nearly full; events are taken again once there is room".to_owned(),
            Self::NoRoom { what, bytes } => {
                format!(
                    "{what} takes {bytes} bytes of the data folder's disk for a while, and there is not that much room"
                )
            }
            Self::LogFailed => "the log has failed; this server ends".to_owned(),
            Self::LogFailedUnder => {
                "the log failed before this was settled: it may be stored, or not; this server ends"
                    .to_owned()
            }
            Self::LogDamaged(reason) => format!("{reason}; stop the server and run `millrace repair`"),
            Self::Unexpected(reason) => reason.clone(),
            Self::StoreUnavailable(reason) => format!("the store does not answer: {reason}"),
            Self::Stopping => "this server is stopping".to_owned(),
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::QueueFull | Self::LogFailed | Self::StoreUnavailable(_) | Self::Stopping => Some(1),
            Self::DiskFull | Self::NoRoom { .. } => Some(10),
            Self::TooManyRequests { seconds, .. } => Some(*seconds),
            Self::AfterLines { refusal, .. } => refusal.retry_after_seconds(),
            _ => None,
        }
    }

    /// The answer in a contract's own shape: one key with the words.
    pub fn in_key(&self, key: &str) -> Response {
        self.respond(serde_json::json!({ key: self.detail() }), "application/json")
    }

    /// The same in a declared contract's words.
    pub fn in_words(&self, wording: &Wording) -> Response {
        let key = &wording.key;
        self.respond(serde_json::json!({ key: wording.words(self) }), "application/json")
    }

    /// The native API's shape: problem details.
    pub fn as_problem(&self) -> Response {
        let mut body = serde_json::json!({
            "type": format!("urn:millrace:problem:{}", self.code()),
            "title": self.status().canonical_reason().unwrap_or("Error"),
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        self.add_to(&mut body);
        self.respond(body, "application/problem+json")
    }

    /// What a refusal has to say beyond its words.
    fn add_to(&self, body: &mut serde_json::Value) {
        match self {
            Self::InvalidMany { errors, count } => {
                body["errors"] = serde_json::json!(errors);
                body["errorCount"] = serde_json::json!(count);
            }
            Self::Invalid(error) => {
                body["errors"] =
                    serde_json::json!([{ "index": 0, "field": error.field, "reason": error.reason }]);
                body["errorCount"] = serde_json::json!(1);
            }
            Self::AfterLines { durable_lines, refusal } => {
                body["durableLines"] = serde_json::json!(durable_lines);
                refusal.add_to(body);
            }
            _ => {}
        }
    }

    /// Whether what is left of the body is not worth reading.
    fn ends_connection(&self) -> bool {
        match self {
            Self::SlowBody | Self::BrokenBody(_) | Self::NotDecoded(_) | Self::TooLarge { .. } => true,
            Self::AfterLines { refusal, .. } => refusal.ends_connection(),
            _ => false,
        }
    }

    fn respond(&self, body: serde_json::Value, content_type: &'static str) -> Response {
        metrics::counter!("millrace_refused_total", "code" => self.code()).increment(1);
        let mut response = (self.status(), body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, Self::Unauthorized) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::ContentEncoding) {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        if self.ends_connection() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        let text = error.body_text();
        // What follows names the parameter; which library could not read it is nobody's concern.
        let reason = text.split_once("query string: ").map_or(text.as_str(), |(_, reason)| reason);
        Self::Parameter { name: "query", reason: reason.to_owned() }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::QueueFull => Self::QueueFull,
            AppendError::DiskFull => Self::DiskFull,
            AppendError::TooLarge { bytes_max } => Self::TooLarge { what: "one record", max: bytes_max },
            AppendError::Failed(_) => Self::LogFailed,
            AppendError::FailedUnder(_) => Self::LogFailedUnder,
            AppendError::Closed => Self::Stopping,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Stopping,
            StoreError::NoTable(_)
            | StoreError::Claimed { .. }
            | StoreError::Transient(_)
            | StoreError::Data(_)
            | StoreError::Blocked(_) => Self::StoreUnavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Retry-After` says that a request may be sent again without being counted twice.
    #[test]
    fn what_may_be_stored_is_not_asked_for_again() {
        let answer = |error: AppendError| {
            let answer = Refusal::from(error).as_problem();
            (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
        };
        assert_eq!(answer(AppendError::Failed("a disk".to_owned())), (503, true));
        assert_eq!(answer(AppendError::FailedUnder("a disk".to_owned())), (500, false));
        let refusal = Refusal::from(AppendError::FailedUnder("a disk".to_owned()));
        assert!(refusal.detail().contains("may be stored"), "{}", refusal.detail());
        assert_eq!(answer(AppendError::DiskFull), (507, true));
        let no_room = Refusal::NoRoom { what: "a backup", bytes: 1 }.as_problem();
        assert!(no_room.headers().contains_key(header::RETRY_AFTER));
        let after = Refusal::AfterLines { durable_lines: 3, refusal: Box::new(refusal) }.as_problem();
        assert_eq!((after.status().as_u16(), after.headers().get(header::RETRY_AFTER)), (500, None));
    }
}
