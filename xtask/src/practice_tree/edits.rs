//! The edits that a practice tree is made of (`kernels/practice/*.edits`), and how one is applied.
//!
//! An edit is a commit's message with a diff whose hunks have no line numbers: what a hunk finds in the file, context and
//! `-` lines, has to be there once, wherever that is. So edits outlive updates of the sources that move lines about.
//! No file is in two edits, but for a break and its mend, which stand in turns. So no two edits conflict, in whatever
//! order they come, and each can be reverted in the end.

use std::fmt;

/// The next file of an edit begins so, and so does the next edit.
const FILE: &str = "--- a/";
const SUBJECT: &str = "Subject: ";
const SCENARIO: &str = "Scenario: ";
/// In a mutant that bites seldom: in one of how many lives.
const LIVES: &str = "LIVES";

/// One commit's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) subject: String,
    pub(super) body: String,
    /// Of a mutant: what sees it.
    pub(super) scenario: Option<String>,
    pub(super) files: Vec<FileEdit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileEdit {
    pub(super) path: String,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hunk {
    old: String,
    new: String,
}

/// A break and the later commit that mends it.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) edit: Edit,
    pub(super) mend: Edit,
}

/// One bug, as every life shows it and as one of some does.
#[derive(Debug, Clone)]
pub(super) struct Mutant {
    always: Edit,
    seldom: Edit,
}

/// All edits, by kind.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) code: Vec<Edit>,
    pub(super) headers: Vec<Edit>,
    pub(super) comments: Vec<Edit>,
    pub(super) documentation: Vec<Edit>,
    pub(super) elsewhere: Vec<Edit>,
    pub(super) unbuilt: Vec<Edit>,
    pub(super) build_breaks: Vec<Pair>,
    pub(super) boot_breaks: Vec<Pair>,
    pub(super) unrelated: Vec<Pair>,
    pub(super) mutants: Vec<Mutant>,
}

/// The sources have changed where an edit takes hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostAnchor {
    subject: String,
    path: String,
    anchor: String,
    found: usize,
}

impl std::error::Error for LostAnchor {}

impl fmt::Display for LostAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, path, anchor, found } = self;
        write!(
            f,
            "{path} has {found} places, not one, for the edit {subject:?} of kernels/practice:\n{anchor}"
        )
    }
}

impl Catalogue {
    /// The repository's.
    pub(super) fn embedded() -> Self {
        let pairs = |text| in_twos(text).map(|(edit, mend)| Pair { edit, mend }).collect();
        Self {
            code: parse(include_str!("../../../kernels/practice/code.edits")),
            headers: parse(include_str!("../../../kernels/practice/headers.edits")),
            comments: parse(include_str!("../../../kernels/practice/comments.edits")),
            documentation: parse(include_str!("../../../kernels/practice/documentation.edits")),
            elsewhere: parse(include_str!("../../../kernels/practice/elsewhere.edits")),
            unbuilt: parse(include_str!("../../../kernels/practice/unbuilt.edits")),
            build_breaks: pairs(include_str!("../../../kernels/practice/build-breaks.edits")),
            boot_breaks: pairs(include_str!("../../../kernels/practice/boot-breaks.edits")),
            unrelated: pairs(include_str!("../../../kernels/practice/unrelated.edits")),
            mutants: in_twos(include_str!("../../../kernels/practice/mutants.edits"))
                .map(|(always, seldom)| Mutant { always, seldom })
                .collect(),
        }
    }
}

impl Mutant {
    /// As one in so many lives shows it.
    pub(super) fn in_one_of(&self, lives: u32) -> Edit {
        if lives == 1 {
            return self.always.clone();
        }
        let mut edit = self.seldom.clone();
        for hunk in edit.files.iter_mut().flat_map(|file| &mut file.hunks) {
            hunk.new = hunk.new.replace(LIVES, &lives.to_string());
        }
        edit
    }
}

