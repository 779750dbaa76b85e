//! The catalogs of stress programs, `guests/stress/programs.yaml`, and of what can run beside them,
//! `guests/interference/programs.yaml`: the one source for the checker of scenarios,
//! the reference, and the C programs themselves (through [`header`]).

use super::ArgValue;
use super::problem::{Problem, Problems, quote, suggest};
use super::read::{Absent, At, Field, Group, ListOfGroups, Section};
use super::shape::{
    Describe, FLAG, Letters, ListOf, Mismatch, Number, OneOf, Shape, Text, parse_size, print_size,
};
use super::tree::{self, Content, Key, Node};
use crate::assets;

/// Options that every program has (docs/guest-protocol.md, "Stress programs").
const COMMON: [&str; 7] = ["seed", "worker", "for", "ops", "dir", "secure", "help"];

/// What farm brings that a scenario can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// In the order of the file.
    programs: Vec<Program>,
    interference: Vec<Program>,
    modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    pub purpose: String,
    /// The kernel functions it is after, for people.
    pub kernel: String,
    /// Without an emulated ultravisor it has nothing to do.
    pub secure_only: bool,
    /// It reads what is in the machine's share, and has no files of its own.
    pub share_only: bool,
    /// Of the kernel's, which its scenario has to name.
    pub modules: Vec<String>,
    pub args: Vec<Arg>,
}

/// One option of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub kind: ArgKind,
    pub help: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgKind {
    Choice {
        choices: Vec<String>,
        default: String,
    },
    Number {
        min: u64,
        max: u64,
        default: u64,
    },
    /// In bytes.
    Size {
        min: u64,
        max: u64,
        default: u64,
    },
    /// Off unless given.
    Flag,
}

impl Describe for Arg {
    fn describe(&self) -> String {
        match &self.kind {
            ArgKind::Choice { choices, .. } => match choices.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => choices.concat(),
            },
            ArgKind::Number { min, max, .. } => Number { min: *min, max: *max }.describe(),
            ArgKind::Size { min, max, .. } => {
                format!("a size from {} to {}", print_size(*min), print_size(*max))
            }
            ArgKind::Flag => "true or false".to_owned(),
        }
    }
}

impl Shape for Arg {
    type Value = ArgValue;
    fn parse(&self, text: &str) -> Result<ArgValue, Mismatch> {
        match &self.kind {
            ArgKind::Choice { choices, .. } if choices.iter().any(|choice| choice == text) => {
                Ok(ArgValue::Text(text.to_owned()))
            }
            ArgKind::Choice { choices, .. } => {
                Err(Mismatch { hint: suggest(text, choices.iter().map(String::as_str)) })
            }
            ArgKind::Number { min, max, .. } => {
                let number = Number { min: *min, max: *max }.parse(text)?;
                Ok(ArgValue::Text(number.to_string()))
            }
            ArgKind::Size { min, max, .. } => {
                let bytes = parse_size(text).filter(|bytes| (min..=max).contains(&bytes));
                bytes.map(|bytes| ArgValue::Text(bytes.to_string())).ok_or(Mismatch::PLAIN)
            }
            ArgKind::Flag => match text {
                "true" => Ok(ArgValue::Flag(true)),
                "false" => Ok(ArgValue::Flag(false)),
                _ => Err(Mismatch::PLAIN),
            },
        }
    }
}

impl Arg {
    /// The default as a person writes it.
    pub fn default_text(&self) -> String {
        match &self.kind {
            ArgKind::Choice { default, .. } => default.clone(),
            ArgKind::Number { default, .. } => default.to_string(),
            ArgKind::Size { default, .. } => print_size(*default),
            ArgKind::Flag => "false".to_owned(),
        }
    }
}

