//! A bisect, as it goes and what it came to.

use super::{Align, Table, thousands};
use crate::bisect::{Answer, Conclusion, Counts, Proof, Row, Seconds, Without};
use crate::escape::escape;
use crate::store::{BisectRecord, BuildRecord, Outcome, Probe, SubjectRecord, Trial};

/// How many characters of a commit's id kernel developers write.
const SHORT: usize = 12;

/// What a subject is called in a line.
pub fn called(of: &Probe, subjects: &[SubjectRecord]) -> String {
    let name = |id: &str| {
        let subject = subjects.iter().find(|subject| subject.id == id);
        subject.map_or_else(|| short(id).to_owned(), name_of)
    };
    match of {
        Probe::Subject(id) => name(id),
        Probe::Without(id) => format!("the bad end without {}", name(id)),
    }
}

fn name_of(subject: &SubjectRecord) -> String {
    match subject.subject.is_empty() {
        true => escape(short(&subject.id).as_bytes()),
        false => format!("{} (\"{}\")", short(&subject.id), escape(subject.subject.as_bytes())),
    }
}

fn short(id: &str) -> &str {
    let is_commit = id.len() >= 40 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_commit { &id[..SHORT] } else { id }
}

/// That there is a kernel, or not.
pub fn built_line(name: &str, outcome: &BuildRecord, seconds: f64) -> String {
    match outcome {
        BuildRecord::Built { .. } => format!("{name}: built in {seconds:.0} s"),
        BuildRecord::CannotBuild { said } => {
            // What it is about, and the first of its errors.
            let said: Vec<&str> = said.lines().take(2).map(str::trim).collect();
            format!("{name}: cannot be built: {}", escape(said.join(" ").as_bytes()))
        }
    }
}

