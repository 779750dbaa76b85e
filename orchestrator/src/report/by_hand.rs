//! A job as lines that a person types in a shell of the guest, in the place of init.

use crate::escape::escape;
use crate::guest::{Job, JobAction, JobStep, Work};
use crate::machine::quote;

/// What the steps of a job start: the programs with the arguments that init gives them. What comes before the steps (modules, mounts,
/// knobs) is done by init in a shell of the scenario's machine, too.
pub fn command_lines(job: &Job) -> Vec<String> {
    match &job.work {
        Work::Steps(steps) => steps.iter().flat_map(lines_of_step).collect(),
        Work::Shell => Vec::new(),
    }
}

fn lines_of_step(step: &JobStep) -> Vec<String> {
    let (workers, seed) = match &step.action {
        JobAction::Write { path, text, .. } => {
            return vec![format!("{} > {}", printf(text), quote(path))];
        }
        JobAction::Stress { program, arguments, seed, workers, .. } => {
            let one = |number| line(program, arguments, Some((*seed, number)));
            ((1..=*workers).map(one).collect::<Vec<_>>(), *seed)
        }
        // What init gives to interference without a seed of the step's.
        JobAction::Bare { program, arguments, workers, .. } => {
            ((1..=*workers).map(|_| line(program, arguments, None)).collect(), 0)
        }
    };
    let beside = step.beside.iter().zip(workers.len() as u32 + 1..);
    let beside: Vec<_> =
        beside.map(|((program, arguments), number)| line(program, arguments, Some((seed, number)))).collect();
    side_by_side(beside, workers)
}

/// Prints a text, in a line that is shown as it is: of what would be escaped, `printf` makes the bytes.
fn printf(text: &str) -> String {
    if escape(text.as_bytes()) == text {
        return format!("printf %s {}", quote(text));
    }
    let mut encoded = String::new();
    for letter in text.chars() {
        let letter = letter.to_string();
        if letter == "\\" {
            encoded.push_str(r"\\");
        } else if escape(letter.as_bytes()) == letter {
            encoded.push_str(&letter);
        } else {
            encoded.extend(letter.bytes().map(|byte| format!(r"\0{byte:03o}")));
        }
    }
    format!("printf %b {}", quote(&encoded))
}

/// Interference first, and until the workers have ended, as init does it.
fn side_by_side(beside: Vec<String>, mut workers: Vec<String>) -> Vec<String> {
    let background = |lines: Vec<String>, name: char| {
        let numbered = lines.into_iter().zip(1..);
        numbered.map(move |(line, number)| format!("{line} & {name}{number}=$!"))
    };
    let pids = |name: char, count: usize| -> String {
        (1..=count).map(|number| format!(" ${name}{number}")).collect()
    };
    let (interferers, count) = (beside.len(), workers.len());
    let mut lines: Vec<_> = background(beside, 'b').collect();
    if count == 1 {
        lines.append(&mut workers);
    } else {
        lines.extend(background(workers, 'w'));
        lines.push(format!("wait{}", pids('w', count)));
    }
    if interferers > 0 {
        lines.push(format!("kill{}", pids('b', interferers)));
    }
    lines
}

/// With what init adds behind the arguments (guests/init/worker.c): the seed plus the worker's number, and that.
fn line(program: &str, arguments: &[String], worker: Option<(u64, u32)>) -> String {
    let mut words: Vec<String> = vec![quote(program)];
    words.extend(arguments.iter().map(|argument| quote(argument)));
    if let Some((seed, number)) = worker {
        words.push(format!("--seed={}", seed + u64::from(number)));
        words.push(format!("--worker={number}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn step(action: JobAction, beside: usize) -> JobStep {
        let beside = vec![("/farm/interference/compact".to_owned(), vec!["--rate=2".to_owned()]); beside];
        JobStep { name: "s".into(), action, beside, touches: Vec::new() }
    }

    fn stress(workers: u32) -> JobAction {
        JobAction::Stress {
            program: "/farm/stress/tee".into(),
            arguments: vec!["--for=10".into()],
            seed: 256,
            workers,
            limit: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_text_is_typed_as_lines_show_it() {
        for (text, wanted) in [
            ("it's", r"printf %s 'it'\''s'"),
            ("%s", "printf %s %s"),
            (r"a\nb", r"printf %s 'a\nb'"),
            ("a\nb", r"printf %b 'a\0012b'"),
            ("a\t1\n", r"printf %b 'a\00111\0012'"),
            ("it's\\n\n", r"printf %b 'it'\''s\\n\0012'"),
            ("\u{202e}\n", r"printf %b '\0342\0200\0256\0012'"),
        ] {
            let line = printf(text);
            assert_eq!((&*line, &*escape(line.as_bytes())), (wanted, wanted));
            let typed = Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(typed.stdout, text.as_bytes(), "{line}");
        }
    }

    #[test]
    fn lines_are_what_init_executes() {
        let limit = Duration::from_secs(1);
        let write = JobAction::Write { path: "/proc/x".into(), text: "it's".into(), limit };
        assert_eq!(lines_of_step(&step(write, 0)), [r"printf %s 'it'\''s' > /proc/x"]);
        assert_eq!(lines_of_step(&step(stress(1), 0)), ["/farm/stress/tee --for=10 --seed=257 --worker=1"]);
        assert_eq!(
            lines_of_step(&step(stress(2), 1)),
            [
                "/farm/interference/compact --rate=2 --seed=259 --worker=3 & b1=$!",
                "/farm/stress/tee --for=10 --seed=257 --worker=1 & w1=$!",
                "/farm/stress/tee --for=10 --seed=258 --worker=2 & w2=$!",
                "wait $w1 $w2",
                "kill $b1",
            ]
        );
        let bare = JobAction::Bare {
            program: "/job/exec/1".into(),
            arguments: vec!["a b".into()],
            workers: 1,
            limit,
        };
        assert_eq!(
            lines_of_step(&step(bare, 1)),
            [
                "/farm/interference/compact --rate=2 --seed=2 --worker=2 & b1=$!",
                "/job/exec/1 'a b'",
                "kill $b1"
            ]
        );
    }
}
