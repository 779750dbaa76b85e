//! Every field of a scenario, once: its name, shape, bounds, default and meaning. Those of `uvsim` are in `emulation`.
//!
//! The checker reads by these tables, and `docs/scenario.md` is rendered from them.

use std::time::Duration;

use super::condition::Condition;
use super::emulation::{DELAY, FIXES, Fix, OwnProtection, UVSIM};
use super::read::{Absent, Field, FreeMap, GroupOf, ListOfGroups, Section};
use super::shape::{
    Describe, FLAG, Functions, Letters, ListOf, MILLISECOND, Mebibytes, Mismatch, Number, OneOf, Shape, Text,
    Time, Traceable,
};
use super::{DiskFormat, Need};

/// The largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
pub(crate) const LARGEST_SEED: u64 = (1 << 53) - 1;
/// Time beyond `for` until a worker is killed: loading, laying out its files, the last turn on a slow host.
pub(crate) const LIMIT_BEYOND_FOR: Duration = Duration::from_secs(30);
/// The limit where nothing says how long a step should take.
pub(crate) const LIMIT_OTHERWISE: Duration = Duration::from_secs(60);
/// More cells than a matrix should make of one scenario on one kernel.
pub(crate) const MOST_CELLS: usize = 256;
/// A step's number has eight bits in its seed.
pub(crate) const MOST_STEPS: usize = 64;
/// s390's boot protocol has 896 bytes for the command line (LEGACY_COMMAND_LINE_SIZE,
/// arch/s390/include/asm/setup.h); farm's own arguments need the rest.
pub(crate) const LONGEST_COMMAND_LINE: usize = 512;

/// Of one step, side by side.
pub(crate) const MOST_WORKERS: usize = 64;
/// As many as init takes.
pub(crate) const MOST_BESIDE: usize = 8;
/// As many as init takes. Each slows the kernel down a little.
pub(crate) const MOST_TOUCHES: usize = 16;
/// As many as init takes.
pub(crate) const MOST_TRACED: usize = 16;
/// Eight such names fit a line of the job. The kernel would take 511 (KSYM_NAME_LEN, include/linux/kallsyms.h).
const LONGEST_SYMBOL: usize = 128;
const DAY: Duration = Duration::from_secs(24 * 3600);
const MOST_DISKS: usize = 8;
const NAME: Text = Text { letters: Letters::Name, longest: 64 };
const LINE: Text = Text { letters: Letters::Line, longest: 200 };

/// A condition as a field.
pub(crate) struct When;

impl Describe for When {
    fn describe(&self) -> String {
        "a condition".to_owned()
    }
}

impl Shape for When {
    type Value = Condition;
    fn parse(&self, text: &str) -> Result<Condition, Mismatch> {
        text.parse().map_err(|error: super::condition::ConditionError| Mismatch::hint(error.to_string()))
    }
}

/// Where a stress program's files go, as a field: `tmp`, a disk's number, or the emulated ultravisor's own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dir {
    Tmp,
    Disk(usize),
    Uvsinkb,
}

pub(crate) static SCENARIO: Section = Section {
    title: "a scenario",
    doc: "A map with these fields.",
    fields: &[
        &scenario::NAME,
        &scenario::PURPOSE,
        &scenario::HUNTS,
        &scenario::NEEDS,
        &scenario::PROTECTION,
        &scenario::KNOBS,
        &scenario::MODULES,
        &scenario::MACHINE,
        &scenario::TRACE,
        &scenario::HEARTBEAT,
        &scenario::STEPS,
        &scenario::EXPECT,
        &scenario::KNOWN,
        &scenario::MATRIX,
    ],
};

pub(crate) mod scenario {
    use super::*;