impl Program {
    /// The option that a key of a scenario names; reports that there is none.
    pub(crate) fn option(&self, key: &Key, problems: &Problems) -> Option<&Arg> {
        let found = self.args.iter().find(|arg| arg.name == key.name);
        if found.is_none() {
            let message = format!("unknown option {} of program '{}'", quote(&key.name), self.name);
            let hint = if COMMON.contains(&key.name.as_str()) {
                Some("farm sets this one, from the fields of the step".to_owned())
            } else {
                suggest(&key.name, self.args.iter().map(|arg| arg.name.as_str()))
            };
            problems.report(key.at, message, hint);
        }
        found
    }
}

impl Catalog {
    /// The programs that farm brings.
    pub fn embedded() -> Result<Self, Vec<Problem>> {
        let (stress, interference) = (assets::PROGRAMS_YAML, assets::INTERFERENCE_YAML);
        Self::parse(stress.0, stress.1)?.with_interference(interference.0, interference.1)
    }

    /// Parses the text of `guests/stress/programs.yaml`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Ok(Self { programs: parse(file, text)?, interference: Vec::new(), modules: Vec::new() })
    }

    /// The same with kernel modules of these names.
    pub fn with_modules(self, modules: Vec<String>) -> Self {
        Self { modules, ..self }
    }

    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// The same with the programs of `guests/interference/programs.yaml`, parsed from its text.
    pub fn with_interference(self, file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Ok(Self { interference: parse(file, text)?, ..self })
    }

    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// What can run beside a step.
    pub fn interference(&self) -> &[Program] {
        &self.interference
    }
}

fn parse(file: &str, text: &str) -> Result<Vec<Program>, Vec<Problem>> {
    let problems = Problems::new(file);
    let root = tree::parse(text, &problems);
    let programs = root.as_ref().map(|root| read(root, &problems)).unwrap_or_default();
    if problems.is_empty() { Ok(programs) } else { Err(problems.into_sorted()) }
}

static PROGRAM: Section = Section {
    title: "a program",
    doc: "Each entry of the catalog.",
    fields: &[&PROGRAM_NAME, &PURPOSE, &KERNEL, &SECURE_ONLY, &SHARE_ONLY, &MODULES, &ARGS],
};
static ARG: Section = Section {
    title: "an option",
    doc: "Each entry of `args`.",
    fields: &[&ARG_NAME, &KIND, &CHOICES, &DEFAULT, &MIN, &MAX, &HELP],
};

const NAME: Text = Text { letters: Letters::Option, longest: 32 };
const LINE: Text = Text { letters: Letters::Line, longest: 200 };
const WORD: Text = Text { letters: Letters::Word, longest: 32 };

static PROGRAM_NAME: Field<Text> =
    Field { name: "name", shape: NAME, absent: Absent::Required, doc: "What scenarios call it." };
static PURPOSE: Field<Text> =
    Field { name: "purpose", shape: LINE, absent: Absent::Required, doc: "What it does." };
static KERNEL: Field<Text> =
    Field { name: "kernel", shape: LINE, absent: Absent::Required, doc: "The kernel functions it is after." };
static SECURE_ONLY: Field<OneOf<bool>> = Field {
    name: "secure-only",
    shape: FLAG,
    absent: Absent::Default("false"),
    doc: "Whether it has nothing to do without `secure: true`.",
};
static SHARE_ONLY: Field<OneOf<bool>> = Field {
    name: "share-only",
    shape: FLAG,
    absent: Absent::Default("false"),
    doc: "Whether it reads the machine's share, and nothing else.",
};
static MODULES: Field<ListOf<Text>> = Field {
    name: "modules",
    shape: ListOf { of: WORD, min: 1, max: 8 },
    absent: Absent::Means("none"),
    doc: "Kernel modules that its scenario has to name.",
};
static ARGS: Field<ListOfGroups> = Field {
    name: "args",
    shape: ListOfGroups { of: "an option", min: 0, max: 32 },
    absent: Absent::Means("none"),
    doc: "Its own options.",
};
static ARG_NAME: Field<Text> =
    Field { name: "name", shape: NAME, absent: Absent::Required, doc: "Without the dashes." };
