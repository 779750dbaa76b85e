//! A guest whose console is somebody's terminal.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::guest::{Guest, PrepareError};
use crate::machine::{Ended, Launcher, Machine, MachineEvent, StartError, Stop, end_is_zero};
use crate::plan::{Cell, LifeId};
use crate::store::LifeFiles;
use crate::workload::{Message, ResultsReader};

/// Ctrl-], as in telnet and virsh: leaves the guest, which is then switched off.
const ESCAPE: u8 = 0x1d;

/// Typed when a script that is piped in is at its end: the shell leaves, and init switches the guest off. Not Ctrl-D,
/// which is lost if it comes while the shell changes the terminal's mode.
const END_OF_INPUT: &[u8] = b"exit\n";

/// Typed ahead; beyond it, whoever types waits.
const MOST_PENDING: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("cannot prepare the guest")]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the guest's streams cannot be read")]
    Stream(#[from] std::io::Error),
    #[error("init: {0}")]
    Init(String),
    #[error("the host could not serve {disk}: {reason}")]
    Disk { disk: String, reason: String },
}

/// Boots the cell's machine into a shell and connects its console until the guest goes off, or until ESCAPE is typed.
pub async fn interact(
    guest: &Guest,
    cell: &Cell,
    files: &LifeFiles,
    launcher: &Launcher,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<Ended, ShellError> {
    let life = LifeId { cell: cell.id, number: 1 };
    let prepared = guest.prepare_shell(cell, &life, files)?;
    let (mut machine, mut streams) = Machine::start(&prepared.spec, launcher).await?;
    // QEMU has read kernel and initrd by now and holds the disks open. What it serves goes when this returns.
    let _served = prepared.opened()?;
    let mut results = ResultsReader::new();
    let (mut typed, mut shown, mut kmsg, mut told) = ([0; 1024], [0; 4096], [0; 4096], [0; 4096]);
    let (mut console_open, mut kmsg_open, mut results_open, mut typing) = (true, true, true, true);
    // What is typed before the console is open, and that is when init has the job, would reach nobody.
    let mut listening = false;
    // What was typed and not yet taken: a guest that does not read must not keep its console from being shown.
    let mut pending: VecDeque<u8> = VecDeque::new();
    let mut init_error = None;
    let (mut from_guest, mut to_guest) = streams.console.split();
    let ended = loop {
        tokio::select! {
            read = input.read(&mut typed), if typing && pending.len() < MOST_PENDING => {
                let bytes = &typed[..read?];
                typing = !bytes.is_empty();
                let bytes = if typing { bytes } else { END_OF_INPUT };
                let escape = bytes.iter().position(|byte| *byte == ESCAPE);
                pending.extend(&bytes[..escape.unwrap_or(bytes.len())]);
                if escape.is_some() {
                    break machine.stop(Stop::Now).await;
                }
            }
            written = to_guest.write(pending.as_slices().0), if listening && !pending.is_empty() => {
                // A guest that has just gone off takes nothing more; its end is told by the machine.
                let taken = written.unwrap_or(pending.len());
                pending.drain(..taken);
            }
            read = from_guest.read(&mut shown), if console_open => {
                let bytes = &shown[..end_is_zero(read)?];
                console_open = !bytes.is_empty();
                output.write_all(bytes).await?;
                output.flush().await?;
            }
            // The kernel's log is on the console too.
            read = streams.kmsg.read(&mut kmsg), if kmsg_open => kmsg_open = end_is_zero(read)? > 0,
            read = streams.results.read(&mut told), if results_open => {
                let bytes = &told[..end_is_zero(read)?];
                results_open = !bytes.is_empty();
                let mut messages = Vec::new();
                results.feed(bytes, &mut messages);
                for message in messages {
                    match message {
                        Message::Job { .. } => listening = true,
                        Message::Error { text } => init_error = init_error.or(Some(text)),
                        _ => {}
                    }
                }
            }
            event = machine.next_event() => match event {
                Some(MachineEvent::Ended(ended)) => break ended,
                Some(MachineEvent::Reset | MachineEvent::Paused | MachineEvent::Resumed) => {}
                Some(MachineEvent::HostDiskFailed { disk, reason }) => {
                    machine.stop(Stop::Now).await;
                    return Err(ShellError::Disk { disk, reason });
                }
                Some(MachineEvent::Panicked(_) | MachineEvent::MonitorLost) | None => {
                    break machine.stop(Stop::Now).await;
                }
            },
        }
    };
    // The last words of a guest that has gone.
    while console_open {
        let length = end_is_zero(from_guest.read(&mut shown).await)?;
        console_open = length > 0;
        output.write_all(&shown[..length]).await?;
    }
    output.flush().await?;
    match init_error {
        Some(text) => Err(ShellError::Init(text)),
        None => Ok(ended),
    }
}
