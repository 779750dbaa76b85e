//! gdb: found, told what it is to look at, and started on the user's terminal.

use std::io;
use std::process::{ExitStatus, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::{Child, Command};

use super::launcher::Launcher;

/// Debian's gdb for all architectures, and the names that it has elsewhere.
const PROGRAMS: [&str; 3] = ["gdb-multiarch", "s390x-linux-gnu-gdb", "gdb"];
/// As gdb names the architecture.
const ARCHITECTURE: &str = "s390:64-bit";

/// A gdb that comes to a guest whose second CPU has stopped takes the first one's registers for its: it is told the former by `?`, and
/// believes that QEMU speaks of that CPU from then on. So it is sent away and back.
const STOPPED_CPU: [&str; 4] =
    ["set $stopped = $_thread", "thread 1", "maintenance flush register-cache", "thread $stopped"];

#[derive(Debug, thiserror::Error)]
pub enum DebuggerError {
    #[error("there is no gdb that knows s390x: none of {} is in PATH and takes `set architecture {ARCHITECTURE}`", PROGRAMS.join(", "))]
    None,
    #[error("cannot start {program}")]
    Spawn { program: String, source: io::Error },
    #[error("cannot write {path}, which gdb is to read")]
    Script { path: Utf8PathBuf, source: io::Error },
}

/// What gdb is to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub vmlinux: Option<Utf8PathBuf>,
    /// Modules, and where their `.text` is.
    pub modules: Vec<(Utf8PathBuf, u64)>,
    /// The socket of the stub.
    pub socket: Utf8PathBuf,
    /// Where it is to stop when the guest comes by again: an address or a function.
    pub breakpoint: Option<String>,
}

/// The commands that bring gdb to the target.
fn commands(target: &Target) -> String {
    let mut lines = vec![
        format!("set architecture {ARCHITECTURE}"),
        // Of itself gdb takes that from a file, and there may be none.
        "set endian big".to_owned(),
        // The guest is farm's, and goes with it.
        "set confirm off".to_owned(),
        "set pagination off".to_owned(),
    ];
    lines.extend(target.vmlinux.iter().map(|path| format!("file {}", quoted(path))));
    let modules = target.modules.iter();
    lines.extend(modules.map(|(path, text)| format!("add-symbol-file {} {text:#x}", quoted(path))));
    lines.push(format!("target remote {}", target.socket));
    lines.extend(STOPPED_CPU.map(str::to_owned));
    lines.extend(target.breakpoint.iter().map(|place| format!("break {place}")));
    lines.join("\n") + "\n"
}

/// A path as gdb's commands take it (GDB manual, "Command Syntax"): quoted, with backslashes before what has a meaning.
fn quoted(path: &Utf8Path) -> String {
    format!("\"{}\"", path.as_str().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The first gdb in PATH that knows the architecture.
pub async fn find_gdb() -> Result<&'static str, DebuggerError> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(["--batch", "--nx", "-ex", &format!("set architecture {ARCHITECTURE}")]);
        let answer = command.stdin(Stdio::null()).output().await;
        if answer.is_ok_and(|answer| knows_architecture(&answer.stdout)) {
            return Ok(program);
        }
    }
    Err(DebuggerError::None)
}

/// gdb confirms an architecture on stdout, and complains of one that it does not know on stderr, where it warns of other things,
/// too. It ends with 0 or 1, as its version likes.
fn knows_architecture(stdout: &[u8]) -> bool {
    String::from_utf8_lossy(stdout).contains(&format!("set to \"{ARCHITECTURE}\""))
}

/// gdb on the terminal of farm. Dropping it kills it, and it dies with farm.
pub struct Debugger {
    child: Child,
}

impl Debugger {
    /// Starts it with these commands, in `script`, and the user's own arguments behind.
    pub fn start(
        launcher: &Launcher,
        program: &str,
        target: &Target,
        script: &Utf8Path,
        arguments: &[String],
    ) -> Result<Self, DebuggerError> {
        let unwritten = |source| DebuggerError::Script { path: script.to_owned(), source };
        std::fs::write(script, commands(target)).map_err(unwritten)?;
        let mut command = Command::from(launcher.command(Utf8Path::new(program)));
        command.arg("--quiet").arg("-x").arg(script).args(arguments).kill_on_drop(true);
        let child =
            command.spawn().map_err(|source| DebuggerError::Spawn { program: program.to_owned(), source })?;
        Ok(Self { child })
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gdb_is_known_by_what_it_confirms() {
        assert!(knows_architecture(b"The target architecture is set to \"s390:64-bit\".\n"));
        assert!(!knows_architecture(b""));
    }

    #[test]
    fn gdb_is_told_in_this_order() {
        let target = Target {
            vmlinux: Some("/cache/a \"b\"/vmlinux".into()),
            modules: vec![("/cache/tripwire.ko".into(), 0x3ff_7ff0_2598)],
            socket: "/tmp/x/gdb.sock".into(),
            breakpoint: Some("*0x3ff7ff028fe".to_owned()),
        };
        insta::assert_snapshot!(commands(&target), @r#"
        set architecture s390:64-bit
        set endian big
        set confirm off
        set pagination off
        file "/cache/a \"b\"/vmlinux"
        add-symbol-file "/cache/tripwire.ko" 0x3ff7ff02598
        target remote /tmp/x/gdb.sock
        set $stopped = $_thread
        thread 1
        maintenance flush register-cache
        thread $stopped
        break *0x3ff7ff028fe
        "#);
    }
}
