//! From a hit to a bisect: what the run that showed it was asked is what the bisect is to ask.

use crate::cli::environment::Environment;
use crate::cli::provision::kernel_catalog;
use crate::cli::repro::refuse_of_bundle;
use crate::cli::results::found_hit;
use crate::cli::scenarios::library;
use crate::error::{ExitCode, Failure};
use crate::scenario::is_path;
use crate::store::{FoundHit, read_cell};

/// The words of a bisect that names no hit, but all that one stands for: they are what its journal keeps.
pub(super) fn spelled_out(
    environment: &Environment,
    hit: &str,
    asked: &[String],
) -> Result<Vec<String>, Failure> {
    let found = found_hit(environment, hit)?;
    refuse_of_bundle(&found)?;
    let FoundHit { run, life, hit } = found;
    let ran = &run.record.command;
    // What the run was asked was said there.
    let there = run.record.started_in.unwrap_or_default();
    let tree = value(ran, "--tree").map(|tree| there.join(tree).into_string());
    let tree = value(asked, "--tree").map(str::to_owned).or(tree).ok_or_else(|| {
        Failure::new(ExitCode::Usage, "the hit's kernel was not built from a tree of yours")
            .hint("--tree DIR names the repository whose commits are to be tried")
    })?;
    let cell = read_cell(&run.directory, &life.life)?;
    let library = library()?;
    let shows = |word: &String| {
        let scenarios = library.load_all(word).unwrap_or_default();
        scenarios.iter().any(|scenario| scenario.sha256 == cell.scenario.sha256)
    };
    // Its name, or the file that was given.
    let files = ran.iter().filter(|word| is_path(word)).map(|word| there.join(word).into_string());
    let scenario = [life.scenario.clone()].into_iter().chain(files).find(shows).ok_or_else(|| {
        let name = &life.scenario;
        let message = format!("the scenario {name} of the hit is not there any more, or is another now");
        Failure::new(ExitCode::Usage, message)
            .hint("--scenario FILE with --hunt asks for the same without --hit")
    })?;
    let catalog = kernel_catalog()?;
    let config = value(ran, "--config").map(|word| match catalog.config(word) {
        Some(_) => word.to_owned(),
        None => there.join(word).into_string(),
    });
    let fingerprint = hit.judged.hit.fingerprint.as_str();
    Ok(words(
        asked,
        [
            ("--tree", Some(&tree)),
            ("--config", config.as_deref()),
            ("--scenario", Some(&scenario)),
            ("--hunt", Some(fingerprint)),
        ],
    ))
}

/// What was asked, with these options in the place of the hit, where they are not asked for anyway.
fn words(asked: &[String], options: [(&str, Option<&str>); 4]) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = asked.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--hit" => drop(rest.next()),
            word if word.starts_with("--hit=") => {}
            word => words.push(word.to_owned()),
        }
    }
    for (option, wanted) in options {
        if let Some(wanted) = wanted.filter(|_| value(asked, option).is_none()) {
            words.extend([option.to_owned(), wanted.to_owned()]);
        }
    }
    words
}

/// What stands behind an option, or behind its `=`.
fn value<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(place, word)| match word.strip_prefix(option)? {
        "" => words.get(place + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_hit_is_spelled_out_and_what_was_asked_stays() {
        let options = |tree| {
            [
                ("--tree", Some(tree)),
                ("--config", None),
                ("--scenario", Some("splice")),
                ("--hunt", Some("f")),
            ]
        };
        for (asked, tree, wanted) in [
            (
                "farm bisect commits --hit 12 --good v1",
                "/t",
                "farm bisect commits --good v1 --tree /t --scenario splice --hunt f",
            ),
            (
                "farm bisect commits --good v1 --hit=12 --jobs 2",
                "/t",
                "farm bisect commits --good v1 --jobs 2 --tree /t --scenario splice --hunt f",
            ),
            (
                "farm bisect commits --tree=/u --hit 12",
                "/u",
                "farm bisect commits --tree=/u --scenario splice --hunt f",
            ),
        ] {
            assert_eq!(words(&of(asked), options(tree)), of(wanted), "{asked}");
        }
    }

    #[test]
    fn options_have_their_values_behind_them() {
        let words = of("farm run splice --tree /t --config=kasan --trees x --jobs");
        assert_eq!(value(&words, "--tree"), Some("/t"));
        assert_eq!(value(&words, "--config"), Some("kasan"));
        assert_eq!(value(&words, "--jobs"), None);
        assert_eq!(value(&words, "--seed"), None);
    }
}
