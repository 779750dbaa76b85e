//! The image `lite`: one initramfs for each kernel, the same to the byte whenever the same goes in.
//!
//! It is not compressed: under TCG the guest would pay for unpacking. For a whole life, boot to power-off, of
//! Debian's 6.1 with 9 MB of image, QEMU 7.2 used 4.6 s of CPU time without gzip and 4.8 s with (median of 5
//! interleaved pairs).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Read, Write};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::GuestError;
use super::archive::Archive;
use super::compile::Programs;
use super::manifest::Manifest;
use super::module_index::{IndexTexts, ModuleIndex, module_file};
use crate::cache::{Cache, Kind, Progress};
use crate::kernel::{Kernel, sha256_hex};

const ARCHIVE: &str = "initramfs.cpio";
const RECORD: &str = "farm.json";
/// The file that every stress program, and every one that runs beside them, is a link to.
const WORKLOAD: &str = "farm/workload";
/// To be raised whenever this file makes another image from the same parts.
const FORMAT: u32 = 2;

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiteImage {
    pub path: Utf8PathBuf,
    pub sha256: String,
    /// The release of the kernel whose modules it holds.
    pub kernel: String,
    /// For each module that a job may ask for, the files under /farm/modules to load, in order. An empty list
    /// means that it is built in; a module that the kernel lacks is not here.
    pub modules: BTreeMap<String, Vec<String>>,
}

impl LiteImage {
    /// All modules that a job may have loaded, with what they need: the names of their files without `.ko`.
    pub fn module_names(&self) -> impl Iterator<Item = &str> {
        self.modules.values().flatten().filter_map(|file| Utf8Path::new(file).file_stem())
    }

    /// The files to load for a module, in order.
    pub(super) fn modules_for(&self, module: &str) -> Result<Vec<String>, GuestError> {
        let order = self.modules.get(module).cloned();
        order.ok_or_else(|| GuestError::NoModule { kernel: self.kernel.clone(), module: module.to_owned() })
    }
}

/// What goes into an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageParts<'a> {
    pub kernel: &'a Kernel,
    pub programs: &'a Programs,
    pub busybox: &'a Utf8Path,
    pub manifest: &'a Manifest,
    /// Modules of farm's own, by name: loaded when a job asks, as those of the manifest are.
    pub own_modules: &'a BTreeMap<String, Utf8PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    sha256: String,
    kernel: String,
    modules: BTreeMap<String, Vec<String>>,
}

/// The modules of an image: what to load when, and where each file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModulePlan {
    boot: Vec<String>,
    on_demand: BTreeMap<String, Vec<String>>,
    /// File name in the image to path on the host.
    files: BTreeMap<String, Utf8PathBuf>,
}

/// The image for a kernel; made if it is not in the cache yet.
pub fn lite_image(
    cache: &Cache,
    parts: ImageParts<'_>,
    progress: Progress<'_>,
) -> Result<LiteImage, GuestError> {
    let mut modules = plan_modules(parts.kernel, parts.manifest)?;
    for (name, path) in parts.own_modules {
        let file = format!("{name}.ko");
        modules.on_demand.insert(name.clone(), vec![file.clone()]);
        modules.files.insert(file, path.clone());
    }
    let inputs = vec![
        ("init".to_owned(), read(&parts.programs.init)?),
        ("bin/busybox".to_owned(), read(parts.busybox)?),
        (WORKLOAD.to_owned(), read(&parts.programs.workload)?),
    ];
    let stress = parts.programs.stress.iter().map(|name| format!("farm/stress/{name}"));
    let interference = parts.programs.interference.iter().map(|name| format!("farm/interference/{name}"));
    let names: Vec<String> = stress.chain(interference).collect();
    let mut module_inputs = Vec::new();
    for (file, path) in &modules.files {
        module_inputs.push((format!("farm/modules/{file}"), path, read(path)?));
    }
    let mut described =
        format!("lite {FORMAT}\n{}\n{:?} {:?}\n", parts.kernel.key.release, modules.boot, modules.on_demand);
    described += &format!("{names:?}\n");
    let contents = inputs.iter().map(|(name, content)| (name, content));
    for (name, content) in contents.chain(module_inputs.iter().map(|(name, _, content)| (name, content))) {
        described += &format!("{} {name}\n", sha256_hex(content));
    }
    let key = format!("lite-{}", &sha256_hex(described.as_bytes())[..32]);
    let entry = cache.entry(Kind::Image, &key, progress, |work| {
        progress(&format!("making the image lite for {}", parts.kernel.key.release));
        let mut archive = Archive::default();
        archive.console();
        archive.file("farm/modules.boot", lines(&modules.boot).into_bytes());
        for (name, content) in inputs {
            archive.program(&name, content);
        }
        for name in names {
            archive.link(&name, &format!("/{WORKLOAD}"));
        }
        for (name, path, content) in module_inputs {
            archive.file(&name, unpacked(path, content)?);
        }
        write_entry(work, &archive, &parts.kernel.key.release, modules.on_demand.clone())
    })?;
    load(&entry)
}

