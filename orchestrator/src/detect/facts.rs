//! What the lines of a report say, taken out line by line.

use super::anatomy::{Part, location, part, symbol};
use super::hit::{Frame, Kind, Task};
use super::openings::Opening;
use super::rules::{Ends, PROGRAM_CHECK, Rule, SLAB};

const FRAME_LIMIT: usize = 128;
/// PSW, its flags, and 16 registers in fours.
const REGISTER_LIMIT: usize = 6;

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) rule: &'static Rule,
    pub(super) opening: Opening,
    /// The line that says that the report ends here has come.
    pub(super) ended: bool,
    /// `STRING: CODE ilc:...` has come.
    died: bool,
    pub(super) panicked: bool,
    /// Of the first call trace.
    pub(super) frames: Vec<Frame>,
    pub(super) psw: Option<String>,
    /// The PSW is known, and lies in no function.
    pub(super) astray: bool,
    /// Where the CPU last branched from.
    pub(super) branch: Option<String>,
    pub(super) registers: Vec<String>,
    pub(super) task: Option<Task>,
    pub(super) failing_address: Option<u64>,
    /// ` Read` or ` Write`.
    pub(super) access: &'static str,
    /// Where the lock in question was taken.
    pub(super) lock: Option<String>,
    /// What the workqueue in question is at.
    pub(super) work: Option<String>,
    /// What took the page in question to a device, by its history.
    pub(super) handed_on_by: Option<String>,
    trace: Trace,
    reading_registers: bool,
    reading_branch: bool,
    /// Another CPU prints what a process died of, in lines much like a report's.
    reading_user_fault: bool,
}

/// How far the first call trace has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    Awaited,
    Reading,
    Read,
}

/// Whether a line is surely of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belongs {
    Surely,
    Perhaps,
}

impl Facts {
    pub(super) fn new(rule: &'static Rule, opening: Opening) -> Self {
        Self {
            rule,
            task: opening.task.clone(),
            opening,
            ended: false,
            died: std::ptr::eq(rule, &PROGRAM_CHECK),
            panicked: rule.kind == Kind::Panic,
            frames: Vec::new(),
            psw: None,
            astray: false,
            branch: None,
            registers: Vec::new(),
            failing_address: None,
            access: "",
            lock: None,
            work: None,
            handed_on_by: None,
            trace: Trace::Awaited,
            reading_registers: false,
            reading_branch: false,
            reading_user_fault: false,
        }
    }

    /// Nothing that matters is missing.
    pub(super) fn is_complete(&self) -> bool {
        match self.rule.ends {
            Ends::Line => true,
            // Where the kernel panics on a warning, the warning's own end never comes.
            Ends::Mark | Ends::Ruler => self.ended || (self.panicked && self.has_trace()),
            Ends::Trace | Ends::Prose => self.ended || self.has_trace(),
        }
    }

    /// A trace may be empty: where a stack has overflowed, nothing is on it that could be shown.
    fn has_trace(&self) -> bool {
        !self.frames.is_empty() || self.trace == Trace::Read
    }

    /// A BUG's or a fault's program check is announced in a line of its own.
    pub(super) fn awaits_program_check(&self) -> bool {
        matches!(self.rule.kind, Kind::Bug | Kind::Oops) && !self.died && !self.ended
    }

    /// mm/slub.c has its call trace printed by a warning, in newer kernels.
    pub(super) fn awaits_warning(&self) -> bool {
        self.rule.title == SLAB && self.frames.is_empty() && !self.ended
    }

    pub(super) fn die(&mut self, opening: Opening) {
        self.died = true;
        // A BUG is a monitor event, and a fault's first line says more than "Oops".
        if self.rule.kind == Kind::Oops && opening.words.as_deref().is_some_and(|words| words != "Oops") {
            self.opening.words = opening.words;
        }
        self.opening.code = opening.code.or(self.opening.code);
    }

