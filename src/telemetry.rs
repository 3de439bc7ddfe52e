//! Sets up logging and metrics, once at start. The log goes to stderr, one line per event of the program. It never
//! contains payloads or secrets.

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

/// Starts logging. Does nothing if logging is set up already.
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

/// The buckets for syncs of the log: from a disk whose cache survives a power cut to a disk that stalls.
const SYNC_SECONDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Installs the recorder of metrics and returns its handle. A second recorder in a process stays empty, because only
/// the first one becomes global.
pub fn start_metrics() -> PrometheusHandle {
    let syncs = Matcher::Full("millrace_log_sync_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(syncs, &SYNC_SECONDS);
    let recorder = builder.expect("the list of buckets is not empty").build_recorder();
    metrics::with_local_recorder(&recorder, describe);
    let handle = recorder.handle();
    drop(metrics::set_global_recorder(recorder));
    handle
}

/// Describes the metrics. `docs/OPERATING.md` explains them in more detail.
fn describe() {
    describe_counter!("millrace_accepted_total", "Events that were accepted and are on stable storage.");
    describe_counter!("millrace_refused_total", "Refused requests, by error code.");
    describe_counter!("millrace_repeats_total", "Events in the log that dedup did not count again.");
    describe_counter!("millrace_dead_letters_total", "Events that became dead letters since the start.");
    describe_counter!("millrace_delivery_attempts_total", "Attempts at a destination, by outcome.");
    describe_counter!("millrace_store_retries_total", "Transactions of the store that were tried again.");
    describe_gauge!("millrace_connections", "Open connections.");
    describe_gauge!("millrace_connections_max", "Maximum number of open connections; further ones wait.");
    describe_gauge!("millrace_sockets", "Open WebSockets, Socket.IO sessions and answers of live changes.");
    describe_gauge!("millrace_sockets_max", "Maximum number of open sockets; further ones are refused.");
    describe_gauge!("millrace_subscriptions", "Subscriptions to live changes.");
    describe_gauge!("millrace_dead_letters_open", "Dead letters that wait for a decision.");
    describe_gauge!("millrace_log_bytes", "Size of the log in bytes.");
    describe_gauge!("millrace_log_end", "Position after the last durable event.");
    describe_gauge!("millrace_store_damaged", "1 if the SQLite file has damaged pages, otherwise 0.");
    describe_gauge!("millrace_view_lag", "Positions of the log that the view has not reached.");
    describe_gauge!("millrace_view_lag_seconds", "Age of the first event that the view has not applied.");
    describe_gauge!("millrace_store_up", "1 if the database can be used, 0 during an outage.");
    describe_gauge!("millrace_view_paused", "1 if the view is paused until a person acts, otherwise 0.");
    describe_histogram!("millrace_log_sync_seconds", "Duration of a sync of the log in seconds.");
}

/// Makes the process abort if one of millrace's threads panics. Otherwise, for example, a view could stop without
/// being reported as paused. An abort is like a kill: the next start continues where the process stopped. A panic in
/// a request only ends its connection.
pub fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let ours = std::thread::current().name().is_none_or(|name| !name.starts_with("tokio"));
        if ours {
            tracing::error!(
                "a thread panicked: the process ends; no accepted event is lost, and the next start continues"
            );
            std::process::abort();
        }
    }));
}
