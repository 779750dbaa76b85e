//! farm's own kernel modules, built against the very kernel that will load them.
//!
//! The kernel's build system does it (Documentation/kbuild/modules.rst). It compiles in place, so it gets a copy of
//! the sources; with paths as in the repository, the same sources, headers and compiler make the same bytes anywhere.
//! What is loaded has no debug information; what traces are read with has.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use include_dir::Dir;

use super::GuestError;
use crate::cache::{Cache, Kind, Progress};
use crate::escape::{Fit, push_escaped};
use crate::kernel::tool::{CROSS_STRIP, Complaints, MAKE, tells_of_a_full_disk};
use crate::kernel::{BuildTree, keep_only, sha256_hex};

/// Where they are in `guests/`, a directory for each.
const FOLDER: &str = "modules";

/// Of debug information what a trace can show: lines, functions, and what was inlined.
const FLAGS: &str = "-g1";
/// The directory of the file that has it.
const DEBUG: &str = "debug";
/// Words on make's command line, which beat those of the tree's own configuration.
const SETTINGS: [&str; 6] = [
    "ARCH=s390",
    "CROSS_COMPILE=s390x-linux-gnu-",
    // -fmin-function-alignment came with GCC 14; without this the kernel's Makefile takes -falign-functions.
    "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",
    // -mstack-protector-guard=global, which 7.2 wants, came with GCC 16. A module is free to go without.
    "CONFIG_STACKPROTECTOR=",
    "CONFIG_STACKPROTECTOR_STRONG=",
    // BTF needs a pahole as new as the kernel, and changes nothing in the code.
    "CONFIG_DEBUG_INFO_BTF_MODULES=",
];

/// A module takes seconds, on a host that is busy with guests half a minute; a tree's Makefile that waits for
/// something waits for ever.
const BUILD_LIMIT: Duration = Duration::from_secs(300);
/// What is looked at of the complaints: those of the first error are at the beginning.
const COMPLAINTS_BYTES: u64 = 64 << 10;
/// A reason is a line in a table.
const MOST_LINES: usize = 3;
const MOST_REASON_BYTES: usize = 500;

/// The names of the modules in `guests`, the directory of that name in the repository.
pub fn module_names(guests: &Dir<'_>) -> Vec<String> {
    let folders = guests.get_dir(FOLDER).into_iter().flat_map(Dir::dirs);
    folders.filter_map(|folder| Some(folder.path().file_name()?.to_str()?.to_owned())).collect()
}

/// A module that is wanted, and for what.
#[derive(Debug, Clone, Copy)]
pub struct ModuleRequest<'a> {
    pub name: &'a str,
    /// The kernel's release, for people.
    pub release: &'a str,
    pub tree: &'a BuildTree,
}

/// A module that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnModule {
    /// The .ko to load.
    pub stripped: Utf8PathBuf,
    /// The same with debug information.
    pub debug: Utf8PathBuf,
}

/// The module's files; built if they are not in the cache yet.
pub fn build_module(
    cache: &Cache,
    guests: &Dir<'_>,
    request: ModuleRequest<'_>,
    progress: Progress<'_>,
) -> Result<OwnModule, GuestError> {
    let ModuleRequest { name, release, tree } = request;
    let sources = sources(guests, name)?;
    let compiler = tree.compiler().tool()?;
    let compiler = compiler.stdout(compiler.command()?.arg("--version"))?;
    let mut described = format!("{}\n{SETTINGS:?} {FLAGS}\n{}\n", sha256_hex(&compiler), tree.identity());
    for (file, content) in &sources {
        described += &format!("{} {file}\n", sha256_hex(content));
    }
    let key = format!("{name}-{}", &sha256_hex(described.as_bytes())[..16]);
    let product = format!("{name}.ko");
    let entry = cache.entry(Kind::Module, &key, progress, |work| {
        progress(&format!("building the kernel module {name} for {release}"));
        make(request, &sources, work)?;
        keep_only(work, &[&product, DEBUG])?;
        Ok::<_, GuestError>(())
    })?;
    Ok(OwnModule { stripped: entry.join(&product), debug: entry.join(DEBUG).join(&product) })
}

