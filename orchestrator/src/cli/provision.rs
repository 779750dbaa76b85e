//! Kernels, images and QEMU for a command: found, fetched or built, with progress on stderr.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Runtime;

use super::args::{AccelArg, GuestArgs, MachineArgs};
use super::environment::{Environment, absolute};
use super::output;
use super::scenarios::library;
use crate::assets;
use crate::cache::{Cache, CacheError};
use crate::error::{ExitCode, Failure, chain, is_full_disk};
use crate::guest::{
    GuestError, ImageParts, Manifest, ModuleRequest, OwnModule, Programs, build_module, compile, lite_image,
    module_names,
};
use crate::kernel::{
    BuildRequest, BuildTree, Catalog, ConfigRecipe, DebugFiles, Fetcher, Fragment, Kernel, KernelError,
    MirrorChoice, Origin, OwnKernel, Refresh, SharedSources, Tree, TreeId, build, built_again, find_qemus,
    own_catalog_file,
};
use crate::machine::{
    Access, Candidate, Feature, Host, Launcher, Qemu, QemuError, discover, find, inspect, kernel_line,
};
use crate::plan::{Accel, Cell, Counting, Image, KernelKey, Protection, QemuKey, Request, Schedule};
use crate::runner::{Guest, NoGuest};
use crate::scenario::Fix;
use crate::store::KernelRecord;

/// What runs where nothing is asked for.
const DEFAULT_KERNEL: &str = "debian-12";

/// What of a request a command's words decide by themselves.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) protection: Option<Protection>,
    pub(super) fixes: Option<Vec<Fix>>,
    pub(super) schedule: Schedule,
    pub(super) seed: Option<u64>,
    pub(super) counting: Counting,
}

/// What a command's guests are to run on, and how.
pub(super) struct Grounds {
    pub(super) host: Host,
    pub(super) launcher: Launcher,
    pub(super) qemu: Qemu,
    pub(super) provision: Provision,
    pub(super) request: Request,
}

impl Grounds {
    pub(super) fn new(
        environment: &Environment,
        runtime: &Runtime,
        options: &GuestArgs,
        asked: Asked,
    ) -> Result<Self, Failure> {
        Self::with_kernels(environment, runtime, &options.machine, asked, || {
            kernels(&fetcher(&environment.cache, Refresh::No), &kernel_catalog()?, options)
        })
    }

    /// The same for other kernels, which are asked for when it is known that there is a QEMU for them.
    pub(super) fn with_kernels(
        environment: &Environment,
        runtime: &Runtime,
        options: &MachineArgs,
        asked: Asked,
        kernels: impl FnOnce() -> Result<Vec<Kernel>, Failure>,
    ) -> Result<Self, Failure> {
        Self::with(environment, runtime, options, asked, || Provision::new(environment, kernels()?))
    }

    /// The same for a kernel whose image is there, too: nothing is compiled or fetched.
    pub(super) fn with_brought(
        environment: &Environment,
        runtime: &Runtime,
        options: &MachineArgs,
        kernel: Kernel,
    ) -> Result<Self, Failure> {
        Self::with(environment, runtime, options, Asked::default(), || Provision::brought(kernel))
    }

    fn with(
        environment: &Environment,
        runtime: &Runtime,
        options: &MachineArgs,
        asked: Asked,
        provision: impl FnOnce() -> Result<Provision, Failure>,
    ) -> Result<Self, Failure> {
        let host = Host::of_this_machine().map_err(|error| Failure::of(ExitCode::Infra, &error))?;
        let launcher = Launcher::this_program();
        let qemu = runtime.block_on(find_qemu(environment, options, &launcher))?;
        let provision = provision()?;
        let accel = accel(options, &host, &qemu);
        let Asked { protection, fixes, schedule, seed, counting } = asked;
        let request = Request {
            kernels: provision.keys(),
            image: Image::Lite,
            protection,
            fixes,
            schedule,
            seed,
            counting,
            accel,
            cpu_model: cpu_model(options, accel),
            qemu: QemuKey { version: qemu.full_version() },
        };
        Ok(Self { host, launcher, qemu, provision, request })
    }
}

