//! One life of a cell: its steps, their workers, its hits.

use camino::Utf8Path;

use super::hit::standing_word;
use super::{Align, Table, seconds, size, thousands};
use crate::escape::escape;
use crate::machine::quote;
use crate::plan::{Counting, Protection};
use crate::store::{CallRecord, DumpRecord, LifeRecord, Started, StoredRun};
use crate::verdict::signal_name;
use crate::workload::{ProgramEnd, ProgramReport, StepOutcome, TestResult};

pub fn life_text(run: &StoredRun, life: &LifeRecord) -> String {
    let mut out = format!(
        "{} on {} {}: {}",
        life.label,
        life.kernel.name,
        life.kernel.version_or_release(),
        life.verdict
    );
    if !life.reason.is_empty() {
        out += &format!(": {}", escape(life.reason.as_bytes()));
    }
    out += "\n\n";

    let mut line = |key: &str, value: String| out += &format!("{key:<11} {value}\n");
    line("cell", format!("{}, seed {}", life.life, life.seed));
    if let Some(recheck) = &life.recheck_of {
        line("recheck", format!("of {}, {}", recheck.life, recheck.setting));
    }
    line("run", format!("{}, {}", run.record.id, run.record.qemu));
    if let Some(ready) = &life.ready {
        let uptime = seconds(ready.uptime_us);
        let cpus = if ready.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", ready.cpus) };
        line("guest", format!("{cpus}, {} MiB, up after {uptime}", ready.memory_kib / 1024));
    }
    if let Some(micros) = life.timings.verdict_us {
        line("wall", seconds(micros));
    }
    if life.streams.kmsg_lost > 0 {
        line(
            "lost",
            format!(
                "{} kernel log records were overwritten before they could be read",
                life.streams.kmsg_lost
            ),
        );
    }
    if life.streams.dropped_bytes > 0 {
        line("dropped", format!("{} from the middle of the logs", size(life.streams.dropped_bytes)));
    }
    if life.hits_dropped > 0 {
        line(
            "storm",
            format!("{} repetitions of hits were counted and not kept", thousands(life.hits_dropped)),
        );
    }
    let not_rearmed = life.steps.iter().filter(|s| s.outcome.is_some() && !s.rearmed).count();
    if not_rearmed > 0 {
        line(
            "not armed",
            format!("after {not_rearmed} steps WARN_ON_ONCE could not be armed again: no debugfs"),
        );
    }
    if life.protection != Protection::None {
        line("protection", life.protection.to_string());
    }
    if life.counting == Counting::Off {
        line("not counted", "what its steps reached in the kernel (--uncounted)".to_owned());
    }
    match &life.timings.start {
        Started::Booted => {}
        Started::Resumed { .. } => line("start", "resumed from a saved guest".to_owned()),
        Started::BootedInstead { reason } => {
            line("start", format!("booted, as it could not be resumed: {}", escape(reason.as_bytes())));
        }
    }
    let directory = run.life_directory(&life.life);
    line("logs", directory.to_string());
    if let Some(dump) = dump_text(life, &directory) {
        line("dump", dump);
    }
    if let Some(command) = drgn_text(life, &directory) {
        line("open it", command);
    }

    if !life.steps.is_empty() {
        out += &format!("\n{}", step_table(life));
    }
    let attempts = attempt_table(life);
    if !attempts.is_empty() {
        out += &format!("\n{attempts}");
    }
    for step in &life.steps {
        for (name, reason) in step.not_beside() {
            let [step, name, reason] = [&*step.name, name, reason].map(|text| escape(text.as_bytes()));
            out += &format!("\nstep {step}: not beside {name}: {reason}\n");
        }
        // Where a worker ran into the limit what ran beside it was killed too.
        let besides = step.beside.iter().filter(|_| step.outcome != Some(StepOutcome::Limit));
        for one in &step.workers {
            let who = format!("step {}, worker {}", one.step, one.worker);
            out += &trouble(&who, one.limit, &one.end);
        }
        for one in besides {
            let who = format!("step {}, beside it {}", one.step, escape(one.name.as_bytes()));
            out += &trouble(&who, false, &one.end);
        }
    }
    for hit in &life.hits {
        let standing = standing_word(&hit.judged.standing);
        out += &format!("\nhit {} ({standing}): {}\n", hit.id, escape(hit.judged.hit.title.as_bytes()));
    }
    out += &cpu_text(life);
    for missed in &life.missed {
        out += &format!("\nmissed: {}\n", escape(missed.as_bytes()));
    }
    out
}

