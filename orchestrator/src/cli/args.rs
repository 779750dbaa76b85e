//! The command line's grammar. Its doc comments are what `--help` prints.

use std::str::FromStr;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::bisect::BisectCommand;
use crate::runner::Until;
use crate::scenario::Fix;

const EXAMPLES: &str = "\
Examples:
  farm doctor                                   what this host can do, and what mends what is missing
  farm run smoke                                the quick check, on Debian's stock 6.1 kernel
  farm run splice --kernel debian-12 --kernel debian-13 --repeat 20
  farm run ./mine.yaml --kernel arch/s390/boot/bzImage --modules /lib/modules/6.9.0
  farm run ./mine.yaml --until 2h               as many lives as fit into two hours, each with other seeds and options
  farm calibrate                                that each fix of the emulated ultravisor mends its own scenarios only
  farm try fix.mbox --tree ~/linux --scenario splice        what a patch mends, and how sure that is
  farm bisect commits --tree ~/linux --good v6.1 --scenario splice     what brought a bug, also one that shows now and then
  farm hits                                     what was found, over all runs
  farm repro HIT --repeat 20                    its exact cell again: how often does it come?
  farm show last                                the newest run; `farm show ID` for a run, life or hit
  farm scan console.log                         the WARNs, BUGs and oopses in a log that you have

Exit codes:
    0  all passed
    1  a fault of farm itself
    2  usage or bad input
  100  new hits, missed hits or failed workloads
  101  a kernel, or a module for it, did not build
  102  a kernel did not boot
  103  the farm's own trouble: QEMU died, disk full, no network
  104  nothing ran: all skipped
  105  ineffective: the steps did too little to prove anything
  106  timed out
  107  no answer: of a patch nothing is sure (try); no commit is named (bisect); a hit did not come again (repro); lives that should be the same were not (--check-exact)
  130  interrupted
Several at once: the first of 130, 1, 2, 103, 100, 106, 102, 101, 105, 107, 104.";

const SCAN_HELP: &str = "\
Reads text as consoles, dmesg, journalctl -k and syslog have it, and mails that quote, wrap or encode it.
Of each hit it prints title, kind, fingerprint, the function to blame, and where it stands: lines count
from 1, bytes from 0, and the second byte offset is that behind the report. With --json, each hit is one
line of JSON.

Exit codes: 0 nothing found, 100 hits found, 2 the file or vmlinux cannot be read.";

