//! Whether a line begins a report, and which.

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use super::openings::Opening;
use super::rules::{PREFACES, PROGRAM_CHECK, RULES, Rule};
use crate::escape::push_escaped;

/// What a line begins.
pub(super) enum Begins {
    Preface,
    Report(&'static Rule, Opening),
}

/// How all openings begin, in as few and short words as tell them from other text, none within another. What
/// holds none of these in one piece opens nothing.
pub(super) static KEYWORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let rules =
        RULES.iter().chain([&PROGRAM_CHECK]).map(|rule| (rule.begins, *rule.contains.first().unwrap_or(&"")));
    let mut words: Vec<_> =
        rules.chain(PREFACES).map(|(begins, contains)| keyword(begins, contains)).collect();
    words.sort_unstable_by_key(|word| (word.len(), *word));
    let mut few: Vec<&str> = Vec::new();
    for word in words {
        if !few.iter().any(|short| word.contains(short)) {
            few.push(word);
        }
    }
    few
});

/// The first words of an opening. No more than these, so that a mail program does not break within them. Where it
/// begins in any way, the first thing that it contains.
fn keyword(begins: &'static str, contains: &'static str) -> &'static str {
    const SHORTEST: usize = 2;
    const LONGEST: usize = 18;
    if begins.len() < SHORTEST {
        return contains;
    }
    let words = begins.trim_end();
    let ends = words.match_indices(' ').map(|(at, _)| at).chain([words.len()]);
    let end = ends.take_while(|end| *end <= LONGEST).last().or_else(|| words.find(' '));
    &words[..end.unwrap_or(words.len())]
}

/// Whether `text` begins as an opening does that has known first words.
pub(super) fn may_open(text: &[u8]) -> bool {
    let first = text.first().copied().unwrap_or(b'\n');
    let rules = RULES.iter().map(|rule| rule.begins);
    let prefaces = PREFACES.iter().filter(|(_, contains)| contains.is_empty()).map(|(begins, _)| *begins);
    FIRST_BYTES[usize::from(first)]
        && rules.chain(prefaces).any(|begins| text.starts_with(keyword(begins, "").as_bytes()))
}

/// Bytes that the first byte of an opening can be: most lines are turned away here.
static FIRST_BYTES: [bool; 256] = first_bytes();

const fn first_bytes() -> [bool; 256] {
    let mut bytes = [false; 256];
    let mut index = 0;
    while index < RULES.len() {
        bytes[RULES[index].begins.as_bytes()[0] as usize] = true;
        index += 1;
    }
    index = 0;
    while index < PREFACES.len() {
        bytes[PREFACES[index].0.as_bytes()[0] as usize] = true;
        index += 1;
    }
    bytes
}

/// Whether `text` opens a report, and which.
pub(super) fn begins(text: &[u8]) -> Option<Begins> {
    let first = *text.first()?;
    if FIRST_BYTES[usize::from(first)] {
        let is_preface = |(begins, contains): &(&str, &str)| {
            text.starts_with(begins.as_bytes()) && memmem::find(text, contains.as_bytes()).is_some()
        };
        if PREFACES.iter().any(is_preface) {
            return Some(Begins::Preface);
        }
        if let Some(begins) = RULES.iter().find_map(|rule| fits(rule, text)) {
            return Some(begins);
        }
    }
    // Few lines hold a '#' at all, and looking for one byte is fast.
    memchr(b'#', text)?;
    fits(&PROGRAM_CHECK, text)
}

/// Whether this line, without what the log puts before it, opens a report.
pub fn opens_report(line: &str) -> bool {
    matches!(begins(line.as_bytes()), Some(Begins::Report(..)))
}

/// How all reports open: for each form the words that its line has, in their order. For those who can only look for words.
pub fn report_openings() -> Vec<Vec<&'static str>> {
    let words = |rule: &Rule| {
        let words = [rule.begins].into_iter().chain(rule.contains.iter().copied());
        words.filter(|word| !word.is_empty()).collect()
    };
    RULES.iter().chain([&PROGRAM_CHECK]).map(words).collect()
}

/// Opening lines are shorter than this; what is longer is read up to here.
const OPENING_LIMIT: usize = 2048;

