//! `millrace generate`: writes test events, one JSON object per line. The same seed gives the same bytes in every
//! release, so a file can be generated again instead of stored.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use event::{Random, Sample};

use super::exit::{Failure, exit_code};
use super::output::AlwaysJsonLines;
use crate::config::{Config, Overrides, user_file};

#[derive(Args)]
pub struct Generate {
    /// Number of events
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    events: u64,
    /// Number of different keys, such as user ids
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Stream that the events are for
    #[arg(long, value_name = "NAME", default_value = "revenue")]
    stream: String,
    /// Configuration file that declares the stream [default: millrace.toml in the working directory, if it exists]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of the random values; the same seed gives the same events
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// File to write; an existing file is replaced [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    _format: AlwaysJsonLines,
}

const BUFFER_BYTES: usize = 64 * 1024;

pub fn run(command: Generate) -> ExitCode {
    exit_code(generate(&command))
}

fn generate(command: &Generate) -> Result<(), Failure> {
    let config = Config::load(user_file(command.config.clone()).as_deref(), &Overrides::default())
        .map_err(Failure::Configuration)?;
    let stream = config.streams.get(&command.stream);
    let unknown = || {
        let names: Vec<String> = config.streams.keys().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let reason =
            format!("its streams are {names}; name one with `--stream`, or another file with `--config`");
        Failure::NotFound(format!("the configuration has no stream `{}`: {reason}", command.stream))
    };
    let sample = Sample::of(stream.ok_or_else(unknown)?);
    let failed = |error: io::Error| match &command.output {
        Some(path) => Failure::Failed(format!("{}: {error}", path.display())),
        None => Failure::Failed(error.to_string()),
    };
    let mut out: Box<dyn Write> = match &command.output {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(io::stdout().lock()),
    };
    match write(&sample, command, &mut out) {
        // The reader closed stdout.
        Err(error) if error.kind() == ErrorKind::BrokenPipe && command.output.is_none() => Ok(()),
        written => written.map_err(failed),
    }
}

fn write(sample: &Sample, command: &Generate, out: &mut impl Write) -> io::Result<()> {
    let mut random = Random(command.seed);
    let mut bytes = Vec::with_capacity(BUFFER_BYTES + 1024);
    for number in 0..command.events {
        sample.event(number, command.users, &mut random, &mut bytes);
        bytes.push(b'\n');
        if bytes.len() >= BUFFER_BYTES {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(declared: &str, stream: &str, seed: u64) -> (String, Config) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(
            &path,
            format!("presets = [\"revenue\", \"analytics\", \"notifications\"]\n{declared}"),
        )
        .expect("written");
        let config = Config::load(Some(&path), &Overrides::default()).expect("a configuration");
        let command = Generate {
            events: 2_000,
            users: 9,
            stream: stream.to_owned(),
            config: None,
            seed,
            output: None,
            _format: AlwaysJsonLines::default(),
        };
        let mut out = Vec::new();
        write(&Sample::of(&config.streams[stream]), &command, &mut out).expect("written");
        (String::from_utf8(out).expect("text"), config)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_in_every_release() {
        let (text, _) = lines("", "revenue", 0);
        let begin: Vec<&str> = text.lines().take(2).collect();
        let expected = [
            r#"{"userId":"user8","name":"add_revenue","value":26.1063}"#,
            r#"{"userId":"user3","name":"add_revenue","value":771.9}"#,
        ];
        assert_eq!(begin, expected);
        assert_eq!(text, lines("", "revenue", 0).0);
        assert_ne!(text, lines("", "revenue", 1).0);
    }

    #[test]
    fn events_are_valid_for_every_kind_of_field() {
        let declared = r#"
            [stream.all]
            key = "k"
            fields.k = { type = "text", required = true, max = 3 }
            fields.a = { type = "integer", required = true, min = -5, max = 5 }
            fields.b = { type = "integer", required = true, min = 7, max = 7 }
            fields.c = { type = "integer", required = true, max = -3 }
            fields.d = { type = "decimal", required = true }
            fields.e = { type = "time", required = true }
            fields.f = { type = "boolean", required = true }
            fields.g = { type = "any", required = true }
            fields.h = { type = "text", required = true, one_of = ["x \" y", "é"] }
            fields.i = { type = "integer", required = true }
            fields.j = { type = "text", required = true, max = 1 }
            fields.l = { type = "text", required = true, min = 30, max = 30 }
            fields.m = { type = "decimal", required = true, digits = 2, places = 1 }
            fields.n = { type = "any", required = true }
            fields."n.o" = { type = "text", required = true, format = "email" }
            fields."n.p.q" = { type = "text", required = true, format = "email", max = 9 }
            fields."r.s" = { type = "decimal", required = true, places = 0 }
        "#;
        for stream in ["all", "revenue", "notifications"] {
            let (text, config) = lines(declared, stream, 3);
            assert_eq!(text.lines().count(), 2_000);
            for line in text.lines() {
                config.streams[stream].check(line, true).expect(line);
            }
        }
    }
}
