//! What is wrong with a file that a person wrote: where, what, and how to mend it.
//!
//! A check goes on after a problem, so that one look shows them all. Text from the file reaches a message
//! only through [`quote`], since a YAML string can hold terminal escapes.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// A file with more problems than this is not a scenario; the rest is counted, not listed.
const MOST_PROBLEMS: usize = 100;

/// The longest piece of the file that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// Words longer than this get no suggestion: comparing them costs time and helps nobody.
const LONGEST_GUESS: usize = 64;

/// A place in a file. Both count from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mark {
    pub line: usize,
    pub column: usize,
}

impl Mark {
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Prints as `file:line:column: message`, and the hint indented on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", printable(&self.file), self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    {hint}"),
            None => Ok(()),
        }
    }
}

/// Gathers the problems of one file.
pub(crate) struct Problems {
    file: String,
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: RefCell::default() }
    }

    pub(crate) fn report(&self, at: Mark, message: impl Into<String>, hint: Option<String>) {
        let Mark { line, column } = at;
        let problem = Problem { file: self.file.clone(), line, column, message: message.into(), hint };
        self.found.borrow_mut().push(problem);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The problems in the order of the file.
    pub(crate) fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| (problem.line, problem.column));
        if found.len() > MOST_PROBLEMS {
            let more = found.len() - MOST_PROBLEMS;
            found.truncate(MOST_PROBLEMS);
            if let Some(last) = found.last().cloned() {
                found.push(Problem { message: format!("{more} more problems follow"), hint: None, ..last });
            }
        }
        found
    }
}

/// A piece of the file as a message shows it: in quotes, shortened, nothing in it that moves a cursor.
pub(crate) fn quote(text: &str) -> String {
    let start: String = text.chars().take(LONGEST_QUOTE).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("'{}{rest}'", printable(&start))
}

/// The text with everything escaped that a terminal would act on instead of showing.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

/// "did you mean 'splice'?" if one of the names is near enough.
pub fn did_you_mean<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    if wrong.len() > LONGEST_GUESS {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong, name);
    // A third of the letters may differ: 'slpice' finds 'splice', 'x' finds nothing.
    let (near, name) = names.into_iter().map(|name| (distance(name), name)).min()?;
    (near * 3 <= name.chars().count()).then(|| format!("did you mean '{name}'?"))
}

/// The hint for a name that is none of `names`: the nearest one, or all of them.
pub(crate) fn suggest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return None;
    }
    Some(
        did_you_mean(wrong, names.iter().copied()).unwrap_or_else(|| format!("one of: {}", names.join(", "))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_its_place_and_its_hint() {
        let problems = Problems::new("a.yaml");
        problems.report(Mark { line: 9, column: 2 }, "later", None);
        problems.report(Mark { line: 3, column: 5 }, "wrong", Some("mend it".to_owned()));
        let text: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        assert_eq!(text, ["a.yaml:3:5: wrong\n    mend it", "a.yaml:9:2: later"]);
    }

    #[test]
    fn a_flood_of_problems_is_cut_and_counted() {
        let problems = Problems::new("a.yaml");
        for line in 1..=130 {
            problems.report(Mark { line, column: 1 }, "wrong", None);
        }
        let found = problems.into_sorted();
        assert_eq!(found.len(), 101);
        assert_eq!(found[100].message, "30 more problems follow");
        assert_eq!(found[100].line, 100);
    }

    #[test]
    fn quotes_never_carry_terminal_escapes() {
        assert_eq!(quote("a\u{1b}[31m\u{202e}\u{7}b"), r"'a\u{1b}[31m\u{202e}\u{7}b'");
        assert_eq!(quote("it's \"so\""), "'it's \"so\"'");
        assert_eq!(quote(&"x".repeat(61)), format!("'{}…'", "x".repeat(60)));
    }

    #[test]
    fn suggestions_are_near_or_none() {
        let names = ["splice", "sendfile", "dio"];
        for (wrong, want) in [
            ("slpice", Some("did you mean 'splice'?")),
            ("SPLICE", Some("did you mean 'splice'?")),
            ("send-file", Some("did you mean 'sendfile'?")),
            ("di", Some("did you mean 'dio'?")),
            ("x", None),
            ("fork", None),
        ] {
            assert_eq!(did_you_mean(wrong, names).as_deref(), want, "{wrong}");
        }
        assert_eq!(suggest("fork", names).as_deref(), Some("one of: splice, sendfile, dio"));
    }
}