/// KVM where the host has it for s390x guests, unless TCG is asked for.
pub(super) fn accel(options: &MachineArgs, host: &Host, qemu: &Qemu) -> Accel {
    match options.accel {
        Some(AccelArg::Tcg) => Accel::Tcg,
        Some(AccelArg::Kvm) => Accel::Kvm,
        None => {
            let kvm =
                host.architecture == "s390x" && host.kvm == Access::Usable && qemu.kvm == Feature::Present;
            if kvm { Accel::Kvm } else { Accel::Tcg }
        }
    }
}

/// Beside what each image has: the file systems of the cell's disks, and what its scenario names.
fn modules_of_image(cell: &Cell) -> Vec<String> {
    let file_systems = cell.shape.disks.iter().filter_map(|disk| disk.format.file_system());
    let asked: BTreeSet<String> = file_systems.map(str::to_owned).chain(cell.modules()).collect();
    asked.into_iter().collect()
}

/// `max` under TCG: all that the translator can do; under KVM the host's own CPU.
pub(super) fn cpu_model(options: &MachineArgs, accel: Accel) -> String {
    let default = match accel {
        Accel::Tcg => "max",
        Accel::Kvm => "host",
    };
    options.cpu.clone().unwrap_or_else(|| default.to_owned())
}

/// Guests that have been made, or could not be, by kernel and the modules that their image was asked to have.
pub(super) type Guests = HashMap<(KernelKey, Vec<String>), Result<Arc<Guest>, NoGuest>>;

/// Modules of farm's own, built for one kernel, by name.
type OwnModules = BTreeMap<String, OwnModule>;

/// The kernel's files with debug information, and those of modules: the same for all its guests.
fn sources_of(kernel: &Kernel, own_modules: &OwnModules, made: &Guests) -> SharedSources {
    let of_kernel = made.iter().filter(|((key, _), _)| *key == kernel.key);
    let before =
        of_kernel.filter_map(|(_, guest)| guest.as_ref().ok()).map(|guest| guest.sources.clone()).next();
    let sources = before.unwrap_or_else(|| {
        SharedSources::new(DebugFiles {
            vmlinux: kernel.vmlinux.clone(),
            modules: kernel.debug_modules.clone(),
        })
    });
    for (name, own) in own_modules {
        sources.lock().add_module(name, &own.debug);
    }
    sources
}

impl From<NoGuest> for Failure {
    fn from(lacking: NoGuest) -> Self {
        match lacking {
            NoGuest::Skipped(reason) => Failure::new(ExitCode::NothingRan, reason),
            NoGuest::NotBuilt(reason) => Failure::new(ExitCode::BuildFailed, reason),
            NoGuest::Infra(trouble) => Failure::new(ExitCode::Infra, trouble),
        }
    }
}

/// The kernels of a command, ready to boot, and what all their images hold.
pub(super) struct Provision {
    catalog: Catalog,
    kernels: Vec<Kernel>,
    /// None: images are brought.
    makings: Option<Makings>,
}

/// What images are made of, beside a kernel's modules.
struct Makings {
    programs: Programs,
    manifest: Manifest,
    busybox: Utf8PathBuf,
}

impl Provision {
    fn new(environment: &Environment, kernels: Vec<Kernel>) -> Result<Self, Failure> {
        let catalog = kernel_catalog()?;
        let fetcher = fetcher(&environment.cache, Refresh::No);
        let busybox = fetcher.busybox(&catalog.busybox)?;
        let library = library()?;
        let programs = compile(&environment.cache, &assets::GUESTS, &library.catalog, &output::note)?;
        let manifest = Manifest::parse(assets::LITE_YAML)?;
        Ok(Self { catalog, kernels, makings: Some(Makings { programs, manifest, busybox }) })
    }

