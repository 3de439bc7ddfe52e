//! The command line: one file a command, all in the same order (arguments, run, helpers).

mod client;
mod exit;
mod output;

mod serve;

mod generate;
mod send;

mod balance;
mod export;
mod stats;
mod tail;

mod dead_letters;
mod keys;
mod notifications;
mod person;

mod drop_view;
mod rebuild;
mod reconcile;

mod backup;
mod restore;

mod completions;
mod config;
mod repair;

use clap::{Parser, Subcommand};

/// An event backend in one binary: says yes when an event is on stable storage, counts it exactly once
#[derive(Parser)]
#[command(name = "millrace", version, max_term_width = 100, after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// In the order in which somebody meets them.
#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Send files of events, one JSON object a line: each line once, whatever breaks off
    Send(send::Send),
    /// Write test events as lines of JSON
    Generate(generate::Generate),
    /// Show one balance of a ledger, or all of them
    Balance(balance::Balance),
    /// Show what a view of statistics counted for one group
    Stats(stats::Stats),
    /// Show the events of a stream, and those that come
    Tail(tail::Tail),
    /// Print the events of a stream as lines of JSON, each in its envelope
    Export(export::Export),
    /// Send files that `export` made: each event once, whatever breaks off
    Import(send::import::Import),
    /// Look after events that could not be applied
    Dead(dead_letters::Dead),
    /// Show what is in the outbox, and what became of it
    Notifications(notifications::Notifications),
    /// List, make and revoke keys
    Keys(keys::Keys),
    /// Hand over or erase all events of one person
    Person(person::Person),
    /// Compare a view with what its log makes
    Reconcile(reconcile::Reconcile),
    /// Make a view what its log makes
    Rebuild(rebuild::Rebuild),
    /// Forget where a view stands that is no longer declared
    DropView(drop_view::DropView),
    /// Back up all that a running server keeps, into one file
    Backup(backup::Backup),
    /// Make a data folder of a backup
    Restore(restore::Restore),
    /// Look over the log of a server that does not run, and mend it if told to
    Repair(repair::Repair),
    /// Print or check the configuration
    Config(config::ConfigCommand),
    /// Print what a shell needs to complete this command line
    Completions(completions::Completions),
}

/// Runs the command that the process was called with; the answer is its exit code.
pub fn run() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => serve::run(command),
        Command::Send(command) => send::run(command),
        Command::Generate(command) => generate::run(command),
        Command::Balance(command) => balance::run(command),
        Command::Stats(command) => stats::run(command),
        Command::Tail(command) => tail::run(command),
        Command::Export(command) => export::run(command),
        Command::Import(command) => send::import::run(command),
        Command::Dead(command) => dead_letters::run(command),
        Command::Notifications(command) => notifications::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Person(command) => person::run(command),
        Command::Reconcile(command) => reconcile::run(command),
        Command::Rebuild(command) => rebuild::run(command),
        Command::DropView(command) => drop_view::run(command),
        Command::Backup(command) => backup::run(command),
        Command::Restore(command) => restore::run(command),
        Command::Repair(command) => repair::run(command),
        Command::Config(command) => config::run(command),
        Command::Completions(command) => completions::run(command),
    }
}

fn after_help() -> String {
    format!(
        "To begin: `millrace serve`; it makes its data folder, and prints two lines to try.\n\n{}",
        exit::EXIT_CODES
    )
}
