//! A description of the machine. Figures are useless without it.

use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// Describes the machine, one line for each property. Fails if `folder` is in memory, where a sync costs nothing.
pub fn describe(folder: &Path) -> Outcome<String> {
    let cores = std::thread::available_parallelism()?;
    let file_system = file_system(folder)?;
    if file_system == "tmpfs" {
        return Err(format!("folder {} is in memory; use a folder on a disk", folder.display()).into());
    }
    let lines = [
        format!("- date: {}", output_of("date", &["-u", "+%F %H:%M UTC"])),
        format!("- commit: {}", output_of("git", &["describe", "--always", "--dirty", "--exclude", "*"])),
        format!("- processor: {cores} cores, {}", cpu_model()),
        format!("- memory: {}", memory()),
        format!("- load before the run (1, 5, 15 minutes; best near 0): {}", load()),
        format!("- kernel: {}", output_of("uname", &["-sr"])),
        format!(
            "- disk: {file_system}; one write of 8 KB and its fdatasync take {} µs (median of 200)",
            sync_micros(folder)?
        ),
        format!(
            "- redis: {}",
            output_of("redis-server", &["--version"]).split(" sha").next().unwrap_or_default()
        ),
        format!("- compiler: {}", output_of("rustc", &["--version"])),
    ];
    Ok(lines.join("\n"))
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let [model, family, number] = ["model name", "cpu family", "model\t"]
        .map(|name| line(name).unwrap_or_else(|| "unknown".to_owned()));
    format!("{model} (family {family}, model {number})")
}

/// Returns the load averages. Other processes that need the processor make all figures and ratios wrong.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
    format!("{} MiB", kib / 1024)
}

/// Returns the type of the file system with the longest mount point above `folder`.
fn file_system(folder: &Path) -> Outcome<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        if let (Some(at), Some(kind)) = (words.next(), words.next())
            && folder.starts_with(at)
            && at.len() >= best.0
        {
            best = (at.len(), kind);
        }
    }
    Ok(best.1.to_owned())
}

fn sync_micros(folder: &Path) -> Outcome<u128> {
    use std::os::unix::fs::FileExt;
    let path = folder.join("sync-time");
    let file = std::fs::File::create(&path)?;
    let mut times = Vec::new();
    for turn in 0..200_u64 {
        let begun = std::time::Instant::now();
        file.write_all_at(&[7; 8192], turn * 8192)?;
        file.sync_data()?;
        times.push(begun.elapsed().as_micros());
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
