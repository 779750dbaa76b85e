//! The calls that a CPU is in, read from its stack. The guest's memory is its word: whatever it holds, this comes to an end.
//!
//! The kernel is compiled with `-mbackchain`: each frame has the address of its caller's (arch/s390/include/asm/stacktrace.h, `struct
//! stack_frame`), and below the last one of an interrupted context is what was interrupted (`struct pt_regs`). Stacks are in the
//! kernel's virtual memory. Its tables are walked here, since QEMU looks through those of the CPU as it stands, and one
//! that has panicked stands with translation off.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::state::{Psw, hex, register};

/// PSW bit 15, problem state: user space (z/Architecture Principles of Operation, "Program-Status Word").
const PROBLEM: u64 = 1 << (63 - 15);
/// The calls that are shown.
const MOST_CALLS: usize = 32;

/// Words that are read at once.
const BLOCK: u64 = 32;

/// In a stack frame: the return address into its caller's caller, and the caller's frame. In front of them are 9 words and
/// registers 6 to 13.
const RETURN_ADDRESS: u64 = 9 * 8 + 8 * 8;
const BACK_CHAIN: u64 = 9 * 8 + 10 * 8;
const FRAME: u64 = BACK_CHAIN + 8;
/// In `struct pt_regs`: the PSW behind one word, and register 15.
const REGS_MASK: u64 = FRAME + 8;
const REGS_ADDRESS: u64 = FRAME + 16;
const REGS_STACK: u64 = FRAME + 24 + 15 * 8;

/// Region, segment and page tables (Principles of Operation, "Dynamic Address Translation").
const TABLE_ORIGIN: u64 = !0xfff;
const PAGE_TABLE_ORIGIN: u64 = !0x7ff;
const INVALID: u64 = 0x20;
/// The last entry of a region or segment table.
const ENTRY: u64 = 0x7ff;
const INVALID_PAGE: u64 = 0x400;
const LARGE: u64 = 0x400;
const PAGE: u64 = 0xfff;
/// The kind of the topmost table in an address-space-control element, and what each entry of such a table spans.
const TABLE_TYPE: u64 = 0x0c;
const SPANS: [u32; 4] = [20, 31, 42, 53];

/// A place in the kernel that a CPU is in, or that it returns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    #[serde(with = "hex")]
    pub address: u64,
    /// The call stands in front of it.
    pub returns: bool,
}

/// A word of the guest's that is to be read before anything more can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted(u64);

impl Wanted {
    /// The monitor's command that reads it, with what stands around it.
    pub(super) fn command(self) -> String {
        format!("xp /{BLOCK}xg {:#x}", self.0 & !(BLOCK * 8 - 1))
    }
}

/// What is known of a guest's memory: words by their absolute addresses.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<u64, u64>);

impl Words {
    /// Takes what the monitor's `xp` prints: `0000000000001000: 0x0000000000003007 0x…`. A word that is asked for again would
    /// never come: what is not there counts as 0.
    pub(super) fn take(&mut self, Wanted(asked): Wanted, printed: &str) {
        for line in printed.lines() {
            let Some((address, values)) = line.split_once(':') else { continue };
            let Ok(address) = u64::from_str_radix(address.trim(), 16) else { continue };
            let values = values.split_ascii_whitespace().map_while(|word| word.strip_prefix("0x"));
            let values = values.map_while(|word| u64::from_str_radix(word, 16).ok());
            for (at, value) in (address..).step_by(8).zip(values) {
                self.put(at, value);
            }
        }
        self.0.entry(asked).or_insert(0);
    }

    fn put(&mut self, address: u64, word: u64) {
        self.0.insert(address, word);
    }

    fn get(&self, address: u64) -> Result<u64, Wanted> {
        self.0.get(&address).copied().ok_or(Wanted(address))
    }
}

/// The calls of a CPU with these registers, or what is to be read first to tell.
pub(super) fn calls(
    number: u32,
    psw: Option<Psw>,
    registers: &str,
    words: &Words,
) -> Result<Vec<Call>, Wanted> {
    let (Some(psw), Some(stack), Some(space)) =
        (psw, register(registers, number, "R15"), register(registers, number, "C13"))
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let (mut psw, mut stack, mut returns) = (psw, stack, false);
    let read = |address: u64| match translate(space, address, words)? {
        Some(absolute) => words.get(absolute).map(Some),
        None => Ok(None),
    };
    while psw.mask & PROBLEM == 0 && psw.addr != 0 && found.len() < MOST_CALLS {
        found.push(Call { address: psw.addr, returns });
        let field = |offset: u64| read(stack.wrapping_add(offset));
        let Some(caller) = field(BACK_CHAIN)? else { break };
        if caller == 0 {
            let (Some(mask), Some(addr), Some(interrupted)) =
                (field(REGS_MASK)?, field(REGS_ADDRESS)?, field(REGS_STACK)?)
            else {
                break;
            };
            (psw, stack, returns) = (Psw { mask, addr }, interrupted, false);
        } else {
            stack = caller;
            let Some(addr) = read(stack.wrapping_add(RETURN_ADDRESS))? else { break };
            (psw.addr, returns) = (addr, true);
        }
    }
    Ok(found)
}

