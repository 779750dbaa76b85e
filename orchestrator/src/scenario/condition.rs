//! When an expectation holds: `kernel >= 6.5 and protection == emulated`.
//!
//! ```text
//! condition  = comparison { "and" comparison }
//! comparison = "kernel" ("<" | "<=" | "==" | "!=" | ">=" | ">") release
//!            | "protection" ("==" | "!=") ("none" | "emulated" | "hardware")
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::emulation::Fix;
use super::problem::{printable, suggest};

/// How the guest's memory is protected from the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    #[default]
    None,
    /// The uvsim module stands for the ultravisor.
    Emulated,
    /// KVM with an ultravisor.
    Hardware,
}

impl Protection {
    pub const ALL: [(&'static str, Self); 3] =
        [("none", Self::None), ("emulated", Self::Emulated), ("hardware", Self::Hardware)];
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, protection)| protection == self);
        f.write_str(found.map_or("none", |(word, _)| word))
    }
}

/// The numbers that a kernel release begins with: `6.12.107+deb13-s390x` is 6, 12, 107.
///
/// In `uname -r` these are VERSION, PATCHLEVEL and SUBLEVEL of the kernel's top Makefile; what follows
/// (EXTRAVERSION, LOCALVERSION, a distribution's counter) has no order. A release candidate counts as the
/// release it will be. Text that begins with no number counts as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release(Vec<u32>);

impl Release {
    pub fn parse(text: &str) -> Self {
        let mut numbers = Vec::new();
        let mut rest = text;
        loop {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let Ok(number) = rest[..digits].parse() else { break };
            numbers.push(number);
            match rest[digits..].strip_prefix('.') {
                Some(next) => rest = next,
                None => break,
            }
        }
        Self(numbers)
    }

    pub(crate) fn is_before(&self, series: &Self) -> bool {
        self.against(series).is_lt()
    }

