//! How the CPUs of a deterministic guest take turns, as the cell's seed chooses it.
//!
//! Under QEMU's icount an instruction lasts 2^shift ns of the guest's time. A CPU's turn ends at the guest's next timer,
//! shared out among the CPUs (accel/tcg/tcg-accel-ops-icount.c), so that a larger shift makes turns of fewer
//! instructions: races meet in finer places, and the guest sees less work done in a second of its own. Where in a turn
//! the work begins is up to the delay in front of it.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Cell, Schedule};

/// Below 4 few turns end in the midst of anything. A boot takes a fifth longer at 5 than at 1 to 4, half as long again at
/// 6, and more than four times as long at 8, where the kernel's timer takes most of the time.
const SHIFTS: [u32; 4] = [4, 5, 6, 7];
/// Loops before a step: a few of the guest's timer ticks at any shift, and some milliseconds of the host's.
const MOST_DELAY: u32 = 1 << 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Turns {
    /// An instruction lasts 2 to the power of this, in nanoseconds.
    pub shift: u32,
    /// Loops that init turns before each step.
    pub delay: u32,
    /// What the kernel's random numbers are made from, in place of anything of the host's.
    pub entropy: [u8; 32],
}

impl Cell {
    /// None: its CPUs run as they can.
    pub fn turns(&self) -> Option<Turns> {
        match self.schedule {
            Schedule::Parallel => None,
            Schedule::Deterministic => Some(Turns::of(self.seed)),
        }
    }
}

impl Turns {
    fn of(seed: u64) -> Self {
        let draw = |what: &str| Sha256::new().chain_update(what).chain_update(seed.to_be_bytes()).finalize();
        let number =
            |what: &str| draw(what).iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
        Self {
            shift: SHIFTS[number("shift") as usize % SHIFTS.len()],
            delay: number("delay") % MOST_DELAY,
            entropy: draw("entropy").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn seeds_choose_all_shifts_and_their_own_delay() {
        let turns: Vec<Turns> = (0..200).map(Turns::of).collect();
        assert_eq!(Turns::of(7), turns[7], "a seed's turns are its own");
        for shift in SHIFTS {
            let count = turns.iter().filter(|turns| turns.shift == shift).count();
            assert!((25..=75).contains(&count), "shift {shift}: {count} of 200");
        }
        let delays: HashSet<u32> = turns.iter().map(|turns| turns.delay).collect();
        assert!(delays.len() > 190 && delays.iter().all(|delay| *delay < MOST_DELAY));
        let entropy: HashSet<[u8; 32]> = turns.iter().map(|turns| turns.entropy).collect();
        assert_eq!(entropy.len(), 200);
    }

    /// A report from last year names a cell's seed: it must take the same turns today.
    #[test]
    fn turns_stay_as_they_are() {
        // printf 'shift\0\0\0\0\0\0\0\1' | sha256sum, and so on: the first four bytes.
        let Turns { shift, delay, .. } = Turns::of(1);
        assert_eq!((shift, delay), (SHIFTS[0x8d08_2eed % 4], 0x48b4_75d3 % MOST_DELAY));
    }
}