    fn brought(kernel: Kernel) -> Result<Self, Failure> {
        Ok(Self { catalog: kernel_catalog()?, kernels: vec![kernel], makings: None })
    }

    fn keys(&self) -> Vec<KernelKey> {
        self.kernels.iter().map(|kernel| kernel.key.clone()).collect()
    }

    pub(super) fn records(&self) -> Vec<KernelRecord> {
        let record = |kernel: &Kernel| KernelRecord {
            key: kernel.key.clone(),
            origin: kernel.origin.clone(),
            boot: kernel.boot.clone(),
            modules: kernel.modules.clone(),
            vmlinux: kernel.vmlinux.clone(),
            headers: kernel.headers.clone(),
        };
        self.kernels.iter().map(record).collect()
    }

    /// The guest for a cell; made once for each kernel and what modules its scenario asks for.
    pub(super) fn guest(
        &self,
        environment: &Environment,
        cell: &Cell,
        qemu: &Qemu,
        made: &mut Guests,
    ) -> Result<Result<Arc<Guest>, NoGuest>, Failure> {
        let kernel = self.kernel(&cell.kernel)?;
        kernel.check_command_line(&kernel_line(&cell.shape.kernel_args))?;
        let modules = modules_of_image(cell);
        let key = (cell.kernel.clone(), modules.clone());
        if let Some(guest) = made.get(&key) {
            return Ok(guest.clone());
        }
        let Some(makings) = &self.makings else {
            return Err(Failure::new(ExitCode::Fault, "there is nothing here to make an image of"));
        };
        let guest = match self.own_modules(environment, kernel, &modules)? {
            Ok(own) => {
                let manifest = makings.manifest.with_requested(&modules);
                let sources = sources_of(kernel, &own, made);
                Ok(makings.guest(environment, kernel, &manifest, &own, sources, qemu)?)
            }
            Err(no_guest) => Err(no_guest),
        };
        made.insert(key, guest.clone());
        Ok(guest)
    }

