//! Sends mails: one SMTP connection for each attempt.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Quit, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::mail::Mail;
use super::outcome::{Outcome, Verdict};

/// The mail is already accepted or refused when the session ends, so the server gets little time for it.
const QUIT_DURATION_MAX: Duration = Duration::from_secs(1);
const MECHANISMS: &[Mechanism] = &[Mechanism::Plain, Mechanism::Login];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Starts without TLS and requires the upgrade before the login and the mail.
    #[default]
    StartTls,
    Tls,
    None,
}

#[derive(Clone)]
pub struct SmtpServer {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    /// The only certificates that are trusted. Without it, those of the system are.
    pub ca_file: Option<PathBuf>,
    pub login: Option<(String, String)>,
    /// Time to connect to each address of the host.
    pub connect_within: Duration,
    /// Time for a whole attempt, from the look-up to the answer after the mail.
    pub send_within: Duration,
}

/// The part of a session that an error happened in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    name: &'static str,
    /// True if a permanent error refuses the mail, and not this client.
    about_mail: bool,
}

const CONNECT: Step = Step { name: "the connection", about_mail: false };
const STARTTLS: Step = Step { name: "STARTTLS", about_mail: false };
const AUTH: Step = Step { name: "AUTH", about_mail: false };
const MAIL_FROM: Step = Step { name: "MAIL FROM", about_mail: true };
const RCPT_TO: Step = Step { name: "RCPT TO", about_mail: true };
const DATA: Step = Step { name: "DATA", about_mail: true };
const CONTENT: Step = Step { name: "the mail", about_mail: true };

pub struct EmailSender {
    server: SmtpServer,
    tls: Option<TlsParameters>,
    login: Option<Credentials>,
}

impl EmailSender {
    /// Fails if the host is invalid, or if the certificates to trust cannot be loaded.
    pub fn new(server: &SmtpServer) -> Result<Self, String> {
        ServerName::try_from(server.host.as_str()).map_err(|_| {
            format!("has an invalid `host`: `{}` is not a host name or IP address", server.host)
        })?;
        let tls = match server.encryption {
            Encryption::None => None,
            Encryption::StartTls | Encryption::Tls => Some(tls(&server.host, server.ca_file.as_deref())?),
        };
        let login = server.login.clone().map(|(user, password)| Credentials::new(user, password));
        Ok(Self { server: server.clone(), tls, login })
    }