    pub(crate) static NAME: Field<Text> = Field {
        name: "name",
        shape: super::NAME,
        absent: Absent::Required,
        doc: "What `farm run` calls it. A scenario in `scenarios/` has its file's name.",
    };
    pub(crate) static PURPOSE: Field<Text> =
        Field { name: "purpose", shape: LINE, absent: Absent::Required, doc: "What it is for, in one line." };
    pub(crate) static HUNTS: Field<ListOf<Text>> = Field {
        name: "hunts",
        shape: ListOf { of: LINE, min: 1, max: 16 },
        absent: Absent::Means("nothing in particular"),
        doc: "The kinds of kernel bug it looks for, in free words.",
    };
    pub(crate) static NEEDS: Field<ListOf<OneOf<Need>>> = Field {
        name: "needs",
        shape: ListOf { of: OneOf { words: &Need::ALL }, min: 0, max: 5 },
        absent: Absent::Means("nothing"),
        doc: "What the host must have: a protected guest (`pv`), KVM, 1 MiB pages in the guest (`edat`), \
              vhost, a tap device. Without it a cell is skipped, never run with less.",
    };
    pub(crate) static PROTECTION: Field<OwnProtection> = Field {
        name: "protection",
        shape: OwnProtection,
        absent: Absent::Default("none"),
        doc: "`emulated`: farm's kernel module `uvsim` is loaded and stands for the ultravisor, so that processes of an \
              ordinary guest can have secure memory as a protected guest has; built against the very kernel, as \
              `modules` are. `farm run --protection emulated` does the same for any scenario. A scenario for guests that \
              the hardware protects says `needs: [pv]`.",
    };
    pub(crate) static KNOBS: Field<GroupOf> = Field {
        name: "uvsim",
        shape: GroupOf(&UVSIM),
        absent: Absent::Means("each knob's default"),
        doc: "How the emulated ultravisor behaves; with `protection: emulated` only.",
    };
    pub(crate) static MODULES: Field<ListOf<Text>> = Field {
        name: "modules",
        shape: ListOf { of: super::NAME, min: 0, max: 8 },
        absent: Absent::Means("none"),
        doc: "Kernel modules that are loaded in this order before the first step: farm's own, of `guests/modules/`, built \
              against the very kernel (a cell of a kernel given by path that has no headers is skipped), or the kernel's \
              own that are in the image (`guests/images/lite.yaml`).",
    };
    pub(crate) static MACHINE: Field<GroupOf> = Field {
        name: "machine",
        shape: GroupOf(&super::MACHINE),
        absent: Absent::Means("each field's default"),
        doc: "CPUs, memory, disks, a share and kernel arguments.",
    };
    pub(crate) static TRACE: Field<ListOf<Traceable>> = Field {
        name: "trace",
        shape: ListOf { of: Traceable { longest: LONGEST_SYMBOL }, min: 0, max: MOST_TRACED },
        absent: Absent::Means("nothing is traced"),
        doc: "What the guest's kernel traces while the steps run, so that `farm show HIT` has each CPU's last events before \
              the kernel's first complaint: tracepoints (`sched:sched_switch`, or `irq:*` for all of a subsystem), and functions, \
              which are probed where they are entered, with their caller. What this kernel cannot trace is told there, and the cell \
              runs without it. Each event costs time, and may move a race.",
    };
    pub(crate) static HEARTBEAT: Field<Time> = Field {
        name: "heartbeat",
        shape: Time { min: Duration::from_secs(5), max: Duration::from_secs(600), unit: MILLISECOND },
        absent: Absent::Default("30s"),
        doc: "The guest beats once a second; silence for longer than this is a hang.",
    };
    pub(crate) static STEPS: Field<ListOfGroups> = Field {
        name: "steps",
        shape: ListOfGroups { of: "a map with one of stress, exec or write", min: 0, max: MOST_STEPS },
        absent: Absent::Required,
        doc: "What the guest does, one step after the other.",
    };
    pub(crate) static EXPECT: Field<ListOfGroups> = Field {
        name: "expect",
        shape: ListOfGroups { of: super::EXPECT.title, min: 0, max: 64 },
        absent: Absent::Means("no hit must occur"),
        doc: "Hits that must occur: without one of them the cell is `missed`.",
    };
    pub(crate) static KNOWN: Field<ListOfGroups> = Field {
        name: "known",
        shape: ListOfGroups { of: super::KNOWN.title, min: 0, max: 64 },
        absent: Absent::Means("every hit is news"),
        doc: "Hits that may occur and leave the cell `passed`.",
    };
    pub(crate) static MATRIX: Field<GroupOf> = Field {
        name: "matrix",
        shape: GroupOf(&super::MATRIX),
        absent: Absent::Means("one cell for each kernel"),
        doc: "Values of which every combination runs.",
    };
}

