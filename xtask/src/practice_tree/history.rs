//! What a seed makes of the edits: which of them come, in which order, on which line, and what is true of each commit.
//!
//! Pure: the same seed gives the same history.

use std::collections::BTreeSet;

use super::edits::{Catalogue, Edit, Pair};

/// How many commits there are of a kind, about as in the kernel's own history: most change code that is built here.
const SHARES: [(Kind, usize); 6] = [
    (Kind::Code, 26),
    (Kind::Headers, 2),
    (Kind::Comments, 5),
    (Kind::Documentation, 5),
    (Kind::Elsewhere, 6),
    (Kind::Unbuilt, 6),
];
/// How many ranges of commits do not build. Both breaks of the boot, the panic and the hang, are in each tree.
const BUILD_BREAKS: usize = 2;
/// How many ordinary commits come between a break and its mend, at most.
const MOST_WITHIN_BREAK: u64 = 3;

/// What a tree is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) seed: u64,
    /// The mutant shows in one of so many lives.
    pub(super) lives: u32,
    pub(super) unrelated: Unrelated,
}

/// Whether half of the commits have a crash that has nothing to do with the mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unrelated {
    Absent,
    Planted,
}

/// Why a commit is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Code,
    /// Rebuilds much.
    Headers,
    /// Nothing of the kernel's code changes, though files are compiled.
    Comments,
    Documentation,
    /// Another architecture.
    Elsewhere,
    /// What the lean configuration leaves out.
    Unbuilt,
    BuildBreak,
    BuildMend,
    BootBreak,
    BootMend,
    UnrelatedCrash,
    UnrelatedMend,
    Mutant,
    Merge,
}

/// What a test of a commit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Good,
    Bad,
    DoesNotBuild,
    DoesNotBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    Main,
    Side,
}

/// One commit. Its place in [`History::commits`] is its number; parents have lower ones, and the base has none.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) kind: Kind,
    pub(super) line: Line,
    /// None is the base.
    pub(super) parents: Vec<Option<usize>>,
    /// What it changes; a merge changes nothing.
    pub(super) edit: Option<Edit>,
    /// Those whose edits it holds, itself included, in their order.
    pub(super) holds: BTreeSet<usize>,
    pub(super) state: State,
    /// Whether the unrelated crash is in it.
    pub(super) crashes: bool,
    /// Hours that have passed since the commit before.
    pub(super) hours: u64,
    pub(super) author: u64,
}

/// The commits on top of the base, oldest first; the last is the tip.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) commits: Vec<Commit>,
}

/// Commits that stay together: one, or a break with its mend and what is between.
type Item = Vec<(Kind, Edit)>;

impl History {
    pub(super) fn new(catalogue: Catalogue, request: Request) -> Self {
        let mut random = Random(request.seed);
        let mut items = ordinary(&catalogue, &mut random);
        add_breaks(&catalogue, &mut items, &mut random);
        let place = place(request.seed, &items);
        let mutant = random.choose(&catalogue.mutants).in_one_of(request.lives);
        items.insert(place, vec![(Kind::Mutant, mutant)]);
        let side = side_branch(request.seed, place, items.len(), &mut random);
        let merge = (side.end + 3 + random.below(4)).min(items.len());
        let line = |at| if side.contains(&at) { Line::Side } else { Line::Main };
        let items = items.into_iter().enumerate().map(|(at, item)| (line(at), item)).collect();
        let mut lines = Lines { items, merge };
        if request.unrelated == Unrelated::Planted {
            lines.add_unrelated(random.choose(&catalogue.unrelated), &mut random);
        }
        lines.committed(&mut random)
    }

    /// The number of the commit that plants the bug.
    pub(super) fn culprit(&self) -> Option<usize> {
        self.commits.iter().position(|commit| commit.kind == Kind::Mutant)
    }
}

/// Before which item the mutant comes; never behind all, where no side branch could have it. Consecutive seeds have places
/// far from each other: the golden ratio spreads any number of them.
fn place(seed: u64, items: &[Item]) -> usize {
    let commits: usize = items.iter().map(Vec::len).sum();
    let wanted = (seed as f64 * 0.618_033_988_749_894_9).fract() * commits as f64;
    let behind = items.iter().scan(0, |behind, item| {
        *behind += item.len();
        Some(*behind)
    });
    behind.take_while(|behind| *behind as f64 <= wanted).count().min(items.len() - 1)
}

fn ordinary(catalogue: &Catalogue, random: &mut Random) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for (kind, count) in SHARES {
        let edits = match kind {
            Kind::Code => &catalogue.code,
            Kind::Headers => &catalogue.headers,
            Kind::Comments => &catalogue.comments,
            Kind::Documentation => &catalogue.documentation,
            Kind::Elsewhere => &catalogue.elsewhere,
            _ => &catalogue.unbuilt,
        };
        let mut edits = edits.clone();
        random.shuffle(&mut edits);
        items.extend(edits.into_iter().take(count).map(|edit| vec![(kind, edit)]));
    }
    random.shuffle(&mut items);
    items
}

