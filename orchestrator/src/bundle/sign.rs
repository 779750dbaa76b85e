//! By what words a script knows a hit that it cannot detect as farm does: those lines of its report which give the title.
//!
//! A line opens the report, and where that does not name the function to blame, another soon after it does. What differs from
//! life to life (numbers, addresses, who ran) is left out of them.

use super::BundleError;
use crate::detect::{Hit, Kind, Stream, opens_report};
use crate::machine::quote;

/// So many lines after the opening one the other must come: a report of s390 has a hundred at most.
pub(super) const REACH: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// Lines of the kernel's log.
    Log { opening: Pattern, then: Option<Pattern> },
    /// A line of a stress program.
    Results(Pattern),
    /// The guest falls silent, which no line tells.
    Silence,
    /// It panics and prints nothing that opens a report.
    SilentPanic,
}

/// Words that a line has, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    pub fn of_words(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn matches(&self, line: &str) -> bool {
        let mut rest = line;
        self.0.iter().all(|word| match rest.split_once(word.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    /// As `case` of a POSIX shell takes it.
    pub fn for_case(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|word| quote(word)).collect();
        format!("*{}*", words.join("*"))
    }
}

impl Sign {
    pub fn of(hit: &Hit) -> Result<Self, BundleError> {
        let no_sign = || BundleError::NoSign { title: hit.title.clone() };
        match (hit.kind, hit.stream) {
            (Kind::Hang, _) => return Ok(Self::Silence),
            (_, Stream::Monitor) => return Ok(Self::SilentPanic),
            (Kind::Data, _) | (_, Stream::Results) => {
                return data_line(&hit.text).map(Self::Results).ok_or_else(no_sign);
            }
            (_, Stream::Console | Stream::Kmsg) => {}
        }
        let mut lines = hit.text.lines().map(message);
        let opening = lines.find(|line| opens_report(line)).ok_or_else(no_sign)?;
        // A panic's own words are its name.
        let named = hit.frame.as_deref().filter(|frame| hit.kind != Kind::Panic && !opening.contains(frame));
        let then = named.and_then(|frame| lines.take(REACH).find_map(|line| function_in(line, frame)));
        let comm = hit.task.as_ref().map(|task| task.comm.as_str());
        Ok(Self::Log { opening: steady(opening, comm), then })
    }

    /// Whether a log has the lines: what the script finds, too.
    pub fn is_in(&self, log: &[u8]) -> bool {
        let log = String::from_utf8_lossy(log);
        match self {
            Self::Log { opening, then } => {
                let mut left = 0;
                log.lines().any(|line| {
                    if opening.matches(line) {
                        left = REACH;
                        return then.is_none();
                    }
                    left = usize::saturating_sub(left, 1);
                    left > 0 && then.as_ref().is_some_and(|then| then.matches(line))
                })
            }
            Self::Results(pattern) => log.lines().any(|line| pattern.matches(line)),
            Self::Silence | Self::SilentPanic => false,
        }
    }
}

/// A line without what the log puts before it: `[   12.345678][  T123] ` or `4,512,12345678,-;`.
fn message(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|inside| {
        let (prefix, after) = inside.split_once(']')?;
        let stamp = |c: char| c.is_ascii_digit() || " .TC".contains(c);
        (prefix.chars().all(stamp) && prefix.contains(|c: char| c.is_ascii_digit()))
            .then_some((prefix, after))
    }) {
        rest = after.trim_start();
    }
    match rest.split_once(';') {
        Some((header, text))
            if header.matches(',').count() >= 3 && header.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            text
        }
        _ => rest,
    }
}

/// The words of an opening line that every life's has.
fn steady(line: &str, comm: Option<&str>) -> Pattern {
    let mut line = line.to_owned();
    // A kernel that has complained before says so.
    for taint in ["(Tainted: ", "(Not tainted"] {
        if let Some((before, rest)) = line.split_once(taint)
            && let Some((_, after)) = rest.split_once(')')
        {
            line = format!("{before}\0{after}");
        }
    }
    if let Some(comm) = comm.filter(|comm| !comm.is_empty()) {
        line = line.replace(&format!("{comm}:"), "\0:").replace(&format!("{comm}/"), "\0/");
    }
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = vec![String::new()];
    for piece in line.split_inclusive(|c| !part_of_word(c)) {
        let (word, mark) = piece.split_at(piece.trim_end_matches(|c| !part_of_word(c)).len());
        if is_number(word) {
            words.push(String::new());
        } else if let Some(last) = words.last_mut() {
            last.push_str(word);
        }
        for c in mark.chars() {
            match words.last_mut() {
                Some(last) if c != '\0' => last.push(c),
                _ => words.push(String::new()),
            }
        }
    }
    Pattern(words.into_iter().filter(|word| !word.is_empty()).collect())
}

/// Of ten digits, or an address.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let all = |test: fn(&u8) -> bool| !digits.is_empty() && digits.bytes().all(|byte| test(&byte));
    all(u8::is_ascii_digit)
        || (all(u8::is_ascii_hexdigit) && (digits.len() >= 8 || digits.len() < word.len()))
}

