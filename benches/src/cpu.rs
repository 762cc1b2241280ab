//! CPU time of processes, from the kernel's own accounting.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks per second of `/proc/PID/stat` on Linux.
const TICKS: u64 = 100;

/// User and system time that a process has used so far.
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub fn used_by(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces; what follows its closing bracket does not.
    let (_, fields) = stat.rsplit_once(')').context("not a stat line")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let ticks = ticks(11)
        .zip(ticks(12))
        .map(|(user, system)| user + system)
        .context("not a stat line")?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}
