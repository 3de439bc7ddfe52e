//! The benchmarks. Each figure is compared with a yardstick that is measured in the same run, and the table of ratios
//! is written to `bench/RESULTS.md`.
//!
//! `events` makes the events, `servers` starts the servers, and `load` and `http` send the requests. `yardstick` is a
//! hand-written loop that does the work of a view, and `clients` does the same with a database server. `measure` has
//! a file for each part of the table. `table` writes the table, with the description of `machine`.

mod clients;
mod events;
mod http;
mod load;
mod machine;
mod measure;
mod receiver;
mod servers;
mod setting;
mod subscribers;
mod table;
mod websocket;
mod yardstick;

use std::process::ExitCode;

use setting::Setting;
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The result of a step of the benchmarks. The error says why it could not measure.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        // `servers::bare` starts this program again as the bare HTTP server.
        Some("bare-server") => servers::bare::serve(),
        _ => run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Outcome<()> {
    let setting = Setting::read(arguments)?;
    setting.expect_parts(&measure::PARTS.iter().map(|part| part.name).collect::<Vec<_>>())?;
    let machine = machine::describe(&setting.folder)?;
    let mut table = Table::default();
    for part in measure::PARTS {
        if setting.wants(part.name) {
            eprintln!("== {}", part.name);
            (part.measure)(&setting, &mut table)?;
        }
    }
    println!("{}", table.markdown(&machine));
    if setting.whole() {
        std::fs::write("bench/RESULTS.md", table.markdown(&machine))?;
    }
    Ok(())
}
