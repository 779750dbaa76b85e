//! `cargo xtask ci`: everything that is checked beside the tests.
//!
//! All checks run, also after one has failed, so that one run tells everything there is to mend.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::{Context as _, Result, bail};

use crate::cmd::{self, Cmd};
use crate::{docs, setup, tools};

struct Check {
    name: &'static str,
    run: fn() -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { name: "format", run: format },
    Check { name: "clippy", run: clippy },
    Check { name: "spelling", run: spelling },
    Check { name: "shell scripts", run: shell_scripts },
    Check { name: "generated documents", run: docs::check },
    Check { name: "licences and sources", run: licences_and_sources },
    Check { name: "advisories", run: advisories },
];

pub(crate) fn run() -> Result<()> {
    setup::host_packages()?;
    let mut failed = Vec::new();
    for check in CHECKS {
        println!("\n== {}", check.name);
        if let Err(error) = (check.run)() {
            println!("{}: {error:#}", check.name);
            failed.push(check.name);
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), CHECKS.len(), failed.join(", "));
    }
    println!("\nci: all {} checks passed", CHECKS.len());
    Ok(())
}

fn format() -> Result<()> {
    Cmd::new(["cargo", "fmt", "--all", "--check"]).run()
}

fn clippy() -> Result<()> {
    let clippy = ["cargo", "clippy", "--workspace", "--all-targets", "--locked"];
    Cmd::new(clippy).args(["--", "-D", "warnings"]).run()
}

/// What is spelt right here and what is not looked at stand in `.codespellrc`.
fn spelling() -> Result<()> {
    Cmd::new(["codespell"]).run()
}

fn shell_scripts() -> Result<()> {
    let listing =
        Cmd::new(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).quiet_output()?;
    if !listing.status.success() {
        bail!(
            "git cannot list this checkout's files: {}",
            String::from_utf8_lossy(&listing.stderr).trim_end()
        );
    }
    let names = String::from_utf8(listing.stdout).context("a file's name is not valid UTF-8")?;
    let mut bad = Vec::new();
    for name in names.split_terminator('\0') {
        if is_shell_script(name)? && Cmd::new(["bash", "-n", name]).run().is_err() {
            bad.push(name);
        }
    }
    if !bad.is_empty() {
        bail!("bash cannot parse {}", bad.join(", "));
    }
    Ok(())
}

/// Told by its first line. A file that git still lists but that is gone is none.
fn is_shell_script(name: &str) -> Result<bool> {
    /// Longer than any `#!` line that the kernel reads (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
    const FIRST_LINE: u64 = 256;
    let path = cmd::root().join(name);
    if !path.is_file() {
        return Ok(false);
    }
    let mut line = Vec::new();
    File::open(&path)
        .and_then(|file| BufReader::new(file.take(FIRST_LINE)).read_until(b'\n', &mut line))
        .with_context(|| format!("{name} cannot be read"))?;
    Ok(names_a_shell(&line))
}

fn names_a_shell(first_line: &[u8]) -> bool {
    let Some(interpreter) = first_line.strip_prefix(b"#!") else { return false };
    let mut words = interpreter.split(|byte| byte.is_ascii_whitespace() || *byte == b'/');
    words.any(|word| word == b"sh" || word == b"bash")
}

/// Which licences and sources are fit for a dependency stands in `deny.toml`.
fn licences_and_sources() -> Result<()> {
    Cmd::new([tools::cargo_deny()?]).args(["--locked", "check", "bans", "licenses", "sources"]).run()
}

/// Known faults of dependencies. Their database is fetched each time; a machine that cannot reach it says so
/// and goes on, since it can do nothing about that.
fn advisories() -> Result<()> {
    let cargo_deny = tools::cargo_deny()?;
    let fetch =
        Cmd::new([&cargo_deny, "--locked", "fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0").output()?;
    if !fetch.status.success() {
        let reason = String::from_utf8_lossy(&fetch.stderr);
        println!("{}", reason.trim_end());
        println!("advisories: not checked: database unreachable");
        return Ok(());
    }
    Cmd::new([&cargo_deny, "--locked", "check", "--disable-fetch", "advisories"]).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_scripts_are_told_by_their_first_line() {
        for script in ["#!/bin/sh\n", "#!/usr/bin/env bash\n", "#! /bin/bash -e\n", "#!/bin/sh"] {
            assert!(names_a_shell(script.as_bytes()), "{script:?}");
        }
        for other in ["#!/usr/bin/env python3\n", "#!/bin/shellcheck\n", "# sh\n", "", "#!\n"] {
            assert!(!names_a_shell(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn files_are_told_apart_in_the_checkout() {
        assert!(is_shell_script(".ci/run").unwrap());
        assert!(!is_shell_script("Cargo.toml").unwrap());
        assert!(!is_shell_script("no-such-file").unwrap());
    }
}
