//! The trace of a kernel that is dead, hangs or is not to be trusted any more: one of its CPUs is had to print it.
//!
//! A PSW restart takes any CPU, in whatever state it is and whatever interrupts it has disabled, onto a stack that is kept
//! for that, and calls the function that its lowcore names (arch/s390/kernel/entry.S, `restart_int_handler`). Through the gdb
//! stub that becomes `ftrace_dump()`, and, when that returns, `panic()`, which makes the console device print what is
//! still in its buffers, and tells QEMU that it is done. Nothing that this guest says from then on counts.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::event::MachineEvent;
use super::gdb_stub::{GdbStub, StubError};
use super::monitor::{MonitorError, Timeout};
use super::running::{Machine, end_is_zero};
use super::state::CpuState;

/// Of `restart_fn` and `restart_data` in the lowcore, behind which is `restart_source` (arch/s390/include/asm/lowcore.h;
/// the same in 6.1 and 6.12).
const RESTART_FN: u64 = 0x370;
/// No other CPU is to be waited for.
const NO_SOURCE: &str = "ffffffff";
/// `enum ftrace_dump_mode` (include/linux/kernel.h)
const DUMP_ALL: u64 = 1;
/// A function's frame on s390 leaves this much to what it calls (`STACK_FRAME_OVERHEAD`); behind it are the registers that
/// the restarted CPU had, which nobody needs.
const BEHIND_THE_FRAME: u64 = 160;
/// What `panic()` is to say: "farm".
const WORDS: &str = "6661726d00";
/// The stub's numbers of registers (QEMU, gdb-xml/s390x-core64.xml): the PSW's two halves, then the general ones.
const PSW_ADDRESS: u8 = 1;
const fn general(number: u8) -> u8 {
    2 + number
}

/// Two CPUs' events are printed in half a second by an idle host.
const LIMIT: Duration = Duration::from_secs(20);
/// For each question to the monitor.
const ANSWER: Timeout = Timeout(Duration::from_secs(5));
/// What is read of the console; the ring buffers of 64 CPUs have more to say.
const MOST_BYTES: usize = 32 << 20;
/// PSW bits (z/Architecture Principles of Operation): wait state, problem state.
const WAIT: u64 = 1 << (63 - 14);
const PROBLEM: u64 = 1 << (63 - 15);

/// Why a kernel does not print its trace.
#[derive(Debug, thiserror::Error)]
pub enum LastEventsError {
    #[error(transparent)]
    Stub(#[from] StubError),
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("the guest's console")]
    Console(#[from] std::io::Error),
    #[error("no CPU executes the kernel")]
    NoCpu,
    #[error("the kernel's lowcore is not of the form that is known")]
    Lowcore,
    #[error("the kernel did not print it within {LIMIT:?}")]
    Slow,
    #[error("the guest ended before that")]
    Ended,
}

/// What it takes beside the machine, of a guest that stands still.
pub struct LastEvents<'a> {
    pub machine: &'a mut Machine,
    pub stub: &'a mut GdbStub,
    pub console: &'a mut UnixStream,
    pub cpus: &'a CpuState,
    /// Addresses of `ftrace_dump()` and `panic()`.
    pub ftrace_dump: u64,
    pub panic: u64,
}

