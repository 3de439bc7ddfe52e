//! What is measured, against what: every figure stands beside a yardstick taken in the same run, and the
//! table of ratios is written to `bench/RESULTS.md`.
//!
//! The walk: `events` makes what is sent, `servers` starts who takes it, `load` and `http` send it,
//! `yardstick` does by hand what a view does, `clients` does it in a database server, `measure` has a file a part of the table, and `table`
//! writes it down together with what `machine` found.

mod clients;
mod events;
mod http;
mod load;
mod machine;
mod measure;
mod servers;
mod setting;
mod table;
mod yardstick;

use std::process::ExitCode;

use setting::Setting;
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A bench either measures or says why it could not.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        // Ourselves again, as the yardstick that listens.
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
