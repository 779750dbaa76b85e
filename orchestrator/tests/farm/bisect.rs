//! Bisects of a small repository by a command: what is found, what is refused, and what a kill costs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use super::harness::{Farm, farm_program};
use super::storage::in_namespace;

/// A repository each of whose commits adds a file `change-N`; those from `bug_at` on have the file `bug`.
struct Repository {
    farm: Farm,
    path: Utf8PathBuf,
}

impl Repository {
    fn new(commits: u32, bug_at: u32) -> Self {
        let farm = Farm::new();
        let path = farm.path("repository");
        fs::create_dir(&path).unwrap();
        let repository = Self { farm, path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        for number in 1..=commits {
            fs::write(repository.path.join(format!("change-{number}")), "").unwrap();
            if number == bug_at {
                fs::write(repository.path.join("bug"), "").unwrap();
            }
            repository.git(&["add", "--all"]);
            repository.git(&["commit", "--quiet", &format!("--message=change {number}")]);
            repository.git(&["tag", &format!("c{number}")]);
        }
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"])
            .args(arguments)
            .current_dir(&self.path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn change(&self, number: u32) -> String {
        self.git(&["rev-parse", &format!("c{number}")])
    }

    /// A test of the user's; each of its ends is a line of `ends`.
    fn script(&self, body: &str) -> String {
        let ends = self.farm.path("ends");
        let text = format!(
            "#!/bin/sh\n\
             number=$(ls | grep -c change-)\n\
             end() {{ echo $number $1 >> {ends}; exit $1; }}\n{body}\n"
        );
        let path = self.farm.file("test.sh", text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.into_string()
    }

    fn asked<'a>(&'a self, script: &'a str) -> Vec<&'a str> {
        let tree = self.path.as_str();
        vec!["bisect", "commits", "--tree", tree, "--good", "c1", "--bad", "main", "--run", script]
    }

    /// Of the one bisect that was begun; one that was killed in its first moment is none.
    fn begun(&self) -> Option<Utf8PathBuf> {
        let entries = self.farm.state().join("bisects").read_dir_utf8().ok()?;
        let directories = entries.map(|entry| entry.unwrap().into_path());
        let begun: Vec<_> = directories.filter(|path| path.join("bisect.json").exists()).collect();
        assert!(begun.len() < 2, "{begun:?}");
        begun.into_iter().next()
    }

    fn directory(&self) -> Utf8PathBuf {
        self.begun().unwrap()
    }

    fn journal(&self) -> Vec<Value> {
        let journal = fs::read_to_string(self.directory().join("journal.jsonl")).unwrap();
        journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Trials that the journal knows.
    fn trials(&self) -> usize {
        self.journal().iter().filter_map(|entry| entry["trials"].as_array().map(Vec::len)).sum()
    }
}

/// Shows the bug in every second trial of a commit that has it.
fn every_second(repository: &Repository) -> String {
    let ends = repository.farm.path("ends");
    format!(
        "[ -f bug ] && [ $(($(cat {ends} 2>/dev/null | grep -c \"^$number \") % 2)) = 1 ] && end 1\nend 0"
    )
}

const SURE: &str = "[ -f bug ] && end 1\nend 0";

#[test]
fn a_commit_is_found_by_a_command_and_git_agrees() {
    let repository = Repository::new(40, 23);
    // What the user has begun is none of the bisect's business, and stays.
    fs::write(repository.path.join("change-1"), "begun").unwrap();
    fs::write(repository.path.join("new"), "begun").unwrap();
    let before = repository.git(&["status", "--porcelain", "--branch"]);
    assert!(before.contains(" M change-1") && before.contains("?? new"), "{before}");
    // Some commits cannot be told, and one of them is next to the culprit.
    let script = repository.script(&format!("[ $number = 20 ] && end 125\n{SURE}"));
    let found = repository.farm.run(&[&["--json"], &repository.asked(&script)[..]].concat()).with_code(0);
    let answer = found.json();
    assert_eq!(answer["verdict"], "culprit");
    assert_eq!(answer["culprit"]["id"], repository.change(23).as_str());
    assert!(answer["confidence"].as_f64().unwrap() >= 0.99);
    assert_eq!(answer["proof"]["without"]["hit"], 0);
    assert!(answer["proof"]["without"]["clean"].as_u64().unwrap() > 0);
    assert_eq!(repository.git(&["status", "--porcelain", "--branch"]), before);
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), 1);

    let name = repository.directory().file_name().unwrap().to_owned();
    let id = name.rsplit_once('-').unwrap().1;
    assert_eq!(repository.farm.run(&["show", &id[..6], "--json"]).with_code(0).json(), answer);

    let log = repository.directory().join("bisect.log");
    // git checks out in the user's own directory.
    repository.git(&["checkout", "--quiet", "change-1"]);
    let replayed = repository.git(&["bisect", "replay", log.as_str()]);
    assert!(replayed.contains(&format!("{} is the first bad commit", repository.change(23))), "{replayed}");
}

#[test]
fn the_branch_that_was_merged_is_searched_too() {
    let repository = Repository::new(10, 0);
    repository.git(&["checkout", "--quiet", "-b", "side", "c4"]);
    for number in 0..6 {
        fs::write(repository.path.join(format!("side-{number}")), "").unwrap();
        if number == 3 {
            fs::write(repository.path.join("bug"), "").unwrap();
        }
        repository.git(&["add", "--all"]);
        repository.git(&["commit", "--quiet", &format!("--message=side {number}")]);
    }
    let culprit = repository.git(&["rev-parse", "side~2"]);
    repository.git(&["checkout", "--quiet", "main"]);
    repository.git(&["merge", "--quiet", "--no-edit", "side"]);
    let script = repository.script(SURE);
    let found = repository.farm.run(&[&["--json"], &repository.asked(&script)[..]].concat()).with_code(0);
    assert_eq!(found.json()["culprit"]["id"], culprit.as_str());
}

#[test]
fn commits_that_cannot_be_tried_leave_a_set() {
    let repository = Repository::new(20, 12);
    let script = repository.script(&format!("[ $number -ge 10 ] && [ $number -le 13 ] && end 125\n{SURE}"));
    let found = repository.farm.run(&[&["--json"], &repository.asked(&script)[..]].concat()).with_code(107);
    let answer = found.json();
    assert_eq!(answer["verdict"], "among");
    let candidates: Vec<_> =
        answer["candidates"].as_array().unwrap().iter().map(|one| one["subject"].clone()).collect();
    assert_eq!(candidates, ["change 10", "change 11", "change 12", "change 13", "change 14"]);
}

#[test]
fn ends_that_are_not_what_they_were_said_to_be_are_told() {
    let repository = Repository::new(8, 1);
    let script = repository.script(SURE);
    let good_is_bad = repository.farm.run(&repository.asked(&script)).with_code(2);
    assert!(good_is_bad.stdout.contains("shows the bug, too"), "{good_is_bad:?}");

    let repository = Repository::new(8, 0);
    let script = repository.script(SURE);
    let asked = [&["bisect", "commits", "--max-end-trials", "5"], &repository.asked(&script)[2..]].concat();
    let no_bug = repository.farm.run(&asked).with_code(2);
    assert!(no_bug.stdout.contains("did not show the bug in 5 trials"), "{no_bug:?}");
    assert_eq!(repository.trials(), 5);
}

#[test]
fn what_cannot_be_bisected_is_refused_before_anything_is_kept() {
    let repository = Repository::new(3, 2);
    repository.git(&["checkout", "--quiet", "--orphan", "other"]);
    repository.git(&["commit", "--quiet", "--message=other"]);
    let tree = repository.path.as_str();
    let refused = |arguments: &[&str]| {
        let asked = [&["bisect", "commits", "--tree", tree], arguments, &["--run", "true"]].concat();
        let refused = repository.farm.run(&asked).with_code(2);
        let first = refused.stderr.lines().next().unwrap_or_default().replace(tree, "TREE");
        let id = repository.change(1);
        first.replace(&id[..12], "FIRST").replace(&repository.git(&["rev-parse", "other"])[..12], "OTHER")
    };
    insta::assert_snapshot!(refused(&["--good", "v7", "--bad", "main"]), @"error: v7 is no commit of TREE");
    insta::assert_snapshot!(
        refused(&["--good", "main~2", "--bad", "main~2"]), @"error: good and bad are the same commit FIRST");
    insta::assert_snapshot!(
        refused(&["--good", "main~2", "--bad", "other"]),
        @"error: FIRST is no ancestor of OTHER; they have no commit in common");
    let elsewhere =
        repository.farm.run(&["bisect", "commits", "--tree", "/", "--good", "a", "--run", "true"]);
    assert_eq!(
        elsewhere.with_code(2).stderr.lines().next(),
        Some("error: / is not the top of a git repository")
    );
    assert!(!repository.farm.state().exists());
}

#[test]
fn a_hit_says_what_a_bisect_is_to_ask() {
    let repository = Repository::new(3, 2);
    let farm = &repository.farm;
    let scenario = farm.scenario("crash", "steps: [{write: /proc/sysrq-trigger, text: c}]\n");
    // From where it stands.
    let folder = repository.path.parent().unwrap();
    let mut run = farm.command(&["run", "crash.yaml", "--kernel", "debian-12", "--json"]);
    run.current_dir(folder);
    let ran = farm.finish(run).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    let bisect =
        |more: &[&str]| farm.run(&[&["bisect", "commits", "--hit", hit, "--good", "c1"], more].concat());
    let no_tree = bisect(&[]).with_code(2).stderr;
    assert!(
        no_tree.contains("was not built from a tree of yours") && no_tree.contains("--tree DIR"),
        "{no_tree}"
    );
    // What it stands for is told, before anything is looked at.
    let told = bisect(&["--tree", repository.path.as_str()]).with_code(2).stderr;
    let spelled = format!(
        "as in: farm bisect commits --good c1 --tree {} --scenario {scenario} --hunt panic:sysrq-triggered-crash\n",
        repository.path
    );
    assert!(told.contains(&spelled), "{told}\n{spelled}");
    assert!(told.contains("no kernel"), "{told}");
    // As if that tree had been asked for then; and below, as if the hit were a bundle's.
    let document = farm.run_directory().join("run.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&document).unwrap()).unwrap();
    let command = record["command"].as_array_mut().unwrap();
    command.push(format!("--tree={}", repository.path.file_name().unwrap()).into());
    fs::write(&document, record.to_string()).unwrap();
    let told = bisect(&[]).with_code(2).stderr;
    assert!(told.contains(&spelled), "{told}\n{spelled}");
    fs::write(&scenario, fs::read_to_string(&scenario).unwrap() + "# another\n").unwrap();
    let another = bisect(&[]).with_code(2).stderr;
    assert!(
        another.contains("the scenario crash of the hit is not there any more, or is another"),
        "{another}"
    );
    record["repro"] = json!({
        "hit": hit, "run": record["id"], "life": ran["lives"][0]["life"], "fingerprint": "a", "title": "a", "differs": [],
        "bundle": "/hit.tar.zst",
    });
    fs::write(&document, record.to_string()).unwrap();
    let refused = bisect(&[]).with_code(2).stderr;
    assert!(refused.contains("hint: run that again: farm repro /hit.tar.zst\n"), "{refused}");
}

#[test]
fn a_code_that_means_trouble_stops_and_the_bisect_can_be_gone_on_with() {
    let repository = Repository::new(20, 12);
    let trouble = repository.farm.path("trouble");
    fs::write(&trouble, "").unwrap();
    let script = repository
        .script(&format!("[ -f {trouble} ] && [ $number != 1 ] && [ $number != 20 ] && end 200\n{SURE}"));
    let stopped = repository.farm.run(&repository.asked(&script)).with_code(103);
    assert!(stopped.stderr.contains("ended with 200"), "{stopped:?}");
    fs::remove_file(&trouble).unwrap();
    // As a git leaves them that was killed with its farm.
    for lock in ["index.lock", "HEAD.lock"] {
        fs::write(repository.directory().join("checkout/.git").join(lock), "").unwrap();
    }
    // In either way.
    let unknown = repository.farm.run(&["bisect", "resume", "ffff"]).with_code(2);
    assert!(unknown.stderr.contains("nothing is called 'ffff'"), "{unknown:?}");
    let found = repository.farm.run(&["bisect", "commits", "--resume", "--json"]).with_code(0);
    assert_eq!(found.json()["culprit"]["id"], repository.change(12).as_str());
}

/// A kill costs the trial that it meets, and no other. How many trials there are depends on what they take.
#[test]
fn killed_at_any_moment_it_goes_on_and_repeats_nothing() {
    let repository = Repository::new(60, 41);
    // So slow that few trials end between two kills, and so rare that many are asked for at once.
    let script = repository.script(&format!("sleep 0.05\n{}", every_second(&repository)));
    let mut asked = repository.asked(&script);
    let mut kills = 0;
    for number in 0..30_u64 {
        let farm = repository.farm.begin(repository.farm.command(&asked));
        // Anything from its first moment on.
        if farm.ends_within(Duration::from_millis(5 + number * 53 % 200)) {
            break;
        }
        farm.kill();
        kills += 1;
        if repository.begun().is_some() {
            asked = vec!["bisect", "resume"];
        }
    }
    assert!(kills >= 5, "it was killed {kills} times only");
    let last = repository.farm.run(&[&["--json"], &asked[..]].concat()).with_code(0).json();
    assert_eq!(last["culprit"]["id"], repository.change(41).as_str());

    // Nothing was asked for again of what the journal had.
    let journal = repository.journal();
    let built: Vec<_> =
        journal.iter().filter(|entry| entry["what"] == "built").map(|entry| &entry["of"]).collect();
    assert!(built.iter().enumerate().all(|(place, of)| !built[..place].contains(of)), "{built:?}");
    // Each trial that came to its end is told once. What had ended when farm was killed, and was not written down, ran again.
    let codes = repository.directory().join("runs").read_dir_utf8().unwrap().map(|run| {
        let codes = fs::read_to_string(run.unwrap().path().join("codes"));
        codes.unwrap_or_default().lines().count()
    });
    assert_eq!(codes.sum::<usize>(), repository.trials());
    let ends = fs::read_to_string(repository.farm.path("ends")).unwrap().lines().count();
    let trials = repository.trials();
    assert!(
        (trials..=trials + kills).contains(&ends),
        "{ends} ended, {trials} are known, {kills} kills: {journal:?}"
    );
}

/// What was learned before the disk was full is kept, and is gone on with when there is room.
#[test]
fn a_full_disk_stops_it_and_costs_nothing_that_was_learned() {
    let repository = Repository::new(60, 41);
    let script = repository.script(&format!("head -c 20000 /dev/zero\n{}", every_second(&repository)));
    let state = repository.farm.state();
    fs::create_dir(&state).unwrap();
    let farm = farm_program();
    let (told, asked) = (repository.farm.path("told"), repository.asked(&script).join(" "));
    // The checkout takes 200k of it.
    let prepare = format!(
        "mount -t tmpfs -o size=500k none {state}; code=0; {farm} {asked} 2>{told} || code=$?; [ $code = 103 ]\n\
         mount -o remount,size=32m {state}; cat {state}/bisects/*/journal.jsonl > {told}.journal"
    );
    let resumed = in_namespace(&repository.farm, &prepare, &["--json", "bisect", "resume"]);
    let Some(resumed) = resumed else { return };
    let answer = resumed.with_code(0).json();
    assert_eq!(answer["culprit"]["id"], repository.change(41).as_str());
    let told = fs::read_to_string(&told).unwrap();
    // Whoever meets it first: farm or git.
    let is_told = ["No space left on device", "no storage space"].iter().any(|words| told.contains(words));
    assert!(is_told && told.contains("--state"), "{told}");
    let journal = fs::read_to_string(repository.farm.path("told.journal")).unwrap();
    assert!(journal.lines().count() > 3, "{journal}");
}

/// Most of a kernel tree that is built without a kernel.
#[test]
fn a_commit_whose_build_hangs_is_none_that_can_be_tried() {
    let repository = Repository::new(1, 1);
    for (file, text) in [
        (
            "Makefile",
            "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\tsleep 1000\nmodules:\n",
        ),
        ("Kconfig", ""),
        ("arch/s390/Makefile", ""),
        ("scripts/kconfig/Makefile", ""),
    ] {
        let path = repository.path.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message=a tree"]);
    repository.git(&["tag", "tree"]);
    repository.git(&["commit", "--quiet", "--allow-empty", "--message=the same"]);
    let config = repository.farm.file("a.config", "CONFIG_MODULES=y\n");
    let scenario = repository.farm.short();
    let tree = ["--tree", repository.path.as_str(), "--good", "tree", "--scenario", &scenario];
    let how = ["--config", config.as_str(), "--build-limit", "2s"];
    let cache = repository.farm.path("cache");
    let own_cache = ["--cache", cache.as_str(), "bisect", "commits"];
    let began = Instant::now();
    let bisect = repository.farm.run(&[&own_cache[..], &tree, &how].concat()).with_code(107);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(bisect.stderr.contains("make was not done after 2 s"), "{}", bisect.stderr);
}

/// What a commit has moved is moved back for the proof, as often as it is asked for.
#[test]
fn a_culprit_that_moves_files_is_taken_back_whole() {
    let repository = Repository::new(10, 0);
    fs::write(repository.path.join("bug"), "").unwrap();
    repository.git(&["mv", "change-2", "moved"]);
    repository.git(&["rm", "--quiet", "change-3"]);
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message=moves"]);
    let culprit = repository.git(&["rev-parse", "HEAD"]);
    fs::write(repository.path.join("last"), "").unwrap();
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message=last"]);
    let script = repository.script(
        "[ -f bug ] && end 1\n[ -f change-10 ] || end 0\n[ -f change-2 ] && [ -f change-3 ] && end 0\nend 3",
    );
    let found = repository.farm.run(&[&["--json"], &repository.asked(&script)[..]].concat()).with_code(0);
    let answer = found.json();
    assert_eq!(answer["culprit"]["id"], culprit.as_str());
    assert_eq!(answer["proof"]["without"]["hit"], 0, "{answer}");
    assert!(answer["proof"]["without"]["clean"].as_u64().unwrap() > 1, "{answer}");
}

#[test]
fn a_bad_end_that_has_the_bug_without_the_culprit_has_two() {
    let repository = Repository::new(30, 11);
    // The bug comes a second time, where the first hides it.
    let script = repository.script("[ -f bug ] && end 1\n[ -f change-25 ] && end 1\nend 0");
    let found = repository.farm.run(&[&["--json"], &repository.asked(&script)[..]].concat()).with_code(107);
    let answer = found.json();
    assert_eq!(answer["verdict"], "two-culprits", "{answer}");
    assert_eq!(answer["first"]["id"], repository.change(11).as_str());
    assert_eq!(answer["second"]["id"], repository.change(30).as_str());
    assert!(answer["proof"]["without"]["hit"].as_u64().unwrap() > 0, "{answer}");
}

/// As a shell would say 127 of it, which is a hit to `git bisect run`.
#[test]
fn a_program_that_is_not_there_says_nothing_of_a_commit() {
    let repository = Repository::new(10, 5);
    // change-1 is committed, and no program.
    for program in ["./not-committed.sh", "no-such-program", "./change-1"] {
        fs::write(repository.path.join("not-committed.sh"), "#!/bin/sh\n").unwrap();
        let refused = repository.farm.run(&repository.asked(program)).with_code(2);
        assert!(refused.stderr.contains(&format!("there is no {program} in ")), "{}", refused.stderr);
    }
}

#[test]
fn what_is_read_again_must_be_what_it_was() {
    let repository = Repository::new(20, 12);
    let trouble = repository.farm.path("trouble");
    fs::write(&trouble, "").unwrap();
    let config = repository.farm.file("a.config", "CONFIG_A=y\n");
    let script = repository.script(&format!("[ -f {trouble} ] && end 200\n{SURE}"));
    let run = ["--run", &script];
    let tree = repository.path.as_str();
    let asked = ["bisect", "commits", "--tree", tree, "--good", "c1", "--config", config.as_str()];
    repository.farm.run(&[&asked[..], &run].concat()).with_code(103);
    fs::remove_file(&trouble).unwrap();
    repository.farm.file("a.config", "CONFIG_A=n\n");
    let refused = repository.farm.run(&["bisect", "resume"]).with_code(2);
    assert!(refused.stderr.contains("is not what it was when bisect"), "{}", refused.stderr);
    repository.farm.file("a.config", "CONFIG_A=y\n");
    repository.farm.run(&["bisect", "resume"]).with_code(0);
    // One that has its answer is not what is gone on with, unless there is no other.
    repository.farm.run(&["bisect", "resume"]).with_code(0);
}