    /// The modules of farm's own among these names, built against the kernel where they have not been before.
    fn own_modules(
        &self,
        environment: &Environment,
        kernel: &Kernel,
        names: &[String],
    ) -> Result<Result<OwnModules, NoGuest>, Failure> {
        let mut built = OwnModules::new();
        // The others are the kernel's own, which come with it.
        let own = module_names(&assets::GUESTS);
        let names: Vec<_> = names.iter().filter(|name| own.contains(name)).collect();
        if names.is_empty() {
            return Ok(Ok(built));
        }
        let tree = match self.catalog.kernel(&kernel.key.name) {
            Some(named) if matches!(kernel.origin, Origin::Package { .. }) => {
                match fetcher(&environment.cache, Refresh::No).headers(named, kernel) {
                    Ok(tree) => tree,
                    Err(error) => {
                        let trouble = chain(&error).join(": ");
                        return Ok(Err(NoGuest::Infra(format!(
                            "no headers of {name}: {trouble}; where the archive has a newer kernel by now, \
                             `farm kernel fetch {name}` fetches it and its headers",
                            name = named.name
                        ))));
                    }
                }
            }
            _ => match BuildTree::of_own(kernel) {
                Ok(tree) => tree,
                Err(error) => return Ok(Err(NoGuest::Skipped(chain(&error).join(": ")))),
            },
        };
        for name in names {
            let request = ModuleRequest { name, release: &kernel.key.release, tree: &tree };
            match build_module(&environment.cache, &assets::GUESTS, request, &output::note) {
                Ok(own) => built.insert(name.clone(), own),
                Err(error @ GuestError::ModuleBuild { .. }) => {
                    return Ok(Err(NoGuest::NotBuilt(error.to_string())));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Ok(built))
    }

    fn kernel(&self, key: &KernelKey) -> Result<&Kernel, Failure> {
        let found = self.kernels.iter().find(|kernel| kernel.key == *key);
        found.ok_or_else(|| Failure::new(ExitCode::Fault, format!("no kernel {} was provided", key.name)))
    }
}

impl Makings {
    fn guest(
        &self,
        environment: &Environment,
        kernel: &Kernel,
        manifest: &Manifest,
        own_modules: &OwnModules,
        sources: SharedSources,
        qemu: &Qemu,
    ) -> Result<Arc<Guest>, Failure> {
        let Self { programs, busybox, .. } = self;
        let own_modules =
            own_modules.iter().map(|(name, own)| (name.clone(), own.stripped.clone())).collect();
        let parts = ImageParts { kernel, programs, busybox, manifest, own_modules: &own_modules };
        let image = lite_image(&environment.cache, parts, &output::note)?;
        let (kernel, qemu, cache) = (kernel.clone(), qemu.clone(), environment.cache.clone());
        Ok(Arc::new(Guest { kernel, image, qemu, sources, cache, brought: None }))
    }
}

/// What farm knows by name, and what the user does.
pub(super) fn kernel_catalog() -> Result<Catalog, Failure> {
    let catalog = Catalog::embedded().map_err(|error| Failure::of(ExitCode::Fault, &error))?;
    match own_catalog_file(|name| std::env::var(name).ok()) {
        Some(file) => {
            catalog.with_own(&absolute(&file)?).map_err(|error| Failure::of(ExitCode::Usage, &error))
        }
        None => Ok(catalog),
    }
}

pub(super) fn fetcher(cache: &Cache, refresh: Refresh) -> Fetcher<'_> {
    Fetcher { cache, refresh, mirrors: MirrorChoice::OfHost, progress: &output::note }
}

/// What `--config` names.
pub(super) fn config(catalog: &Catalog, word: &str) -> Result<ConfigRecipe, Failure> {
    if let Some(config) = catalog.config(word) {
        return Ok(config.clone());
    }
    let path = Utf8Path::new(word);
    if !word.contains('/') && !path.is_file() {
        let known: Vec<_> = catalog.configs.iter().map(|config| config.name.as_str()).collect();
        let message = format!("there is no configuration '{}'", word.escape_debug());
        let hint = format!("known are {}; one of your own is given by its path", known.join(", "));
        return Err(Failure::new(ExitCode::Usage, message).hint(hint));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| Failure::of(ExitCode::Usage, &KernelError::Io { path: path.to_owned(), source }))?;
    Ok(ConfigRecipe::of_file("own", Fragment { name: word.to_owned(), text }))
}

/// What `--tree` names: a directory, or sources by name; with what it is called.
pub(super) fn sources(
    cache: &Cache,
    catalog: &Catalog,
    word: &Utf8Path,
) -> Result<(String, Tree, TreeId), Failure> {
    if let Some(named) = catalog.tree(word.as_str()).filter(|_| !word.is_dir()) {
        let (tree, id) = fetcher(cache, Refresh::No).sources(named)?;
        return Ok((named.name.clone(), tree, id));
    }
    if !word.is_dir() {
        let known: Vec<_> = catalog.trees.iter().map(|tree| tree.name.as_str()).collect();
        let message = format!("{word} is neither a directory nor sources with a name");
        let hint = format!("known by name are {}", known.join(", "));
        return Err(Failure::new(ExitCode::Usage, message).hint(hint));
    }
    let directory = absolute(word)?;
    let (tree, id) = Tree::of_directory(cache, &directory, &output::note)?;
    Ok((directory.file_name().unwrap_or("tree").to_owned(), tree, id))
}

/// The kernel of sources, built if it was not before.
pub(super) fn of_tree(
    cache: &Cache,
    catalog: &Catalog,
    word: &Utf8Path,
    config_word: &str,
) -> Result<Kernel, Failure> {
    let config = config(catalog, config_word)?;
    let (name, tree, id) = sources(cache, catalog, word)?;
    let name = format!("{name}-{}", config.name);
    let request = BuildRequest::new(&name, &config);
    Ok(build(cache, (&tree, &id), &request, &output::note)?)
}

/// A word with a `/` is a path, as is one that names a file and no kernel; anything else is a name.
fn kernels(fetcher: &Fetcher<'_>, catalog: &Catalog, options: &GuestArgs) -> Result<Vec<Kernel>, Failure> {
    let mut kernels = Vec::new();
    if let Some(directory) = &options.tree.tree {
        kernels.push(of_tree(fetcher.cache, catalog, directory, &options.tree.config)?);
    }
    let default = [DEFAULT_KERNEL.to_owned()];
    let words = match &options.kernels[..] {
        [] if kernels.is_empty() => &default[..],
        words => words,
    };
    let mut own = 0;
    for word in words {
        if let Some(named) = catalog.kernel(word) {
            kernels.push(fetcher.kernel(named)?);
        } else if word.contains('/') || Utf8Path::new(word).is_file() {
            own += 1;
            let modules = options.modules.as_deref().map(absolute).transpose()?;
            let vmlinux = options.vmlinux.as_deref().map(absolute).transpose()?;
            let boot = absolute(Utf8Path::new(word))?;
            let headers = options.headers.as_deref().map(absolute).transpose()?;
            let own = OwnKernel {
                boot: &boot,
                modules: modules.as_deref(),
                vmlinux: vmlinux.as_deref(),
                headers: headers.as_deref(),
            };
            // Whatever is wrong with them, these are the files that the user named.
            kernels.push(Kernel::from_path(own).map_err(|error| Failure::of(ExitCode::Usage, &error))?);
        } else {
            return Err(unknown_kernel(word, catalog));
        }
    }
    let parts = [&options.modules, &options.vmlinux, &options.headers];
    if own != 1 && parts.iter().any(|part| part.is_some()) {
        return Err(Failure::new(
            ExitCode::Usage,
            "--modules, --vmlinux and --headers go with exactly one kernel given by path",
        ));
    }
    Ok(kernels)
}

/// The very kernel that a run had.
pub(super) fn kernel_again(environment: &Environment, recorded: &KernelRecord) -> Result<Kernel, Failure> {
    let KernelRecord { key, origin, boot, modules, vmlinux, headers } = recorded;
    let cache = &environment.cache;
    let found = match origin {
        Origin::Own { .. } => {
            let own = OwnKernel {
                boot,
                modules: modules.as_deref(),
                vmlinux: vmlinux.as_deref(),
                headers: headers.as_deref(),
            };
            Some(Kernel::from_path(own).map_err(|error| Failure::of(ExitCode::Usage, &error))?)
        }
        Origin::Built { .. } => built_again(cache, key, origin)?,
        Origin::Package { .. } => match kernel_catalog()?.kernel(&key.name) {
            Some(named) => fetcher(cache, Refresh::No).cached_kernel(named)?,
            None => None,
        },
    };
    found.filter(|kernel| kernel.key.sha256 == key.sha256).ok_or_else(|| {
        let message = format!(
            "the kernel {} {} is not here any more, or another is in its place",
            key.name, key.version
        );
        let hint = match origin {
            Origin::Built { tree, config, .. } => {
                format!(
                    "it was built of the git tree {tree} with the configuration {config}: build that again"
                )
            }
            Origin::Package { package, version, .. } => format!("it was of the package {package} {version}"),
            Origin::Own { boot } => format!("it was {boot}, with the SHA-256 {}", key.sha256),
        };
        Failure::new(ExitCode::Usage, message).hint(hint)
    })
}

pub(super) fn unknown_kernel(word: &str, catalog: &Catalog) -> Failure {
    let names: Vec<_> = catalog.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    let known = names.join(", ");
    let nearest = names.iter().map(|name| (strsim::damerau_levenshtein(word, name), name)).min();
    let hint = match nearest {
        Some((distance, name)) if distance <= 3 => format!("did you mean '{name}'? Known are {known}"),
        _ => format!("known are {known}; a kernel of your own is given by its path, its sources by --tree"),
    };
    Failure::new(ExitCode::Usage, format!("there is no kernel '{}'", word.escape_debug())).hint(hint)
}

/// The QEMU asked for, or the newest of those that set-up fetched and those on PATH.
async fn find_qemu(
    environment: &Environment,
    options: &MachineArgs,
    launcher: &Launcher,
) -> Result<Qemu, Failure> {
    match &options.qemu {
        Some(path) => {
            let candidate = Candidate::at(absolute(path)?);
            Ok(inspect(&candidate, launcher).await?)
        }
        None => {
            let candidates = qemu_candidates(environment)?;
            Ok(find(&candidates, std::env::var_os("PATH").as_deref(), launcher).await?)
        }
    }
}

/// A QEMU of another version than the one that is used, the newest first; or why those that there are can't be used.
pub(super) async fn other_qemu(
    environment: &Environment,
    used: &Qemu,
    launcher: &Launcher,
) -> Result<Result<Qemu, Vec<QemuError>>, Failure> {
    let candidates = qemu_candidates(environment)?;
    let found = discover(&candidates, std::env::var_os("PATH").as_deref(), launcher).await;
    let other = found.usable.into_iter().find(|qemu| qemu.full_version() != used.full_version());
    Ok(other.ok_or(found.unusable))
}

pub(super) fn qemu_candidates(environment: &Environment) -> Result<Vec<Candidate>, Failure> {
    let fetched = find_qemus(&environment.cache)?;
    Ok(fetched.into_iter().map(|qemu| Candidate { binary: qemu.binary, data: Some(qemu.data) }).collect())
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let exit = match error {
            KernelError::UnknownName { .. }
            | KernelError::NotAKernel { .. }
            | KernelError::NoRelease { .. }
            | KernelError::NoModules { .. }
            | KernelError::OtherRelease { .. }
            | KernelError::NotVmlinux { .. }
            | KernelError::NotABuildTree { .. }
            | KernelError::OtherTree { .. }
            | KernelError::NoSources { .. }
            | KernelError::PatchRefused { .. }
            | KernelError::EmptySeries { .. }
            | KernelError::NoPatch { .. }
            | KernelError::NoBase { .. }
            | KernelError::NothingToTry { .. }
            | KernelError::NoRepository { .. }
            | KernelError::NoCommit { .. }
            | KernelError::NoProgram { .. }
            | KernelError::SameCommit { .. }
            | KernelError::NotBefore { .. }
            | KernelError::BlankInPath { .. }
            | KernelError::BadLine(_)
            | KernelError::ConfigLost { .. }
            | KernelError::CommandLine { .. } => ExitCode::Usage,
            KernelError::Build { .. } => ExitCode::BuildFailed,
            _ => ExitCode::Infra,
        };
        let failure = Failure::of(exit, &error);
        match error {
            KernelError::NoProgram { .. } => failure.hint(
                "it is looked for in a checkout of the commit, which has what is committed only: name it by its whole path",
            ),
            error if is_full_disk(&error) => {
                failure.hint("free space, or name other places with --cache DIR and --state DIR")
            }
            _ => failure,
        }
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        let exit = match error {
            GuestError::Kernel(error) => return error.into(),
            GuestError::ModuleBuild { .. } => ExitCode::BuildFailed,
            GuestError::NoModule { .. } => ExitCode::Usage,
            GuestError::Manifest(_) | GuestError::ModuleNames { .. } | GuestError::NoSource { .. } => {
                ExitCode::Fault
            }
            _ => ExitCode::Infra,
        };
        Failure::of(exit, &error)
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Failure::of(ExitCode::Infra, &error)
    }
}

impl From<QemuError> for Failure {
    fn from(error: QemuError) -> Self {
        Failure::of(ExitCode::Infra, &error).hint("`farm doctor` says what else is missing")
    }
}
