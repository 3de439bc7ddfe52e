//! `millrace person export`: prints all events of one person.

use clap::Args;

use super::subject::Subject;
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::{AlwaysJsonLines, Output};

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    _format: AlwaysJsonLines,
}

impl Export {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        self.subject.each_event(client, |event| output.line(event.get())).await?;
        output.flush()
    }
}
