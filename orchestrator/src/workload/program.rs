//! The output of one stress program: KTAP tests, `# farm-data` and `# farm-stats` lines.

use serde::{Deserialize, Serialize};

/// How many tests, paths and failures of one program are kept: no program of ours has so many, and a guest
/// that invents them must not fill farm's memory.
const MOST_ENTRIES: usize = 256;
/// Bytes of a name, of a reason and of what is told of a failure, that are kept. Ours are shorter.
const LONGEST_NAME: usize = 256;
const LONGEST_DETAIL: usize = 4096;
/// Exit statuses of a program of which a test failed, and of one that could test nothing here (docs/guest-protocol.md).
pub(super) const EXIT_FAILED: i32 = 1;
pub(super) const EXIT_ALL_SKIPPED: i32 = 4;
/// How many of the last lines are kept for people to read.
const MOST_LINES: usize = 40;

/// What one worker's program reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramReport {
    pub tests: Vec<Test>,
    pub stats: Vec<PathStats>,
    pub data_failures: Vec<DataFailure>,
    /// The last lines it printed.
    pub tail: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    pub name: String,
    pub result: TestResult,
    /// Why it was skipped; empty otherwise.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestResult {
    Ok,
    NotOk,
    Skipped,
}

/// Work done on one path through the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStats {
    pub path: String,
    /// Calls that moved data.
    pub ops: u64,
    /// Bytes moved and verified.
    pub bytes: u64,
}

/// One failed data check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFailure {
    pub path: String,
    pub check: String,
    /// The whole line, for the reader: offset, length, wanted and found bytes.
    pub detail: String,
}

impl ProgramReport {
    pub fn ops(&self) -> u64 {
        self.stats.iter().fold(0, |sum, s| sum.saturating_add(s.ops))
    }

    /// Why it skipped a test, in the words of the first that says so.
    pub fn skip_reason(&self) -> Option<&str> {
        self.tests.iter().map(|test| test.reason.as_str()).find(|reason| !reason.is_empty())
    }

    /// Whether tests failed, and none for another reason than data that was wrong.
    pub(super) fn failed_by_data_alone(&self) -> bool {
        let mut failed = self.tests.iter().filter(|test| test.result == TestResult::NotOk).peekable();
        let of_data = |test: &Test| self.data_failures.iter().any(|failure| failure.path == test.name);
        failed.peek().is_some() && failed.all(of_data)
    }

    pub fn bytes(&self) -> u64 {
        self.stats.iter().fold(0, |sum, s| sum.saturating_add(s.bytes))
    }

    /// Bytes that it takes, so that who keeps many can bound them all.
    pub fn size(&self) -> usize {
        let tests = self.tests.iter().map(|test| size_of::<Test>() + test.name.len() + test.reason.len());
        let stats = self.stats.iter().map(|stats| size_of::<PathStats>() + stats.path.len());
        let failures = self.data_failures.iter().map(|DataFailure { path, check, detail }| {
            size_of::<DataFailure>() + path.len() + check.len() + detail.len()
        });
        let tail = self.tail.iter().map(|line| size_of::<String>() + line.len());
        tests.chain(stats).chain(failures).chain(tail).sum()
    }

    /// Takes the next line the program printed, without its indentation.
    pub(super) fn line(&mut self, line: &str) {
        if self.tail.len() == MOST_LINES {
            self.tail.remove(0);
        }
        self.tail.push(line.to_owned());

        if let Some(fields) = line.strip_prefix("# farm-stats ") {
            if let Some(stats) = parse_stats(fields) {
                push_bounded(&mut self.stats, stats);
            }
        } else if let Some(fields) = line.strip_prefix("# farm-data ") {
            push_bounded(&mut self.data_failures, parse_data_failure(fields));
        } else if let Some(test) = parse_test(line) {
            push_bounded(&mut self.tests, test);
        }
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MOST_ENTRIES {
        list.push(item);
    }
}

fn bounded(text: &str, longest: usize) -> String {
    text[..text.floor_char_boundary(longest)].to_owned()
}

/// The value of `key=` among blank-separated fields.
fn field<'a>(fields: &'a str, key: &str) -> Option<&'a str> {
    fields.split(' ').find_map(|f| f.strip_prefix(key)?.strip_prefix('='))
}

