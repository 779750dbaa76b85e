//! What must hold for any bytes: no panic, bounded results, no dependence on chunks; and that fingerprints
//! survive all that differs between two builds, boots and runs.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "../fixtures/detect.rs"]
mod fixtures;
mod logs;
mod mutations;

use farm::console::kmsg::{Item, Parser};
use farm::console::splitter::{LINE_LIMIT, Splitter};
use farm::detect::{Console, Hit, Kmsg, Timestamps};
use proptest::prelude::*;

use logs::Dice;

fn fixture_logs() -> Vec<(String, Vec<u8>)> {
    logs::fixture_logs().into_iter().map(|fixture| (fixture.name, fixture.log)).collect()
}

fn console_hits<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Hit> {
    let mut console = Console::new(Timestamps::Optional);
    let mut hits = Vec::new();
    chunks.into_iter().for_each(|chunk| console.push(chunk, &mut hits));
    console.finish(&mut hits);
    hits
}

fn kmsg_hits<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Hit> {
    let mut kmsg = Kmsg::default();
    let mut hits = Vec::new();
    chunks.into_iter().for_each(|chunk| kmsg.push(chunk, &mut hits));
    kmsg.finish(&mut hits);
    hits
}

fn fingerprints(log: &[u8]) -> Vec<String> {
    console_hits([log]).into_iter().map(|hit| hit.fingerprint.to_string()).collect()
}

/// Cuts `bytes` into pieces of the given lengths, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Bytes that look enough like a kernel's log to reach the far corners: lines of the fixtures in any order,
/// cut and spoilt, between random bytes.
fn lookalike() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<Vec<u8>> = fixture_logs()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("healthy-"))
        .flat_map(|(_, log)| {
            log.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    let line = proptest::sample::select(lines);
    let spoilt =
        (line.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut line, at, byte)| {
            let at = at.index(line.len());
            line[at] = byte;
            line
        });
    let cut_off = (line.clone(), any::<prop::sample::Index>()).prop_map(|(mut line, at)| {
        line.truncate(at.index(line.len()));
        line
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..80);
    let piece = prop_oneof![8 => line, 2 => spoilt, 1 => cut_off, 1 => noise];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

fn assert_bounded(hits: &[Hit]) -> Result<(), TestCaseError> {
    for hit in hits {
        prop_assert!(hit.start < hit.end);
        prop_assert!(hit.text.len() < 40 * 1024 && hit.frames.len() <= 128 && hit.registers.len() <= 6);
        let strings = [&hit.title, &hit.text]
            .into_iter()
            .chain(&hit.registers)
            .chain(hit.frames.iter().map(|f| &f.function));
        for text in strings {
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
        prop_assert!(!hit.fingerprint.as_str().contains([' ', '\n']), "{}", hit.fingerprint);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_in_any_chunks(bytes in lookalike(), lengths in proptest::collection::vec(1usize..200, 1..8)) {
        let whole = console_hits([&bytes[..]]);
        assert_bounded(&whole)?;
        prop_assert_eq!(console_hits(cut(&bytes, &lengths)), whole);
        let records = kmsg_hits([&bytes[..]]);
        assert_bounded(&records)?;
        prop_assert_eq!(kmsg_hits(cut(&bytes, &lengths)), records);
    }

    #[test]
    fn records_and_lines_do_not_depend_on_chunks(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b';'), Just(b','), Just(b' '), b'0'..=b'9', any::<u8>()], 0..400),
        lengths in proptest::collection::vec(1usize..40, 1..8),
    ) {
        let items = |chunks: Vec<&[u8]>| {
            let mut parser = Parser::default();
            let mut items: Vec<Item> = Vec::new();
            chunks.into_iter().for_each(|chunk| parser.push(chunk, |item| items.push(item)));
            parser.finish(|item| items.push(item));
            items
        };
        prop_assert_eq!(items(vec![&bytes]), items(cut(&bytes, &lengths)));

        let mut covered = 0;
        let mut splitter = Splitter::default();
        let mut check = |start: u64, end: u64| { assert_eq!(start, covered); covered = end; };
        for chunk in cut(&bytes, &lengths) {
            splitter.push(chunk, |raw| check(raw.start, raw.end));
        }
        splitter.finish(|raw| check(raw.start, raw.end));
        prop_assert_eq!(covered, bytes.len() as u64);
    }

}

proptest! {
    // Each case goes through all fixtures.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn fingerprints_survive_another_build(seed in any::<u64>()) {
        for (name, log) in fixture_logs() {
            let mut dice = Dice::new(seed);
            let shaken = shake(&log, &mut dice);
            prop_assert_eq!(fingerprints(&shaken), fingerprints(&log), "{}: {}", name, String::from_utf8_lossy(&shaken));
        }
    }

    #[test]
    fn fingerprints_survive_noise_between_lines(seed in any::<u64>()) {
        // A mail was whole when it was sent: nothing comes between the pieces of a line that was broken.
        for (name, log) in fixture_logs().into_iter().filter(|(name, _)| !name.starts_with("mail-")) {
            let mut dice = Dice::new(seed);
            let mut noisy = Vec::new();
            for line in log.split_inclusive(|byte| *byte == b'\n') {
                noisy.extend_from_slice(line);
                if line.ends_with(b"\n") && dice.below(3) == 0 {
                    let noise = NOISE[dice.below(NOISE.len() as u64) as usize];
                    noisy.extend_from_slice(noise.as_bytes());
                    noisy.push(b'\n');
                }
            }
            prop_assert_eq!(fingerprints(&noisy), fingerprints(&log), "{}: {}", name, String::from_utf8_lossy(&noisy));
        }
    }
}

