//! Turns every refusal into an HTTP response: status, stable code and `Retry-After`. The native API answers with
//! problem details (RFC 9457); a contract has its own words (`wording.rs`).

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::{FieldError, FieldErrors};

use super::Wording;
use super::query_error::query_in_plain_words;
use crate::admission::{Denied, EventFault, EventIndex, KeyFault, Refusal};

/// Why an HTTP request failed: a refusal that every transport knows, or a fault of the request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    Refused(Refusal),
    /// The browser says that a page of another site sent the request.
    ForeignPage,
    UnknownHost(String),
    ContentType {
        expected: &'static str,
    },
    ContentEncoding,
    SlowBody,
    BrokenBody(String),
    /// The body is not in the format that its `Content-Encoding` names.
    NotDecoded(&'static str),
    /// A body of lines stopped after some of its lines were stored.
    AfterLines {
        durable_lines: u64,
        error: Box<ApiError>,
    },
    Parameter {
        name: &'static str,
        reason: String,
    },
    NoRoute,
    MethodNotAllowed,
    /// The key or address exceeds its configured rate.
    TooManyRequests {
        whose: &'static str,
        seconds: u64,
    },
    /// The request needs more temporary disk space than there is.
    NoDiskSpace {
        what: &'static str,
        bytes: u64,
    },
}

impl ApiError {
    pub fn too_many_requests(whose: &'static str, wait: Duration) -> Self {
        Self::TooManyRequests { whose, seconds: wait.as_millis().div_ceil(1000).max(1) as u64 }
    }

    pub fn not_found(what: String) -> Self {
        Refusal::NotFound(what).into()
    }

