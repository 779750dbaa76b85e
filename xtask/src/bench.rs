//! `cargo xtask bench`: what farm costs beside plain QEMU, and how soon it knows. Prints the tables of
//! `docs/benchmarks.md`.
//!
//! Whatever is compared is run by turns, so that a host that gets slower does not favour either side, and medians are
//! given with the least and the most.

mod bisect;
mod cost;
mod measure;
mod plain;
mod warm;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use farm::store::LifeRecord;
use farm::verdict::{Ending, Verdict};

use crate::cmd;
use measure::{Farm, Run};

const KERNELS: [&str; 2] = ["debian-12", "debian-13"];
/// A multiple of 1, 2 and 3, so that no number of jobs ends with idle ones.
const LIVES_OF_JOBS: &str = "6";
/// The shortest that a scenario may have; that of the scenario `hang` below.
const HEARTBEAT: Duration = Duration::from_secs(5);

const HEAD: &str = "\
purpose: a measurement
hunts: [nothing]
machine:
  cpus: 2
  memory: 512M
  disks:
    - {size: 256M, format: ext4}
heartbeat: 5s
";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pairs of a life and a plain QEMU; of the other figures' runs, a third as many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The host's own QEMU, measured beside the one that farm takes
    #[arg(long, default_value = "/usr/bin/qemu-system-s390x")]
    other_qemu: String,
    /// Simulated histories in each row of the tables about bisection
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    histories: u64,
    /// What to measure [default: everything]
    #[arg(value_enum)]
    subjects: Vec<Subject>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// A life with an empty job, against plain QEMU
    Empty,
    /// From a crash, and from a hang, to the verdict
    Ends,
    /// The scenario `smoke`, and what farm itself takes meanwhile
    Smoke,
    /// How soon farm answers
    Answer,
    /// Lives an hour for each number of jobs
    Jobs,
    /// What farm itself takes with eight guests at once
    Crowd,
    /// Lives that go on from a saved guest
    Warm,
    /// What the emulated ultravisor costs
    Cost,
    /// Simulated bisections: is the answer right as often as claimed, and what does it take beside the ways of others? Needs
    /// neither QEMU nor kernels
    Bisect,
}

/// What is measured, and where.
struct Bench {
    farm: Farm,
    directory: Utf8PathBuf,
    pairs: u32,
    repeats: u32,
    other_qemu: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.subjects.is_empty() || options.subjects.contains(&Subject::Bisect) {
        bisect::measure(options.histories)?;
    }
    if options.subjects == [Subject::Bisect] {
        return Ok(());
    }
    let program = std::env::current_exe()?.with_file_name("farm");
    let program = Utf8PathBuf::try_from(program).context("the path of farm is not valid UTF-8")?;
    ensure!(program.is_file(), "{program} is not there; build it first: cargo build --package farm");
    let root = Utf8Path::from_path(cmd::root()).context("the checkout's path is not valid UTF-8")?;
    let directory = root.join("target/bench");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {directory}"))?;
    }
    fs::create_dir_all(&directory)?;
    let bench = Bench {
        farm: Farm::new(program, directory.join("state")),
        directory,
        pairs: options.runs,
        repeats: options.runs.div_ceil(3),
        other_qemu: options.other_qemu.clone(),
    };
    bench.describe()?;
    let wanted = |subject| options.subjects.is_empty() || options.subjects.contains(&subject);
    for (subject, measure) in [
        (Subject::Empty, Bench::empty as fn(&Bench) -> Result<()>),
        (Subject::Ends, Bench::ends),
        (Subject::Smoke, Bench::smoke),
        (Subject::Answer, Bench::answer),
        (Subject::Jobs, Bench::jobs),
        (Subject::Crowd, Bench::crowd),
        (Subject::Warm, Bench::warm),
        (Subject::Cost, Bench::cost),
    ] {
        if wanted(subject) {
            measure(&bench)?;
            println!("\nLoad average after it: {}", load()?);
        }
    }
    Ok(())
}