const NOISE: [&str; 6] = [
    "virtio_blk virtio0: [vda] 131072 512-byte logical blocks",
    "[  101.000001] eth0: link becomes ready",
    "[  101.000001] farm: step 2 end",
    "[  101.000001] EXT4-fs (vda): mounted filesystem without journal",
    "random: crng init done",
    "# farm-stats path=file-pipe-file ops=1200 bytes=4915200",
];

/// Another build, boot and run of the same report: other addresses, offsets, line numbers, suffix numbers,
/// PIDs and CPUs.
fn shake(log: &[u8], dice: &mut Dice) -> Vec<u8> {
    let text = log.to_vec();
    let mut out = Vec::new();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let numbered = ["PID: ", "CPU: ", "CPU#", ".c:", ".h:", ".constprop.", ".isra.", ".part.", ".llvm."];
        if let Some(key) = numbered.iter().find(|key| rest.starts_with(key.as_bytes()))
            && let digits @ 1.. = rest[key.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        {
            out.extend_from_slice(format!("{key}{}", dice.below(10_000)).as_bytes());
            rest = &rest[key.len() + digits..];
        } else if let Some(symbol) = rest.strip_prefix(b"+0x") {
            let offset = symbol.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            // Offset 0 has a meaning of its own: the frame's name is wrong.
            let zero = offset == 1 && symbol[0] == b'0';
            let new = if zero { 0 } else { 1 + dice.below(0x4000) };
            out.extend_from_slice(format!("+{new:#x}").as_bytes());
            rest = &symbol[offset..];
        } else if let digits @ 16.. = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() {
            out.extend_from_slice(format!("{:016x}", dice.below(u64::MAX) << 12).as_bytes());
            rest = &rest[digits..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

#[test]
fn a_flood_inside_a_report_stays_bounded() {
    let mut console = Console::new(Timestamps::Optional);
    let mut hits = Vec::new();
    let opening = b"WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160\nCall Trace:\n";
    let frame = format!(" [<0000000000000001>] {}+0x1/0x2\n", "f".repeat(3 * LINE_LIMIT));
    for _ in 0..20 {
        console.push(opening, &mut hits);
        for _ in 0..100 {
            console.push(frame.as_bytes(), &mut hits);
        }
    }
    console.finish(&mut hits);
    assert_eq!(hits.len(), 20);
    for hit in &hits {
        assert!(hit.text.len() < 40 * 1024, "{}", hit.text.len());
        assert!(hit.frames.iter().map(|frame| frame.function.len()).sum::<usize>() < 300 * 1024);
    }
}

#[test]
fn many_callers_at_once_stay_bounded() {
    let mut console = Console::new(Timestamps::Required);
    let mut hits = Vec::new();
    for caller in 0..1000 {
        let line = format!(
            "[    1.000000][ T{caller}] WARNING: CPU: 1 PID: 9 at mm/gup.c:224 try_grab_page+0x110/0x160\n"
        );
        console.push(line.as_bytes(), &mut hits);
    }
    assert!(hits.len() >= 1000 - 16, "open reports are given up, oldest first: {}", hits.len());
    console.finish(&mut hits);
    assert_eq!(hits.len(), 1000);
}

#[test]
fn a_report_without_an_end_is_given_up() {
    let mut console = Console::new(Timestamps::Optional);
    let mut hits = Vec::new();
    console.push(b"WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160\n", &mut hits);
    for _ in 0..100 {
        console.push(b"virtio_net virtio1 eth0: link up\n", &mut hits);
    }
    assert_eq!(hits.len(), 1);
    assert!(hits[0].truncated);
    assert_eq!(hits[0].text.lines().count(), 1, "what follows is not of the report");
}

#[test]
fn a_complete_report_can_be_had_without_waiting() {
    let log = fixture_logs().into_iter().find(|(name, _)| name == "hung-task-6.12.txt").unwrap().1;
    let mut console = Console::new(Timestamps::Required);
    let mut hits = Vec::new();
    let trace = log.windows(11).position(|bytes| bytes == b"Call Trace:").unwrap();
    console.push(&log[..trace], &mut hits);
    console.settle(&mut hits);
    console.push(&log[trace..], &mut hits);
    let before = hits.len();
    console.settle(&mut hits);
    assert_eq!((before, hits.len()), (0, 1));
}
