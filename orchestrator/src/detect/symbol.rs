//! Names of functions and source files, freed of what differs between builds.

use crate::kernel::path_in_tree;

/// The function's name as in the source: compilers append `.constprop.0`, `.isra.0`, `.part.0`, `.cold`,
/// `.llvm.123`, and no C identifier has a dot.
pub(super) fn source_name(function: &str) -> &str {
    match function.find('.') {
        None | Some(0) => function,
        Some(dot) => &function[..dot],
    }
}

/// The file's path in the kernel's tree; else its name alone.
pub(super) fn source_path(path: &str) -> &str {
    path_in_tree(path).unwrap_or_else(|| path.rsplit('/').next().unwrap_or(path))
}

/// Lower-case words joined by `-`, at most 80 bytes: for fingerprints of reports that name no function.
/// Underscores stay, so that the name of a function is its own slug.
pub(super) fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= 80 {
            break;
        }
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => out.push(c),
            _ if out.is_empty() || out.ends_with('-') => {}
            _ => out.push('-'),
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_compilers_append() {
        for (printed, name) in [
            ("try_grab_page", "try_grab_page"),
            ("follow_page_pte.constprop.0", "follow_page_pte"),
            ("a.isra.0.part.12.cold", "a"),
            ("b.llvm.1234567890", "b"),
            (".Ltmp", ".Ltmp"),
        ] {
            assert_eq!(source_name(printed), name);
        }
    }

    #[test]
    fn paths_are_relative_to_the_tree() {
        for (printed, path) in
            [("../mm/gup.c", "mm/gup.c"), ("uvsim.c", "uvsim.c"), ("/root/uvsim/uvsim.c", "uvsim.c")]
        {
            assert_eq!(source_path(printed), path);
        }
    }

    #[test]
    fn slugs_are_short_words() {
        assert_eq!(slug("VFS: Unable to mount root fs (NUM,NUM)"), "VFS-Unable-to-mount-root-fs-NUM-NUM");
        assert_eq!(slug("__list_add:!"), "__list_add");
        assert!(slug(&"x ".repeat(500)).len() <= 80);
    }
}
