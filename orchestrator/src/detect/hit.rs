//! A hit: one complaint about the kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::symbol::slug;
use crate::console::lines::Micros;
use crate::escape::escape;

/// What a hit complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Warning,
    Bug,
    /// The kernel took a program check it has no fixup for: page faults, illegal operation, and the like.
    Oops,
    Panic,
    BadPage,
    HungTask,
    RcuStall,
    SoftLockup,
    WorkqueueLockup,
    /// Deadlocks, lock misuse, suspicious RCU usage.
    Lockdep,
    SleepingInAtomic,
    SchedulingWhileAtomic,
    Kasan,
    Kfence,
    Ubsan,
    ListCorruption,
    Refcount,
    /// A stress program read other data than it wrote.
    Data,
    /// The guest fell silent.
    Hang,
}

impl Kind {
    /// Nothing that the guest does after such a hit can be trusted.
    pub fn corrupts_memory(self) -> bool {
        use Kind::*;
        match self {
            Bug | Oops | Panic | BadPage | Kasan | Kfence | ListCorruption | Refcount => true,
            Warning
            | HungTask
            | RcuStall
            | SoftLockup
            | WorkqueueLockup
            | Lockdep
            | SleepingInAtomic
            | SchedulingWhileAtomic
            | Ubsan
            | Data
            | Hang => false,
        }
    }

    /// The guest does not live on after such a hit. See also [`Hit::ends_the_guest`].
    pub fn ends_the_guest(self) -> bool {
        matches!(self, Kind::Panic | Kind::Hang)
    }

    /// The word used in fingerprints, fixtures and JSON.
    pub fn as_str(self) -> &'static str {
        use Kind::*;
        match self {
            Warning => "warning",
            Bug => "bug",
            Oops => "oops",
            Panic => "panic",
            BadPage => "bad-page",
            HungTask => "hung-task",
            RcuStall => "rcu-stall",
            SoftLockup => "soft-lockup",
            WorkqueueLockup => "workqueue-lockup",
            Lockdep => "lockdep",
            SleepingInAtomic => "sleeping-in-atomic",
            SchedulingWhileAtomic => "scheduling-while-atomic",
            Kasan => "kasan",
            Kfence => "kfence",
            Ubsan => "ubsan",
            ListCorruption => "list-corruption",
            Refcount => "refcount",
            Data => "data",
            Hang => "hang",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `KIND:FUNCTION:FILE`, as far as known: `warning:try_grab_page:mm/gup.c`.
///
/// Never a line number, address, offset or CPU, so that it holds across builds. A report that names no
/// function has its words in that place: `panic:sysrq-triggered-crash`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub(super) fn new(kind: Kind, parts: &[&str]) -> Self {
        let mut text = kind.as_str().to_owned();
        for part in parts {
            text.push(':');
            text.push_str(part);
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the unwinder vouches for a frame. s390 prints the others in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reliability {
    Reliable,
    Unreliable,
}

/// One line of a call trace: `function+offset/size [module]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// As printed, with suffixes such as `.constprop.0`.
    pub function: String,
    pub offset: u64,
    pub size: u64,
    pub module: Option<String>,
    pub reliability: Reliability,
}

/// Where in the source a WARN or BUG stands. The line is for people; it moves between builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLocation {
    /// Relative to the kernel's tree, where that can be told.
    pub file: String,
    pub line: u32,
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What ran when the report was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub comm: String,
    pub pid: u32,
    pub cpu: Option<u32>,
}

/// Which of a guest's streams a hit was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    Console,
    Kmsg,
    /// The stress programs' results.
    Results,
    /// QEMU's monitor.
    Monitor,
}

