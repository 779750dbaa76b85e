//! Running other programs: each is printed before it starts, as a line that a shell would take.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program to run in the root of the checkout: an argument vector, never a shell's string.
pub(crate) struct Cmd {
    env: Vec<(&'static str, &'static str)>,
    argv: Vec<String>,
}

impl Cmd {
    /// `argv` starts with the program.
    pub(crate) fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { env: Vec::new(), argv: argv.into_iter().map(Into::into).collect() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    pub(crate) fn args<S: Into<String>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(more.into_iter().map(Into::into));
        self
    }

    /// Prints and runs the program with this process's own streams. Any end but exit status 0 is an error.
    pub(crate) fn run(&self) -> Result<()> {
        self.echo();
        let status = self.command().status().with_context(|| self.cannot_start())?;
        if !status.success() {
            bail!("`{self}` failed ({status})");
        }
        Ok(())
    }

    /// Prints and runs the program without input and returns what it wrote, however it ended.
    pub(crate) fn output(&self) -> Result<Output> {
        self.echo();
        self.quiet_output()
    }

    /// As [`Cmd::output`], unprinted: for questions that change nothing.
    pub(crate) fn quiet_output(&self) -> Result<Output> {
        self.command().stdin(Stdio::null()).output().with_context(|| self.cannot_start())
    }

    /// As [`Cmd::quiet_output`], with this on its stdin.
    pub(crate) fn quiet_output_of(&self, input: &[u8]) -> Result<Output> {
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.cannot_start())?;
        let mut stdin = child.stdin.take();
        std::thread::scope(|scope| {
            // A program that does not read to the end tells why by its status.
            scope.spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output().with_context(|| self.cannot_start())
        })
    }

    fn echo(&self) {
        println!("$ {self}");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).envs(self.env.iter().copied()).current_dir(root());
        command
    }

    fn cannot_start(&self) -> String {
        format!("`{}` could not be started", self.argv[0])
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quote(value)).into());
        let words = env.chain(self.argv.iter().map(|word| quote(word)));
        f.write_str(&words.collect::<Vec<Cow<'_, str>>>().join(" "))
    }
}

/// The root of the checkout that this xtask was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The first executable file of this name: in `PATH`, then where root's programs are, which is no part of
/// an ordinary user's `PATH` on Debian.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A word as a POSIX shell must be given it: bare when nothing in it is special, else in single quotes.
fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, quoted) in [
            ("--kernel=debian-12", "--kernel=debian-12"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("a;b", "'a;b'"),
            ("~", "'~'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn a_shell_reads_back_the_printed_words() {
        let words = ["it's", "two  words", "`date`", "*", "\\", "", "end"];
        let line = Cmd::new(["printf", r"%s\n"]).args(words).to_string();
        let output = Cmd::new(["sh", "-c", &line]).quiet_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.map(|word| format!("{word}\n")).concat());
    }

    #[test]
    fn environment_is_part_of_the_printed_line() {
        let cmd = Cmd::new(["cargo", "test"]).env("FLAGS", "-D warnings");
        assert_eq!(cmd.to_string(), "FLAGS='-D warnings' cargo test");
    }

    #[test]
    fn failure_names_the_command_and_how_it_ended() {
        let message = |cmd: &Cmd| format!("{:#}", cmd.run().unwrap_err());
        assert_eq!(message(&Cmd::new(["sh", "-c", "exit 3"])), "`sh -c 'exit 3'` failed (exit status: 3)");
        assert!(message(&Cmd::new(["sh", "-c", "kill -9 $$"])).contains("signal: 9"));
        assert!(
            message(&Cmd::new(["no-such-program"])).starts_with("`no-such-program` could not be started: ")
        );
    }

    #[test]
    fn programs_are_found_where_users_do_not_look() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program("no-such-program"), None);
    }
}
