//! A scenario → YAML that is read as the same scenario: each field that is not as it is by itself, in the order of the reference.
//!
//! Patterns without `..`: a new field does not compile until someone decides how it is written.

use std::fmt::Display;

use super::emulation;
use super::fields::{beside, disk, hit, machine, matrix, scenario, step, touch};
use super::pattern::{Expectation, Known, Pattern};
use super::shape::{MIB, print_size, print_time};
use super::steps::{default_dir, default_limit, default_names, fill_names, word_of_dir};
use super::{
    Action, ArgAxis, ArgValue, Budget, Condition, Disk, Interference, Knobs, MachineSpec, Matrix, Protection,
    Scenario, Step, Touch,
};

/// What [`super::check`] reads as this scenario, but for the names of the file and of its hash.
pub fn write(scenario: &Scenario) -> String {
    let Scenario {
        name,
        purpose,
        hunts,
        needs,
        protection,
        uvsim,
        modules,
        trace,
        machine,
        steps,
        expect,
        known,
        matrix,
        heartbeat,
        sha256: _,
        file: _,
    } = scenario;
    let mut text = format!("{}: {}\n", scenario::NAME.name, scalar(name.as_str()));
    text += &format!("{}: {}\n", scenario::PURPOSE.name, scalar(purpose));
    text += &block(scenario::HUNTS.name, hunts.iter().map(|line| scalar(line)));
    let mut top = |name: &str, value: String| text += &format!("{name}: {value}\n");
    if !needs.is_empty() {
        top(scenario::NEEDS.name, list(needs));
    }
    if *protection != Protection::None {
        top(scenario::PROTECTION.name, protection.to_string());
    }
    if *uvsim != Knobs::default() {
        top(scenario::KNOBS.name, knobs(uvsim));
    }
    if !modules.is_empty() {
        top(scenario::MODULES.name, list(modules));
    }
    if !trace.is_empty() {
        top(scenario::TRACE.name, list(trace));
    }
    if *machine != MachineSpec::default() {
        top(scenario::MACHINE.name, machine_map(machine));
    }
    if *heartbeat != super::HeartbeatLimit::default() {
        top(scenario::HEARTBEAT.name, print_time(heartbeat.0));
    }
    text += &match &steps[..] {
        [] => format!("{}: []\n", scenario::STEPS.name),
        steps => block(scenario::STEPS.name, steps_of(steps, machine)),
    };
    text += &block(scenario::EXPECT.name, expect.iter().map(expectation));
    text += &block(scenario::KNOWN.name, known.iter().map(known_hit));
    if *matrix != Matrix::default() {
        text += &format!("{}: {}\n", scenario::MATRIX.name, matrix_map(matrix));
    }
    text
}

/// A map on one line.
#[derive(Default)]
struct Map(Vec<String>);

impl Map {
    fn put(&mut self, name: &str, value: impl Display) {
        self.0.push(format!("{name}: {value}"));
    }

    /// Unless it is what is meant where nothing stands.
    fn unless<T: PartialEq>(&mut self, name: &str, value: &T, default: &T, print: impl Fn(&T) -> String) {
        if value != default {
            self.put(name, print(value));
        }
    }

    fn text(self) -> String {
        format!("{{{}}}", self.0.join(", "))
    }
}

