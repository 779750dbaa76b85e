//! `cargo xtask test`: sets the host up, then runs every test of the workspace.
//!
//! Tests that take minutes stand in modules named `soak` and run with `--soak` only. Both runners leave
//! them out by that name: nextest by the default filter in `.config/nextest.toml`, `cargo test` by `--skip`.

use anyhow::Result;

use crate::cmd::{self, Cmd};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also run the tests that take minutes, those in modules named `soak`
    #[arg(long)]
    soak: bool,
    /// More arguments for the test runner (cargo-nextest if it is there, else `cargo test`), such as a test's name
    #[arg(last = true)]
    args: Vec<String>,
}

/// What runs the tests. Both take a part of a test's name as an argument.
#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    CargoTest,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    let nextest = cmd::find_program("cargo-nextest").is_some();
    let runner = if nextest { Runner::Nextest } else { Runner::CargoTest };
    // The runner's own closing line is the last thing printed.
    for command in commands(runner, options) {
        command.run()?;
    }
    Ok(())
}

fn commands(runner: Runner, options: &Options) -> Vec<Cmd> {
    let tests = match runner {
        Runner::Nextest => {
            let profile = options.soak.then_some(["--profile", "soak"]);
            Cmd::new(["cargo", "nextest", "run", "--workspace", "--locked"])
                .args(profile.into_iter().flatten())
        }
        Runner::CargoTest => {
            let skip = (!options.soak).then_some(["--skip", "soak::"]);
            Cmd::new(["cargo", "test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--"])
                .args(skip.into_iter().flatten())
        }
    };
    // nextest knows no doc tests, and `cargo test` closes with theirs: so they run by themselves, and first.
    // With arguments, some other test is meant.
    let doc = Cmd::new(["cargo", "test", "--workspace", "--locked", "--doc"]);
    options.args.is_empty().then_some(doc).into_iter().chain([tests.args(&options.args)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = "cargo test --workspace --locked --doc";

    fn lines(runner: Runner, soak: bool, args: &[&str]) -> Vec<String> {
        let args = args.iter().map(ToString::to_string).collect();
        commands(runner, &Options { soak, args }).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nextest_leaves_soak_to_its_profiles() {
        let nextest = "cargo nextest run --workspace --locked";
        assert_eq!(lines(Runner::Nextest, false, &[]), [DOC, nextest]);
        assert_eq!(lines(Runner::Nextest, true, &[]), [DOC, &format!("{nextest} --profile soak")]);
        assert_eq!(lines(Runner::Nextest, false, &["kmsg"]), [format!("{nextest} kmsg")]);
    }

    #[test]
    fn cargo_test_skips_soak_by_name() {
        let test = "cargo test --workspace --locked --lib --bins --tests --";
        assert_eq!(lines(Runner::CargoTest, false, &[]), [DOC, &format!("{test} --skip soak::")]);
        assert_eq!(lines(Runner::CargoTest, true, &[]), [DOC, test]);
        assert_eq!(lines(Runner::CargoTest, true, &["kmsg"]), [format!("{test} kmsg")]);
    }
}