    /// Makes one attempt.
    pub async fn send(&self, id: &str, date: SystemTime, mail: &Mail) -> Outcome {
        let message = match mail.message(id, date) {
            Ok(message) => message,
            Err(reason) => return Outcome::answered(Verdict::Refused, None, "", reason),
        };
        // lettre's time-out covers connecting only.
        let deadline = Instant::now() + self.server.send_within;
        let mut step = CONNECT;
        let mut connection = match timeout_at(deadline, self.open(&mut step)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(outcome)) => return outcome,
            Err(_) => return self.timed_out(step),
        };
        let outcome = match timeout_at(deadline, self.deliver(&mut connection, &message, &mut step)).await {
            Ok(outcome) => outcome,
            Err(_) => return self.timed_out(step),
        };
        let _ = timeout(QUIT_DURATION_MAX, connection.command(Quit)).await;
        outcome
    }

    async fn open(&self, step: &mut Step) -> Result<AsyncSmtpConnection, Outcome> {
        let client = ClientId::default();
        let failure = |step: Step| move |error: smtp::Error| self.failure(step, &error);
        let mut connection = match (self.server.encryption, &self.tls) {
            (Encryption::StartTls, Some(tls)) => {
                let stream = Box::new(ByteByByte(self.connect().await?));
                let connecting = AsyncSmtpConnection::connect_with_transport(stream, &client);
                let mut connection = connecting.await.map_err(failure(CONNECT))?;
                *step = STARTTLS;
                connection.starttls(tls.clone(), &client).await.map_err(failure(STARTTLS))?;
                connection
            }
            (_, tls) => {
                let address = (self.server.host.as_str(), self.server.port);
                let within = Some(self.server.connect_within);
                let connecting =
                    AsyncSmtpConnection::connect_tokio1(address, within, &client, tls.clone(), None);
                connecting.await.map_err(failure(CONNECT))?
            }
        };
        if let Some(login) = &self.login {
            *step = AUTH;
            connection.auth(MECHANISMS, login).await.map_err(failure(AUTH))?;
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<TcpStream, Outcome> {
        let connecting = TcpStream::connect((self.server.host.as_str(), self.server.port));
        let failed = |reason: &str| Outcome::failed(self.error(CONNECT, &format!("failed: {reason}")));
        match timeout(self.server.connect_within, connecting).await {
            Ok(connected) => {
                // Otherwise small writes wait about 40 ms for a delayed ACK.
                let connected = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
                connected.map_err(|error| failed(&error.to_string()))
            }
            Err(_) => Err(failed("connection timed out")),
        }
    }

    async fn deliver(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Message,
        step: &mut Step,
    ) -> Outcome {
        let content = content(mail);
        // Only an address makes a message contain other characters. Everything else is encoded.
        let mut parameters = Vec::new();
        if !content.is_ascii() {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let error =
                    self.error(MAIL_FROM, "needs SMTPUTF8 for an address, which the server does not support");
                return Outcome::answered(Verdict::Refused, None, "", error);
            }
            parameters =
                vec![MailParameter::Body(MailBodyParameter::EightBitMime), MailParameter::SmtpUtfEight];
        }
        match transfer(connection, mail, content, parameters, step).await {
            Ok(answer) => {
                let text = answer.message().collect::<Vec<_>>().join(" ");
                let is_end = *step == CONTENT && answer.code().severity == Severity::PositiveCompletion;
                let code = answer.code().into();
                if is_end { Outcome::sent(Some(code), &text) } else { self.answered(*step, code, &text) }
            }
            Err(error) => self.failure(*step, &error),
        }
    }

    fn failure(&self, step: Step, error: &smtp::Error) -> Outcome {
        if let Some(code) = error.status().map(u16::from) {
            // Answers to syntax errors often repeat the command, which contains the password.
            let is_safe = step != AUTH || matches!(code, 400..=499 | 530 | 534 | 535 | 538);
            return self.answered(step, code, &if is_safe { root_cause(error) } else { String::new() });
        }
        // An error about an invalid answer would quote it.
        let reason = if error.is_response() {
            "the server closed the connection or sent an invalid answer".to_owned()
        } else {
            root_cause(error)
        };
        Outcome::failed(self.error(step, &format!("failed: {reason}")))
    }

    /// Returns the outcome of an answer that does not fit the step.
    fn answered(&self, step: Step, code: u16, text: &str) -> Outcome {
        let separator = if text.is_empty() { "" } else { ": " };
        let error = self.error(step, &format!("was answered with {code}{separator}{text}"));
        Outcome::answered(verdict(step, code), Some(code), text, error)
    }

    fn timed_out(&self, step: Step) -> Outcome {
        let seconds = self.server.send_within.as_secs_f64();
        Outcome::failed(self.error(step, &format!("timed out after {seconds} s")))
    }

    fn error(&self, step: Step, what: &str) -> String {
        format!("mail server {}:{}: {} {what}", self.server.host, self.server.port, step.name)
    }
}

/// Decides about an answer that is an error.
fn verdict(step: Step, code: u16) -> Verdict {
    // The excluded answers ask for a login or for encryption.
    let is_permanent = (500..=599).contains(&code) && !matches!(code, 530 | 534 | 535 | 538);
    if step.about_mail && is_permanent { Verdict::Refused } else { Verdict::Failed { retry_after: None } }
}

