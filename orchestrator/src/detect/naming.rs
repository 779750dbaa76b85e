//! How a report is called: kind, title, the function to blame, and the fingerprint made of them.

use super::facts::Facts;
use super::hit::{Fingerprint, Kind, Reliability};
use super::machinery::{CHECKING, Machinery, can_be_blamed, culprit};
use super::rules::{Blame, CONSEQUENCES, FAULT, NULL_FAULT, PROTECTION, REFINED};
use super::symbol::{slug, source_name};
use super::uvsim;

pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) function: Option<String>,
}

impl Facts {
    pub(super) fn name(&self) -> Name {
        let (kind, words) = self.words();
        let function = self.function();
        // A panic's own words identify it; who called panic() often stands behind a wrong name, because the
        // call is the last instruction of its function and the return address lies in the next one.
        let (title, fingerprint) = match function.as_deref().filter(|_| kind != Kind::Panic) {
            None => {
                let starts = ["kernel panic: ", "BUG: ", "WARNING: ", "INFO: "];
                let key = starts.iter().find_map(|start| words.strip_prefix(start)).unwrap_or(&words);
                (words.clone(), Fingerprint::new(kind, &[&slug(key)]))
            }
            Some(function) => {
                let key = self.opening.key.as_deref().map(slug);
                let file = || self.opening.location.as_ref().map(|location| location.file.clone());
                let parts = [function.to_owned()].into_iter().chain(key.or_else(file));
                let parts: Vec<String> = parts.collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                (format!("{words} in {function}"), Fingerprint::new(kind, &parts))
            }
        };
        Name { kind, title, fingerprint, function }
    }

    /// Whether a panic with these words is only the end of this report.
    pub(super) fn leads_to(&self, panic: &str) -> bool {
        let kind = self.kind_and_title().0;
        CONSEQUENCES.iter().any(|(text, kinds)| panic.contains(text) && kinds.contains(&kind))
    }

    fn words(&self) -> (Kind, String) {
        let (kind, title) = self.kind_and_title();
        let words = match self.opening.words.as_deref() {
            None | Some("monitor event" | "Oops") => title,
            Some(words) => words,
        };
        (kind, format!("{words}{}", self.access))
    }

    fn refined(&self) -> Option<(Kind, &'static str)> {
        let file = match self.rule.kind {
            Kind::Warning | Kind::Bug => &self.opening.location.as_ref()?.file,
            _ => return None,
        };
        REFINED.iter().find(|(refined, ..)| refined == file).map(|(_, kind, title)| (*kind, *title))
    }

    fn kind_and_title(&self) -> (Kind, &'static str) {
        let unrefined = match self.rule.kind {
            // arch/s390: a BUG of which only the program check has come.
            Kind::Oops if self.opening.words.as_deref() == Some("monitor event") => (Kind::Bug, "kernel BUG"),
            Kind::Oops if self.is_plain_fault() => (Kind::Oops, self.fault_title()),
            kind => (kind, self.rule.title),
        };
        self.refined().unwrap_or(unrefined)
    }

    /// The first page is never mapped for the kernel's own use; s390 gives the failing address by page.
    fn is_null_fault(&self) -> bool {
        self.failing_address.is_some_and(|address| address < 4096)
    }

    /// A fault that only its address and code tell from others.
    fn is_plain_fault(&self) -> bool {
        self.rule.title == FAULT || self.opening.words.as_deref() == Some("Oops")
    }

    fn fault_title(&self) -> &'static str {
        match self.opening.code {
            _ if self.is_null_fault() => NULL_FAULT,
            Some(PROTECTION) => "protection exception",
            _ => FAULT,
        }
    }

    fn function(&self) -> Option<String> {
        let refined: &[&Machinery] = if self.refined().is_some() { &[&CHECKING] } else { &[] };
        let machinery: Vec<&Machinery> = self.rule.machinery.iter().chain(refined).copied().collect();
        let named = |blame: &Blame| match blame {
            Blame::Opening => self.opening.function.as_deref(),
            Blame::Psw => self.psw.as_deref(),
            Blame::Lock => self.lock.as_deref(),
            Blame::Work => self.work.as_deref(),
            Blame::Frames | Blame::Outside => None,
            Blame::Operation => uvsim::operation(&self.frames).or(self.handed_on_by.as_deref()),
        };
        let sources = self.rule.blame;
        let best = sources.iter().find_map(|blame| match blame {
            // A call to nowhere was the last branch. Its caller stands in the trace too, in parentheses, unless the
            // call was the last thing it did.
            Blame::Frames if self.astray => self
                .branch
                .as_deref()
                .map(source_name)
                .filter(|name| can_be_blamed(name, &machinery))
                .or_else(|| culprit(&self.frames, &machinery, Reliability::Unreliable)),
            Blame::Frames => culprit(&self.frames, &machinery, Reliability::Reliable),
            Blame::Outside => culprit(uvsim::outside(&self.frames), &machinery, Reliability::Reliable),
            named_by => named(named_by).map(source_name).filter(|name| can_be_blamed(name, &machinery)),
        });
        // Where all is machinery, naming its first function is better than naming none.
        let any = || {
            sources
                .iter()
                .find_map(named)
                .map(source_name)
                .or_else(|| culprit(&self.frames, &[], Reliability::Reliable))
        };
        best.or_else(any).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}
