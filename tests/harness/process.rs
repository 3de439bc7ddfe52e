//! The process of a database server. It runs as an account that databases accept, and it ends with the test,
//! however the test ends. It can be paused, resumed or killed, together with its child processes.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::wait_for;

/// The variable that is set for a test that runs itself again in a user namespace, where it is root.
pub const IN_NAMESPACE: &str = "MILLRACE_TEST_IN_NAMESPACE";

/// The account that a server runs as. Databases refuse to run as root, so root uses another account.
#[derive(Clone, Copy)]
pub enum Account {
    /// The account of the test.
    Own,
    /// The account of the test, mapped to a user other than root in another user namespace.
    Renamed,
    Other(u32, u32),
}

impl Account {
    /// Returns the first of these accounts that the machine has, or `Own` if the test does not run as root.
    pub fn of(names: &[&str]) -> Self {
        if !geteuid().is_root() {
            return Self::Own;
        }
        if std::env::var_os(IN_NAMESPACE).is_some() {
            return Self::Renamed;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let ids = |name: &&str| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
            Some((ids.next()?, ids.next()?))
        };
        let found = names.iter().find_map(ids);
        let (user, group) =
            found.unwrap_or_else(|| panic!("this machine has none of the accounts {names:?}"));
        Self::Other(user, group)
    }

    pub fn command(self, program: &Path) -> Command {
        let mut command = match self {
            Self::Own => Command::new(program),
            Self::Renamed => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
                command
            }
            Self::Other(user, group) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]);
                command.arg(program);
                command
            }
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    pub fn name(self) -> String {
        match self {
            Self::Own | Self::Renamed => "self".to_owned(),
            Self::Other(user, _) => user.to_string(),
        }
    }

    /// Makes the account the owner of a file or folder, and takes the access of all others away.
    pub fn give(self, path: &Path) {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        if let Self::Other(user, group) = self {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

/// The shell script that watches a server. It reads one line from the test and then ends the server. The read also
/// returns when the pipe closes because the test's process was killed. Then the script removes the folder, unless
/// the line is `keep`. It does not wait for the server earlier, so that the system cannot reuse the process id.
const WATCHER: &str = r#"
folder=$1 signal=$2; shift 2
"$@" >>"$folder/log" 2>&1 </dev/null &
echo $!
exec >/dev/null
read -r order
kill -CONT $! 2>/dev/null
kill -$signal $! 2>/dev/null
wait
[ "$order" = keep ] || rm -rf "$folder"
"#;

/// A server's process and the shell that watches it.
pub struct Running {
    watch: Child,
    pid: Pid,
}

impl Running {
    /// Starts the command, with its output in `folder/log`. `signal` is the signal that ends it immediately.
    pub fn start(command: &Command, folder: &Path, signal: &str) -> Self {
        let mut watch = Command::new("setsid");
        watch.args(["sh", "-c", WATCHER, "watch"]).arg(folder).arg(signal);
        watch.arg(command.get_program()).args(command.get_args());
        watch.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        watch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watch = watch.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        Self { watch, pid }
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn is_gone(&self) -> bool {
        state(self.pid()).is_none_or(|(state, _)| state == 'Z')
    }

    /// Kills the server and its children with SIGKILL, as if the machine had lost power. The folder stays.
    pub fn kill(mut self) {
        self.pause();
        let mut all = children(self.pid());
        all.push(self.pid());
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        wait_for("killed processes to be gone", || {
            all.iter().all(|pid| state(*pid).is_none_or(|(state, _)| state == 'Z'))
        });
        self.watch.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        self.watch.wait().unwrap();
    }

    /// Stops the server with SIGSTOP, and then its children. A stopped server creates no further children.
    pub fn pause(&self) {
        signal(self.pid(), Signal::STOP);
        children(self.pid()).into_iter().for_each(|pid| signal(pid, Signal::STOP));
    }

    pub fn resume(&self) {
        children(self.pid()).into_iter().for_each(|pid| signal(pid, Signal::CONT));
        signal(self.pid(), Signal::CONT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watch.stdin.is_some() {
            self.resume();
        }
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

/// Sends a signal to a process that may already have ended.
fn signal(pid: i32, signal: Signal) {
    let sent = kill_process(Pid::from_raw(pid).unwrap(), signal);
    assert!(matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)), "{signal:?} to {pid}: {sent:?}");
}

/// Returns the state of a process (`Z` for a zombie) and its parent, or `None` if it does not exist.
pub fn state(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name comes before, in parentheses, and may contain any character.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, by)| by == parent)).collect()
}

/// Copies a folder that takes seconds to create. It is created once and kept below `target/`.
pub fn copy_cached(name: &str, make: impl FnOnce(&Path), to: &Path) {
    // Cargo sets the variable for integration tests only.
    let kept = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&kept).unwrap();
    let lock = File::create(kept.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let made = kept.join(name);
    if !made.exists() {
        // Create it in a temporary folder, because the account may have no access to `target/`.
        let folder = tempfile::tempdir().unwrap();
        allow_traversal(folder.path());
        make(&folder.path().join("data"));
        let unfinished = kept.join(format!("{name}.unfinished"));
        drop(std::fs::remove_dir_all(&unfinished));
        copy(&folder.path().join("data"), &unfinished);
        std::fs::rename(&unfinished, &made).unwrap();
    }
    drop(lock);
    copy(&made, to);
}

/// Lets other accounts open paths below a folder, but not list it.
pub fn allow_traversal(folder: &Path) {
    std::fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// Runs a command with `input`. Returns its standard output, or its standard error if it failed.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    // If the command ends before it has read all input, its standard error has the reason.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