fn parse_stats(fields: &str) -> Option<PathStats> {
    Some(PathStats {
        path: bounded(field(fields, "path")?, LONGEST_NAME),
        ops: field(fields, "ops")?.parse().ok()?,
        bytes: field(fields, "bytes")?.parse().ok()?,
    })
}

fn parse_data_failure(fields: &str) -> DataFailure {
    let text = |key| bounded(field(fields, key).unwrap_or("unnamed"), LONGEST_NAME);
    DataFailure { path: text("path"), check: text("check"), detail: bounded(fields, LONGEST_DETAIL) }
}

/// `ok N NAME`, `not ok N NAME`, with an optional `- ` before the name and a `# SKIP reason` behind it.
fn parse_test(line: &str) -> Option<Test> {
    let (mut result, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (TestResult::NotOk, rest),
        None => (TestResult::Ok, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u32>().ok()?;
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let mut reason = "";
    if let Some(skip) = directive.strip_prefix("SKIP") {
        result = TestResult::Skipped;
        reason = skip.trim_start();
    }
    Some(Test { name: bounded(name.trim(), LONGEST_NAME), result, reason: bounded(reason, LONGEST_NAME) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> ProgramReport {
        let mut report = ProgramReport::default();
        text.lines().for_each(|line| report.line(line));
        report
    }

    #[test]
    fn a_program_that_passed_skipped_and_failed() {
        let report = report(
            "# seed 7\nKTAP version 1\n1..3\nok 1 file-pipe-file\nok 2 file-pipe-direct # SKIP no O_DIRECT here\n\
             # farm-data path=file-pipe-socket check=pattern offset=8192 length=3 want=a1b2c3 got=000000\n\
             not ok 3 - file-pipe-socket\n# farm-stats path=file-pipe-file ops=1200 bytes=4915200\n\
             # farm-stats path=file-pipe-socket ops=3 bytes=9",
        );
        let results: Vec<_> = report.tests.iter().map(|t| (t.name.as_str(), t.result)).collect();
        assert_eq!(
            results,
            [
                ("file-pipe-file", TestResult::Ok),
                ("file-pipe-direct", TestResult::Skipped),
                ("file-pipe-socket", TestResult::NotOk)
            ]
        );
        assert_eq!(report.tests[1].reason, "no O_DIRECT here");
        assert_eq!((report.ops(), report.bytes()), (1203, 4_915_209));
        assert_eq!(report.data_failures[0].path, "file-pipe-socket");
        assert_eq!(report.data_failures[0].check, "pattern");
        assert!(report.data_failures[0].detail.contains("offset=8192"));
    }

    #[test]
    fn what_is_not_a_test_line_is_none() {
        for line in [
            "ok",
            "ok x name",
            "okay 1 name",
            "not ok",
            "# ok 1 name",
            "# farm-stats path=x ops=many bytes=1",
        ] {
            let report = report(line);
            assert_eq!((report.tests.len(), report.stats.len()), (0, 0), "{line}");
        }
    }

    #[test]
    fn a_program_cannot_fill_farms_memory() {
        let mut report = ProgramReport::default();
        for n in 0..10_000 {
            report.line(&format!("ok {n} t"));
            report.line(&format!("# farm-stats path=p{n} ops=18446744073709551615 bytes=1"));
        }
        assert_eq!(
            (report.tests.len(), report.stats.len(), report.tail.len()),
            (MOST_ENTRIES, MOST_ENTRIES, MOST_LINES)
        );
        assert_eq!(report.ops(), u64::MAX, "sums saturate");

        let mut report = ProgramReport::default();
        let long = "\u{e9}".repeat(5000);
        report.line(&format!("ok 1 {long} # SKIP {long}"));
        report.line(&format!("# farm-stats path={long} ops=1 bytes=1"));
        report.line(&format!("# farm-data path={long} check={long}"));
        let DataFailure { path, check, detail } = &report.data_failures[0];
        let (test, stats) = (&report.tests[0], &report.stats[0]);
        for name in [&test.name, &test.reason, &stats.path, path, check] {
            assert_eq!(name.len(), LONGEST_NAME);
        }
        assert!((LONGEST_DETAIL - 1..=LONGEST_DETAIL).contains(&detail.len()));
        let printed: usize = report.tail.iter().map(String::len).sum();
        assert!(report.size() > printed + 5 * LONGEST_NAME + detail.len());
    }
}
