//! What the first line of a report says.
//!
//! All functions take text that [`crate::escape`] has made safe, and give nothing back where the
//! line has not the form after all.

use super::anatomy::{location, symbol};
use super::hit::{SourceLocation, Task};

/// What the opening line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// Replaces the rule's title.
    pub(super) words: Option<String>,
    pub(super) function: Option<String>,
    pub(super) location: Option<SourceLocation>,
    pub(super) task: Option<Task>,
    /// Stands in the fingerprint in the place of the source file.
    pub(super) key: Option<String>,
    /// The program interruption code, Principles of Operation, "Interruption Codes".
    pub(super) code: Option<u16>,
}

pub(super) fn as_is(_: &str) -> Option<Opening> {
    Some(Opening::default())
}

/// Three forms of __warn(): `WARNING: CPU: 1 PID: 96 at FILE:LINE FUNCTION`; since 6.18
/// `WARNING: [CONDITION] FILE:LINE at FUNCTION, CPU#1: COMM/PID`; and either without `FILE:LINE`.
pub(super) fn warning(text: &str) -> Option<Opening> {
    let text = text.strip_prefix("WARNING: ")?;
    if let Some(rest) = text.strip_prefix("CPU: ") {
        let (cpu, rest) = rest.split_once(" PID: ")?;
        let (pid, place) = rest.split_once(" at ")?;
        if [cpu, pid].iter().any(|number| number.parse::<u32>().is_err()) {
            return None;
        }
        let (location, function) = match place.split_once(' ') {
            Some((file, function)) if location(file).is_some() => (location(file), function),
            _ => (None, place),
        };
        let function = Some(symbol(function)?.name.to_owned());
        return Some(Opening { location, function, ..Opening::default() });
    }
    let (place, task) = text.rsplit_once(", CPU#")?;
    let (cpu, task) = task.split_once(": ")?;
    let (comm, pid) = task.rsplit_once('/')?;
    let (before, function) = place.rsplit_once("at ")?;
    let file = before.rsplit(' ').find(|word| !word.is_empty());
    Some(Opening {
        location: file.and_then(location),
        function: Some(symbol(function)?.name.to_owned()),
        task: Some(Task {
            comm: comm.to_owned(),
            pid: pid.trim_end().parse().ok()?,
            cpu: Some(cpu.parse().ok()?),
        }),
        ..Opening::default()
    })
}

/// `kernel BUG at FILE:LINE!`, or `Kernel BUG at FUNCTION [verbose debug info unavailable]`.
pub(super) fn bug(text: &str) -> Option<Opening> {
    let place = text.get("kernel BUG at ".len()..)?;
    if let Some(symbol) = symbol(place) {
        return Some(Opening { function: Some(symbol.name.to_owned()), ..Opening::default() });
    }
    let file = place.trim_end().strip_suffix('!')?.rsplit(' ').next()?;
    Some(Opening { location: Some(location(file)?), ..Opening::default() })
}

pub(super) fn program_check(text: &str) -> Option<Opening> {
    let (before, rest) = text.split_once(" ilc:")?;
    let (string, code) = before.rsplit_once(": ")?;
    let code =
        Some(code).filter(|code| code.len() == 4).and_then(|code| u16::from_str_radix(code, 16).ok())?;
    let form = rest.contains(" [#");
    form.then(|| Opening { words: Some(string.to_owned()), code: Some(code), ..Opening::default() })
}

pub(super) fn panic(text: &str) -> Option<Opening> {
    let (_, why) = text.split_once("not syncing")?;
    let why = why.trim_start_matches(':').trim();
    Some(Opening { words: Some(format!("kernel panic: {}", without_numbers(why))), ..Opening::default() })
}

/// Numbers become NUM and addresses ADDR, where they stand as words of their own.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_').len();
        let (word, separator) = word.split_at(end);
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex && (word.len() > digits.len() || digits.len() >= 8) {
            out.push_str("ADDR");
        } else if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push_str("NUM");
        } else {
            out.push_str(word);
        }
        out.push_str(separator);
    }
    out
}

/// `INFO: task COMM:PID blocked ...`
pub(super) fn hung(text: &str) -> Option<Opening> {
    let (who, _) = text.strip_prefix("INFO: task ")?.split_once(" blocked ")?;
    let (comm, pid) = who.trim_end_matches(" is").rsplit_once(':')?;
    let task = Task { comm: comm.to_owned(), pid: pid.parse().ok()?, cpu: None };
    Some(Opening { task: Some(task), ..Opening::default() })
}

/// `... CPU#0 stuck for 22s! [COMM:PID]`
pub(super) fn lockup(text: &str) -> Option<Opening> {
    let (cpu, rest) = text.split_once("CPU#")?.1.split_once(" stuck for ")?;
    let (comm, pid) = rest.split_once('[')?.1.split_once(']')?.0.rsplit_once(':')?;
    let task = Task { comm: comm.to_owned(), pid: pid.parse().ok()?, cpu: cpu.parse().ok() };
    Some(Opening { task: Some(task), ..Opening::default() })
}

/// `... at FILE:LINE`
pub(super) fn at_place(text: &str) -> Option<Opening> {
    Some(Opening { location: location(text.rsplit_once(" at ")?.1.trim_end()), ..Opening::default() })
}

/// `BUG: KASAN: slab-use-after-free in FUNCTION`
pub(super) fn sanitizer(text: &str) -> Option<Opening> {
    let report = text.strip_prefix("BUG: ")?;
    let (what, place) = report.rsplit_once(" in ").unwrap_or((report, ""));
    let function = symbol(place).map(|symbol| symbol.name.to_owned());
    Some(Opening { words: Some(what.trim_end().to_owned()), function, ..Opening::default() })
}

/// `UBSAN: array-index-out-of-bounds in FILE:LINE:COLUMN`
pub(super) fn ubsan(text: &str) -> Option<Opening> {
    let (what, place) = text.rsplit_once(" in ")?;
    let location = Some(location(place.trim_end())?);
    Some(Opening { words: Some(what.to_owned()), location, ..Opening::default() })
}

/// `BUG kmalloc-64 (Tainted: G B): Poison overwritten`. The cache's name and size are not the bug's identity.
pub(super) fn slub(text: &str) -> Option<Opening> {
    let (before, what) = text.split_once("): ")?;
    let cache = before.strip_prefix("BUG ")?.split(" (").next()?;
    let what = what.trim_end().replace(&format!(" in {cache} on "), " on ");
    Some(Opening { words: Some(format!("BUG: slab corruption ({what})")), ..Opening::default() })
}

/// What mm/slub.c says of whatever it has found, where it has said before what that is.
pub(super) const SLUB_ANY: &str = "Object corrupt";

/// `[Poison overwritten] 0x...-0x... @offset=1296. ...`, somewhere in the lines before a report.
pub(super) fn slub_finding(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (what, place) = line.strip_prefix('[')?.split_once("] 0x")?;
        place.contains(" @offset=").then_some(what)
    })
}

/// `WARNING: ... at mm/slub.c:1124 object_err+...`: the same report's call trace (mm/slub.c: object_err(), slab_err()).
pub(super) fn is_slub_warning(opening: &Opening) -> bool {
    match &opening.location {
        Some(location) => location.file == "mm/slub.c",
        None => matches!(opening.function.as_deref(), Some("object_err" | "slab_err" | "__slab_err")),
    }
}
