//! A mail as a message: its addresses, headers and parts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::hex;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The end of the year 9999, the last one that a `Date` header can name.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;
const MESSAGE_ID_BYTES_MAX: usize = 128;

/// A mail as it is stored until it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub html: Option<String>,
}

impl Mail {
    /// Fails if the mail cannot be sent by any server.
    pub fn check(&self) -> Result<(), String> {
        self.mailboxes().map(|_| ())
    }

    fn mailboxes(&self) -> Result<(Mailbox, Mailbox), String> {
        if self.subject.contains(['\r', '\n', '\0']) {
            return Err("the subject contains a line break or a NUL character".to_owned());
        }
        if self.text.contains('\0') || self.html.as_ref().is_some_and(|html| html.contains('\0')) {
            return Err("the body contains a NUL character".to_owned());
        }
        Ok((mailbox("sender", &self.from)?, mailbox("recipient", &self.to)?))
    }

    /// Builds the message. Every attempt to send it builds the same bytes, so that receivers can drop duplicates.
    pub fn message(&self, id: &str, date: SystemTime) -> Result<Message, String> {
        let (from, to) = self.mailboxes()?;
        let date = date.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(DATE_SECONDS_MAX));
        let message_id = format!("<{}@{}>", message_id(id), from.email.domain());
        // lettre would fold or encode a long id, which some receivers do not undo.
        let message_id = HeaderValue::dangerous_new_pre_encoded(
            HeaderName::new_from_ascii_str("Message-ID"),
            message_id.clone(),
            message_id,
        );
        let builder = Message::builder().from(from).to(to).subject(&*self.subject).date(date);
        let builder = builder.raw_header(message_id);
        let text = SinglePart::plain(with_crlf(&self.text));
        let message = match &self.html {
            None => builder.singlepart(text),
            Some(html) => builder.multipart(
                MultiPart::alternative()
                    .boundary(self.boundary(id, html))
                    .singlepart(text)
                    .singlepart(SinglePart::html(with_crlf(html))),
            ),
        };
        message.map_err(|error| format!("the mail is invalid: {error}"))
    }

    /// Returns a boundary that depends on the content too, so that no content can contain it.
    fn boundary(&self, id: &str, html: &str) -> String {
        let mut hash = Sha256::new();
        for part in [id, &self.text, html] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex(&hash.finalize()[..20])
    }
}

/// Parses one address, with or without a name in front of it.
fn mailbox(role: &str, text: &str) -> Result<Mailbox, String> {
    let invalid = || format!("the {role} is not a valid mail address");
    if text.contains(char::is_control) {
        return Err(format!("the {role} contains a control character"));
    }
    let text = text.trim();
    let mut mailboxes = text.parse::<Mailboxes>().map_err(|_| invalid())?.into_iter();
    let mailbox = mailboxes.next().ok_or_else(invalid)?;
    if mailboxes.next().is_some() {
        return Err(format!("the {role} is more than one mail address"));
    }
    // The parser ignores text behind the address.
    let address: &str = mailbox.email.as_ref();
    if text == address || text.ends_with(&format!("<{address}>")) { Ok(mailbox) } else { Err(invalid()) }
}

/// Returns the id, or its hash if a `Message-ID` cannot contain it.
fn message_id(id: &str) -> String {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let is_dot_atom = id.split('.').all(|atom| !atom.is_empty()) && id.bytes().all(valid);
    if is_dot_atom && id.len() <= MESSAGE_ID_BYTES_MAX { id.to_owned() } else { hex(&Sha256::digest(id)) }
}

/// Replaces each kind of line break by CRLF. A CR or LF alone could end the mail for some servers (SMTP smuggling).
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

#[cfg(test)]
impl Mail {
    /// Returns a mail with everything that needs care: other letters, lines of one dot, and all kinds of line breaks.
    pub fn example() -> Self {
        Self {
            from: "Müllers Laden <shop@example.com>".to_owned(),
            to: "ada@example.org".to_owned(),
            subject: "Grüße".to_owned(),
            text: ".\nHällo\r.\r\n".to_owned(),
            html: Some("<p>Hi</p>\n.\n".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_mails_are_refused() {
        let refused = |change: fn(&mut Mail), reason: &str| {
            let mut mail = Mail::example();
            change(&mut mail);
            assert_eq!(mail.check(), Err(reason.to_owned()));
        };
        assert_eq!(Mail::example().check(), Ok(()));
        refused(|mail| mail.to = "nobody".to_owned(), "the recipient is not a valid mail address");
        refused(|mail| mail.to = String::new(), "the recipient is not a valid mail address");
        refused(|mail| mail.to = "a@x.org b".to_owned(), "the recipient is not a valid mail address");
        refused(
            |mail| mail.to = "a@x.org, b@x.org".to_owned(),
            "the recipient is more than one mail address",
        );
        refused(
            |mail| mail.to = "a@x.org\r\nBcc: b@x.org".to_owned(),
            "the recipient contains a control character",
        );
        refused(|mail| mail.from = "shop@".to_owned(), "the sender is not a valid mail address");
        let subject = "the subject contains a line break or a NUL character";
        refused(|mail| mail.subject = "a\nBcc: b@x.org".to_owned(), subject);
        refused(|mail| mail.subject = "a\rb".to_owned(), subject);
        refused(|mail| mail.text = "a\0".to_owned(), "the body contains a NUL character");
        refused(|mail| mail.html = Some("\0".to_owned()), "the body contains a NUL character");
    }

    #[test]
    fn an_id_that_a_message_id_cannot_contain_is_hashed() {
        assert_eq!(message_id("a.b-1"), "a.b-1");
        for id in ["", "a b", "a>b", "a..b", "ä", "a\r\nb", &"a".repeat(129)] {
            assert_eq!(message_id(id).len(), 64, "{id}");
        }
    }
}
