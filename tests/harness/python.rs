//! Python programs as independent counterparts. Their packages come from PyPI and are installed once, into a virtual
//! environment below `target/`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::process::run;

const PACKAGES: [&str; 2] = ["aiosmtpd~=1.4", "standardwebhooks~=1.1"];
/// Prints all that must stay the same for an environment to remain usable.
const IDENTITY: &str = "import sys; print(sys.version, sys.base_prefix)";

/// Returns the interpreter of an environment that has the packages.
pub fn python() -> PathBuf {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(install).clone()
}

fn install() -> PathBuf {
    // Cargo sets the variable for integration tests only.
    let kept = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&kept).unwrap();
    let lock = File::create(kept.join("python-packages.lock")).unwrap();
    lock.lock().unwrap();
    let folder = kept.join("python-packages");
    let (list, interpreter) = (folder.join("installed"), folder.join("bin/python"));
    let identity = finished(Command::new("python3").args(["-c", IDENTITY]), "python3 cannot run");
    let wanted = format!("{identity}{}", PACKAGES.join("\n"));
    if std::fs::read_to_string(&list).ok().as_ref() != Some(&wanted) {
        drop(std::fs::remove_dir_all(&folder));
        finished(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "python3 cannot create a virtual environment (Debian: apt-get install python3-venv)",
        );
        finished(
            Command::new(&interpreter)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(PACKAGES),
            "pip cannot install the packages",
        );
        std::fs::write(&list, wanted).unwrap();
    }
    interpreter
}

/// Returns the output of a command. Panics with `problem` if it fails.
fn finished(command: &mut Command, problem: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{problem}: {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{problem}: {command:?}: {}\n{stdout}{stderr}", output.status);
    stdout
}

/// Returns the command that runs a program at `path`, relative to the project.
pub fn program(path: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Verifies webhooks with the public package `standardwebhooks`. Each value has `secret`, `headers` and `body`. Returns
/// `ok` or `bad: REASON` for each. The package rejects timestamps that are off by more than 5 minutes.
pub fn verify_webhooks(lines: &[Value]) -> Vec<String> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let verdicts = run(program("tests/delivery/programs/verify_webhooks.py"), &input)
        .unwrap_or_else(|error| panic!("verify_webhooks.py: {error}"));
    let verdicts: Vec<String> = verdicts.lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), lines.len(), "one verdict for each webhook");
    verdicts
}