/// A test farm for the Linux kernel on s390x.
///
/// Boots s390x guests under QEMU (TCG on any host, KVM on IBM Z), runs splice, sendfile and
/// direct-I/O stress inside them, and reports every WARN, BUG, oops and corrupted byte.
#[derive(Debug, Parser)]
#[command(name = "farm", version, after_help = EXAMPLES, max_term_width = 110)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,

    /// Where results are kept [default: the XDG state directory, ~/.local/state/farm]
    #[arg(long, global = true, env = "FARM_STATE", value_name = "DIR")]
    pub(super) state: Option<Utf8PathBuf>,

    /// Where kernels and images are cached [default: the XDG cache directory, ~/.cache/farm]
    #[arg(long, global = true, env = "FARM_CACHE", value_name = "DIR")]
    pub(super) cache: Option<Utf8PathBuf>,

    /// Print the result as one JSON document on stdout; scan prints one for each hit, each on a line
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Say more on stderr about what farm does (-v, -vv); FARM_LOG takes tracing filters
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run scenarios and judge what the kernel did
    Run(RunArgs),
    /// Show that the emulated ultravisor's fixes mend what scenarios say, and nothing else
    ///
    /// Each scenario with `mended-by` runs without a fix and with each fix alone. Its hits must occur where nothing mends
    /// them, and stay away where something does. Exits with 0 if all is so, else as a run with these verdicts does.
    Calibrate(CalibrateArgs),
    /// Try a patch: the same cells with it and without it, in turns, and what that proves
    ///
    /// Builds the tree as it is and with the patches (of a branch: the commit that it left HEAD at, and the branch), runs the scenarios on both, and says of each finding how many lives
    /// showed it without the patch and with it, and how sure a difference is (Fisher's exact test); with text for a mail. Exits
    /// with 0 if the patch mends something for sure and breaks nothing, with 100 if it brings a hit or makes one more common,
    /// with 107 if nothing is sure.
    Try(TryArgs),
    /// Show a hit again: its exact cell, as often as is asked for
    ///
    /// The same kernel, scenario, seed, schedule and machine; what is not as it was is said. In how many lives it came, with an interval of
    /// 95 % for how often it comes. Under the deterministic schedule each life is the same to the bit. Exits with 0 if it came again, with 107
    /// if not.
    ///
    /// With --bundle all of that goes into one file, which a colleague unpacks (tar xf) and runs without farm (./run.sh); `farm repro FILE` runs it here.
    /// A bundle may come from anybody: it is checked, and runs from its own kernel and image in guests that boot.
    Repro(ReproArgs),
    /// Find the change that brought a bug, also where it shows only now and then
    #[command(subcommand)]
    Bisect(BisectCommand),
    /// Boot a guest and give you a shell on its console
    Shell(ShellArgs),
    /// List the runs there have been
    Runs,
    /// List findings: hits with the same fingerprint, over all runs or one
    Hits(HitsArgs),
    /// Show a run, a life of a cell, a hit, or what a bisect came to
    Show {
        /// An id or its unique beginning, as `farm runs` and `farm hits` print it; `last` is the newest run
        id: String,
    },
    /// Find the kernel's complaints in a console, a log or a mail; exits with 100 if there are any, else with 0
    #[command(after_help = SCAN_HELP)]
    Scan(ScanArgs),
    /// Say what this host can do, what is missing, and the command that mends it
    Doctor,
    /// Kernels that have names
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Scenarios: list, check, show
    #[command(subcommand)]
    Scenario(ScenarioCommand),
}

/// Of what `repro` does instead of letting a hit's cell live again: one at a time.
const REPRO_MODE: &str = "mode";

/// What `repro` asks.
#[derive(Debug, ClapArgs)]
pub(super) struct ReproArgs {
    /// The hit, by its id or the beginning of that, as `farm hits` prints it; or a bundle's file (its name has a / or ends in .tar.zst)
    #[arg(value_name = "HIT|BUNDLE")]
    pub(super) hit: String,

    /// Write the hit into one file (NAME.tar.zst) for somebody who has no farm: kernel, initrd, and a run.sh that needs QEMU, a shell and
    /// coreutils only. First boots the guest 3 times, or 2 times under the deterministic schedule, to see that the hit comes
    #[arg(long, value_name = "FILE", group = REPRO_MODE, conflicts_with_all = ["repeat", "cold", "dump"])]
    pub(super) bundle: Option<Utf8PathBuf>,

    /// Write the bundle without that; what its console should be is then not known
    #[arg(long, requires = "bundle")]
    pub(super) unchecked: bool,

    /// Put the kernel's vmlinux into the bundle, for gdb
    #[arg(long, requires = "bundle")]
    pub(super) with_vmlinux: bool,

    /// How many lives
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeat: u32,

    /// How many guests run side by side [default: what CPUs and memory allow; printed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) jobs: Option<u32>,

    /// Boot each guest, instead of letting each go on from a copy of one that was booted and saved
    #[arg(long)]
    pub(super) cold: bool,

    /// The QEMU to use [default: the newest of those that set-up fetched and those on PATH]
    #[arg(long, value_name = "PATH")]
    pub(super) qemu: Option<Utf8PathBuf>,

    /// Boot the hit's guest, with its modules, disks and knobs, and give you a shell on its console; the commands that bring the
    /// hit are printed, to be typed
    #[arg(long, group = REPRO_MODE, conflicts_with_all = ["repeat", "jobs", "cold", "dump"])]
    pub(super) shell: bool,

