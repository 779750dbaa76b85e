use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::detect::Hit;
use crate::plan::KernelKey;
use crate::store::{
    HitId, HostRecord, RecheckOf, RecheckRecord, RunId, RunRecord, RunSummary, StreamRecord, Timings,
};
use crate::verdict::{JudgedHit, Standing};

const QEMU: &str = "10.0.2 (Debian)";

fn emulator() -> Emulator {
    Emulator { cpu_model: "max".to_owned(), qemu: QEMU.to_owned() }
}

fn settings() -> [Setting; 4] {
    [
        Setting::Same,
        Setting::SingleThread,
        Setting::CpuModel { model: "z196-base,dfp=off".to_owned() },
        Setting::Qemu { version: "7.2.22 (Debian)".to_owned() },
    ]
}

/// `counts`: seen, of so many that tell; in the order of `settings`.
fn tallies(counts: &[(u32, u32)]) -> Vec<Tally> {
    let tally =
        |(setting, (seen, told))| Tally { setting, seen, told, silent: Vec::new(), lives: Vec::new() };
    settings().into_iter().zip(counts.iter().copied()).map(tally).collect()
}

#[test]
fn the_rules() {
    const AS_IT_WAS: &str = "emulator suspected: only under thread=multi, -cpu max, QEMU 10.0.2";
    const CPU: &str = "emulator suspected: only under -cpu max";
    const VERSION: &str = "emulator suspected: only under QEMU 10.0.2";
    let kernel = |under: &str| format!("seen as it was and under {under}: taken for the kernel's");
    let open = |why: &str| format!("{why}: no judgement");
    let table: [(&[(u32, u32)], String); 20] = [
        // Never again, not even as it was.
        (&[(0, 2), (0, 2), (0, 2), (0, 2)], open("not seen again in 8 lives")),
        (&[(0, 1), (0, 0), (0, 0), (0, 0)], open("not seen again in 1 life")),
        (&[(0, 0), (0, 0), (0, 0), (0, 0)], open("no life could tell")),
        (&[], open("no life could tell")),
        // Nothing to compare with.
        (&[(2, 2), (0, 0), (0, 0), (0, 0)], open("seen again, but no life under another setting could tell")),
        (&[(1, 2)], open("seen again, but no life under another setting could tell")),
        // Only as it was; what could not run is no witness.
        (&[(2, 2), (0, 2), (0, 2), (0, 2)], AS_IT_WAS.to_owned()),
        (&[(1, 2), (0, 2), (0, 2), (0, 2)], AS_IT_WAS.to_owned()),
        (&[(1, 1), (0, 1), (0, 0), (0, 0)], AS_IT_WAS.to_owned()),
        // Everywhere.
        (&[(2, 2), (2, 2), (2, 2), (2, 2)], kernel("thread=single, -cpu z196-base…, QEMU 7.2.22")),
        (&[(1, 1), (1, 1)], kernel("thread=single")),
        // Not again as it was, but elsewhere: with the hit that began it, two settings.
        (&[(0, 2), (1, 2), (0, 2), (0, 2)], kernel("thread=single")),
        // Always but with another CPU model, or another QEMU: their opposite is what all the others share.
        (&[(2, 2), (2, 2), (0, 2), (2, 2)], CPU.to_owned()),
        (&[(1, 1), (0, 0), (0, 1), (1, 1)], CPU.to_owned()),
        (&[(2, 2), (2, 2), (2, 2), (0, 2)], VERSION.to_owned()),
        // The same of a hit that comes only sometimes shows nothing,
        (&[(1, 2), (2, 2), (0, 2), (2, 2)], kernel("thread=single, QEMU 7.2.22")),
        (&[(2, 2), (2, 2), (1, 2), (0, 2)], kernel("thread=single, -cpu z196-base…")),
        // nor where two stay away, nor of a hit that wants real concurrency.
        (&[(2, 2), (2, 2), (0, 2), (0, 2)], kernel("thread=single")),
        (&[(2, 2), (0, 2), (2, 2), (2, 2)], kernel("-cpu z196-base…, QEMU 7.2.22")),
        (&[(2, 2), (0, 2), (0, 2), (2, 2)], kernel("QEMU 7.2.22")),
    ];
    for (counts, expected) in table {
        assert_eq!(judge(&tallies(counts), &emulator()).to_string(), expected, "{counts:?}");
    }
}

pub(crate) fn life(cell: &str, number: u32, verdict: Verdict, ending: Ending, hits: &[&Hit]) -> LifeRecord {
    let life = LifeId { cell: cell.parse().unwrap(), number };
    let run = RunId::new(Timestamp::UNIX_EPOCH, 1);
    let stored = |(index, hit): (usize, &&Hit)| StoredHit {
        id: HitId::new(&run, &life, index),
        step: None,
        judged: JudgedHit { standing: Standing::New, hit: (*hit).clone() },
        places: Vec::new(),
    };
    LifeRecord {
        life,
        scenario: "s".to_owned(),
        label: "s".to_owned(),
        kernel: KernelKey {
            name: "k".to_owned(),
            release: String::new(),
            version: String::new(),
            sha256: String::new(),
        },
        seed: 1,
        protection: crate::plan::Protection::None,
        counting: crate::plan::Counting::On,
        recheck_of: None,
        verdict,
        reason: String::new(),
        ending,
        ready: None,
        steps: Vec::new(),
        hits: hits.iter().enumerate().map(stored).collect(),
        missed: Vec::new(),
        hits_dropped: 0,
        image_sha256: String::new(),
        streams: StreamRecord::default(),
        timings: Timings::default(),
        cpus: Vec::new(),
        dump: None,
    }
}

