//! The emulated ultravisor as a scenario sets it up: the knobs of the kernel module in `guests/modules/uvsim/`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::condition::Protection;
use super::problem::Problems;
use super::read::{Absent, At, Field, Group, Section};
use super::shape::{Describe, FLAG, ListOf, MICROSECOND, Mismatch, Number, OneOf, Shape, Time};

/// The module's RAM disk, which counts as a device …
pub(crate) const DISK: &str = "uvsinkb";
/// … and where its file system is mounted in a guest whose steps use it.
pub(crate) const DISK_DIRECTORY: &str = "/mnt/uvsinkb";

/// A kernel path in which the module calls `arch_make_page_accessible()` where the kernel does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fix {
    /// Pages of the page cache that are moved into a pipe.
    Splice,
    /// Pages of a process that are moved into a pipe.
    Vmsplice,
    /// Pages of a process that are sent with `MSG_ZEROCOPY`.
    Zerocopy,
    /// Buffers of direct I/O.
    Dio,
}

impl Fix {
    pub const ALL: [(&'static str, Self); 4] = [
        ("splice", Self::Splice),
        ("vmsplice", Self::Vmsplice),
        ("zerocopy", Self::Zerocopy),
        ("dio", Self::Dio),
    ];

    /// As scenarios and the command line call it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, fix)| *fix == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How the emulated ultravisor behaves. The default is one that never refuses, and a kernel that is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// In the order of [`Fix::ALL`], each once.
    pub fix: Vec<Fix>,
    /// How many conversions in a hundred are answered with "busy" …
    pub busy: u32,
    /// … and how many are done in part.
    pub partial: u32,
    /// How many exports in a hundred fail.
    pub export_failure: u32,
    /// How many pages in a hundred are said to belong to another guest.
    pub owner_mismatch: u32,
    /// How long a conversion takes while the kernel holds the page's references frozen.
    #[serde(rename = "freeze_delay_us", with = "micros")]
    pub freeze_delay: Duration,
    pub pin_shared: bool,
    pub early: bool,
}

fn whole_micros(time: &Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time as a whole number of microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(super::whole_micros(time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

/// The same of several.
pub(super) mod list_of_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        times: &[Duration],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(times.iter().map(super::whole_micros))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<u64>::deserialize(deserializer)?.into_iter().map(Duration::from_micros).collect())
    }
}

/// What protection a scenario can ask for by itself.
pub(crate) struct OwnProtection;

const OWN: OneOf<Protection> =
    OneOf { words: &[("none", Protection::None), ("emulated", Protection::Emulated)] };

impl Describe for OwnProtection {
    fn describe(&self) -> String {
        OWN.describe()
    }
}

impl Shape for OwnProtection {
    type Value = Protection;
    fn parse(&self, text: &str) -> Result<Protection, Mismatch> {
        match text {
            "hardware" => Err(Mismatch::hint(
                "a scenario that wants the hardware's says `needs: [pv]`; \
                 `farm run --protection hardware` asks for it",
            )),
            _ => OWN.parse(text),
        }
    }
}

/// Some of the fixes.
pub(crate) const FIXES: ListOf<OneOf<Fix>> =
    ListOf { of: OneOf { words: &Fix::ALL }, min: 1, max: Fix::ALL.len() };

pub(crate) static UVSIM: Section = Section {
    title: "the knobs of the emulated ultravisor",
    doc: "What the kernel module `uvsim` is told before the first step. Its random choices are made from the cell's seed.",
    fields: &[&FIX, &BUSY, &PARTIAL, &EXPORT_FAILURE, &OWNER_MISMATCH, &FREEZE_DELAY, &PIN_SHARED, &EARLY],
};

pub(crate) static FIX: Field<ListOf<OneOf<Fix>>> = Field {
    name: "fix",
    shape: FIXES,
    absent: Absent::Means("nothing is mended"),
    doc: "Kernel paths in which the module makes pages accessible in the kernel's stead: `splice` as they enter a pipe \
          from the page cache, `vmsplice` as they enter one from a process, `zerocopy` as they are sent with \
          `MSG_ZEROCOPY`, `dio` as direct I/O takes them. `farm run --fix` takes its place.",
};
/// In how many cases of a hundred the ultravisor does something.
const fn percent(name: &'static str, doc: &'static str) -> Field<Number> {
    Field { name, shape: Number { min: 0, max: 100 }, absent: Absent::Default("0"), doc }
}
const fn flag(name: &'static str, doc: &'static str) -> Field<OneOf<bool>> {
    Field { name, shape: FLAG, absent: Absent::Default("false"), doc }
}
pub(crate) static BUSY: Field<Number> =
    percent("busy", "How many calls in a hundred are answered with \"busy\" (condition code 2).");
pub(crate) static PARTIAL: Field<Number> =
    percent("partial", "How many calls in a hundred are done in part (condition code 3).");
pub(crate) static EXPORT_FAILURE: Field<Number> =
    percent("export-failure", "How many exports of a secure page in a hundred fail.");
pub(crate) static OWNER_MISMATCH: Field<Number> =
    percent("owner-mismatch", "How many pages in a hundred are said to belong to another guest.");
pub(crate) const DELAY: Time = Time { min: Duration::ZERO, max: Duration::from_millis(1), unit: MICROSECOND };
pub(crate) static FREEZE_DELAY: Field<Time> = Field {
    name: "freeze-delay",
    shape: DELAY,
    absent: Absent::Default("0s"),
    doc: "How long a page's conversion takes, during which the kernel holds its references frozen.",
};
pub(crate) static PIN_SHARED: Field<OneOf<bool>> =
    flag("pin-shared", "Whether pages can be pinned as shared, so that the kernel need not export them.");
pub(crate) static EARLY: Field<OneOf<bool>> = flag(
    "early",
    "Whether secure pages are reported already where they are submitted to a block device, whose driver may yet copy them.",
);

/// The knobs that a scenario gives, and the others' defaults; nothing if one is wrong.
pub(crate) fn read(group: Group<'_>, problems: &Problems) -> Option<Knobs> {
    let fix = distinct(group.list(&FIX), FIX.name, problems);
    let percent = |field| group.scalar(field).and_then(|number| u32::try_from(number.value).ok());
    let (busy, partial) = (percent(&BUSY), percent(&PARTIAL));
    let (export_failure, owner_mismatch) = (percent(&EXPORT_FAILURE), percent(&OWNER_MISMATCH));
    let freeze_delay = group.scalar(&FREEZE_DELAY);
    let (pin_shared, early) = (group.scalar(&PIN_SHARED), group.scalar(&EARLY));
    Some(Knobs {
        fix,
        busy: busy?,
        partial: partial?,
        export_failure: export_failure?,
        owner_mismatch: owner_mismatch?,
        freeze_delay: freeze_delay?.value,
        pin_shared: pin_shared?.value,
        early: early?.value,
    })
}

/// Fixes in their own order: that of the file means nothing, so it must not reach a cell's id.
pub(crate) fn distinct(list: Vec<At<Fix>>, name: &str, problems: &Problems) -> Vec<Fix> {
    for (index, At { at, value }) in list.iter().enumerate() {
        if list[..index].iter().any(|earlier| earlier.value == *value) {
            problems.report(*at, format!("{name}: {value} is given twice"), None);
        }
    }
    let mut fixes: Vec<Fix> = list.into_iter().map(|fix| fix.value).collect();
    fixes.sort_unstable();
    fixes
}
