//! The kernel's own `make`, run so that the same sources make the same bytes anywhere.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camino::Utf8Path;

use super::super::KernelError;
use super::super::tool::{
    CCACHE, CLANGS, CROSS_GCC, Complaints, MAKE, Tool, ToolError, tells_of_a_full_disk,
};
use super::super::tree::AT_WORK;
use super::config::{Compiler, Options};
use crate::cache::{Cache, Progress};

/// The prefix of the cross tools, as the kernel's Makefiles want it.
pub(super) const CROSS: &str = "s390x-linux-gnu-";
/// Raised when other flags make other objects of the same command without them.
const FLAGS_RECIPE: &str = "farm-3";
/// How often a person who waits is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(15);
/// What is read of a failed build's complaints.
const COMPLAINTS_BYTES: u64 = 4 << 20;
/// How many of its errors are told.
const ERRORS_TOLD: usize = 6;

/// What the compiler is to say of the source beside what the configuration has it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DebugFlags {
    None,
    /// Lines, functions, and what was inlined: all that a trace can show. Types and variables would be ten times as much.
    Lines,
}

impl DebugFlags {
    /// A configuration that has debug information of its own keeps that.
    pub(super) fn beside(configured: &Options) -> Self {
        if configured.value("DEBUG_INFO") == "y" { Self::None } else { Self::Lines }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lines => " -g1",
        }
    }
}

/// A place to build in: sources, and the directory of what is made.
#[derive(Clone, Copy)]
pub(super) struct Make<'a> {
    pub(super) cache: &'a Cache,
    pub(super) source: &'a Utf8Path,
    pub(super) objects: &'a Utf8Path,
    /// For messages.
    pub(super) name: &'a str,
    pub(super) compiler: Compiler,
    /// One that takes longer hangs, and is killed.
    pub(super) limit: Duration,
    pub(super) debug: DebugFlags,
    pub(super) progress: Progress<'a>,
}

impl Make<'_> {
    /// Runs `make` with these targets and settings to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<(), KernelError> {
        let log = self.objects.join("farm-complaints");
        let failed = |source| KernelError::Io { path: log.clone(), source };
        let complaints = Complaints::new().map_err(failed)?;
        let mut command = self.command()?;
        command.args(arguments).stdout(Stdio::piped()).stderr(complaints.stdio().map_err(failed)?);
        let at_work = self.objects.join(AT_WORK);
        fs::write(&at_work, "").map_err(failed)?;
        let began = Instant::now();
        let lines = AtomicU64::new(0);
        let tell = |line: &[u8]| {
            // `  CC      mm/gup.o`: a word in capitals for each file that is made.
            if line.starts_with(b"  ") {
                lines.fetch_add(1, Ordering::Relaxed);
            }
        };
        let status = MAKE.status_within_and_read(
            &mut command,
            self.limit,
            TELL_EVERY,
            &|stdout| BufReader::new(stdout).split(b'\n').map_while(Result::ok).for_each(|line| tell(&line)),
            &|| {
                let (files, seconds) = (lines.load(Ordering::Relaxed), began.elapsed().as_secs());
                (self.progress)(&format!("building {}: {files} files made, {seconds} s", self.name));
            },
        )?;
        // Killed by its limit, or by a signal, it leaves that; if it ended by itself what it has made is whole.
        if status.code().is_some() {
            fs::remove_file(&at_work).map_err(failed)?;
        }
        if status.success() {
            return Ok(());
        }
        let said = complaints.read(COMPLAINTS_BYTES).map_err(failed)?;
        let said = said.replace(&format!("{}/", self.source), "");
        // The host's trouble is none of the sources'.
        if tells_of_a_full_disk(&said) {
            return Err(failed(std::io::ErrorKind::StorageFull.into()));
        }
        fs::write(&log, &said).map_err(failed)?;
        if said.contains("Killed signal terminated program") {
            return Err(failed(std::io::ErrorKind::OutOfMemory.into()));
        }
        Err(KernelError::Build { name: self.name.to_owned(), words: first_errors(&said), log })
    }

    pub(super) fn command(&self) -> Result<Command, ToolError> {
        let mut command = MAKE.command()?;
        // The user's environment has words for make and for gcc.
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        for variable in ["PATH", "TMPDIR"] {
            command.envs(std::env::var_os(variable).map(|value| (variable, value)));
        }
        let Self { cache, source, objects, .. } = self;
        let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Neither the place of the sources nor that of the objects shows in what is made. Of two maps that fit gcc
        // takes the later. ccache has gcc see the sources from where the objects are.
        let map = |place: &str| format!("-ffile-prefix-map={place}=. -ffile-prefix-map={place}/=");
        let seen_from_objects = format!("../{}", source.file_name().unwrap_or_default());
        let maps = [source.as_str(), objects.as_str(), &seen_from_objects].map(map).join(" ");
        let flags = format!("{maps}{}", self.debug.as_str());
        let compiler = self.compiler.tool()?;
        let compiler = match CCACHE.find() {
            Ok(ccache) => {
                command.env("CCACHE_DIR", cache.root().join("ccache")).env("CCACHE_BASEDIR", cache.root());
                command.env("CCACHE_NOHASHDIR", "1").env("CCACHE_MAXSIZE", "5G");
                command.env("CCACHE_CONFIGPATH", "/dev/null").env("CCACHE_SLOPPINESS", "");
                // Flags that name the place make other words of the same compilation; what they map to is the recipe's.
                command.env("CCACHE_NAMESPACE", FLAGS_RECIPE);
                command.env("CCACHE_IGNOREOPTIONS", "-ffile-prefix-map=* -fmacro-prefix-map=*");
                format!("{} {compiler}", ccache.display())
            }
            Err(_) => compiler.find()?.display().to_string(),
        };
        command
            .args(["-C", source.as_str(), &format!("O={objects}"), &format!("-j{jobs}"), "ARCH=s390"])
            .args([&format!("CROSS_COMPILE={CROSS}"), &format!("CC={compiler}"), "LOCALVERSION="])
            .args(["KBUILD_BUILD_TIMESTAMP=1970-01-01", "KBUILD_BUILD_USER=farm", "KBUILD_BUILD_HOST=farm"])
            .args(["KBUILD_BUILD_VERSION=1", &format!("KCFLAGS={flags}"), &format!("KAFLAGS={flags}")])
            // Programs of this host write headers that say what wrote them.
            .arg(format!("HOSTCFLAGS={maps}"));
        Ok(command)
    }
}

