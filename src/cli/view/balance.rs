//! `millrace view balance`: prints one balance of a ledger, or all of them, with every digit. Follows one balance with
//! `--watch`.

use clap::Args;
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side, print};
use crate::cli::redraw::Layout;
use crate::cli::watch::Watch;

#[derive(Args)]
pub struct Balance {
    /// The view, of kind ledger, such as revenue
    view: String,
    /// Key of the balance, such as a user id; without it, all balances are listed
    key: Option<String>,
    /// Also show each change of the balance of KEY, until Ctrl-C; `-` stands for no balance
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    format: JsonLines,
}

/// A row. The balance stays text, because a float would round it.
#[derive(Deserialize)]
struct Row {
    key: String,
    balance: Box<RawValue>,
}

/// The balance in a message of a subscription; null if there is no row.
#[derive(Deserialize)]
struct Watched {
    balance: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Page {
    balances: Vec<Box<RawValue>>,
}

impl Balance {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        match &self.key {
            Some(key) if self.watch => self.follow(client, key).await,
            None if self.watch => Err(Failure::WrongUsage(format!(
                "`--watch` follows one balance; name its key, as in `millrace view balance {} KEY --watch`",
                self.view
            ))),
            Some(key) => self.one(client, key).await,
            None => self.all(client).await,
        }
    }

    async fn get(&self, client: &Client, key: &str) -> Result<Box<RawValue>, Failure> {
        client.get(&format!("/v1/views/{}/balances/{}", escaped(&self.view), escaped(key))).await
    }

    async fn one(&self, client: &Client, key: &str) -> Result<(), Failure> {
        let response = self.get(client, key).await?;
        if self.format.json { print(response.get()) } else { print(row(&response)?.balance.get()) }
    }

    async fn follow(&self, client: &Client, key: &str) -> Result<(), Failure> {
        // The server says what is wrong with the view or the key. The row may come later.
        match self.get(client, key).await {
            Err(Failure::NotFound(message)) if message.contains("has no row for") => {}
            answered => drop(answered?),
        }
        let path = format!("/v1/views/{}/live?key={}", escaped(&self.view), escaped(key));
        let watch = Watch { client, path, layout: Layout::Lines, json: self.format.json };
        let text = |balance: Option<Box<RawValue>>| balance.map_or("-".to_owned(), |it| it.get().to_owned());
        watch.run(|value| Ok(text(decode::<Watched>(value, "a balance")?.balance))).await
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
