//! Simulated bisections: how often the answer is right beside what is claimed, and what it takes beside the ways of others.
//!
//! A row is so many histories, each drawn from its number, so the tables are the same on any machine but for the CPU time. A trial costs 1.

use std::ops::AddAssign;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use farm::bisect::simulation::{Branches, Drift, End, Ends, Peer, Played, Prices, Shape, World, play_farm};
use farm::bisect::{Confidence, Costs, History, Options, Seconds};

use super::{heading, row};

const SIZES: [usize; 2] = [100, 1000];
const BUILDS: [f64; 3] = [1.0, 20.0, 100.0];
const CONFIDENCES: [f64; 5] = [0.8, 0.9, 0.95, 0.99, 0.999];
const UNFIT: f64 = 0.1;

/// The reproduction rate of a row's histories.
#[derive(Clone, Copy)]
enum Rate {
    Constant(f64),
    /// By turns: up, down, over a hill and through a vale, between 0.1 and 0.5.
    Drifting,
}

const RATES: [Rate; 5] =
    [Rate::Constant(0.02), Rate::Constant(0.1), Rate::Constant(0.3), Rate::Constant(1.0), Rate::Drifting];

impl Rate {
    fn name(self) -> String {
        match self {
            Self::Constant(rate) => rate.to_string(),
            Self::Drifting => "0.1–0.5, drifting".to_owned(),
        }
    }

    fn of(self, number: u64) -> Drift {
        const LOW: f64 = 0.1;
        const HIGH: f64 = 0.5;
        match self {
            Self::Constant(rate) => Drift::None(rate),
            Self::Drifting => match number % 4 {
                0 => Drift::Slope(LOW, HIGH),
                1 => Drift::Slope(HIGH, LOW),
                2 => Drift::Hill(LOW, HIGH),
                _ => Drift::Hill(HIGH, LOW),
            },
        }
    }
}

/// What a row's histories have in common.
#[derive(Clone, Copy)]
struct Kind {
    commits: usize,
    branches: Branches,
    unfit: f64,
    build: f64,
    rate: Rate,
}

/// Sums over a row's histories.
#[derive(Clone, Copy, Default)]
struct Sums {
    played: f64,
    right: f64,
    wrong: f64,
    claimed: f64,
    builds: f64,
    trials: f64,
    cost: f64,
}

impl AddAssign<Played> for Sums {
    fn add_assign(&mut self, one: Played) {
        self.played += 1.0;
        self.right += f64::from(u8::from(one.end == End::Right));
        self.wrong += f64::from(u8::from(one.end == End::Wrong));
        if one.end != End::NoAnswer {
            self.claimed += one.claimed;
        }
        self.builds += f64::from(one.spent.builds);
        self.trials += f64::from(one.spent.trials);
        self.cost += one.spent.seconds;
    }
}

impl Sums {
    fn answered(&self) -> f64 {
        self.right + self.wrong
    }

    fn mean_cost(&self) -> f64 {
        self.cost / self.played
    }

    fn right(&self) -> String {
        percent(self.right / self.played)
    }

    fn no_answer(&self) -> String {
        percent(1.0 - self.answered() / self.played)
    }

    fn work(&self) -> [String; 3] {
        [self.builds, self.trials, self.cost].map(|sum| format!("{:.1}", sum / self.played))
    }
}

pub(super) fn measure(histories: u64) -> Result<()> {
    println!("{histories} histories in each row; seconds are in units of a trial");
    let started = Instant::now();
    let mut searches = 0;

    heading(
        "Bisection: branches, merges, a tenth of the commits cannot be tried",
        &["commits", "build", "rate", "right", "no answer", "claimed", "builds", "trials", "cost"],
    );
    for commits in SIZES {
        for build in BUILDS {
            for rate in RATES {
                let kind = Kind { commits, branches: Branches::Merged, unfit: UNFIT, build, rate };
                let sums = farm(kind, histories, Confidence::DEFAULT)?;
                searches += histories;
                let claimed = percent(sums.claimed / sums.answered());
                let [builds, trials, cost] = sums.work();
                let head = [commits.to_string(), build.to_string(), rate.name()];
                let tail = [sums.right(), sums.no_answer(), claimed, builds, trials, cost];
                row(&[&head[..], &tail].concat());
            }
        }
    }
    let each = started.elapsed().as_secs_f64() / searches as f64;
    println!("\nA whole search, all its decisions, takes {:.1} ms on two CPUs.", each * 1e3);

    heading(
        "Claimed and real confidence: 100 commits, as above, build 20",
        &["asked for", "rate", "answers", "claimed", "right"],
    );
    for asked in CONFIDENCES {
        let confidence = Confidence::new(asked).context("no confidence")?;
        for rate in RATES {
            let kind =
                Kind { commits: SIZES[0], branches: Branches::Merged, unfit: UNFIT, build: BUILDS[1], rate };
            let sums = farm(kind, histories, confidence)?;
            let answered = sums.answered();
            let [claimed, right] = [sums.claimed, sums.right].map(|sum| percent(sum / answered));
            row(&[percent(asked), rate.name(), answered.to_string(), claimed, right]);
        }
    }
    beside_others(histories)
}

