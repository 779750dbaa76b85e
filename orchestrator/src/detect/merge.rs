//! One event, two streams: the kernel log's records and the console show the same reports.

use std::collections::HashSet;

use super::hit::Hit;
use crate::console::lines::Micros;

/// printk stamps a record once, so that both streams agree on the microsecond. Where the first record of a
/// report was lost from one of them, its next line came within this time.
const SLACK: u64 = 1_000;

/// Joins the hits of /dev/kmsg and of the console, ordered by time.
///
/// Two hits are one event if their reports are of one kind and opened at the same microsecond, or have one
/// fingerprint and opened within a millisecond. The same report may have two names where one side of it has been
/// taken for whole too early: a trace that comes slowly has no end to go by. The fuller of the two stays. `user_records` are the times of user space's records in
/// /dev/kmsg: a console hit that opened at one of them, and has no counterpart, is user space's own text. A
/// console hit without counterpart stays otherwise: it came after the last record that was read.
pub fn merge(kmsg_hits: Vec<Hit>, console_hits: Vec<Hit>, user_records: &[Micros]) -> Vec<Hit> {
    let mut console: Vec<Option<Hit>> = console_hits.into_iter().map(Some).collect();
    let mut partners: Vec<Option<Hit>> = kmsg_hits.iter().map(|_| None).collect();
    // The surest first, for all hits: two CPUs may complain in one microsecond, and neither may take the other's partner.
    for is_partner in [same_name_and_time, same_time, same_event] {
        for (hit, partner) in kmsg_hits.iter().zip(&mut partners) {
            if partner.is_none() {
                *partner = take(&mut console, |other| is_partner(hit, other));
            }
        }
    }
    let joined = kmsg_hits.into_iter().zip(partners).map(|(hit, partner)| match partner {
        Some(partner) => fuller(hit, partner),
        None => hit,
    });
    let users: HashSet<Micros> = user_records.iter().copied().collect();
    let alone = console.into_iter().flatten().filter(|hit| !hit.at.is_some_and(|at| users.contains(&at)));
    let mut hits: Vec<Hit> = joined.chain(alone).collect();
    // A hit without a time came from no kernel log: it stays behind those that have one.
    hits.sort_by_key(|hit| (hit.at.is_none(), hit.at));
    hits
}

fn take(hits: &mut [Option<Hit>], is_wanted: impl Fn(&Hit) -> bool) -> Option<Hit> {
    hits.iter_mut().find(|hit| hit.as_ref().is_some_and(&is_wanted))?.take()
}

fn same_name_and_time(one: &Hit, other: &Hit) -> bool {
    one.at.is_some() && one.at == other.at && one.fingerprint == other.fingerprint
}

fn same_time(one: &Hit, other: &Hit) -> bool {
    let same_report = one.kind == other.kind || one.truncated || other.truncated;
    one.at.is_some() && one.at == other.at && same_report
}

fn same_event(one: &Hit, other: &Hit) -> bool {
    let (Some(one_at), Some(other_at)) = (one.at, other.at) else { return false };
    one.fingerprint == other.fingerprint && one_at.0.abs_diff(other_at.0) <= SLACK
}

