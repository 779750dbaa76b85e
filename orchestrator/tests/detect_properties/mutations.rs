//! Logs made of the fixtures, then cut, spliced, interleaved and spoilt: what must hold for whatever comes of it.
//!
//! One seed tells the whole case. A test that fails names it; `FARM_SEED=N` makes that one the first.

use std::io::Write as _;
use std::time::{Duration, Instant};

use farm::detect::{Console, Hit, Kmsg, Scan, Timestamps};

use super::fixtures::Fixture;
use super::logs::{Dice, fixture_logs};

/// Names the case where a test fails in it.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&format!("the case has the seed {}", self.0));
        }
    }
}

fn tell(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

struct Logs {
    sick: Vec<Fixture>,
    healthy: Vec<Fixture>,
}

fn logs() -> Logs {
    let (healthy, sick) = fixture_logs().into_iter().partition(Fixture::is_healthy);
    Logs { sick, healthy }
}

fn pick<'a, T>(from: &'a [T], dice: &mut Dice) -> &'a T {
    &from[dice.below(from.len() as u64) as usize]
}

/// A place in `items`, or behind the last.
fn at<T>(items: &[T], dice: &mut Dice) -> usize {
    dice.below(items.len() as u64 + 1) as usize
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The lines of two logs, by turns of chance.
fn interleave(one: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut one, mut other) = (lines(one).into_iter().peekable(), lines(other).into_iter().peekable());
    let mut out = Vec::new();
    while one.peek().is_some() || other.peek().is_some() {
        let next = if dice.below(2) == 0 { one.next().or_else(|| other.next()) } else { other.next() };
        out.extend(next.into_iter().flatten());
    }
    out
}

/// Puts a caller's number behind each time, as CONFIG_PRINTK_CALLER does.
fn with_caller(bytes: &[u8], caller: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines(bytes) {
        let stamp = line.iter().position(|byte| *byte == b']').filter(|_| line.starts_with(b"["));
        let (before, behind) = line.split_at(stamp.map_or(0, |stamp| stamp + 1));
        out.extend_from_slice(before);
        if stamp.is_some() {
            out.extend_from_slice(format!("[{caller:>6}]").as_bytes());
        }
        out.extend_from_slice(behind);
    }
    out
}

/// As mail programs break and quote lines.
fn mailed(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let width = 50 + dice.below(30) as usize;
    let quote = *pick(&[&b""[..], b"> ", b">", b"> > ", b">> "], dice);
    let soft = dice.below(2) == 0;
    let mut out = Vec::new();
    for line in lines(bytes) {
        out.extend_from_slice(quote);
        for (column, byte) in line.iter().enumerate() {
            if column > 0 && column % width == 0 && soft {
                out.extend_from_slice(b"=\n");
            }
            match byte {
                b'=' if soft => out.extend_from_slice(b"=3D"),
                b' ' if !soft && column > width && dice.below(8) == 0 => out.push(b'\n'),
                byte => out.push(*byte),
            }
        }
    }
    out
}

/// Something that no kernel prints and every line may bring.
fn junk(dice: &mut Dice) -> Vec<u8> {
    match dice.below(8) {
        0 => vec![0; 1 + dice.below(40) as usize],
        1 => b"\xff\xfe\xc3\x28\xe2\x82".to_vec(),
        2 => b"\x1b[0;31m\x1b[2J\x1b".to_vec(),
        3 => b"\r\r\n\r".to_vec(),
        4 => vec![b'x'; 70_000],
        5 => b"\n".repeat(1 + dice.below(80) as usize),
        6 => (0..dice.below(60)).map(|_| dice.below(256) as u8).collect(),
        _ => b"[    1.000000] ".to_vec(),
    }
}

fn mutate(bytes: &mut Vec<u8>, logs: &Logs, dice: &mut Dice) {
    let place = at(bytes, dice);
    match dice.below(11) {
        0 => bytes.truncate(place),
        1 => drop(bytes.drain(..place)),
        2 => {
            let end = (place + dice.below(400) as usize).min(bytes.len());
            bytes.drain(place..end);
        }
        3 => {
            let other = &pick(&logs.sick, dice).log;
            let (from, to) = (at(other, dice), at(other, dice));
            bytes.splice(place..place, other[from.min(to)..from.max(to)].to_vec());
        }
        4 => *bytes = interleave(bytes, &pick(&logs.sick, dice).log, dice),
        5 => {
            let callers = [with_caller(bytes, "T94"), with_caller(&pick(&logs.sick, dice).log, "C1")];
            *bytes = interleave(&callers[0], &callers[1], dice);
        }
        6 => (0..=dice.below(20)).for_each(|_| {
            let place = at(bytes, dice);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << dice.below(8);
            }
        }),
        7 | 8 => drop(bytes.splice(place..place, junk(dice))),
        9 => *bytes = mailed(bytes, dice),
        _ => {
            let mut all = lines(bytes);
            let (one, other) = (at(&all, dice), at(&all, dice));
            let piece = all.get(one.min(other)..one.max(other).min(one.min(other) + 30)).unwrap().to_vec();
            all.splice(one..one, piece);
            *bytes = all.concat();
        }
    }
}