pub(crate) static MACHINE: Section = Section {
    title: "a machine",
    doc: "The guest's machine.",
    fields: &[&machine::CPUS, &machine::MEMORY, &machine::DISKS, &machine::SHARE, &machine::KERNEL_ARGS],
};

pub(crate) mod machine {
    use super::*;

    pub(crate) const CPU_COUNT: Number = Number { min: 1, max: 64 };

    pub(crate) static CPUS: Field<Number> = Field {
        name: "cpus",
        shape: CPU_COUNT,
        absent: Absent::Default("2"),
        doc: "How many CPUs the guest has. `matrix.cpus` takes its place.",
    };
    pub(crate) static MEMORY: Field<Mebibytes> = Field {
        name: "memory",
        shape: Mebibytes { min: 128, max: 64 << 10 },
        absent: Absent::Default("512M"),
        doc: "The guest's memory.",
    };
    pub(crate) static DISKS: Field<ListOfGroups> = Field {
        name: "disks",
        shape: ListOfGroups { of: DISK.title, min: 0, max: MOST_DISKS },
        absent: Absent::Means("no disk"),
        doc: "Empty virtio-blk disks, fresh for each guest.",
    };
    pub(crate) static SHARE: Field<OneOf<bool>> = Field {
        name: "share",
        shape: FLAG,
        absent: Absent::Default("false"),
        doc: "Whether the guest has a directory of the host's, by QEMU's 9p over virtio, at `/mnt/share`. It \
              can read there and not write, or it could fill the host's disk. farm makes the directory for each life, with the \
              one file that the stress program `share` reads.",
    };
    pub(crate) static KERNEL_ARGS: Field<ListOf<Text>> = Field {
        name: "kernel-args",
        shape: ListOf { of: Text { letters: Letters::Word, longest: 128 }, min: 0, max: 32 },
        absent: Absent::Means("only farm's own"),
        doc: "Added to the kernel's command line; 512 bytes in all.",
    };
}

pub(crate) static DISK: Section = Section {
    title: "a disk",
    doc: "Each entry of `machine.disks`. The guest knows disk N as `/dev/diskN`; the letters of `/dev/vda`, `/dev/vdb`, … differ from boot to boot.",
    fields: &[&disk::SIZE, &disk::FORMAT],
};

pub(crate) mod disk {
    use super::*;

    pub(crate) static SIZE: Field<Mebibytes> = Field {
        name: "size",
        shape: Mebibytes { min: 16, max: 64 << 10 },
        absent: Absent::Default("256M"),
        doc: "How large the guest sees it; the host stores what is written.",
    };
    pub(crate) static FORMAT: Field<OneOf<DiskFormat>> = Field {
        name: "format",
        shape: OneOf { words: &DiskFormat::ALL },
        absent: Absent::Default("ext4"),
        doc: "`ext4` and `xfs` are mounted at `/mnt/N`, counted from 0 over all disks; `raw` is left alone. `xfs` needs `size: 300M` or more.",
    };
}

pub(crate) mod step {
    use super::*;

    pub(crate) const ACTIONS: [&str; 3] = ["stress", "exec", "write"];
    const LIMIT_SHAPE: Time =
        Time { min: Duration::from_secs(1), max: Duration::from_secs(25 * 3600), unit: MILLISECOND };

