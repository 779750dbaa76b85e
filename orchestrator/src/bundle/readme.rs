//! `README.md` of a bundle.

use super::manifest::{Manifest, Tried};
use super::script::Exact;
use super::sign::Sign;
use super::{COMMAND_LINE, CONFIG, HIT, IMAGE, JOB, KERNEL, REPORT, RUN, VMLINUX};
use crate::plan::{Cell, Schedule};

/// What stands in it. `differs` is what is not as it was when the hit was found.
pub fn readme(
    title: &str,
    cell: &Cell,
    sign: &Sign,
    manifest: &Manifest,
    exact: Exact<'_>,
    differs: &[String],
) -> String {
    let kernel = &cell.kernel;
    let has = |name: &str| manifest.file(name).is_some();
    let tried = match manifest.tried {
        None => "It was not tried again when this bundle was made.".to_owned(),
        Some(Tried { lives, same: 0 }) => format!(
            "**When this bundle was made it came in none of {lives} guests that booted from these files.** It may come seldom, or not\n\
             at all in a guest that boots; try `./{RUN} --repeat 100`."
        ),
        Some(Tried { lives, same }) => {
            format!(
                "When this bundle was made it came in {same} of {lives} guests that booted from these files."
            )
        }
    };
    let schedule = match cell.schedule {
        Schedule::Parallel => format!(
            "The guest's CPUs run side by side, so that no two runs are alike: where the hit does not come at once, it may in\n\
             `./{RUN} --repeat 20`."
        ),
        Schedule::Deterministic => "QEMU counts instructions and takes them for the guest's clock (`-icount`): with the same version of QEMU each run\n\
             is the same to the byte."
            .to_owned(),
    };
    let console = match exact {
        Exact::No => String::new(),
        Exact::Unknown => {
            "What the console should be is not known, so that `run.sh` cannot compare it.\n\n".to_owned()
        }
        Exact::Known(_) => {
            "`run.sh` compares the console with what it was, and says whether it is the same to the byte.\n\n"
                .to_owned()
        }
    };
    let known_by = match sign {
        Sign::Log { .. } => {
            "`run.sh` looks for the lines of the report that give it its title, in the console and in the kernel's log; it does not\n\
             know reports as farm does."
        }
        Sign::Results(_) => {
            "The kernel said nothing: a program in the guest read other data than it wrote. `run.sh` looks for its line."
        }
        Sign::Silence => {
            "The guest fell silent, and no line tells of that. `run.sh` only sees that nothing comes any more, and not where the\n\
             guest hangs."
        }
        Sign::SilentPanic => "The guest panicked and printed nothing that says why. `run.sh` only sees that.",
    };
    let mut out = format!(
        "# {title}\n\n\
         A hit of the Linux kernel on s390x, found by farm, with all that is needed to have it again: kernel, initrd and what the\n\
         guest does. Kernel {name} {version} ({release}), scenario {scenario}, seed {seed}.\n\n\
         ## How to run it\n\n\
         \x20   ./{RUN}               once\n\
         \x20   ./{RUN} --repeat 20   as often as you like, and how often it came\n\n\
         It needs QEMU for s390x (`qemu-system-s390x` on PATH, or `QEMU=/path/to/it`), a POSIX shell and coreutils; no farm, no\n\
         network, no root. What each guest said is in `runs/1`, `runs/2`, …: `console.log`, `kmsg.log`, `results.log`.\n\n\
         Exit status: 0 the same hit came, 1 it did not, 2 wrong usage, no QEMU, or trouble of this host.\n\n\
         ## What to expect\n\n\
         {tried}\n\n{schedule}\n\n{console}{known_by}\n\n\
         It was made with QEMU {qemu}; `run.sh` says if yours is another.\n\n",
        name = kernel.name,
        version = kernel.version,
        release = kernel.release,
        scenario = cell.scenario.name,
        seed = cell.seed,
        qemu = manifest.qemu,
    );
    for difference in differs {
        out += &format!("Not as it was when the hit was found: {difference}.\n\n");
    }
    out += &format!(
        "## What is in it\n\n\
         - `{HIT}`, `{REPORT}`: the hit and its report\n\
         - `{KERNEL}`, `{COMMAND_LINE}`: the kernel's boot image and its command line\n\
         - `{IMAGE}`, `{JOB}`: the two halves of the initrd; `cat {IMAGE} {JOB} > initrd` makes it. The job says what the guest does\n\
         - `cell.json`, `bundle.json`: for farm, which runs the bundle with `farm repro FILE.tar.zst`\n"
    );
    for (name, what) in
        [(CONFIG, "the kernel's configuration"), (VMLINUX, "the kernel with its symbols, for gdb")]
    {
        if has(name) {
            out += &format!("- `{name}`: {what}\n");
        }
    }
    let (symbols, which) = if has(VMLINUX) {
        (VMLINUX, "")
    } else {
        ("VMLINUX", ", with the place of this kernel's vmlinux, which is not in this bundle, for VMLINUX")
    };
    out += &format!(
        "\n## How to attach gdb\n\n\
         \x20   ./{RUN} --gdb\n\n\
         starts the guest halted, and in another terminal, here{which},\n\n\
         \x20   gdb-multiarch {symbols} -ex 'target remote gdb.sock' -ex 'hbreak panic' -ex continue\n\n\
         lets it run until it panics; any other function will do, too; `detach` lets it go on without gdb. Nothing ends a guest then from which nothing comes; Ctrl-C at\n\
         `./{RUN}` does. The kernel is not moved (`nokaslr`), so that its addresses are those of vmlinux.\n"
    );
    out
}
