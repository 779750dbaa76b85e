//! The steps of a scenario.

use std::time::Duration;

use camino::Utf8Path;

use super::check::EmulatedOnly;
use super::emulation::{DISK, DISK_DIRECTORY};
use super::executable::{ReadFile, read_executable};
use super::fields::{
    BESIDE, Dir, EXEC_STEP, LIMIT_BEYOND_FOR, LIMIT_OTHERWISE, STRESS_STEP, TOUCH, WRITE_STEP, beside,
    machine, scenario, step, touch,
};
use super::problem::{Problems, did_you_mean, quote, suggest};
use super::programs::{Catalog, Program};
use super::read::{At, Group, map, value};
use super::tree::{Key, Node};
use super::{Action, ArgValue, Budget, Disk, Interference, SHARE_DIRECTORY, Step, Touch};

/// The guest's tmpfs.
const TMP: &str = "/tmp";
/// What a `write` step is called.
const WRITE: &str = "write";

/// What steps are checked against.
pub(crate) struct Steps<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) files: &'a dyn ReadFile,
    pub(crate) disks: &'a [Disk],
    /// Whether the machine has one.
    pub(crate) share: bool,
    /// Those that the scenario names.
    pub(crate) modules: &'a [String],
    pub(crate) emulated: EmulatedOnly<'a>,
    pub(crate) problems: &'a Problems,
}

/// A step whose name is not settled yet.
struct Unnamed {
    name: Option<At<String>>,
    /// The name if none is given and it is free.
    default: String,
    action: Action,
    limit: Duration,
    beside: Vec<Interference>,
    touches: Vec<Touch>,
}

pub(crate) fn read(nodes: &[Node], context: Steps<'_>) -> Vec<Step> {
    let steps = nodes.iter().filter_map(|node| context.step(node)).collect();
    name_all(steps, context.problems)
}

