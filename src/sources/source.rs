//! `[source.NAME]`: each kind of source declares its settings in its own file; the declared value is the one that runs.

use std::time::Duration;

use event::SettingErrors;
use serde::Deserialize;

use super::http::HttpSource;
use super::socketio::SocketIoSource;
use super::websocket::WebSocketSource;
use crate::http::{Access, Origins, Wording};

/// The kinds of sources.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Http(HttpSource),
    SocketIo(SocketIoSource),
    WebSocket(WebSocketSource),
}

impl Source {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        match self {
            Self::Http(source) => source.check(errors),
            Self::SocketIo(source) => source.check(errors),
            Self::WebSocket(source) => source.check(errors),
        }
    }

    /// Returns the name of the kind in the configuration and in API responses.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::SocketIo(_) => "socketio",
            Self::WebSocket(_) => "websocket",
        }
    }

    /// Returns the name of the stream that the source's events belong to.
    pub fn stream(&self) -> &str {
        match self {
            Self::Http(source) => &source.stream,
            Self::SocketIo(source) => &source.stream,
            Self::WebSocket(source) => &source.stream,
        }
    }

    /// Returns how long the ids of the source are remembered, if it says so.
    pub fn window(&self) -> Option<Duration> {
        let window = match self {
            Self::Http(source) => source.window,
            Self::SocketIo(source) => source.window,
            Self::WebSocket(source) => source.window,
        };
        window.map(|window| window.0)
    }

    /// Returns the path at which the source is.
    pub fn path(&self) -> &str {
        match self {
            Self::Http(source) => source.path.as_str(),
            Self::SocketIo(source) => source.path.as_str(),
            Self::WebSocket(source) => source.path.as_str(),
        }
    }

    pub fn access(&self) -> Access {
        match self {
            Self::Http(source) => source.access,
            Self::SocketIo(source) => source.access,
            Self::WebSocket(source) => source.access,
        }
    }

    /// Returns whether an open source may be reached from other machines.
    pub fn is_public(&self) -> bool {
        match self {
            Self::Http(source) => source.public,
            Self::SocketIo(source) => source.public,
            Self::WebSocket(source) => source.public,
        }
    }

    /// Returns the web pages that may use the source.
    pub fn origins(&self) -> &Origins {
        match self {
            Self::Http(source) => &source.origins,
            Self::SocketIo(source) => &source.origins,
            Self::WebSocket(source) => &source.origins,
        }
    }

    pub fn origins_mut(&mut self) -> &mut Origins {
        match self {
            Self::Http(source) => &mut source.origins,
            Self::SocketIo(source) => &mut source.origins,
            Self::WebSocket(source) => &mut source.origins,
        }
    }

    /// Returns whether the pages of `ALLOWED_ORIGINS` may use the source if it lists none.
    pub fn uses_allowed_origins(&self) -> bool {
        // The replaced Socket.IO service has this variable, and may have keys here.
        self.access() == Access::Open || matches!(self, Self::SocketIo(_))
    }

    /// Returns the form of refusals at the source's path.
    pub fn wording(&self) -> Wording {
        match self {
            Self::Http(source) => source.wording(),
            Self::SocketIo(source) => source.wording(),
            Self::WebSocket(source) => source.wording(),
        }
    }

    /// Returns why these two sources cannot be at one path, if they cannot.
    pub fn conflict_at_path(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::SocketIo(one), Self::SocketIo(other)) => one.conflict_at_path(other),
            _ => Some(format!("both have path `{}`", self.path())),
        }
    }

    /// Returns the source if it takes one event for each HTTP request.
    pub fn http(&self) -> Option<&HttpSource> {
        match self {
            Self::Http(source) => Some(source),
            Self::SocketIo(_) | Self::WebSocket(_) => None,
        }
    }
}