impl Bench {
    /// Host, QEMU and kernels; it also fills the caches.
    fn describe(&self) -> Result<()> {
        let empty = self.scenario("empty", "steps: []\n")?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model =
            cpuinfo.lines().find(|line| line.starts_with("model name")).unwrap_or("model name\t: unknown");
        let model = model.split_once(':').map_or(model, |(_, name)| name.trim());
        println!("Load average before: {}\n", load()?);
        for (index, kernel) in KERNELS.iter().enumerate() {
            let run = self.passed(&[&empty, "--kernel", kernel])?;
            let record = &run.stored.record;
            if index == 0 {
                println!("- Date: {}", record.started);
                println!("- Host: {model}, {} CPUs, {} MiB", record.host.cpus, record.host.memory_mib);
                println!("- {}", record.qemu);
            }
            for kernel in &record.kernels {
                println!("- Kernel {}: {} ({})", kernel.key.name, kernel.key.release, kernel.key.version);
            }
        }
        Ok(())
    }

    /// A life with an empty job by turns with its QEMU alone.
    fn empty(&self) -> Result<()> {
        let empty = self.scenario("empty", "steps: []\n")?;
        heading("A life with an empty job", &["kernel", "life", "plain QEMU", "ratio", "`farm run`"]);
        for kernel in KERNELS {
            let arguments = [&*empty, "--kernel", kernel];
            let first = self.passed(&arguments)?;
            let directory = first.stored.directory.join("cells").join(first.life()?.life.to_string());
            let (mut lives, mut plains, mut walls) = (Vec::new(), Vec::new(), Vec::new());
            for pair in 0..self.pairs {
                // Who comes first alternates too.
                if pair % 2 == 0 {
                    plains.push(plain::wall(&directory)?);
                }
                let run = self.passed(&arguments)?;
                lives.push(micros(run.life()?.timings.verdict_us)?);
                walls.push(run.usage.wall);
                if pair % 2 == 1 {
                    plains.push(plain::wall(&directory)?);
                }
            }
            let ratio = median(&lives).as_secs_f64() / median(&plains).as_secs_f64();
            row(&[kernel.into(), spread(&lives), spread(&plains), format!("{ratio:.3}"), spread(&walls)]);
        }
        Ok(())
    }

    /// From a crash, and from the last heartbeat of a guest that hangs, to the verdict.
    fn ends(&self) -> Result<()> {
        let crash =
            self.scenario("crash", "steps:\n  - {name: crash, write: /proc/sysrq-trigger, text: c}\n")?;
        self.compile_hang()?;
        let hang = self.scenario("hang", "steps:\n  - {name: hang, exec: ./hang, limit: 60s}\n")?;
        heading("From the guest's end to the verdict", &["end", "from", "time", "of it farm's judging"]);
        // Of the 6.1 kernel only: from 6.12 on, a scheduler's server for fair tasks keeps init alive beside real-time
        // spinners.
        let kernel = KERNELS[0];
        let mut table = Vec::new();
        for (scenario, ending, from) in [
            (&crash, Ending::Panicked, "the line \"Kernel panic\""),
            (&hang, Ending::Hung, "init's last word + limit"),
        ] {
            let (mut whole, mut judging) = (Vec::new(), Vec::new());
            for _ in 0..self.repeats {
                let run = self.farm.run(&[scenario, "--kernel", kernel, "--cold"])?;
                let life = run.life()?;
                ensure!(life.ending == ending, "{scenario}: ended {:?} ({})", life.ending, life.reason);
                let directory = run.stored.directory.join("cells").join(life.life.to_string());
                let end = match ending {
                    Ending::Hung => on_host(life, last_word(&directory)?)? + HEARTBEAT,
                    _ => on_host(life, panic_line(&directory)?)?,
                };
                let verdict = micros(life.timings.verdict_us)?;
                whole.push(verdict.saturating_sub(end));
                judging.push(verdict - micros(life.timings.ended_us)?);
            }
            table.push([format!("{ending:?}"), from.to_owned(), spread(&whole), spread(&judging)]);
        }
        table.iter().for_each(|cells| row(cells));
        Ok(())
    }