static KIND: Field<OneOf<Kind>> = Field {
    name: "kind",
    shape: OneOf {
        words: &[
            ("choice", Kind::Choice),
            ("number", Kind::Number),
            ("size", Kind::Size),
            ("flag", Kind::Flag),
        ],
    },
    absent: Absent::Required,
    doc: "What values it takes.",
};
static CHOICES: Field<ListOf<Text>> = Field {
    name: "choices",
    shape: ListOf { of: NAME, min: 1, max: 32 },
    absent: Absent::Means("the kind is none"),
    doc: "The values of a choice.",
};
static DEFAULT: Field<Text> = Field {
    name: "default",
    shape: WORD,
    absent: Absent::Means("a flag is off"),
    doc: "The value if not given.",
};
static MIN: Field<Text> = Field {
    name: "min",
    shape: WORD,
    absent: Absent::Means("the kind has none"),
    doc: "The least number or size.",
};
static MAX: Field<Text> =
    Field { name: "max", shape: WORD, absent: Absent::Means("the kind has none"), doc: "The greatest." };
static HELP: Field<Text> =
    Field { name: "help", shape: LINE, absent: Absent::Required, doc: "One line for people." };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Choice,
    Number,
    Size,
    Flag,
}

fn read(root: &Node, problems: &Problems) -> Vec<Program> {
    let Content::List(nodes) = &root.content else {
        problems.report(root.at, "expected a list of programs", None);
        return Vec::new();
    };
    let programs: Vec<At<Program>> = nodes.iter().filter_map(|node| read_program(node, problems)).collect();
    unique(programs, |program| &program.name, problems)
}

fn read_program(node: &Node, problems: &Problems) -> Option<At<Program>> {
    let group = Group::open(node, &PROGRAM, problems)?;
    let (name, purpose) = (group.scalar(&PROGRAM_NAME), group.scalar(&PURPOSE));
    let kernel = group.scalar(&KERNEL);
    let (secure_only, share_only) = (group.scalar(&SECURE_ONLY), group.scalar(&SHARE_ONLY));
    let modules = group.list(&MODULES).into_iter().map(|module| module.value).collect();
    let args = group.groups(&ARGS).iter().filter_map(|node| read_arg(node, problems)).collect();
    let args = unique(args, |arg: &Arg| &arg.name, problems);
    let At { at, value: name } = name?;
    let (purpose, kernel) = (purpose?.value, kernel?.value);
    let (secure_only, share_only) = (secure_only?.value, share_only?.value);
    Some(At { at, value: Program { name, purpose, kernel, secure_only, share_only, modules, args } })
}

fn read_arg(node: &Node, problems: &Problems) -> Option<At<Arg>> {
    let group = Group::open(node, &ARG, problems)?;
    let name = group.scalar(&ARG_NAME);
    let help = group.scalar(&HELP);
    let kind = group.scalar(&KIND).and_then(|kind| read_kind(&group, kind.value, problems));
    let At { at, value: name } = name?;
    if COMMON.contains(&name.as_str()) {
        problems.report(at, format!("every program has an option '{name}'"), None);
    }
    Some(At { at, value: Arg { name, kind: kind?, help: help?.value } })
}