/// The absolute address of a word in the kernel's address space; none if nothing is there.
fn translate(space: u64, address: u64, words: &Words) -> Result<Option<u64>, Wanted> {
    if !address.is_multiple_of(8) {
        return Ok(None);
    }
    let mut level = usize::try_from((space & TABLE_TYPE) >> 2).unwrap_or(0);
    let mut table = space & TABLE_ORIGIN;
    // What the topmost table does not reach is not mapped.
    if address >> SPANS[level] > ENTRY {
        return Ok(None);
    }
    loop {
        let span = SPANS[level];
        let entry = words.get(table.wrapping_add((address >> span & ENTRY) * 8))?;
        if entry & INVALID != 0 {
            return Ok(None);
        }
        if level <= 1 && entry & LARGE != 0 {
            let within = (1 << span) - 1;
            return Ok(Some((entry & !within) | (address & within)));
        }
        if level == 0 {
            let entry = words.get((entry & PAGE_TABLE_ORIGIN) + ((address >> 12) & 0xff) * 8)?;
            return Ok((entry & INVALID_PAGE == 0).then_some((entry & !PAGE) | (address & PAGE)));
        }
        table = entry & TABLE_ORIGIN;
        level -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 0x0704_c001_8000_0000;
    const USER: u64 = 0x0705_0001_8000_0000;
    const STACK: u64 = 0x380_0000_4000;
    /// Of a region-third table at 0x1000.
    const SPACE: u64 = 0x1000 | 0x04;

    /// Memory in which the page of `STACK` is at 0x8000.
    fn memory() -> Words {
        let mut words = Words::default();
        words.put(0x1000 + (STACK >> 31 & 0x7ff) * 8, 0x3000);
        words.put(0x3000 + (STACK >> 20 & 0x7ff) * 8, 0x5000);
        words.put(0x5000 + (STACK >> 12 & 0xff) * 8, 0x8000);
        words
    }

    fn registers(stack: u64) -> String {
        format!("CPU#0\nPSW=mask 0 addr 0 cc 00\nR15={stack:016x}\nC13={SPACE:016x}\n")
    }

    fn at(address: u64) -> Call {
        Call { address, returns: false }
    }

    fn behind(address: u64) -> Call {
        Call { address, returns: true }
    }

    fn walked(words: &Words, stack: u64) -> Result<Vec<Call>, Wanted> {
        calls(0, Some(Psw { mask: KERNEL, addr: 0x1234 }), &registers(stack), words)
    }

    #[test]
    fn calls_go_through_frames_and_what_was_interrupted_to_user_space() {
        let mut words = memory();
        // Two frames of an interrupt, what it interrupted, one frame of that, and user space.
        words.put(0x8000 + BACK_CHAIN, STACK + 0x100);
        words.put(0x8100 + RETURN_ADDRESS, 0x2000);
        words.put(0x8100 + BACK_CHAIN, 0);
        words.put(0x8100 + REGS_MASK, KERNEL);
        words.put(0x8100 + REGS_ADDRESS, 0x3000);
        words.put(0x8100 + REGS_STACK, STACK + 0x400);
        words.put(0x8400 + BACK_CHAIN, 0);
        words.put(0x8400 + REGS_MASK, USER);
        words.put(0x8400 + REGS_ADDRESS, 0x7777);
        words.put(0x8400 + REGS_STACK, 0x3ff_0000);
        assert_eq!(walked(&words, STACK), Ok(vec![at(0x1234), behind(0x2000), at(0x3000)]));
    }

    #[test]
    fn what_is_not_known_yet_is_asked_for() {
        assert_eq!(walked(&Words::default(), STACK), Err(Wanted(0x1000 + (STACK >> 31 & 0x7ff) * 8)));
        assert_eq!(walked(&memory(), STACK), Err(Wanted(0x8000 + BACK_CHAIN)));
    }

    #[test]
    fn what_the_monitor_prints_is_taken() {
        let mut words = Words::default();
        let wanted = Wanted(0x1008);
        assert_eq!(wanted.command(), "xp /32xg 0x1000");
        words.take(
            wanted,
            "0000000000001000: 0x0000000000003007 0x00000000000000ff\r\n0000000000001010: 0x01\r\n",
        );
        assert_eq!([0x1000, 0x1008, 0x1010].map(|at| words.get(at)), [Ok(0x3007), Ok(0xff), Ok(1)]);
        let beyond = Wanted(0x9000);
        words.take(beyond, "Cannot access memory\r\n");
        assert_eq!(words.get(0x9000), Ok(0));
    }

    #[test]
    fn nonsense_comes_to_an_end() {
        let mut loops = memory();
        loops.put(0x8000 + BACK_CHAIN, STACK);
        loops.put(0x8000 + RETURN_ADDRESS, 0x2000);
        assert_eq!(walked(&loops, STACK).unwrap().len(), MOST_CALLS);
        // An odd stack, and one beyond the table.
        for stack in [STACK + 1, 1 << 60] {
            assert_eq!(walked(&memory(), stack), Ok(vec![at(0x1234)]));
        }
        // A table at the end of the address space.
        let beyond = translate(TABLE_ORIGIN | 0x04, ENTRY << 31, &Words::default());
        assert_eq!(beyond, Err(Wanted(0x2ff8)));
        let mut invalid = memory();
        invalid.put(0x5000 + (STACK >> 12 & 0xff) * 8, 0x8000 | INVALID_PAGE);
        assert_eq!(walked(&invalid, STACK), Ok(vec![at(0x1234)]));
        assert_eq!(calls(0, None, &registers(STACK), &memory()), Ok(vec![]));
    }

    #[test]
    fn large_pages_are_translated() {
        let mut words = Words::default();
        words.put(0x1000, 0x3000);
        words.put(0x3000, 0x70_0000 | LARGE);
        assert_eq!(translate(SPACE, 0x1_2340, &words), Ok(Some(0x71_2340)));
    }
}
