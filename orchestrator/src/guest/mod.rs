//! What a kernel boots into: the image `lite`, the job beside it, and disks.

mod archive;
mod compile;
mod disk;
mod disk_parts;
mod image;
mod initrd;
mod job;
mod kernel_module;
mod manifest;
mod module_index;
mod rest;
mod saved;
mod share;
mod slot;

use std::io;

use camino::Utf8PathBuf;

pub use self::compile::{Programs, compile};
pub use self::disk::{disk_template, fresh_disk};
pub use self::disk_parts::{Extent, fit, lay_out, lay_out_command, take_apart};
pub use self::image::{ImageParts, LiteImage, lite_image};
pub use self::initrd::write_initrd;
pub use self::job::{CellJob, Entropy, Executable, Job, JobAction, JobRequest, JobStep, Mount, Work};
pub use self::kernel_module::{ModuleRequest, OwnModule, build_module, module_names};
pub use self::manifest::Manifest;
pub use self::rest::is_at_rest;
pub use self::saved::SavedGuest;
pub use self::share::{SHARE_TAG, fresh_share, share_command};
use crate::cache::CacheError;
use crate::kernel::{KernelError, ToolError};

#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("the module {module} cannot be built for the kernel {release}: {words}")]
    ModuleBuild { module: String, release: String, words: String },
    #[error("the image manifest lite.yaml cannot be read")]
    Manifest(#[source] serde_yaml::Error),
    #[error("the image manifest lite.yaml has names that are no modules: {names}")]
    ModuleNames { names: String },
    #[error("the kernel {kernel} has no module {module}, built in or apart; build it with that driver")]
    NoModule { kernel: String, module: String },
    #[error("the module {path} is compressed as farm cannot read; only .ko and .ko.xz are supported")]
    ModuleCompression { path: Utf8PathBuf },
    #[error("the source {path} is missing from farm's own data")]
    NoSource { path: String },
    #[error("the guest that was saved has no job slot")]
    NoSlot,
    #[error("cannot use {path}")]
    Io { path: Utf8PathBuf, source: io::Error },
    #[error("the cache entry's record {path} is damaged; remove its directory")]
    BadRecord { path: Utf8PathBuf, source: serde_json::Error },
    #[error("a job line of {bytes} bytes is longer than a guest takes ({limit}): {key} …")]
    LongJobLine { key: &'static str, bytes: usize, limit: usize },
    #[error("a job cannot be put into an archive")]
    Archive(#[source] io::Error),
}