fn fits(rule: &'static Rule, text: &[u8]) -> Option<Begins> {
    let mut rest = text.strip_prefix(rule.begins.as_bytes())?;
    for word in rule.contains {
        let found = memmem::find(rest, word.as_bytes())?;
        rest = &rest[found + word.len()..];
    }
    let mut safe = String::new();
    push_escaped(&mut safe, text, OPENING_LIMIT);
    (rule.read)(&safe).map(|opening| Begins::Report(rule, opening))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::hit::Kind::{self, Warning};

    fn opens(text: &str) -> Option<(Kind, Opening)> {
        match begins(text.as_bytes())? {
            Begins::Preface => None,
            Begins::Report(rule, opening) => Some((rule.kind, opening)),
        }
    }

    #[test]
    fn all_forms_of_a_warning() {
        for (text, file, function) in [
            (
                "WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160",
                Some("mm/gup.c"),
                "try_grab_page",
            ),
            ("WARNING: CPU: 1 PID: 96 at try_grab_page+0x110/0x160", None, "try_grab_page"),
            ("WARNING: CPU: 0 PID: 8 at uvsim.c:105 check+0xe8/0x118 [uvsim]", Some("uvsim.c"), "check"),
            (
                "WARNING: mm/gup.c:149 at try_grab_folio+0xe2/0x108, CPU#0: t/155",
                Some("mm/gup.c"),
                "try_grab_folio",
            ),
            ("WARNING: at try_grab_folio+0xe2/0x108, CPU#0: kworker/0:1/155", None, "try_grab_folio"),
            ("WARNING: [a == b && c] mm/gup.c:1 at f+0x1/0x2 [m], CPU#10: t/1", Some("mm/gup.c"), "f"),
        ] {
            let (kind, opening) = opens(text).unwrap_or_else(|| panic!("not seen: {text}"));
            assert_eq!(kind, Warning);
            assert_eq!(opening.location.as_ref().map(|place| place.file.as_str()), file, "{text}");
            assert_eq!(opening.function.as_deref(), Some(function), "{text}");
        }
    }

    #[test]
    fn what_drivers_print_opens_nothing() {
        for text in [
            "WARNING: the configuration is at risk",
            "WARNING: CPU: all at full speed",
            "WARNING: Support for this device is deprecated, CPU#1: slow",
            "BUG: please report this to the vendor",
            "kernel BUG at the end of the day!",
            "BUG in the firmware (not tainted)",
            "INFO: task scheduler enabled",
            "INFO: rcu callbacks offloaded",
            "rcu: INFO: nothing stalls",
            "INFO: task 12 was blocked for a while",
            "User process fault: interruption code 0010 ilc:3 in faulter[1000000+89000]",
            "UBSAN: enabled in this kernel",
            "list_add failed, trying again",
            "list of devices follows",
            "Unable to handle request",
            "------------",
            "",
        ] {
            assert!(begins(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn panics_lose_their_numbers() {
        for (text, title) in [
            ("sysrq triggered crash", "kernel panic: sysrq triggered crash"),
            (
                "Attempted to kill init! exitcode=0x0000000b",
                "kernel panic: Attempted to kill init! exitcode=ADDR",
            ),
            ("unknown-block(8,1)", "kernel panic: unknown-block(NUM,NUM)"),
            (
                "Unexpected PGM 0x3d with TEID bit 61=0",
                "kernel panic: Unexpected PGM ADDR with TEID bit NUM=NUM",
            ),
            ("vda1 at 000003fffebd1a08", "kernel panic: vda1 at ADDR"),
        ] {
            let (_, opening) = opens(&format!("Kernel panic - not syncing: {text}")).unwrap();
            assert_eq!(opening.words.as_deref(), Some(title));
        }
    }

    #[test]
    fn program_checks_of_any_name() {
        for (text, words) in [
            ("illegal operation: 0001 ilc:1 [#1] SMP ", "illegal operation"),
            ("Oops: 0010 ilc:2 [#1]SMP ", "Oops"),
            ("HFP divide exception: 000f ilc:2 [#12] PREEMPT SMP ", "HFP divide exception"),
        ] {
            assert_eq!(opens(text).unwrap().1.words.as_deref(), Some(words));
        }
    }
}
