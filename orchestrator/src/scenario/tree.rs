//! YAML text → a tree that knows the line and column of every node.
//!
//! Scenarios use the plain part of YAML: maps, lists and scalars. Anchors, aliases, tags and second documents
//! are refused, which also keeps a small file from unfolding into a huge one. Scalars stay text: the field that
//! holds one says how to read it, so `no` can be a word and `1` an argument.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::problem::{Mark, Problems, printable, quote};

/// The largest file that is looked at. The largest sensible scenario is a hundredth of it.
pub(crate) const LARGEST_FILE: usize = 1 << 20;

/// Deeper than any field lies; the tree is built by recursion, so something must bound it.
const DEEPEST: usize = 16;

#[derive(Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) content: Content,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// Written as nothing, `~` or `null`.
    Nothing,
    /// Already reported; whoever meets it stays silent.
    Refused,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) at: Mark,
    pub(crate) name: String,
}

/// The root of the document, or none if the text is no YAML, which is then reported.
pub(crate) fn parse(text: &str, problems: &Problems) -> Option<Node> {
    if text.len() > LARGEST_FILE {
        let message = format!("the file has more than {LARGEST_FILE} bytes");
        problems.report(Mark::START, message, None);
        return None;
    }
    let mut builder = Builder { parser: Parser::new_from_str(text), problems };
    let mut root = None;
    loop {
        let (event, at) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::Nothing | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if root.is_some() => {
                problems.report(at, "a second YAML document", Some("one file holds one document".to_owned()));
                return root;
            }
            event => root = Some(builder.node(event, at, 0)?),
        }
    }
    if root.is_none() {
        problems.report(Mark::START, "the file is empty", None);
    }
    root
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    problems: &'a Problems,
}

impl<'a> Builder<'a> {
    /// The next event, or none after a syntax error, which is reported.
    fn next(&mut self) -> Option<(Event<'a>, Mark)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, mark(&span.start))),
            Err(error) => {
                let at = mark(error.marker());
                let tab = error.info().contains(" tab");
                let hint = tab.then(|| "indent with blanks, not with tabs".to_owned());
                self.problems.report(at, format!("not YAML: {}", printable(error.info())), hint);
                None
            }
        }
    }

    /// The node that `event` begins. None ends the parse; the reason is reported.
    fn node(&mut self, event: Event<'a>, at: Mark, depth: usize) -> Option<Node> {
        if depth > DEEPEST {
            self.problems.report(at, format!("nested more than {DEEPEST} levels deep"), None);
            return None;
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                let nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                if nothing { Content::Nothing } else { Content::Scalar(text.into_owned()) }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                self.map(depth)?
            }
            _ => {
                self.problems.report(at, "aliases are not supported", Some("write the value out".to_owned()));
                Content::Refused
            }
        };
        Some(Node { at, content })
    }

    fn refuse(&self, at: Mark, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problems.report(at, "anchors are not supported", Some("write the value out".to_owned()));
        }
        if tagged {
            self.problems.report(
                at,
                "tags are not supported",
                Some("leave out the word with '!'".to_owned()),
            );
        }
    }

    fn list(&mut self, depth: usize) -> Option<Content> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(Content::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Content> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Mark> = HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Some(Content::Map(entries)),
                (event, at) => self.node(event, at, depth + 1)?,
            };
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            let name = match key.content {
                Content::Scalar(name) => name,
                Content::Refused => continue,
                _ => {
                    self.problems.report(key.at, "a key must be a word", None);
                    continue;
                }
            };
            if let Some(first) = seen.get(&name) {
                let hint = format!("the first is on line {}", first.line);
                self.problems.report(key.at, format!("{} is given twice", quote(&name)), Some(hint));
                continue;
            }
            seen.insert(name.clone(), key.at);
            entries.push((Key { at: key.at, name }, value));
        }
    }
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}
