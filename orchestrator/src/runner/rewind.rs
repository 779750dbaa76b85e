//! Backwards in a recorded life: gdb's `reverse-step` and `reverse-continue`.
//!
//! QEMU offers both itself, by snapshots that it takes while it replays. But none that it goes back to goes on: on s390x a clock
//! comparator that was never set counts as expired when it is loaded, and the replay waits for an event that was never recorded
//! (seen with QEMU 10.0; 7.2 does not record with a snapshot at all). A recording repeats to the instruction, though. So to go back is to
//! replay anew, up to one instruction less: a boot for each step, a second for a small kernel.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::debug::{ANSWER, DebugError, Halted, Inspection};
use super::life::{Trouble, ending_of};
use crate::machine::{GdbStub, StubError, framed, whole};

/// gdb asks for 32 KiB of memory at most in one packet.
const PACKET_LIMIT: usize = 1 << 20;
/// By which gdb asks where it is, and what happened there (GDB manual, "Stop Reply Packets").
const WHERE: &str = "?";
/// What it is told at the beginning of all.
const AT_THE_BEGINNING: &str = "T05replaylog:begin;";
/// What it is told when Ctrl-C came on the way back: SIGINT, where it was.
const INTERRUPTED: &str = "T02";
/// Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// What comes from gdb.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// That a packet came, or is to be sent again.
    Ack(u8),
    /// Ctrl-C.
    Interrupt,
    /// What it says, and how: memory that is written may be any bytes.
    Packet { says: String, bytes: Vec<u8> },
}

/// The first word that is all there, which is taken off.
fn next_word(bytes: &mut Vec<u8>) -> Option<Word> {
    let (word, length) = match *bytes.first()? {
        b'$' => {
            let (body, length) = whole(bytes)?;
            let says = String::from_utf8_lossy(body).into_owned();
            (Word::Packet { says, bytes: bytes[..length].to_vec() }, length)
        }
        INTERRUPT => (Word::Interrupt, 1),
        byte => (Word::Ack(byte), 1),
    };
    bytes.drain(..length);
    Some(word)
}

/// What a stub knows of its debugger, and each new one is told.
#[derive(Debug, Default)]
struct Known {
    /// What the two can do, and which CPU is spoken of; the last of each.
    manners: Vec<String>,
    /// Breakpoints and watchpoints: `0,3ff7ff028fe,2`.
    points: BTreeSet<String>,
}

impl Known {
    fn note(&mut self, packet: &str) {
        if let Some(point) = packet.strip_prefix('Z') {
            self.points.insert(point.to_owned());
        } else if let Some(point) = packet.strip_prefix('z') {
            self.points.remove(point);
        } else if (packet.starts_with("qSupported") || packet.starts_with('H'))
            && let Some(kind) = packet.get(..2)
        {
            self.manners.retain(|known| !known.starts_with(kind));
            self.manners.push(packet.to_owned());
        }
    }

    async fn tell(&self, stub: &mut GdbStub) -> Result<(), StubError> {
        for packet in &self.manners {
            stub.ask(packet).await?;
        }
        Ok(())
    }

    async fn set_points(&self, stub: &mut GdbStub) -> Result<(), StubError> {
        for point in &self.points {
            stub.order(&format!("Z{point}")).await?;
        }
        Ok(())
    }
}

/// A life of which each moment can be had again.
struct Rewinder<'a> {
    inspection: &'a Inspection<'a>,
    known: Known,
    lives: u32,
}

/// Where gdb is after it went back, and what it is to be told of that, if it is not simply there.
type Reached = (Halted, Option<&'static str>);

impl Rewinder<'_> {
    /// The moment when the guest has executed so many instructions.
    async fn at(&mut self, instructions: u64) -> Result<Halted, DebugError> {
        self.lives += 1;
        let mut halted = self.inspection.start(self.lives, None, &mut |_| {}).await?;
        self.known.tell(&mut halted.stub).await?;
        if instructions > 0 {
            halted.machine.stop_at(instructions, ANSWER).await?;
            self.run_on(&mut halted).await?;
        }
        Ok(halted)
    }

    /// Lets it run until something stops it.
    async fn run_on(&self, halted: &mut Halted) -> Result<(), DebugError> {
        let Halted { machine, stub, .. } = halted;
        stub.go().await?;
        let limit = self.inspection.limit();
        let stopped = async {
            loop {
                tokio::select! {
                    stopped = stub.stopped() => return stopped.map(drop).map_err(DebugError::from),
                    event = machine.next_event() => match ending_of(event) {
                        Ok(None) => {}
                        Ok(Some(_)) => return Err(DebugError::Machine("the repeated life ended early".to_owned())),
                        Err(Trouble(trouble)) => return Err(DebugError::Machine(trouble)),
                    },
                }
            }
        };
        let slow = || DebugError::Machine(format!("the repeated life did not come there within {limit:?}"));
        timeout(limit, stopped).await.map_err(|_| slow())?
    }

    /// One instruction back.
    async fn step(&mut self, now: u64) -> Result<Reached, DebugError> {
        self.back_to(now.checked_sub(1)).await
    }

    /// None: it is the beginning that stops it.
    async fn back_to(&mut self, moment: Option<u64>) -> Result<Reached, DebugError> {
        let told = if moment.is_none() { Some(AT_THE_BEGINNING) } else { None };
        Ok((self.at(moment.unwrap_or(0)).await?, told))
    }

    /// Back to the last time that the guest came by a breakpoint.
    async fn run(&mut self, now: u64) -> Result<Reached, DebugError> {
        let mut halted = self.at(0).await?;
        let mut last = None;
        if let Some(until) = now.checked_sub(1).filter(|until| *until > 0) {
            halted.machine.stop_at(until, ANSWER).await?;
            loop {
                self.known.set_points(&mut halted.stub).await?;
                self.run_on(&mut halted).await?;
                let at = halted.machine.replayed(ANSWER).await?;
                if at >= until {
                    break;
                }
                last = Some(at);
                // Past the breakpoint, as gdb itself does it.
                for point in &self.known.points {
                    halted.stub.order(&format!("z{point}")).await?;
                }
                halted.stub.step().await?;
            }
        }
        drop(halted);
        self.back_to(last).await
    }
}

