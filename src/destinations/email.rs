//! `[destination.NAME]` with `kind = "email"`: notifications are sent as mails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use event::limits::{ATTEMPT_DURATION_DEFAULT, CONNECT_DURATION_DEFAULT};
use event::{Millis, SettingErrors, WrittenDuration};
use serde::Deserialize;

use super::at_once::AtOnce;
use super::email_sender::{EmailSender, Encryption, SmtpServer};
use super::mail::Mail;
use super::notice::Notice;
use super::outcome::Outcome;
use super::retry::RetrySchedule;
use super::secret_setting::{SecretSettings, SecretText};
use super::template::{Escape, Template};
use super::webhook::bounded;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSection {
    host: String,
    port: Option<u16>,
    #[serde(default)]
    encryption: Encryption,
    ca_file: Option<PathBuf>,
    user: Option<String>,
    password: Option<SecretText>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    from: String,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    connect_timeout: Option<WrittenDuration>,
    timeout: Option<WrittenDuration>,
    pub retry: Option<RetrySchedule>,
    pub at_once: Option<AtOnce>,
}

/// A mail server with the templates of its mails.
#[derive(Clone)]
pub struct Email {
    shown: String,
    from: String,
    subject: Template,
    text: Template,
    html: Option<Template>,
    send_within: Duration,
    sender: Arc<EmailSender>,
}

/// Mail servers limit the connections of one client to a few.
const AT_ONCE_DEFAULT: usize = 4;
const SUBJECT_DEFAULT: &str = "{{ type }}";
const TEXT_DEFAULT: &str = "{{ message }}\n";

impl EmailSection {
    pub fn build(&self, errors: &mut SettingErrors) -> Option<Email> {
        let mut compile =
            |name: &str, text: &str, escape| errors.take(&[name], Template::compile(text, escape));
        let subject = compile("subject", self.subject.as_deref().unwrap_or(SUBJECT_DEFAULT), Escape::Plain);
        let text = compile("text", self.text.as_deref().unwrap_or(TEXT_DEFAULT), Escape::Plain);
        let html = match &self.html {
            Some(html) => compile("html", html, Escape::Html).map(Some),
            None => Some(None),
        };
        let example = Mail {
            from: self.from.clone(),
            to: "somebody@example.com".to_owned(),
            subject: String::new(),
            text: String::new(),
            html: None,
        };
        errors.take(&["from"], example.check().map_err(|reason| format!("has an invalid `from`: {reason}")));
        let port = self.port.unwrap_or(match self.encryption {
            Encryption::StartTls => 587,
            Encryption::Tls => 465,
            Encryption::None => 25,
        });
        let send_within = bounded(self.timeout, ATTEMPT_DURATION_DEFAULT, "timeout", errors);
        let server = SmtpServer {
            host: self.host.clone(),
            port,
            encryption: self.encryption,
            ca_file: self.ca_file.clone(),
            login: self.login(errors),
            connect_within: bounded(
                self.connect_timeout,
                CONNECT_DURATION_DEFAULT,
                "connect_timeout",
                errors,
            ),
            send_within,
        };
        let sender = errors.take(&[], EmailSender::new(&server))?;
        Some(Email {
            shown: format!("{}:{port}", self.host),
            from: self.from.clone(),
            subject: subject?,
            text: text?,
            html: html?,
            send_within,
            sender: Arc::new(sender),
        })
    }

    fn login(&self, errors: &mut SettingErrors) -> Option<(String, String)> {
        let settings = SecretSettings {
            name: "password",
            written: self.password.iter().map(|password| password.0.clone()).collect(),
            file: self.password_file.as_ref(),
            variable: self.password_env.as_ref(),
        };
        match (&self.user, settings.read(errors).into_iter().next()) {
            (Some(user), Some(password)) => Some((user.clone(), password)),
            (None, None) => None,
            (Some(_), None) => {
                errors.add(&["user"], "has a `user` without `password`, `password_file` or `password_env`");
                None
            }
            (None, Some(_)) => {
                errors.add(&[], "has a password without `user`");
                None
            }
        }
    }

    pub fn at_once(&self) -> AtOnce {
        self.at_once.unwrap_or(AtOnce(AT_ONCE_DEFAULT))
    }
}

impl Email {
    /// Fails with the reason if the notification cannot be sent as a mail.
    pub fn render(&self, notice: &Notice<'_>) -> Result<Mail, String> {
        let part = |name: &str, template: &Template| {
            template.render(notice).map_err(|reason| format!("`{name}`: {reason}"))
        };
        let mail = Mail {
            from: self.from.clone(),
            to: notice.recipient.to_owned(),
            subject: part("subject", &self.subject)?,
            text: part("text", &self.text)?,
            html: self.html.as_ref().map(|html| part("html", html)).transpose()?,
        };
        mail.check()?;
        Ok(mail)
    }

    pub fn attempt_within(&self) -> Duration {
        self.send_within
    }

    /// Returns the address of the mail server.
    pub fn shown(&self) -> String {
        self.shown.clone()
    }

    pub async fn send(&self, id: &str, created: Millis, mail: &Mail) -> Outcome {
        let date = UNIX_EPOCH + Duration::from_millis(created.0.max(0) as u64);
        self.sender.send(id, date, mail).await
    }
}
