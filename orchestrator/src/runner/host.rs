//! What the host has, for records and for the number of jobs.

use std::fs;

use rustix::system::uname;

use super::capacity::HostSize;
use crate::store::HostRecord;

/// CPUs that this process may use, and memory that can be had without swapping.
pub fn host_size() -> HostSize {
    let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    HostSize { cpus, available_mib: meminfo_kib("MemAvailable:") / 1024 }
}

pub fn host_record() -> HostRecord {
    let name = uname();
    HostRecord {
        arch: name.machine().to_string_lossy().into_owned(),
        kernel: name.release().to_string_lossy().into_owned(),
        cpus: host_size().cpus,
        memory_mib: meminfo_kib("MemTotal:") / 1024,
    }
}

/// A line of /proc/meminfo (proc(5)); 0 where there is none, which leaves one job.
fn meminfo_kib(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
