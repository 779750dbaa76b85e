//! From a hit to a bisect: what the run that showed it was asked is what the bisect is to ask.

use crate::cli::environment::Environment;
use crate::cli::results::found_hit;
use crate::cli::scenarios::library;
use crate::error::{ExitCode, Failure};
use crate::store::FoundHit;

/// The words of a bisect that names no hit, but all that one stands for: they are what its journal keeps.
pub(super) fn spelled_out(
    environment: &Environment,
    hit: &str,
    asked: &[String],
) -> Result<Vec<String>, Failure> {
    let FoundHit { run, life, hit } = found_hit(environment, hit)?;
    let ran = &run.record.command;
    let tree = value(asked, "--tree").or_else(|| value(ran, "--tree"));
    let tree = tree.ok_or_else(|| {
        Failure::new(ExitCode::Usage, "the hit's kernel was not built from a tree of yours")
            .hint("--tree DIR names the repository whose commits are to be tried")
    })?;
    let library = library()?;
    let shows = |word: &&str| {
        let scenarios = library.load_all(word).unwrap_or_default();
        scenarios.iter().any(|scenario| scenario.name.to_string() == life.scenario)
    };
    // Its name, or the file that was given.
    let files = ran.iter().map(String::as_str).filter(|word| word.contains('/'));
    let scenario = [life.scenario.as_str()].into_iter().chain(files).find(shows).ok_or_else(|| {
        let message = format!("the scenario {} of the hit is not there any more", life.scenario);
        Failure::new(ExitCode::Usage, message)
            .hint("--scenario FILE with --hunt asks for the same without --hit")
    })?;
    let config = value(asked, "--config").or_else(|| value(ran, "--config"));
    let fingerprint = hit.judged.hit.fingerprint.as_str();
    Ok(words(
        asked,
        [
            ("--tree", Some(tree)),
            ("--config", config),
            ("--scenario", Some(scenario)),
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