    pub(crate) static NAME: Field<Text> = Field {
        name: "name",
        shape: super::NAME,
        absent: Absent::Means("the program's name, with a number where it is taken"),
        doc: "What reports and `matrix.args` call the step; each name once.",
    };
    pub(crate) static LIMIT: Field<Time> = Field {
        name: "limit",
        shape: LIMIT_SHAPE,
        absent: Absent::Means("1m"),
        doc: "Wall time after which the workers are killed.",
    };
    pub(crate) static STRESS_LIMIT: Field<Time> = Field {
        name: "limit",
        shape: LIMIT_SHAPE,
        absent: Absent::Means("`for` and 30s more, or 1m with `ops`"),
        doc: "Wall time after which the workers are killed; not less than `for`.",
    };
    pub(crate) static WORKERS: Field<Number> = Field {
        name: "workers",
        shape: Number { min: 1, max: MOST_WORKERS as u64 },
        absent: Absent::Default("1"),
        doc: "How many copies run side by side, each with a seed of its own.",
    };
    pub(crate) static STRESS: Field<Text> = Field {
        name: "stress",
        shape: super::NAME,
        absent: Absent::Required,
        doc: "A program of `guests/stress/`, listed below.",
    };
    pub(crate) static ARGS_OF_STRESS: Field<FreeMap> = Field {
        name: "args",
        shape: FreeMap("a map of the program's own options"),
        absent: Absent::Means("each option's default"),
        doc: "The program's own options.",
    };
    pub(crate) static FOR: Field<Time> = Field {
        name: "for",
        shape: Time { min: Duration::from_millis(10), max: DAY, unit: MILLISECOND },
        absent: Absent::Means("`ops` says when to stop"),
        doc: "How long each worker goes on. Either this or `ops`.",
    };
    pub(crate) static OPS: Field<Number> = Field {
        name: "ops",
        shape: Number { min: 1, max: 1_000_000_000_000 },
        absent: Absent::Means("`for` says when to stop"),
        doc: "How many operations each worker does: the same work on every host.",
    };
    pub(crate) static DIR: Field<OneOf<Dir>> = Field {
        name: "dir",
        shape: OneOf { words: &DIRS },
        absent: Absent::Means("the first disk with a file system, or `tmp` if there is none"),
        doc: "Where the program's files go, if it has any: `diskN` is `/mnt/N`, `tmp` the tmpfs at `/tmp`. `uvsinkb`, with `protection: emulated` \
              only, is `/mnt/uvsinkb`: a file system on the RAM disk of the module `uvsim`, which counts as a device.",
    };
    pub(crate) static SECURE: Field<OneOf<bool>> = Field {
        name: "secure",
        shape: FLAG,
        absent: Absent::Default("false"),
        doc: "Whether the program's buffers and files are memory of an emulated protected guest, made secure again and \
              again; with `protection: emulated` only.",
    };
    pub(crate) static EXEC: Field<Text> = Field {
        name: "exec",
        shape: Text { letters: Letters::Path, longest: 4096 },
        absent: Absent::Required,
        doc: "A program of your own: a static s390x ELF file, named from this file's folder.",
    };
    pub(crate) static ARGS_OF_EXEC: Field<ListOf<Text>> = Field {
        name: "args",
        // A line of the job holds 4,096 bytes, and a byte of the argument may need three of them.
        shape: ListOf { of: Text { letters: Letters::Lines, longest: 1024 }, min: 0, max: 64 },
        absent: Absent::Means("none"),
        doc: "Its arguments, and nothing else: no seed, no time.",
    };
    pub(crate) static BESIDE: Field<ListOfGroups> = Field {
        name: "beside",
        shape: ListOfGroups { of: super::BESIDE.title, min: 0, max: MOST_BESIDE },
        absent: Absent::Means("nothing"),
        doc: "Interference that runs as long as the step's workers do.",
    };
    pub(crate) static TOUCHES: Field<ListOfGroups> = Field {
        name: "touches",
        shape: ListOfGroups { of: TOUCH.title, min: 0, max: MOST_TOUCHES },
        absent: Absent::Means("nothing is counted"),
        doc: "Kernel functions that this step must reach: with fewer calls of one, by whomever, while the \
              workers run, the cell is `ineffective`.",
    };
    pub(crate) static WRITE: Field<Text> = Field {
        name: "write",
        shape: Text { letters: Letters::GuestPath, longest: 256 },
        absent: Absent::Required,
        doc: "A file in the guest, such as `/proc/sys/vm/drop_caches`.",
    };
    pub(crate) static WRITE_TEXT: Field<Text> = Field {
        name: "text",
        shape: Text { letters: Letters::Lines, longest: 1024 },
        absent: Absent::Required,
        doc: "What is written to it, in one write.",
    };

