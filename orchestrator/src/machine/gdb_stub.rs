//! QEMU's gdb stub: GDB's remote serial protocol, as far as farm speaks it itself.
//!
//! Protocol: <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html>. A guest that runs is stopped by any
//! byte that comes to the stub (QEMU, gdbstub/gdbstub.c, `gdb_read_byte()`): nothing is sent to one unasked.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::running::end_is_zero;

/// QEMU answers in a millisecond, on a loaded host within a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Registers of one CPU, vector registers among them, are some KiB.
const PACKET_LIMIT: usize = 1 << 20;
/// SIGTRAP, for a breakpoint (GDB manual, "Stop Reply Packets"). QEMU tells of a panic as `T8f` and of a guest that goes off as `W00`.
const AT_BREAKPOINT: &str = "T05";

/// A connection to the stub. Farm's own words go by packets; a debugger of the user's gets the socket.
#[derive(Debug)]
pub struct GdbStub {
    socket: UnixStream,
    unread: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum StubError {
    #[error("QEMU's gdb stub cannot be reached")]
    Io(#[from] io::Error),
    #[error("QEMU's gdb stub is gone")]
    Closed,
    #[error("QEMU's gdb stub did not answer {packet} within {ANSWER_LIMIT:?}")]
    Slow { packet: String },
    #[error("QEMU's gdb stub answered {packet} with {answer:?}")]
    Refused { packet: String, answer: String },
    #[error("QEMU's gdb stub sent a packet without end")]
    Garbled,
}

impl GdbStub {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, unread: Vec::new() }
    }

    /// What a debugger of the user's talks to.
    pub fn into_socket(self) -> UnixStream {
        self.socket
    }

    /// The guest is to stop before it executes the instruction there.
    pub async fn break_at(&mut self, address: u64) -> Result<(), StubError> {
        self.order(&format!("Z0,{address:x},2")).await
    }

    pub async fn unbreak(&mut self, address: u64) -> Result<(), StubError> {
        self.order(&format!("z0,{address:x},2")).await
    }

    /// A packet whose only good answer is OK.
    pub async fn order(&mut self, packet: &str) -> Result<(), StubError> {
        let answer = self.ask(packet).await?;
        if answer == "OK" {
            return Ok(());
        }
        Err(StubError::Refused { packet: packet.to_owned(), answer })
    }

    pub async fn ask(&mut self, packet: &str) -> Result<String, StubError> {
        self.send(packet).await?;
        let slow = || StubError::Slow { packet: packet.to_owned() };
        timeout(ANSWER_LIMIT, self.packet()).await.map_err(|_| slow())?
    }

    /// Lets the guest run.
    pub async fn go(&mut self) -> Result<(), StubError> {
        self.send("c").await
    }

    /// Lets the guest execute one instruction.
    pub async fn step(&mut self) -> Result<String, StubError> {
        self.ask("s").await
    }

    /// Waits until the guest has stopped; says how. May be dropped and called again without loss.
    pub async fn stopped(&mut self) -> Result<String, StubError> {
        self.packet().await
    }

    /// Waits until the guest stands at a breakpoint. What else stops it, its end and that of the stub among them, the machine tells
    /// with the reason, and this then waits for ever. May be dropped and called again without loss.
    pub async fn at_breakpoint(&mut self) {
        loop {
            match self.packet().await {
                Ok(stop) if stop.starts_with(AT_BREAKPOINT) => return,
                Ok(stop) => tracing::debug!(stop, "the guest stopped elsewhere"),
                Err(_) => return std::future::pending().await,
            }
        }
    }

    async fn send(&mut self, packet: &str) -> Result<(), StubError> {
        self.socket.write_all(framed(packet).as_bytes()).await?;
        Ok(())
    }

    /// The next packet's body. The stub wants to be told that it came.
    async fn packet(&mut self) -> Result<String, StubError> {
        loop {
            if let Some((body, length)) = whole(&self.unread) {
                let body = String::from_utf8_lossy(body).into_owned();
                self.unread.drain(..length);
                self.socket.write_all(b"+").await?;
                return Ok(body);
            }
            if self.unread.len() > PACKET_LIMIT {
                return Err(StubError::Garbled);
            }
            let mut bytes = [0; 4096];
            match end_is_zero(self.socket.read(&mut bytes).await)? {
                0 => return Err(StubError::Closed),
                length => self.unread.extend(&bytes[..length]),
            }
        }
    }
}

/// A body as it goes over the wire.
pub(crate) fn framed(body: &str) -> String {
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("${body}#{sum:02x}")
}

/// The first packet that is all there: its body, and how many bytes it took with what stood before it.
pub(crate) fn whole(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let start = bytes.iter().position(|byte| *byte == b'$')? + 1;
    let end = start + bytes[start..].iter().position(|byte| *byte == b'#')?;
    let length = end + 3;
    (bytes.len() >= length).then(|| (&bytes[start..end], length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the protocol's chapter "Overview": the sum of all bytes, modulo 256.
    #[test]
    fn packets_are_framed_and_read_back() {
        assert_eq!(framed("OK"), "$OK#9a");
        assert_eq!(whole(b"+$OK#9a$T05"), Some((&b"OK"[..], 7)));
        for part in ["", "+", "$", "$OK", "$OK#", "$OK#9"] {
            assert_eq!(whole(part.as_bytes()), None, "{part}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_in_pieces_is_waited_for_and_acknowledged() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stub = GdbStub::new(ours);
        let peer = async {
            let mut asked = [0; 12];
            theirs.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"$Z0,1a2,2#d8");
            theirs.write_all(b"+$O").await.unwrap();
            tokio::task::yield_now().await;
            theirs.write_all(b"K#9a").await.unwrap();
            let mut taken = [0; 1];
            theirs.read_exact(&mut taken).await.unwrap();
            assert_eq!(&taken, b"+");
        };
        let (done, ()) = tokio::join!(stub.break_at(0x1a2), peer);
        done.unwrap();
    }

    /// A guest that panics, or goes off and takes its stub along, stands at no breakpoint.
    #[tokio::test]
    async fn only_a_breakpoint_counts_as_one() {
        let brief = Duration::from_millis(10);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stub = GdbStub::new(ours);
        theirs.write_all(b"+$T8fthread:01;#00$T05thread:02;#00").await.unwrap();
        stub.at_breakpoint().await;
        theirs.write_all(b"$W00#b7").await.unwrap();
        assert!(timeout(brief, stub.at_breakpoint()).await.is_err());
        drop(theirs);
        for _ in 0..2 {
            assert!(timeout(brief, stub.at_breakpoint()).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_refusal_and_an_end_are_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stub = GdbStub::new(ours);
        theirs.write_all(b"+$E22#a9").await.unwrap();
        let refused = stub.order("z0,0,2").await.unwrap_err().to_string();
        assert!(refused.ends_with("answered z0,0,2 with \"E22\""), "{refused}");
        drop(theirs);
        assert!(matches!(stub.stopped().await, Err(StubError::Closed | StubError::Io(_))));
    }
}
