//! SIGHUP: reads the certificate and the password file again. Without such files it does nothing, so that closing
//! the terminal does not stop the server.

use std::sync::Arc;

use event::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::tls::Certificate;
use crate::store::Password;

/// Registers a handler for SIGHUP, which no longer ends the process then.
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reads the certificate and the password file again at each SIGHUP.
pub async fn reload_at_hangup(
    mut hangups: Signal,
    certificate: Option<Arc<Certificate>>,
    password: Password,
    stop: Stop,
) {
    loop {
        tokio::select! {
            hangup = hangups.recv() => if hangup.is_none() { return },
            () = stop.wait() => return,
        }
        tracing::info!("SIGHUP: reading certificate and password file again");
        password.read_again().await;
        if let Some(certificate) = certificate.clone() {
            drop(tokio::task::spawn_blocking(move || certificate.reload()).await);
        }
    }
}
