//! Trials by a command of the user's, with the exit codes of `git bisect run`: any repository can be bisected.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::kernels::attended;
use super::testbed::{Hunted, Made, Testbed, Tried};
use crate::error::{ExitCode, Failure};
use crate::kernel::{Checkout, Exit};
use crate::runner::Interrupt;
use crate::store::{Outcome, Probe, StoreError, Trial};

/// git-bisect(1): the code that says that a commit cannot be tested.
const CANNOT_TELL: i32 = 125;
/// The last code that says that a commit is bad.
const LAST_BAD: i32 = 127;

/// Where a command finds what it is to try.
pub(super) trait Place: Sync {
    /// Puts it there.
    fn make(&mut self, of: &Probe) -> Result<Made, Failure>;

    /// Refuses a program that is not there.
    fn check_program(&self, program: &str) -> Result<(), Failure>;

    /// Runs the command there; what it prints goes to the log.
    fn run(&self, command: &[String], log: &Utf8Path) -> Result<Exit, Failure>;
}

pub(super) struct CommandTrials<'a, P> {
    pub(super) runtime: &'a Runtime,
    pub(super) interrupts: mpsc::Receiver<Interrupt>,
    pub(super) place: P,
    pub(super) command: &'a [String],
    /// The code that says that there was no hit and that this proves nothing.
    pub(super) weak_code: Option<u8>,
    /// Of the bisect.
    pub(super) directory: Utf8PathBuf,
    /// What is to begin.
    pub(super) prepared: Option<(Utf8PathBuf, u32)>,
}

/// Commits of a repository.
pub(super) struct Repository {
    pub(super) checkout: Checkout,
    pub(super) bad: String,
}

impl Place for Repository {
    fn make(&mut self, of: &Probe) -> Result<Made, Failure> {
        let Self { checkout, bad } = self;
        Ok(match of {
            Probe::Subject(id) => {
                checkout.check_out(id)?;
                Made::Ready { signature: None, cached: true }
            }
            Probe::Without(id) => match checkout.check_out_without(bad, id)? {
                Ok(()) => Made::Ready { signature: None, cached: true },
                Err(said) => Made::Cannot { said: format!("it cannot be taken back: {said}") },
            },
        })
    }

    fn check_program(&self, program: &str) -> Result<(), Failure> {
        Ok(self.checkout.check_program(program)?)
    }

    fn run(&self, command: &[String], log: &Utf8Path) -> Result<Exit, Failure> {
        Ok(self.checkout.run(command, log)?)
    }
}

impl<P: Place> Testbed for CommandTrials<'_, P> {
    fn make(&mut self, of: &Probe) -> Result<Made, Failure> {
        self.place.make(of)
    }

    fn prepare(&mut self, of: &Probe, trials: u32, _: &Hunted) -> Result<String, Failure> {
        // Another may have been checked out since it was made.
        if let Made::Cannot { said } = self.place.make(of)? {
            return Err(Failure::new(ExitCode::Infra, said));
        }
        if let [program, ..] = self.command {
            self.place.check_program(program)?;
        }
        let trials_before = fs::read_dir(self.directory.join("runs")).map_or(0, Iterator::count);
        let name = format!("{:04}", trials_before + 1);
        let directory = self.directory.join("runs").join(&name);
        fs::create_dir_all(&directory)
            .map_err(|source| StoreError::Write { path: directory.clone(), source })?;
        self.prepared = Some((directory, trials));
        Ok(name)
    }

    fn live(&mut self, _: &Hunted) -> Result<Tried, Failure> {
        let Some((directory, trials)) = self.prepared.take() else {
            return Err(Failure::new(ExitCode::Fault, "no trials were prepared"));
        };
        let mut lived = Vec::new();
        let path = directory.join("codes");
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let mut codes = File::options().create(true).append(true).open(&path).map_err(failed)?;
        for number in 1..=trials {
            let (began, log) = (Instant::now(), directory.join(format!("{number}.log")));
            let (place, command) = (&self.place, self.command);
            let exit = attended(self.runtime, &mut self.interrupts, || place.run(command, &log));
            let code = match exit? {
                Exit::Code(code) if code <= LAST_BAD => code,
                Exit::Code(code) => return Err(self.stopped(&format!("ended with {code}"), &log)),
                Exit::Signal(signal) => {
                    return Err(self.stopped(&format!("was killed by signal {signal}"), &log));
                }
            };
            let took = began.elapsed().as_secs_f64();
            // What is not in there is tried again after a kill.
            writeln!(codes, "{number} {code} {took}").map_err(failed)?;
            let trial = self.trial(number, code, took);
            let outcome = trial.outcome;
            lived.push(trial);
            if matches!(outcome, Outcome::Hit | Outcome::CannotBoot) {
                break;
            }
        }
        Ok(Tried { trials: lived, interrupted: false, found: Vec::new() })
    }

    fn ended(&self, run: &str, _: u32, _: &Hunted) -> Result<Tried, Failure> {
        let codes = fs::read_to_string(self.directory.join("runs").join(run).join("codes"));
        let line = |line: &str| {
            let [number, code, took] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            Some(self.trial(number.parse().ok()?, code.parse().ok()?, took.parse().ok()?))
        };
        let codes = codes.unwrap_or_default();
        // A kill or a full disk may have cut the last one.
        let whole = codes.rfind('\n').map_or(0, |end| end + 1);
        let trials = codes[..whole].lines().filter_map(line).collect();
        Ok(Tried { trials, interrupted: false, found: Vec::new() })
    }
}

impl<P> CommandTrials<'_, P> {
    fn trial(&self, number: u32, code: i32, seconds: f64) -> Trial {
        let outcome = match code {
            0 => Outcome::Clean,
            code if self.weak_code.is_some_and(|weak| i32::from(weak) == code) => Outcome::Weak,
            CANNOT_TELL => Outcome::CannotBoot,
            _ => Outcome::Hit,
        };
        Trial { number, outcome, seconds, others: Vec::new(), reason: String::new() }
    }

    fn stopped(&self, how: &str, log: &Utf8PathBuf) -> Failure {
        Failure::new(ExitCode::Infra, format!("the command {how}; so nothing is known and the bisect stops"))
            .hint(format!("what it said is in {log}; --resume tries it again"))
    }
}