/// Passes on what gdb and the stub say, and goes back when gdb asks for it.
pub(super) async fn serve(
    inspection: &Inspection<'_>,
    halted: Halted,
    mut gdb: UnixStream,
) -> Result<(), DebugError> {
    let mut rewinder = Rewinder { inspection, known: Known::default(), lives: 1 };
    let Halted { mut machine, stub, .. } = halted;
    let mut stub = stub.into_socket();
    let (mut heard, mut said) = (Vec::new(), vec![0; 64 << 10]);
    let mut answer = vec![0; 64 << 10];
    // Acknowledgements of what farm said in the stub's place.
    let mut own = 0_u32;
    loop {
        tokio::select! {
            length = gdb.read(&mut said) => match length {
                Ok(length @ 1..) if heard.len() < PACKET_LIMIT => heard.extend(&said[..length]),
                _ => return Ok(()),
            },
            length = stub.read(&mut answer) => match length {
                Ok(length @ 1..) => gdb.write_all(&answer[..length]).await?,
                _ => return Ok(()),
            },
            event = machine.next_event() => if event.is_none() {
                return Ok(());
            },
        }
        while let Some(word) = next_word(&mut heard) {
            match word {
                Word::Ack(_) if own > 0 => own -= 1,
                Word::Ack(byte) => stub.write_all(&[byte]).await?,
                Word::Interrupt => stub.write_all(&[0x03]).await?,
                Word::Packet { says, .. } if says == "bs" || says == "bc" => {
                    gdb.write_all(b"+").await?;
                    let now = machine.replayed(ANSWER).await?;
                    let going = async {
                        if says == "bs" { rewinder.step(now).await } else { rewinder.run(now).await }
                    };
                    let (earlier, told) = tokio::select! {
                        reached = going => reached?,
                        interrupted = interruption(&mut gdb, &mut heard) => match interrupted {
                            ControlFlow::Break(()) => return Ok(()),
                            ControlFlow::Continue(()) => {
                                own += 1;
                                gdb.write_all(framed(INTERRUPTED).as_bytes()).await?;
                                continue;
                            }
                        },
                    };
                    let Halted { machine: of_earlier, stub: mut its, .. } = earlier;
                    let place = its.ask(WHERE).await?;
                    rewinder.known.set_points(&mut its).await?;
                    (machine, stub) = (of_earlier, its.into_socket());
                    own += 1;
                    gdb.write_all(framed(told.unwrap_or(&place)).as_bytes()).await?;
                }
                Word::Packet { says, bytes } => {
                    rewinder.known.note(&says);
                    stub.write_all(&bytes).await?;
                }
            }
        }
    }
}

/// Waits for Ctrl-C, which leaves gdb where it was, or for gdb's end, which breaks off.
async fn interruption(gdb: &mut UnixStream, heard: &mut Vec<u8>) -> ControlFlow<()> {
    let mut said = [0; 4096];
    loop {
        match gdb.read(&mut said).await {
            Ok(length @ 1..) => match said[..length].iter().position(|byte| *byte == INTERRUPT) {
                Some(place) => {
                    heard.extend(said[..place].iter().chain(&said[place + 1..length]));
                    return ControlFlow::Continue(());
                }
                None => heard.extend(&said[..length]),
            },
            _ => return ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_gdb_are_told_apart_and_waited_for() {
        let mut bytes = b"+$bs#d5\x03-$m0".to_vec();
        let words: Vec<Word> = std::iter::from_fn(|| next_word(&mut bytes)).collect();
        let packet = Word::Packet { says: "bs".to_owned(), bytes: b"$bs#d5".to_vec() };
        assert_eq!(words, [Word::Ack(b'+'), packet, Word::Interrupt, Word::Ack(b'-')]);
        assert_eq!(bytes, b"$m0");
    }

    #[tokio::test]
    async fn gdb_is_heard_on_the_way_back() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut heard = Vec::new();
        theirs.write_all(b"+\x03$?#3f").await.unwrap();
        assert_eq!(interruption(&mut ours, &mut heard).await, ControlFlow::Continue(()));
        assert_eq!(heard, b"+$?#3f");
        drop(theirs);
        assert_eq!(interruption(&mut ours, &mut heard).await, ControlFlow::Break(()));
    }

    #[test]
    fn a_new_stub_is_told_what_the_last_one_knew() {
        let mut known = Known::default();
        for packet in [
            "qSupported:multiprocess+",
            "Hg0",
            "Z0,10,2",
            "Z0,20,2",
            "Hgp1.1",
            "z0,10,2",
            "Hc-1",
            "g",
            "?",
            "H",
        ] {
            known.note(packet);
        }
        assert_eq!(known.manners, ["qSupported:multiprocess+", "Hgp1.1", "Hc-1"]);
        assert_eq!(known.points.into_iter().collect::<Vec<_>>(), ["0,20,2"]);
    }
}