/// What trials came to.
pub fn tried_line(name: &str, trials: &[Trial], left: &str) -> String {
    let words = [
        (Outcome::Hit, "hit"),
        (Outcome::Clean, "clean"),
        (Outcome::Weak, "weak"),
        (Outcome::OtherFailure, "failed otherwise"),
        (Outcome::CannotBoot, "cannot be tried"),
        (Outcome::Infra, "farm's own trouble"),
    ];
    let told: Vec<String> = words
        .iter()
        .map(|(verdict, word)| (trials.iter().filter(|trial| trial.outcome == *verdict).count(), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let told = if told.is_empty() { "no trial came to its end".to_owned() } else { told.join(", ") };
    let why = trials.iter().rev().find(|trial| !trial.reason.is_empty());
    let why = why.map(|trial| format!(" ({})", escape(trial.reason.as_bytes()))).unwrap_or_default();
    format!("{name}: {told}{why}; {left}")
}

/// How much is left.
pub fn left_words(possible: usize, left: Seconds) -> String {
    let minutes = (left.0 / 60.0).ceil();
    match possible {
        1 => "1 commit is left".to_owned(),
        _ => format!("{possible} commits are left, about {minutes:.0} min"),
    }
}

fn signature(row: &Row) -> Option<&String> {
    match &row.build {
        Some(BuildRecord::Built { signature, .. }) => signature.as_ref(),
        _ => None,
    }
}

/// The whole answer, for a person and for a mail.
pub fn answer_text(record: &BisectRecord, answer: &Answer) -> String {
    let mut out = conclusion_text(&answer.conclusion);
    if let [first, ..] = &answer.hunted[..] {
        out += &format!(
            "hunted: {} ({})\n\n",
            escape(first.title.as_bytes()),
            escape(first.fingerprint.as_bytes())
        );
    }
    let mut table = Table::new(&[
        ("commit", Align::Left),
        ("hit", Align::Right),
        ("clean", Align::Right),
        ("else", Align::Left),
        ("subject", Align::Left),
    ]);
    for row in &answer.tried {
        let counts = &row.counts;
        table.row([
            short(&row.subject.id).to_owned(),
            counts.hit.to_string(),
            counts.clean.to_string(),
            else_words(row, &answer.tried),
            escape(row.subject.subject.as_bytes()),
        ]);
    }
    out += &format!("{table}");
    if !answer.others.is_empty() {
        out += "\nother hits on the way, which did not count:\n";
        for other in &answer.others {
            out += &format!(
                "  {} (in {} trials of {} commits)\n",
                escape(other.title.as_bytes()),
                other.trials,
                other.subjects
            );
        }
    }
    out += &format!(
        "\n{} kernels built, {} trials, {:.0} s of both; bisect {}\n",
        answer.builds,
        thousands(u64::from(answer.trials)),
        answer.seconds,
        record.id
    );
    out
}

fn else_words(row: &Row, rows: &[Row]) -> String {
    let Row { build, counts, .. } = row;
    match build {
        Some(BuildRecord::CannotBuild { .. }) => return "cannot be built".to_owned(),
        // Trials of one kernel count for all its commits.
        Some(BuildRecord::Built { signature: Some(_), .. }) if counts.all() == 0 => {
            let is_same = |other: &&Row| signature(other) == signature(row) && other.counts.all() > 0;
            if let Some(same) = rows.iter().find(is_same) {
                return format!("the kernel of {}", short(&same.subject.id));
            }
        }
        _ => {}
    }
    let words = [
        (counts.weak, "weak"),
        (counts.other_failure, "failed otherwise"),
        (counts.cannot_boot, "could not be tried"),
    ];
    let told = words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    told.collect::<Vec<_>>().join(", ")
}

fn percent(share: f64) -> String {
    // Rounded down: nothing is as sure as it is not.
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

fn conclusion_text(conclusion: &Conclusion) -> String {
    match conclusion {
        Conclusion::Culprit { culprit, confidence, proof } => {
            let mut out = format!("{} is the culprit, {} sure\n\n", short(&culprit.id), percent(*confidence));
            out += &describe(culprit);
            out += &proof_text(proof);
            out
        }
        Conclusion::Among { candidates, confidence } => {
            let mut out = format!(
                "it is one of {} commits, {} sure; no kernel that can be tried tells them apart\n\n",
                candidates.len(),
                percent(*confidence)
            );
            for one in candidates {
                out += &format!("  {}\n", name_of(one));
            }
            out += "\n";
            out
        }
        Conclusion::GoodIsBad { good } => {
            format!("the good end, {}, shows the bug, too: name an older one\n\n", name_of(good))
        }
        Conclusion::BadDoesNotReproduce { bad, trials } => format!(
            "the bad end, {}, did not show the bug in {} trials: there is nothing to bisect by\n\n",
            name_of(bad),
            thousands(u64::from(*trials))
        ),
        Conclusion::TwoCulprits { first, second, proof: Some(proof) } => format!(
            "{} brings the bug, and another commit does, too: {} has it without that\n\n{}{}",
            name_of(first),
            name_of(second),
            describe(first),
            proof_text(proof)
        ),
        Conclusion::TwoCulprits { first, second, proof: None } => format!(
            "no single commit explains what was seen: {} shows the bug, and {} does not agree with it. The bug came, went and came again, or came twice\n\n",
            name_of(first),
            name_of(second)
        ),
        Conclusion::NoAnswer { why } => format!("there is no answer: {why}\n\n"),
    }
}

fn describe(subject: &SubjectRecord) -> String {
    let mut out = format!("  commit  {}\n", subject.id);
    for (word, value) in [("author", &subject.author), ("date", &subject.date)] {
        if let Some(value) = value {
            out += &format!("  {word:<8}{}\n", escape(value.as_bytes()));
        }
    }
    out + &format!("\n      {}\n\n", escape(subject.subject.as_bytes()))
}

fn proof_text(proof: &Proof) -> String {
    let of = |counts: &Counts| format!("{} of {} trials hit", counts.hit, counts.telling());
    let mut out = format!("  with it:           {}\n", of(&proof.culprit));
    for parent in &proof.parents {
        out += &format!("  its parent {}: {}\n", short(&parent.id), of(parent));
    }
    out += &match &proof.without {
        Without::NotTried => "  the bad end without it was not tried\n".to_owned(),
        Without::Cannot { said } => {
            let said = escape(said.lines().next().unwrap_or_default().as_bytes());
            format!("  the bad end without it: there is none: {said}\n")
        }
        Without::Tried(counts) if counts.hit > 0 => {
            format!("  the bad end without it: {}: another commit brings the bug, too\n", of(counts))
        }
        Without::Tried(counts) => format!("  the bad end without it: {}\n", of(counts)),
    };
    out + "\n"
}

/// What `git bisect replay` reads: the ends, and what was learned for sure.
pub fn git_log(record: &BisectRecord, answer: &Answer) -> String {
    let [good, .., bad] = &record.subjects[..] else { return String::new() };
    let comment = |word: &str, subject: &SubjectRecord| {
        format!("# {word}: [{}] {}\n", subject.id, escape(subject.subject.as_bytes()))
    };
    let mut out = comment("bad", bad) + &comment("good", good);
    out += &format!("git bisect start '{}' '{}'\n", bad.id, good.id);
    let mut say = |word: &str, subject: &SubjectRecord| {
        out += &comment(word, subject);
        out += &format!("git bisect {word} {}\n", subject.id);
    };
    let by_id = |id: &str| record.subjects.iter().find(|subject| subject.id == id);
    // To git the last bad one is the bad end: children come before parents.
    for row in answer.tried.iter().rev() {
        let (id, counts) = (&row.subject.id, &row.counts);
        if *id == good.id || *id == bad.id {
            continue;
        }
        let cannot = matches!(row.build, Some(BuildRecord::CannotBuild { .. }));
        if counts.hit > 0 {
            say("bad", &row.subject);
        } else if cannot || (counts.clean == 0 && counts.all() > 0) {
            say("skip", &row.subject);
        }
    }
    // A few clean trials prove nothing by themselves; that the parents lack the bug is what the verdict says.
    if let Conclusion::Culprit { culprit, .. } = &answer.conclusion {
        let is_told = |row: &Row| row.subject.id == culprit.id && row.counts.hit > 0;
        // Its kernel may be another's, and that one was tried.
        if culprit.id != bad.id && !answer.tried.iter().any(is_told) {
            say("bad", culprit);
        }
        for parent in culprit.parents.iter().filter_map(|id| by_id(id)).filter(|one| one.id != good.id) {
            say("good", parent);
        }
        out += &comment("first bad commit", culprit);
    }
    out
}
