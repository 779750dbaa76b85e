//! What a search has come to: how many lives, and how many of them found something.

use super::{Align, Table, lives, seconds, thousands};
use crate::escape::escape;
use crate::store::{SearchRecord, StoredRun};
use crate::verdict::Verdict;

/// For an interval that holds the true share in 95 of 100 searches: the normal distribution's 97.5th percentile.
const Z: f64 = 1.959_964;

/// Of a run that was a search; empty otherwise.
pub(super) fn search_text(run: &StoredRun) -> String {
    let (Some(asked), Some(search)) = (&run.record.search, &run.search) else { return String::new() };
    let mut out = format!("\nsearch until {}, plan {}: {}\n", asked.until, asked.seed, search_line(search));
    let mut table = Table::new(&[
        ("finding", Align::Left),
        ("lives", Align::Right),
        ("per 1,000", Align::Left),
        ("fingerprint", Align::Left),
    ]);
    let ran = ran(search);
    for (fingerprint, finding) in &search.tally.findings {
        table.row([
            escape(finding.title.as_bytes()),
            thousands(finding.lives),
            share(finding.lives, ran),
            escape(fingerprint.as_bytes()),
        ]);
    }
    if !table.is_empty() {
        out += &format!("\n{table}");
    }
    if search.tally.kept > 0 {
        out += &format!(
            "\nkept whole: {}; `farm show LIFE` shows one; command.sh in its directory boots its guest with the same job\n",
            lives(search.tally.kept)
        );
    }
    out
}

/// `12,345 lives in 600 s (20.6 a second, 74,070 an hour), 12 found something: per 1,000 0.97 (95 %: 0.56 to 1.7)`
pub fn search_line(search: &SearchRecord) -> String {
    let number: u64 = search.tally.verdicts.values().copied().sum();
    let ran = ran(search);
    #[expect(clippy::cast_precision_loss, reason = "a rate shown with three digits")]
    let a_second = match search.wall_us {
        0 => 0.0,
        wall => number as f64 * 1e6 / wall as f64,
    };
    let mut line = format!(
        "{} in {} ({} a second, {} an hour)",
        lives(number),
        seconds(search.wall_us),
        three_digits(a_second),
        hourly(a_second)
    );
    match search.tally.found {
        0 if ran == 0 => {}
        0 => line += &format!(", none found anything: per 1,000 {}", share(0, ran)),
        found => line += &format!(", {} found something: per 1,000 {}", thousands(found), share(found, ran)),
    }
    for (verdict, count) in &search.tally.verdicts {
        if !matches!(verdict, Verdict::Passed | Verdict::Hit | Verdict::WorkloadFailed) {
            line += &format!(", {} {verdict}", thousands(*count));
        }
    }
    line
}

/// Lives that can tell something about the kernel.
fn ran(search: &SearchRecord) -> u64 {
    let counts = search.tally.verdicts.iter();
    counts
        .filter(|(verdict, _)| !matches!(verdict, Verdict::Skipped | Verdict::BuildFailed | Verdict::Infra))
        .map(|(_, count)| count)
        .sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is neither large nor negative"
)]
fn hourly(a_second: f64) -> String {
    thousands((a_second * 3600.0).round() as u64)
}

/// Of 1,000 lives.
fn share(found: u64, ran: u64) -> String {
    let (low, high) = wilson(found, ran);
    #[expect(clippy::cast_precision_loss, reason = "a share shown with three digits")]
    let share = if ran == 0 { 0.0 } else { found as f64 / ran as f64 };
    let [share, low, high] = [share, low, high].map(|share| three_digits(share * 1000.0));
    format!("{share} (95 %: {low} to {high})")
}

fn three_digits(number: f64) -> String {
    match number {
        n if n == 0.0 || n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// Wilson's score interval of a share.
#[expect(clippy::cast_precision_loss, reason = "fewer lives than 2^52")]
fn wilson(found: u64, ran: u64) -> (f64, f64) {
    if ran == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (ran as f64, found as f64 / ran as f64);
    let middle = p + Z * Z / (2.0 * n);
    let margin = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    (((middle - margin) / whole).max(0.0), ((middle + margin) / whole).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SearchTally;

    /// Computed in Python from the formula of E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), with z = 1.959964.
    #[test]
    fn intervals() {
        for ((found, ran), (low, high)) in [
            ((0, 100), (0.0, 0.036_993)),
            ((1, 10), (0.017_876, 0.404_150)),
            ((5, 10), (0.236_593, 0.763_407)),
            ((12, 1000), (0.006_878, 0.020_857)),
            ((0, 0), (0.0, 1.0)),
        ] {
            let interval = wilson(found, ran);
            assert!(
                (interval.0 - low).abs() < 2e-6 && (interval.1 - high).abs() < 2e-6,
                "{found} of {ran}: {interval:?}"
            );
        }
    }

    #[test]
    fn a_line_tells_rate_and_share() {
        let verdicts =
            [(Verdict::Passed, 988), (Verdict::Hit, 12), (Verdict::Infra, 1), (Verdict::BuildFailed, 1)]
                .into();
        let tally =
            SearchTally { verdicts, found: 12, kept: 12, findings: std::collections::BTreeMap::new() };
        assert_eq!(
            search_line(&SearchRecord { wall_us: 100_000_000, tally }),
            "1,002 lives in 100 s (10.0 a second, 36,072 an hour), 12 found something: per 1,000 12.0 (95 %: 6.88 to 20.9), 1 build-failed, 1 infra"
        );
        let tally = SearchTally { verdicts: [(Verdict::Passed, 100)].into(), ..SearchTally::default() };
        assert_eq!(
            search_line(&SearchRecord { wall_us: 400_000_000, tally }),
            "100 lives in 400 s (0.25 a second, 900 an hour), none found anything: per 1,000 0 (95 %: 0 to 37.0)"
        );
    }
}
