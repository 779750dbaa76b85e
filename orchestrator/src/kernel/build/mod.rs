//! Kernels built here: sources and a configuration → a cache entry with all that belongs to a kernel.
//!
//! An entry is named by the content of the tree with its patches, by the fragments, and by the toolchain. It is
//! made in a place that keeps its objects ([`super::tree`]), so that a change costs what it touches.

mod config;
mod configurator;
mod entries;
mod kconfig;
mod make;
mod signature;

use std::fs;
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use self::config::Need;
pub use self::config::{BadLine, Base, Compiler, ConfigRecipe, Fragment, Lost, Options};
pub use self::configurator::Configurator;
pub use self::entries::Kconfig;
use self::make::{DebugFlags, Make, toolchain, write_if_other};
use self::signature::signature;
use super::boot::{NotBootable, inspect};
use super::git::TreeId;
use super::package::{keep_only, read_record, write_record};
use super::tool::check_build_tools;
use super::tree::Tree;
use super::{Kernel, KernelError, Origin, modules, read, sha256_hex};
use crate::cache::{Cache, Kind, Progress};
use crate::plan::KernelKey;

/// Raised when the same inputs make another entry.
const RECIPE: u32 = 6;
/// What keys of kernels that are built here begin with.
const BUILT: &str = "built-";
/// What all kernels that were built here may take of the disk; those not used for longest go first.
const MOST_BYTES: u64 = 12 << 30;
/// The modules with their debug information; those that are loaded have none.
const DEBUG: &str = "debug";
/// What modules of farm's own are built against.
const BUILD: &str = "build";
/// Of the sources, what such a build reads. What is only for other architectures and drivers stays out.
const READ_OF_SOURCES: [&str; 5] =
    ["Makefile", "scripts", "include", "arch/s390/Makefile", "arch/s390/include"];
const NOT_READ: [&str; 8] = [
    "include/drm",
    "include/dt-bindings",
    "include/media",
    "include/sound",
    "scripts/coccinelle",
    "scripts/dtc",
    "scripts/gcc-plugins",
    "scripts/kconfig",
];
/// What the build has made beside that. Modules.symvers is made last, and only with modules.
const READ_OF_OBJECTS: [&str; 6] = [
    ".config",
    "Module.symvers",
    "scripts",
    "include/config",
    "include/generated",
    "arch/s390/include/generated",
];

/// A kernel that is to be built.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// What it is called.
    pub name: &'a str,
    pub config: &'a ConfigRecipe,
    /// By name.
    pub patches: &'a [(String, Vec<u8>)],
    /// A build that takes longer hangs.
    pub limit: Duration,
}

/// A whole kernel takes minutes.
pub const BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);

impl<'a> BuildRequest<'a> {
    /// Without patches.
    pub fn new(name: &'a str, config: &'a ConfigRecipe) -> Self {
        Self { name, config, patches: &[], limit: BUILD_LIMIT }
    }
}

/// What farm knows of a kernel that it has built, written into its entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildRecord {
    /// The git tree of the sources, patches applied.
    tree: String,
    config: String,
    config_sha256: String,
    toolchain: String,
    signature: String,
    release: String,
    boot_sha256: String,
    command_line_bytes: u64,
}

/// Builds the kernel, unless that was done before.
pub fn build(
    cache: &Cache,
    (tree, base): (&Tree, &TreeId),
    request: &BuildRequest<'_>,
    progress: Progress<'_>,
) -> Result<Kernel, KernelError> {
    check_build_tools()?;
    let BuildRequest { name, config, patches, limit } = *request;
    let options = Options::of_fragments(&config.fragments)?;
    let id = tree.patched(base, patches)?;
    let toolchain = toolchain(config.compiler)?;
    let key = entry_key(&id, config, &options, &toolchain);
    let mut is_new = false;
    let entry = cache.entry(Kind::Kernel, &key, progress, |work| {
        is_new = true;
        let source = tree.check_out(&id)?;
        let objects_key = format!("{}-{}", config.name, &sha256_hex(toolchain.as_bytes())[..8]);
        let objects = tree.objects(&objects_key)?;
        let make = Make {
            cache,
            source: &source,
            objects: &objects,
            name,
            compiler: config.compiler,
            limit,
            debug: DebugFlags::None,
            progress,
        };
        let configured = configure(&make, config, &options)?;
        let make = Make { debug: DebugFlags::beside(&configured), ..make };
        progress(&format!("building {name}: tree {}, configuration {}", id.short(), config.name));
        let modules = if configured.value("MODULES") == "n" { Modules::None } else { Modules::All };
        make.run(match modules {
            Modules::All => &["bzImage", "modules"],
            Modules::None => &["bzImage"],
        })?;
        collect(&make, modules, work)?;
        let kernel = facts(work)?;
        let record = BuildRecord {
            tree: id.as_str().to_owned(),
            config: config.name.clone(),
            config_sha256: sha256_hex(&read(&objects.join(".config"))?),
            toolchain: toolchain.clone(),
            signature: signature_of(work, &objects)?,
            release: kernel.release,
            boot_sha256: kernel.boot_sha256,
            command_line_bytes: kernel.command_line_bytes,
        };
        write_record(work, &record)
    })?;
    if is_new {
        cache.prune(Kind::Kernel, BUILT, MOST_BYTES, &entry)?;
    }
    cache.mark_used(&entry);
    load(name, &entry)
}

