//! `cargo xtask docs`: documents that are written from the code, so that they cannot fall behind it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use farm::scenario::Catalog;
use farm::scenario::docs::reference;

use crate::cmd;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a document is not what the code says
    #[arg(long)]
    check: bool,
}

struct Document {
    path: &'static str,
    text: String,
}

fn documents() -> Result<Vec<Document>> {
    let catalog = Catalog::embedded().map_err(|problems| {
        anyhow::Error::msg(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    Ok(vec![Document { path: "docs/scenario.md", text: reference(&catalog) }])
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check { check() } else { write(&documents()?, cmd::root()) }
}

pub(crate) fn check() -> Result<()> {
    let stale = stale(&documents()?, cmd::root())?;
    if !stale.is_empty() {
        bail!("{} not what the code says; run `cargo xtask docs`", stale.join(", "));
    }
    Ok(())
}

fn write(documents: &[Document], root: &Path) -> Result<()> {
    for path in stale(documents, root)? {
        println!("docs: writing {path}");
    }
    for Document { path, text } in documents {
        std::fs::write(root.join(path), text).with_context(|| format!("{path} cannot be written"))?;
    }
    Ok(())
}

/// The documents that are missing or differ from the code.
fn stale(documents: &[Document], root: &Path) -> Result<Vec<&'static str>> {
    let mut stale = Vec::new();
    for Document { path, text } in documents {
        match std::fs::read(root.join(path)) {
            Ok(there) if there == text.as_bytes() => {}
            Ok(_) => stale.push(*path),
            Err(error) if error.kind() == ErrorKind::NotFound => stale.push(*path),
            Err(error) => return Err(error).with_context(|| format!("{path} cannot be read")),
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_stale_until_written_and_after_an_edit() {
        let root = tempfile::tempdir().unwrap();
        let documents = [Document { path: "a.md", text: "a\n".into() }];
        assert_eq!(stale(&documents, root.path()).unwrap(), ["a.md"]);
        write(&documents, root.path()).unwrap();
        assert!(stale(&documents, root.path()).unwrap().is_empty());
        std::fs::write(root.path().join("a.md"), "b\n").unwrap();
        assert_eq!(stale(&documents, root.path()).unwrap(), ["a.md"]);
    }
}
