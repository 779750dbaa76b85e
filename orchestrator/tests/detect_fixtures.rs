//! Every log in `tests/fixtures/detect/` gives the hits that its header says, however it is cut into chunks.
//!
//! A fixture is a header, a blank line, and the log. The header says where the log is `from`, then for each
//! expected hit, in the order in which they begin, `kind`, `title`, `fingerprint`, `frame` and `truncated`;
//! `panicked: true` where a panic belongs to the report; `healthy: true` alone where no hit is expected.
//! `stream: kmsg` marks records of /dev/kmsg, `timestamps: required` a cell's console. `UPDATE_FIXTURES=1`
//! rewrites the expectations: review each of them by hand.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use farm::console::lines::Micros;
use farm::detect::{Console, Frame, Hit, Kmsg, Reliability, Scan, SourceLocation, Task, Timestamps, merge};

struct Fixture {
    path: PathBuf,
    /// Header lines that say how to read the log.
    about: Vec<String>,
    expected: String,
    log: Vec<u8>,
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("a blank line behind the header");
        let header = String::from_utf8(bytes[..=end].to_vec()).unwrap();
        let is_about =
            |line: &&str| ["from: ", "stream: ", "timestamps: "].iter().any(|key| line.starts_with(key));
        let (about, expected): (Vec<&str>, Vec<&str>) = header.lines().partition(is_about);
        Self {
            path: path.to_owned(),
            about: about.into_iter().map(str::to_owned).collect(),
            expected: expected.into_iter().map(|line| format!("{line}\n")).collect(),
            log: bytes[end + 2..].to_vec(),
        }
    }

    fn says(&self, line: &str) -> bool {
        self.about.iter().any(|about| about == line)
    }

    fn hits(&self, piece: usize) -> Vec<Hit> {
        let mut hits = Vec::new();
        if self.says("stream: kmsg") {
            let mut kmsg = Kmsg::default();
            self.log.chunks(piece).for_each(|piece| kmsg.push(piece, &mut hits));
            kmsg.finish(&mut hits);
        } else {
            let required = self.says("timestamps: required");
            let mut console =
                Console::new(if required { Timestamps::Required } else { Timestamps::Optional });
            self.log.chunks(piece).for_each(|piece| console.push(piece, &mut hits));
            console.finish(&mut hits);
        }
        hits
    }

    fn update(&self, found: &str) {
        let mut bytes: Vec<u8> =
            self.about.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        bytes.extend_from_slice(found.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.log);
        // Another test may be reading the file.
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.path.file_name().unwrap());
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &self.path).unwrap();
    }
}

fn describe(hits: &[Hit]) -> String {
    if hits.is_empty() {
        return "healthy: true\n".to_owned();
    }
    let mut out = String::new();
    for hit in hits {
        let frame = hit.frame.as_deref().unwrap_or("none");
        writeln!(out, "kind: {}\ntitle: {}\nfingerprint: {}", hit.kind, hit.title, hit.fingerprint).unwrap();
        writeln!(out, "frame: {frame}\ntruncated: {}", hit.truncated).unwrap();
        if hit.panicked {
            writeln!(out, "panicked: true").unwrap();
        }
    }
    out
}

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detect");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 110, "fixtures are missing");
    paths.iter().map(|path| Fixture::read(path)).collect()
}

#[test]
fn every_log_gives_the_hits_of_its_header() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = String::new();
    for fixture in fixtures() {
        let mut hits = fixture.hits(usize::MAX);
        hits.sort_by_key(|hit| hit.start);
        let found = describe(&hits);
        if found == fixture.expected {
            continue;
        }
        if update {
            fixture.update(&found);
        } else {
            writeln!(wrong, "{}\nexpected:\n{}found:\n{found}", fixture.path.display(), fixture.expected)
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn chunks_make_no_difference() {
    for fixture in fixtures() {
        let whole = fixture.hits(usize::MAX);
        for piece in [1, 7, 61, 4096] {
            assert_eq!(fixture.hits(piece), whole, "{} in pieces of {piece}", fixture.path.display());
        }
    }
}

#[test]
fn hits_say_where_they_stand_in_the_log() {
    for fixture in fixtures() {
        for hit in fixture.hits(usize::MAX) {
            assert!(hit.start < hit.end && hit.end <= fixture.log.len() as u64, "{}", fixture.path.display());
            assert!(!hit.text.is_empty() && !hit.text.contains('\x1b'));
        }
    }
}

#[test]
fn a_scan_gives_all_hits_in_the_order_in_which_they_begin() {
    for fixture in
        fixtures().iter().filter(|fixture| fixture.about.iter().all(|line| line.starts_with("from: ")))
    {
        let mut expected = fixture.hits(usize::MAX);
        expected.sort_by_key(|hit| hit.start);
        let (mut scan, mut found) = (Scan::default(), Vec::new());
        scan.push(&fixture.log, &mut found);
        scan.finish(&mut found);
        assert_eq!(found, expected, "{}", fixture.path.display());
    }
}

fn fixture(name: &str) -> Fixture {
    Fixture::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detect").join(name))
}

#[test]
fn a_hit_holds_all_of_its_report() {
    let fixture = fixture("warning-gup-6.1.txt");
    let hit = fixture.hits(usize::MAX).remove(0);
    let report = std::str::from_utf8(&fixture.log[hit.start as usize..hit.end as usize]).unwrap();
    assert!(report.starts_with("[    5.027303] ------------[ cut here ]------------\r\n"));
    assert!(report.ends_with("---[ end trace 0000000000000000 ]---\r\n"));
    assert_eq!(hit.text.lines().count(), report.lines().count());
    assert_eq!(hit.text.lines().last(), Some("---[ end trace 0000000000000000 ]---"));

    assert_eq!(hit.at, Some(Micros(5_027_303)));
    assert_eq!(hit.task, Some(Task { comm: "t".into(), pid: 99, cpu: Some(1) }));
    assert_eq!(hit.location, Some(SourceLocation { file: "mm/gup.c".into(), line: 224 }));
    assert_eq!(hit.registers.len(), 6);
    assert!(hit.registers[0].starts_with("Krnl PSW : 0704d00180000000 000000000037c884"));
    assert!(hit.registers[2].starts_with("Krnl GPRS: "));
    assert_eq!(hit.frames.len(), 10);
    let unreliable = Frame {
        function: "follow_page_pte.constprop.0".into(),
        offset: 0x224,
        size: 0x500,
        module: None,
        reliability: Reliability::Unreliable,
    };
    assert_eq!(hit.frames[1], unreliable);
    assert_eq!(hit.frames[9].function, "system_call");
}

#[test]
fn kmsg_and_console_show_the_same_event_once() {
    let kmsg = fixture("kmsg-warning-6.1.txt").hits(usize::MAX);
    let console = fixture("warning-gup-6.1.txt").hits(usize::MAX);
    assert_eq!((kmsg.len(), console.len()), (1, 1));
    assert_eq!(
        (&kmsg[0].text, kmsg[0].at),
        (&console[0].text, console[0].at),
        "both streams hold the same report"
    );
    let merged = merge(kmsg.clone(), console.clone(), &[]);
    assert_eq!(merged, kmsg);
    assert_eq!(merge(Vec::new(), console.clone(), &[Micros(1)]), console);
    assert_eq!(merge(Vec::new(), console, &[Micros(5_027_303)]), []);
}
