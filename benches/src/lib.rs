//! What the measurements share: fixtures and the limits they are compared with.

pub mod cpu;
pub mod echo;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often per second 4 KiB can be appended to a file and made durable there.
///
/// # Errors
/// When the file cannot be written.
pub fn fsync_rate(folder: &Path, during: Duration) -> Result<f64> {
    let mut file = File::create(folder.join("fsync-probe"))?;
    let page = [0xA5_u8; 4096];
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < during {
        file.write_all(&page)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
