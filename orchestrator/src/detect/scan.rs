//! All hits of a log of any length, in order.

use super::detector::Timestamps;
use super::hit::Hit;
use super::streams::Console;

/// Hits that wait for one that began before them, at most.
const WAITING_LIMIT: usize = 64;

/// The hits of a log in text form, with or without timestamps, in the order in which they begin.
///
/// Memory is bounded: where more than 64 hits have ended and one that began before them is still open, the first of
/// them comes before it.
#[derive(Debug)]
pub struct Scan {
    console: Console,
    waiting: Vec<Hit>,
}

impl Default for Scan {
    fn default() -> Self {
        Self { console: Console::new(Timestamps::Optional), waiting: Vec::new() }
    }
}

impl Scan {
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Hit>) {
        self.console.push(chunk, &mut self.waiting);
        self.release(out);
    }

    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        self.console.finish(&mut self.waiting);
        self.release(out);
    }

    /// Gives what no hit to come can begin before.
    fn release(&mut self, out: &mut Vec<Hit>) {
        let open_since = self.console.open_since().unwrap_or(u64::MAX);
        self.waiting.sort_by_key(|hit| hit.start);
        let settled = self.waiting.partition_point(|hit| hit.start < open_since);
        let over = self.waiting.len().saturating_sub(WAITING_LIMIT);
        out.extend(self.waiting.drain(..settled.max(over)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARNING: &str = "WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160\n";

    fn warning(at: u32, caller: &str, text: &str) -> String {
        format!("[{at:5}.000000][{caller:>6}] {text}")
    }

    #[test]
    fn hits_come_in_the_order_in_which_they_begin() {
        let end = "---[ end trace 0000000000000000 ]---\n";
        let log: Vec<String> = [("T1", WARNING), ("C0", WARNING), ("C0", end), ("T1", end)]
            .into_iter()
            .enumerate()
            .map(|(at, (caller, text))| warning(at as u32, caller, text))
            .collect();
        let (mut scan, mut hits) = (Scan::default(), Vec::new());
        log[..3].iter().for_each(|line| scan.push(line.as_bytes(), &mut hits));
        assert_eq!(hits, [], "the second has ended, and waits for the first");
        scan.push(log[3].as_bytes(), &mut hits);
        scan.finish(&mut hits);
        let starts: Vec<u64> = hits.iter().map(|hit| hit.start).collect();
        assert_eq!(starts, [0, log[0].len() as u64]);
    }

    #[test]
    fn a_report_that_stays_open_does_not_hold_back_all_others() {
        let end = "---[ end trace 0000000000000000 ]---\n";
        let open = warning(0, "T1", WARNING);
        let closed: String =
            ["C0", "C0", "C0"].map(|cpu| warning(1, cpu, WARNING) + &warning(1, cpu, end)).concat();
        let log = open + &closed.repeat(30);
        let (mut scan, mut hits) = (Scan::default(), Vec::new());
        scan.push(log.as_bytes(), &mut hits);
        assert!(!hits.is_empty());
        scan.finish(&mut hits);
        assert_eq!(hits.len(), 91);
    }
}
