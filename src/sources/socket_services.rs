//! What all sources of sockets share.

use std::sync::Arc;

use crate::admission::Admission;
use crate::http::{RateLimits, Sockets};
use crate::live::Live;

#[derive(Clone)]
pub struct SocketServices {
    pub admission: Arc<Admission>,
    pub sockets: Sockets,
    pub live: Live,
    pub rates: Arc<RateLimits>,
    /// The names of this server.
    pub hosts: Vec<String>,
}
