//! `--watch`: shows a value whenever it changes, until Ctrl-C.

use serde_json::value::RawValue;

use super::client::Client;
use super::exit::{Failure, until_interrupted};
use super::live::{Live, Update};
use super::redraw::{Layout, Redraw};

/// A value of a view that is shown again and again.
pub struct Watch<'a> {
    pub client: &'a Client,
    /// The path of the subscription.
    pub path: String,
    pub layout: Layout,
    /// Print each value as the server sends it, in one line.
    pub json: bool,
}

impl Watch<'_> {
    /// Shows the present value, and each later one as `format` writes it. The caller has made sure that the server
    /// answers, so an outage from now on is only reported.
    pub async fn run(self, format: impl Fn(&RawValue) -> Result<String, Failure>) -> Result<(), Failure> {
        until_interrupted(self.follow(format)).await
    }

    async fn follow(self, format: impl Fn(&RawValue) -> Result<String, Failure>) -> Result<(), Failure> {
        let layout = if self.json { Layout::Lines } else { self.layout };
        let mut screen = Redraw::new(layout, !self.json);
        let mut live = Live::new(self.client, self.path);
        let mut shown = None;
        loop {
            match live.next().await? {
                Update::Change(value) => {
                    let text = if self.json { one_line(&value) } else { format(&value)? };
                    // Each new connection begins with the present value.
                    if shown.as_ref() != Some(&text) {
                        screen.show(&text)?;
                        shown = Some(text);
                    }
                }
                // The present value follows.
                Update::Reset(_) => {}
                Update::Lost(reason) => {
                    if screen.note(&format!("{reason}; retrying")) {
                        shown = None;
                    }
                }
            }
        }
    }
}

/// Returns JSON in one line. Outside of its texts, where a line break is escaped, it is white space.
fn one_line(json: &RawValue) -> String {
    json.get().replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printed_in_one_line() {
        let json = RawValue::from_string("{\r\n  \"a\":\n\"x\\ny\"}".to_owned()).expect("JSON");
        assert_eq!(one_line(&json), r#"{    "a": "x\ny"}"#);
    }
}
