//! A disk of a few megabytes, mounted at a folder, and a file that takes the room away on it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::WITHIN;
use super::servers::Server;

/// Mounted for as long as this lives.
pub struct SmallDisk {
    mounted: PathBuf,
}

impl SmallDisk {
    /// At a folder that is there, or is made.
    pub fn mounted(at: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "millrace-test"]).arg(at);
        let done = mount.output().unwrap();
        let reason = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "a small disk needs the right to mount: {reason}");
        Self { mounted: at.to_owned() }
    }

    /// For a server's data. It goes before the server does.
    pub fn under(server: &mut Server, bytes: u64) -> Self {
        server.stop_hard();
        let (data, before) = (server.data(), server.folder.join("before"));
        std::fs::rename(&data, &before).unwrap();
        let disk = Self::mounted(&data, bytes);
        server.account.give(&data);
        let moved = Command::new("cp").arg("-a").arg(before.join(".")).arg(&data).status().unwrap();
        assert!(moved.success());
        server.start_again();
        disk
    }

    pub fn filler(&self) -> Filler {
        Filler { path: self.mounted.join("filler") }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a test that fails may leave a server behind that still uses it.
        let done = Command::new("umount").arg("-l").arg(&self.mounted).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("`{}` is still mounted", self.mounted.display());
        }
    }
}

/// A file that takes the room away.
pub struct Filler {
    path: PathBuf,
}

impl Filler {
    fn open(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.path).unwrap()
    }

    pub fn take(&self, mebibytes: usize) {
        self.open().write_all(&vec![1; mebibytes << 20]).unwrap();
    }

    /// Leaves nothing.
    pub fn fill(&self) {
        let mut file = self.open();
        for block in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; block]).is_ok() {}
        }
    }

    pub fn empty(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Who may not mount may in a namespace of their own: the test runs itself again in one. `false` there
/// means that this process only waited for the other.
pub fn may_mount(test: &str) -> bool {
    let probe = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if quiet(Command::new("mount").args(["-t", "tmpfs", "millrace-probe"]).arg(probe.path())) {
        assert!(quiet(Command::new("umount").arg(probe.path())));
        return true;
    }
    assert!(std::env::var_os(WITHIN).is_none(), "not even in a namespace of its own may this test mount");
    let mut again = Command::new("unshare");
    again.arg("-rm").arg(std::env::current_exe().unwrap());
    let status = again.args(["--exact", test, "--nocapture"]).env(WITHIN, "1").status();
    let status = status.expect("`unshare` is there: without it, run the test as root");
    assert!(status.success(), "{test} in a namespace of its own: {status}");
    false
}
