//! Logging and metrics, set up once at start. Logs go to stderr, a line a step, never with payloads or
//! secrets.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Does nothing if logging is set up already.
pub fn start_logging(format: LogFormat, level: tracing::Level) {
    use std::io::IsTerminal;
    let colours = std::io::stderr().is_terminal();
    let layer = match format {
        LogFormat::Text => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => {
            fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).with_target(false).boxed()
        }
    };
    let layer = layer.with_filter(LevelFilter::from_level(level));
    drop(tracing_subscriber::registry().with(layer).try_init());
}

/// The recorder that counters go to. A second one in a process gets its own numbers.
pub fn start_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    drop(metrics::set_global_recorder(recorder));
    handle
}
