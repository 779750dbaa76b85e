//! A guest whose console is somebody's terminal.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::guest::{Guest, PrepareError};
use crate::machine::{Ended, Launcher, Machine, MachineEvent, StartError, Stop};
use crate::plan::{Cell, LifeId};
use crate::store::LifeFiles;
use crate::workload::{Message, ResultsReader};

/// Ctrl-], as in telnet and virsh: leaves the guest, which is then switched off.
const ESCAPE: u8 = 0x1d;

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
    let mut results = ResultsReader::new();
    let (mut typed, mut shown, mut kmsg, mut told) = ([0; 1024], [0; 4096], [0; 4096], [0; 4096]);
    let mut typing = true;
    let mut init_error = None;
    let ended = loop {
        tokio::select! {
            read = input.read(&mut typed), if typing => {
                let bytes = &typed[..read?];
                typing = !bytes.is_empty();
                let (bytes, leave) = match bytes.iter().position(|byte| *byte == ESCAPE) {
                    Some(at) => (&bytes[..at], true),
                    None => (bytes, false),
                };
                streams.console.write_all(bytes).await?;
                if leave {
                    break machine.stop(Stop::Now).await;
                }
            }
            read = streams.console.read(&mut shown) => {
                output.write_all(&shown[..read?]).await?;
                output.flush().await?;
            }
            // The kernel's log is on the console too.
            read = streams.kmsg.read(&mut kmsg) => { read?; }
            read = streams.results.read(&mut told) => {
                let mut messages = Vec::new();
                results.feed(&told[..read?], &mut messages);
                init_error = init_error.or(messages.into_iter().find_map(|message| match message {
                    Message::Error { text } => Some(text),
                    _ => None,
                }));
            }
            event = machine.next_event() => match event {
                Some(MachineEvent::Ended(ended)) => break ended,
                Some(MachineEvent::Panicked(_)) | None => break machine.stop(Stop::Now).await,
                Some(_) => {}
            },
        }
    };
    prepared.remove()?;
    match init_error {
        Some(text) => Err(ShellError::Init(text)),
        None => Ok(ended),
    }
}