    pub fn conflict(reason: String) -> Self {
        Refusal::Conflict(reason).into()
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => status_of(refusal),
            Self::ForeignPage => StatusCode::FORBIDDEN,
            Self::UnknownHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::ContentType { .. } | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody(_) | Self::NotDecoded(_) | Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::AfterLines { error, .. } => error.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoDiskSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// A stable code, documented in docs/API.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::ForeignPage => "foreign-page",
            Self::UnknownHost(_) => "unknown-host",
            Self::ContentType { .. } => "content-type",
            Self::ContentEncoding => "content-encoding",
            Self::SlowBody => "slow-body",
            Self::BrokenBody(_) | Self::NotDecoded(_) => "broken-body",
            Self::AfterLines { error, .. } => error.code(),
            Self::Parameter { .. } => "invalid-parameter",
            Self::NoRoute => "no-route",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::TooManyRequests { .. } => "too-many-requests",
            Self::NoDiskSpace { .. } => "disk-full",
        }
    }

    /// Returns the reason as a sentence for the person who reads the answer.
    pub fn detail(&self) -> String {
        match self {
            Self::Refused(Refusal::Unauthorized { fault, .. }) => {
                format!("{}; send a key in the header `Authorization` or `X-API-Key`", fault.as_str())
            }
            Self::Refused(refusal) => refusal.detail(),
            Self::ForeignPage => {
                "a page of another site may use only sources and reads that list it under `origins`; if this server has the name of the page, add it to `hosts`"
                    .to_owned()
            }
            Self::UnknownHost(host) => {
                format!("this server is not known as `{host}`; add the name to `hosts` in the configuration")
            }
            Self::ContentType { expected } => format!("Content-Type must be {expected}"),
            Self::ContentEncoding => "Content-Encoding must be gzip or zstd".to_owned(),
            Self::SlowBody => "the body did not arrive in time".to_owned(),
            Self::BrokenBody(reason) => format!("the body is incomplete: {reason}"),
            Self::NotDecoded(coding) => format!("the body is not a complete {coding} stream"),
            Self::AfterLines { error, .. } => error.detail(),
            Self::Parameter { name, reason } => format!("{name}: {reason}"),
            Self::NoRoute => "there is nothing at this path".to_owned(),
            Self::MethodNotAllowed => "this path does not support this method".to_owned(),
            Self::TooManyRequests { whose, seconds } => {
                format!("this {whose} exceeds its request rate; retry after {seconds} s")
            }
            Self::NoDiskSpace { what, bytes } => {
                format!("{what} needs {bytes} bytes of temporary space in the data folder, which has less")
            }
        }
    }

    /// When to try again; `None` if the same request would be refused again, or might count twice.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Refused(refusal) => refusal.retry_after_seconds(),
            Self::NoDiskSpace { .. } => Some(10),
            Self::TooManyRequests { seconds, .. } => Some(*seconds),
            Self::AfterLines { error, .. } => error.retry_after_seconds(),
            _ => None,
        }
    }

    /// Returns the response in a contract's own words.
    pub fn in_words(&self, wording: &Wording) -> Response {
        self.count();
        self.reworded(wording)
    }

    /// The same for an error that is counted already.
    pub fn reworded(&self, wording: &Wording) -> Response {
        let key = &wording.key;
        self.response(serde_json::json!({ key: wording.words(self) }), "application/json")
    }

    /// Returns the problem details as a value, with the time to wait, which a response has in a header.
    pub fn problem(&self) -> serde_json::Value {
        let mut problem = self.problem_details();
        if let Some(seconds) = self.retry_after_seconds() {
            problem["retryAfter"] = serde_json::json!(seconds);
        }
        problem
    }

    fn problem_details(&self) -> serde_json::Value {
        let mut body = serde_json::json!({
            "type": format!("urn:millrace:problem:{}", self.code()),
            "title": self.status().canonical_reason().unwrap_or("Error"),
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        self.add_to(&mut body);
        body
    }

    /// Counts the refusal in the metrics.
    pub fn count(&self) {
        metrics::counter!("millrace_refused_total", "code" => self.code()).increment(1);
    }

    /// Adds the members of the problem that its kind has besides the common ones.
    fn add_to(&self, body: &mut serde_json::Value) {
        match self {
            Self::Refused(Refusal::InvalidMany { faults, events }) => {
                body["errors"] = serde_json::json!(faults);
                body["errorCount"] = serde_json::json!(events);
            }
            Self::Refused(Refusal::Invalid(errors)) => {
                let fault =
                    |error: &FieldError| EventFault { at: EventIndex::Index(0), error: error.clone() };
                let faults: Vec<EventFault> = errors.iter().map(fault).collect();
                body["errorCount"] = serde_json::json!(1);
                body["errors"] = serde_json::json!(faults);
            }
            Self::AfterLines { durable_lines, error } => {
                body["durableLines"] = serde_json::json!(durable_lines);
                error.add_to(body);
            }
            _ => {}
        }
    }

    /// Returns whether the rest of the body is not worth reading, so that the connection is closed.
    fn ends_connection(&self) -> bool {
        match self {
            Self::SlowBody
            | Self::BrokenBody(_)
            | Self::NotDecoded(_)
            | Self::Refused(Refusal::TooLarge { .. }) => true,
            Self::AfterLines { error, .. } => error.ends_connection(),
            _ => false,
        }
    }

    fn response(&self, body: serde_json::Value, content_type: &'static str) -> Response {
        let mut response = (self.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        match self {
            Self::Refused(refusal) => {
                headers.extend(challenge(refusal).map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
            }
            Self::ContentEncoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            }
            _ => {}
        }
        if self.ends_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Returns the content of `WWW-Authenticate` (RFC 6750): which scope the request needs, and what is wrong with the key.
/// A request without a key gets no error code, because it did not try.
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let text = match refusal {
        Refusal::Unauthorized { scope, fault: KeyFault::Missing } => {
            format!("Bearer scope=\"{}\"", scope.as_str())
        }
        Refusal::Unauthorized { scope, fault } => format!(
            "Bearer error=\"invalid_token\", error_description=\"{}\", scope=\"{}\"",
            fault.as_str(),
            scope.as_str()
        ),
        Refusal::Forbidden(Denied::Scope(scope)) => {
            format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope.as_str())
        }
        Refusal::Forbidden(denied) => {
            // The name of a stream may have characters that the header must not have.
            let description = match denied {
                Denied::Stream(_) => "the key is limited to other streams".to_owned(),
                other => other.to_string().replace('`', "'"),
            };
            format!("Bearer error=\"insufficient_scope\", error_description=\"{description}\"")
        }
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::Invalid(_) | Refusal::InvalidMany { .. } => StatusCode::BAD_REQUEST,
        Refusal::TooLarge { .. } | Refusal::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
        Refusal::Overloaded
        | Refusal::LogFailed
        | Refusal::StoreUnavailable(_)
        | Refusal::StoreUnusable(_)
        | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::LogFailedDuringAppend | Refusal::LogDamaged(_) | Refusal::Unexpected(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The native API's form: problem details. The error itself goes along as an extension, for routes that answer in a
/// contract's words.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.count();
        let mut response = self.response(self.problem_details(), "application/problem+json");
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Refusal::from(errors).into()
    }
}

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        let text = error.body_text();
        let message = text.split_once("query string: ").map_or(text.as_str(), |(_, message)| message);
        Self::Parameter { name: "query", reason: query_in_plain_words(message) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::log::AppendError;
    use crate::store::StoreError;

    /// Returns the texts in the function `code` of a source file.
    fn codes_in(source: &'static str) -> BTreeSet<&'static str> {
        let (_, function) = source.split_once("pub fn code(&self) -> &'static str {").expect("a function");
        let (function, _) = function.split_once("\n    }\n").expect("its end");
        function.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_documentation_lists_every_problem_type_and_no_other() {
        let mut codes = codes_in(include_str!("error_response.rs"));
        codes.extend(codes_in(include_str!("../admission/refusal.rs")));
        assert!(
            codes.len() > 20 && codes.contains("foreign-page") && codes.contains("forbidden"),
            "{codes:?}"
        );
        let (_, table) = include_str!("../../docs/API.md").split_once("\n## Errors\n").expect("a section");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let types = rows.filter_map(|row| row.split('|').nth(1));
        let documented: BTreeSet<&str> =
            types.flat_map(|types| types.split('`').skip(1).step_by(2)).collect();
        assert_eq!(documented, codes);
    }

    /// `Retry-After` says that a request may be sent again without being counted twice, and that this may help.
    #[test]
    fn no_retry_is_requested_if_the_event_may_be_stored_or_a_person_is_needed() {
        let answer = |error: AppendError| {
            let answer = ApiError::from(Refusal::from(error)).into_response();
            (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
        };
        assert_eq!(answer(AppendError::Failed("a disk".to_owned())), (503, true));
        assert_eq!(answer(AppendError::FailedDuringAppend("a disk".to_owned())), (500, false));
        let error = ApiError::from(AppendError::FailedDuringAppend("a disk".to_owned()));
        assert!(error.detail().contains("may be stored"), "{}", error.detail());
        assert_eq!(answer(AppendError::DiskFull), (507, true));
        // Nothing changes by itself in a store that needs a person.
        let store_answer = |error: StoreError| {
            let error = ApiError::from(Refusal::from(error));
            let retry = error.retry_after_seconds().is_some();
            (error.code(), error.status().as_u16(), retry, error.detail())
        };
        assert_eq!(
            store_answer(StoreError::Transient("it is locked".to_owned())),
            ("store-unavailable", 503, true, "the store does not answer: it is locked".to_owned())
        );
        let reason = || "table `t` is read-only".to_owned();
        for error in [StoreError::Blocked(reason()), StoreError::Data(reason())] {
            let detail = "the store cannot do this: table `t` is read-only".to_owned();
            assert_eq!(store_answer(error), ("store-unusable", 503, false, detail));
        }
        let detail = "the store cannot do this: table `t` does not exist".to_owned();
        assert_eq!(store_answer(StoreError::NoTable("t".to_owned())), ("store-unusable", 503, false, detail));
        for error in [
            StoreError::Redefined("v".to_owned()),
            StoreError::Claimed { view: "v".to_owned(), expected: 1, found: None },
        ] {
            let (code, status, retry, detail) = store_answer(error);
            assert_eq!((code, status, retry), ("conflict", 409, false));
            assert!(detail.ends_with("; try again"), "{detail}");
        }
        let dedup_behind = ApiError::from(Refusal::dedup_behind());
        assert_eq!(dedup_behind.retry_after_seconds(), Some(1));
        assert!(!dedup_behind.detail().contains("does not answer"), "{}", dedup_behind.detail());
        let no_space = ApiError::NoDiskSpace { what: "a backup", bytes: 1 }.into_response();
        assert!(no_space.headers().contains_key(header::RETRY_AFTER));
        let after = ApiError::AfterLines { durable_lines: 3, error: Box::new(error) }.into_response();
        assert_eq!((after.status().as_u16(), after.headers().get(header::RETRY_AFTER)), (500, None));
    }
}