    /// Halt the guest where its kernel is about to complain, and start gdb there: with vmlinux and the modules, a breakpoint at that
    /// place, and what stands behind `--` as gdb's arguments
    #[arg(long, group = REPRO_MODE, conflicts_with_all = ["jobs", "dump"])]
    pub(super) gdb: bool,

    /// With --gdb: record the life first, so that gdb can also go backwards (reverse-stepi, reverse-continue); of a cell with one CPU
    #[arg(long, requires = "gdb")]
    pub(super) record: bool,

    /// As in `farm repro HIT --gdb -- -batch -ex bt`
    #[arg(last = true, requires = "gdb", value_name = "GDB-ARGUMENT")]
    pub(super) gdb_arguments: Vec<String>,

    /// Instead, look for the smallest cell that still shows the hit, and write it as a scenario [default FILE: made of the names of
    /// scenario and hit]
    ///
    /// Takes away steps, time, workers, interference, options, CPUs and so on, one after the other, as long as the hit's
    /// fingerprint stays; of a kind of reductions that makes it come less than a quarter as often, some are taken back. Then says how often it comes, and prints the lines that start
    /// the same programs by hand. Also of hits that come now and then. FILE has the smallest so far at any time.
    #[arg(long, value_name = "FILE", num_args = 0..=1, group = REPRO_MODE, conflicts_with_all = ["repeat", "dump"])]
    pub(super) minimise: Option<Option<Utf8PathBuf>>,

    /// With --minimise: how long to look for it, as 90s, 10m or 2h; then the smallest so far is the answer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time, requires = "minimise")]
    pub(super) budget: Duration,

    #[command(flatten)]
    pub(super) dump: DumpArgs,
}

/// What lives are to leave beside their logs.
#[derive(Debug, ClapArgs)]
pub(super) struct DumpArgs {
    /// Write the guest's memory to a file when its kernel crashes or hangs, for `crash` and drgn; of the first four such lives
    #[arg(long)]
    pub(super) dump: bool,
}

/// What `try` asks.
#[derive(Debug, ClapArgs)]
pub(super) struct TryArgs {
    /// A patch, a series as a mailbox (b4 am, git format-patch --stdout), or a branch or commit of the tree's repository
    #[arg(value_name = "MBOX|BRANCH")]
    pub(super) what: String,

    /// The kernel tree that it is for, as it is, changed files included; or sources by name (linux-6.1, linux-6.12)
    #[arg(long, value_name = "DIR")]
    pub(super) tree: Utf8PathBuf,

    /// Scenarios or groups by name (see `farm scenario list`), or scenarios by path; can be given several times
    #[arg(long = "scenario", required = true, value_name = "SCENARIO")]
    pub(super) scenarios: Vec<String>,

    /// A configuration by name, as `farm kernel configs` lists them, or a file of CONFIG_ lines
    #[arg(long, value_name = "C", default_value = "lean")]
    pub(super) config: String,

    /// How often each cell is run on each of the two kernels, in turns: 5 of 5 against 0 of 5 is 99.2 % sure
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeat: u32,

    #[command(flatten)]
    pub(super) lives: LivesArgs,

