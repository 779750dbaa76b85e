//! Seeds of steps, drawn from the seed of the cell.

use sha2::{Digest, Sha256};

/// The seed of a cell where nobody says another: the same for everyone, so that two people who run the same
/// scenario run the same cell.
pub const DEFAULT_SEED: u64 = 1;

/// A seed's lowest bits: worker N of the step adds N, and there are at most 64 workers.
const WORKER_BITS: u32 = 8;
/// Then the step's number; a scenario has at most 64 steps.
const STEP_BITS: u32 = 8;
/// All bits: what every JSON reader keeps exactly (RFC 8259, section 6).
const SEED_BITS: u32 = 53;

/// The seed of step `index`, counted from 0.
///
/// The upper bits are a hash of both, so that neighbouring cells and steps have nothing in common. The
/// step's number stands in the seed itself: no two workers of any two steps of a cell can get the same one.
pub fn step_seed(cell: u64, index: usize) -> u64 {
    let index = index as u64;
    let hash = Sha256::new().chain_update(cell.to_be_bytes()).chain_update(index.to_be_bytes()).finalize();
    let random = hash.iter().take(8).fold(0_u64, |seed, byte| seed << 8 | u64::from(*byte));
    let low = (index % (1 << STEP_BITS)) << WORKER_BITS;
    random >> (64 - SEED_BITS) & !((1 << (STEP_BITS + WORKER_BITS)) - 1) | low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn no_two_workers_share_a_seed(cell: u64) {
            let seeds: HashSet<u64> =
                (0..64).flat_map(|step| (1..=64).map(move |worker| step_seed(cell, step) + worker)).collect();
            prop_assert_eq!(seeds.len(), 64 * 64);
            prop_assert!(seeds.iter().all(|seed| *seed < 1 << 53));
        }
    }

    #[test]
    fn neighbouring_cells_and_steps_are_far_apart() {
        let upper = |cell, step| step_seed(cell, step) >> 16;
        let all: HashSet<u64> = (0..50).flat_map(|cell| (0..50).map(move |step| upper(cell, step))).collect();
        assert_eq!(all.len(), 2500);
    }

    /// A bundle or a report from last year names a cell's seed; its steps must do the same work today.
    #[test]
    fn seeds_stay_as_they_are() {
        // From sha256sum over the two numbers as 16 big-endian bytes: the first eight bytes of its output.
        let hashes = [0x7838_2582_2a6f_9e62_u64, 0x4258_d21f_a8b0_8977];
        assert_eq!(step_seed(1, 0), (hashes[0] >> 11) & !0xffff);
        assert_eq!(step_seed(7, 3), (hashes[1] >> 11) & !0xffff | 0x0300);
    }
}
