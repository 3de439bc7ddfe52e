//! Starts threads, and watches tasks. If the system refuses a thread, its own message is only "Resource temporarily
//! unavailable".

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a named thread. The error says which thread could not be started and what to do.
pub fn start_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(|error| explained(name, &error))
}

/// Waits for a task, and ends the process if the task has failed, as a thread that panics does. Otherwise, a part of the
/// server would not run any more, and nobody would notice.
pub async fn end_process_on_panic(task: tokio::task::JoinHandle<()>) {
    if task.await.is_err_and(|error| error.is_panic()) {
        std::process::abort();
    }
}

fn explained(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot start the thread `{name}`: {error}; raise the limit on address space to 512 MiB or more (`ulimit -v`, `LimitAS=` in systemd), or the limit on threads (`ulimit -u`, `TasksMax=`)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_thread_is_named_with_the_limits_to_raise() {
        let error = explained("view-revenue", &io::Error::from_raw_os_error(11)).to_string();
        for part in ["`view-revenue`", "Resource temporarily unavailable", "ulimit -v", "ulimit -u"] {
            assert!(error.contains(part), "{error} does not contain {part}");
        }
        assert_eq!(start_thread("one", || 1).expect("starts").join().expect("ends"), 1);
    }
}