/// Where the dump of a life is and what it shows.
pub(super) fn dump_text(life: &LifeRecord, directory: &Utf8Path) -> Option<String> {
    let DumpRecord { file, at, vmcoreinfo, symbols, trouble } = life.dump.as_ref()?;
    if let Some(trouble) = trouble {
        return Some(format!("none: {}", escape(trouble.as_bytes())));
    }
    let note = if !vmcoreinfo {
        "; without VMCOREINFO, which drgn and crash need: this kernel has none (CONFIG_KEXEC, CONFIG_CRASH_DUMP)"
    } else if symbols.is_empty() {
        "; no vmlinux with types is known, which drgn and crash need"
    } else {
        ""
    };
    Some(format!("{} (made {at}{note})", directory.join(file)))
}

/// The command that opens the dump of a life, if it can be read.
pub(super) fn drgn_text(life: &LifeRecord, directory: &Utf8Path) -> Option<String> {
    let DumpRecord { file, vmcoreinfo, symbols, trouble, .. } = life.dump.as_ref()?;
    if trouble.is_some() || !vmcoreinfo || symbols.is_empty() {
        return None;
    }
    let symbols = symbols.iter().map(|path| format!(" -s {}", quote(path.as_str())));
    let text = format!("drgn -c {}", quote(directory.join(file).as_str())) + &symbols.collect::<String>();
    Some(escape(text.as_bytes()))
}

/// What the CPUs of a guest were doing that crashed or hung.
pub(super) fn cpu_text(life: &LifeRecord) -> String {
    let mut out = String::new();
    for cpu in &life.cpus {
        let psw = cpu.psw.map_or_else(|| "not known".to_owned(), |psw| psw.to_string());
        out += &format!("\nCPU {}: {}, PSW {psw}\n", cpu.number, escape(cpu.state.as_bytes()));
        for CallRecord { call, places } in &cpu.trace {
            let mut places = places.iter().map(ToString::to_string);
            let innermost = places.next().unwrap_or_default();
            out += &format!("  [{:016x}] {}\n", call.address, escape(innermost.as_bytes()));
            for place in places {
                out += &format!("  {:18} inlined into {}\n", "", escape(place.as_bytes()));
            }
        }
    }
    out
}

fn step_table(life: &LifeRecord) -> Table {
    let mut table = Table::new(&[
        ("step", Align::Right),
        ("name", Align::Left),
        ("path", Align::Left),
        ("outcome", Align::Left),
        ("ops", Align::Right),
        ("data", Align::Right),
        ("wall", Align::Right),
    ]);
    for step in &life.steps {
        let name = escape(step.name.as_bytes());
        table.row([
            step.step.to_string(),
            name,
            String::new(),
            step.outcome_word().to_owned(),
            thousands(step.ops()),
            size(step.bytes()),
            seconds(step.wall_us),
        ]);
        path_rows(&mut table, step.workers.iter().map(|worker| &worker.end.program), str::to_owned);
        for beside in &step.beside {
            // A program with one path calls it like itself.
            path_rows(&mut table, [&beside.end.program], |path| match path == beside.name {
                true => format!("beside: {path}"),
                false => format!("beside: {}: {path}", beside.name),
            });
        }
    }
    table
}