/// Takes ordinary commits into the breaks.
fn add_breaks(catalogue: &Catalogue, items: &mut Vec<Item>, random: &mut Random) {
    let mut build = catalogue.build_breaks.clone();
    random.shuffle(&mut build);
    let build = build.into_iter().take(BUILD_BREAKS).map(|pair| (Kind::BuildBreak, Kind::BuildMend, pair));
    let boot = catalogue.boot_breaks.iter().map(|pair| (Kind::BootBreak, Kind::BootMend, pair.clone()));
    let mut breaks = Vec::new();
    for (kind, mended, Pair { edit, mend }) in build.chain(boot) {
        let within = random.below(MOST_WITHIN_BREAK + 1).min(items.len());
        let mut item = vec![(kind, edit)];
        item.extend(items.split_off(items.len() - within).into_iter().flatten());
        item.push((mended, mend));
        breaks.push(item);
    }
    for item in breaks {
        items.insert(random.below(items.len() as u64 + 1), item);
    }
}

/// Which items are the side branch. Every third seed has the mutant there.
fn side_branch(seed: u64, mutant: usize, items: usize, random: &mut Random) -> std::ops::Range<usize> {
    let length = 4 + random.below(3);
    let with_mutant = seed.is_multiple_of(3);
    let starts: Vec<usize> = (0..items - length)
        .filter(|start| (*start..start + length).contains(&mutant) == with_mutant)
        .collect();
    let start = *random.choose(&starts);
    start..start + length
}

/// The items in their order, and before which of them the side branch is merged.
struct Lines {
    items: Vec<(Line, Item)>,
    merge: usize,
}

impl Lines {
    /// On the main line, half of it apart.
    fn add_unrelated(&mut self, pair: &Pair, random: &mut Random) {
        let on_main: Vec<usize> =
            (0..self.items.len()).filter(|at| self.items[*at].0 == Line::Main).collect();
        let half = on_main.len() / 2;
        let first = random.below(half as u64);
        let (from, to) = (on_main[first], on_main[first + half]);
        self.insert(to, (Kind::UnrelatedMend, pair.mend.clone()));
        self.insert(from, (Kind::UnrelatedCrash, pair.edit.clone()));
    }

    fn insert(&mut self, at: usize, commit: (Kind, Edit)) {
        self.items.insert(at, (Line::Main, vec![commit]));
        if at < self.merge {
            self.merge += 1;
        }
    }

    fn committed(mut self, random: &mut Random) -> History {
        let after = self.items.split_off(self.merge);
        let mut history = History { commits: Vec::new() };
        let (mut tip, mut side) = (None, None);
        for (line, item) in self.items {
            for (kind, edit) in item {
                match line {
                    Line::Main => tip = history.push(kind, line, vec![tip], Some(edit), random),
                    // The branch leaves where the main line was then.
                    Line::Side => side = history.push(kind, line, vec![side.or(tip)], Some(edit), random),
                }
            }
        }
        tip = history.push(Kind::Merge, Line::Main, vec![tip, side], None, random);
        for (kind, edit) in after.into_iter().flat_map(|(_, item)| item) {
            tip = history.push(kind, Line::Main, vec![tip], Some(edit), random);
        }
        history
    }
}