impl LastEvents<'_> {
    /// What the kernel prints. The guest is of no use any more.
    pub async fn print(mut self) -> Result<Vec<u8>, LastEventsError> {
        let cpu = chosen(self.cpus).ok_or(LastEventsError::NoCpu)?;
        let mut printed = Vec::new();
        let until = Instant::now() + LIMIT;
        // QEMU 7.2 knows single registers only for one who has asked what there are.
        self.answer("qXfer:features:read:target.xml:0,1").await?;
        self.select(cpu).await?;
        let lowcore = self.answer(&format!("m{RESTART_FN:x},14")).await?;
        if lowcore.len() != 40 || !lowcore.ends_with(NO_SOURCE) {
            return Err(LastEventsError::Lowcore);
        }
        let call = format!("M{RESTART_FN:x},10:{:016x}{DUMP_ALL:016x}", self.ftrace_dump);
        self.stub.order(&call).await?;
        self.stub.break_at(self.ftrace_dump).await?;
        self.machine.restart_cpu(cpu, ANSWER).await?;
        self.go(until, &mut printed).await?;
        self.stub.unbreak(self.ftrace_dump).await?;
        self.select(cpu).await?;
        let back = self.register(general(14)).await?;
        self.stub.break_at(back).await?;
        self.go(until, &mut printed).await?;
        self.stub.unbreak(back).await?;
        self.select(cpu).await?;
        let words = self.register(general(15)).await? + BEHIND_THE_FRAME;
        self.stub.order(&format!("M{words:x},{:x}:{WORDS}", WORDS.len() / 2)).await?;
        self.stub.order(&format!("P{:x}={words:016x}", general(2))).await?;
        self.stub.order(&format!("P{PSW_ADDRESS:x}={:016x}", self.panic)).await?;
        self.go(until, &mut printed).await?;
        Ok(printed)
    }

    /// The CPU that the next packets are about. Threads of the stub count from 1.
    async fn select(&mut self, cpu: u32) -> Result<(), LastEventsError> {
        let answer = self.answer(&format!("Hg{:x}", cpu + 1)).await?;
        if answer == "OK" {
            Ok(())
        } else {
            Err(StubError::Refused { packet: "Hg".to_owned(), answer }.into())
        }
    }

    async fn register(&mut self, number: u8) -> Result<u64, LastEventsError> {
        let packet = format!("p{number:x}");
        let answer = self.answer(&packet).await?;
        u64::from_str_radix(&answer, 16).map_err(|_| StubError::Refused { packet, answer }.into())
    }

    /// The stub has told of each time that the guest was stopped, asked or not.
    async fn answer(&mut self, packet: &str) -> Result<String, LastEventsError> {
        let mut answer = self.stub.ask(packet).await?;
        while answer.starts_with('T') {
            answer = self.stub.stopped().await?;
        }
        Ok(answer)
    }

    /// Lets the guest run until it stops, and reads what it prints meanwhile.
    async fn go(&mut self, until: Instant, printed: &mut Vec<u8>) -> Result<(), LastEventsError> {
        let Self { machine, stub, console, .. } = self;
        stub.go().await?;
        let mut bytes = vec![0; 64 << 10];
        let stopped = async {
            loop {
                tokio::select! {
                    stopped = stub.stopped() => return stopped.map(|_| ()).map_err(LastEventsError::from),
                    event = machine.next_event() => match event {
                        None | Some(MachineEvent::Ended(_) | MachineEvent::MonitorLost) => return Err(LastEventsError::Ended),
                        Some(_) => {}
                    },
                    read = console.read(&mut bytes) => match end_is_zero(read)? {
                        0 => return Err(LastEventsError::Ended),
                        length if printed.len() < MOST_BYTES => printed.extend(&bytes[..length]),
                        _ => {}
                    },
                }
            }
        };
        timeout_at(until, stopped).await.map_err(|_| LastEventsError::Slow)??;
        // What it printed before it stopped is in the socket.
        while let Ok(length @ 1..) = console.try_read(&mut bytes) {
            printed.extend(&bytes[..length]);
        }
        Ok(())
    }
}

/// A CPU that has its lowcore at address 0: one that waits, and holds no lock, if there is one. Those that are stopped were so by
/// the one that panics, which alone may print.
fn chosen(cpus: &CpuState) -> Option<u32> {
    let running = cpus.cpus.iter().filter(|cpu| cpu.state != "stopped");
    let in_kernel =
        running.filter_map(|cpu| Some((cpu.psw?.mask, cpu.number))).filter(|(mask, _)| mask & PROBLEM == 0);
    in_kernel.min_by_key(|(mask, number)| (mask & WAIT == 0, *number)).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::super::state::{Cpu, Psw};
    use super::*;

    #[test]
    fn a_cpu_that_waits_is_taken_before_one_that_works() {
        const IDLE: u64 = 0x0706_0001_8000_0000;
        const USER: u64 = 0x0705_0001_8000_0000;
        const KERNEL: u64 = 0x0704_c001_8000_0000;
        for (cpus, number) in [
            (&[("operating", KERNEL), ("operating", IDLE)][..], Some(1)),
            (&[("stopped", IDLE), ("operating", KERNEL)], Some(1)),
            (&[("operating", USER), ("operating", KERNEL), ("operating", KERNEL)], Some(1)),
            (&[("operating", USER), ("stopped", KERNEL)], None),
        ] {
            let cpu = |(number, (state, mask)): (usize, &(&str, u64))| Cpu {
                number: number as u32,
                state: (*state).to_owned(),
                psw: Some(Psw { mask: *mask, addr: 0 }),
                trace: Vec::new(),
            };
            let cpus = cpus.iter().enumerate().map(cpu).collect();
            let state = CpuState { status: "paused".to_owned(), cpus, registers: String::new() };
            assert_eq!(chosen(&state), number);
        }
    }
}
