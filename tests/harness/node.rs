//! Node programs as clients. Their packages come from npm and are installed once, below `target/`. A test and its
//! program talk in lines: the program prints `word rest`, and the test writes a word.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The packages, with the names under which programs load them.
const PACKAGES: [&str; 3] =
    ["socket.io-client@4", "socket.io-client-4.0.0@npm:socket.io-client@4.0.0", "ws@8"];
const LINE_DURATION_MAX: Duration = Duration::from_secs(60);

/// Returns the folder that has `node_modules`.
pub fn packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // Cargo sets the variable for integration tests only.
        let kept = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        std::fs::create_dir_all(&kept).unwrap();
        let lock = File::create(kept.join("node-packages.lock")).unwrap();
        lock.lock().unwrap();
        let folder = kept.join("node-packages");
        let (list, wanted) = (folder.join("installed"), PACKAGES.join("\n"));
        if std::fs::read_to_string(&list).ok().as_ref() != Some(&wanted) {
            drop(std::fs::remove_dir_all(&folder));
            std::fs::create_dir_all(&folder).unwrap();
            let mut npm = Command::new("npm");
            npm.args([
                "install",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
            ]);
            let output = npm.arg(&folder).args(PACKAGES).output().expect("npm is installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::write(&list, wanted).unwrap();
        }
        folder
    })
}

pub struct NodeProgram {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl NodeProgram {
    /// Starts the program at `path`, relative to the project. `variables` are its environment.
    pub fn start(path: &str, variables: &[(&str, &str)]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut command = Command::new("node");
        command.arg(&path).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("NODE_PACKAGES", packages()).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("node is installed");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { input: child.stdin.take(), child, lines }
    }

    /// Waits for a line that begins with this word, and returns the rest of it. Other lines are printed.
    pub fn expect(&mut self, word: &str) -> String {
        loop {
            match self.lines.recv_timeout(LINE_DURATION_MAX) {
                Ok(line) => match line.strip_prefix(word) {
                    Some(rest) if rest.is_empty() || rest.starts_with(' ') => return rest.trim().to_owned(),
                    _ => println!("{line}"),
                },
                Err(RecvTimeoutError::Timeout) => panic!("the program did not say `{word}` in time"),
                Err(RecvTimeoutError::Disconnected) => panic!("the program ended before it said `{word}`"),
            }
        }
    }

    pub fn tell(&mut self, word: &str) {
        writeln!(self.input.as_ref().unwrap(), "{word}").unwrap();
    }

    /// Waits until the program ends without an error.
    pub fn finish(mut self) {
        self.expect("done");
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for NodeProgram {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
