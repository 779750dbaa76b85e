//! The good and the bad configuration of `farm bisect config`, as its words name them.

use std::fs;
use std::io::Read as _;

use camino::Utf8Path;

use super::args::BisectConfigArgs;
use crate::assets;
use crate::cli::environment::Environment;
use crate::cli::output;
use crate::cli::provision::kernel_catalog;
use crate::error::{ExitCode, Failure};
use crate::kernel::{
    Base, BuildRequest, Compiler, ConfigRecipe, Fragment, KernelError, Options, Tree, TreeId, configuration,
};

/// What `--from` says for the host's own kernel, and for farm's pieces of configurations.
const RUNNING: &str = "running";
const FRAGMENTS: &str = "fragments";

/// Both, as text: not settled yet.
pub(super) struct Ends {
    pub(super) good: String,
    pub(super) bad: String,
}

impl Ends {
    pub(super) fn of(
        environment: &Environment,
        tree: (&Tree, &TreeId),
        question: &BisectConfigArgs,
    ) -> Result<Self, Failure> {
        let whole = |word: &str| whole(environment, tree, word);
        match question.from.as_deref() {
            None => {
                let good = question.good.as_deref().ok_or_else(|| {
                    Failure::new(ExitCode::Usage, "there is no good configuration")
                        .hint("name one with --good; or with --from what the bad one begins with")
                })?;
                Ok(Self { good: whole(good)?, bad: whole(&question.bad)? })
            }
            Some(FRAGMENTS) => {
                let of = |words: &str| of_fragments(environment, tree, words);
                let good = question.good.as_deref().unwrap_or("lean");
                Ok(Self { good: of(good)?, bad: of(&question.bad)? })
            }
            Some(from) => {
                let base = if from == RUNNING { running()? } else { whole(from)? };
                let good = match &question.good {
                    None => base.clone(),
                    Some(fragment) => laid_over(&base, fragment)?,
                };
                Ok(Self { good, bad: laid_over(&base, &question.bad)? })
            }
        }
    }
}

/// A configuration by name, or a whole .config.
fn whole(environment: &Environment, tree: (&Tree, &TreeId), word: &str) -> Result<String, Failure> {
    let catalog = kernel_catalog()?;
    match catalog.config(word) {
        Some(config) if config.compiler != Compiler::Gcc => {
            let message =
                format!("{word} is compiled with {}, and a bisect compiles with gcc", config.compiler);
            Err(Failure::new(ExitCode::Usage, message).hint("take one that gcc compiles"))
        }
        Some(config) => text_of(environment, tree, config),
        None if word.contains('/') || Utf8Path::new(word).is_file() => read(word),
        None => {
            let known: Vec<_> = catalog.configs.iter().map(|config| config.name.as_str()).collect();
            let message = format!("there is neither a file nor a configuration '{}'", word.escape_debug());
            let hint = format!("configurations with names are {}", known.join(", "));
            Err(Failure::new(ExitCode::Usage, message).hint(hint))
        }
    }
}

/// farm's own fragments, separated by commas, over nothing.
fn of_fragments(environment: &Environment, tree: (&Tree, &TreeId), words: &str) -> Result<String, Failure> {
    let fragment = |name: &str| {
        let text = assets::fragment(name);
        text.map(|text| Fragment { name: name.to_owned(), text }).ok_or_else(|| {
            let message = format!("farm has no fragment '{}'", name.escape_debug());
            let hint = "`farm kernel configs` lists them; with --from FILE, --good and --bad are files";
            Failure::new(ExitCode::Usage, message).hint(hint)
        })
    };
    let fragments = words.split(',').map(fragment).collect::<Result<_, _>>()?;
    let (name, compiler) = ("fragments".to_owned(), Compiler::default());
    let config = ConfigRecipe { name, base: Base::AllNoConfig, fragments, compiler };
    text_of(environment, tree, &config)
}

fn text_of(
    environment: &Environment,
    tree: (&Tree, &TreeId),
    config: &ConfigRecipe,
) -> Result<String, Failure> {
    let request = BuildRequest::new(&config.name, config);
    Ok(configuration(&environment.cache, tree, &request, &output::note)?)
}

fn laid_over(base: &str, fragment: &str) -> Result<String, Failure> {
    let base = Options::parse("the base", base).map_err(KernelError::from)?;
    let fragment = Options::parse(fragment, &read(fragment)?).map_err(KernelError::from)?;
    Ok(base.overlaid(&fragment))
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|source| Failure::of(ExitCode::Usage, &KernelError::Io { path: path.into(), source }))
}

/// That of the kernel that this host runs.
fn running() -> Result<String, Failure> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    if let Ok(text) = fs::read_to_string(format!("/boot/config-{release}")) {
        return Ok(text);
    }
    const PACKED: &str = "/proc/config.gz";
    let mut text = String::new();
    fs::File::open(PACKED)
        .and_then(|file| flate2::read::GzDecoder::new(file).read_to_string(&mut text))
        .map_err(|source| {
            let error = KernelError::Io { path: PACKED.into(), source };
            let hint = format!("nor is there a /boot/config-{release}: give the file with --from FILE");
            Failure::of(ExitCode::Usage, &error).hint(hint)
        })?;
    Ok(text)
}