fn fuller(kmsg: Hit, console: Hit) -> Hit {
    let fullness = |hit: &Hit| (!hit.truncated, hit.frames.len(), hit.registers.len(), hit.text.len());
    let (sequence, panicked) = (kmsg.sequence, kmsg.panicked || console.panicked);
    let fuller = if fullness(&console) > fullness(&kmsg) { console } else { kmsg };
    Hit { sequence, panicked, ..fuller }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::hit::{Frame, Reliability, Stream};

    fn hit(stream: Stream, function: &str, at: u64, frames: usize) -> Hit {
        let frame = Frame {
            function: "f".into(),
            offset: 0,
            size: 1,
            module: None,
            reliability: Reliability::Reliable,
        };
        Hit { at: Some(Micros(at)), stream, frames: vec![frame; frames], ..Hit::hang(function) }
    }

    fn kmsg(function: &str, at: u64, frames: usize) -> Hit {
        Hit { sequence: Some(at), ..hit(Stream::Kmsg, function, at, frames) }
    }

    fn console(function: &str, at: u64, frames: usize) -> Hit {
        hit(Stream::Console, function, at, frames)
    }

    fn keys(hits: &[Hit]) -> Vec<(Stream, &str, u64)> {
        hits.iter().map(|hit| (hit.stream, hit.frame.as_deref().unwrap(), hit.at.unwrap().0)).collect()
    }

    #[test]
    fn the_same_event_is_one_hit_and_the_fuller_stays() {
        let merged = merge(
            vec![kmsg("a", 10, 5), kmsg("b", 5000, 1)],
            vec![console("a", 10, 5), console("b", 5000, 2)],
            &[],
        );
        assert_eq!(keys(&merged), [(Stream::Kmsg, "a", 10), (Stream::Console, "b", 5000)]);
        assert_eq!(merged[1].sequence, Some(5000), "the record's number is kept");
    }

    #[test]
    fn a_report_cut_on_one_side_is_known_by_its_time() {
        let cut = Hit { truncated: true, ..kmsg("cut", 10, 9) };
        assert_eq!(keys(&merge(vec![cut], vec![console("a", 10, 1)], &[])), [(Stream::Console, "a", 10)]);
    }

    #[test]
    fn a_report_that_got_two_names_is_known_by_its_time() {
        let merged = merge(vec![kmsg("tripwire_hung_task", 10, 9)], vec![console("__schedule", 10, 2)], &[]);
        assert_eq!(keys(&merged), [(Stream::Kmsg, "tripwire_hung_task", 10)]);
    }

    #[test]
    fn what_two_cpus_say_in_one_microsecond_stays_two_hits() {
        let cut = |hit: Hit| Hit { truncated: true, ..hit };
        for is_cut in [false, true] {
            let as_found = |hit| if is_cut { cut(hit) } else { hit };
            let merged = merge(
                [kmsg("even", 10, 1), kmsg("odd", 10, 3)].map(as_found).to_vec(),
                [console("odd", 10, 3), console("even", 10, 1)].map(as_found).to_vec(),
                &[],
            );
            assert_eq!(keys(&merged), [(Stream::Kmsg, "even", 10), (Stream::Kmsg, "odd", 10)]);
        }
    }

    #[test]
    fn events_close_together_are_paired_one_to_one() {
        let merged = merge(
            vec![kmsg("a", 100, 1), kmsg("a", 300, 1)],
            vec![console("a", 300, 2), console("a", 150, 2), console("a", 5000, 2)],
            &[],
        );
        assert_eq!(
            keys(&merged),
            [(Stream::Console, "a", 150), (Stream::Console, "a", 300), (Stream::Console, "a", 5000)]
        );
    }

    #[test]
    fn user_space_cannot_forge_a_hit_on_the_console() {
        let merged = merge(
            vec![kmsg("real", 10, 1)],
            vec![console("real", 10, 1), console("forged", 20, 1)],
            &[Micros(20), Micros(10)],
        );
        assert_eq!(keys(&merged), [(Stream::Kmsg, "real", 10)]);
    }

    #[test]
    fn what_came_after_the_last_record_stays() {
        let untimed = Hit::hang("b");
        let merged = merge(
            vec![kmsg("a", 10, 1)],
            vec![untimed.clone(), console("c", 30, 1), console("a", 5, 1)],
            &[],
        );
        assert_eq!(merged.len(), 3);
        assert_eq!(merged[2], untimed);
        assert_eq!(merged[1].at, Some(Micros(30)));
        let far = merge(vec![kmsg("a", 10, 1)], vec![console("a", 10 + SLACK + 1, 1)], &[]);
        assert_eq!(far.len(), 2, "one fingerprint, but another event");
    }
}