impl Edit {
    /// The text of one of its files, edited.
    pub(super) fn applied(&self, file: &FileEdit, text: &str) -> Result<String, LostAnchor> {
        file.hunks.iter().try_fold(text.to_owned(), |text, hunk| {
            let places: Vec<usize> = text
                .match_indices(&hunk.old)
                .map(|(at, _)| at)
                .filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
                .collect();
            let [at] = places[..] else {
                return Err(LostAnchor {
                    subject: self.subject.clone(),
                    path: file.path.clone(),
                    anchor: hunk.old.clone(),
                    found: places.len(),
                });
            };
            Ok([&text[..at], &hunk.new, &text[at + hunk.old.len()..]].concat())
        })
    }
}

/// What stands for a break and its mend, or twice for a mutant.
fn in_twos(text: &str) -> impl Iterator<Item = (Edit, Edit)> {
    let mut edits = parse(text).into_iter();
    std::iter::from_fn(move || Some((edits.next()?, edits.next()?)))
}

/// The edits of one file, which is part of this program: what is odd in it is a test's to find.
fn parse(text: &str) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for line in text.lines() {
        if let Some(subject) = line.strip_prefix(SUBJECT) {
            let (subject, body) = (subject.to_owned(), String::new());
            edits.push(Edit { subject, body, scenario: None, files: Vec::new() });
            continue;
        }
        let Some(edit) = edits.last_mut() else { continue };
        if let Some(path) = line.strip_prefix(FILE) {
            edit.files.push(FileEdit { path: path.to_owned(), hunks: Vec::new() });
        } else if let Some(file) = edit.files.last_mut() {
            file.take(line);
        } else if let Some(scenario) = line.strip_prefix(SCENARIO) {
            edit.scenario = Some(scenario.to_owned());
        } else {
            edit.body.push_str(line);
            edit.body.push('\n');
        }
    }
    for edit in &mut edits {
        edit.body = edit.body.trim().to_owned();
        for hunk in edit.files.iter_mut().flat_map(|file| &mut file.hunks) {
            hunk.drop_blank_end();
        }
    }
    edits
}

impl FileEdit {
    fn take(&mut self, line: &str) {
        if line.starts_with("@@") {
            self.hunks.push(Hunk::default());
        }
        let Some(hunk) = self.hunks.last_mut() else { return };
        // Context that is an empty line has lost its blank: editors like it so.
        let (sides, text): (&mut [&mut String], _) = match line.split_at_checked(1) {
            Some((" ", text)) => (&mut [&mut hunk.old, &mut hunk.new], text),
            Some(("-", text)) => (&mut [&mut hunk.old], text),
            Some(("+", text)) => (&mut [&mut hunk.new], text),
            None => (&mut [&mut hunk.old, &mut hunk.new], ""),
            Some(_) => return,
        };
        for side in sides {
            side.push_str(text);
            side.push('\n');
        }
    }
}

impl Hunk {
    /// The empty line between an edit and the next is none of its context.
    fn drop_blank_end(&mut self) {
        let ends_blank = |text: &str| text == "\n" || text.ends_with("\n\n");
        while ends_blank(&self.old) && ends_blank(&self.new) {
            self.old.pop();
            self.new.pop();
        }
    }
}

