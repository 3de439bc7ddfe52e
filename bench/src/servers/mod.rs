//! The servers that are measured. Each is a process with its own folder, and both are removed at the end, whatever
//! happens.

pub mod bare;
pub mod databases;
pub mod millrace;
pub mod node;
pub mod redis;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::Outcome;

/// The unit of processor times in `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A process that is killed on drop. If the benchmark itself is killed, the kernel kills the process too. Start it
/// from the main thread, because the kernel acts when the starting thread ends.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(program: &Path, set_up: impl FnOnce(&mut Command)) -> Outcome<Self> {
        Self::start_as(None, program, set_up)
    }

    /// Starts a program as another user, for servers that refuse to run as root.
    pub fn start_as(user: Option<&str>, program: &Path, set_up: impl FnOnce(&mut Command)) -> Outcome<Self> {
        let mut command = Command::new("setpriv");
        if let Some(user) = user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).env_clear().stdin(Stdio::null());
        set_up(&mut command);
        Ok(Self { child: command.spawn()? })
    }

    /// Returns the processor time that the process has used.
    pub fn processor_seconds(&self) -> Outcome<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The program's name comes before, in parentheses, and may contain any character.
        let (_, rest) = text.rsplit_once(')').ok_or("no process")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = (ticks(11).ok_or("no time")?, ticks(12).ok_or("no time")?);
        Ok((user + system) / TICKS_PER_SECOND)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Blocks until the process has ended. Fails if it did not succeed.
    pub fn wait(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("a process ended with {status}").into()),
                None if Instant::now() > deadline => return Err("a process did not end".into()),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    pub fn end(&mut self, signal: &str) -> Outcome<()> {
        Command::new("kill").args([signal, &self.id().to_string()]).status()?;
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A folder that is deleted on drop.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(above: &Path, name: &str) -> Outcome<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Returns a port that is free at the moment.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for_port(address: &str) -> Outcome<()> {
    wait_for(address, || Ok(TcpStream::connect(address).is_ok()))
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(format!("timed out waiting for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
