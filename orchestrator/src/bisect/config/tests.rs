//! Planted causes over a stand-in for Kconfig.

use std::convert::Infallible;

use proptest::prelude::*;

use super::standin::{Kind, StandIn, Symbol};
use super::{Difference, Found, Known, Next, Request, Sampling, TestOutcome, Verdict, next};
use crate::kernel::Options;

/// A configuration to try.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    request: &'a Request,
    /// So many times at most: a hit may end it.
    trials: u32,
}

/// Goes on until there is a verdict: `settle` is the tree's `olddefconfig`, `trial` tries a configuration, at least once.
fn drive<E>(
    difference: &Difference,
    known: &mut Known,
    sampling: Sampling,
    settle: &mut dyn FnMut(&str) -> Result<Options, E>,
    trial: &mut dyn FnMut(&Step<'_>) -> Result<Vec<TestOutcome>, E>,
) -> Result<Verdict, E> {
    loop {
        match next(difference, known, sampling) {
            Next::Settle(request) => {
                let settled = settle(&difference.asked(&request))?;
                known.settle(request, difference.changes_in(&settled));
            }
            Next::Try { request, changes, trials } => {
                for outcome in trial(&Step { request: &request, trials })? {
                    known.record(changes.clone(), outcome);
                }
            }
            Next::Done(verdict) => return Ok(verdict),
        }
    }
}

/// What was found, and how many configurations and trials it took.
struct Ran {
    verdict: Verdict,
    configurations: usize,
    trials: u32,
}

fn run(
    standin: &StandIn,
    difference: &Difference,
    sampling: Sampling,
    mut outcome: impl FnMut(&Options) -> TestOutcome,
) -> Ran {
    let mut known = Known::default();
    let mut settle = |text: &str| Ok::<_, Infallible>(standin.olddefconfig(text));
    let mut trial = |step: &Step<'_>| {
        let settled = standin.settle(difference, step.request);
        let mut outcomes = Vec::new();
        while outcomes.len() < step.trials as usize && !outcomes.contains(&TestOutcome::Hit) {
            outcomes.push(outcome(&settled));
        }
        Ok(outcomes)
    };
    let Ok(verdict) = drive(difference, &mut known, sampling, &mut settle, &mut trial);
    let tried = || known.tallies();
    Ran {
        verdict,
        configurations: tried().count(),
        trials: tried().map(|tally| tally.trials() + tally.unresolved).sum(),
    }
}

fn hit_if(bad: bool) -> TestOutcome {
    if bad { TestOutcome::Hit } else { TestOutcome::Clean }
}

fn names(changes: &[super::Change]) -> Vec<&str> {
    changes.iter().map(|change| change.option.as_str()).collect()
}