/// File name and content, in the order of the names.
fn sources<'g>(guests: &Dir<'g>, name: &str) -> Result<Vec<(&'g str, &'g [u8])>, GuestError> {
    let folder = format!("{FOLDER}/{name}");
    let missing = || GuestError::NoSource { path: format!("guests/{folder}") };
    let files = guests.get_dir(&folder).ok_or_else(missing)?.files();
    let mut sources: Vec<_> =
        files.filter_map(|file| Some((file.path().file_name()?.to_str()?, file.contents()))).collect();
    sources.sort();
    if sources.is_empty() { Err(missing()) } else { Ok(sources) }
}

/// Puts NAME.ko and debug/NAME.ko into `work`.
fn make(request: ModuleRequest<'_>, sources: &[(&str, &[u8])], work: &Utf8Path) -> Result<(), GuestError> {
    let ModuleRequest { name, release, tree } = request;
    let failed = |source| GuestError::Io { path: work.to_owned(), source };
    let directory = work.join("source");
    fs::create_dir(&directory).map_err(failed)?;
    for (file, content) in sources {
        fs::write(directory.join(file), content).map_err(failed)?;
    }
    let complaints = Complaints::new().map_err(failed)?;
    let mut command = MAKE.command()?;
    // The user's environment has words for make, for gcc and for Debian's part of the Makefiles.
    command.env_clear().env("LC_ALL", "C");
    for variable in ["PATH", "TMPDIR"] {
        command.envs(std::env::var_os(variable).map(|value| (variable, value)));
    }
    command.arg("--silent").args(tree.lay_out(work)?).arg(format!("M={directory}")).args(SETTINGS);
    // Neither the tree's place nor the module's shows in what is made. Of two maps that fit gcc takes the later. Since
    // 6.13 the module is compiled in its own directory, and before in that of the tree.
    let of_tree = |place: &Utf8PathBuf| format!(" -ffile-prefix-map={place}=. -ffile-prefix-map={place}/=");
    let mut maps: String = tree.places(work).iter().map(of_tree).collect();
    maps += &format!(" -ffile-prefix-map={directory}={}", in_repository(name));
    command.arg(format!("KCFLAGS={FLAGS}{maps}"));
    // Debian's headers name the compiler of their kernel by its version.
    command.arg(format!("CC={}", tree.compiler().tool()?));
    command.arg("modules").stdout(Stdio::null()).stderr(complaints.stdio().map_err(failed)?);
    let status = MAKE.status_within(&mut command, BUILD_LIMIT)?;
    let product = format!("{name}.ko");
    if status.success() && directory.join(&product).is_file() {
        let debug = work.join(DEBUG);
        fs::create_dir(&debug).map_err(failed)?;
        fs::rename(directory.join(&product), debug.join(&product)).map_err(failed)?;
        let (from, to) = (debug.join(&product), work.join(&product));
        CROSS_STRIP.stdout(CROSS_STRIP.command()?.args([
            "--strip-debug",
            from.as_str(),
            "-o",
            to.as_str(),
        ]))?;
        return Ok(());
    }
    let said = complaints.read(COMPLAINTS_BYTES).map_err(failed)?;
    if tells_of_a_full_disk(&said) {
        return Err(failed(std::io::ErrorKind::StorageFull.into()));
    }
    let said = said.replace(directory.as_str(), &in_repository(name)).replace(&format!("{work}/"), "");
    let words = match first_words(&said) {
        words if words.is_empty() => format!("make made no {product} ({status})"),
        words => words,
    };
    Err(GuestError::ModuleBuild { module: name.to_owned(), release: release.to_owned(), words })
}

fn in_repository(name: &str) -> String {
    format!("guests/{FOLDER}/{name}")
}

/// The first errors of gcc or modpost; of complaints of another kind the first lines. On one line.
fn first_words(complaints: &str) -> String {
    let lines = || complaints.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut errors: Vec<_> = lines()
        .filter(|line| line.contains("error: ") || line.contains("ERROR: "))
        .take(MOST_LINES)
        .collect();
    if errors.is_empty() {
        errors = lines().take(MOST_LINES).collect();
    }
    let mut words = String::new();
    match push_escaped(&mut words, errors.join("; ").as_bytes(), MOST_REASON_BYTES) {
        Fit::Whole => words,
        Fit::Cut => words + "…",
    }
}