/// One row for each path that the programs took and each way that it ended, all of them together.
fn path_rows<'a>(
    table: &mut Table,
    programs: impl IntoIterator<Item = &'a ProgramReport>,
    shown: impl Fn(&str) -> String,
) {
    let mut paths: Vec<(&str, &str, u64, u64)> = Vec::new();
    for program in programs {
        for test in &program.tests {
            let outcome = match test.result {
                TestResult::Ok => "ok",
                TestResult::NotOk => "not ok",
                TestResult::Skipped => "skipped",
            };
            let stats = program.stats.iter().find(|s| s.path == test.name);
            let (ops, bytes) = stats.map_or((0, 0), |s| (s.ops, s.bytes));
            match paths.iter_mut().find(|p| p.0 == test.name && p.1 == outcome) {
                Some(path) => (path.2, path.3) = (path.2.saturating_add(ops), path.3.saturating_add(bytes)),
                None => paths.push((&test.name, outcome, ops, bytes)),
            }
        }
    }
    for (path, outcome, ops, bytes) in paths {
        table.row([
            String::new(),
            String::new(),
            escape(shown(path).as_bytes()),
            outcome.to_owned(),
            thousands(ops),
            size(bytes),
            String::new(),
        ]);
    }
}

/// What the steps were to reach in the kernel.
fn attempt_table(life: &LifeRecord) -> Table {
    let mut table = Table::new(&[
        ("attempts", Align::Left),
        ("function", Align::Left),
        ("count", Align::Right),
        ("missed", Align::Right),
        ("least", Align::Right),
        ("", Align::Left),
    ]);
    for step in &life.steps {
        for attempts in &step.attempts {
            let function = attempts.symbol.as_ref().unwrap_or(&attempts.functions);
            let remark = match &attempts.reason {
                Some(reason) => format!("not counted: {}", escape(reason.as_bytes())),
                None if attempts.shortfall().is_some() => "too few".to_owned(),
                None => String::new(),
            };
            table.row([
                escape(step.name.as_bytes()),
                escape(function.as_bytes()),
                thousands(attempts.count),
                thousands(attempts.missed),
                thousands(attempts.least),
                remark,
            ]);
        }
    }
    table
}

/// What a program that did not end well printed last; `limit`: it was killed at the step's.
fn trouble(who: &str, limit: bool, end: &ProgramEnd) -> String {
    if end.is_well() {
        return String::new();
    }
    let how = match (end.exit, end.signal) {
        _ if end.stuck => "could not be killed: it hangs in the kernel".to_owned(),
        _ if limit => "was killed at the step's wall limit".to_owned(),
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => "did not end".to_owned(),
    };
    let mut out = format!("\n{who} {how}");
    let tail = &end.program.tail;
    out += if tail.is_empty() { "; it printed nothing\n" } else { "; it printed last:\n" };
    for line in tail {
        out += &format!("  {}\n", escape(line.as_bytes()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recheck::tests::life;
    use crate::verdict::{Ending, Verdict};

    #[test]
    fn a_dump_that_can_be_read_is_told_with_the_command_that_opens_it() {
        let dump = DumpRecord {
            file: "dump.elf".to_owned(),
            at: "at its end".to_owned(),
            vmcoreinfo: true,
            symbols: vec!["/cache/vmlinux".into(), "/a b/uvsim.ko".into()],
            trouble: None,
        };
        let told = |dump: DumpRecord| {
            let life = life("5f0c2a1122334455", 1, Verdict::Hit, Ending::Panicked, &[]);
            let life = LifeRecord { dump: Some(dump), ..life };
            let directory = Utf8Path::new("/run/life");
            (dump_text(&life, directory).unwrap(), drgn_text(&life, directory))
        };
        let (text, command) = told(dump.clone());
        assert_eq!(text, "/run/life/dump.elf (made at its end)");
        assert_eq!(command.unwrap(), "drgn -c /run/life/dump.elf -s /cache/vmlinux -s '/a b/uvsim.ko'");
        for (dump, words) in [
            (DumpRecord { symbols: Vec::new(), ..dump.clone() }, "no vmlinux with types is known"),
            (DumpRecord { vmcoreinfo: false, ..dump.clone() }, "without VMCOREINFO"),
            (
                DumpRecord { trouble: Some("the disk is full".to_owned()), ..dump.clone() },
                "none: the disk is full",
            ),
        ] {
            let (text, command) = told(dump);
            assert!(text.contains(words) && command.is_none(), "{text} {command:?}");
        }
    }
}