impl Steps<'_> {
    fn step(&self, node: &Node) -> Option<Unnamed> {
        let entries = map(node, "a step", self.problems)?;
        let given = |action: &str| entries.iter().any(|(key, _)| key.name == action);
        match step::ACTIONS.map(given) {
            [true, false, false] => self.stress(Group::open(node, &STRESS_STEP, self.problems)?),
            [false, true, false] => self.exec(Group::open(node, &EXEC_STEP, self.problems)?),
            [false, false, true] => self.write(Group::open(node, &WRITE_STEP, self.problems)?),
            _ => {
                let near = |(key, _): &(Key, Node)| did_you_mean(&key.name, step::ACTIONS);
                let hint =
                    entries.iter().filter(|(key, _)| !step::ACTIONS.contains(&&*key.name)).find_map(near);
                let message = format!("{}: expected {}", scenario::STEPS.name, scenario::STEPS.shape.of);
                self.problems.report(node.at, message, hint);
                None
            }
        }
    }

    fn stress(&self, group: Group<'_>) -> Option<Unnamed> {
        let name = group.scalar(&step::NAME);
        let program = group
            .scalar(&step::STRESS)
            .and_then(|name| self.program(name, "stress program", self.catalog.programs()));
        let args = program.map(|program| self.args(program, group.free(&step::ARGS_OF_STRESS)));
        let budget = self.budget(&group);
        let workers = group.scalar(&step::WORKERS);
        let dir = match program {
            Some(program) if program.share_only => self.share(program, &group),
            _ => self.dir(&group),
        };
        let secure = group.scalar(&step::SECURE);
        if let Some(At { at, value: true }) = secure {
            self.emulated.check(at, step::SECURE.name);
        }
        if let (Some(program), Some(At { at, value: false })) = (program, &secure)
            && program.secure_only
        {
            let message = format!("{} has nothing to do without `secure: true`", program.name);
            self.problems.report(*at, message, None);
        }
        if let Some(program) = program {
            self.modules(program, &group);
        }
        let limit = group.scalar(&step::STRESS_LIMIT);
        let limit = match (budget, limit) {
            (Some(Budget::For(time)), Some(limit)) if limit.value < time => {
                self.problems.report(limit.at, "limit: shorter than `for`", None);
                None
            }
            (_, Some(limit)) => Some(limit.value),
            (budget, None) => Some(limit_of_budget(budget)),
        };
        let (beside, touches) = (self.beside(&group), self.touches(&group));
        let program = program?.name.clone();
        let action = Action::Stress {
            program: program.clone(),
            args: args?,
            budget: budget?,
            workers: count(workers)?,
            dir: dir?,
            secure: secure?.value,
        };
        Some(Unnamed { name, default: program, action, limit: limit?, beside, touches })
    }

    fn modules(&self, program: &Program, group: &Group<'_>) {
        let lacking: Vec<&str> = program
            .modules
            .iter()
            .filter(|module| !self.modules.contains(module))
            .map(String::as_str)
            .collect();
        if !lacking.is_empty() {
            let message =
                format!("{} has nothing to do without `modules: [{}]`", program.name, lacking.join(", "));
            self.problems.report(group.at, message, None);
        }
    }

    fn program<'p>(&self, name: At<String>, kind: &str, programs: &'p [Program]) -> Option<&'p Program> {
        let found = programs.iter().find(|program| program.name == name.value);
        if found.is_none() {
            let names = programs.iter().map(|program| program.name.as_str());
            let message = format!("unknown {kind} {}", quote(&name.value));
            self.problems.report(name.at, message, suggest(&name.value, names));
        }
        found
    }

    fn args(&self, program: &Program, entries: &[(Key, Node)]) -> Vec<(String, ArgValue)> {
        let mut args = Vec::new();
        for (key, node) in entries {
            let Some(arg) = program.option(key, self.problems) else { continue };
            let Some(set) = value(node, &key.name, arg, self.problems) else { continue };
            args.push((key.name.clone(), set.value));
        }
        // The order of keys in the file means nothing, so it must not reach the cell's id.
        args.sort_by(|(a, _), (b, _)| a.cmp(b));
        args
    }

    fn budget(&self, group: &Group<'_>) -> Option<Budget> {
        match (group.node(step::FOR.name), group.node(step::OPS.name)) {
            (Some(_), None) => group.scalar(&step::FOR).map(|time| Budget::For(time.value)),
            (None, Some(_)) => group.scalar(&step::OPS).map(|ops| Budget::Ops(ops.value)),
            _ => {
                let hint = "as in `for: 3s` or `ops: 1000`".to_owned();
                self.problems.report(
                    group.at,
                    "a stress step needs `for` or `ops`, and not both",
                    Some(hint),
                );
                None
            }
        }
    }

    fn dir(&self, group: &Group<'_>) -> Option<String> {
        let formatted = |disk: &Disk| disk.format.file_system().is_some();
        if group.node(step::DIR.name).is_none() {
            return Some(default_dir(self.disks));
        }
        let dir = group.scalar(&step::DIR)?;
        match dir.value {
            Dir::Tmp => Some(TMP.to_owned()),
            Dir::Uvsinkb => {
                self.emulated.check(dir.at, "dir: uvsinkb");
                Some(DISK_DIRECTORY.to_owned())
            }
            Dir::Disk(index) if self.disks.get(index).is_some_and(formatted) => Some(format!("/mnt/{index}")),
            Dir::Disk(index) => {
                let what = if index < self.disks.len() { "is not formatted" } else { "does not exist" };
                let hint = "machine.disks lists the disks, counted from 0".to_owned();
                self.problems.report(dir.at, format!("dir: disk{index} {what}"), Some(hint));
                None
            }
        }
    }

    /// The directory of a program that only reads the machine's share.
    fn share(&self, program: &Program, group: &Group<'_>) -> Option<String> {
        if let Some(node) = group.node(step::DIR.name) {
            let message =
                format!("dir: {} reads the machine's share, and has no files of its own", program.name);
            self.problems.report(node.at, message, None);
        }
        if !self.share {
            let hint = format!("add `{}: true` to `{}`", machine::SHARE.name, scenario::MACHINE.name);
            let message = format!("{} reads the machine's share, and there is none", program.name);
            self.problems.report(group.at, message, Some(hint));
        }
        Some(SHARE_DIRECTORY.to_owned())
    }

    fn exec(&self, group: Group<'_>) -> Option<Unnamed> {
        let name = group.scalar(&step::NAME);
        let executable = group.scalar(&step::EXEC).and_then(|path| {
            let read = read_executable(self.files, Utf8Path::new(&path.value));
            read.map_err(|error| {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                self.problems.report(path.at, format!("exec: {error}"), reason.or_else(|| error.hint()));
            })
            .ok()
        });
        let args = group.list(&step::ARGS_OF_EXEC).into_iter().map(|arg| arg.value).collect();
        let workers = group.scalar(&step::WORKERS);
        let (beside, touches) = (self.beside(&group), self.touches(&group));
        let limit = limit(&group)?;
        let executable = executable?;
        let default = name_of_program(&executable.path);
        let action =
            Action::Exec { path: executable.path, sha256: executable.sha256, args, workers: count(workers)? };
        Some(Unnamed { name, default, action, limit, beside, touches })
    }

    fn beside(&self, group: &Group<'_>) -> Vec<Interference> {
        let read = |node| {
            let group = Group::open(node, &BESIDE, self.problems)?;
            let name = group.scalar(&beside::INTERFERENCE)?;
            let program = self.program(name, "interference", self.catalog.interference())?;
            let args = self.args(program, group.free(&beside::ARGS));
            let secure = group.scalar(&beside::SECURE)?;
            if secure.value {
                self.emulated.check(secure.at, beside::SECURE.name);
            }
            Some(Interference { program: program.name.clone(), args, secure: secure.value })
        };
        group.groups(&step::BESIDE).iter().filter_map(read).collect()
    }

    fn touches(&self, group: &Group<'_>) -> Vec<Touch> {
        let read = |node| {
            let group = Group::open(node, &TOUCH, self.problems)?;
            let (functions, least) = (group.scalar(&touch::FUNCTION), group.scalar(&touch::COUNT));
            let when = group.scalar(&touch::WHEN).map(|when| when.value);
            Some(Touch { functions: functions?.value, least: least?.value, when })
        };
        group.groups(&step::TOUCHES).iter().filter_map(read).collect()
    }

    fn write(&self, group: Group<'_>) -> Option<Unnamed> {
        let name = group.scalar(&step::NAME);
        let path = group.scalar(&step::WRITE);
        let text = group.scalar(&step::WRITE_TEXT);
        let limit = limit(&group)?;
        let action = Action::Write { path: path?.value, text: text?.value };
        let (beside, touches) = (Vec::new(), Vec::new());
        Some(Unnamed { name, default: WRITE.to_owned(), action, limit, beside, touches })
    }
}