fn console_hits(bytes: &[u8], timestamps: Timestamps, mut piece: impl FnMut() -> usize) -> Vec<Hit> {
    let mut console = Console::new(timestamps);
    let mut hits = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(piece().clamp(1, rest.len()));
        console.push(chunk, &mut hits);
        rest = behind;
    }
    console.finish(&mut hits);
    hits
}

fn check_bounds(hits: &[Hit], bytes: &[u8]) {
    assert!(hits.len() <= bytes.len() / 8, "{} hits in {} bytes", hits.len(), bytes.len());
    for hit in hits {
        assert!(hit.start < hit.end && hit.end <= bytes.len() as u64, "{} to {}", hit.start, hit.end);
        assert!(hit.text.len() < 40 * 1024 && hit.frames.len() <= 128 && hit.registers.len() <= 6);
        if let Some(number) = hit.line {
            let before = &bytes[..hit.start as usize];
            assert_eq!(number, before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1);
            assert!(before.is_empty() || before.ends_with(b"\n"), "a hit begins with a line");
        }
        let is_unsafe = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        assert!(!is_unsafe(&hit.title) && !is_unsafe(&hit.text), "{hit:?}");
        assert!(!hit.fingerprint.as_str().contains([' ', '\n']), "{}", hit.fingerprint);
    }
}

/// One log of chance, read in every way.
fn check_sick(logs: &Logs, seed: u64) {
    let _case = Case(seed);
    let mut dice = Dice::new(seed);
    let mut bytes = pick(&logs.sick, &mut dice).log.clone();
    for _ in 0..=dice.below(5) {
        mutate(&mut bytes, logs, &mut dice);
        bytes.truncate(1 << 20);
    }
    for timestamps in [Timestamps::Optional, Timestamps::Required] {
        let whole = console_hits(&bytes, timestamps, || usize::MAX);
        check_bounds(&whole, &bytes);
        // Bytes one by one are never passed over in blocks: so this is the same without the short cut.
        assert_eq!(console_hits(&bytes, timestamps, || 1), whole, "{timestamps:?}, byte by byte");
        let cut = console_hits(&bytes, timestamps, || 1 + dice.below(3000) as usize);
        assert_eq!(cut, whole, "{timestamps:?}, cut by chance");
    }
    let (mut scan, mut scanned) = (Scan::default(), Vec::new());
    scan.push(&bytes, &mut scanned);
    scan.finish(&mut scanned);
    let mut ordered = console_hits(&bytes, Timestamps::Optional, || usize::MAX);
    ordered.sort_by_key(|hit| hit.start);
    assert_eq!(scanned.len(), ordered.len());
    if ordered.len() <= 64 {
        assert_eq!(scanned, ordered, "in the order in which they begin");
    }

    let mut kmsg = Kmsg::default();
    let mut records = Vec::new();
    kmsg.push(&bytes, &mut records);
    kmsg.finish(&mut records);
    check_bounds(&records, &bytes);
}

/// Text without a report, its lines lost, told twice and mixed: there is still none.
fn check_healthy(logs: &Logs, seed: u64) {
    let _case = Case(seed);
    let mut dice = Dice::new(seed);
    let first = pick(&logs.healthy, &mut dice);
    let mut bytes = first.log.clone();
    for _ in 0..dice.below(4) {
        let other = pick(&logs.healthy, &mut dice);
        if other.is_of_a_cell() == first.is_of_a_cell() {
            bytes = interleave(&bytes, &other.log, &mut dice);
        }
        let mut all = lines(&bytes);
        all.retain(|_| dice.below(10) > 0);
        if dice.below(2) == 0 {
            let line = at(&all, &mut dice);
            all.splice(
                line..line,
                [b"\0\xff\x1b[31m noise\r\n".to_vec(), vec![b'='; 70_000], b"\n".to_vec()],
            );
        }
        bytes = all.concat();
    }
    let timestamps = if first.is_of_a_cell() { Timestamps::Required } else { Timestamps::Optional };
    let hits = console_hits(&bytes, timestamps, || usize::MAX);
    assert!(hits.is_empty(), "{hits:#?} found in:\n{}", String::from_utf8_lossy(&bytes));
}

/// Runs cases until the time is over.
fn shake(first: u64, time: Duration) -> u64 {
    let logs = logs();
    let wanted = std::env::var("FARM_SEED").ok().map(|seed| seed.parse().unwrap());
    let start = Instant::now();
    let mut cases = 0;
    while start.elapsed() < time {
        // Neighbouring seeds would begin alike.
        let seed = (first + cases).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seed = wanted.filter(|_| cases == 0).unwrap_or(seed);
        check_sick(&logs, seed);
        check_healthy(&logs, seed);
        cases += 1;
    }
    cases
}

#[test]
fn mutated_logs_keep_the_rules() {
    let cases = shake(1, Duration::from_secs(5));
    assert!(cases > 0);
}

mod soak {
    use super::*;

    /// `FARM_SOAK_MINUTES` makes it longer or shorter.
    #[test]
    fn mutated_logs_keep_the_rules_for_half_an_hour() {
        let minutes = std::env::var("FARM_SOAK_MINUTES").map_or(30, |minutes| minutes.parse().unwrap());
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let cases = shake(seed, Duration::from_secs(60 * minutes));
        tell(&format!("{cases} cases from seed {seed}"));
    }
}
