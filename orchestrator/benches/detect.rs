//! How fast a console is searched for hits: `cargo bench --package farm --bench detect`.
//!
//! Writes a console of 1 GiB made of real boots, with a report every few megabytes, and reads it by turns with
//! `farm::detect::Scan` and with `grep -cE` for ten of the openings. The file is the same in every run; it stays in
//! the host's page cache, so that the disk is not measured. With `--size MIB` it has another size.

#[path = "../tests/fixtures/detect.rs"]
mod fixtures;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use farm::detect::Scan;

use fixtures::{Fixture, fixtures};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MIB: u64 = 1 << 20;
const DEFAULT_SIZE: u64 = 1024;
/// Of healthy text between two reports.
const INTERVAL: u64 = 4 * MIB;
const TURNS: usize = 5;

/// What greps for reports look for.
const OPENINGS: [&str; 10] = [
    "WARNING: ",
    "kernel BUG at ",
    "BUG: ",
    "Unable to handle kernel ",
    "Kernel panic - not syncing",
    "INFO: task ",
    "INFO: rcu_",
    "UBSAN: ",
    "list_add corruption",
    "illegal operation: ",
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip_while(|word| word != "--size").skip(1);
    let size = arguments.next().map_or(Ok(DEFAULT_SIZE), |size| size.parse())? * MIB;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-console.log");
    let reports = write_console(&path, size)?;
    let bytes = fs::metadata(&path)?.len();

    let (mut ours, mut greps) = (Vec::new(), Vec::new());
    let mut hits = 0;
    for _ in 0..TURNS {
        let start = Stopwatch::start()?;
        hits = count_hits(&path)?;
        ours.push(start.stop()?);
        let start = Stopwatch::start()?;
        let grep =
            Command::new("grep").env("LC_ALL", "C").arg("-cE").arg(OPENINGS.join("|")).arg(&path).output()?;
        greps.push(start.stop()?);
        if !grep.status.success() {
            return Err(format!("grep: {}", String::from_utf8_lossy(&grep.stderr)).into());
        }
    }
    fs::remove_file(&path)?;

    let mut out = io::stdout().lock();
    writeln!(out, "console  {} MiB, {reports} reports put in, {hits} hits found", bytes / MIB)?;
    writeln!(out, "median of {TURNS}      wall        CPU")?;
    let [scan, grep] = [ours, greps].map(|times| {
        let (wall, cpu): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
        [median(wall), median(cpu)]
    });
    for (name, times) in [("scan", scan), ("grep", grep)] {
        let [wall, cpu] = times.map(|time| rate(bytes, time));
        writeln!(out, "{name}        {wall:>6.0} MB/s {cpu:>6.0} MB/s")?;
    }
    writeln!(out, "scan : grep {:>6.2} {:>11.2}", grep[0] / scan[0], grep[1] / scan[1])?;
    writeln!(out, "memory   {} KiB at most, of the whole process", peak_memory()?)?;
    Ok(())
}

/// Reads as `farm scan` does.
fn count_hits(path: &Path) -> Result<usize> {
    let (mut file, mut chunk) = (File::open(path)?, vec![0; 256 * 1024]);
    let (mut scan, mut hits, mut found) = (Scan::default(), Vec::new(), 0);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => scan.push(&chunk[..count], &mut hits),
        }
        found += hits.drain(..).count();
    }
    scan.finish(&mut hits);
    Ok(found + hits.len())
}

/// Measures wall time, and CPU time of this process with its children, in seconds: on a busy host only the latter
/// says something.
struct Stopwatch {
    wall: Instant,
    cpu: f64,
}

impl Stopwatch {
    fn start() -> Result<Self> {
        Ok(Self { wall: Instant::now(), cpu: cpu_seconds()? })
    }

    fn stop(&self) -> Result<(f64, f64)> {
        Ok((self.wall.elapsed().as_secs_f64(), cpu_seconds()? - self.cpu))
    }
}

/// proc_pid_stat(5): utime, stime, cutime and cstime are the fields 14 to 17, in ticks of 10 ms.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no name in /proc/self/stat")?;
    let ticks =
        fields.split(' ').skip(11).take(4).map(str::parse::<f64>).sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// Logs of the detector's tests.
fn logs(is_wanted: impl Fn(&Fixture) -> bool) -> Result<Vec<Vec<u8>>> {
    Ok(fixtures()?.into_iter().filter(is_wanted).map(|fixture| fixture.log).collect())
}

/// Gives the number of reports.
fn write_console(path: &Path, size: u64) -> Result<usize> {
    let boots = logs(|fixture| fixture.says("healthy: true") && fixture.name.starts_with("healthy-boot"))?;
    let reports = logs(|Fixture { name, .. }| {
        ["oops-", "warning-gup", "bad-page-6", "list-add", "panic-6", "refcount-", "hung-task-6"]
            .iter()
            .any(|start| name.starts_with(start))
            && !["truncated", "nested", "twice", "inside"].iter().any(|word| name.contains(word))
    })?;
    let mut file = BufWriter::new(File::create(path)?);
    let (mut written, mut count) = (0, 0);
    for boot in boots.iter().cycle() {
        if written >= size {
            break;
        }
        file.write_all(boot)?;
        file.write_all(b"\n")?;
        written += boot.len() as u64 + 1;
        if written / INTERVAL > count as u64 {
            let report = &reports[count % reports.len()];
            file.write_all(report)?;
            written += report.len() as u64;
            count += 1;
        }
    }
    file.flush()?;
    Ok(count)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// In millions of bytes a second.
fn rate(bytes: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate shown without decimals")]
    let bytes = bytes as f64;
    bytes / seconds / 1e6
}

/// Of this process so far, in KiB (proc_pid_status(5): VmHWM).
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
