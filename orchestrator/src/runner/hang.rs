//! Hits that no log has: a guest that went silent, and one that stopped without a word.

use std::collections::HashMap;

use crate::detect::Hit;
use crate::kernel::Sources;
use crate::machine::{Cpu, CpuState, Psw};

/// PSW bits (z/Architecture Principles of Operation, "Program-Status Word"): bit 14, wait state; bit 15, problem
/// state, which is user space.
const PSW_WAIT: u64 = 1 << (63 - 14);
const PSW_PROBLEM: u64 = 1 << (63 - 15);

/// What a CPU was doing, from the most to the least telling of where a guest hangs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Kernel(Option<String>),
    UserSpace,
    Idle,
}

/// Where CPUs stand, by address, as far as the kernel's files tell.
pub(super) type Stands = HashMap<u64, Stand>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    function: String,
    /// `mm/gup.c:93`
    source: Option<String>,
}

/// Where the CPUs stand that execute the kernel. Reads the kernel's files.
pub(super) fn stands(cpus: &CpuState, sources: &mut Sources) -> Stands {
    let psws = cpus.cpus.iter().filter_map(|cpu| cpu.psw);
    let addresses = psws.filter(|psw| psw.mask & (PSW_WAIT | PSW_PROBLEM) == 0).map(|psw| psw.addr);
    let mut stand = |address| {
        let function = sources.function_at(address)?;
        let innermost = sources.places_at(address).into_iter().next();
        let source = innermost.and_then(|place| Some(format!("{}:{}", place.file?, place.line?)));
        Some((address, Stand { function, source }))
    };
    addresses.filter_map(&mut stand).collect()
}

/// A guest from which nothing was heard for its heartbeat limit.
pub(super) fn hit(cpus: Option<&CpuState>, stands: &Stands) -> Hit {
    Hit::hang(&place(cpus, stands)).with_text(&table(cpus, stands))
}

/// A guest that loaded a disabled wait and printed nothing that says why.
pub(super) fn silent_panic(cpus: Option<&CpuState>, stands: &Stands) -> Hit {
    Hit::silent_panic().with_text(&table(cpus, stands))
}

/// The function a CPU of a hanging guest was in, or what else tells hangs apart.
fn place(cpus: Option<&CpuState>, stands: &Stands) -> String {
    let psws = cpus.into_iter().flat_map(|state| &state.cpus).filter_map(|cpu| cpu.psw);
    match psws.map(|psw| doing(psw, stands)).min() {
        Some(Doing::Kernel(Some(function))) => function,
        Some(Doing::Kernel(None)) => "the kernel".to_owned(),
        Some(Doing::UserSpace) => "user space".to_owned(),
        Some(Doing::Idle) => "idle".to_owned(),
        None => "an unknown place".to_owned(),
    }
}

fn doing(psw: Psw, stands: &Stands) -> Doing {
    if psw.mask & PSW_WAIT != 0 {
        Doing::Idle
    } else if psw.mask & PSW_PROBLEM != 0 {
        Doing::UserSpace
    } else {
        Doing::Kernel(stands.get(&psw.addr).map(|stand| stand.function.clone()))
    }
}

fn table(cpus: Option<&CpuState>, stands: &Stands) -> String {
    let Some(state) = cpus else { return "the state of its CPUs could not be read".to_owned() };
    let line = |cpu: &Cpu| match cpu.psw {
        None => format!("CPU {}: {}", cpu.number, cpu.state),
        Some(psw) => {
            let source = stands.get(&psw.addr).and_then(|stand| stand.source.as_ref());
            let source = source.map_or_else(String::new, |source| format!(" at {source}"));
            let doing = match doing(psw, stands) {
                Doing::Kernel(Some(function)) => format!("in {function}{source}"),
                Doing::Kernel(None) => "in the kernel".to_owned(),
                Doing::UserSpace => "in user space".to_owned(),
                Doing::Idle => "waiting".to_owned(),
            };
            format!("CPU {}: {}, PSW {psw}, {doing}", cpu.number, cpu.state)
        }
    };
    state.cpus.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: u64 = 0x0706_0001_8000_0000;
    const USER: u64 = 0x0705_0001_8000_0000;
    const KERNEL: u64 = 0x0704_c001_8000_0000;

    fn state(masks: &[u64]) -> CpuState {
        let cpu = |(number, mask): (usize, &u64)| Cpu {
            number: u32::try_from(number).unwrap(),
            state: "operating".to_owned(),
            psw: Some(Psw { mask: *mask, addr: 0x1000 }),
            trace: Vec::new(),
        };
        let cpus = masks.iter().enumerate().map(cpu).collect();
        CpuState { status: "paused".to_owned(), cpus, registers: String::new() }
    }

    #[test]
    fn the_cpu_that_says_most_names_the_hang() {
        for (masks, expected) in [
            (&[IDLE, KERNEL, USER][..], "the kernel"),
            (&[IDLE, USER], "user space"),
            (&[IDLE, IDLE], "idle"),
            (&[], "an unknown place"),
        ] {
            assert_eq!(place(Some(&state(masks)), &Stands::default()), expected);
        }
        assert_eq!(place(None, &Stands::default()), "an unknown place");
    }

    #[test]
    fn where_a_cpu_stands_in_the_source_is_told_and_names_nothing() {
        let stand = Stand { function: "f".to_owned(), source: Some("mm/gup.c:93".to_owned()) };
        let hit = hit(Some(&state(&[KERNEL, USER])), &Stands::from([(0x1000, stand)]));
        assert_eq!((hit.title.as_str(), hit.fingerprint.as_str()), ("hang in f", "hang:f"));
        let (first, second) = hit.text.split_once('\n').unwrap();
        assert!(first.ends_with(", in f at mm/gup.c:93"), "{first}");
        assert!(second.ends_with(", in user space"), "{second}");
    }
}