pub(crate) fn run(lives: Vec<LifeRecord>) -> StoredRun {
    let id = RunId::new(Timestamp::UNIX_EPOCH, 1);
    let record = RunRecord {
        id: id.clone(),
        started: Timestamp::UNIX_EPOCH,
        farm: String::new(),
        command: Vec::new(),
        started_in: None,
        host: HostRecord { arch: String::new(), kernel: String::new(), cpus: 1, memory_mib: 1 },
        qemu: String::new(),
        qemu_path: String::new(),
        scenarios: Vec::new(),
        kernels: Vec::new(),
        lives: 1,
        jobs: 1,
        search: None,
        calibration: None,
        trial: None,
        mutation: None,
        repro: None,
        recheck: Some(RecheckRecord {
            lives: 1,
            emulator: emulator(),
            settings: settings().to_vec(),
            left_out: Vec::new(),
        }),
    };
    let summary =
        RunSummary { id, wall_us: 1, exit: 100, verdicts: BTreeMap::new(), not_begun: 0, exact: None };
    StoredRun {
        directory: "/run".into(),
        record,
        summary: Some(summary),
        search: None,
        lives,
        unfinished: Vec::new(),
    }
}

const CELL: &str = "00000000000000aa";

fn recheck_of(of: u32, setting: usize, life: LifeRecord) -> LifeRecord {
    let of = LifeId { cell: CELL.parse().unwrap(), number: of };
    LifeRecord { recheck_of: Some(RecheckOf { life: of, setting: settings()[setting].clone() }), ..life }
}

#[test]
fn a_life_tells_of_a_finding_if_it_shows_it_or_did_its_job_without() {
    use Ending::{Discarded, JobDone, PoweredOff};
    use Verdict::{
        BootFailed, Hit as Hits, Ineffective, Infra, Missed, Passed, Skipped, TimedOut, WorkloadFailed,
    };
    let (ours, other) = (Hit::hang("ours"), Hit::hang("other"));
    let table: [(Verdict, Ending, &[&Hit], Word); 15] = [
        (Hits, PoweredOff, &[&ours], Word::Seen),
        (Hits, Discarded, &[&other, &ours], Word::Seen),
        (BootFailed, Discarded, &[&ours], Word::Seen),
        (Passed, PoweredOff, &[], Word::NotSeen),
        (Missed, PoweredOff, &[], Word::NotSeen),
        (Hits, PoweredOff, &[&other], Word::NotSeen),
        (Hits, JobDone, &[&other], Word::NotSeen),
        (Hits, Discarded, &[&other], Word::Nothing),
        (BootFailed, PoweredOff, &[], Word::Nothing),
        (WorkloadFailed, PoweredOff, &[], Word::Nothing),
        (Ineffective, PoweredOff, &[], Word::Nothing),
        (TimedOut, Ending::WallLimit, &[], Word::Nothing),
        (Skipped, Ending::NotRun { reason: String::new() }, &[], Word::Nothing),
        (Infra, Ending::Infra { trouble: String::new() }, &[], Word::Nothing),
        (Infra, Ending::Infra { trouble: String::new() }, &[&ours], Word::Nothing),
    ];
    for (verdict, ending, hits, word) in table {
        let life = life(CELL, 1, verdict, ending, hits);
        assert_eq!(word_of(&life, &ours.fingerprint), word, "{:?} {:?}", life.verdict, life.ending);
    }
}

#[test]
fn lives_are_counted_for_the_findings_of_the_life_they_recheck() {
    let (ours, second, stray) = (Hit::hang("ours"), Hit::hang("second"), Hit::hang("stray"));
    let hit = |cell, number, hits: &[&Hit]| life(cell, number, Verdict::Hit, Ending::PoweredOff, hits);
    let broken = LifeRecord {
        reason: "QEMU is gone".to_owned(),
        ..life("00000000000000cc", 1, Verdict::Infra, Ending::Infra { trouble: String::new() }, &[])
    };
    let run = run(vec![
        hit(CELL, 1, &[&ours]),
        // Another life with the same hit is no recheck, and one with another hit was not rechecked.
        hit(CELL, 2, &[&ours]),
        hit(CELL, 3, &[&second]),
        recheck_of(1, 2, broken),
        recheck_of(1, 1, hit("00000000000000bb", 1, &[&stray])),
        recheck_of(1, 1, hit("00000000000000bb", 2, &[&ours])),
        recheck_of(1, 0, hit(CELL, 4, &[&ours, &second])),
    ]);
    let rechecks = rechecks(&run);
    let [recheck] = &rechecks[..] else { panic!("{rechecks:?}") };
    assert_eq!((&recheck.fingerprint, &recheck.title), (&ours.fingerprint, &ours.title));
    let counts: Vec<_> = recheck.tallies.iter().map(|t| (t.setting.clone(), t.seen, t.told)).collect();
    let [same, single, model, _] = settings();
    assert_eq!(counts, [(same, 1, 1), (single, 1, 2), (model, 0, 0)]);
    assert_eq!(recheck.tallies[2].silent, ["infra: QEMU is gone"]);
    assert_eq!(recheck.judgement, Judgement::Kernel { under: vec!["thread=single".to_owned()] });
    assert_eq!(left_alone(&run), 1, "the second");
    // What the run is judged by are the lives that were asked for.
    assert_eq!(run.verdicts(), BTreeMap::from([(Verdict::Hit, 3)]));
}

#[test]
fn a_run_without_rechecks_has_none() {
    let mut run = run(vec![life(CELL, 1, Verdict::Hit, Ending::PoweredOff, &[&Hit::hang("ours")])]);
    assert_eq!((rechecks(&run), left_alone(&run)), (Vec::new(), 1));
    run.record.recheck = None;
    assert_eq!((rechecks(&run), left_alone(&run)), (Vec::new(), 0));
}