    const DIRS: [(&str, Dir); MOST_DISKS + 2] = [
        ("tmp", Dir::Tmp),
        ("disk0", Dir::Disk(0)),
        ("disk1", Dir::Disk(1)),
        ("disk2", Dir::Disk(2)),
        ("disk3", Dir::Disk(3)),
        ("disk4", Dir::Disk(4)),
        ("disk5", Dir::Disk(5)),
        ("disk6", Dir::Disk(6)),
        ("disk7", Dir::Disk(7)),
        (super::super::emulation::DISK, Dir::Uvsinkb),
    ];
}

pub(crate) static STRESS_STEP: Section = Section {
    title: "a stress step",
    doc: "An entry of `steps` that runs a stress program of farm's.",
    fields: &[
        &step::STRESS,
        &step::ARGS_OF_STRESS,
        &step::FOR,
        &step::OPS,
        &step::WORKERS,
        &step::DIR,
        &step::SECURE,
        &step::STRESS_LIMIT,
        &step::BESIDE,
        &step::TOUCHES,
        &step::NAME,
    ],
};

pub(crate) static EXEC_STEP: Section = Section {
    title: "an exec step",
    doc: "An entry of `steps` that runs a program of your own.",
    fields: &[
        &step::EXEC,
        &step::ARGS_OF_EXEC,
        &step::WORKERS,
        &step::LIMIT,
        &step::BESIDE,
        &step::TOUCHES,
        &step::NAME,
    ],
};

pub(crate) static WRITE_STEP: Section = Section {
    title: "a write step",
    doc: "An entry of `steps` that writes to a file in the guest.",
    fields: &[&step::WRITE, &step::WRITE_TEXT, &step::LIMIT, &step::NAME],
};

pub(crate) static BESIDE: Section = Section {
    title: "interference",
    doc: "Each entry of `beside`. It is started before the workers and told to end when the last of them has ended. If it \
          fails, so does the step; a step beside which none of its interference could run is skipped.",
    fields: &[&beside::INTERFERENCE, &beside::ARGS, &beside::SECURE],
};

pub(crate) mod beside {
    use super::*;

    pub(crate) static INTERFERENCE: Field<Text> = Field {
        name: "interference",
        shape: super::NAME,
        absent: Absent::Required,
        doc: "A program of `guests/interference/`, listed below.",
    };
    pub(crate) static ARGS: Field<FreeMap> = Field {
        name: "args",
        shape: FreeMap("a map of the program's own options"),
        absent: Absent::Means("each option's default"),
        doc: "The program's own options.",
    };
    pub(crate) static SECURE: Field<OneOf<bool>> = Field {
        name: "secure",
        shape: FLAG,
        absent: Absent::Default("false"),
        doc: "Whether the program's own memory is that of an emulated protected guest, made secure again and again: that \
              of `swap` and `ksm`, and of no other; with `protection: emulated` only.",
    };
}

pub(crate) static TOUCH: Section = Section {
    title: "a kernel function and how often it must be called",
    doc: "Each entry of `touches`. A function is counted where it is entered, so one that the compiler has inlined \
          everywhere cannot be. `farm run --uncounted` counts nothing.",
    fields: &[&touch::FUNCTION, &touch::COUNT, &touch::WHEN],
};

pub(crate) mod touch {
    use super::*;

