//! Why a tree does not take a value: what its Kconfig files say an option depends on. No I/O.
//!
//! This explains and decides nothing: the kernel's own `conf` has decided. So it reads the language of Kconfig
//! (Documentation/kbuild/kconfig-language.rst) line by line, as far as dependencies go.

/// A Kconfig file.
#[derive(Debug)]
pub(crate) struct File {
    /// From the top of the tree.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What can be opened and closed around an option, with what it makes the option depend on.
struct Around {
    ends_with: &'static str,
    depends: Vec<String>,
}

/// For each place where the option stands: where, what it depends on, and the values of what is named there.
pub(crate) fn reasons<'v>(option: &str, files: &[File], value: impl Fn(&str) -> &'v str) -> Vec<String> {
    files.iter().flat_map(|file| in_file(option, file, &value)).collect()
}

fn in_file<'v>(option: &str, file: &File, value: &impl Fn(&str) -> &'v str) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut around: Vec<Around> = Vec::new();
    // Of the entry that is being read, if it is the option's: its line, and what it depends on.
    let mut entry: Option<(usize, Vec<String>)> = None;
    // Whether `depends on` belongs to the innermost menu.
    let mut at_menu = false;
    let close = |entry: &mut Option<(usize, Vec<String>)>, around: &[Around], out: &mut Vec<String>| {
        if let Some((line, own)) = entry.take() {
            let outer = around.iter().flat_map(|around| around.depends.iter().cloned());
            let all: Vec<String> = outer.chain(own).collect();
            out.push(told(&file.path, line, &all, value));
        }
    };
    for (number, line) in file.text.lines().enumerate() {
        let text = line.trim();
        let word = text.split_whitespace().next().unwrap_or_default();
        let rest = text.strip_prefix(word).unwrap_or_default().trim();
        match word {
            "config" | "menuconfig" => {
                close(&mut entry, &around, &mut reasons);
                at_menu = false;
                entry = (rest == option).then(|| (number + 1, Vec::new()));
            }
            "menu" | "choice" | "comment" | "source" | "mainmenu" | "if" | "endif" | "endmenu"
            | "endchoice" => {
                close(&mut entry, &around, &mut reasons);
                at_menu = matches!(word, "menu" | "choice");
                match word {
                    "menu" => around.push(Around { ends_with: "endmenu", depends: Vec::new() }),
                    "choice" => around.push(Around { ends_with: "endchoice", depends: Vec::new() }),
                    "if" => around.push(Around { ends_with: "endif", depends: vec![rest.to_owned()] }),
                    end => {
                        around.pop_if(|innermost| innermost.ends_with == end);
                    }
                }
            }
            "depends" => {
                let on = rest.strip_prefix("on").unwrap_or(rest).trim().to_owned();
                match (&mut entry, around.last_mut()) {
                    (Some((_, own)), _) => own.push(on),
                    (None, Some(menu)) if at_menu => menu.depends.push(on),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    close(&mut entry, &around, &mut reasons);
    reasons
}

fn told<'v>(path: &str, line: usize, depends: &[String], value: &impl Fn(&str) -> &'v str) -> String {
    if depends.is_empty() {
        return format!(
            "{path}:{line} has it without a dependency: it may be selected, or be one of a choice"
        );
    }
    let expression = depends.join(" && ");
    let mut names: Vec<&str> = expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|name| name.len() > 1 && name.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let values: Vec<String> = names.iter().map(|name| format!("{name}={}", value(name))).collect();
    format!("{path}:{line} depends on {expression} ({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_the_entry_and_all_around_it() {
        let text = "\
menu \"Tools\"
\tdepends on MENU
config OTHER
\tbool \"other\"
\tdepends on NOT_THIS
if DEBUG_KERNEL
config WANTED
\tbool \"wanted\"
\tdepends on A_1 && !S390
\tdepends on B
\thelp
\t  It depends on nothing.
endif
config BEHIND
\tbool
endmenu
config WANTED
\tdepends on MENU
config FREE
\tbool
";
        let files = [File { path: "lib/Kconfig.debug".into(), text: text.into() }];
        let value = |name: &str| if name == "S390" { "y" } else { "n" };
        assert_eq!(
            reasons("WANTED", &files, value),
            [
                "lib/Kconfig.debug:7 depends on MENU && DEBUG_KERNEL && A_1 && !S390 && B \
                 (A_1=n, DEBUG_KERNEL=n, MENU=n, S390=y)",
                "lib/Kconfig.debug:17 depends on MENU (MENU=n)",
            ]
        );
        assert_eq!(reasons("NOWHERE", &files, value), [""; 0]);
        assert!(reasons("FREE", &files, value)[0].contains("without a dependency"));
    }
}