/// The kernel, if it was built before, of these sources.
pub(super) fn existing(
    cache: &Cache,
    id: &TreeId,
    request: &BuildRequest<'_>,
) -> Result<Option<Kernel>, KernelError> {
    let options = Options::of_fragments(&request.config.fragments)?;
    // Without a compiler there is no telling which one it would be.
    let Ok(toolchain) = toolchain(request.config.compiler) else { return Ok(None) };
    let key = entry_key(id, request.config, &options, &toolchain);
    cache.existing(Kind::Kernel, &key).map(|entry| load(request.name, &entry)).transpose()
}

/// A kernel that was built here once and is in the cache still.
pub fn built_again(cache: &Cache, key: &KernelKey, origin: &Origin) -> Result<Option<Kernel>, KernelError> {
    for entry in cache.entries(Kind::Kernel)? {
        let is_built = entry.file_name().is_some_and(|name| name.starts_with(BUILT));
        // An entry of another version of farm may have another record. Boot images alone may be the same of several.
        if is_built
            && let Ok(kernel) = load(&key.name, &entry)
            && (&kernel.key, &kernel.origin) == (key, origin)
        {
            return Ok(Some(kernel));
        }
    }
    Ok(None)
}

/// For each content whether its kernel was built before.
pub fn which_are_built(
    cache: &Cache,
    contents: &[&TreeId],
    config: &ConfigRecipe,
) -> Result<Vec<bool>, KernelError> {
    let options = Options::of_fragments(&config.fragments)?;
    let toolchain = toolchain(config.compiler)?;
    let is_built =
        |id: &&TreeId| cache.existing(Kind::Kernel, &entry_key(id, config, &options, &toolchain)).is_some();
    Ok(contents.iter().map(is_built).collect())
}

fn entry_key(id: &TreeId, config: &ConfigRecipe, options: &Options, toolchain: &str) -> String {
    let inputs = format!("{RECIPE} {} {:?}\n{options}{toolchain}\n", id.as_str(), config.base);
    format!("{BUILT}{}-{}-{}", config.name, id.short(), &sha256_hex(inputs.as_bytes())[..16])
}

/// The .config of a request, as it would be built, in text.
pub fn configuration(
    cache: &Cache,
    (tree, base): (&Tree, &TreeId),
    request: &BuildRequest<'_>,
    progress: Progress<'_>,
) -> Result<String, KernelError> {
    let options = Options::of_fragments(&request.config.fragments)?;
    let source = tree.check_out(&tree.patched(base, request.patches)?)?;
    let objects = tree.objects(&format!("{}-configured", request.config.name))?;
    let make = Make {
        cache,
        source: &source,
        objects: &objects,
        name: request.name,
        compiler: request.config.compiler,
        limit: request.limit,
        debug: DebugFlags::None,
        progress,
    };
    configure(&make, request.config, &options)?;
    let config = read(&objects.join(".config"))?;
    Ok(String::from_utf8_lossy(&config).into_owned())
}

