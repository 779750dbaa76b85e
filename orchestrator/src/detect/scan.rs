//! All hits of a log of any length.

use std::io::{self, Read};
use std::vec;

use super::detector::Timestamps;
use super::hit::Hit;
use super::streams::Console;

/// What is read at once. Larger pieces are no faster.
const CHUNK: usize = 256 * 1024;
/// Hits that wait for one that began before them, at most.
const WAITING_LIMIT: usize = 64;

/// The hits of a log in text form, with or without timestamps, in the order in which they begin.
///
/// Memory is bounded: where more than 64 hits have ended and one that began before them is still open, the first of
/// them comes before it.
pub fn scan<R: Read>(reader: R) -> Scan<R> {
    Scan {
        reader: Some(reader),
        console: Console::new(Timestamps::Optional),
        chunk: vec![0; CHUNK],
        read: 0,
        waiting: Vec::new(),
        ready: Vec::new().into_iter(),
    }
}

/// See [`scan`].
#[derive(Debug)]
pub struct Scan<R> {
    /// None at the end of the log.
    reader: Option<R>,
    console: Console,
    chunk: Vec<u8>,
    read: u64,
    waiting: Vec<Hit>,
    ready: vec::IntoIter<Hit>,
}

impl<R> Scan<R> {
    /// Bytes of the log that have been read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Moves what no hit to come can begin before from `waiting` to `ready`.
    fn release(&mut self) {
        let open_since = self.console.open_since().unwrap_or(u64::MAX);
        self.waiting.sort_by_key(|hit| hit.start);
        let settled = self.waiting.partition_point(|hit| hit.start < open_since);
        let over = self.waiting.len().saturating_sub(WAITING_LIMIT);
        self.ready = self.waiting.drain(..settled.max(over)).collect::<Vec<_>>().into_iter();
    }
}

impl<R: Read> Iterator for Scan<R> {
    type Item = io::Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(hit) = self.ready.next() {
                return Some(Ok(hit));
            }
            match self.reader.as_mut()?.read(&mut self.chunk) {
                Ok(0) => {
                    self.reader = None;
                    self.console.finish(&mut self.waiting);
                }
                Ok(count) => {
                    self.read += count as u64;
                    self.console.push(&self.chunk[..count], &mut self.waiting);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.reader = None;
                    return Some(Err(error));
                }
            }
            self.release();
        }
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
        let log: String = [("T1", WARNING), ("C0", WARNING), ("C0", end), ("T1", end)]
            .into_iter()
            .enumerate()
            .map(|(at, (caller, text))| warning(at as u32, caller, text))
            .collect();
        let starts: Vec<u64> = scan(log.as_bytes()).map(|hit| hit.unwrap().start).collect();
        assert_eq!(starts, [0, warning(0, "T1", WARNING).len() as u64]);
    }

    #[test]
    fn a_report_that_stays_open_does_not_hold_back_all_others() {
        let end = "---[ end trace 0000000000000000 ]---\n";
        let open = warning(0, "T1", WARNING);
        let closed: String =
            ["C0", "C0", "C0"].map(|cpu| warning(1, cpu, WARNING) + &warning(1, cpu, end)).concat();
        let log = open + &closed.repeat(30) + &"[    2.000000][    C1] a long silence\n".repeat(20_000);
        // Half a megabyte is more than one chunk: the first hits come before the end of the log.
        let mut hits = scan(log.as_bytes());
        assert!(hits.next().is_some());
        assert!(hits.bytes_read() < log.len() as u64);
        assert_eq!(hits.count(), 90);
    }

    #[test]
    fn an_error_ends_the_scan() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let mut hits = scan(WARNING.as_bytes().chain(Broken));
        assert_eq!(hits.next().unwrap().unwrap_err().to_string(), "the disk is gone");
        assert!(hits.next().is_none());
    }
}
