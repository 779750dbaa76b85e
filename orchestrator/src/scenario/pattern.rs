//! Which hits an `expect` or `known` entry speaks of.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, Facts};
use super::emulation::Fix;

/// Matches the whole text; `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    Title(String),
    Fingerprint(String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Title(pattern) => write!(f, "title {pattern}"),
            Self::Fingerprint(pattern) => write!(f, "fingerprint {pattern}"),
        }
    }
}

impl Pattern {
    pub fn matches(&self, title: &str, fingerprint: &str) -> bool {
        match self {
            Self::Title(pattern) => matches(pattern, title),
            Self::Fingerprint(pattern) => matches(pattern, fingerprint),
        }
    }
}

/// Each piece between stars is taken at its first place; the last piece must end the text. Greedy from the
/// left is exact for stars alone, and takes time in proportion to the text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// A hit that must occur where the condition holds and nothing mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    pub pattern: Pattern,
    /// Each of them alone.
    pub mended_by: Vec<Fix>,
    pub when: Option<Condition>,
}

impl Expectation {
    pub fn holds(&self, facts: Facts<'_>) -> bool {
        let mended = self.mended_by.iter().any(|fix| facts.fixes.contains(fix));
        !mended && self.when.as_ref().is_none_or(|when| when.holds(facts))
    }
}

/// A hit that may occur where the condition holds, and why that is no news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub pattern: Pattern,
    pub when: Option<Condition>,
    pub reason: String,
}

impl Known {
    pub fn holds(&self, facts: Facts<'_>) -> bool {
        self.when.as_ref().is_none_or(|when| when.holds(facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, want) in [
            ("WARNING in foo", "WARNING in foo", true),
            ("WARNING in foo", "WARNING in foobar", false),
            ("WARNING in *", "WARNING in foo", true),
            ("WARNING in *", "WARNING in ", true),
            ("* in foo", "BUG in foo", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*b*", "abcb", true),
            ("*b*b*", "abc", false),
            ("a*c*d", "abcbcd", true),
            ("*cd", "cdcd", true),
            ("**", "ü", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} against {text}");
        }
    }

    #[test]
    fn title_and_fingerprint_are_told_apart() {
        assert!(Pattern::Title("a".into()).matches("a", "b"));
        assert!(!Pattern::Title("b".into()).matches("a", "b"));
        assert!(Pattern::Fingerprint("b".into()).matches("a", "b"));
    }
}
