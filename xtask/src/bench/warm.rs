//! Lives that go on from a saved guest: what it costs to save one, and what each life takes then.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::Cache;
use farm::store::LifeRecord;

use super::measure::Run;
use super::{Bench, KERNELS, heading, micros, row, spread};

/// 100 ms of data that is moved and verified, in a guest without disks.
const LIFE: &str = "\
purpose: a measurement
machine: {cpus: 2, memory: 512M}
steps:
  - {stress: splice, args: {mode: file-pipe-file}, for: 50ms, dir: tmp}
";
/// Where farm keeps saved guests, below its cache.
const SAVED: &str = "saved";
/// Of each number of jobs. The first lives copy the saved guest, one for each job.
const LIVES_OF_JOBS: &str = "60";

impl Bench {
    pub(super) fn warm(&self) -> Result<()> {
        let life = self.file("life", LIFE)?;
        let cache = self.cache_without_saved_guests()?;
        let columns =
            ["kernel", "boot", "boot and save", "resume", "`ready`", "verdict", "boot : verdict", "on disk"];
        heading("Lives from a saved guest", &columns);
        for kernel in KERNELS {
            let arguments = [&*life, "--kernel", kernel, "--cache", cache.as_str(), "--jobs", "1"];
            let (mut boots, mut saves) = (Vec::new(), Vec::new());
            for _ in 0..self.repeats {
                let run = self.passed(&arguments)?;
                boots.push(micros(run.life()?.timings.verdict_us)?);
                forget(&cache)?;
                let run = self.all_passed(&arguments)?;
                saves.push(micros(run.life()?.timings.spawned_us)?);
            }
            // The first copies the saved guest.
            let repeat = (self.pairs + 1).to_string();
            let run = self.all_passed(&[&arguments[..], &["--repeat", &repeat]].concat())?;
            let lives: Vec<_> = resumed(&run)?.filter(|life| life.life.number > 1).collect();
            let of = |time: fn(&LifeRecord) -> Option<u64>| {
                lives.iter().map(|life| micros(time(life))).collect::<Result<Vec<Duration>>>()
            };
            let verdicts = of(|life| life.timings.verdict_us)?;
            let ratio = super::median(&boots).as_secs_f64() / super::median(&verdicts).as_secs_f64();
            row(&[
                kernel.into(),
                spread(&boots),
                spread(&saves),
                spread(&of(|life| life.timings.spawned_us)?),
                spread(&of(|life| life.timings.ready_us)?),
                spread(&verdicts),
                format!("{ratio:.1}"),
                format!("{} MB", size(&cache)? / 1_000_000),
            ]);
        }
        self.warm_jobs(&life, &cache)
    }

    /// Guests of 2 CPUs side by side, and what farm itself takes meanwhile.
    fn warm_jobs(&self, life: &str, cache: &Utf8Path) -> Result<()> {
        heading(
            "Lives an hour from a saved guest",
            &["jobs", "lives an hour", "farm's CPU time, of one CPU"],
        );
        let kernel = KERNELS[0];
        // Saves the guest, which the other kernel's has taken the place of.
        self.all_passed(&[life, "--kernel", kernel, "--cache", cache.as_str()])?;
        for jobs in ["1", "2", "3", "4"] {
            let guest = [life, "--kernel", kernel, "--cache", cache.as_str()];
            let arguments = [&guest[..], &["--repeat", LIVES_OF_JOBS, "--jobs", jobs]].concat();
            let run = self.all_passed(&arguments)?;
            let lives = resumed(&run)?.count();
            let wall = run.stored.summary.as_ref().context("the run was cut short")?.wall_us;
            let share = run.usage.cpu.as_secs_f64() / run.usage.wall.as_secs_f64() * 100.0;
            row(&[
                jobs.into(),
                (lives as u64 * 3_600_000_000 / wall.max(1)).to_string(),
                format!("{share:.1} %"),
            ]);
        }
        Ok(())
    }

    /// farm's cache, but for the guests that it has saved.
    fn cache_without_saved_guests(&self) -> Result<Utf8PathBuf> {
        let variable = |name: &str| std::env::var(name).ok();
        let asked = variable("FARM_CACHE").map(Utf8PathBuf::from);
        let whole = Cache::locate(asked.as_deref(), variable)?;
        let cache = self.directory.join("cache");
        fs::create_dir(&cache)?;
        for entry in whole.root().read_dir_utf8()? {
            let entry = entry?;
            if entry.file_name() != SAVED {
                symlink(entry.path(), cache.join(entry.file_name()))?;
            }
        }
        Ok(cache)
    }
}

fn forget(cache: &Utf8Path) -> Result<()> {
    let saved = cache.join(SAVED);
    if saved.exists() {
        fs::remove_dir_all(&saved).with_context(|| format!("cannot remove {saved}"))?;
    }
    Ok(())
}

fn resumed(run: &Run) -> Result<impl Iterator<Item = &LifeRecord>> {
    let booted = run.stored.lives.iter().find(|life| !life.timings.start.is_resumed());
    ensure!(booted.is_none(), "{}: not each life went on from a saved guest", run.stored.directory);
    Ok(run.stored.lives.iter())
}

/// Bytes of disk that the one saved guest takes.
fn size(cache: &Utf8Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in cache.join(SAVED).read_dir_utf8()? {
        let memory = entry?.path().join("memory");
        if memory.is_file() {
            bytes += fs::metadata(&memory)?.blocks() * 512;
        }
    }
    Ok(bytes)
}