/// Makes the .config, in which all that was asked for must be so.
fn configure(make: &Make<'_>, config: &ConfigRecipe, asked: &Options) -> Result<Options, KernelError> {
    let (base, target) = match config.base {
        Base::AllNoConfig => (None, "allnoconfig"),
        Base::DefConfig => (Some("arch/s390/configs/defconfig"), "alldefconfig"),
        Base::DebugDefConfig => (Some("arch/s390/configs/debug_defconfig"), "alldefconfig"),
    };
    let base = base.map(|path| read(&make.source.join(path))).transpose()?.unwrap_or_default();
    let text = format!("{}{asked}", String::from_utf8_lossy(&base));
    let wanted = make.objects.join("farm-asked.config");
    let (before, path) = (make.objects.join("farm-before.config"), make.objects.join(".config"));
    write_if_other(&wanted, &text)?;
    let failed = |source| KernelError::Io { path: path.clone(), source };
    // A .config that is the same but newer would have everything looked at anew.
    let had = path.is_file();
    if had {
        fs::rename(&path, &before).map_err(failed)?;
    }
    make.run(&[&format!("KCONFIG_ALLCONFIG={wanted}"), target])?;
    let found = read(&path)?;
    if had && read(&before)? == found {
        fs::rename(&before, &path).map_err(failed)?;
    }
    let found = Options::parse(".config", &String::from_utf8_lossy(&found))?;
    let mut lost = asked.lost_in(&found);
    if lost.is_empty() {
        return Ok(found);
    }
    let files = kconfig_files(make.source)?;
    for one in &mut lost {
        one.because = kconfig::reasons(&one.option, &files, |name| found.value(name));
    }
    lost.retain(|one| one.need == Need::Always || !one.because.is_empty());
    if lost.is_empty() {
        return Ok(found);
    }
    for one in lost.iter_mut().filter(|one| one.because.is_empty()) {
        one.because.push("no Kconfig of this tree has it".to_owned());
    }
    Err(KernelError::ConfigLost { name: make.name.to_owned(), lost })
}

