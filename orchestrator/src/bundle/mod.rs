//! Bundles: a hit in one file, to be had again by somebody who has no farm.
//!
//! `NAME.tar.zst` holds one directory with the kernel, the image, the job and `run.sh`, which needs a shell, coreutils and QEMU.
//! `sign` says by what words the script knows the hit, `script` and `readme` are its texts, `pack` writes the archive and `unpack` reads
//! one that a stranger may have made; `bounds` is what such a one's cell is held to. `leftovers` removes what a killed farm left of either.
//!
//! ```text
//! farm-0123456789/
//!   bundle.json    what is in it, with sizes and hashes; always the first entry
//!   README.md      for people
//!   cell.json      the cell, as a run's directory has it
//!   command-line   the kernel's
//!   config         the kernel's configuration, where there is one
//!   diskN.data     of a formatted disk what is not zero; bundle.json says where it belongs
//!   hit.json       title, fingerprint, report
//!   image.cpio job.cpio kernel     what boots
//!   report.txt     the report alone
//!   run.sh
//!   vmlinux        if it was asked for
//! ```

mod bounds;
mod leftovers;
mod manifest;
mod pack;
mod readme;
mod script;
mod sign;
mod unpack;

use std::io;

use camino::Utf8PathBuf;

pub use bounds::{check_cell, check_text};
pub use manifest::{BundledHit, Console, DiskData, FORMAT, FileEntry, Manifest, Tried, disk_data};
pub use pack::{Content, Part, Stop, pack};
pub use readme::readme;
pub use script::{Exact, Script, ScriptLimits, limits_of, run_script};
pub use sign::{Pattern, Sign};
pub use unpack::{Unpacked, remove_unpacked, unpack};

/// The bundle's own names.
pub const BUNDLE_JSON: &str = "bundle.json";
pub const CELL: &str = "cell.json";
pub const COMMAND_LINE: &str = "command-line";
pub const CONFIG: &str = "config";
pub const HIT: &str = "hit.json";
pub const IMAGE: &str = "image.cpio";
pub const JOB: &str = "job.cpio";
pub const KERNEL: &str = "kernel";
pub const README: &str = "README.md";
pub const REPORT: &str = "report.txt";
pub const RUN: &str = "run.sh";
pub const VMLINUX: &str = "vmlinux";

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the hit '{title}' has no line in its report by which a script could know it")]
    NoSign { title: String },
    #[error("cannot write {path}")]
    Write { path: Utf8PathBuf, source: io::Error },
    #[error("no bundle was written: farm was interrupted")]
    Stopped,
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: io::Error },
    /// Whoever made it, it is not to be used.
    #[error("{path} is no bundle that can be used: {why}")]
    Refused { path: Utf8PathBuf, why: String },
}