    /// Takes out what a line says.
    pub(super) fn read(&mut self, text: &str) -> Belongs {
        if self.is_of_user_fault(text) {
            return Belongs::Perhaps;
        }
        let part = part(text);
        if self.reading_registers {
            match part {
                Part::Code | Part::Trace => self.reading_registers = false,
                _ if text.starts_with(' ') || text.starts_with("Krnl GPRS") => self.add_register(text),
                _ => {}
            }
        }
        match part {
            Part::Trace => match self.trace {
                Trace::Awaited => self.trace = Trace::Reading,
                Trace::Reading | Trace::Read => self.trace = Trace::Read,
            },
            Part::Frame(frame) => {
                if std::mem::take(&mut self.reading_branch) {
                    self.branch.get_or_insert(frame.function);
                } else if self.trace == Trace::Reading && self.frames.len() < FRAME_LIMIT {
                    self.frames.push(frame);
                }
            }
            Part::Psw(function) => {
                self.end_trace();
                if self.registers.is_empty() {
                    self.psw = function.map(str::to_owned);
                    self.astray = function.is_none();
                    self.add_register(text);
                    self.reading_registers = true;
                }
            }
            Part::Task(task) => {
                self.end_trace();
                // Only this line names the CPU too.
                if self.task.as_ref().is_none_or(|known| known.cpu.is_none() && known.pid == task.pid) {
                    self.task = Some(task);
                }
            }
            Part::End => self.ended = true,
            Part::Ruler => self.ended |= self.rule.ends == Ends::Ruler,
            Part::Detail => self.read_detail(text),
            Part::Code => {}
            Part::Other => return self.read_prose(text),
        }
        Belongs::Surely
    }

    /// arch/s390/mm/fault.c: report_user_fault(), up to the address of the last branch.
    fn is_of_user_fault(&mut self, text: &str) -> bool {
        const LINES: [&str; 8] = [
            " ",
            "Failing address:",
            "Fault in ",
            "AS:",
            "CPU: ",
            "Hardware name:",
            "User ",
            "Last Breaking-Event-Address:",
        ];
        let begins = text.starts_with("User process fault: ");
        self.reading_user_fault =
            begins || self.reading_user_fault && LINES.iter().any(|line| text.starts_with(line));
        self.reading_user_fault
    }

    fn add_register(&mut self, text: &str) {
        if self.registers.len() < REGISTER_LIMIT {
            self.registers.push(text.trim_end().to_owned());
        }
    }

    fn end_trace(&mut self) {
        if self.trace == Trace::Reading && !self.frames.is_empty() {
            self.trace = Trace::Read;
        }
    }

    fn read_detail(&mut self, text: &str) {
        if let Some(address) = text.strip_prefix("Failing address: ") {
            let address = address.split(' ').next().unwrap_or_default();
            self.failing_address = u64::from_str_radix(address, 16).ok();
        }
        self.reading_branch = text.starts_with("Last Breaking-Event-Address:");
        if self.reading_branch && self.trace == Trace::Reading {
            self.trace = Trace::Read;
        }
        if text.starts_with("Read of size ") {
            self.access = " Read";
        } else if text.starts_with("Write of size ") {
            self.access = " Write";
        }
        // Indented lines, such as `<TASK>`, stand in traces; others end them.
        if !text.starts_with(' ') {
            self.end_trace();
        }
        self.read_prose(text);
        if self.work.is_none()
            && let Some((_, works)) = text.split_once("in-flight: ")
            && let Some((_, work)) = works.split_once(':')
        {
            let end = work.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(work.len());
            self.work = Some(work[..end].to_owned()).filter(|work| !work.is_empty());
        }
    }

    /// Text whose form no one knows is of the report where the rule allows it.
    fn read_prose(&mut self, text: &str) -> Belongs {
        if self.rule.kind == Kind::Lockdep {
            if self.lock.is_none()
                && let Some((_, place)) = text.split_once("at: ")
            {
                let place = place.split_once(">] ").map_or(place, |(_, place)| place);
                self.lock = symbol(place).map(|symbol| symbol.name.to_owned());
            }
            if self.opening.location.is_none() && text.contains(" suspicious rcu_") {
                self.opening.location = text.split(' ').next().and_then(location);
            }
        }
        match self.rule.ends {
            Ends::Ruler => Belongs::Surely,
            Ends::Prose if self.trace == Trace::Awaited => Belongs::Surely,
            Ends::Mark | Ends::Trace | Ends::Prose | Ends::Line => Belongs::Perhaps,
        }
    }
}
