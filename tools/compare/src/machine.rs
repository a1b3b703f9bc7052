//! What stands above the table: where and when it was measured.

use std::path::Path;
use std::process::Command;

/// As lines of a list; what can't be found out is left out.
pub fn describe(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let first = |text: String| text.lines().next().map(|line| line.trim().to_string()).filter(|line| !line.is_empty());
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        first(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut add = |what: &str, found: Option<String>| lines.extend(found.map(|found| format!("- {what}: {found}")));
    add("date", output("date", &["-u", "+%Y-%m-%d"]));
    let cores = std::thread::available_parallelism().ok().map(|cores| format!("{cores} cores"));
    let model = field("/proc/cpuinfo", "model name");
    add("machine", cores.map(|cores| [Some(cores), model].into_iter().flatten().collect::<Vec<_>>().join(", ")));
    add("memory", field("/proc/meminfo", "MemTotal"));
    add("kernel", output("uname", &["-sr"]));
    let path = directory.to_string_lossy();
    let file_system = output("findmnt", &["--noheadings", "--output", "FSTYPE,SOURCE,OPTIONS", "--target", &path]);
    add("file system", file_system.map(|found| found.split_whitespace().collect::<Vec<_>>().join(" ")));
    lines
}

/// The first value of a name in a file of `name: value` lines.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// What a process holds in memory; `None` where the system does not tell.
pub fn resident_bytes(process: u32) -> Option<f64> {
    let kibibytes = field(&format!("/proc/{process}/status"), "VmRSS")?;
    Some(kibibytes.trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0)
}

/// The version that a program says it has.
pub fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_string())
}