impl Compiler {
    /// The newest that there is.
    pub(crate) fn tool(self) -> Result<Tool, ToolError> {
        match self {
            Self::Gcc => Ok(CROSS_GCC),
            Self::Clang => CLANGS.into_iter().find(|clang| clang.find().is_ok()).ok_or(ToolError::NoClang),
        }
    }
}

/// The compiler and the linker, as they call themselves.
pub(super) fn toolchain(compiler: Compiler) -> Result<String, ToolError> {
    let first_line = |output: Vec<u8>| {
        String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
    };
    let tool = compiler.tool()?;
    let compiler = first_line(tool.stdout(tool.command()?.arg("--version"))?);
    // The linker that gcc uses.
    let linker = first_line(CROSS_GCC.stdout(CROSS_GCC.command()?.args(["-Wl,--version"]))?);
    Ok(format!("{compiler}; {linker}"))
}

/// The lines that say what went wrong first.
fn first_errors(said: &str) -> String {
    let is_error = |line: &&str| {
        (line.contains("error:") || line.contains("Error ") || line.contains("undefined reference"))
            && !line.contains("make[")
    };
    let errors: Vec<&str> = said.lines().filter(is_error).take(ERRORS_TOLD).collect();
    let errors = if errors.is_empty() {
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(ERRORS_TOLD)..].to_vec()
    } else {
        errors
    };
    let lines: Vec<String> =
        errors.iter().map(|line| crate::escape::escape(line.trim().as_bytes())).collect();
    lines.join("\n")
}

/// Writes a file only if it would change, so that what is made of it need not be made again.
pub(super) fn write_if_other(path: &Utf8Path, text: &str) -> Result<(), KernelError> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|source| KernelError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_are_told_and_makes_own_words_are_not() {
        let said = "fs/pipe.c: In function 'f':\nfs/pipe.c:3:5: error: 'x' undeclared\nmake[3]: *** [fs/pipe.o] Error 1\n\
                    ld: a.o: undefined reference to `y'\n";
        assert_eq!(
            first_errors(said),
            "fs/pipe.c:3:5: error: 'x' undeclared\nld: a.o: undefined reference to `y'"
        );
        assert_eq!(first_errors("one\ntwo\n"), "one\ntwo");
    }
}
