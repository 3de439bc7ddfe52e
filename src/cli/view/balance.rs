//! `millrace view balance`: prints one balance of a ledger, or all of them, with every digit.

use clap::Args;
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side, print};

#[derive(Args)]
pub struct Balance {
    /// The view, of kind ledger, such as revenue
    view: String,
    /// Key of the balance, such as a user id; without it, all balances are listed
    key: Option<String>,
    #[command(flatten)]
    format: JsonLines,
}

/// A row. The balance stays text, because a float would round it.
#[derive(Deserialize)]
struct Row {
    key: String,
    balance: Box<RawValue>,
}

#[derive(Deserialize)]
struct Page {
    balances: Vec<Box<RawValue>>,
}

impl Balance {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        match &self.key {
            Some(key) => self.one(client, key).await,
            None => self.all(client).await,
        }
    }

    async fn one(&self, client: &Client, key: &str) -> Result<(), Failure> {
        let path = format!("/v1/views/{}/balances/{}", escaped(&self.view), escaped(key));
        let response: Box<RawValue> = client.get(&path).await?;
        if self.format.json { print(response.get()) } else { print(row(&response)?.balance.get()) }
    }

    async fn all(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let mut columns = Columns::new([("KEY", Side::Left), ("BALANCE", Side::Right)]);
        let first = format!("/v1/views/{}/balances?limit={LIST_ROWS_MAX}", escaped(&self.view));
        let mut path = first.clone();
        loop {
            let page: Page = client.get(&path).await?;
            let rows = page.balances.iter().map(|balance| row(balance)).collect::<Result<Vec<_>, _>>()?;
            if self.format.json {
                page.balances.iter().try_for_each(|balance| output.line(balance.get()))?;
            } else {
                let cells = rows.iter().map(|row| [row.key.clone(), row.balance.get().to_owned()]);
                columns.page(&mut output, cells)?;
            }
            output.flush()?;
            match rows.last() {
                Some(last) if rows.len() == LIST_ROWS_MAX => {
                    path = format!("{first}&after={}", escaped(&last.key));
                }
                _ if columns.is_empty() && !self.format.json => {
                    eprintln!("view `{}` has no rows yet", self.view);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }
}

fn row(text: &RawValue) -> Result<Row, Failure> {
    decode(text, "a balance")
}