/// The function as a trace or a PSW prints it, `.isra.0` and the like included.
fn function_in(line: &str, function: &str) -> Option<Pattern> {
    let at = line.match_indices(function).map(|(at, _)| at).find(|at| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        !line[..*at].ends_with(inside) && line[at + function.len()..].starts_with(['+', '.'])
    })?;
    let end = at + line[at..].find('+')?;
    let before = line[..at].chars().next_back().map(String::from).unwrap_or_default();
    Some(Pattern(vec![format!("{before}{}+0x", &line[at..end])]))
}

/// Of `path=P check=C offset=…`, which a program prints behind `# farm-data `, what the title has.
fn data_line(text: &str) -> Option<Pattern> {
    let field = |key: &str| text.split_whitespace().find(|field| field.starts_with(key));
    Some(Pattern::of_words(&["# farm-data ", field("path=")?, field("check=")?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Task;

    fn log(text: &str, frame: Option<&str>) -> Hit {
        Hit {
            stream: Stream::Kmsg,
            kind: Kind::Warning,
            frame: frame.map(str::to_owned),
            ..Hit::hang("x").with_text(text)
        }
    }

    fn shown(hit: &Hit) -> String {
        match Sign::of(hit).unwrap() {
            Sign::Log { opening, then } => {
                let then = then.map(|then| format!(" then {}", then.for_case()));
                opening.for_case() + &then.unwrap_or_default()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_report_is_known_by_the_lines_that_give_its_title() {
        for (text, frame, sign) in [
            (
                "------------[ cut here ]------------\n\
                 WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160 [m2]\nModules linked in:",
                Some("try_grab_page"),
                "*'WARNING: CPU: '*' PID: '*' at mm/gup.c:'*' try_grab_page+'*/*' [m2]'*",
            ),
            (
                "[    3.123456][  T96] Kernel panic - not syncing: sysrq triggered crash",
                None,
                "*'Kernel panic - not syncing: sysrq triggered crash'*",
            ),
            (
                "4,512,3123456,-;Unable to handle kernel pointer dereference in virtual kernel address space\n\
                 Failing address: 0000000000000000 TEID: 0000000000000483\n\
                 Krnl PSW : 0704e00180000000 000003ff80001234 (null_write.isra.0+0x34/0x40 [tripwire])",
                Some("null_write"),
                "*'Unable to handle kernel pointer dereference in virtual kernel address space'* then *'(null_write.isra.0+0x'*",
            ),
            (
                "BUG kmalloc-64 (Tainted: G    B): Poison overwritten",
                None,
                "*'BUG kmalloc-'*' '*': Poison overwritten'*",
            ),
        ] {
            assert_eq!(shown(&log(text, frame)), sign);
        }
    }

    #[test]
    fn who_ran_is_no_part_of_it() {
        let task = Task { comm: "kworker/0:1".to_owned(), pid: 155, cpu: Some(0) };
        let text = "WARNING: mm/gup.c:149 at f+0xe2/0x108, CPU#0: kworker/0:1/155";
        let hit = Hit { task: Some(task), ..log(text, Some("f")) };
        assert_eq!(shown(&hit), "*'WARNING: mm/gup.c:'*' at f+'*/*', CPU#'*': '*/*");
    }

    #[test]
    fn other_reports_and_other_functions_are_not_it() {
        let text = "Unable to handle kernel pointer dereference in virtual kernel address space\n\
                    Krnl PSW : 0704e00180000000 000003ff80001234 (null_write+0x34/0x40 [tripwire])";
        let sign = Sign::of(&log(text, Some("null_write"))).unwrap();
        assert!(
            sign.is_in(format!("[    1.0] booting\n{text}\n").replace("80001234", "90000000").as_bytes())
        );
        assert!(!sign.is_in(text.replace("null_write", "wild_write").as_bytes()));
        assert!(!sign.is_in(text.lines().next().unwrap().as_bytes()));
        // Far behind another report of that kind.
        let (opening, function) = text.split_once('\n').unwrap();
        assert!(!sign.is_in(format!("{opening}\n{}{function}\n", "line\n".repeat(REACH)).as_bytes()));
    }

    #[test]
    fn wrong_data_and_silence_have_signs_of_their_own() {
        let data = Hit::data("splice", "file-pipe-file", "pattern")
            .with_text("path=file-pipe-file check=pattern offset=81 length=3 want=a got=b");
        let Sign::Results(pattern) = Sign::of(&data).unwrap() else { panic!() };
        assert_eq!(pattern.for_case(), "*'# farm-data '*path=file-pipe-file*check=pattern*");
        assert_eq!(Sign::of(&Hit::hang("idle")).unwrap(), Sign::Silence);
        assert_eq!(Sign::of(&Hit::silent_panic()).unwrap(), Sign::SilentPanic);
        assert!(matches!(Sign::of(&log("nothing", None)), Err(BundleError::NoSign { .. })));
    }
}
