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

/// A thread of ours that panics would leave its work undone without a word: a view that stands still and
/// says that it runs. The process ends instead, as by a kill, and the next start goes on where it was. A
/// request that panics ends its connection alone.
pub fn end_with_a_panic() {
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        said(panic);
        let ours = std::thread::current().name().is_none_or(|name| !name.starts_with("tokio"));
        if ours {
            tracing::error!("a thread panicked; millrace ends, and loses nothing by it");
            std::process::abort();
        }
    }));
}
