//! Takes values out of the tree by the field tables, and reports whatever is not as the table says.
//!
//! *Invariant*: a reader that returns nothing where something was due has reported a problem.

use super::problem::{Mark, Problems, quote, suggest};
use super::shape::{Describe, ListOf, Shape};
use super::tree::{Content, Key, Node};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) at: Mark,
    pub(crate) value: T,
}

/// What it means that a field is not given.
pub(crate) enum Absent {
    Required,
    /// Read as if this text had been written.
    Default(&'static str),
    Means(&'static str),
}

/// One field of a group: the checker, its messages and the reference are all made from this.
pub(crate) struct Field<S> {
    pub(crate) name: &'static str,
    pub(crate) shape: S,
    pub(crate) absent: Absent,
    pub(crate) doc: &'static str,
}

/// A field whatever its shape, for the reference.
pub(crate) trait Entry: Sync {
    fn name(&self) -> &'static str;
    fn absent(&self) -> &Absent;
    fn doc(&self) -> &'static str;
    fn shape(&self) -> String;
}

impl<S: Describe + Sync> Entry for Field<S> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn absent(&self) -> &Absent {
        &self.absent
    }
    fn doc(&self) -> &'static str {
        self.doc
    }
    fn shape(&self) -> String {
        self.shape.describe()
    }
}

/// A map of the file with all the fields it may have.
pub(crate) struct Section {
    /// As messages and headings call it: "a step that runs a stress program".
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) fields: &'static [&'static dyn Entry],
}

impl Section {
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name())
    }
}

/// The shape of a field that is a map.
pub(crate) struct GroupOf(pub(crate) &'static Section);

impl Describe for GroupOf {
    fn describe(&self) -> String {
        format!("a map ({})", self.0.title)
    }
}

/// The shape of a field that is a list of maps.
pub(crate) struct ListOfGroups {
    /// The maps' title.
    pub(crate) of: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Describe for ListOfGroups {
    fn describe(&self) -> String {
        format!("a list of {} to {}, each {}", self.min, self.max, self.of)
    }
}

/// The shape of a map whose keys the scenario's author chose.
pub(crate) struct FreeMap(pub(crate) &'static str);

impl Describe for FreeMap {
    fn describe(&self) -> String {
        self.0.to_owned()
    }
}

/// A map of the file while it is read.
#[derive(Clone, Copy)]
pub(crate) struct Group<'t> {
    pub(crate) at: Mark,
    entries: &'t [(Key, Node)],
    problems: &'t Problems,
}

impl<'t> Group<'t> {
    /// Reports unknown fields, and that the node is no map.
    pub(crate) fn open(node: &'t Node, section: &Section, problems: &'t Problems) -> Option<Self> {
        let entries = map(node, section.title, problems)?;
        for (key, _) in entries {
            if !section.names().any(|name| name == key.name) {
                let message = format!("unknown field {} in {}", quote(&key.name), section.title);
                // No field has a blank in its name, but the rest of an unquoted text often does.
                let hint = match key.name.contains(' ') {
                    true => Some("a text with ',' or ': ' needs quotes".to_owned()),
                    false => suggest(&key.name, section.names()),
                };
                problems.report(key.at, message, hint);
            }
        }
        Some(Self { at: node.at, entries, problems })
    }

    /// A group that is not in the file: every field has its default.
    pub(crate) fn absent(at: Mark, problems: &'t Problems) -> Self {
        Self { at, entries: &[], problems }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'t Node> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// The value, or the default, which stands where the group stands.
    pub(crate) fn scalar<S: Shape>(&self, field: &Field<S>) -> Option<At<S::Value>> {
        let Some(node) = self.node(field.name) else {
            return match field.absent {
                Absent::Default(text) => parse(self.at, text, field.name, &field.shape, self.problems),
                Absent::Required => self.missing(field.name),
                Absent::Means(_) => None,
            };
        };
        value(node, field.name, &field.shape, self.problems)
    }

    /// The values of a list; too short and too long ones are reported.
    pub(crate) fn list<S: Shape>(&self, field: &Field<ListOf<S>>) -> Vec<At<S::Value>> {
        let ListOf { of, min, max } = &field.shape;
        let items = self.items(field.name, &field.absent, &field.shape, *min..=*max);
        items.iter().filter_map(|node| value(node, field.name, of, self.problems)).collect()
    }

    /// The nodes of a list of maps.
    pub(crate) fn groups(&self, field: &Field<ListOfGroups>) -> &'t [Node] {
        let ListOfGroups { min, max, .. } = field.shape;
        self.items(field.name, &field.absent, &field.shape, min..=max)
    }

    pub(crate) fn group(&self, field: &Field<GroupOf>) -> Self {
        let opened = self.node(field.name).and_then(|node| Self::open(node, field.shape.0, self.problems));
        opened.unwrap_or_else(|| Self::absent(self.at, self.problems))
    }

    /// The entries of a map with free keys.
    pub(crate) fn free(&self, field: &Field<FreeMap>) -> &'t [(Key, Node)] {
        let read = |node| map(node, field.name, self.problems);
        self.node(field.name).and_then(read).unwrap_or_default()
    }

    fn items(
        &self,
        name: &str,
        absent: &Absent,
        shape: &dyn Describe,
        length: std::ops::RangeInclusive<usize>,
    ) -> &'t [Node] {
        let Some(node) = self.node(name) else {
            if matches!(absent, Absent::Required) {
                self.missing::<()>(name);
            }
            return &[];
        };
        let items = match &node.content {
            Content::List(items) => items,
            Content::Refused => return &[],
            other => {
                self.problems.report(node.at, expected(name, shape, found(other)), None);
                return &[];
            }
        };
        if !length.contains(&items.len()) {
            let (min, max, found) = (length.start(), length.end(), items.len());
            self.problems.report(
                node.at,
                format!("{name}: expected {min} to {max} entries, found {found}"),
                None,
            );
        }
        // A list of a million entries is one problem, not a million.
        &items[..items.len().min(*length.end())]
    }

    fn missing<T>(&self, name: &str) -> Option<T> {
        self.problems.report(self.at, format!("the field '{name}' is missing"), None);
        None
    }
}