    /// The quick check, with both QEMUs.
    fn smoke(&self) -> Result<()> {
        let titles = ["kernel", "QEMU", "`farm run smoke`", "farm's CPU time", "farm's peak memory"];
        heading("The scenario `smoke`", &titles);
        let own = ["--qemu", &self.other_qemu];
        for kernel in KERNELS {
            for qemu in [&[][..], &own] {
                let arguments = [&["smoke", "--kernel", kernel][..], qemu].concat();
                let (mut walls, mut cpu, mut peak, mut version) = (Vec::new(), Vec::new(), 0, String::new());
                for _ in 0..self.repeats {
                    let run = self.passed(&arguments)?;
                    walls.push(run.usage.wall);
                    cpu.push(run.usage.cpu);
                    peak = peak.max(run.usage.peak_kib);
                    version = run.stored.record.qemu;
                }
                let version = version.split(" (").next().unwrap_or_default().to_owned();
                row(&[kernel.into(), version, spread(&walls), spread(&cpu), format!("{} MiB", peak / 1024)]);
            }
        }
        Ok(())
    }

    fn answer(&self) -> Result<()> {
        let empty = self.scenario("empty", "steps: []\n")?;
        let runs = (0..self.repeats).map(|_| self.passed(&[&empty])).collect::<Result<Vec<_>>>()?;
        let helps = (0..self.pairs).map(|_| Ok(self.farm.help()?.wall)).collect::<Result<Vec<_>>>()?;
        let first: Vec<_> = runs.iter().map(|run| run.usage.first_word).collect();
        heading("How soon farm answers", &["what", "figure"]);
        row(&["`farm run`: first line on stderr".into(), spread(&first)]);
        row(&["`farm --help`".into(), spread(&helps)]);
        let size = fs::metadata(&self.farm.program)?.len();
        row(&["size of the binary, debug information included".into(), format!("{} MiB", size >> 20)]);
        Ok(())
    }

    /// Guests of 2 CPUs side by side.
    fn jobs(&self) -> Result<()> {
        let empty = self.scenario("empty", "steps: []\n")?;
        heading("Lives an hour", &["scenario", "1 job", "2 jobs", "3 jobs"]);
        for (name, scenario) in [("empty", &*empty), ("smoke", "smoke")] {
            let mut cells = vec![name.to_owned()];
            for jobs in ["1", "2", "3"] {
                let run = self.passed(&[scenario, "--repeat", LIVES_OF_JOBS, "--jobs", jobs])?;
                let wall = run.stored.summary.as_ref().context("the run was cut short")?.wall_us;
                let lives = u64::from(run.stored.record.lives);
                cells.push((lives * 3_600_000_000 / wall.max(1)).to_string());
            }
            row(&cells);
        }
        Ok(())
    }

    /// Eight guests side by side, whatever the host has: this is about farm, not about the guests.
    fn crowd(&self) -> Result<()> {
        let run = self.passed(&["smoke", "--repeat", "8", "--jobs", "8"])?;
        let share = run.usage.cpu.as_secs_f64() / run.usage.wall.as_secs_f64() * 100.0;
        heading(
            "Eight guests at once",
            &["`farm run`", "farm's CPU time", "of one CPU", "farm's peak memory"],
        );
        let peak = format!("{} MiB", run.usage.peak_kib / 1024);
        row(&[spread(&[run.usage.wall]), spread(&[run.usage.cpu]), format!("{share:.2} %"), peak]);
        Ok(())
    }

    /// A run whose guests boot, and whose lives all pass.
    fn passed(&self, arguments: &[&str]) -> Result<Run> {
        self.all_passed(&[arguments, &["--cold"]].concat())
    }

    fn all_passed(&self, arguments: &[&str]) -> Result<Run> {
        let run = self.farm.run(arguments)?;
        for life in &run.stored.lives {
            ensure!(
                life.verdict == Verdict::Passed,
                "{}: {:?}, {}",
                run.stored.directory,
                life.verdict,
                life.reason
            );
        }
        ensure!(!run.stored.lives.is_empty(), "{}: no life", run.stored.directory);
        Ok(run)
    }

    fn scenario(&self, name: &str, steps: &str) -> Result<String> {
        self.file(name, &format!("{HEAD}{steps}"))
    }

