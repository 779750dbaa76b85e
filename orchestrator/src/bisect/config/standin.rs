//! A stand-in for a tree's Kconfig, for tests: small, and with the rules that make a search hard.

use std::collections::BTreeMap;

use super::{Difference, Request};
use crate::kernel::{Kconfig, Options};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Tristate,
    Int,
}

/// An option, named `S` and its place.
#[derive(Debug, Clone)]
pub(super) struct Symbol {
    pub(super) kind: Kind,
    pub(super) prompt: bool,
    /// Symbols before it, and whether each must be off.
    pub(super) depends: Vec<(usize, bool)>,
    /// Symbols that depend on nothing, and that nothing depends on.
    pub(super) selects: Vec<usize>,
    /// A choice, of which one member is on.
    pub(super) choice: Option<usize>,
}

impl Symbol {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, prompt: true, depends: Vec::new(), selects: Vec::new(), choice: None }
    }

    pub(super) fn on(mut self, depends: &[usize]) -> Self {
        self.depends = depends.iter().map(|one| (*one, false)).collect();
        self
    }
}

#[derive(Debug)]
pub(super) struct StandIn(pub(super) Vec<Symbol>);

impl StandIn {
    /// What the real one would be told.
    pub(super) fn kconfig(&self) -> Kconfig {
        let mut text = String::new();
        for (number, symbol) in self.0.iter().enumerate() {
            let kind = match symbol.kind {
                Kind::Bool => "bool",
                Kind::Tristate => "tristate",
                Kind::Int => "int",
            };
            let prompt = if symbol.prompt { format!(" \"{number}\"") } else { String::new() };
            text += &format!("config S{number:03}\n\t{kind}{prompt}\n");
            for (on, off) in &symbol.depends {
                text += &format!("\tdepends on {}S{on:03}\n", if *off { "!" } else { "" });
            }
            for selected in &symbol.selects {
                text += &format!("\tselect S{selected:03}\n");
            }
        }
        Kconfig::of_text("Kconfig", &text)
    }

    /// The least values that agree with what is asked for.
    pub(super) fn olddefconfig(&self, text: &str) -> Options {
        let mut asked: BTreeMap<usize, &str> = BTreeMap::new();
        let mut chosen: BTreeMap<usize, usize> = BTreeMap::new();
        for line in text.lines() {
            let Some((name, value)) = line.strip_prefix("CONFIG_S").and_then(|line| line.split_once('='))
            else {
                continue;
            };
            let Ok(number) = name.parse::<usize>() else { continue };
            asked.insert(number, value);
            if let (Some(choice), "y") = (self.0[number].choice, value) {
                chosen.insert(choice, number);
            }
        }
        let level = |value: &str| match value {
            "y" => 2,
            "m" => 1,
            _ => 0,
        };
        let mut values = vec![0; self.0.len()];
        let limit = |values: &[u8], symbol: &Symbol| {
            let one = |(on, off): &(usize, bool)| if *off { 2 - values[*on] } else { values[*on] };
            symbol.depends.iter().map(one).min().unwrap_or(2)
        };
        for _ in 0..self.0.len() {
            let before = values.clone();
            for (number, symbol) in self.0.iter().enumerate() {
                let limit = limit(&values, symbol);
                let first = || self.0.iter().position(|other| other.choice == symbol.choice);
                let wanted = match (symbol.choice, symbol.prompt) {
                    (Some(choice), _) => {
                        let on = chosen.get(&choice).copied().or_else(first) == Some(number);
                        if on { 2 } else { 0 }
                    }
                    (None, true) if symbol.kind == Kind::Int => 2,
                    (None, true) => asked.get(&number).map_or(0, |value| level(value)),
                    // What follows from its dependencies, or from being selected.
                    (None, false) if symbol.depends.is_empty() => 0,
                    (None, false) => 2,
                };
                let selectors =
                    self.0.iter().enumerate().filter(|(_, other)| other.selects.contains(&number));
                let selected = selectors.map(|(selector, _)| values[selector]).max().unwrap_or(0);
                let value = wanted.min(limit).max(selected);
                // What can be no module is built in, or is off if it depends on one.
                values[number] = match (symbol.kind, value) {
                    (Kind::Bool, 1) => 2,
                    (_, value) => value,
                };
            }
            if values == before {
                break;
            }
        }
        let mut settled = Options::default();
        for (number, symbol) in self.0.iter().enumerate() {
            let name = format!("S{number:03}");
            let visible = symbol.prompt && limit(&values, symbol) > 0;
            match (symbol.kind, values[number]) {
                (Kind::Int, 0) => {}
                (Kind::Int, _) => {
                    settled.set(&name, asked.get(&number).filter(|value| **value != "n").unwrap_or(&"1"))
                }
                (_, 2) => settled.set(&name, "y"),
                (_, 1) => settled.set(&name, "m"),
                (..) if visible => settled.set(&name, "n"),
                _ => {}
            }
        }
        settled
    }

    /// Of two configurations, as they are asked for.
    pub(super) fn difference(&self, good: &str, bad: &str) -> Difference {
        Difference::between(self.olddefconfig(good), &self.olddefconfig(bad), &self.kconfig())
    }

    pub(super) fn settle(&self, difference: &Difference, request: &Request) -> Options {
        self.olddefconfig(&difference.asked(request))
    }
}