    pub(crate) static FUNCTION: Field<Functions> = Field {
        name: "function",
        shape: Functions { most: 8, longest: LONGEST_SYMBOL },
        absent: Absent::Required,
        doc: "Where kernels name it differently, all the names: the first that a kernel has is counted.",
    };
    pub(crate) static COUNT: Field<Number> = Field {
        name: "count",
        shape: Number { min: 1, max: 1_000_000_000_000 },
        absent: Absent::Required,
        doc: "How many calls are enough.",
    };
    pub(crate) static WHEN: Field<When> = Field {
        name: "when",
        shape: When,
        absent: Absent::Means("always"),
        doc: "The condition under which it is counted.",
    };
}

pub(crate) static EXPECT: Section = Section {
    title: "an expected hit",
    doc: "Each entry of `expect`; `title` or `fingerprint`, not both.",
    fields: &[&hit::TITLE, &hit::FINGERPRINT, &hit::MENDED_BY, &hit::WHEN],
};

pub(crate) static KNOWN: Section = Section {
    title: "a known hit",
    doc: "Each entry of `known`; `title` or `fingerprint`, not both.",
    fields: &[&hit::TITLE, &hit::FINGERPRINT, &hit::REASON, &hit::WHEN],
};

pub(crate) mod hit {
    use super::*;

    pub(crate) static TITLE: Field<Text> = Field {
        name: "title",
        shape: LINE,
        absent: Absent::Means("`fingerprint` is given"),
        doc: "The hit's title, such as `WARNING in try_get_folio`; `*` stands for any text.",
    };
    pub(crate) static FINGERPRINT: Field<Text> = Field {
        name: "fingerprint",
        shape: LINE,
        absent: Absent::Means("`title` is given"),
        doc: "The hit's fingerprint; `*` stands for any text.",
    };
    pub(crate) static WHEN: Field<When> = Field {
        name: "when",
        shape: When,
        absent: Absent::Means("always"),
        doc: "The condition under which the entry holds.",
    };
    pub(crate) static MENDED_BY: Field<ListOf<OneOf<Fix>>> = Field {
        name: "mended-by",
        shape: FIXES,
        absent: Absent::Means("no fix of `uvsim` touches it"),
        doc: "Fixes of `uvsim` of which each alone mends it: in a cell that has one, the hit is not expected, and news if \
              it occurs. With `protection: emulated` only. `farm calibrate` runs the scenario with each fix and with none.",
    };
    pub(crate) static REASON: Field<Text> = Field {
        name: "reason",
        shape: LINE,
        absent: Absent::Required,
        doc: "Why it is no news, with a link if there is one.",
    };
}

pub(crate) static MATRIX: Section = Section {
    title: "a matrix",
    doc: "Every combination is a cell; at most 256 for each kernel.",
    fields: &[&matrix::CPUS, &matrix::SEEDS, &matrix::FREEZE_DELAY, &matrix::ARGS],
};

pub(crate) mod matrix {
    use super::*;

    pub(crate) static CPUS: Field<ListOf<Number>> = Field {
        name: "cpus",
        shape: ListOf { of: machine::CPU_COUNT, min: 1, max: 16 },
        absent: Absent::Means("`machine.cpus`"),
        doc: "Numbers of CPUs.",
    };
    pub(crate) static SEEDS: Field<ListOf<Number>> = Field {
        name: "seeds",
        shape: ListOf { of: Number { min: 0, max: LARGEST_SEED }, min: 1, max: MOST_CELLS },
        absent: Absent::Means("seed 1"),
        doc: "Seeds of cells; `farm run --seed` takes their place. Every step draws its own from it.",
    };
    pub(crate) static FREEZE_DELAY: Field<ListOf<Time>> = Field {
        name: "freeze-delay",
        shape: ListOf { of: DELAY, min: 1, max: 16 },
        absent: Absent::Means("`uvsim.freeze-delay`"),
        doc: "Times that a page's conversion takes; with `protection: emulated` only.",
    };
    pub(crate) static ARGS: Field<FreeMap> = Field {
        name: "args",
        shape: FreeMap("a map: step name → option → list of values"),
        absent: Absent::Means("`args` of the steps"),
        doc: "Values for options of stress steps, in place of the step's own.",
    };
    /// Of one option.
    pub(crate) const MOST_VALUES: usize = 64;
}