/// The ways of others, where the rate goes along history like this.
fn ways(told: Drift) -> [(&'static str, Peer); 4] {
    let confidence = Confidence::DEFAULT.share();
    let git = |ends: Ends| Peer::GitBisect { told, confidence, ends };
    [
        ("git bisect, told the rate", git(Ends::Checked)),
        ("… and its ends trusted", git(Ends::Trusted)),
        ("syzkaller's rule", Peer::Syzkaller),
        ("git_bayesect", Peer::Bayesect { confidence }),
    ]
}

/// A line of commits that all can be tried: what all of them can search.
fn beside_others(histories: u64) -> Result<()> {
    let titles = [
        "commits",
        "rate",
        "way",
        "right",
        "no answer",
        "builds",
        "trials",
        "cost",
        "cost of a right answer",
        "farm's cost to it",
    ];
    heading("Bisection beside others: a line of commits, all can be tried, build 20", &titles);
    for commits in SIZES {
        for rate in RATES {
            let kind = Kind { commits, branches: Branches::None, unfit: 0.0, build: BUILDS[1], rate };
            let farm = farm(kind, histories, Confidence::DEFAULT)?;
            let mut all = vec![("farm", farm)];
            for (index, (name, _)) in ways(rate.of(0)).into_iter().enumerate() {
                let play = |world: &World, history: &History, number| {
                    let (_, peer) = ways(rate.of(number))[index];
                    peer.play(world, history, number)
                };
                all.push((name, sums(kind, histories, play)?));
            }
            for (name, sums) in all {
                let [builds, trials, cost] = sums.work();
                let of_right = if sums.right > 0.0 {
                    format!("{:.0}", sums.cost / sums.right)
                } else {
                    "–".to_owned()
                };
                let ratio = format!("{:.2}", farm.mean_cost() / sums.mean_cost());
                let head = [commits.to_string(), rate.name(), name.to_owned()];
                let tail = [sums.right(), sums.no_answer(), builds, trials, cost, of_right, ratio];
                row(&[&head[..], &tail].concat());
            }
        }
    }
    Ok(())
}

fn farm(kind: Kind, histories: u64, confidence: Confidence) -> Result<Sums> {
    let options = Options::new(confidence, kind.costs());
    sums(kind, histories, |world, history, number| play_farm(world, history, options, number))
}

/// On two threads: history 0, 2, 4 … and 1, 3, 5 …
fn sums(kind: Kind, histories: u64, play: impl Fn(&World, &History, u64) -> Played + Sync) -> Result<Sums> {
    let half = |first: usize| -> Result<Sums> {
        let mut sums = Sums::default();
        for number in (first as u64..histories).step_by(2) {
            let world = kind.shape(number).draw(number);
            let history = History::new(&world.parents, world.good, world.bad)?;
            sums += play(&world, &history, number);
        }
        Ok(sums)
    };
    let halves = thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        [half(0), other.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))]
    });
    let [one, other] = halves;
    let (one, other) = (one?, other?);
    Ok(Sums {
        played: one.played + other.played,
        right: one.right + other.right,
        wrong: one.wrong + other.wrong,
        claimed: one.claimed + other.claimed,
        builds: one.builds + other.builds,
        trials: one.trials + other.trials,
        cost: one.cost + other.cost,
    })
}

impl Kind {
    fn costs(self) -> Costs {
        Costs { build: Seconds(self.build), cached: Seconds(0.0), trial: Seconds(1.0) }
    }

    fn shape(self, number: u64) -> Shape {
        let prices = Prices { guess: self.costs(), incremental: None };
        let Self { commits, branches, unfit, .. } = self;
        Shape { commits, branches, unfit, drift: self.rate.of(number), prices }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
