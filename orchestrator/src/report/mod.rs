//! What a person reads: pure functions from stored results to text.
//!
//! Everything that came out of a guest passes through `escape` before it stands in a report.

pub mod bisect;
pub mod config;
mod by_hand;
mod calibration;
mod trial;
mod mutation;
mod exact;
mod hit;
mod interleaving;
mod life;
mod minimise;
mod recheck;
mod repro;
mod run;
mod search;
mod table;
mod trace;

pub use by_hand::command_lines;
pub use hit::{HitPage, finding_table, hit_text};
pub use life::life_text;
pub use minimise::{Ways, minimise_text};
pub use recheck::{recheck_list, recheck_text};
pub use run::{run_list, run_text};
pub use search::search_line;
pub use table::{Align, Table};
pub use trace::trace_lines;

/// Seconds with as many digits as a reader can use.
pub fn seconds(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a time shown with three digits")]
    let seconds = micros as f64 / 1e6;
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

/// `1 life`, `12,345 lives`
pub fn lives(number: u64) -> String {
    if number == 1 { "1 life".to_owned() } else { format!("{} lives", thousands(number)) }
}

/// `12,345`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.5 GiB`
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "a size shown with one decimal")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 1_610_612_736].map(size), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
        assert_eq!(
            [0, 1_234_567, 12_345_678, 123_456_789].map(seconds),
            ["0.00 s", "1.23 s", "12.3 s", "123 s"]
        );
    }
}
