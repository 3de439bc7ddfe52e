//! `millrace view`: shows views and what they contain, compares them with the log, and repairs them.

mod accept;
mod balance;
mod drop;
pub mod list;
mod rebuild;
mod reconcile;
mod report;
mod rows;
mod show;
mod stats;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List the views: stream, state, position and lag
    List(list::List),
    /// Show one view: its state, position, lag and tables
    Show(show::Show),
    /// Show one balance of a ledger, or list all of them
    ///
    /// Balances are printed with all their digits. A list is in the order of the keys.
    ///
    /// With --watch, a terminal shows the newest balance in place of the last one. Elsewhere, each balance is a further
    /// line. The command continues after a restart of the server.
    Balance(balance::Balance),
    /// Show the statistics of one group, such as one site
    ///
    /// With --watch, a terminal shows the newest statistics in place of the last ones. Elsewhere, they follow each other
    /// with an empty line between them. The command continues after a restart of the server.
    Stats(stats::Stats),
    /// List the rows of a table, oldest first
    Rows(rows::Rows),
    /// Compare a view with its log, or all views
    ///
    /// The server computes the view from the log again, and compares the result with the view's table. It changes
    /// nothing. If they differ, the exit code is 7, and `millrace view rebuild` repairs the view.
    Reconcile(reconcile::Reconcile),
    /// Repair a view from its log
    ///
    /// The server computes the view from the log again, and corrects every row that differs. Values that the table
    /// contained before the view began are kept. `millrace view reconcile` shows the differences, and changes
    /// nothing.
    Rebuild(rebuild::Rebuild),
    /// Continue a view under a changed definition, and keep its rows
    ///
    /// A view is paused if the configuration no longer matches the definition that made its rows. This command accepts
    /// the change: it applies to all later events. `millrace view rebuild` makes all rows again instead.
    Accept(accept::Accept),
    /// Delete the position of a view that was removed from the configuration
    ///
    /// A view that was removed from the configuration keeps its position in the log. If it is declared again, it
    /// continues from there. Until then, retention keeps every event that the view has not applied. This command
    /// deletes the position, so that retention no longer waits for the view.
    ///
    /// The table of the view stays. If the view is declared again over that table, it counts the whole log once more.
    /// So drop the table as well, or name another one.
    Drop(drop::Drop),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Show(show) => show.run(client).await,
            Self::Balance(balance) => balance.run(client).await,
            Self::Stats(stats) => stats.run(client).await,
            Self::Rows(rows) => rows.run(client).await,
            Self::Reconcile(reconcile) => reconcile.run(client).await,
            Self::Rebuild(rebuild) => rebuild.run(client).await,
            Self::Accept(accept) => accept.run(client).await,
            Self::Drop(drop) => drop.run(client).await,
        }
    }
}
