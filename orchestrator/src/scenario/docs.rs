//! Renders `docs/scenario.md` from the tables that the checker reads by.

use super::emulation::UVSIM;
use super::fields::{
    BESIDE, DISK, EXEC_STEP, EXPECT, KNOWN, MACHINE, MATRIX, SCENARIO, STRESS_STEP, TOUCH, WRITE_STEP,
};
use super::programs::{Catalog, Program};
use super::read::{Absent, Section};
use super::shape::Describe;

/// A scenario for the reader to start from; the tests check it.
const EXAMPLE: &str = include_str!("../../../scenarios/smoke.yaml");

const HEAD: &str = "\
# Scenarios

<!-- Made by `cargo xtask docs` from orchestrator/src/scenario/fields.rs and guests/{stress,interference}/programs.yaml. -->

A scenario is one YAML file: what to stress, on what machine, and what to expect. `farm run NAME` runs one
of those in `scenarios/`, or, where NAME is a folder there, all scenarios in it; `farm run ./mine.yaml` runs one of your
own. `farm scenario check FILE` reports every problem of a file with line and column, `farm scenario show NAME` prints it,
and with `--json` what farm has understood.
";

const VALUES: &str = "\
## Values

| kind | how it is written |
|---|---|
| time | with units: `50us`, `500ms`, `3s`, `2h 5m` |
| size | with `K`, `M` or `G`, which are powers of 1,024 |
| condition | `kernel` with `<`, `<=`, `==`, `!=`, `>=` or `>` and a release; `protection` with `==` or `!=` and `none`, `emulated` or `hardware`; several joined by `and` |

Blanks stand around the sign of a condition: `kernel >= 6.5 and protection == emulated`. Releases are compared
number by number, as many as the condition has: `kernel == 6.1` holds on every 6.1.x, `kernel > 6.1` on none of
them. What follows the numbers (`-rc3`, `+deb13-s390x`) does not count.

Anchors, aliases and tags of YAML are refused.
";

const CELLS: &str = "\
## Cells and seeds

A matrix makes one cell of each combination, for each kernel. A cell's id is a hash of all that decides what the
guest runs: the steps with their arguments, limits and the content of `exec` files, the names of modules, the machine,
the kernel, image, protection, the knobs of `uvsim`, schedule, QEMU's version and the seed. Comments, the order of keys, `purpose`, `hunts`, `expect` and
`known` are not in it: a cell keeps its history when only the judgement changes.

Seeds of cells are those of `matrix.seeds`, or 1; `farm run --seed N` sets one. Each step draws its own seed
from the cell's, and worker N adds N.
";

/// The whole page.
pub fn reference(catalog: &Catalog) -> String {
    let mut page = format!("{HEAD}\n```yaml\n{EXAMPLE}```\n\n{VALUES}");
    let sections = [
        ("The file", &SCENARIO),
        ("`uvsim`", &UVSIM),
        ("`machine`", &MACHINE),
        ("`machine.disks`", &DISK),
        ("`steps`: `stress`", &STRESS_STEP),
        ("`steps`: `exec`", &EXEC_STEP),
        ("`steps`: `write`", &WRITE_STEP),
        ("`beside` of a step", &BESIDE),
        ("`touches` of a step", &TOUCH),
        ("`expect`", &EXPECT),
        ("`known`", &KNOWN),
        ("`matrix`", &MATRIX),
    ];
    for (heading, section) in sections {
        page += &render_section(heading, section);
    }
    page += &format!("\n{CELLS}\n## Stress programs\n");
    for program in catalog.programs() {
        page += &render_program(program);
    }
    page += "\n## Interference\n\nPrograms for `beside`.\n";
    for program in catalog.interference() {
        page += &render_program(program);
    }
    page
}

fn render_section(heading: &str, section: &Section) -> String {
    let mut text = format!("\n## {heading}\n\n{}\n\n", section.doc);
    text += "| field | value | if not given | meaning |\n|---|---|---|---|\n";
    for field in section.fields {
        let absent = match field.absent() {
            Absent::Required => "must be given".to_owned(),
            Absent::Default(value) => format!("`{value}`"),
            Absent::Means(meaning) => (*meaning).to_owned(),
        };
        row(&mut text, [&format!("`{}`", field.name()), &field.shape(), &absent, field.doc()]);
    }
    text
}

fn render_program(program: &Program) -> String {
    let mut text =
        format!("\n### {}\n\n{}. Kernel: {}.\n\n", program.name, sentence(&program.purpose), program.kernel);
    if program.secure_only {
        text += "Only with `secure: true`.\n\n";
    }
    if program.share_only {
        text += "Only with `share: true` of the machine, and without `dir`.\n\n";
    }
    if !program.modules.is_empty() {
        text += &format!("Only with `modules: [{}]`.\n\n", program.modules.join(", "));
    }
    if program.args.is_empty() {
        return text + "No options of its own.\n";
    }
    text += "| option | value | if not given | meaning |\n|---|---|---|---|\n";
    for arg in &program.args {
        let (name, default) = (format!("`{}`", arg.name), format!("`{}`", arg.default_text()));
        row(&mut text, [&name, &arg.describe(), &default, &sentence(&arg.help)]);
    }
    text
}

fn row(text: &mut String, cells: [&str; 4]) {
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    text.push_str(&format!("| {} |\n", cells.join(" | ")));
}

/// With a capital letter first.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::fields::{
        LIMIT_BEYOND_FOR, LIMIT_OTHERWISE, LONGEST_COMMAND_LINE, MOST_CELLS, machine, step,
    };
    use crate::scenario::read::Entry;
    use crate::scenario::shape::print_time;

    /// Numbers that stand in prose and not in a shape.
    #[test]
    fn prose_names_the_numbers_that_hold() {
        let absent = |field: &dyn Entry| match field.absent() {
            Absent::Means(meaning) => (*meaning).to_owned(),
            Absent::Required | Absent::Default(_) => String::new(),
        };
        let (beyond, otherwise) = (print_time(LIMIT_BEYOND_FOR), print_time(LIMIT_OTHERWISE));
        assert_eq!(
            absent(&step::STRESS_LIMIT),
            format!("`for` and {beyond} more, or {otherwise} with `ops`")
        );
        assert_eq!(absent(&step::LIMIT), otherwise);
        assert!(MATRIX.doc.contains(&format!("at most {MOST_CELLS} ")));
        assert!(machine::KERNEL_ARGS.doc.contains(&format!("{LONGEST_COMMAND_LINE} bytes")));
    }

    #[test]
    fn a_cell_of_a_table_keeps_its_bars() {
        let mut text = String::new();
        row(&mut text, ["a|b", "c", "d", "e"]);
        assert_eq!(text, "| a\\|b | c | d | e |\n");
    }
}
