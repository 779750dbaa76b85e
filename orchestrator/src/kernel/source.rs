//! Where in the source the frames of a kernel's traces stand, from files with debug information.
//!
//! A kernel may run anywhere: with KASLR the addresses that it prints are not those of its vmlinux, and a module's are
//! another's in each life. So places are asked for by function and offset, which hold everywhere. The size that the
//! kernel prints of a function shows whether the file is that of the same build.
//!
//! No file is opened before a frame asks for it, and each only once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};

use super::debug_file::{DebugFile, DebugFileError};
use crate::error::chain;
use crate::escape::escape;

/// Directories of modules are nested so deep at most.
const MOST_DEPTH: usize = 16;

/// A place in the source: of an instruction, or of the call by which it was inlined. All text is safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub function: String,
    /// Relative to the kernel's tree, where that can be told.
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{} at {file}:{line}", self.function),
            (Some(file), None) => write!(f, "{} in {file}", self.function),
            _ => f.write_str(&self.function),
        }
    }
}

/// What an offset in a trace points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// The instruction itself.
    At,
    /// The instruction behind, as a return address does.
    Behind,
}

/// An instruction as a trace names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub function: String,
    pub offset: u64,
    /// Of the function.
    pub size: u64,
    /// Its name as the kernel prints it, which has no `-`.
    pub module: Option<String>,
    pub pointer: Pointer,
}

/// Where a kernel's files with debug information are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebugFiles {
    pub vmlinux: Option<Utf8PathBuf>,
    /// A directory of .ko files, at any depth.
    pub modules: Option<Utf8PathBuf>,
}

/// The source of a kernel and its modules.
#[derive(Default)]
pub struct Sources {
    vmlinux: Source,
    /// By name, as the kernel prints it.
    modules: HashMap<String, Source>,
    /// Not looked into yet.
    directory: Option<Utf8PathBuf>,
    /// What went wrong and was not taken yet.
    troubles: Vec<String>,
}

#[derive(Default)]
struct Source {
    path: Option<Utf8PathBuf>,
    /// Whether it was tried to open it.
    tried: bool,
    file: Option<DebugFile>,
    in_trouble: bool,
}

impl Sources {
    pub fn new(files: DebugFiles) -> Self {
        let vmlinux = files.vmlinux.as_deref().map(Source::at).unwrap_or_default();
        Self { vmlinux, directory: files.modules, ..Self::default() }
    }

    /// Opens vmlinux right away, for one who names it and wants to know what is wrong with it.
    pub fn open_vmlinux(&mut self) -> Result<(), DebugFileError> {
        self.vmlinux.opened(DebugFile::vmlinux).map(drop)
    }

    /// Adds a module that lies elsewhere.
    pub fn add_module(&mut self, name: &str, path: &Utf8Path) {
        self.modules.entry(printed_name(name)).or_insert_with(|| Source::at(path));
    }

    /// The places of an instruction: first where it stands, then where what holds it was inlined. Empty if the files do
    /// not tell.
    pub fn places(&mut self, spot: &Spot) -> Vec<Place> {
        self.ask(spot.module.as_deref(), |file| file.places(spot)).unwrap_or_default()
    }

    /// The function that holds an address of a kernel that runs where it was linked, as guests with `nokaslr` do.
    pub fn function_at(&mut self, address: u64) -> Option<String> {
        let name = |file: &DebugFile| Ok(file.function_at(address).map(|name| escape(name.as_bytes())));
        self.ask(None, name).flatten()
    }

    /// The places of such an address.
    pub fn places_at(&mut self, address: u64) -> Vec<Place> {
        self.ask(None, |file| file.places_at(address)).unwrap_or_default()
    }

    /// Where a function of the kernel begins that runs where it was linked.
    pub fn address_of(&mut self, function: &str) -> Option<u64> {
        self.ask(None, |file| Ok(file.address_of(function))).flatten()
    }

    /// The vmlinux, if there is one.
    pub fn vmlinux(&self) -> Option<&Utf8Path> {
        self.vmlinux.path.as_deref()
    }

    /// The vmlinux, and those of the modules that are known; for who reads them by himself.
    pub fn files<'a>(&mut self, modules: impl Iterator<Item = &'a str>) -> Vec<Utf8PathBuf> {
        self.find_modules();
        let modules = modules.filter_map(|name| self.modules.get(&printed_name(name)));
        std::iter::once(&self.vmlinux).chain(modules).filter_map(|source| source.path.clone()).collect()
    }

    /// A module's file, and where its `.text` is in a guest that has the function at this address.
    pub fn module_at(&mut self, name: &str, function: &str, start: u64) -> Option<(Utf8PathBuf, u64)> {
        let within = self.ask(Some(name), |file| file.offset_in_text(function))??;
        let path = self.modules.get(&printed_name(name))?.path.clone()?;
        Some((path, start.checked_sub(within)?))
    }

    /// What has gone wrong since this was asked last; of each file no more than the first.
    pub fn take_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }

    /// Looks into the directory of modules, the first time.
    fn find_modules(&mut self) {
        if let Some(directory) = self.directory.take() {
            find_modules(&directory, &mut self.modules);
        }
    }

    fn ask<T>(
        &mut self,
        module: Option<&str>,
        question: impl FnOnce(&DebugFile) -> Result<T, DebugFileError>,
    ) -> Option<T> {
        let source = match module {
            None => &mut self.vmlinux,
            Some(name) => {
                let name = printed_name(name);
                if !self.modules.contains_key(&name) {
                    self.find_modules();
                }
                self.modules.get_mut(&name)?
            }
        };
        let open = if module.is_none() { DebugFile::vmlinux } else { DebugFile::module };
        let error = match source.opened(open).and_then(|file| file.map(question).transpose()) {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        if !std::mem::replace(&mut source.in_trouble, true) {
            self.troubles.push(chain(&error).join(": "));
        }
        None
    }
}

