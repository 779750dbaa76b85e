//! A tree's own `olddefconfig`, for many configurations: its Kconfig files are read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::super::KernelError;
use super::super::git::TreeId;
use super::super::tool::{HOST_GCC, MAKE, ToolError, command_of, last_words};
use super::super::tree::Tree;
use super::make::{DebugFlags, Make, write_if_other};
use super::{BUILD_LIMIT, Compiler, Kconfig, Options, kconfig_files, read};
use crate::assets;
use crate::cache::{Cache, Progress};

/// The directory of objects that is configured in, and never built.
const OBJECTS: &str = "kconfig";
/// make takes what ends so for a wish to configure, and asks for no .config before.
const PRINT_ENVIRONMENT: &str = "farmconfig";

/// A process that settles configurations of one tree (kernels/kconfig/olddefconfig.c).
#[derive(Debug)]
pub struct Configurator {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The .config that is settled, and what is said of it.
    config: Utf8PathBuf,
    complaints: Utf8PathBuf,
    kconfig: Kconfig,
}

impl Configurator {
    pub fn start(
        cache: &Cache,
        (tree, id): (&Tree, &TreeId),
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Self, KernelError> {
        let source = tree.check_out(id)?;
        let objects = tree.objects(OBJECTS)?;
        let make = Make {
            cache,
            source: &source,
            objects: &objects,
            name,
            compiler: Compiler::default(),
            limit: BUILD_LIMIT,
            debug: DebugFlags::None,
            progress,
        };
        // This makes scripts/kconfig.
        make.run(&["alldefconfig"])?;
        let program = compile(&objects)?;
        let (config, complaints) = (objects.join("farm-settled.config"), objects.join("farm-complaints"));
        let failed = |source| KernelError::Io { path: complaints.clone(), source };
        let mut command = command_of(&program)?;
        command
            .arg("Kconfig")
            .current_dir(&objects)
            .env_clear()
            .envs(environment(&make)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints).map_err(failed)?);
        let start = |source| ToolError::Start { tool: program.to_string(), source };
        let mut child = command.spawn().map_err(start)?;
        let kconfig = Kconfig::read(&kconfig_files(&source)?);
        let not_piped = || KernelError::NotSettled { name: name.to_owned(), said: String::new() };
        let stdin = child.stdin.take().ok_or_else(not_piped)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(not_piped)?);
        Ok(Self { child, stdin, stdout, config, complaints, kconfig })
    }

    /// What the tree's Kconfig files say of its options.
    pub fn kconfig(&self) -> &Kconfig {
        &self.kconfig
    }

    /// What `make olddefconfig` makes of a .config.
    pub fn settle(&mut self, text: &str) -> Result<Options, KernelError> {
        let failed = |source| KernelError::Io { path: self.config.clone(), source };
        fs::write(&self.config, text).map_err(failed)?;
        let mut answer = String::new();
        let asked = writeln!(self.stdin, "{}", self.config).and_then(|()| self.stdout.read_line(&mut answer));
        if asked.is_err() || answer != "0\n" {
            let said = last_words(&read(&self.complaints)?);
            return Err(KernelError::NotSettled { name: self.config.to_string(), said });
        }
        let settled = read(&self.config)?;
        Ok(Options::parse(self.config.as_str(), &String::from_utf8_lossy(&settled))?)
    }
}

impl Drop for Configurator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compile(objects: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    let (source, program) = (objects.join("farm-olddefconfig.c"), objects.join("farm-olddefconfig"));
    write_if_other(&source, assets::OLDDEFCONFIG)?;
    let made = objects.join("scripts/kconfig");
    let failed = |source| KernelError::Io { path: made.clone(), source };
    let mut parts = Vec::new();
    for file in made.read_dir_utf8().map_err(failed)? {
        let file = file.map_err(failed)?;
        if file.file_name().ends_with(".o") && file.file_name() != "conf.o" {
            parts.push(file.into_path());
        }
    }
    parts.sort();
    HOST_GCC.stdout(HOST_GCC.command()?.args(["-O1", "-o"]).arg(&program).arg(&source).args(&parts))?;
    Ok(program)
}

/// What make would start `conf` with.
fn environment(make: &Make<'_>) -> Result<BTreeMap<OsString, OsString>, KernelError> {
    let mut command = make.command()?;
    command.args(["-s", "--no-print-directory", PRINT_ENVIRONMENT]);
    command.arg(format!("--eval={PRINT_ENVIRONMENT}: ; @env -0"));
    let printed = MAKE.stdout(&mut command)?;
    let variables = printed.split(|byte| *byte == 0).filter_map(|variable| {
        let equals = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&variable[..equals], &variable[equals + 1..]);
        Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
    });
    Ok(variables.collect())
}