    #[command(flatten)]
    pub(super) machine: MachineArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum KernelCommand {
    /// List the kernels that have names, and which are in the cache
    List,
    /// List the configurations that kernels can be built with
    Configs,
    /// Build kernels of sources, here, and print where they are: an unchanged one is not built again
    Build {
        /// Names, as `farm kernel list` prints them
        names: Vec<String>,
        #[command(flatten)]
        tree: TreeArgs,
    },
    /// Print the .config of a kernel that is built here
    Config {
        /// Its name
        #[arg(required_unless_present = "tree")]
        name: Option<String>,
        #[command(flatten)]
        tree: TreeArgs,
    },
    /// Fetch kernels anew, with their headers, so that a newer package is found; otherwise a cached kernel is used as
    /// it is
    Fetch {
        /// Names, as `farm kernel list` prints them
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Fetch the debug package of a distribution's kernel: from then on traces of its hits show files, lines and inlined
    /// functions, and a hang is named by the function that it is in
    ///
    /// It is large: Debian 12's is a download of 413 MiB, and takes 2.7 GB of the cache. Kernels that are built here have
    /// the like already, as have farm's own modules.
    Symbols {
        /// Names, as `farm kernel list` prints them
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ScenarioCommand {
    /// List the scenarios that have names, and their groups: each stands for all its scenarios
    List,
    /// Check scenario files and report every problem with its place
    Check {
        /// Scenario files, or names of scenarios and groups
        #[arg(required = true)]
        files: Vec<String>,
    },
    /// Print a scenario's YAML
    Show {
        /// Its name, or a file
        name: String,
    },
}

/// 90s, 10m, 2h
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let time = units.into_iter().find_map(|(unit, seconds)| {
        Some(Duration::from_secs(whole_number(text.strip_suffix(unit)?)? * seconds))
    });
    time.ok_or("say a time as 90s, 10m or 2h")
}

fn whole_number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|number| *number > 0 && *number < 1 << 32)
}

/// When a search ends, with the words that say so.
#[derive(Debug, Clone)]
pub(super) struct UntilArg {
    pub(super) text: String,
    pub(super) until: Until,
}

impl FromStr for UntilArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "say `hit`, a number of lives, or a time as 90s, 10m or 2h";
        let until = match text {
            "hit" => Some(Until::Hit),
            _ => whole_number(text).map(Until::Lives).or_else(|| time(text).ok().map(Until::Time)),
        };
        until.map(|until| Self { text: text.to_owned(), until }).ok_or(WRONG)
    }
}

/// A kernel that is built from the user's sources.
#[derive(Debug, ClapArgs)]
pub(super) struct TreeArgs {
    /// Build the kernel tree in this directory as it is, changed files included, in a place of farm's own; or sources by
    /// name (linux-6.1, linux-6.12: Debian's)
    #[arg(long, value_name = "DIR")]
    pub(super) tree: Option<Utf8PathBuf>,

    /// How: a configuration by name, as `farm kernel configs` lists them, or a file of CONFIG_ lines
    #[arg(long, value_name = "C", default_value = "lean")]
    pub(super) config: String,
}

/// What boots, and on what.
#[derive(Debug, ClapArgs)]
pub(super) struct GuestArgs {
    /// A kernel by name (see `farm kernel list`), or the path of a bzImage or vmlinux [default: debian-12]
    #[arg(long = "kernel", value_name = "K")]
    pub(super) kernels: Vec<String>,

    #[command(flatten)]
    pub(super) tree: TreeArgs,

    /// Modules of a kernel given by path: a lib/modules/RELEASE directory
    #[arg(long, value_name = "DIR")]
    pub(super) modules: Option<Utf8PathBuf>,

    /// vmlinux of a kernel given by path
    #[arg(long, value_name = "FILE")]
    pub(super) vmlinux: Option<Utf8PathBuf>,

    /// Build tree of a kernel given by path, for scenarios with modules [default: where DIR/build of --modules leads]
    #[arg(long, value_name = "DIR")]
    pub(super) headers: Option<Utf8PathBuf>,

    #[command(flatten)]
    pub(super) machine: MachineArgs,
}

/// What executes a guest.
#[derive(Debug, ClapArgs)]
pub(super) struct MachineArgs {
    /// The QEMU to use [default: the newest of those that set-up fetched and those on PATH]
    #[arg(long, value_name = "PATH")]
    pub(super) qemu: Option<Utf8PathBuf>,

    /// Who executes the guest's instructions [default: kvm on an s390x host that has it, else tcg]
    #[arg(long, value_enum)]
    pub(super) accel: Option<AccelArg>,

    /// QEMU's CPU model [default: max under TCG, host under KVM]
    #[arg(long, value_name = "MODEL")]
    pub(super) cpu: Option<String>,
}