fn limit(group: &Group<'_>) -> Option<Duration> {
    match group.node(step::LIMIT.name) {
        Some(_) => group.scalar(&step::LIMIT).map(|limit| limit.value),
        None => Some(LIMIT_OTHERWISE),
    }
}

fn count(workers: Option<At<u64>>) -> Option<u32> {
    workers.and_then(|workers| u32::try_from(workers.value).ok())
}

fn limit_of_budget(budget: Option<Budget>) -> Duration {
    match budget {
        Some(Budget::For(time)) => time + LIMIT_BEYOND_FOR,
        Some(Budget::Ops(_)) | None => LIMIT_OTHERWISE,
    }
}

/// The limit where a step gives none.
pub(crate) fn default_limit(action: &Action) -> Duration {
    match action {
        Action::Stress { budget, .. } => limit_of_budget(Some(*budget)),
        Action::Exec { .. } | Action::Write { .. } => LIMIT_OTHERWISE,
    }
}

/// Where a stress program's files go where its step does not say.
pub(crate) fn default_dir(disks: &[Disk]) -> String {
    let first = disks.iter().position(|disk| disk.format.file_system().is_some());
    first.map_or_else(|| TMP.to_owned(), |index| format!("/mnt/{index}"))
}

/// The word of `dir` for a directory of the guest; none for the share, which its program has by itself.
pub(crate) fn word_of_dir(dir: &str) -> Option<String> {
    match dir {
        TMP => Some("tmp".to_owned()),
        DISK_DIRECTORY => Some(DISK.to_owned()),
        SHARE_DIRECTORY => None,
        _ => dir.strip_prefix("/mnt/").map(|number| format!("disk{number}")),
    }
}

/// What steps are called where that is free and they give no name.
pub(crate) fn default_names(steps: &[Step]) -> Vec<String> {
    let default = |step: &Step| match &step.action {
        Action::Stress { program, .. } => program.clone(),
        Action::Exec { path, .. } => name_of_program(path),
        Action::Write { .. } => WRITE.to_owned(),
    };
    steps.iter().map(default).collect()
}

fn name_of_program(path: &Utf8Path) -> String {
    default_name(path.file_stem().unwrap_or_default())
}

/// A file's name as the name of a step.
fn default_name(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().take(56).map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "exec".to_owned() } else { name.to_owned() }
}

/// Given names stand as they are, each once; the others get a number where their default is taken.
fn name_all(steps: Vec<Unnamed>, problems: &Problems) -> Vec<Step> {
    let given: Vec<_> = steps.iter().map(|step| step.name.as_ref()).collect();
    for (index, name) in given.iter().enumerate() {
        if let Some(At { at, value }) = name
            && given[..index].iter().flatten().any(|earlier| earlier.value == *value)
        {
            problems.report(*at, format!("two steps have the name {}", quote(value)), None);
        }
    }
    let given: Vec<_> = given.into_iter().map(|name| name.map(|name| name.value.clone())).collect();
    let defaults: Vec<_> = steps.iter().map(|step| step.default.clone()).collect();
    let names = fill_names(&given, &defaults);
    let named = |(Unnamed { action, limit, beside, touches, .. }, name)| Step {
        name,
        action,
        limit,
        beside,
        touches,
    };
    steps.into_iter().zip(names).map(named).collect()
}

/// The names of all steps, from those that are given.
pub(crate) fn fill_names(given: &[Option<String>], defaults: &[String]) -> Vec<String> {
    let mut taken: Vec<String> = given.iter().flatten().cloned().collect();
    let mut names = Vec::new();
    for (given, default) in given.iter().zip(defaults) {
        names.push(given.clone().unwrap_or_else(|| {
            let numbered = (2..).map(|number| format!("{default}-{number}"));
            let name = std::iter::once(default.clone()).chain(numbered).find(|name| !taken.contains(name));
            let name = name.unwrap_or_else(|| default.clone());
            taken.push(name.clone());
            name
        }));
    }
    names
}