/// Files in which each edit of a history finds what it looks for.
#[cfg(test)]
pub(super) fn stand_in<'a>(
    edits: impl Iterator<Item = &'a Edit>,
) -> std::collections::BTreeMap<String, String> {
    let mut files = std::collections::BTreeMap::new();
    let mut known = std::collections::BTreeSet::new();
    for edit in edits {
        for file in &edit.files {
            // A mend looks for what its break has left.
            if known.insert(&file.path) {
                let old: Vec<&str> = file.hunks.iter().map(|hunk| hunk.old.as_str()).collect();
                files.insert(file.path.clone(), format!("first\n{}last\n", old.join("between\n")));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn singles(catalogue: &Catalogue) -> Vec<&Edit> {
        let Catalogue { code, headers, comments, documentation, elsewhere, unbuilt, .. } = catalogue;
        [code, headers, comments, documentation, elsewhere, unbuilt].into_iter().flatten().collect()
    }

    fn pairs(catalogue: &Catalogue) -> Vec<&Pair> {
        let Catalogue { build_breaks, boot_breaks, unrelated, .. } = catalogue;
        [build_breaks, boot_breaks, unrelated].into_iter().flatten().collect()
    }

    fn paths(edit: &Edit) -> BTreeSet<&str> {
        edit.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_hunk_is_found_wherever_its_lines_are() {
        let text =
            "Subject: a: b\n\nWhy.\n\n--- a/f\n+++ b/f\n@@\n one\n\n-two\n+2\n@@\n-last\n\nSubject: c\n";
        let edits = parse(text);
        let [edit, other] = &edits[..] else { panic!("{edits:?}") };
        assert_eq!((edit.subject.as_str(), edit.body.as_str()), ("a: b", "Why."));
        assert!(other.files.is_empty());
        let applied = |text: &str| edit.applied(&edit.files[0], text);
        assert_eq!(applied("zero\none\n\ntwo\nthree\nlast\n").unwrap(), "zero\none\n\n2\nthree\n");
        assert_eq!(applied("last\none\n\ntwo\n").unwrap(), "one\n\n2\n");
        // In the middle of a line is no place.
        assert_eq!(applied("one\n\ntwo\nat last\n").unwrap_err().found, 0);
        let twice = applied("one\n\ntwo\none\n\ntwo\nlast\n").unwrap_err();
        assert_eq!(
            twice.to_string(),
            "f has 2 places, not one, for the edit \"a: b\" of kernels/practice:\none\n\ntwo\n"
        );
    }

    #[test]
    fn no_file_is_in_two_edits() {
        let catalogue = Catalogue::embedded();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let firsts = pairs(&catalogue).into_iter().map(|pair| &pair.edit);
        for edit in singles(&catalogue).into_iter().chain(firsts) {
            assert!(!edit.files.is_empty(), "{}", edit.subject);
            for path in paths(edit) {
                let before = owners.insert(path, &edit.subject);
                assert_eq!(before, None, "{path} is in {:?} too", edit.subject);
            }
        }
        for pair in pairs(&catalogue) {
            assert!(paths(&pair.mend).is_subset(&paths(&pair.edit)), "{}", pair.mend.subject);
        }
        // One of them is in a tree.
        for mutant in &catalogue.mutants {
            let edits = [mutant.in_one_of(1), mutant.in_one_of(4)];
            for edit in &edits {
                assert!(paths(edit).iter().all(|path| !owners.contains_key(path)), "{}", edit.subject);
                assert_eq!(edit.scenario, edits[0].scenario);
            }
            assert!(edits[0].scenario.is_some() && edits[0] != edits[1]);
        }
    }

    #[test]
    fn no_subject_is_there_twice_or_too_long_for_a_log() {
        let catalogue = Catalogue::embedded();
        let both = pairs(&catalogue).into_iter().flat_map(|pair| [&pair.edit, &pair.mend]);
        let mutants: Vec<_> = catalogue.mutants.iter().map(|mutant| mutant.in_one_of(1)).collect();
        let mut seen = BTreeSet::new();
        for edit in singles(&catalogue).into_iter().chain(both).chain(&mutants) {
            assert!(edit.subject.len() <= 75, "{}", edit.subject);
            assert!(seen.insert(&edit.subject), "{}", edit.subject);
        }
    }

    #[test]
    fn the_share_of_lives_is_written_into_the_mutant() {
        for mutant in &Catalogue::embedded().mutants {
            let new = |lives| -> String {
                let edit = mutant.in_one_of(lives);
                edit.files.iter().flat_map(|file| &file.hunks).map(|hunk| hunk.new.as_str()).collect()
            };
            assert!(new(4).contains("% 4 == 0"), "{}", new(4));
            assert!(!new(4).contains(LIVES) && !new(1).contains("sched_clock"));
        }
    }
}