/// What all commands ask whose guests live scenarios.
#[derive(Debug, ClapArgs)]
pub(super) struct LivesArgs {
    /// The seed of every random choice inside the guest [default: the scenario's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(super) seed: Option<u64>,

    /// How many guests run side by side [default: what CPUs and memory allow; printed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) jobs: Option<u32>,

    /// Boot each guest, instead of letting each go on from a copy of one that was booted and saved
    ///
    /// A life that goes on from a copy is as fresh as after a boot, WARN_ON_ONCE and all, and begins in a fraction of a
    /// second. One guest of each kind (kernel, modules of farm's own, machine, kernel arguments, QEMU) is booted and saved when it is
    /// first needed, and stays in the cache. Needs QEMU 9; where a guest cannot be saved it boots, and that is said. Boot them to
    /// see each life's whole console, what is different from boot to boot, and how the kernel goes off.
    #[arg(long)]
    pub(super) cold: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Scenarios or groups by name (see `farm scenario list`), or scenarios by path
    #[arg(required = true, value_name = "SCENARIO")]
    pub(super) scenarios: Vec<String>,

    #[command(flatten)]
    pub(super) guest: GuestArgs,

    #[command(flatten)]
    pub(super) dump: DumpArgs,

    /// Whether guests run as protected guests; a host that can't is said and the cell is skipped [default: the
    /// scenario's]
    #[arg(long, value_enum)]
    pub(super) protection: Option<ProtectionArg>,

    /// Let the emulated ultravisor make pages accessible where the kernel does not; can be given several times
    /// [default: the scenario's]
    #[arg(long = "fix", value_enum, value_name = "FIX")]
    pub(super) fixes: Vec<FixArg>,

    /// How often each cell is run, each time in a fresh guest
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeat: u32,

    #[command(flatten)]
    pub(super) lives: LivesArgs,

    /// Don't count the kernel functions that scenarios ask for (`touches`): the kernel is a little faster, and nothing
    /// proves that a step reached them
    #[arg(long)]
    pub(super) uncounted: bool,

    /// How the guest's CPUs take turns
    ///
    /// With `deterministic`, the cell decides every bit of what the guest says: its seed chooses how long turns are and
    /// when in them the work begins, and the same cell under the same QEMU meets the same races again (--check-exact shows
    /// whether it did). Lives that go on from a saved guest repeat as long as that one is in the cache, those with --cold
    /// on any day. Slower for its work, and for guests without disks only, since a disk answers when the host likes.
    #[arg(long, value_enum, default_value = "parallel")]
    pub(super) schedule: ScheduleArg,

    /// Let each cell live twice or more and compare every byte that its guests said; any difference ends with 107
    #[arg(long, requires = "schedule")]
    pub(super) check_exact: bool,

