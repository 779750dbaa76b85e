//! `farm shell`: a guest to look around in.

use std::io::IsTerminal;
use std::sync::Arc;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::runtime::Runtime;

use super::args::ShellArgs;
use super::environment::Environment;
use super::provision::{Asked, Grounds, Guests};
use super::scenarios::library;
use super::{output, runtime, scratch};
use crate::error::{ExitCode, Failure};
use crate::machine::{Exit, Launcher};
use crate::plan::{Cell, Counting, Schedule, expand};
use crate::runner::{Guest, ShellError, interact};
use crate::store::LifeFiles;

/// Whose machine a shell gets where no scenario is named.
const DEFAULT_SCENARIO: &str = "smoke";

pub(super) fn shell(environment: &Environment, options: &ShellArgs) -> Result<ExitCode, Failure> {
    let scenario = Arc::new(library()?.load(options.scenario.as_deref().unwrap_or(DEFAULT_SCENARIO))?);
    let runtime = runtime()?;
    let asked = Asked {
        protection: None,
        fixes: None,
        schedule: Schedule::Parallel,
        seed: None,
        counting: Counting::On,
    };
    let grounds = Grounds::new(environment, &runtime, &options.guest, asked)?;
    let Grounds { launcher, qemu, provision, request, .. } = grounds;
    let cells = expand(&scenario, &request);
    let Some(cell) = cells.first().filter(|_| request.kernels.len() == 1) else {
        return Err(Failure::new(ExitCode::Usage, "a shell takes one --kernel"));
    };
    let guest = provision.guest(environment, cell, &qemu, &mut Guests::new())?.map_err(Failure::from)?;
    hand_over(runtime, &guest, cell, &launcher)
}

/// Boots the cell's guest into a shell, which the user has until the guest goes off.
pub(super) fn hand_over(
    runtime: Runtime,
    guest: &Guest,
    cell: &Cell,
    launcher: &Launcher,
) -> Result<ExitCode, Failure> {
    let (_scratch, directory) = scratch()?;
    let files = LifeFiles::at(directory);
    output::note(&format!(
        "booting {} under QEMU {}; `poweroff` or Ctrl-] ends it. Its console is shown as it is.",
        cell.kernel.release, guest.qemu.version
    ));
    let ended = {
        let _raw = RawTerminal::enter()?;
        let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
        runtime.block_on(interact(guest, cell, &files, launcher, input, output))
    };
    // A thread of tokio's may still wait for a key.
    runtime.shutdown_background();
    match ended?.exit {
        Exit::PoweredOff | Exit::Stopped | Exit::Reset => Ok(ExitCode::Passed),
        Exit::Panicked(panic) => {
            Err(Failure::new(ExitCode::Hits, format!("the guest panicked: {:?}", panic.reason)))
        }
        exit => Err(Failure::new(ExitCode::Infra, format!("QEMU did not end well: {exit:?}"))),
    }
}

impl From<ShellError> for Failure {
    fn from(error: ShellError) -> Self {
        Failure::of(ExitCode::Infra, &error)
    }
}

/// The terminal passes every key to the guest, until this is dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let failed = |error: rustix::io::Errno| Failure::of(ExitCode::Infra, &std::io::Error::from(error));
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, before)
        {
            output::note(&format!("the terminal could not be set back ({error}); `reset` does"));
        }
    }
}
