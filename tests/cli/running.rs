//! A command that runs during a test.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{TestApp, wait_for};

const END_DURATION_MAX: Duration = Duration::from_secs(60);

pub struct Running {
    pub child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    pub fn start(app: &TestApp, arguments: &[&str]) -> Self {
        Self::spawn(app.prepared(arguments))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, stdout: collected(stdout), stderr: collected(stderr) }
    }

    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Blocks until stdout has exactly this text.
    pub fn wait_for_stdout(&self, expected: &str) {
        let what = || format!("{expected:?}, but there is {:?} and {:?}", self.stdout(), self.stderr());
        self.wait(&what, || self.stdout() == expected);
    }

    /// Blocks until stdout contains this text.
    pub fn wait_for_text(&self, expected: &str) {
        let what = || format!("{expected:?} in {:?} and {:?}", self.stdout(), self.stderr());
        self.wait(&what, || self.stdout().contains(expected));
    }

    /// Blocks until stderr has so many lines that contain this text.
    pub fn wait_for_notes(&self, count: usize, text: &str) {
        let notes = || self.stderr().lines().filter(|line| line.contains(text)).count();
        self.wait(&|| format!("{count} notes `{text}` in {:?}", self.stderr()), || notes() == count);
    }

    fn wait(&self, what: &dyn Fn() -> String, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + END_DURATION_MAX;
        while !condition() {
            assert!(Instant::now() < deadline, "timed out waiting for {}", what());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn interrupt(&self) {
        Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
    }

    /// Blocks until the command ends, and returns its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the end of the command", || child.try_wait().unwrap().is_some());
        child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collected(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let collected = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            collected.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    bytes
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
}
