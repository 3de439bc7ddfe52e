//! `millrace balance`: prints one balance of a ledger, or all of them, with every digit.

use std::process::ExitCode;

use clap::Args;
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print};

#[derive(Args)]
pub struct Balance {
    /// Key of the balance, such as a user id; without it, all balances are listed
    key: Option<String>,
    /// The view, of kind ledger
    #[arg(long, value_name = "VIEW", default_value = "revenue")]
    view: String,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub fn run(command: Balance) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let shown = match &command.key {
            Some(key) => one(&client, &command, key).await,
            None => all(&client, &command).await,
        };
        client.with_names(shown).await
    })
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

async fn one(client: &Client, command: &Balance, key: &str) -> Result<(), Failure> {
    let path = format!("/v1/views/{}/balances/{}", escaped(&command.view), escaped(key));
    let response: Box<RawValue> = client.get(&path).await?;
    if command.json { print(response.get()) } else { print(row(&response)?.balance.get()) }
}

async fn all(client: &Client, command: &Balance) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let mut columns = Columns::new([("KEY", Side::Left), ("BALANCE", Side::Right)]);
    let view = escaped(&command.view);
    let mut path = format!("/v1/views/{view}/balances?limit={LIST_ROWS_MAX}");
    loop {
        let page: Page = client.get(&path).await?;
        let rows = page.balances.iter().map(|balance| row(balance)).collect::<Result<Vec<_>, _>>()?;
        if command.json {
            page.balances.iter().try_for_each(|balance| output.line(balance.get()))?;
        } else {
            let cells = rows.iter().map(|row| [row.key.clone(), row.balance.get().to_owned()]);
            columns.page(&mut output, cells)?;
        }
        output.flush()?;
        match rows.last() {
            Some(last) if rows.len() == LIST_ROWS_MAX => {
                path =
                    format!("/v1/views/{view}/balances?limit={LIST_ROWS_MAX}&after={}", escaped(&last.key));
            }
            _ if columns.is_empty() && !command.json => {
                eprintln!("view `{}` has no rows yet", command.view);
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}

fn row(text: &RawValue) -> Result<Row, Failure> {
    serde_json::from_str(text.get()).map_err(|error| {
        Failure::Failed(format!("cannot decode a balance in the server's response: {error}"))
    })
}
