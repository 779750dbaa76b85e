//! Patches as they come: one diff, or mails with one each in a mailbox.

use std::fs;

use camino::Utf8Path;

use super::catalog::KernelBuild;
use super::git::base;
use super::tool::{GIT, ToolError};
use super::{KernelError, read};

/// Patches in the order in which they are to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Subject, or the file's name, and diff.
    pub patches: Vec<(String, Vec<u8>)>,
}

impl Series {
    /// Of a file of mails, of which those without a diff (cover letters, answers) are passed over; else the file is taken
    /// for a diff itself.
    pub fn of_file(path: &Utf8Path) -> Result<Self, KernelError> {
        let text = read(path)?;
        let name = path.file_name().unwrap_or("patch").to_owned();
        let patches = if is_mail(&text) { mails(path)? } else { vec![(name, text)] };
        let patches: Vec<_> = patches.into_iter().filter(|(_, diff)| has_diff(diff)).collect();
        if patches.is_empty() {
            return Err(KernelError::EmptySeries { path: path.to_owned() });
        }
        Ok(Self { patches })
    }

    pub fn subjects(&self) -> Vec<String> {
        self.patches.iter().map(|(subject, _)| subject.clone()).collect()
    }
}

impl KernelBuild {
    /// What is in its files of patches.
    pub fn patches(&self) -> Result<Vec<(String, Vec<u8>)>, KernelError> {
        let mut patches = Vec::new();
        for file in &self.patches {
            patches.extend(Series::of_file(file)?.patches);
        }
        Ok(patches)
    }
}

fn is_mail(text: &[u8]) -> bool {
    let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let field = |name: &[u8]| first.starts_with(name);
    [&b"From "[..], b"From:", b"Return-Path:", b"Received:", b"Delivered-To:", b"Date:", b"Subject:"]
        .iter()
        .any(|name| field(name))
}

fn has_diff(text: &[u8]) -> bool {
    text.split(|b| *b == b'\n').any(|line| line.starts_with(b"--- ") || line.starts_with(b"diff --git "))
}

/// By git, as `git am` takes them apart.
fn mails(path: &Utf8Path) -> Result<Vec<(String, Vec<u8>)>, KernelError> {
    let failed = |source| KernelError::Io { path: path.to_owned(), source };
    let directory = tempfile::tempdir().map_err(failed)?;
    let place = Utf8Path::from_path(directory.path())
        .ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    GIT.stdout(base()?.args(["mailsplit", &format!("-o{place}"), "--", path.as_str()]))?;
    let mut names = Vec::new();
    for file in place.read_dir_utf8().map_err(failed)? {
        names.push(file.map_err(failed)?.into_path());
    }
    names.sort();
    names.iter().map(|mail| one(mail, place)).collect()
}

fn one(mail: &Utf8Path, place: &Utf8Path) -> Result<(String, Vec<u8>), KernelError> {
    let [message, diff] = ["message", "diff"].map(|name| place.join(name));
    let failed = |source| KernelError::Io { path: mail.to_owned(), source };
    let mut info = base()?;
    // It wants to know nothing of where it stands.
    info.current_dir(place).args(["mailinfo", message.as_str(), diff.as_str()]);
    let output = GIT.output(info.stdin(fs::File::open(mail).map_err(failed)?))?;
    if !output.status.success() {
        let stderr = super::tool::last_words(&output.stderr);
        return Err(
            ToolError::Failed { tool: "git mailinfo".to_owned(), status: output.status, stderr }.into()
        );
    }
    let info = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = info.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("(no subject)");
    Ok((subject.to_owned(), read(&diff)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";

    fn series(text: &str) -> Result<Series, KernelError> {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("one.patch");
        fs::write(&path, text).unwrap();
        Series::of_file(&path)
    }

    fn mail(subject: &str, body: &str) -> String {
        format!(
            "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.invalid>\n\
             Date: Thu, 30 Apr 2020 16:38:25 +0200\nSubject: {subject}\n\n{body}\n"
        )
    }

    #[test]
    fn a_mailbox_gives_its_patches_in_order_and_a_diff_is_one() {
        assert_eq!(series(DIFF).unwrap().subjects(), ["one.patch"]);
        let mailbox = [
            mail("[PATCH v2 0/2] a cover", "No diff here."),
            mail(
                "[PATCH v2 1/2] =?utf-8?q?fs=3A_one?=",
                &format!("Why.\n---\n f | 2 +-\n\n{DIFF}-- \n2.39\n"),
            ),
            mail("[PATCH v2 2/2] two", &format!("---\n{DIFF}")),
        ]
        .concat();
        let found = series(&mailbox).unwrap();
        assert_eq!(found.subjects(), ["fs: one", "two"]);
        assert!(found.patches.iter().all(|(_, diff)| String::from_utf8_lossy(diff).contains("+++ b/f")));
    }

    #[test]
    fn what_has_no_diff_is_no_series() {
        for text in ["", "hello\n", &mail("only words", "no diff")] {
            let error = series(text).unwrap_err().to_string();
            assert!(error.ends_with("holds no patch"), "{error}");
        }
    }
}
