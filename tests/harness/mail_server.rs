//! A mail server for tests of mail: the public package `aiosmtpd` on a free port. The start of a recipient's name
//! selects what the server does: `refuse` (550), `busy` (451), `busyonce` (451 for the first attempt of a
//! `Message-ID`), or `hang` (no answer after the content).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use super::{python, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // The names are the usual ones.
pub enum Tls {
    None,
    /// The client must send STARTTLS before it sends mail or logs in.
    StartTls,
    /// The connection is encrypted from its first byte.
    Tls,
}

pub struct MailServer {
    child: Child,
    port: u16,
    mails: Arc<Mutex<Vec<Value>>>,
    /// Contains the certificate and its key.
    folder: TempDir,
}

impl MailServer {
    /// Starts a server. `login` is the user and the password that each client must send.
    pub fn start(tls: Tls, login: Option<(&str, &str)>) -> Self {
        Self::start_on(0, tls, login)
    }

    /// Starts a server on this port, or on a free one if it is 0.
    pub fn start_on(port: u16, tls: Tls, login: Option<(&str, &str)>) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mode = match tls {
            Tls::None => "none",
            Tls::StartTls => "starttls",
            Tls::Tls => "tls",
        };
        let mut command = python::program("tests/delivery/programs/mail_server.py");
        command.args(["--port", &port.to_string(), "--tls", mode]);
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
        if let Some((user, password)) = login {
            command.args(["--login", &format!("{user}:{password}")]);
        }
        // The program ends when the pipe of its input closes, even if the test was killed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        let first: Value = serde_json::from_str(&first)
            .unwrap_or_else(|error| panic!("the mail server did not start: {error}: {first:?}"));
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        let mails: Arc<Mutex<Vec<Value>>> = Arc::default();
        let accepted = Arc::clone(&mails);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mail = serde_json::from_str(&line).unwrap();
                accepted.lock().unwrap().push(mail);
            }
        });
        Self { child, port, mails, folder }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the file with the certificate for `localhost`, which clients must trust. The certificate does not name
    /// 127.0.0.1.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Returns the accepted mails in order, each with `from`, `to`, `raw`, `tls` (whether it came encrypted) and `user`
    /// (who logged in, or null).
    pub fn mails(&self) -> Vec<Value> {
        self.mails.lock().unwrap().clone()
    }

    /// Blocks until the server has accepted so many mails, and returns all of them.
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} mails"), || self.mails.lock().unwrap().len() >= count);
        self.mails()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
