//! The command line. Each command has its own file; a command with subcommands is a folder with a file for each. The
//! files have the same order: arguments, `run`, helpers.

mod client;
mod client_options;
mod config_options;
mod event_stream;
mod exit;
mod live;
mod noun;
mod output;
mod printable;
mod redraw;
mod watch;

mod serve;
mod status;

mod export;
mod generate;
mod send;
mod tail;

mod event;
mod stream;
mod view;

mod dead_letter;
mod destination;
mod notification;

mod key;
mod person;

mod alert;
mod backup;
mod repair;
mod restore;

mod completions;
mod config;

use clap::{Parser, Subcommand};

use noun::Noun;

/// Event backend in one binary: accepts events durably, and applies each exactly once to your database
#[derive(Parser)]
#[command(name = "millrace", version, max_term_width = 100, after_help = after_help())]
struct Cli {
    // The commands that read the file have the same option, which gets this value.
    #[command(flatten)]
    _env_file: config_options::EnvFile,
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order in which a new user needs them. The doc comment of a variant is its help text;
/// clap ignores the doc comment of the struct inside it.
#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Show a running server: version, log, database, disk, sources and views
    ///
    /// For each view, the lag is the number of log positions that it is behind. A view that waits or is paused has
    /// its reason below the list. The key needs the scope `read`.
    Status(status::Status),
    /// Send files of events, one JSON object per line
    ///
    /// Each line counts once. If the command was interrupted, run it again: it sends the lines that the server
    /// does not have.
    ///
    /// Without --stream, each file goes to the only stream that accepts its first line. If there are several such
    /// streams or none, the command lists them and asks for one by name.
    ///
    /// Invalid lines are listed in FILE.STREAM.rejected with their reasons, and the exit code is 6. The other lines
    /// are sent. After 1,000 refused lines in a row, the command stops.
    ///
    /// A file is identified by its path, its first line and its content. The next run sends lines that were
    /// appended. Other content at the same path is sent as new events.
    Send(send::Send),
    /// Write test events, one JSON object per line
    ///
    /// The same seed gives the same events. The command needs no server: it reads the fields of the stream from the
    /// configuration.
    Generate(generate::Generate),
    /// Show the latest events of a stream, and follow new ones
    ///
    /// Each line has the time of arrival, the position in the log, the sender's address, and the event as it was sent.
    /// Events that no view counts are marked: `[repeat]`, `[correction]`, `[taken back]` or `[erased]`.
    Tail(tail::Tail),
    /// Print the events of a stream as JSON Lines, in the form that `import` reads
    ///
    /// Each line contains the original text of an event in an envelope. Events that no view counts are printed, too:
    /// `leftOut` says why (`repeat`, `taken-back`, `correction` or `erased`), and `import` skips them. `onlyFor` marks
    /// a dead letter that was sent again, and names its only view.
    Export(export::Export),
    /// Import the events of files that `export` printed
    ///
    /// Nothing counts twice if you run the command again. The server remembers the lines of a file permanently. It
    /// recognises the id of an event, under any file name, within the dedup window.
    ///
    /// Events that no view of the first server counted are skipped. Invalid lines are listed in FILE.STREAM.rejected
    /// with their reasons, and the exit code is 6. The other lines are sent. After 1,000 refused lines in a row, the
    /// command stops.
    Import(send::import::Import),
    /// List the streams, with their fields
    Stream(Noun<stream::Action>),
    /// Show views and what they contain; compare them with the log, and repair them
    View(Noun<view::Action>),
    /// Show where an event is, or take it back
    Event(Noun<event::Action>),
    /// List, show, retry or drop dead letters: events that could not be applied, and notifications that could not be sent
    DeadLetter(Noun<dead_letter::Action>),
    /// List, pause, resume or drain destinations: where notifications are sent
    Destination(Noun<destination::Action>),
    /// List alerts, or test that they arrive
    Alert(Noun<alert::Action>),
    /// List and show notifications
    Notification(Noun<notification::Action>),
    /// List, create and revoke keys
    Key(Noun<key::Action>),
    /// Export or erase all events of one person
    Person(Noun<person::Action>),
    /// Back up a running server to one file
    ///
    /// The server continues to accept events. The file is a tar of its data folder at one moment: the store, and every
    /// event that was acknowledged before. `millrace restore` creates a data folder from it. The key needs the scope
    /// `admin`.
    ///
    /// A store on a database server is not included: back it up first, with its own tools. The files api-key and
    /// erasure-key and the configuration are not included either. Protect the backup like the events in it.
    Backup(backup::Backup),
    /// Create a data folder from a backup
    ///
    /// The restored server is the same server: its log has the same id. Never run it while the original runs: both
    /// would give the same positions and event ids to different events. The server creates a new first key when it
    /// starts; all other keys are as they were.
    Restore(restore::Restore),
    /// Find damage in the log of a stopped server, and repair it with --yes
    ///
    /// Without --yes nothing is changed: the command lists the damaged places, and the positions of the events that
    /// cannot be read. With --yes it rewrites the damaged files from their intact parts, and keeps the originals beside
    /// them. Every other event keeps its position.
    ///
    /// Incomplete bytes at the end of the log are not damage: the server removes them when it starts.
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
        Command::Status(command) => status::run(command),
        Command::Send(command) => send::run(command),
        Command::Generate(command) => generate::run(command),
        Command::Tail(command) => tail::run(command),
        Command::Export(command) => export::run(command),
        Command::Import(command) => send::import::run(command),
        Command::Stream(command) => command.run(),
        Command::View(command) => command.run(),
        Command::Event(command) => command.run(),
        Command::DeadLetter(command) => command.run(),
        Command::Destination(command) => command.run(),
        Command::Alert(command) => command.run(),
        Command::Notification(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Person(command) => command.run(),
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
