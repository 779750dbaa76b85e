//! The least set that does something, where all together do it: delta debugging with halves.

use std::collections::BTreeSet;

/// What a set does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// That cannot be told.
    Unclear,
}

/// How many sets that tell nothing are tried in the place of one.
const DETOURS: usize = 12;

/// `probe(found, set)` says what a set does that holds what is found so far.
type Probe<'p, E> = dyn FnMut(&BTreeSet<usize>, &BTreeSet<usize>) -> Result<Answer, E> + 'p;

/// A set of which each member is needed, as far as that shows.
///
/// The whole of `order` does it, and nothing does not. Between a set that does not and one that does, halves narrow down which member makes the
/// difference; that one is needed, and beside it the same is done again for what else is, until the found alone do it. With n
/// members and k needed ones these are about k log2(n) + k probes. What can't be told apart is found together.
pub(super) fn least<E>(order: &[usize], probe: &mut Probe<'_, E>) -> Result<BTreeSet<usize>, E> {
    let mut found = BTreeSet::new();
    let mut left = order.to_vec();
    while probe(&found, &found)? != Answer::Yes && !left.is_empty() {
        let mut low = found.clone();
        let mut rest = left.clone();
        while rest.len() > 1 {
            let mut told = None;
            for part in parts(&rest) {
                let set = low.iter().chain(&part).copied().collect();
                match probe(&found, &set)? {
                    Answer::Unclear => {}
                    answer => {
                        told = Some((part, set, answer));
                        break;
                    }
                }
            }
            match told {
                Some((part, _, Answer::Yes)) => rest = part,
                Some((part, set, _)) => {
                    rest.retain(|one| !part.contains(one));
                    low = set;
                }
                None => break,
            }
        }
        left.retain(|one| low.contains(one) && !rest.contains(one));
        found.extend(rest);
    }
    Ok(found)
}

/// Parts of a list to try one after the other: its first half; and if that tells nothing the other half, then quarters and
/// what is left without one, and so on.
fn parts(rest: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let pieces = std::iter::successors(Some(2), |pieces| Some(pieces * 2));
    pieces
        .take_while(|pieces| *pieces < 2 * rest.len())
        .flat_map(move |pieces| {
            rest.chunks(rest.len().div_ceil(pieces)).flat_map(move |piece| {
                let others = rest.iter().copied().filter(|one| !piece.contains(one)).collect();
                let others: Option<Vec<usize>> = (pieces > 2).then_some(others);
                std::iter::once(piece.to_vec()).chain(others)
            })
        })
        .take(DETOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found among `size`, and in how many probes.
    fn found(size: usize, needed: &[usize], unclear: impl Fn(&BTreeSet<usize>) -> bool) -> (Vec<usize>, u32) {
        let mut probes = 0;
        let order: Vec<usize> = (0..size).collect();
        let found = least(&order, &mut |_, set| {
            probes += 1;
            Ok::<_, ()>(match needed.iter().all(|one| set.contains(one)) {
                _ if unclear(set) => Answer::Unclear,
                true => Answer::Yes,
                false => Answer::No,
            })
        });
        (found.unwrap().into_iter().collect(), probes)
    }

    #[test]
    fn one_two_and_three_are_found_with_a_halving_for_each() {
        for needed in [&[0][..], &[255], &[77], &[3, 200], &[0, 255], &[1, 128, 254]] {
            let (found, probes) = found(256, needed, |_| false);
            assert_eq!(found, needed);
            let most = 9 * needed.len() as u32 + 1;
            assert!(probes <= most, "{needed:?}: {probes} probes");
        }
    }

    #[test]
    fn of_nothing_nothing_is_found_and_one_alone_needs_no_probe() {
        assert_eq!(found(1, &[0], |_| false), (vec![0], 2));
        assert_eq!(found(5, &[], |_| false).0, Vec::<usize>::new());
    }

    #[test]
    fn what_does_not_build_is_gone_round() {
        // 20 without 21 does not build.
        let breaks = |set: &BTreeSet<usize>| set.contains(&20) && !set.contains(&21);
        for needed in [&[5][..], &[20], &[21], &[40], &[5, 40]] {
            let (found, _) = found(64, needed, breaks);
            assert!(needed.iter().all(|one| found.contains(one)), "{needed:?}: {found:?}");
            assert!(found.len() <= needed.len() + 1, "{needed:?}: {found:?}");
        }
    }

    #[test]
    fn the_next_part_is_the_other_half_then_quarters() {
        let all: Vec<Vec<usize>> = parts(&[1, 2, 3, 4]).collect();
        assert_eq!(all[..4], [vec![1, 2], vec![3, 4], vec![1], vec![2, 3, 4]]);
        assert_eq!(all.len(), 10);
        assert_eq!(parts(&[1, 2]).collect::<Vec<_>>(), [vec![1], vec![2]]);
    }
}