    /// Compares as many numbers as `series` has: 6.1.5 equals the series 6.1, and is not above it.
    fn against(&self, series: &Self) -> Ordering {
        let own = self.0.iter().copied().chain(std::iter::repeat(0));
        own.take(series.0.len()).cmp(series.0.iter().copied())
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    Above,
}

impl Operator {
    const ALL: [(&'static str, Self); 6] = [
        ("<", Self::Below),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        (">=", Self::AtLeast),
        (">", Self::Above),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::AtLeast => order.is_ge(),
            Self::Above => order.is_gt(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Comparison {
    Kernel(Operator, Release),
    Protection(Operator, Protection),
}

/// What a condition is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// As `uname -r` prints it.
    pub kernel_release: &'a str,
    pub protection: Protection,
    /// What the emulated ultravisor's module mends; for expectations, conditions do not ask about it.
    pub fixes: &'a [Fix],
}

/// All of its comparisons must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    text: String,
    all: Vec<Comparison>,
}

impl Condition {
    pub fn holds(&self, facts: Facts<'_>) -> bool {
        let release = Release::parse(facts.kernel_release);
        self.all.iter().all(|comparison| match comparison {
            Comparison::Kernel(operator, series) => operator.holds(release.against(series)),
            Comparison::Protection(operator, protection) => operator.holds(facts.protection.cmp(protection)),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with a condition, as a sentence for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConditionError(String);

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let all: Vec<Comparison> =
            words.split(|word| *word == "and").map(comparison).collect::<Result<_, _>>()?;
        Ok(Self { text: words.join(" "), all })
    }
}

fn comparison(words: &[&str]) -> Result<Comparison, ConditionError> {
    let error = |text: String| Err(ConditionError(text));
    let [subject, operator, value] = words else {
        let found = printable(&words.join(" "));
        return error(format!("'{found}' is not of the form 'kernel >= 6.5' (blanks around the sign)"));
    };
    let Some((_, operator)) = Operator::ALL.into_iter().find(|(sign, _)| sign == operator) else {
        return error(format!("'{}' is none of < <= == != >= >", printable(operator)));
    };
    match *subject {
        "kernel" => {
            let release = Release::parse(value);
            // What does not print as it was written has a part that would silently not be compared.
            if !(1..=3).contains(&release.0.len()) || release.to_string() != *value {
                return error(format!("'{}' is not a release as in 6.5 or 6.12.107", printable(value)));
            }
            Ok(Comparison::Kernel(operator, release))
        }
        "protection" if !matches!(operator, Operator::Equal | Operator::Unequal) => {
            error("a protection is compared with == or !=".to_owned())
        }
        "protection" => match Protection::ALL.into_iter().find(|(word, _)| word == value) {
            Some((_, protection)) => Ok(Comparison::Protection(operator, protection)),
            None => {
                let names = suggest(value, Protection::ALL.iter().map(|(word, _)| *word)).unwrap_or_default();
                error(format!("unknown protection '{}', {names}", printable(value)))
            }
        },
        other => error(format!("'{}' is neither 'kernel' nor 'protection'", printable(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_the_numbers_in_front() {
        for (text, want) in [
            ("6.12.107+deb13-s390x", &[6, 12, 107][..]),
            ("6.1.0-50-s390x", &[6, 1, 0]),
            ("6.5.0-rc3", &[6, 5, 0]),
            ("6", &[6]),
            ("6.", &[6]),
            ("v6.5", &[]),
            ("", &[]),
            ("99999999999.1", &[]),
        ] {
            assert_eq!(Release::parse(text).0, want, "{text}");
        }
    }

    #[test]
    fn conditions_hold_by_kernel_and_protection() {
        use Protection::{Emulated, Hardware, None};
        for (condition, release, protection, want) in [
            ("kernel >= 6.5", "6.5.0-rc3", None, true),
            ("kernel >= 6.5", "6.4.16", None, false),
            ("kernel >= 6.5", "6.12.107+deb13-s390x", None, true),
            ("kernel < 6.12", "6.12.0", None, false),
            ("kernel < 6.12", "6.1.0-50-s390x", None, true),
            ("kernel < 10", "9.9.9", None, true),
            // A series is all of its releases.
            ("kernel <= 6.1", "6.1.5", None, true),
            ("kernel > 6.1", "6.1.5", None, false),
            ("kernel == 6.1", "6.1.170", None, true),
            ("kernel == 6.1.4", "6.1.5", None, false),
            ("kernel != 6.1", "6.10.0", None, true),
            ("kernel == 6.1.0", "6.1-custom", None, true),
            ("kernel < 1", "custom", None, true),
            ("protection == emulated", "6.1.0", Emulated, true),
            ("protection == emulated", "6.1.0", Hardware, false),
            ("protection != none", "6.1.0", Hardware, true),
            ("kernel >= 6.5 and protection == emulated", "6.6.0", Emulated, true),
            ("kernel >= 6.5 and protection == emulated", "6.6.0", None, false),
            ("kernel >= 6.5 and kernel < 6.8", "6.9.0", None, false),
        ] {
            let parsed: Condition = condition.parse().unwrap();
            let facts = Facts { kernel_release: release, protection, fixes: &[] };
            assert_eq!(parsed.holds(facts), want, "{condition} on {release}");
        }
    }

    #[test]
    fn a_condition_prints_as_written_but_for_blanks() {
        let condition: Condition = " kernel  >= 6.5 and protection == none".parse().unwrap();
        assert_eq!(condition.to_string(), "kernel >= 6.5 and protection == none");
    }

    #[test]
    fn errors_name_the_wrong_part() {
        for (text, want) in [
            ("", "'' is not of the form 'kernel >= 6.5' (blanks around the sign)"),
            ("kernel>=6.5", "'kernel>=6.5' is not of the form 'kernel >= 6.5' (blanks around the sign)"),
            ("kernel >= 6.5 and", "'' is not of the form 'kernel >= 6.5' (blanks around the sign)"),
            ("kernel => 6.5", "'=>' is none of < <= == != >= >"),
            ("kernelx >= 6.5", "'kernelx' is neither 'kernel' nor 'protection'"),
            ("kernel >= v6.5", "'v6.5' is not a release as in 6.5 or 6.12.107"),
            ("kernel >= 6.5-rc1", "'6.5-rc1' is not a release as in 6.5 or 6.12.107"),
            ("kernel >= 6..5", "'6..5' is not a release as in 6.5 or 6.12.107"),
            ("kernel >= 6.5.", "'6.5.' is not a release as in 6.5 or 6.12.107"),
            ("protection < hardware", "a protection is compared with == or !="),
            ("protection == emulate", "unknown protection 'emulate', did you mean 'emulated'?"),
            ("protection == \u{1b}[m", "unknown protection '\\u{1b}[m', one of: none, emulated, hardware"),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap_err().to_string(), want);
        }
    }
}