impl History {
    fn push(
        &mut self,
        kind: Kind,
        line: Line,
        parents: Vec<Option<usize>>,
        edit: Option<Edit>,
        random: &mut Random,
    ) -> Option<usize> {
        let number = self.commits.len();
        let inherited = parents.iter().flatten().flat_map(|parent| &self.commits[*parent].holds);
        let mut holds: BTreeSet<usize> = inherited.copied().collect();
        holds.insert(number);
        let count = |wanted: Kind| {
            let own = usize::from(kind == wanted);
            own + holds
                .iter()
                .filter(|held| self.commits.get(**held).is_some_and(|c| c.kind == wanted))
                .count()
        };
        let state = if count(Kind::BuildBreak) > count(Kind::BuildMend) {
            State::DoesNotBuild
        } else if count(Kind::BootBreak) > count(Kind::BootMend) {
            State::DoesNotBoot
        } else if count(Kind::Mutant) > 0 {
            State::Bad
        } else {
            State::Good
        };
        let crashes = count(Kind::UnrelatedCrash) > count(Kind::UnrelatedMend);
        let (hours, author) = (1 + random.below(30) as u64, random.next());
        self.commits.push(Commit { kind, line, parents, edit, holds, state, crashes, hours, author });
        Some(number)
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). A crate's generator may give
/// other numbers after an update, and a seed other commits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> usize {
        (self.next() % limit) as usize
    }

    fn choose<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64)]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seed: u64, unrelated: Unrelated) -> History {
        History::new(Catalogue::embedded(), Request { seed, lives: 1, unrelated })
    }

    fn outline(history: &History) -> Vec<(Kind, Vec<Option<usize>>, String)> {
        let subject = |commit: &Commit| commit.edit.as_ref().map_or_else(String::new, |e| e.subject.clone());
        history.commits.iter().map(|c| (c.kind, c.parents.clone(), subject(c))).collect()
    }

    fn of_kind(history: &History, kind: Kind) -> Vec<usize> {
        (0..history.commits.len()).filter(|at| history.commits[*at].kind == kind).collect()
    }

    #[test]
    fn every_tree_has_all_kinds_and_its_ends_can_be_tested() {
        for seed in 0..200 {
            let history = history(seed, Unrelated::Absent);
            assert_eq!(history.commits.len(), 60, "seed {seed}");
            let mut wanted = SHARES.to_vec();
            wanted.extend([
                (Kind::BuildBreak, 2),
                (Kind::BuildMend, 2),
                (Kind::BootBreak, 2),
                (Kind::BootMend, 2),
            ]);
            wanted.extend([(Kind::Mutant, 1), (Kind::Merge, 1), (Kind::UnrelatedCrash, 0)]);
            for (kind, count) in wanted {
                assert_eq!(of_kind(&history, kind).len(), count, "seed {seed}: {kind:?}");
            }
            let tip = history.commits.last().unwrap();
            assert_eq!(tip.state, State::Bad, "seed {seed}");
            assert_eq!(tip.holds.len(), 60, "seed {seed}: the tip holds all");
            let merge = &history.commits[of_kind(&history, Kind::Merge)[0]];
            let [Some(one), Some(other)] = merge.parents[..] else { panic!("seed {seed}: {merge:?}") };
            assert_eq!((history.commits[one].line, history.commits[other].line), (Line::Main, Line::Side));
            let side = history.commits.iter().filter(|commit| commit.line == Line::Side).count();
            assert!((4..=21).contains(&side), "seed {seed}: {side}");
        }
    }

    #[test]
    fn the_commit_to_find_and_those_before_it_can_be_tested() {
        for seed in 0..200 {
            let history = history(seed, Unrelated::Planted);
            let culprit = &history.commits[history.culprit().unwrap()];
            assert_eq!(culprit.state, State::Bad, "seed {seed}");
            for parent in culprit.parents.iter().flatten() {
                assert_eq!(history.commits[*parent].state, State::Good, "seed {seed}");
            }
            let on_side = culprit.line == Line::Side;
            assert_eq!(on_side, seed % 3 == 0, "seed {seed}");
            for commit in &history.commits {
                let holds = commit.holds.contains(&history.culprit().unwrap());
                let state = commit.state;
                assert!(!matches!((state, holds), (State::Good, true) | (State::Bad, false)), "seed {seed}");
            }
        }
    }

    #[test]
    fn breaks_are_short_and_mended() {
        for seed in 0..200 {
            let history = history(seed, Unrelated::Absent);
            for (broken, mended, state) in [
                (Kind::BuildBreak, Kind::BuildMend, State::DoesNotBuild),
                (Kind::BootBreak, Kind::BootMend, State::DoesNotBoot),
            ] {
                let pairs = of_kind(&history, broken).into_iter().zip(of_kind(&history, mended));
                let mut lengths = 0;
                for (from, to) in pairs {
                    assert!((1..=4).contains(&(to - from)), "seed {seed}: {from} to {to}");
                    assert!(
                        history.commits[from..to].iter().all(|commit| commit.state == state),
                        "seed {seed}"
                    );
                    lengths += to - from;
                }
                let all = history.commits.iter().filter(|commit| commit.state == state).count();
                assert_eq!(all, lengths, "seed {seed}: nothing else is broken");
            }
        }
    }

    #[test]
    fn a_seed_gives_one_history_and_ten_seeds_ten_places() {
        assert_eq!(outline(&history(7, Unrelated::Absent)), outline(&history(7, Unrelated::Absent)));
        for first in [0, 1, 1000] {
            let places: BTreeSet<_> =
                (first..first + 10).map(|seed| history(seed, Unrelated::Absent).culprit()).collect();
            assert_eq!(places.len(), 10, "{places:?}");
        }
    }

    #[test]
    fn the_share_of_lives_changes_the_mutant_and_nothing_else() {
        let one = history(5, Unrelated::Absent);
        let four =
            History::new(Catalogue::embedded(), Request { seed: 5, lives: 4, unrelated: Unrelated::Absent });
        assert_eq!(outline(&one), outline(&four));
        let culprit = one.culprit().unwrap();
        assert_ne!(one.commits[culprit].edit, four.commits[culprit].edit);
    }

    #[test]
    fn an_unrelated_crash_is_in_about_half_of_the_commits() {
        for seed in 0..200 {
            let history = history(seed, Unrelated::Planted);
            assert_eq!(history.commits.len(), 62);
            let crash = history.commits.iter().filter(|commit| commit.crashes).count();
            assert!((20..=42).contains(&crash), "seed {seed}: {crash}");
        }
    }
}
