//! Development tools that no distribution of ours packages: built once with cargo, kept outside the checkout.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cmd::Cmd;

/// Pinned, so that what CI says of a commit does not change from one day to the next.
const CARGO_DENY: &str = "0.20.2";

/// The path of a cargo-deny of the pinned version: one in `PATH`, or our own, built when it is not yet there.
pub(crate) fn cargo_deny() -> Result<String> {
    if is_version("cargo-deny", CARGO_DENY) {
        return Ok("cargo-deny".to_owned());
    }
    let root = cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let Some(root) = root.to_str() else { bail!("{} is not valid UTF-8", root.display()) };
    let program = format!("{root}/bin/cargo-deny");
    if !is_version(&program, CARGO_DENY) {
        // The crate's own release profile (fat LTO, one codegen unit) is for a tool that is used all day. Here it
        // runs for two seconds, and building it is what people wait for.
        Cmd::new(["cargo", "install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root", root])
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .run()
            .context("cargo-deny, which checks licences and advisories, could not be had")?;
    }
    Ok(program)
}

fn is_version(program: &str, version: &str) -> bool {
    let answer = Cmd::new([program, "--version"]).quiet_output();
    answer.is_ok_and(|answer| answer.status.success() && reports_version(&answer.stdout, version))
}

/// Whether this is what `NAME --version` prints: the name, then the version.
fn reports_version(stdout: &[u8], version: &str) -> bool {
    String::from_utf8_lossy(stdout).split_whitespace().nth(1) == Some(version)
}

/// Where built tools are kept: a directory of the user's, as the XDG base directory specification has it.
fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME names a directory for built tools")?.join("farm-xtask"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_counts_only_in_its_exact_version() {
        assert!(reports_version(b"cargo-deny 0.20.2\n", "0.20.2"));
        assert!(reports_version(b"cargo-deny 0.20.2 (0123456 2026-01-02)\n", "0.20.2"));
        for other in [&b"cargo-deny 0.20.20\n"[..], b"cargo-deny 0.20\n", b"0.20.2\n", b"\xff\n", b""] {
            assert!(!reports_version(other, "0.20.2"));
        }
    }

    #[test]
    fn a_tool_that_is_not_there_has_no_version() {
        assert!(!is_version("no-such-tool", "1.2.3"));
    }
}
