//! Searches on cells that are simulated: a function says how often a scenario shows the hit.

use proptest::prelude::*;

use super::*;
use crate::scenario::tests::{OneFile, library, static_elf};
use crate::scenario::{Action, Budget, Source, check};

const WHOLE: &str = "
name: whole
purpose: p
protection: emulated
uvsim: {busy: 5, freeze-delay: 50us}
modules: [tripwire]
trace: ['sched:*', try_grab_page]
machine: {cpus: 4, memory: 2G, disks: [{size: 64M}, {format: raw}], kernel-args: [quiet, nokaslr]}
heartbeat: 20s
matrix: {seeds: [7]}
steps:
  - {name: first, write: /proc/sys/vm/drop_caches, text: '3'}
  - {stress: splice, args: {mode: file-pipe-file, max-length: 8K}, for: 4s, workers: 4, dir: tmp}
  - {stress: tee, for: 4s, workers: 2, beside: [{interference: compact, args: {rate: 64}}, {interference: ksm, secure: true}]}
  - {stress: gup, for: 4s, workers: 4, secure: true, touches: [{function: try_grab_page, count: 5}]}
  - {stress: dio, args: {depth: 32, engine: uring}, ops: 1000, workers: 4, limit: 2m}
  - {exec: prog, args: [a, b], workers: 3}
";

fn parse(text: &str) -> Option<Scenario> {
    check(Source { file: "a.yaml", text }, &library().catalog, &OneFile(&static_elf())).ok()
}

fn whole() -> Scenario {
    parse(WHOLE).unwrap()
}

fn same(one: &Scenario, other: &Scenario) -> bool {
    let plain = |scenario: &Scenario| Scenario { sha256: String::new(), ..scenario.clone() };
    plain(one) == plain(other)
}

fn step<'s>(scenario: &'s Scenario, program: &str) -> Option<&'s crate::scenario::Step> {
    scenario
        .steps
        .iter()
        .find(|step| matches!(&step.action, Action::Stress { program: known, .. } if known == program))
}

fn is_for(step: &crate::scenario::Step, least: u64) -> bool {
    matches!(step.action, Action::Stress { budget: Budget::For(time), .. } if time.as_millis() >= u128::from(least))
}

fn workers(step: &crate::scenario::Step) -> u32 {
    match step.action {
        Action::Stress { workers, .. } | Action::Exec { workers, .. } => workers,
        Action::Write { .. } => 1,
    }
}

/// What a search on a simulated cell came to, and all it asked.
struct Found {
    scenario: Scenario,
    answer: Answer,
    asked: Vec<(What, String, u32)>,
}

/// As a time that is over ends it.
const MOST_ASKED: usize = 500;

/// `rate` says how often a scenario shows it; a life tells by a number that is drawn.
fn search(
    schedule: Schedule,
    found_in: Option<&str>,
    seed: u64,
    rate: impl Fn(&Scenario, u64) -> Option<f64>,
) -> Found {
    let catalog = library().catalog;
    let mut draws = fastrand::Rng::with_seed(seed);
    let mut search = Search::new(whole(), found_in.map(str::to_owned), schedule, &catalog);
    let mut asked = Vec::new();
    while let Some(ask) = search.next(2) {
        asked.push((ask.what, ask.change.clone(), ask.lives));
        if asked.len() > MOST_ASKED {
            search.stop();
        }
        assert!(asked.len() < MOST_ASKED + 20, "without end: {:?}", &asked[MOST_ASKED..]);
        if !parse(&write(&ask.scenario)).is_some_and(|read| same(&read, &ask.scenario)) {
            search.refuse(&ask);
            continue;
        }
        let live = |number: u32| {
            let seed = u64::from(ask.lived + number);
            let told = match rate(&ask.scenario, seed) {
                None => Told::Silent,
                Some(rate) if draws.f64() < rate => Told::Shown,
                Some(_) => Told::Clean,
            };
            Life { told, seed, seconds: 1.0 }
        };
        let lives: Vec<_> = (0..ask.lives).map(live).collect();
        search.record(&ask, &lives);
    }
    Found { scenario: search.smallest().clone(), answer: Answer::of(&search), asked }
}

fn certain(holds: bool) -> Option<f64> {
    Some(if holds { 1.0 } else { 0.0 })
}