/// The value of a scalar; reports that the node is none, or not of the shape.
pub(crate) fn value<S: Shape>(
    node: &Node,
    name: &str,
    shape: &S,
    problems: &Problems,
) -> Option<At<S::Value>> {
    match &node.content {
        Content::Scalar(text) => parse(node.at, text, name, shape, problems),
        Content::Refused => None,
        other => {
            let hint = matches!(other, Content::Nothing).then(|| "a text 'null' needs quotes".to_owned());
            problems.report(node.at, expected(name, shape, found(other)), hint);
            None
        }
    }
}

fn parse<S: Shape>(at: Mark, text: &str, name: &str, shape: &S, problems: &Problems) -> Option<At<S::Value>> {
    match shape.parse(text) {
        Ok(value) => Some(At { at, value }),
        Err(mismatch) => {
            problems.report(at, expected(name, shape, &quote(text)), mismatch.hint);
            None
        }
    }
}

/// The entries of a map; reports that the node is none.
pub(crate) fn map<'t>(node: &'t Node, name: &str, problems: &Problems) -> Option<&'t [(Key, Node)]> {
    match &node.content {
        Content::Map(entries) => Some(entries),
        Content::Refused => None,
        other => {
            problems.report(node.at, format!("{name}: expected a map, found {}", found(other)), None);
            None
        }
    }
}

/// The form of every mismatch. `found` is a quoted value or the kind of node.
fn expected(what: &str, shape: &dyn Describe, found: &str) -> String {
    format!("{what}: expected {}, found {found}", shape.describe())
}

fn found(content: &Content) -> &'static str {
    match content {
        Content::Scalar(_) => "a single value",
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
        Content::Nothing | Content::Refused => "no value",
    }
}