fn write_entry(
    work: &Utf8Path,
    archive: &Archive,
    kernel: &str,
    modules: BTreeMap<String, Vec<String>>,
) -> Result<(), GuestError> {
    let failed = |source| GuestError::Io { path: work.to_owned(), source };
    let bytes = archive.to_bytes().map_err(failed)?;
    let mut file = BufWriter::new(fs::File::create(work.join(ARCHIVE)).map_err(failed)?);
    file.write_all(&bytes).and_then(|()| file.flush()).map_err(failed)?;
    let record = Record { sha256: sha256_hex(&bytes), kernel: kernel.to_owned(), modules };
    let path = work.join(RECORD);
    let text = serde_json::to_string_pretty(&record)
        .map_err(|source| GuestError::BadRecord { path: path.clone(), source })?;
    fs::write(&path, text).map_err(failed)
}

fn load(entry: &Utf8Path) -> Result<LiteImage, GuestError> {
    let path = entry.join(RECORD);
    let Record { sha256, kernel, modules } =
        serde_json::from_slice(&read(&path)?).map_err(|source| GuestError::BadRecord { path, source })?;
    Ok(LiteImage { path: entry.join(ARCHIVE), sha256, kernel, modules })
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// A kernel without a directory of modules is taken to have everything built in.
fn plan_modules(kernel: &Kernel, manifest: &Manifest) -> Result<ModulePlan, GuestError> {
    let mut plan = ModulePlan { boot: Vec::new(), on_demand: BTreeMap::new(), files: BTreeMap::new() };
    let Some(directory) = &kernel.modules else {
        plan.on_demand = manifest.modules.iter().map(|name| (name.clone(), Vec::new())).collect();
        return Ok(plan);
    };
    let index = read_index(directory)?;
    let mut order = |name: &String| {
        let paths = index.load_order(name)?;
        let files: Vec<String> = paths.iter().map(|path| module_file(path)).collect();
        plan.files.extend(files.iter().cloned().zip(paths.iter().map(|path| directory.join(path))));
        Some(files)
    };
    for name in &manifest.boot_modules {
        let files = order(name).ok_or_else(|| GuestError::NoModule {
            kernel: kernel.key.release.clone(),
            module: name.clone(),
        })?;
        for file in files {
            if !plan.boot.contains(&file) {
                plan.boot.push(file);
            }
        }
    }
    for name in &manifest.modules {
        if let Some(files) = order(name) {
            plan.on_demand.insert(name.clone(), files);
        }
    }
    Ok(plan)
}

fn read_index(directory: &Utf8Path) -> Result<ModuleIndex, GuestError> {
    let text = |file: &str| {
        let path = directory.join(file);
        match fs::read_to_string(&path) {
            // A kernel with nothing to say there has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != "modules.dep" => {
                Ok(String::new())
            }
            text => text.map_err(|source| GuestError::Io { path, source }),
        }
    };
    let [dep, builtin, softdep, alias] =
        ["modules.dep", "modules.builtin", "modules.softdep", "modules.alias"].map(text);
    let texts = (dep?, builtin?, softdep?, alias?);
    Ok(ModuleIndex::parse(IndexTexts {
        dep: &texts.0,
        builtin: &texts.1,
        softdep: &texts.2,
        alias: &texts.3,
    }))
}

/// A module as the kernel takes it from init, which cannot decompress.
fn unpacked(path: &Utf8Path, content: Vec<u8>) -> Result<Vec<u8>, GuestError> {
    match path.extension() {
        Some("ko") => Ok(content),
        Some("xz") => {
            let mut plain = Vec::new();
            liblzma::read::XzDecoder::new(&content[..])
                .read_to_end(&mut plain)
                .map_err(|source| GuestError::Io { path: path.to_owned(), source })?;
            Ok(plain)
        }
        _ => Err(GuestError::ModuleCompression { path: path.to_owned() }),
    }
}

fn read(path: &Utf8Path) -> Result<Vec<u8>, GuestError> {
    fs::read(path).map_err(|source| GuestError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
