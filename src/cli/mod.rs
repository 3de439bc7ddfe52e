//! The command line: one file a command, all in the same order (arguments, run, helpers).

mod client;
mod exit;
mod generate;
mod send;
mod serve;

use clap::{Parser, Subcommand};

/// An event backend in one binary: says yes when an event is on stable storage, counts it exactly once.
#[derive(Parser)]
#[command(name = "millrace", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Send files of events, one JSON object a line: each line once, whatever breaks off
    Send(send::Send),
    /// Write test events as lines of JSON
    Generate(generate::Generate),
}

/// Runs the command that the process was called with; the answer is its exit code.
pub fn run() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => serve::run(command),
        Command::Send(command) => send::run(command),
        Command::Generate(command) => generate::run(command),
    }
}
