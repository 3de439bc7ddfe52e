//! A server's process: as an account that databases accept, ended with the test however that ends, and
//! stopped, paused or killed in between, with all the processes it has made.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::wait_for;

/// Set for a test that runs itself again in a namespace, where it is root in name.
pub const WITHIN: &str = "MILLRACE_TEST_IN_NAMESPACE";

/// Whom a server runs as: ourselves, or another if we are root, which databases refuse to be.
#[derive(Clone, Copy)]
pub enum Account {
    Own,
    /// Ourselves, under another name than root's.
    Renamed,
    Other(u32, u32),
}

impl Account {
    /// The first of these names that this machine has.
    pub fn of(names: &[&str]) -> Self {
        if !geteuid().is_root() {
            return Self::Own;
        }
        if std::env::var_os(WITHIN).is_some() {
            return Self::Renamed;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let ids = |name: &&str| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
            Some((ids.next()?, ids.next()?))
        };
        let found = names.iter().find_map(ids);
        let (user, group) = found.unwrap_or_else(|| panic!("none of the accounts {names:?} is known"));
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

    /// Gives a file or folder to the account, and to nobody else.
    pub fn give(self, path: &Path) {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        if let Self::Other(user, group) = self {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

/// The shell that stands beside a server. It ends it when it is told to, or when the pipe from the test
/// closes, be it that the test's process was killed; and then it removes the folder. It never waits for
/// the server before, so that the process id stays the server's.
const WATCH: &str = r#"
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

/// A server's process, with the shell that watches it.
pub struct Running {
    watch: Child,
    pid: Pid,
}

impl Running {
    /// Starts the command; what it says goes to `folder/log`, and `signal` is what ends it at once.
    pub fn start(command: &Command, folder: &Path, signal: &str) -> Self {
        let mut watch = Command::new("setsid");
        watch.args(["sh", "-c", WATCH, "watch"]).arg(folder).arg(signal);
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

    /// kill -9, of the server and all the processes it has made: as a machine loses them. The folder stays.
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

    /// Stops the server, which makes no more processes then, and after it those it has made.
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

/// To a process that may be gone already.
fn signal(pid: i32, signal: Signal) {
    let sent = kill_process(Pid::from_raw(pid).unwrap(), signal);
    assert!(matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)), "{signal:?} to {pid}: {sent:?}");
}

/// What a process is doing (`Z` where only its end is left to be told), and who made it.
pub fn state(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets before, and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, by)| by == parent)).collect()
}

/// Copies a folder that takes seconds to make, and is therefore made once and kept below `target/`.
pub fn copy_made_once(name: &str, make: impl FnOnce(&Path), to: &Path) {
    // A library's own tests are not told of the former.
    let kept = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&kept).unwrap();
    let lock = File::create(kept.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let made = kept.join(name);
    if !made.exists() {
        // Where others may look in: below `target/` the account may not be able to.
        let folder = tempfile::tempdir().unwrap();
        open_to_pass(folder.path());
        make(&folder.path().join("data"));
        let unfinished = kept.join(format!("{name}.unfinished"));
        drop(std::fs::remove_dir_all(&unfinished));
        copy(&folder.path().join("data"), &unfinished);
        std::fs::rename(&unfinished, &made).unwrap();
    }
    drop(lock);
    copy(&made, to);
}

/// Lets other accounts pass through a folder, without seeing what is in it.
pub fn open_to_pass(folder: &Path) {
    std::fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// Runs a command to its end, with `input`; what it says, or what it complains of.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    // Who ends before having read everything has a reason, and tells it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