/// One complaint about the kernel. All text is safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    pub kind: Kind,
    pub title: String,
    pub fingerprint: Fingerprint,
    /// The function that title and fingerprint name.
    pub frame: Option<String>,
    /// The first call trace of the report.
    pub frames: Vec<Frame>,
    pub location: Option<SourceLocation>,
    /// The lines of the PSW and the general registers.
    pub registers: Vec<String>,
    pub task: Option<Task>,
    /// Of the report's first line.
    pub at: Option<Micros>,
    pub sequence: Option<u64>,
    pub stream: Stream,
    /// Byte offsets in the stream: of the report's first byte, and of the byte behind its last.
    pub start: u64,
    pub end: u64,
    /// The number of its first line, in a stream that has lines.
    #[serde(default)]
    pub line: Option<u64>,
    pub text: String,
    /// The report is not all there.
    pub truncated: bool,
    /// A panic followed, which is part of this report.
    pub panicked: bool,
}

impl Hit {
    /// Nothing more will come from the guest after this.
    pub fn ends_the_guest(&self) -> bool {
        self.panicked || self.kind.ends_the_guest()
    }

    /// A stress program's failed data check, such as `pattern` on path `file-pipe-socket` of `splice`.
    pub fn data(program: &str, path: &str, check: &str) -> Self {
        let [program, path, check] = [program, path, check].map(|word| escape(word.as_bytes()));
        Self {
            title: format!("wrong data in {program}: {check} check failed on {path}"),
            fingerprint: Fingerprint::new(Kind::Data, &[&slug(&program), &slug(&path), &slug(&check)]),
            ..Self::bare(Kind::Data, Stream::Results)
        }
    }

    /// A guest that fell silent with its CPU in the function `symbol`.
    pub fn hang(symbol: &str) -> Self {
        let symbol = escape(symbol.as_bytes());
        Self {
            title: format!("hang in {symbol}"),
            fingerprint: Fingerprint::new(Kind::Hang, &[&slug(&symbol)]),
            frame: Some(symbol),
            ..Self::bare(Kind::Hang, Stream::Monitor)
        }
    }

    /// A guest that gave up without a word of why.
    pub fn silent_panic() -> Self {
        let title = "kernel panic: nothing was printed".to_owned();
        let fingerprint = Fingerprint::new(Kind::Panic, &["silent"]);
        Self { title, fingerprint, ..Self::bare(Kind::Panic, Stream::Monitor) }
    }

    /// The same hit, with a report for people.
    #[must_use]
    pub fn with_text(self, text: &str) -> Self {
        let text = text.lines().map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n");
        Self { text, ..self }
    }

    /// A hit of which only the kind is known.
    pub(super) fn bare(kind: Kind, stream: Stream) -> Self {
        Self {
            kind,
            title: String::new(),
            fingerprint: Fingerprint::new(kind, &[]),
            frame: None,
            frames: Vec::new(),
            location: None,
            registers: Vec::new(),
            task: None,
            at: None,
            sequence: None,
            stream,
            start: 0,
            end: 0,
            line: None,
            text: String::new(),
            truncated: false,
            panicked: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_of_other_modules_are_keyed_by_what_they_name() {
        let data = Hit::data("splice", "file-pipe-socket", "pattern");
        assert_eq!(data.fingerprint.as_str(), "data:splice:file-pipe-socket:pattern");
        assert_eq!(data.title, "wrong data in splice: pattern check failed on file-pipe-socket");
        let hang = Hit::hang("_raw_spin_lock");
        assert_eq!(
            (hang.fingerprint.as_str(), hang.title.as_str()),
            ("hang:_raw_spin_lock", "hang in _raw_spin_lock")
        );
        assert!(hang.ends_the_guest());
        assert_eq!(Hit::data("a\x1b", "b c", "d").fingerprint.as_str(), r"data:a-x1b:b-c:d");
    }

    #[test]
    fn json_uses_the_words_of_the_documentation() {
        let json = serde_json::to_value(Hit::hang("f")).unwrap();
        assert_eq!(json["kind"], "hang");
        assert_eq!(json["fingerprint"], "hang:f");
        assert_eq!(json["stream"], "monitor");
        assert_eq!(serde_json::from_value::<Hit>(json).unwrap(), Hit::hang("f"));
        for kind in [Kind::WorkqueueLockup, Kind::SchedulingWhileAtomic, Kind::ListCorruption] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