/// gup for 200 ms by two workers, after the write, on two CPUs.
fn needs_two_steps(scenario: &Scenario) -> bool {
    let wrote = scenario.steps.iter().any(|step| matches!(step.action, Action::Write { .. }));
    wrote
        && scenario.machine.cpus >= 2
        && step(scenario, "gup").is_some_and(|step| is_for(step, 200) && workers(step) >= 2)
}

#[test]
fn what_is_needed_stays_and_all_else_goes() {
    let found = search(Schedule::Parallel, Some("gup"), 1, |scenario, _| certain(needs_two_steps(scenario)));
    insta::assert_snapshot!(write(&found.scenario), @r#"
    name: whole
    purpose: p
    steps:
      - {write: /proc/sys/vm/drop_caches, text: 3}
      - {stress: gup, for: 250ms, workers: 2}
    "#);
    assert_eq!(found.answer.end, End::Minimal);
    assert_eq!(found.answer.rate_after.tally, Tally { shown: 10, clean: 0, silent: 0 });
    assert!(found.answer.lives < 130, "{} lives", found.answer.lives);
}

/// Whichever the needed things are, no single one of the rest can be taken away.
#[test]
fn the_answer_is_minimal_under_single_reductions() {
    let dio = |scenario: &Scenario| {
        step(scenario, "dio").is_some_and(|step| step.action.arg("depth").is_some())
            && scenario.machine.disks.len() == 1
    };
    let tee = |scenario: &Scenario| {
        step(scenario, "tee").is_some_and(|step| step.beside.iter().any(|one| one.program == "ksm"))
            && step(scenario, "splice").is_some_and(|step| is_for(step, 1000))
    };
    let exec = |scenario: &Scenario| {
        scenario.steps.iter().any(|step| matches!(step.action, Action::Exec { workers: 3, .. }))
            && scenario.machine.kernel_args.contains(&"nokaslr".to_owned())
            && scenario.uvsim.busy == 5
    };
    let all: [&dyn Fn(&Scenario) -> bool; 4] = [&needs_two_steps, &dio, &tee, &exec];
    for (number, holds) in all.into_iter().enumerate() {
        for found_in in [None, Some("dio"), Some("tee")] {
            let holds = |scenario: &Scenario| {
                number == 1 && scenario.machine.disks.len() == 2 && {
                    step(scenario, "dio").is_some_and(|step| step.action.arg("depth").is_some())
                } || holds(scenario)
            };
            let found = search(Schedule::Parallel, found_in, 1, |scenario, _| certain(holds(scenario)));
            assert_eq!(found.answer.end, End::Minimal);
            assert!(holds(&found.scenario));
            let all = reductions(&found.scenario, found_in, &library().catalog, true);
            let smaller = all.iter().filter(|one| !one.is_shortcut && parse(&write(&one.scenario)).is_some());
            let still: Vec<_> = smaller.filter(|one| holds(&one.scenario)).map(|one| &one.change).collect();
            assert!(still.is_empty(), "{number}: {still:?} of\n{}", write(&found.scenario));
        }
    }
}

#[test]
fn the_same_answers_give_the_same_questions() {
    let one = |seed| {
        search(Schedule::Parallel, None, seed, |scenario, _| {
            needs_two_steps(scenario).then_some(0.5).or(Some(0.0))
        })
    };
    let (first, second) = (one(3), one(3));
    assert_eq!(first.asked, second.asked);
    assert_eq!(first.scenario, second.scenario);
}

/// A steady hit: one life decides whether it is kept, two whether it is lost, and no cell is decided twice.
#[test]
fn no_cell_is_tried_again_once_it_is_decided() {
    let catalog = library().catalog;
    let mut search = Search::new(whole(), None, Schedule::Parallel, &catalog);
    let mut decided: BTreeSet<String> = BTreeSet::new();
    while let Some(ask) = search.next(2) {
        let told = if needs_two_steps(&ask.scenario) { Told::Shown } else { Told::Clean };
        let lives = vec![Life { told, seed: 1, seconds: 1.0 }; ask.lives as usize];
        let standing = search.record(&ask, &lives);
        if let What::Candidate(_) = ask.what {
            let text = write(&ask.scenario);
            assert!(!decided.contains(&text), "{}", ask.change);
            if standing != Standing::Open {
                decided.insert(text);
            }
        }
    }
    assert!(decided.len() > 20);
}

/// In one of three lives; with less time more seldom.
#[test]
fn a_flaky_hit_keeps_its_core_and_its_rate() {
    let rate = |scenario: &Scenario| match step(scenario, "gup") {
        Some(step) if scenario.machine.cpus >= 2 && workers(step) >= 2 => {
            let Action::Stress { budget: Budget::For(time), .. } = step.action else { return 0.0 };
            1.0 - (-time.as_secs_f64() * 0.1).exp()
        }
        _ => 0.0,
    };
    let full = rate(&whole());
    assert!((0.3..0.35).contains(&full));
    let (mut fallen, mut large, mut minimal) = (0, 0, 0);
    const SEARCHES: u64 = 20;
    for seed in 0..SEARCHES {
        let found = search(Schedule::Parallel, Some("gup"), seed, |scenario, _| Some(rate(scenario)));
        assert!(rate(&found.scenario) > 0.0, "a hit is certain evidence");
        // A quarter in time, and then a little.
        fallen += u32::from(rate(&found.scenario) < full / 8.0);
        let is_large = found.scenario.steps.len() > 1 || found.scenario.machine.cpus > 2;
        minimal += u32::from(found.answer.end == End::Minimal);
        large += u32::from(is_large && found.answer.end == End::Minimal);
    }
    assert!(minimal > 10, "only {minimal} of {SEARCHES} came to an end");
    assert!(fallen <= 2, "{fallen} of {SEARCHES} fell below an eighth");
    assert!(large <= 2, "{large} of {minimal} kept what is not needed");
}

/// With little luck a candidate that shows it seldom is taken for the smallest: what follows says so, and it is given back.
#[test]
fn what_was_kept_by_luck_is_given_back() {
    let catalog = library().catalog;
    let mut search = Search::new(whole(), None, Schedule::Parallel, &catalog);
    let life = |told| Life { told, seed: 1, seconds: 1.0 };
    let ask = search.next(2).unwrap();
    search.record(&ask, &[life(Told::Shown); 6]);
    let lucky = search.next(2).unwrap();
    assert_eq!(search.record(&lucky, &[life(Told::Shown)]), Standing::Kept);
    assert_eq!(search.smallest(), &lucky.scenario);
    let mut was_asked_again = false;
    while search.smallest() == &lucky.scenario {
        let ask = search.next(2).unwrap();
        was_asked_again |= ask.what == What::Smallest;
        search.record(&ask, &vec![life(Told::Clean); ask.lives as usize]);
        search.next(2);
    }
    assert!(was_asked_again);
    assert_eq!(search.smallest(), search.original());
}

#[test]
fn lives_that_cannot_tell_keep_nothing_and_lose_nothing() {
    // A shorter gup cannot tell; everything else can.
    let found = search(Schedule::Parallel, Some("gup"), 1, |scenario, _| match step(scenario, "gup") {
        Some(step) if !is_for(step, 4000) => None,
        gup => certain(gup.is_some()),
    });
    assert!(step(&found.scenario, "gup").is_some_and(|step| is_for(step, 4000)));
    assert_eq!(found.answer.mute, ["for 1/2 of the time"]);
}

#[test]
fn what_takes_longer_is_no_smaller() {
    let catalog = library().catalog;
    let mut search = Search::new(whole(), None, Schedule::Parallel, &catalog);
    while let Some(ask) = search.next(2) {
        // Without options dio does all that it can.
        let has_options = step(&ask.scenario, "dio").is_some_and(|step| step.action.arg("depth").is_some());
        let life = Life { told: Told::Shown, seed: 1, seconds: if has_options { 1.0 } else { 2.5 } };
        let mut lives = vec![life; ask.lives as usize];
        if ask.what != What::Confirmation && lives.len() > 1 {
            // One that hung, and says nothing of the others.
            lives[0].seconds = 100.0;
        }
        search.record(&ask, &lives);
    }
    assert!(step(search.smallest(), "dio").is_some_and(|step| step.action.arg("depth").is_some()));
    assert_eq!(search.smallest().steps.len(), 1);
    assert!(is_slower(2.6, 1.2) && !is_slower(2.3, 1.2) && !is_slower(0.04, 0.001));
}

#[test]
fn a_hit_that_does_not_come_again_is_not_made_smaller() {
    let found = search(Schedule::Parallel, None, 1, |_, _| Some(0.0));
    assert_eq!((found.answer.end, found.answer.candidates), (End::NotSeen, 0));
    assert_eq!(found.scenario, whole());
    let found = search(Schedule::Parallel, None, 1, |_, _| None);
    assert_eq!((found.answer.end, found.answer.lives), (End::NotSeen, 40));
}

#[test]
fn what_is_stopped_has_the_smallest_so_far() {
    let catalog = library().catalog;
    let mut search = Search::new(whole(), Some("gup".to_owned()), Schedule::Parallel, &catalog);
    let shown = Life { told: Told::Shown, seed: 1, seconds: 1.0 };
    for _ in 0..2 {
        let ask = search.next(1).unwrap();
        search.record(&ask, &vec![shown; ask.lives as usize]);
    }
    search.stop();
    assert_eq!(search.smallest().steps.len(), 1);
    let ask = search.next(1).unwrap();
    assert_eq!((ask.what, ask.lives), (What::Confirmation, 10));
    search.record(&ask, &[shown; 10]);
    assert_eq!(search.next(1), None);
    let answer = Answer::of(&search);
    assert_eq!((answer.end, answer.rate_after.tally.shown), (End::Stopped, 10));
    assert_eq!((answer.before.steps, answer.after.steps), (6, 1));
}

/// Each life of a candidate has a seed of its own, though the smallest's own is one that an earlier candidate drew.
#[test]
fn no_seed_of_a_cell_comes_twice() {
    let catalog = library().catalog;
    let mut search = Search::new(whole(), None, Schedule::Deterministic, &catalog);
    let mut lived: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let (mut number, mut longest) = (0, 0);
    while let Some(ask) = search.next(3) {
        let own = ask.scenario.matrix.seeds.first().copied().unwrap_or(1);
        let known = lived.entry(key(&ask.scenario, Schedule::Deterministic)).or_default();
        let live = |seed: Option<u64>| {
            let seed = seed.unwrap_or(own);
            assert!(known.insert(seed), "{}: {seed} again", ask.change);
            number += 1;
            // Neither the first nor each.
            let told =
                if needs_two_steps(&ask.scenario) && number % 3 == 0 { Told::Shown } else { Told::Clean };
            Life { told, seed, seconds: 1.0 }
        };
        let lives: Vec<_> = ask.seeds(7).map(live).collect();
        assert_eq!(lives.len(), ask.lives as usize);
        longest = longest.max(known.len());
        search.record(&ask, &lives);
    }
    assert!(longest > 10 && search.smallest().matrix.seeds != [7]);
}

/// A change makes another schedule: which seeds show it is another set for each cell, and the one that did is the answer's.
#[test]
fn a_deterministic_cell_ends_with_a_seed_that_shows_it() {
    let shows = |scenario: &Scenario, seed: u64| {
        let text = key(scenario, Schedule::Deterministic);
        let hash = text
            .bytes()
            .fold(seed.wrapping_mul(0x9e37), |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        needs_two_steps(scenario) && hash % 8 < 6
    };
    let found =
        search(Schedule::Deterministic, Some("gup"), 1, |scenario, seed| certain(shows(scenario, seed)));
    assert!(found.scenario.steps.len() < 6 && found.scenario.matrix.seeds != [7]);
    let seed = found.scenario.matrix.seeds.first().copied().unwrap_or(1);
    assert!(shows(&found.scenario, seed), "seed {seed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Over all scenarios of farm's own, and whatever is taken away of them.
    #[test]
    fn what_is_smaller_is_no_scenario_or_is_read_back(
        which in any::<prop::sample::Index>(),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let library = library();
        let mut all = library.all().unwrap();
        all.push(whole());
        let mut scenario = all.swap_remove(which.index(all.len()));
        let matrix = std::mem::take(&mut scenario.matrix);
        scenario.matrix.seeds = matrix.seeds;
        for choice in choices {
            let all = reductions(&scenario, None, &library.catalog, true);
            if all.is_empty() {
                break;
            }
            let one = all[choice.index(all.len())].clone();
            if let Some(read) = parse(&write(&one.scenario)) {
                let read = Scenario { file: one.scenario.file.clone(), ..read };
                prop_assert!(same(&read, &one.scenario), "{}", write(&one.scenario));
                scenario = one.scenario;
            }
        }
    }
}
