//! Logging and metrics, set up once at start. Logs go to stderr, a line a step, never with payloads or
//! secrets.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
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

/// From a disk that keeps what it is told without power to one that stalls.
const SYNC_SECONDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

/// The recorder that counters go to. A second one in a process gets its own numbers.
pub fn start_metrics() -> PrometheusHandle {
    let syncs = Matcher::Full("millrace_log_sync_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(syncs, &SYNC_SECONDS);
    let recorder = builder.expect("there are buckets").build_recorder();
    metrics::with_local_recorder(&recorder, describe);
    let handle = recorder.handle();
    drop(metrics::set_global_recorder(recorder));
    handle
}

/// What `docs/OPERATING.md` says of each at greater length.
fn describe() {
    describe_counter!("millrace_accepted_total", "Events made durable.");
    describe_counter!("millrace_refused_total", "Requests refused, by the error's code.");
    describe_counter!("millrace_repeats_total", "Events of the log that count no second time.");
    describe_counter!("millrace_dead_letters_total", "Events that became dead letters.");
    describe_counter!("millrace_store_retries_total", "Transactions tried again.");
    describe_gauge!("millrace_connections", "Connections that are open.");
    describe_gauge!("millrace_connections_max", "Connections taken at a time; those beyond wait.");
    describe_gauge!("millrace_dead_letters_open", "Dead letters that wait for somebody.");
    describe_gauge!("millrace_log_bytes", "Size of the log.");
    describe_gauge!("millrace_log_end", "Position after the last durable event.");
    describe_gauge!("millrace_view_lag", "Positions of the log that the view has not come to.");
    describe_gauge!("millrace_view_paused", "1 if the view waits for somebody.");
    describe_histogram!("millrace_log_sync_seconds", "How long the log's syncs took.");
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