    fn file(&self, name: &str, rest: &str) -> Result<String> {
        let path = self.directory.join(format!("{name}.yaml"));
        fs::write(&path, format!("name: {name}\n{rest}"))?;
        Ok(path.into_string())
    }

    fn compile_hang(&self) -> Result<()> {
        let source = self.directory.join("hang.c");
        fs::write(&source, include_str!("bench/hang.c"))?;
        let program = self.directory.join("hang");
        let words = ["-static", "-O2", "-Wall", "-o", program.as_str(), source.as_str()];
        let output = cmd::Cmd::new([crate::packages::CROSS_COMPILER]).args(words).quiet_output()?;
        ensure!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// When something happened on the host's clock, counted from the life's beginning: the guest's clock is set against
/// the host's by init's `ready`, which has both. The way of `ready` to the host is taken for nothing.
fn on_host(life: &LifeRecord, guest: Duration) -> Result<Duration> {
    let ready = life.ready.as_ref().context("the guest never was ready")?;
    let booted = micros(life.timings.ready_us)?.checked_sub(Duration::from_micros(ready.uptime_us));
    Ok(booted.context("the guest is older than its life")? + guest)
}

/// The guest's time in the console's line of a panic.
fn panic_line(directory: &Utf8Path) -> Result<Duration> {
    let console = String::from_utf8_lossy(&fs::read(directory.join("console.log"))?).into_owned();
    console.lines().find_map(panic_time).with_context(|| format!("{directory}: no panic on the console"))
}

fn panic_time(line: &str) -> Option<Duration> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    let seconds = text.starts_with("Kernel panic").then(|| time.trim().parse().ok())??;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The last time that init gave: of a beat, or of a step's start if it never beat.
fn last_word(directory: &Utf8Path) -> Result<Duration> {
    let results = fs::read_to_string(directory.join("results.log"))?;
    results.lines().rev().find_map(word_time).with_context(|| format!("{directory}: init gave no time"))
}

fn word_time(line: &str) -> Option<Duration> {
    let (_, micros) = line.strip_prefix('{')?.rsplit_once("\"uptime_us\":")?;
    Some(Duration::from_micros(micros.strip_suffix('}')?.parse().ok()?))
}

fn micros(timing: Option<u64>) -> Result<Duration> {
    Ok(Duration::from_micros(timing.context("the life did not get so far")?))
}

/// Of an even number, the middle between the two in the middle. There is at least one.
fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}

/// Median, least and most, in seconds, or milliseconds where the median is below one tenth.
fn spread(times: &[Duration]) -> String {
    let middle = median(times);
    let least = times.iter().min().copied().unwrap_or(middle);
    let most = times.iter().max().copied().unwrap_or(middle);
    let [middle, least, most] = [middle, least, most].map(|time| time.as_secs_f64());
    if middle < 0.1 {
        format!("{:.1} ms ({:.1}–{:.1})", middle * 1e3, least * 1e3, most * 1e3)
    } else {
        format!("{middle:.2} s ({least:.2}–{most:.2})")
    }
}

fn heading(title: &str, columns: &[&str]) {
    println!("\n## {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_their_spread() {
        let of =
            |millis: &[u64]| spread(&millis.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>());
        assert_eq!(of(&[3000, 1000, 2000]), "2.00 s (1.00–3.00)");
        assert_eq!(of(&[4000, 1000, 2000, 3000]), "2.50 s (1.00–4.00)");
        assert_eq!(of(&[7, 9]), "8.0 ms (7.0–9.0)");
    }

    #[test]
    fn the_guests_own_times_are_read() {
        let panic = "[    8.250000] Kernel panic - not syncing: sysrq triggered crash";
        assert_eq!(panic_time(panic), Some(Duration::from_millis(8250)));
        assert_eq!(panic_time("[    8.250000] sysrq: Trigger a crash"), None);
        let start = r#"{"type":"start","step":1,"name":"hang","workers":1,"uptime_us":9000001}"#;
        assert_eq!(word_time(start), Some(Duration::from_micros(9_000_001)));
        assert_eq!(word_time(&format!("    {start}")), None);
        assert_eq!(word_time("ok 1 hang"), None);
    }
}