/// All Kconfig files but those of other architectures.
fn kconfig_files(source: &Utf8Path) -> Result<Vec<kconfig::File>, KernelError> {
    let mut files = Vec::new();
    let mut left = vec![source.to_owned()];
    while let Some(directory) = left.pop() {
        let failed = |source| KernelError::Io { path: directory.clone(), source };
        for entry in directory.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                let other = path.parent().is_some_and(|parent| parent == source.join("arch"))
                    && entry.file_name() != "s390";
                if !other {
                    left.push(path.to_owned());
                }
            } else if entry.file_name().starts_with("Kconfig") {
                let text = String::from_utf8_lossy(&read(path)?).into_owned();
                let path = path.strip_prefix(source).unwrap_or(path).to_string();
                files.push(kconfig::File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Whether a configuration has loadable modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modules {
    All,
    None,
}

/// Puts what the build has made into an entry.
fn collect(make: &Make<'_>, kinds: Modules, work: &Utf8Path) -> Result<(), KernelError> {
    let Make { source, objects, .. } = make;
    let path = objects.join("include/config/kernel.release");
    let release = String::from_utf8_lossy(&read(&path)?).trim().to_owned();
    if kinds == Modules::All {
        collect_modules(make, &release, work)?;
    }
    copy(&objects.join("arch/s390/boot/bzImage"), &work.join(format!("boot/vmlinuz-{release}")))?;
    copy(&objects.join(".config"), &work.join(format!("boot/config-{release}")))?;
    copy(&objects.join("vmlinux"), &work.join("vmlinux"))?;
    for path in READ_OF_SOURCES {
        copy_all(source, path, &work.join(BUILD))?;
    }
    for path in READ_OF_OBJECTS {
        if objects.join(path).exists() {
            copy_all(objects, path, &work.join(BUILD))?;
        }
    }
    keep_only(work, &["boot", "lib", "vmlinux", BUILD, DEBUG])
}

fn collect_modules(make: &Make<'_>, release: &str, work: &Utf8Path) -> Result<(), KernelError> {
    make.run(&[
        "modules_install",
        &format!("INSTALL_MOD_PATH={work}"),
        "INSTALL_MOD_STRIP=1",
        "DEPMOD=true",
    ])?;
    let home = work.join("lib/modules").join(release);
    for link in ["build", "source"] {
        let _ = fs::remove_file(home.join(link));
    }
    modules::index(work, release)?;
    let installed = home.join("kernel");
    for module in modules::files(&installed)? {
        let path = module.strip_prefix(&installed).unwrap_or(&module);
        copy(&make.objects.join(path), &work.join(DEBUG).join(path))?;
    }
    Ok(())
}

/// What of a tree's path is wanted, without what is made on the way to a program.
fn copy_all(from: &Utf8Path, path: &str, to: &Utf8Path) -> Result<(), KernelError> {
    let (place, copied) = (from.join(path), to.join(path));
    let made_on_the_way = path.ends_with(".o") || path.ends_with(".cmd");
    if NOT_READ.contains(&path) || made_on_the_way {
        return Ok(());
    }
    let failed = |source| KernelError::Io { path: place.clone(), source };
    let kind = fs::symlink_metadata(&place).map_err(failed)?.file_type();
    if kind.is_dir() {
        for entry in place.read_dir_utf8().map_err(failed)? {
            copy_all(from, &format!("{path}/{}", entry.map_err(failed)?.file_name()), to)?;
        }
        return Ok(());
    }
    if kind.is_symlink() {
        // A link of the sources', to another file of theirs; one that a patch brings may lead anywhere.
        return match (place.canonicalize_utf8(), from.canonicalize_utf8()) {
            (Ok(there), Ok(top)) if there.is_file() && there.starts_with(&top) => copy(&there, &copied),
            _ => Ok(()),
        };
    }
    copy(&place, &copied)
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), KernelError> {
    let failed = |source: io::Error| KernelError::Io { path: from.to_owned(), source };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::copy(from, to).map_err(failed)?;
    Ok(())
}

struct Facts {
    release: String,
    boot_sha256: String,
    command_line_bytes: u64,
}

fn facts(entry: &Utf8Path) -> Result<Facts, KernelError> {
    let boot = boot_image(entry)?;
    let bytes = read(&boot)?;
    let facts = inspect(&bytes)
        .map_err(|NotBootable { looks_like }| KernelError::NotAKernel { path: boot.clone(), looks_like })?;
    let named = boot.file_name().and_then(|name| name.strip_prefix("vmlinuz-")).map(str::to_owned);
    let release = facts.release.or(named).ok_or_else(|| KernelError::NoRelease { path: boot.clone() })?;
    Ok(Facts { release, boot_sha256: sha256_hex(&bytes), command_line_bytes: facts.command_line_bytes })
}

fn boot_image(entry: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    let directory = entry.join("boot");
    let failed = |source| KernelError::Io { path: directory.clone(), source };
    for file in directory.read_dir_utf8().map_err(failed)? {
        let file = file.map_err(failed)?;
        if file.file_name().starts_with("vmlinuz-") {
            return Ok(file.into_path());
        }
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}

fn signature_of(entry: &Utf8Path, objects: &Utf8Path) -> Result<String, KernelError> {
    let mut files = vec![entry.join("vmlinux")];
    files.extend(objects_of_boot(objects)?);
    files.extend(modules::files(&entry.join("lib"))?);
    let files: Vec<&Utf8Path> = files.iter().map(Utf8PathBuf::as_path).collect();
    signature(&files)
}

/// What runs first is linked by itself (arch/s390/boot/Makefile), of these. What is made of vmlinux has, or depends on, what does not count.
fn objects_of_boot(objects: &Utf8Path) -> Result<Vec<Utf8PathBuf>, KernelError> {
    const MADE_OF_VMLINUX: [&str; 4] = ["info.o", "piggy.o", "relocs.o", "syms.o"];
    let linked = objects.join("arch/s390/boot/.vmlinux.cmd");
    if !linked.is_file() {
        return Ok(Vec::new());
    }
    let command = read(&linked)?;
    let command = String::from_utf8_lossy(&command);
    let parts = command.split_whitespace().map(Utf8Path::new).filter(|word| word.extension() == Some("o"));
    let counts = |part: &&Utf8Path| part.file_name().is_some_and(|name| !MADE_OF_VMLINUX.contains(&name));
    Ok(parts.filter(counts).map(|part| objects.join(part)).collect())
}

fn load(name: &str, entry: &Utf8Path) -> Result<Kernel, KernelError> {
    let record: BuildRecord = read_record(entry)?;
    let BuildRecord { tree, config, toolchain, signature, release, boot_sha256, command_line_bytes, .. } =
        record;
    let key = KernelKey {
        name: name.to_owned(),
        release: release.clone(),
        version: TreeId::known(tree.clone()).short().to_owned(),
        sha256: boot_sha256,
    };
    Ok(Kernel {
        boot: entry.join(format!("boot/vmlinuz-{release}")),
        modules: Some(entry.join("lib/modules").join(&release)).filter(|modules| modules.is_dir()),
        vmlinux: Some(entry.join("vmlinux")),
        debug_modules: Some(entry.join(DEBUG)),
        config: Some(entry.join(format!("boot/config-{release}"))),
        headers: Some(entry.join(BUILD)),
        origin: Origin::Built { tree, config, toolchain, signature },
        key,
        command_line_bytes,
    })
}