fn read_kind(group: &Group<'_>, kind: Kind, problems: &Problems) -> Option<ArgKind> {
    let fits: &[&str] = match kind {
        Kind::Choice => &["choices", "default"],
        Kind::Number | Kind::Size => &["default", "min", "max"],
        Kind::Flag => &[],
    };
    for name in ["choices", "default", "min", "max"] {
        match (group.node(name), fits.contains(&name)) {
            (Some(node), false) => {
                problems.report(node.at, format!("this kind of option has no '{name}'"), None)
            }
            (None, true) => problems.report(group.at, format!("the field '{name}' is missing"), None),
            (Some(_), true) | (None, false) => {}
        }
    }
    let bound = |field: &Field<Text>| {
        let text = group.scalar(field)?;
        let read = if kind == Kind::Size { parse_size(&text.value) } else { text.value.parse().ok() };
        if read.is_none() {
            problems.report(text.at, format!("{}: {} is no number", field.name, quote(&text.value)), None);
        }
        read
    };
    let kind = match kind {
        Kind::Flag => ArgKind::Flag,
        Kind::Choice => {
            let choices = group.list(&CHOICES).into_iter().map(|choice| choice.value).collect();
            ArgKind::Choice { choices, default: group.scalar(&DEFAULT)?.value }
        }
        Kind::Number => ArgKind::Number { min: bound(&MIN)?, max: bound(&MAX)?, default: bound(&DEFAULT)? },
        Kind::Size => ArgKind::Size { min: bound(&MIN)?, max: bound(&MAX)?, default: bound(&DEFAULT)? },
    };
    let fits = match &kind {
        ArgKind::Choice { choices, default } => choices.contains(default),
        ArgKind::Number { min, max, default } | ArgKind::Size { min, max, default } => {
            (min..=max).contains(&default)
        }
        ArgKind::Flag => true,
    };
    if !fits {
        problems.report(group.at, "the default is not among the values", None);
    }
    Some(kind)
}

fn unique<T>(items: Vec<At<T>>, name: impl Fn(&T) -> &String, problems: &Problems) -> Vec<T> {
    for (index, item) in items.iter().enumerate() {
        if items[..index].iter().any(|earlier| name(&earlier.value) == name(&item.value)) {
            problems.report(item.at, format!("{} is listed twice", quote(name(&item.value))), None);
        }
    }
    items.into_iter().map(|item| item.value).collect()
}

/// The C header `NAME.args.h` of a program. The format is that of `struct stress_arg` in
/// `guests/stress/common.h`.
pub fn header(program: &Program) -> String {
    let mut text = format!(
        "/* Made from programs.yaml. */\n\
         static const char stress_purpose[] = {};\n\
         static const char stress_kernel[] = {};\n\
         static const struct stress_arg stress_args[] = {{\n",
        c_string(&program.purpose),
        c_string(&program.kernel)
    );
    for arg in &program.args {
        let (kind, default, choices, min, max) = match &arg.kind {
            ArgKind::Choice { choices, default } => {
                ("STRESS_CHOICE", default.clone(), choices.join("|"), 0, 0)
            }
            ArgKind::Number { min, max, .. } => {
                ("STRESS_NUMBER", arg.default_text(), String::new(), *min, *max)
            }
            ArgKind::Size { min, max, .. } => ("STRESS_SIZE", arg.default_text(), String::new(), *min, *max),
            ArgKind::Flag => ("STRESS_FLAG", String::new(), String::new(), 0, 0),
        };
        let strings = [&arg.name, &default, &choices, &arg.help].map(|text| c_string(text));
        let [name, default, choices, help] = strings;
        text += &format!("\t{{ {name}, {kind}, {default}, {choices}, {min}, {max}, {help} }},\n");
    }
    text += "};\nenum {\n";
    for arg in &program.args {
        text += &format!("\tARG_{},\n", arg.name.to_uppercase().replace('-', "_"));
    }
    // An enum without members would not compile.
    text += "\tARG_COUNT\n};\n";
    text
}

/// A C string literal. Three octal digits end an escape for sure; a hexadecimal one would go on, and `?` could
/// begin a trigraph.
fn c_string(text: &str) -> String {
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\"\\?".contains(&byte);
    let byte = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("\\{byte:03o}") };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(text: &str) -> Catalog {
        Catalog::parse("programs.yaml", text).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        Catalog::parse("p.yaml", text).unwrap_err().iter().map(Problem::to_string).collect()
    }

    const ALL_KINDS: &str = r#"
