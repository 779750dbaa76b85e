//! A history as git's fast-import takes it. Names and dates are fixed, so that the same history on the same base has the
//! same commit ids on every host.

use std::collections::{BTreeMap, BTreeSet};

use super::edits::{Edit, LostAnchor};
use super::history::{Commit, History};

/// Where fast-import puts the tip.
pub(super) const TIP: &str = "refs/practice/tip";
/// Nobody's. The domain is reserved for examples (RFC 2606).
const AUTHORS: [&str; 7] = [
    "Anna Berg <anna@practice.example>",
    "Bo Lindqvist <bo@practice.example>",
    "Chiara Fonti <chiara@practice.example>",
    "Dev Malhotra <dev@practice.example>",
    "Emil Novak <emil@practice.example>",
    "Fumiko Arai <fumiko@practice.example>",
    "Gwen Pryce <gwen@practice.example>",
];
const COMMITTER: &str = "Practice Maintainer <maintainer@practice.example>";
/// 2 March 2026, 09:00 UTC: the base.
const FIRST_SECOND: u64 = 1_772_442_000;
const SECONDS_PER_HOUR: u64 = 3600;

/// The subject of the merge.
pub(super) const MERGE: &str = "Merge branch 'for-next'";

/// What stands below the history.
pub(super) struct Base<'a> {
    /// The git tree of the sources.
    pub(super) tree: &'a str,
    pub(super) message: &'a str,
    /// The text of each file that is edited.
    pub(super) files: BTreeMap<String, String>,
}

/// All files that a history edits.
pub(super) fn paths(history: &History) -> BTreeSet<&str> {
    let edits = history.commits.iter().filter_map(|commit| commit.edit.as_ref());
    edits.flat_map(|edit| &edit.files).map(|file| file.path.as_str()).collect()
}

/// The mark of the base is 1, that of the commit of number N is N + 2.
pub(super) fn stream(history: &History, base: &Base<'_>) -> Result<Vec<u8>, LostAnchor> {
    let mut out = Out(Vec::new());
    let mut second = FIRST_SECOND;
    out.commit(mark(None), COMMITTER, second, base.message);
    out.line(&format!("M 040000 {} \"\"", base.tree));
    for (number, commit) in history.commits.iter().enumerate() {
        second += commit.hours * SECONDS_PER_HOUR;
        let author = AUTHORS[(commit.author % AUTHORS.len() as u64) as usize];
        out.commit(mark(Some(number)), author, second, &message(commit));
        for (parent, word) in commit.parents.iter().zip(["from", "merge"]) {
            out.line(&format!("{word} :{}", mark(*parent)));
        }
        for (path, text) in changed(history, commit, base)? {
            out.line(&format!("M 100644 inline {path}"));
            out.data(&text);
        }
    }
    Ok(out.0)
}

/// The files that are not as in the first parent. fast-import asks for what a merge brings too.
fn changed<'a>(
    history: &'a History,
    commit: &Commit,
    base: &Base<'_>,
) -> Result<BTreeMap<&'a str, String>, LostAnchor> {
    let nothing = BTreeSet::new();
    let first = commit.parents.first().copied().flatten();
    let before = first.map_or(&nothing, |parent| &history.commits[parent].holds);
    let edits = |held: &BTreeSet<usize>| -> Vec<&'a Edit> {
        held.iter().filter_map(|number| history.commits[*number].edit.as_ref()).collect()
    };
    let new: BTreeSet<usize> = commit.holds.difference(before).copied().collect();
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    for file in edits(&new).into_iter().flat_map(|edit| &edit.files) {
        texts.insert(&file.path, base.files.get(&file.path).cloned().unwrap_or_default());
    }
    // From the base on: a mend takes hold in what the break has left.
    for edit in edits(&commit.holds) {
        for file in &edit.files {
            if let Some(text) = texts.get_mut(file.path.as_str()) {
                *text = edit.applied(file, text)?;
            }
        }
    }
    Ok(texts)
}

fn mark(number: Option<usize>) -> usize {
    number.map_or(1, |number| number + 2)
}

fn message(commit: &Commit) -> String {
    match &commit.edit {
        None => MERGE.to_owned(),
        Some(Edit { subject, body, .. }) if body.is_empty() => subject.clone(),
        Some(Edit { subject, body, .. }) => format!("{subject}\n\n{body}"),
    }
}

struct Out(Vec<u8>);

impl Out {
    fn line(&mut self, line: &str) {
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
    }

    fn data(&mut self, text: &str) {
        self.line(&format!("data {}", text.len()));
        self.line(text);
    }

    fn commit(&mut self, mark: usize, author: &str, second: u64, message: &str) {
        self.line(&format!("commit {TIP}"));
        self.line(&format!("mark :{mark}"));
        self.line(&format!("author {author} {second} +0000"));
        self.line(&format!("committer {COMMITTER} {second} +0000"));
        self.data(&format!("{message}\n"));
    }
}