    /// Search: live without end until `hit` (a life with a new hit or failed work), N lives, or a time as 90s, 10m or 2h
    ///
    /// Each life is another cell: one of those that are asked for, with a seed of its own and with other values of the
    /// options of stress programs that its scenario leaves open (not flags and file sizes), all drawn from --seed. Lives
    /// that pass leave nothing but their count, and calls of kernel functions are not counted; of each finding 16 lives
    /// are kept whole. Scenarios whose steps are short give many lives an hour.
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["repeat", "recheck", "check_exact", "fail_fast"])]
    pub(super) until: Option<UntilArg>,

    /// Stop at the first life that does not pass
    #[arg(long, conflicts_with = "recheck")]
    pub(super) fail_fast: bool,

    /// Exit as `git bisect run` wants it: 0 all lives were clean, 1 one had a hit, 125 that cannot be told (not built, not
    /// booted, another failure, too little work done), 128 trouble of farm's own or wrong usage, which stops the bisection
    ///
    /// For those who drive git themselves: `git bisect run farm run S --tree . --git-bisect --hunt '...' --repeat 20`. `farm bisect
    /// commits` needs far fewer builds and lives where a bug shows only now and then.
    #[arg(long, conflicts_with_all = ["recheck", "until", "check_exact"])]
    pub(super) git_bisect: bool,

    /// With --git-bisect: the only hits that count, by title or fingerprint, in which * stands for any text; can be given several
    /// times [default: all that are new]
    #[arg(long, value_name = "PATTERN", requires = "git_bisect")]
    pub(super) hunt: Vec<String>,

    /// Run what had a new hit again at once, with the same seed: N lives as it was, N with TCG in one thread, N with
    /// another CPU model, N under another QEMU if there is one [default N: 2]
    ///
    /// The report says under which settings the hit was seen again. `emulator suspected`: it came again, and only as it
    /// was; or it came in every life but those with another CPU model or under another QEMU. `taken for the kernel's`:
    /// two settings or more have shown it. `no judgement`: it never came again. Few lives prove little: a race may want
    /// the timing of one setting, and may be too rare for N. The first life of each finding is rechecked, 8 lives of a
    /// run at most. The exit code does not change. Under KVM there is no emulation to change.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(super) recheck: Option<u32>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CalibrateArgs {
    /// Scenarios or groups by name (see `farm scenario list`), or scenarios by path
    #[arg(value_name = "SCENARIO", default_value = "uvsim")]
    pub(super) scenarios: Vec<String>,

    /// Build kernels with one planted bug each instead, and show that the scenario that is there for it sees it, and passes
    /// without it: all, or those that are named (kernels/mutants/mutants.yaml)
    ///
    /// On Debian's 6.1 and 6.12, or the one that --tree names, with --config. Exits with 0 if all are seen, with 100 if a
    /// kernel without a bug does not pass, with 105 if a bug is not seen.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "all",
          conflicts_with_all = ["scenarios", "kernels", "modules", "vmlinux", "headers"])]
    pub(super) mutants: Vec<String>,

    #[command(flatten)]
    pub(super) guest: GuestArgs,

    /// How often each cell is run, each time in a fresh guest
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeat: u32,

    #[command(flatten)]
    pub(super) lives: LivesArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ShellArgs {
    #[command(flatten)]
    pub(super) guest: GuestArgs,

    /// The machine and modules of this scenario
    #[arg(long, value_name = "SCENARIO")]
    pub(super) scenario: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ScanArgs {
    /// The file to read; - is stdin
    #[arg(value_name = "FILE")]
    pub(super) file: Utf8PathBuf,

    /// vmlinux of the kernel that wrote it, with debug information: traces then show files, lines and inlined functions
    #[arg(long, value_name = "FILE")]
    pub(super) vmlinux: Option<Utf8PathBuf>,

    /// The same for its modules: a directory of .ko files with debug information, at any depth
    #[arg(long, value_name = "DIR")]
    pub(super) modules: Option<Utf8PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct HitsArgs {
    /// Only this run's
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AccelArg {
    /// QEMU's translator: any host
    Tcg,
    /// The CPUs of an s390x host
    Kvm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ScheduleArg {
    /// Side by side, as fast as the host can: races differ from life to life
    Parallel,
    /// In turns that are counted in instructions: the same in every life of a cell
    Deterministic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProtectionArg {
    /// Ordinary guests
    None,
    /// Ordinary guests with farm's module `uvsim`, which stands for the ultravisor
    Emulated,
    /// Protected guests: needs IBM Z with an ultravisor and KVM
    Hardware,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FixArg {
    /// Pages of the page cache as they are moved into a pipe
    Splice,
    /// Pages of a process as they are moved into a pipe
    Vmsplice,
    /// Pages of a process as they are sent with MSG_ZEROCOPY
    Zerocopy,
    /// Buffers of direct I/O
    Dio,
}

impl From<FixArg> for Fix {
    fn from(fix: FixArg) -> Self {
        match fix {
            FixArg::Splice => Self::Splice,
            FixArg::Vmsplice => Self::Vmsplice,
            FixArg::Zerocopy => Self::Zerocopy,
            FixArg::Dio => Self::Dio,
        }
    }
}
