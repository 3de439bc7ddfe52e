//! The command line. Each command has its own file, in the same order: arguments, `run`, helpers.

mod client;
mod exit;
mod output;
mod server_options;

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

/// Event backend in one binary: accepts events durably, and applies each exactly once to your database
#[derive(Parser)]
#[command(name = "millrace", version, max_term_width = 100, after_help = after_help())]
struct Cli {
    // The commands that read the file have the same option, which gets this value.
    #[command(flatten)]
    _env_file: server_options::EnvFile,
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order in which a new user needs them. The doc comment of a variant is its help text;
/// clap ignores the doc comment of the struct inside it.
#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Send files of events, one JSON object per line
    ///
    /// Each line counts once. If the command was interrupted, run it again: it sends the lines that the server
    /// does not have.
    ///
    /// Invalid lines are listed in FILE.rejected with their reasons, and the exit code is 6. The other lines are
    /// sent.
    ///
    /// A file is identified by its path, its first line and its content. The next run sends lines that were
    /// appended. Other content at the same path is sent as new events.
    Send(send::Send),
    /// Write test events, one JSON object per line
    Generate(generate::Generate),
    /// Show one balance of a ledger, or list all of them
    Balance(balance::Balance),
    /// Show the statistics of one group, such as one site
    Stats(stats::Stats),
    /// Show the latest events of a stream, and follow new ones
    Tail(tail::Tail),
    /// Print the events of a stream, one JSON object per line, in the form that `import` reads
    Export(export::Export),
    /// Import the events of files that `export` printed
    ///
    /// Nothing counts twice if you run the command again. The server remembers the lines of a file permanently. It
    /// recognises the id of an event, under any file name, within the dedup window.
    ///
    /// Events that no view of the first server counted are skipped. Invalid lines are listed in FILE.rejected with
    /// their reasons, and the exit code is 6. The other lines are sent.
    Import(send::import::Import),
    /// List, show, retry or drop dead letters: events that could not be applied
    #[command(name = "dead-letters", alias = "dead")]
    DeadLetters(dead_letters::DeadLetters),
    /// List notifications, or show one
    Notifications(notifications::Notifications),
    /// List, create and revoke keys
    Keys(keys::Keys),
    /// Export or erase all events of one person
    Person(person::Person),
    /// Compare a view with its log
    Reconcile(reconcile::Reconcile),
    /// Repair a view from its log
    Rebuild(rebuild::Rebuild),
    /// Delete the position of a view that was removed from the configuration
    DropView(drop_view::DropView),
    /// Back up a running server to one file
    Backup(backup::Backup),
    /// Create a data folder from a backup
    Restore(restore::Restore),
    /// Find damage in the log of a stopped server, and repair it with --yes
    Repair(repair::Repair),
    /// Print or check the configuration
    Config(config::ConfigCommand),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Runs the command in the process's arguments, and returns the exit code.
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
        Command::DeadLetters(command) => dead_letters::run(command),
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
        "To begin, run `millrace serve`. It creates a data folder, and prints two commands to try.\n\n{}",
        exit::EXIT_CODES
    )
}