fn found(ran: &Ran) -> &Found {
    match &ran.verdict {
        Verdict::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn all_on(symbols: &[Symbol]) -> String {
    symbols.iter().enumerate().map(|(number, _)| format!("CONFIG_S{number:03}=y\n")).collect()
}

/// 64 options; of which 10 can be a module, 11 depends on 40 (by being after it) …
fn mixed() -> StandIn {
    let mut symbols = vec![Symbol::new(Kind::Bool); 64];
    symbols[10] = Symbol::new(Kind::Tristate);
    symbols[11] = Symbol::new(Kind::Tristate).on(&[10]);
    symbols[20] = Symbol::new(Kind::Int).on(&[19]);
    symbols[22] = Symbol::new(Kind::Int);
    symbols[40].depends = vec![(39, false)];
    symbols[41].depends = vec![(40, false)];
    symbols[45].depends = vec![(44, true)];
    symbols[50].selects = vec![0, 1];
    symbols[0].prompt = false;
    for member in &mut symbols[30..33] {
        member.choice = Some(0);
    }
    StandIn(symbols)
}

#[test]
fn each_kind_of_cause_is_found_with_what_it_drags_along() {
    let standin = mixed();
    let good = "CONFIG_S010=m\nCONFIG_S011=m\nCONFIG_S022=5\nCONFIG_S030=y\nCONFIG_S044=y\n";
    let bad = all_on(&standin.0)
        .replace("S022=y", "S022=7")
        .replace("CONFIG_S032=y\n", "")
        .replace("S020=y", "S020=9")
        .replace("CONFIG_S044=y\n", "");
    let difference = standin.difference(good, &bad);
    // What must hold, the causes, and what is dragged along.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);
    let cases: [Case; 12] = [
        (&[("S005", "y")], &["S005"], &[]),
        (&[("S063", "y")], &["S063"], &[]),
        (&[("S010", "y")], &["S010"], &[]),
        (&[("S011", "y")], &["S011"], &["S010"]),
        (&[("S022", "7")], &["S022"], &[]),
        (&[("S020", "9")], &["S020"], &["S019"]),
        (&[("S031", "y")], &["S031"], &[]),
        (&[("S041", "y")], &["S041"], &["S039", "S040"]),
        (&[("S045", "y")], &["S045"], &["S044"]),
        (&[("S000", "y")], &["S050"], &[]),
        (&[("S001", "y")], &["S001"], &[]),
        (&[("S003", "y"), ("S041", "y"), ("S060", "y")], &["S003", "S041", "S060"], &["S039", "S040"]),
    ];
    for (planted, causes, dragged) in cases {
        let ran = run(&standin, &difference, Sampling::Once, |settled| {
            hit_if(planted.iter().all(|(name, value)| settled.value(name) == *value))
        });
        let found = found(&ran);
        assert_eq!(names(&found.causes), causes, "{planted:?}");
        assert_eq!(names(&found.dragged), dragged, "{planted:?}");
        let most = 7 * causes.len() + 3 + dragged.len();
        assert!(ran.configurations <= most, "{planted:?}: {} configurations", ran.configurations);
        assert_eq!(ran.trials as usize, ran.configurations);
    }
}

#[test]
fn what_an_option_brings_is_in_the_fragment_and_what_it_would_bring_by_default_is_held_back() {
    let standin = mixed();
    let difference = standin.difference("CONFIG_S030=y\n", &all_on(&standin.0));
    let ran = run(&standin, &difference, Sampling::Once, |settled| hit_if(settled.value("S000") == "y"));
    let found = found(&ran);
    let changes: Vec<_> = found.changes.iter().collect();
    assert_eq!(changes, [("S000", "y"), ("S001", "y"), ("S050", "y")]);
    let settled = standin.settle(&difference, &found.request);
    assert_eq!(difference.fragment(&settled, &standin.kconfig()), "CONFIG_S001=y\nCONFIG_S050=y\n");

    let ran = run(&standin, &difference, Sampling::Once, |settled| hit_if(settled.value("S039") == "y"));
    let settled = standin.settle(&difference, &self::found(&ran).request);
    let fragment = difference.fragment(&settled, &standin.kconfig());
    assert_eq!(fragment, "CONFIG_S039=y\n# CONFIG_S040 is not set\n");
}

#[test]
fn what_is_no_search_is_said() {
    let standin = mixed();
    let difference = standin.difference("", &all_on(&standin.0));
    for (outcome, verdict) in [
        (TestOutcome::Hit, Verdict::GoodHits),
        (TestOutcome::Clean, Verdict::BadIsClean),
        (TestOutcome::Unresolved, Verdict::Unresolved),
    ] {
        assert_eq!(run(&standin, &difference, Sampling::Once, |_| outcome).verdict, verdict);
    }
    let same = standin.difference("CONFIG_S004=y\n", "CONFIG_S004=y\n");
    assert_eq!(run(&standin, &same, Sampling::Once, |_| TestOutcome::Hit).verdict, Verdict::NoDifference);
}

/// S020 breaks the build unless S050 is on, which stands far behind it.
#[test]
fn a_configuration_that_does_not_build_is_gone_round() {
    let standin = StandIn(vec![Symbol::new(Kind::Bool); 64]);
    let difference = standin.difference("", &all_on(&standin.0));
    let on = |settled: &Options, name: &str| settled.value(name) == "y";
    let breaks = |settled: &Options| on(settled, "S020") && !on(settled, "S050");
    for (planted, causes, unclear) in
        [("S010", &["S010"][..], &[][..]), ("S030", &["S030"], &[]), ("S020", &["S020"], &["S050"])]
    {
        let ran = run(&standin, &difference, Sampling::Once, |settled| {
            if breaks(settled) { TestOutcome::Unresolved } else { hit_if(on(settled, planted)) }
        });
        let found = found(&ran);
        assert_eq!((names(&found.causes), names(&found.unclear)), (causes.to_vec(), unclear.to_vec()));
        assert!(ran.configurations < 40, "{}", ran.configurations);
    }
}

/// Hits that come by chance, drawn from a seed.
struct Luck(u64);

impl Luck {
    /// Marsaglia's xorshift64 (Journal of Statistical Software 8:14, 2003).
    fn comes(&mut self, percent: u64) -> bool {
        for shift in [13, -7, 17_i32] {
            self.0 ^= if shift < 0 { self.0 >> -shift } else { self.0 << shift };
        }
        (self.0 >> 11) % 100 < percent
    }
}

#[test]
fn a_cause_that_shows_in_part_of_the_trials_is_found_whatever_the_luck() {
    let standin = mixed();
    let difference = standin.difference("CONFIG_S030=y\n", &all_on(&standin.0));
    let sampling = Sampling::Repeated { wrong_at_most: 0.01, most_measured: 300 };
    for percent in [100, 50, 20] {
        for seed in 1..=8 {
            let mut luck = Luck(u64::MAX / 37 * seed);
            let ran = run(&standin, &difference, sampling, |settled| {
                let bad = settled.value("S007") == "y" && settled.value("S041") == "y";
                hit_if(bad && luck.comes(percent))
            });
            let found = found(&ran);
            assert_eq!(names(&found.causes), ["S007", "S041"], "{percent} %, seed {seed}");
            assert_eq!(names(&found.dragged), ["S039", "S040"]);
            assert!(found.wrong_at_most <= 0.01, "{}", found.wrong_at_most);
            assert!(ran.configurations <= 22, "{}", ran.configurations);
        }
    }
}

/// The minimal configuration shows it in every fifth trial, the bad one in each: what was measured of the bad one alone
/// would call it good too soon.
#[test]
fn the_rate_of_the_least_set_counts_too() {
    let standin = StandIn(vec![Symbol::new(Kind::Bool); 64]);
    let difference = standin.difference("", &all_on(&standin.0));
    let sampling = Sampling::Repeated { wrong_at_most: 0.01, most_measured: 300 };
    for seed in 1..=8 {
        let mut luck = Luck(u64::MAX / 37 * seed);
        let ran = run(&standin, &difference, sampling, |settled| {
            let percent = if settled.value("S040") == "y" { 100 } else { 20 };
            hit_if(settled.value("S020") == "y" && luck.comes(percent))
        });
        let causes = names(&found(&ran).causes);
        assert!(causes.contains(&"S020"), "{causes:?}");
        assert!(causes == ["S020"] || causes == ["S020", "S040"], "{causes:?}");
    }
}

fn symbol(number: usize) -> impl Strategy<Value = Symbol> {
    let kind = prop_oneof![5 => Just(Kind::Bool), 3 => Just(Kind::Tristate), 1 => Just(Kind::Int)];
    let before = prop::collection::vec((8..number.max(9), prop::bool::weighted(0.2)), 0..3);
    let selects = prop::collection::vec(0..8_usize, 0..2);
    let (prompt, choice) = (prop::bool::weighted(0.8), prop::option::weighted(0.1, 0..2_usize));
    (kind, before, selects, prompt, choice).prop_map(move |(kind, before, selects, prompt, choice)| {
        let is_selected = number < 8;
        let mut symbol = Symbol { kind, prompt, depends: before, selects, choice };
        if is_selected {
            symbol = Symbol { depends: Vec::new(), selects: Vec::new(), choice: None, ..symbol };
        }
        symbol.depends.retain(|(on, _)| *on < number);
        if symbol.choice.is_some() {
            symbol =
                Symbol { kind: Kind::Bool, prompt: true, depends: Vec::new(), selects: Vec::new(), ..symbol };
        }
        if symbol.kind == Kind::Int {
            symbol = Symbol { prompt: true, selects: Vec::new(), ..symbol };
        }
        symbol
    })
}

fn any_standin() -> impl Strategy<Value = StandIn> {
    (0..60).map(symbol).collect::<Vec<_>>().prop_map(StandIn)
}

fn any_configuration() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("n"), Just("m"), Just("y")], 60).prop_map(|values| {
        let line = |(number, value)| format!("CONFIG_S{number:03}={value}\n");
        values.into_iter().enumerate().map(line).collect()
    })
}

proptest! {
    /// Whatever Kconfig's rules and the two configurations are, one to three planted options are found: what is asked for
    /// shows it, and without any one option of it does not.
    #[test]
    fn what_is_found_does_it_and_nothing_of_it_can_be_left_out(
        standin in any_standin(),
        good in any_configuration(),
        bad in any_configuration(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..=3),
    ) {
        let difference = standin.difference(&good, &bad);
        prop_assume!(!difference.changes().is_empty());
        let planted: Vec<_> = picks.iter().map(|pick| pick.get(difference.changes())).collect();
        let shows = |settled: &Options| planted.iter().all(|one| settled.value(&one.option) == one.bad);
        let ran = run(&standin, &difference, Sampling::Once, |settled| hit_if(shows(settled)));
        let found = found(&ran);
        prop_assert!(shows(&standin.settle(&difference, &found.request)));
        prop_assert_eq!(found.request.len(), found.causes.len() + found.dragged.len());
        for one in &found.request {
            let mut less = found.request.clone();
            less.remove(one);
            prop_assert!(!shows(&standin.settle(&difference, &less)), "without {}", one);
        }
        prop_assert!(ran.configurations <= 9 * (planted.len() + found.dragged.len()) + 8, "{}", ran.configurations);
    }
}