impl Source {
    fn at(path: &Utf8Path) -> Self {
        Self { path: Some(path.to_owned()), ..Self::default() }
    }

    /// The file, if there is one that can be opened; why it cannot is told the first time.
    fn opened(
        &mut self,
        open: impl FnOnce(&Utf8Path) -> Result<DebugFile, DebugFileError>,
    ) -> Result<Option<&DebugFile>, DebugFileError> {
        if let Some(path) = self.path.as_deref().filter(|_| !self.tried) {
            self.tried = true;
            self.file = Some(open(path)?);
        }
        Ok(self.file.as_ref())
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vmlinux, modules, directory, troubles: _ } = self;
        let paths = modules.values().map(|source| &source.path);
        f.debug_struct("Sources")
            .field("vmlinux", &vmlinux.path)
            .field("modules", &paths.collect::<Vec<_>>())
            .field("directory", directory)
            .finish_non_exhaustive()
    }
}

/// The same for all guests of a kernel. To be asked on a thread that may wait: a distribution's vmlinux takes its time.
#[derive(Debug, Clone, Default)]
pub struct SharedSources(Arc<Mutex<Sources>>);

impl SharedSources {
    pub fn new(files: DebugFiles) -> Self {
        Self(Arc::new(Mutex::new(Sources::new(files))))
    }

    /// Whoever had them before may have panicked over a damaged file; what is kept then is whole nevertheless.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A module's name as the kernel prints it: its file may be called `dm-flakey.ko`.
fn printed_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Takes stock of the .ko files in a directory. What cannot be read is left out.
fn find_modules(directory: &Utf8Path, modules: &mut HashMap<String, Source>) {
    let mut left = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = left.pop() {
        let Ok(entries) = directory.read_dir_utf8() else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MOST_DEPTH => left.push((path.to_owned(), depth + 1)),
                Ok(kind) if kind.is_file() && path.extension() == Some("ko") => {
                    let name = printed_name(path.file_stem().unwrap_or_default());
                    modules.entry(name).or_insert_with(|| Source::at(path));
                }
                _ => {}
            }
        }
    }
}

/// The file's path in the kernel's tree, if that can be told: builds in another directory print `../mm/gup.c` or all
/// of `/home/x/linux/mm/gup.c`.
pub(crate) fn path_in_tree(path: &str) -> Option<&str> {
    const TOP: [&str; 20] = [
        "arch", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc", "kernel",
        "lib", "mm", "net", "rust", "samples", "security", "sound", "tools", "virt",
    ];
    if !path.starts_with(['/', '.']) {
        return Some(path);
    }
    let mut rest = path;
    while let Some((component, behind)) = rest.split_once('/') {
        if TOP.contains(&component) {
            return Some(rest);
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_modules_that_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let modules = Utf8Path::from_path(directory.path()).unwrap();
        std::fs::create_dir(modules.join("md")).unwrap();
        for name in ["md/dm-flakey.ko", "ext4.ko"] {
            std::fs::write(modules.join(name), "").unwrap();
        }
        let mut sources =
            Sources::new(DebugFiles { vmlinux: Some("/vmlinux".into()), modules: Some(modules.to_owned()) });
        sources.add_module("uvsim", Utf8Path::new("/own/uvsim.ko"));
        let files = sources.files(["dm-flakey", "uvsim", "gone"].into_iter());
        assert_eq!(files, ["/vmlinux", modules.join("md/dm-flakey.ko").as_str(), "/own/uvsim.ko"]);
    }

    #[test]
    fn paths_are_relative_to_the_tree() {
        for (printed, path) in [
            ("mm/gup.c", Some("mm/gup.c")),
            ("../mm/gup.c", Some("mm/gup.c")),
            ("./include/linux/mm.h", Some("include/linux/mm.h")),
            ("/home/x/linux/arch/s390/mm/fault.c", Some("arch/s390/mm/fault.c")),
            ("/build/linux-6.1.176/debian/build/s390x_none/../../../fs/splice.c", Some("fs/splice.c")),
            ("/usr/src/linux/lib/list_debug.c", Some("lib/list_debug.c")),
            ("guests/modules/uvsim/sink.c", Some("guests/modules/uvsim/sink.c")),
            ("/root/uvsim/uvsim.c", None),
        ] {
            assert_eq!(path_in_tree(printed), path);
        }
    }
}