/// Returns the message as DATA transfers it: with a second dot at the start of some lines, and the dot that ends it.
fn content(mail: &Message) -> String {
    let mut content = String::from_utf8_lossy(&mail.formatted()).replace("\r\n.", "\r\n..");
    content.push_str(if content.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" });
    content
}

/// Sends each command itself. `AsyncSmtpConnection::send` does not say which one failed. It also writes the end of the
/// mail separately, which waits about 40 ms for a delayed ACK.
async fn transfer(
    connection: &mut AsyncSmtpConnection,
    mail: &Message,
    content: String,
    parameters: Vec<MailParameter>,
    step: &mut Step,
) -> Result<Response, smtp::Error> {
    *step = MAIL_FROM;
    connection.command(MailFrom::new(mail.envelope().from().cloned(), parameters)).await?;
    *step = RCPT_TO;
    for to in mail.envelope().to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    *step = DATA;
    let answer = connection.command(Data).await?;
    if !answer.has_code(354) {
        return Ok(answer);
    }
    *step = CONTENT;
    connection.command(content).await
}

/// Returns one byte for each read, so that lettre buffers nothing behind the answer to STARTTLS. Bytes that an attacker
/// adds there become part of the TLS handshake, which then fails. lettre would take them for answers that TLS protected.
#[derive(Debug)]
struct ByteByByte(TcpStream);

impl AsyncTokioStream for ByteByByte {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

impl AsyncRead for ByteByByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte[..buffer.remaining().min(1)]);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut read))?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn tls(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParametersBuilder::new(host.to_owned());
    let Some(path) = ca_file else {
        let failed =
            |error: smtp::Error| format!("cannot load the system's certificates: {}", root_cause(&error));
        return builder.build().map_err(failed);
    };
    let failed = |reason: &str| format!("names `{}` as `ca_file`, which {reason}", path.display());
    let pem = std::fs::read(path).map_err(|error| failed(&format!("cannot be read: {error}")))?;
    if CertificateDer::pem_slice_iter(&pem).next().is_none() {
        return Err(failed("contains no certificate"));
    }
    let unusable = |error: smtp::Error| failed(&format!("cannot be used: {}", root_cause(&error)));
    builder = builder.certificate_store(CertificateStore::None);
    builder.add_root_certificate(Certificate::from_pem(&pem).map_err(unusable)?).build().map_err(unusable)
}

fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn sent(id: &str, mail: &Mail) -> String {
        let date = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        content(&mail.message(id, date).expect("a valid mail"))
    }

    fn server() -> SmtpServer {
        let within = Duration::from_secs(1);
        SmtpServer {
            host: "localhost".to_owned(),
            port: 1,
            encryption: Encryption::None,
            ca_file: None,
            login: None,
            connect_within: within,
            send_within: within,
        }
    }

    #[tokio::test]
    async fn an_invalid_mail_is_refused_without_a_connection() {
        let sender = EmailSender::new(&server()).expect("a valid server");
        let outcome =
            sender.send("n1", UNIX_EPOCH, &Mail { to: "nobody".to_owned(), ..Mail::example() }).await;
        assert_eq!((outcome.verdict, outcome.status), (Verdict::Refused, None));
    }

    #[test]
    fn each_attempt_sends_the_same_bytes() {
        let first = sent("n1", &Mail::example());
        assert_eq!(first, sent("n1", &Mail::example()));
        assert_ne!(first, sent("n2", &Mail::example()));
        assert!(first.contains("\r\nMessage-ID: <n1@example.com>\r\n"), "{first}");
        assert!(first.contains("\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"), "{first}");
        assert!(first.is_ascii(), "{first}");
    }

    #[test]
    fn no_body_can_end_the_mail() {
        let mail = Mail { text: ".\n.\r.\r\n.".to_owned(), html: None, ..Mail::example() };
        let content = sent("n1", &mail);
        assert!(content.ends_with("\r\n\r\n..\r\n..\r\n..\r\n..\r\n.\r\n"), "{content}");
        assert!(!content.replace("\r\n", "").contains(['\r', '\n']), "{content}");
    }

    #[test]
    fn only_errors_about_the_mail_refuse_it() {
        let failed = Verdict::Failed { retry_after: None };
        for step in [MAIL_FROM, RCPT_TO, DATA, CONTENT] {
            assert_eq!(
                [550, 451, 421, 530].map(|code| verdict(step, code)),
                [Verdict::Refused, failed, failed, failed]
            );
        }
        for step in [CONNECT, STARTTLS, AUTH] {
            assert_eq!([550, 535, 454].map(|code| verdict(step, code)), [failed; 3]);
        }
    }

    #[test]
    fn an_unreadable_ca_file_is_named() {
        let ca_file = Some(PathBuf::from("/nonexistent/ca.pem"));
        let error = EmailSender::new(&SmtpServer { encryption: Encryption::Tls, ca_file, ..server() }).err();
        let expected = "names `/nonexistent/ca.pem` as `ca_file`, which cannot be read: ";
        assert!(error.as_ref().is_some_and(|error| error.starts_with(expected)), "{error:?}");
    }
}
