//! The server's report about the comparison of a view with its log. A rebuild returns the same.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, Output, Side, counted};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub view: String,
    pub position: u64,
    pub keys: u64,
    pub difference_count: u64,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    key: String,
    had: Option<String>,
    should_have: String,
}

impl Report {
    /// Requests `verb`, a comparison or a rebuild. Returns the report as the server's text, and decoded.
    pub async fn ask(client: &Client, view: &str, verb: &str) -> Result<(String, Self), Failure> {
        let path = format!("/v1/views/{}/{verb}", escaped(view));
        let response: Box<RawValue> = client.post(&path, String::new()).await?;
        Ok((response.get().to_owned(), decode(&response, "the report")?))
    }

    pub fn print(&self, has: &str, should_have: &str) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let row = |difference: &Difference| {
            let had = difference.had.clone().unwrap_or_else(|| "no row".to_owned());
            [difference.key.clone(), had, difference.should_have.clone()]
        };
        Columns::new([("KEY", Side::Left), (has, Side::Right), (should_have, Side::Right)])
            .page(&mut output, self.differences.iter().map(row))?;
        match self.difference_count - self.differences.len() as u64 {
            0 => {}
            1 => eprintln!("1 more difference is not listed"),
            more => eprintln!("{more} more differences are not listed"),
        }
        Ok(())
    }

    pub fn extent(&self) -> String {
        format!("{}, up to position {}", counted(self.keys, "key"), self.position)
    }
}
