//! What a tree's Kconfig files say of options: prompt, place, and what stands before them. No I/O.
//!
//! Like [`super::kconfig`] it reads the language line by line and decides nothing: what it gets wrong costs a search some
//! steps, or a reader a prompt.

use std::collections::{BTreeMap, BTreeSet};

use super::kconfig::File;

/// The options of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kconfig(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    /// What a user is asked. Without one the option follows from others.
    prompt: Option<String>,
    /// `FILE:LINE`; where it has a prompt, if it stands in several.
    place: String,
    /// What it depends on, also by its surroundings, and what it selects.
    after: BTreeSet<String>,
    /// What its defaults name.
    defaults: BTreeSet<String>,
}

/// Something that is closed by `ends_with`, and what it makes all within depend on.
struct Around {
    ends_with: &'static str,
    names: BTreeSet<String>,
}

impl Kconfig {
    pub(crate) fn read(files: &[File]) -> Self {
        let mut all = Self::default();
        files.iter().for_each(|file| all.add(file));
        all
    }

    #[cfg(test)]
    pub(crate) fn of_text(path: &str, text: &str) -> Self {
        Self::read(&[File { path: path.to_owned(), text: text.to_owned() }])
    }

    pub(crate) fn prompt(&self, option: &str) -> Option<&str> {
        self.0.get(option)?.prompt.as_deref()
    }

    pub(crate) fn place(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(|entry| entry.place.as_str())
    }

    /// The options, each behind those among them that it depends on or selects, directly or by way of others; by name
    /// where that leaves it open, and where it goes round in a circle.
    pub(crate) fn in_order<'n>(&self, options: &BTreeSet<&'n str>) -> Vec<&'n str> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        for option in options {
            self.visit(option, &mut seen, &mut order);
        }
        order.into_iter().filter_map(|name| options.get(name).copied()).collect()
    }

    /// In the order in which they are done with; with a stack of its own, as deep as it gets.
    fn visit<'a>(&'a self, option: &'a str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a str>) {
        enum Do<'a> {
            Enter(&'a str),
            Leave(&'a str),
        }
        let mut stack = vec![Do::Enter(option)];
        while let Some(next) = stack.pop() {
            match next {
                Do::Leave(name) => order.push(name),
                Do::Enter(name) if seen.insert(name) => {
                    stack.push(Do::Leave(name));
                    let Some(entry) = self.0.get(name) else { continue };
                    // A user's own choice does not follow from its default.
                    let defaults = entry.defaults.iter().filter(|_| entry.prompt.is_none());
                    let before: Vec<&str> = entry.after.iter().chain(defaults).map(String::as_str).collect();
                    stack.extend(before.into_iter().rev().map(Do::Enter));
                }
                Do::Enter(_) => {}
            }
        }
    }

    fn add(&mut self, file: &File) {
        let mut around: Vec<Around> = Vec::new();
        let mut entry: Option<(String, Entry)> = None;
        let mut help = Help::None;
        for (number, line) in logical_lines(&file.text) {
            if help.goes_on(line.as_str()) || line.trim().is_empty() {
                continue;
            }
            let text = line.trim();
            let word = text.split_whitespace().next().unwrap_or_default();
            let rest = text.strip_prefix(word).unwrap_or_default().trim();
            if matches!(
                word,
                "config"
                    | "menuconfig"
                    | "menu"
                    | "choice"
                    | "comment"
                    | "source"
                    | "mainmenu"
                    | "if"
                    | "endif"
                    | "endmenu"
                    | "endchoice"
            ) {
                self.put(entry.take(), &around);
            }
            match word {
                "config" | "menuconfig" => {
                    let place = format!("{}:{number}", file.path);
                    entry = Some((rest.to_owned(), Entry { place, ..Entry::default() }));
                }
                "menu" => around.push(Around { ends_with: "endmenu", names: BTreeSet::new() }),
                "choice" => around.push(Around { ends_with: "endchoice", names: BTreeSet::new() }),
                "if" => around.push(Around { ends_with: "endif", names: names(rest) }),
                "endif" | "endmenu" | "endchoice" => {
                    around.pop_if(|innermost| innermost.ends_with == word);
                }
                "help" | "---help---" => help = Help::Begins,
                "depends" | "visible" => match (&mut entry, around.last_mut()) {
                    (Some((_, entry)), _) => entry.after.extend(names(rest)),
                    (None, Some(around)) => around.names.extend(names(rest)),
                    (None, None) => {}
                },
                _ => {
                    if let Some((_, entry)) = &mut entry {
                        attribute(entry, word, rest);
                    }
                }
            }
        }
        self.put(entry, &around);
    }

    fn put(&mut self, entry: Option<(String, Entry)>, around: &[Around]) {
        let Some((name, mut entry)) = entry else { return };
        entry.after.extend(around.iter().flat_map(|around| around.names.iter().cloned()));
        let Entry { prompt, place, after, defaults } = entry;
        let whole = self.0.entry(name).or_default();
        if whole.place.is_empty() || whole.prompt.is_none() && prompt.is_some() {
            whole.place = place;
        }
        whole.prompt = whole.prompt.take().or(prompt);
        whole.after.extend(after);
        whole.defaults.extend(defaults);
    }
}

