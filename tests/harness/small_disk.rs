//! A file system of a few megabytes, mounted at a folder, and a file that fills it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::IN_NAMESPACE;
use super::servers::Server;

/// A small file system that is unmounted on drop.
pub struct SmallDisk {
    mounted: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system at a folder, which is created if it does not exist.
    pub fn mounted(at: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "millrace-test"]).arg(at);
        let done = mount.output().unwrap();
        let reason = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "cannot mount a small disk: {reason}");
        Self { mounted: at.to_owned() }
    }

    /// Moves a server's data to a small file system; the server is restarted for that. Drop the disk before the
    /// server.
    pub fn under(server: &mut Server, bytes: u64) -> Self {
        server.kill();
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
        // `-l`, because a failed test may leave a server that still uses the file system.
        let done = Command::new("umount").arg("-l").arg(&self.mounted).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("`{}` is still mounted", self.mounted.display());
        }
    }
}

/// A file that uses up disk space.
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

    /// Uses up all free space.
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

/// Returns whether this process may mount file systems. If not, runs the test again in a user namespace, where it
/// may, waits for it, and returns `false`: the test is done then.
pub fn can_mount(test: &str) -> bool {
    let probe = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if quiet(Command::new("mount").args(["-t", "tmpfs", "millrace-probe"]).arg(probe.path())) {
        assert!(quiet(Command::new("umount").arg(probe.path())));
        return true;
    }
    assert!(std::env::var_os(IN_NAMESPACE).is_none(), "this test cannot mount, not even in a user namespace");
    let mut again = Command::new("unshare");
    again.arg("-rm").arg(std::env::current_exe().unwrap());
    let status = again.args(["--exact", test, "--nocapture"]).env(IN_NAMESPACE, "1").status();
    let status = status.expect("run the test as root, or install `unshare`");
    assert!(status.success(), "{test} in a user namespace: {status}");
    false
}
