//! TLS for the addresses that begin with `https://`. The certificate is read again when its files change, so that a
//! renewed certificate needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use event::Stop;
use event::limits::{CERTIFICATE_CHECK_INTERVAL, HANDSHAKE_DURATION_MAX};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::idle_timeout::IdleTimeoutStream;
use crate::config::Tls;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {reason}", path = path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn at(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// The certificate for new connections.
pub struct Certificate {
    files: Tls,
    current: RwLock<Arc<ServerConfig>>,
    /// The contents of the files when they were last read, valid or not.
    seen: Mutex<Result<Contents, TlsError>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    pub fn load(files: &Tls) -> Result<Arc<Self>, TlsError> {
        let contents = read(files)?;
        let current = RwLock::new(server_config(files, &contents)?);
        Ok(Arc::new(Self { files: files.clone(), current, seen: Mutex::new(Ok(contents)) }))
    }

    /// Returns the encrypted stream; `None` if the handshake fails or takes too long.
    pub async fn handshake(&self, stream: IdleTimeoutStream) -> Option<TlsStream<IdleTimeoutStream>> {
        let current = Arc::clone(&event::read_lock(&self.current));
        let handshake = TlsAcceptor::from(current).accept(stream);
        let outcome = timeout(HANDSHAKE_DURATION_MAX, handshake).await.ok()?;
        outcome.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    }

    /// Reads the files again at intervals.
    pub fn reload_when_changed(self: &Arc<Self>, stop: &Stop) {
        let (certificate, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            while !stop.within(CERTIFICATE_CHECK_INTERVAL).await {
                let certificate = Arc::clone(&certificate);
                drop(tokio::task::spawn_blocking(move || certificate.reload()).await);
            }
        });
    }

    /// Reads the files, and uses a changed certificate if it is valid. Otherwise logs the error once and keeps the
    /// old one: the files may be half renewed.
    pub fn reload(&self) {
        let contents = read(&self.files);
        let mut seen = event::lock(&self.seen);
        if *seen == contents {
            return;
        }
        seen.clone_from(&contents);
        match contents.and_then(|contents| server_config(&self.files, &contents)) {
            Ok(renewed) => {
                *event::write_lock(&self.current) = renewed;
                tracing::info!(file = %self.files.certificate.display(), "new connections use the new certificate");
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays in use");
            }
        }
    }
}

/// Returns why the files cannot be used, each reason with its setting under `[tls]`.
pub fn faults(files: &Tls) -> Vec<(&'static str, TlsError)> {
    let unreadable = [("certificate", &files.certificate), ("key", &files.key)]
        .into_iter()
        .filter_map(|(setting, path)| Some((setting, read_file(path).err()?)));
    let unreadable: Vec<_> = unreadable.collect();
    if !unreadable.is_empty() {
        return unreadable;
    }
    let error = read(files).and_then(|contents| server_config(files, &contents)).err();
    error
        .map(|error| (if error.path == files.key { "key" } else { "certificate" }, error))
        .into_iter()
        .collect()
}

fn read(files: &Tls) -> Result<Contents, TlsError> {
    Ok(Contents { certificate: read_file(&files.certificate)?, key: read_file(&files.key)? })
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::at(path, format!("cannot be read: {error}")))
}

fn server_config(files: &Tls, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |reason: String| TlsError::at(&files.certificate, reason);
    let chain = CertificateDer::pem_slice_iter(&contents.certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(pem_fault(&error, "certificate", "CERTIFICATE")))?;
    if chain.is_empty() {
        return Err(wrong(pem_fault(&pem::Error::NoItemsFound, "certificate", "CERTIFICATE")));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|error| TlsError::at(&files.key, pem_fault(&error, "private key", "PRIVATE KEY")))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::at(&files.key, format!("is not the key of `{}`", files.certificate.display()))
        }
        // The library reports a key that it cannot read only in this way.
        rustls::Error::General(_) => TlsError::at(
            &files.key,
            "contains a private key that cannot be read; expected an RSA, ECDSA or Ed25519 key",
        ),
        rustls::Error::InvalidCertificate(_) => {
            wrong("contains a certificate that cannot be read; expected an X.509 certificate".to_owned())
        }
        error => wrong(format!("cannot be used with its key: {error}")),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns why a file does not contain `what`, in plain words. `label` is the name of such a section in PEM.
fn pem_fault(error: &pem::Error, what: &str, label: &str) -> String {
    let begin = format!("`-----BEGIN {label}-----`");
    match error {
        pem::Error::NoItemsFound => {
            format!("contains no {what}; expected a section that begins with {begin}")
        }
        pem::Error::MissingSectionEnd { .. } => {
            format!("is cut off: a section has no line `-----END {label}-----`")
        }
        pem::Error::IllegalSectionStart { .. } => {
            format!("has a line with `-----BEGIN` that is incomplete; expected {begin}")
        }
        pem::Error::Base64Decode(_) => format!("has a section that is not Base64; copy the {what} again"),
        pem::Error::SectionTooLarge => "has a section that is too large".to_owned(),
        other => format!("is not valid PEM: {other}"),
    }
}