/// A line within an option's entry.
fn attribute(entry: &mut Entry, word: &str, rest: &str) {
    match word {
        "bool" | "tristate" | "string" | "int" | "hex" | "prompt" => {
            let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return };
            let Some((prompt, condition)) = rest[1..].split_once(quote) else { return };
            entry.prompt = Some(prompt.to_owned());
            entry.after.extend(names(condition));
        }
        "select" | "imply" => {
            let selected = rest.split_whitespace().next().unwrap_or_default();
            entry.after.extend(names(selected));
        }
        "default" | "def_bool" | "def_tristate" => entry.defaults.extend(names(rest)),
        _ => {}
    }
}

/// The text of help ends where a line is less indented than its first.
enum Help {
    None,
    Begins,
    Indented(usize),
}

impl Help {
    fn goes_on(&mut self, line: &str) -> bool {
        let width =
            line.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 8 } else { 1 }).sum();
        match self {
            Self::None => return false,
            _ if line.trim().is_empty() => return true,
            Self::Begins if width > 0 => *self = Self::Indented(width),
            Self::Indented(indent) if width >= *indent => {}
            _ => *self = Self::None,
        }
        !matches!(self, Self::None)
    }
}

/// Lines with their number, those that go on with a backslash as one.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            whole.push_str(lines.next().map_or("", |(_, line)| line));
        }
        Some((number + 1, whole))
    })
}

/// The options that an expression names.
fn names(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()))
        .filter(|name| name.bytes().any(|b| b.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
menu \"Tools\"
\tdepends on TOP
config LEAF
\tbool \"a leaf\" if EXPERT
\tdepends on TRUNK && \\
\t\t!STONE
\tselect CRC32 if NET
\thelp
\t  depends on NOTHING

\t  select NOTHING
\tdefault y if OTHER
if 64BIT
config TRUNK
\ttristate
\tprompt \"the trunk\"
endif
endmenu
config DERIVED
\tdef_bool y
\tdepends on LEAF
config FOLLOWS
\tdef_bool DERIVED
config ABOVE
\tint 'how many'
\tdepends on FOLLOWS
config LEAF
\tdefault n
";

    fn kconfig() -> Kconfig {
        Kconfig::of_text("lib/Kconfig", TEXT)
    }

    #[test]
    fn prompts_places_and_what_stands_before() {
        let kconfig = kconfig();
        assert_eq!(kconfig.prompt("LEAF"), Some("a leaf"));
        assert_eq!(kconfig.place("LEAF"), Some("lib/Kconfig:3"));
        assert_eq!(kconfig.prompt("TRUNK"), Some("the trunk"));
        assert_eq!(kconfig.prompt("ABOVE"), Some("how many"));
        assert_eq!(kconfig.prompt("DERIVED"), None);
        assert_eq!(kconfig.prompt("NOWHERE"), None);
        let after: Vec<&str> = kconfig.0["LEAF"].after.iter().map(String::as_str).collect();
        assert_eq!(after, ["CRC32", "EXPERT", "STONE", "TOP", "TRUNK"]);
        assert_eq!(kconfig.0["TRUNK"].after.iter().collect::<Vec<_>>(), ["64BIT", "TOP"]);
    }

    #[test]
    fn what_is_depended_on_comes_first_also_by_way_of_what_is_not_asked_about() {
        let names = BTreeSet::from(["ABOVE", "CRC32", "LEAF", "TRUNK", "UNKNOWN"]);
        assert_eq!(kconfig().in_order(&names), ["CRC32", "TRUNK", "LEAF", "ABOVE", "UNKNOWN"]);
    }

    #[test]
    fn a_circle_is_left_where_it_was_entered() {
        let text = "config A\n\tbool \"a\"\n\tdepends on B\nconfig B\n\tbool \"b\"\n\tselect A\n";
        let kconfig = Kconfig::of_text("K", text);
        assert_eq!(kconfig.in_order(&BTreeSet::from(["A", "B"])), ["B", "A"]);
    }
}
