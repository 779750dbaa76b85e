//! What is left in the sockets of a guest that says nothing more: one that stands still, or whose QEMU is dead.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant as Clock, timeout_at};

use super::life::{CHUNK, Task, Trouble};
use super::transcript::{Heard, Transcript};
use crate::console::bounded;
use crate::machine::{Streams, end_is_zero};
use crate::store::Timings;

/// For streams of a dead QEMU to reach their end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

type Take = fn(&mut Transcript, &[u8], &mut Vec<Heard>) -> Result<(), bounded::Error>;

/// Each stream, and where its bytes go.
fn all(streams: &mut Streams) -> [(&mut UnixStream, Take); 3] {
    [
        (&mut streams.console, Transcript::console),
        (&mut streams.kmsg, Transcript::kmsg),
        (&mut streams.results, Transcript::results),
    ]
}

impl Task {
    /// What a guest that stands still has said.
    pub(super) async fn read_rest(
        &self,
        streams: &mut Streams,
        began: Instant,
        timings: &mut Timings,
        transcript: &mut Transcript,
    ) -> Result<(), Trouble> {
        let mut heard = Vec::new();
        let mut buffer = vec![0; CHUNK];
        for (stream, take) in all(streams) {
            while let Ok(length @ 1..) = stream.try_read(&mut buffer) {
                take(transcript, &buffer[..length], &mut heard)?;
            }
        }
        self.tell_heard(&mut heard, began, timings, transcript).await;
        Ok(())
    }

    /// What a dead QEMU has left.
    pub(super) async fn drain(
        &self,
        streams: &mut Streams,
        began: Instant,
        timings: &mut Timings,
        transcript: &mut Transcript,
    ) -> Result<(), Trouble> {
        let mut heard = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let until = Clock::now() + DRAIN_LIMIT;
        for (stream, take) in all(streams) {
            loop {
                let read = timeout_at(until, stream.read(&mut buffer)).await;
                let Ok(read) = read else {
                    return Err(Trouble("a stream of a dead QEMU has no end".to_owned()));
                };
                let bytes = &buffer[..end_is_zero(read)?];
                if bytes.is_empty() {
                    break;
                }
                take(transcript, bytes, &mut heard)?;
                self.tell_heard(&mut heard, began, timings, transcript).await;
            }
        }
        Ok(())
    }
}
