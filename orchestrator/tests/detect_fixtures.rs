//! Every log in `tests/fixtures/detect/` gives the hits that its header says, however it is cut into chunks.
//!
//! What a fixture is says `fixtures/detect.rs`. `UPDATE_FIXTURES=1` rewrites the expectations: review each of them by
//! hand.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "fixtures/detect.rs"]
mod fixtures;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use farm::console::lines::Micros;
use farm::detect::{Console, Frame, Hit, Kmsg, Reliability, Scan, SourceLocation, Task, Timestamps, merge};

use fixtures::{DIRECTORY, Fixture};

/// Header lines that say where a log is from and how to read it.
const ABOUT: [&str; 3] = ["from: ", "stream: ", "timestamps: "];

fn is_about(line: &str) -> bool {
    ABOUT.iter().any(|key| line.starts_with(key))
}

impl Fixture {
    /// The other lines of the header.
    fn expected(&self) -> String {
        self.header.split_inclusive('\n').filter(|line| !is_about(line)).collect()
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
        let about: String = self.header.split_inclusive('\n').filter(|line| is_about(line)).collect();
        let bytes = [about.as_bytes(), found.as_bytes(), b"\n", &self.log].concat();
        // Another test may be reading the file.
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.name);
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, Path::new(DIRECTORY).join(&self.name)).unwrap();
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
    let fixtures = fixtures::fixtures().unwrap();
    assert!(fixtures.len() >= 110, "fixtures are missing");
    fixtures
}

#[test]
fn every_log_gives_the_hits_of_its_header() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = String::new();
    for fixture in fixtures() {
        let mut hits = fixture.hits(usize::MAX);
        hits.sort_by_key(|hit| hit.start);
        let found = describe(&hits);
        let expected = fixture.expected();
        if found == expected {
            continue;
        }
        if update {
            fixture.update(&found);
        } else {
            writeln!(wrong, "{}\nexpected:\n{expected}found:\n{found}", fixture.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn chunks_make_no_difference() {
    for fixture in fixtures() {
        let whole = fixture.hits(usize::MAX);
        for piece in [1, 7, 61, 4096] {
            assert_eq!(fixture.hits(piece), whole, "{} in pieces of {piece}", fixture.name);
        }
    }
}

#[test]
fn hits_say_where_they_stand_in_the_log() {
    for fixture in fixtures() {
        for hit in fixture.hits(usize::MAX) {
            assert!(hit.start < hit.end && hit.end <= fixture.log.len() as u64, "{}", fixture.name);
            assert!(!hit.text.is_empty() && !hit.text.contains('\x1b'));
        }
    }
}

#[test]
fn a_scan_gives_all_hits_in_the_order_in_which_they_begin() {
    let is_plain =
        |fixture: &&Fixture| !fixture.says("stream: kmsg") && !fixture.says("timestamps: required");
    for fixture in fixtures().iter().filter(is_plain) {
        let mut expected = fixture.hits(usize::MAX);
        expected.sort_by_key(|hit| hit.start);
        let (mut scan, mut found) = (Scan::default(), Vec::new());
        scan.push(&fixture.log, &mut found);
        scan.finish(&mut found);
        assert_eq!(found, expected, "{}", fixture.name);
    }
}

fn fixture(name: &str) -> Fixture {
    Fixture::read(&Path::new(DIRECTORY).join(name)).unwrap()
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
