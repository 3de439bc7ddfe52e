//! `/v1/streams`: the streams that the presented key may use, with their fields. `send` asks for them if it is not
//! told the stream of a file, so senders may list them as well as readers.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use event::{Field, Fields, Form, Kind};
use serde::Serialize;

use super::Api;
use crate::admission::Scope;
use crate::http::{ApiError, credentials};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/streams", get(list)).with_state(Arc::clone(api))
}

/// A client that may read or send events of these streams.
struct StreamUser {
    api: Arc<Api>,
    streams: Vec<String>,
}

impl FromRequestParts<Arc<Api>> for StreamUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let presented = credentials(&parts.headers);
        let may_use = |stream: Option<&str>| {
            let reads = api.keys.authorize(presented, Scope::Read, stream, false);
            reads.or_else(|_| api.keys.authorize(presented, Scope::Send, stream, false))
        };
        let known = api.streams.keys();
        let streams: Vec<String> = known.filter(|stream| may_use(Some(stream)).is_ok()).cloned().collect();
        if streams.is_empty() {
            may_use(None)?;
        }
        Ok(Self { api: Arc::clone(api), streams })
    }
}

#[derive(Serialize)]
struct StreamList {
    streams: Vec<StreamBody>,
}

#[derive(Serialize)]
struct StreamBody {
    name: String,
    key: String,
    fields: Vec<FieldBody>,
    sources: Vec<String>,
    views: Vec<String>,
}

/// A field with the bounds that were declared for it, or the built-in ones.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FieldBody {
    name: String,
    r#type: &'static str,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    one_of: Vec<String>,
}

impl From<&Field> for FieldBody {
    fn from(field: &Field) -> Self {
        let mut body = Self {
            name: field.name.clone(),
            r#type: "any",
            required: field.required,
            min: None,
            max: None,
            digits: None,
            places: None,
            format: None,
            one_of: field.one_of.clone(),
        };
        match field.kind {
            Kind::Text { chars_min, chars_max, form } => {
                body.r#type = "text";
                body.min = (chars_min > 0).then_some(i64::from(chars_min));
                body.max = Some(i64::from(chars_max));
                body.format = (form == Form::Email).then_some("email");
            }
            Kind::Integer { min, max } => {
                body.r#type = "integer";
                body.min = (min > i64::MIN).then_some(min);
                body.max = (max < i64::MAX).then_some(max);
            }
            Kind::Decimal { digits, places } => {
                body.r#type = "decimal";
                (body.digits, body.places) = (Some(digits), Some(places));
            }
            Kind::Time => body.r#type = "time",
            Kind::Boolean => body.r#type = "boolean",
            Kind::Any => {}
        }
        body
    }
}

async fn list(StreamUser { api, streams }: StreamUser) -> Json<StreamList> {
    let body = |name: String| {
        let fields: &Fields = &api.streams[&name];
        let views = api.views.values().filter(|running| running.view.stream == name);
        StreamBody {
            key: fields.get(fields.key()).name.clone(),
            fields: fields.iter().map(FieldBody::from).collect(),
            sources: api.about.sources_of(&name).into_iter().map(str::to_owned).collect(),
            views: views.map(|running| running.view.name.clone()).collect(),
            name,
        }
    };
    Json(StreamList { streams: streams.into_iter().map(body).collect() })
}