- name: splice
  purpose: move "data" \ how??/
  kernel: do_splice
  args:
    - {name: mode, kind: choice, choices: [all, file-file], default: all, help: the paths}
    - {name: max-length, kind: size, default: 64K, min: 1, max: 16M, help: most bytes}
    - {name: tries, kind: number, default: 3, min: 1, max: 9, help: tries}
    - {name: direct, kind: flag, help: O_DIRECT}
- {name: bare, purpose: nothing, kernel: none}
"#;

    #[test]
    fn values_are_checked_by_kind() {
        let catalog = catalog(ALL_KINDS);
        let program = catalog.program("splice").unwrap();
        let text = |text: &str| Ok(ArgValue::Text(text.to_owned()));
        let hint = |hint: Option<&str>| Err(Mismatch { hint: hint.map(str::to_owned) });
        for (arg, value, want) in [
            ("mode", "file-file", text("file-file")),
            ("mode", "file-fiel", hint(Some("did you mean 'file-file'?"))),
            ("mode", "", hint(Some("one of: all, file-file"))),
            ("max-length", "4K", text("4096")),
            ("max-length", "16M", text("16777216")),
            ("max-length", "17M", hint(None)),
            ("max-length", "0", hint(None)),
            ("tries", "9", text("9")),
            ("tries", "09", text("9")),
            ("tries", "10", hint(None)),
            ("direct", "true", Ok(ArgValue::Flag(true))),
            ("direct", "false", Ok(ArgValue::Flag(false))),
            ("direct", "yes", hint(None)),
        ] {
            let arg = program.args.iter().find(|known| known.name == arg).unwrap();
            assert_eq!(arg.parse(value), want, "{}={value}", arg.name);
        }
    }

    #[test]
    fn headers_have_the_agreed_form() {
        let catalog = catalog(ALL_KINDS);
        insta::assert_snapshot!(header(catalog.program("splice").unwrap()));
    }

    /// Both headers, that of a program without options too, pass a strict compiler.
    #[test]
    fn headers_compile() {
        let catalog = catalog(ALL_KINDS);
        for program in catalog.programs() {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("header.c");
            let text = format!(
                "#include <stddef.h>\n\
                 enum stress_kind {{ STRESS_CHOICE, STRESS_NUMBER, STRESS_SIZE, STRESS_FLAG }};\n\
                 struct stress_arg {{ const char *name; enum stress_kind kind; const char *fallback;\n\
                 const char *choices; unsigned long long min, max; const char *help; }};\n\
                 {}\n\
                 _Static_assert(sizeof(stress_args) / sizeof(struct stress_arg) == ARG_COUNT, \"count\");\n\
                 const void *used[] = {{ stress_purpose, stress_kernel, stress_args }};\n",
                header(program)
            );
            std::fs::write(&file, text).unwrap();
            let output = std::process::Command::new("s390x-linux-gnu-gcc")
                .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
                .arg(&file)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn strings_survive_c() {
        assert_eq!(c_string("a \"b\" \\ ?é\n7"), r#""a \042b\042 \134 \077\303\251\0127""#);
    }

    #[test]
    fn a_wrong_catalog_is_refused_with_every_problem() {
        let text = "
- name: a
  purpose: p
  kernel: k
  args:
    - {name: seed, kind: number, default: 1, min: 1, max: 2, help: h}
    - {name: b, kind: choice, choices: [x], default: y, help: h}
    - {name: b, kind: number, default: 9, min: 1, max: 2, help: h}
    - {name: c, kind: flag, default: true, help: h}
    - {name: d, kind: size, default: 1, min: 1, help: h}
    - {name: e, kind: number, default: x, min: 1, max: 2, help: h}
    - {name: f_g, kind: flag, help: h}
- {name: a, purpose: p, kernel: k, arg: []}
";
        insta::assert_snapshot!(problems(text).join("\n"));
        insta::assert_snapshot!(problems("name: a").join("\n"));
    }
}