fn block(name: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("  - {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("{name}:\n{lines}") }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| scalar(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// As it stands where no reader of YAML could take it for anything else, or else in quotes.
fn scalar(text: &str) -> String {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-|".contains(&byte);
    let plain = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'/')
        && text.bytes().all(inner)
        && text != "null";
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() => quoted.push(c),
            c => quoted += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    quoted + "\""
}

fn knobs(knobs: &Knobs) -> String {
    let Knobs { fix, busy, partial, export_failure, owner_mismatch, freeze_delay, pin_shared, early } = knobs;
    let default = Knobs::default();
    let mut map = Map::default();
    map.unless(emulation::FIX.name, fix, &default.fix, |fix| list(fix));
    for (field, value) in [
        (&emulation::BUSY, busy),
        (&emulation::PARTIAL, partial),
        (&emulation::EXPORT_FAILURE, export_failure),
        (&emulation::OWNER_MISMATCH, owner_mismatch),
    ] {
        map.unless(field.name, value, &0, u32::to_string);
    }
    map.unless(emulation::FREEZE_DELAY.name, freeze_delay, &default.freeze_delay, |time| print_time(*time));
    map.unless(emulation::PIN_SHARED.name, pin_shared, &false, bool::to_string);
    map.unless(emulation::EARLY.name, early, &false, bool::to_string);
    map.text()
}

fn machine_map(spec: &MachineSpec) -> String {
    let MachineSpec { cpus, memory_mib, disks, share, kernel_args } = spec;
    let default = MachineSpec::default();
    let mut map = Map::default();
    map.unless(machine::CPUS.name, cpus, &default.cpus, u32::to_string);
    map.unless(machine::MEMORY.name, memory_mib, &default.memory_mib, mebibytes);
    if !disks.is_empty() {
        let disks: Vec<_> = disks.iter().map(disk_map).collect();
        map.put(machine::DISKS.name, format!("[{}]", disks.join(", ")));
    }
    map.unless(machine::SHARE.name, share, &false, bool::to_string);
    if !kernel_args.is_empty() {
        map.put(machine::KERNEL_ARGS.name, list(kernel_args));
    }
    map.text()
}

fn mebibytes(mib: &u32) -> String {
    print_size(u64::from(*mib) * MIB)
}

fn disk_map(disk: &Disk) -> String {
    let Disk { size_mib, format } = disk;
    let mut map = Map::default();
    // Always: an empty map would say little.
    map.put(disk::SIZE.name, mebibytes(size_mib));
    map.unless(disk::FORMAT.name, format, &Disk::default().format, |format| {
        format.file_system().unwrap_or("raw").to_owned()
    });
    map.text()
}

/// Names stand where the reader would not give the same.
fn steps_of(steps: &[Step], machine: &MachineSpec) -> impl Iterator<Item = String> {
    let defaults = default_names(steps);
    let mut given: Vec<Option<String>> = vec![None; steps.len()];
    while let Some(index) =
        fill_names(&given, &defaults).iter().zip(steps).position(|(name, step)| *name != step.name)
    {
        given[index] = Some(steps[index].name.clone());
    }
    steps.iter().zip(given).map(|(step, name)| step_map(step, name, machine))
}

fn step_map(one: &Step, given: Option<String>, machine: &MachineSpec) -> String {
    let Step { name: _, action, limit, beside, touches } = one;
    let mut map = Map::default();
    if let Some(name) = given {
        map.put(step::NAME.name, scalar(&name));
    }
    match action {
        Action::Stress { program, args, budget, workers, dir, secure } => {
            map.put(step::STRESS.name, scalar(program));
            put_args(&mut map, step::ARGS_OF_STRESS.name, args);
            match budget {
                Budget::For(time) => map.put(step::FOR.name, print_time(*time)),
                Budget::Ops(ops) => map.put(step::OPS.name, ops),
            }
            map.unless(step::WORKERS.name, workers, &1, u32::to_string);
            if *dir != default_dir(&machine.disks)
                && let Some(word) = word_of_dir(dir)
            {
                map.put(step::DIR.name, word);
            }
            map.unless(step::SECURE.name, secure, &false, bool::to_string);
        }
        Action::Exec { path, sha256: _, args, workers } => {
            map.put(step::EXEC.name, scalar(path.as_str()));
            if !args.is_empty() {
                map.put(step::ARGS_OF_EXEC.name, list(args));
            }
            map.unless(step::WORKERS.name, workers, &1, u32::to_string);
        }
        Action::Write { path, text } => {
            map.put(step::WRITE.name, scalar(path));
            map.put(step::WRITE_TEXT.name, scalar(text));
        }
    }
    map.unless(step::LIMIT.name, limit, &default_limit(action), |limit| print_time(*limit));
    if !beside.is_empty() {
        let beside: Vec<_> = beside.iter().map(interference).collect();
        map.put(step::BESIDE.name, format!("[{}]", beside.join(", ")));
    }
    if !touches.is_empty() {
        let touches: Vec<_> = touches.iter().map(touch_map).collect();
        map.put(step::TOUCHES.name, format!("[{}]", touches.join(", ")));
    }
    map.text()
}

fn put_args(map: &mut Map, name: &str, args: &[(String, ArgValue)]) {
    if !args.is_empty() {
        let mut options = Map::default();
        args.iter().for_each(|(name, value)| options.put(name, arg(value)));
        map.put(name, options.text());
    }
}

fn arg(value: &ArgValue) -> String {
    scalar(&value.to_string())
}

fn interference(one: &Interference) -> String {
    let Interference { program, args, secure } = one;
    let mut map = Map::default();
    map.put(beside::INTERFERENCE.name, scalar(program));
    put_args(&mut map, beside::ARGS.name, args);
    map.unless(beside::SECURE.name, secure, &false, bool::to_string);
    map.text()
}

fn touch_map(touch: &Touch) -> String {
    let Touch { functions: _, least, when } = touch;
    let mut map = Map::default();
    map.put(touch::FUNCTION.name, scalar(&touch.alternatives()));
    map.put(touch::COUNT.name, least);
    put_when(&mut map, touch::WHEN.name, when.as_ref());
    map.text()
}

fn put_when(map: &mut Map, name: &str, when: Option<&Condition>) {
    if let Some(when) = when {
        map.put(name, scalar(&when.to_string()));
    }
}

fn put_pattern(map: &mut Map, pattern: &Pattern) {
    match pattern {
        Pattern::Title(title) => map.put(hit::TITLE.name, scalar(title)),
        Pattern::Fingerprint(fingerprint) => map.put(hit::FINGERPRINT.name, scalar(fingerprint)),
    }
}

fn expectation(expectation: &Expectation) -> String {
    let Expectation { pattern, mended_by, when } = expectation;
    let mut map = Map::default();
    put_pattern(&mut map, pattern);
    if !mended_by.is_empty() {
        map.put(hit::MENDED_BY.name, list(mended_by));
    }
    put_when(&mut map, hit::WHEN.name, when.as_ref());
    map.text()
}

fn known_hit(known: &Known) -> String {
    let Known { pattern, when, reason } = known;
    let mut map = Map::default();
    put_pattern(&mut map, pattern);
    put_when(&mut map, hit::WHEN.name, when.as_ref());
    map.put(hit::REASON.name, scalar(reason));
    map.text()
}

fn matrix_map(matrix: &Matrix) -> String {
    let Matrix { cpus, seeds, freeze_delay, args } = matrix;
    let mut map = Map::default();
    if !cpus.is_empty() {
        map.put(matrix::CPUS.name, list(cpus));
    }
    if !seeds.is_empty() {
        map.put(matrix::SEEDS.name, list(seeds));
    }
    if !freeze_delay.is_empty() {
        map.put(matrix::FREEZE_DELAY.name, list(freeze_delay.iter().map(|delay| print_time(*delay))));
    }
    if !args.is_empty() {
        let of_step = |axes: &[ArgAxis]| {
            let mut options = Map::default();
            axes.iter().for_each(|ArgAxis { step: _, arg: name, values }| {
                options.put(name, list(values));
            });
            options.text()
        };
        let mut steps = Map::default();
        args.chunk_by(|a, b| a.step == b.step).for_each(|axes| steps.put(&axes[0].step, of_step(axes)));
        map.put(matrix::ARGS.name, steps.text());
    }
    map.text()
}
