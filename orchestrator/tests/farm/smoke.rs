//! The main job: `farm run smoke`, and reading it back.

use std::fs;

use camino::Utf8Path;
use farm::scenario::Catalog;
use serde_json::Value;

use super::harness::{Farm, hits, verdict};

fn names(directory: &Utf8Path) -> Vec<String> {
    let entries = directory.read_dir_utf8().unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn smoke_passes_on_both_kernels_and_can_be_read_back() {
    let farm = Farm::new();
    let run =
        farm.run(&["run", "smoke", "--kernel", "debian-12", "--kernel", "debian-13", "--json"]).with_code(0);
    let run = run.json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 2);
    for (life, series) in lives.iter().zip(["6.1.", "6.12."]) {
        assert_eq!((verdict(life), hits(life)), (("passed", ""), vec![]));
        assert_eq!(life["ending"]["type"], "powered-off");
        assert_eq!(
            (&life["streams"]["kmsg_lost"], &life["streams"]["dropped_bytes"]),
            (&0.into(), &0.into())
        );
        assert!(life["ready"]["release"].as_str().unwrap().starts_with(series), "{life}");
        works(life);
    }

    // The directory is what store/mod.rs says, and nothing else.
    assert_eq!(names(&farm.run_directory()), ["cells", "events.jsonl", "run.json", "summary.json"]);
    let files = [
        "cell.json",
        "command.sh",
        "console.log",
        "job.cpio",
        "job.txt",
        "kmsg.log",
        "result.json",
        "results.log",
    ];
    for life in farm.lives() {
        assert_eq!(names(&life), files);
        let text = |name: &str| fs::read_to_string(life.join(name)).unwrap();
        assert!(text("console.log").contains("] Linux version 6."));
        assert!(text("kmsg.log").contains(";Linux version 6."));
        assert!(text("results.log").contains("\n{\"type\":\"end\","));
    }

    // Read back, it is the same.
    let id = run["run"]["id"].as_str().unwrap();
    let listed = farm.run(&["runs"]).with_code(0).stdout;
    assert!(listed.contains(id) && listed.contains("2 passed"), "{listed}");
    assert_eq!(farm.run(&["show", &id[..4], "--json"]).with_code(0).json(), run);
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert_eq!(shown, farm.run(&["show", id]).with_code(0).stdout);
    assert!(shown.contains(&format!("run {id}: 2 passed in ")), "{shown}");
    let life = &lives[1];
    let cell = life["life"].as_str().unwrap();
    assert_eq!(farm.run(&["show", &cell[..8], "--json"]).with_code(0).json(), *life);
    let shown = farm.run(&["show", &cell[..8]]).with_code(0).stdout;
    assert!(shown.starts_with("smoke on debian-13 6.12.") && shown.contains("file-pipe-direct"), "{shown}");
    let hits = farm.run(&["hits"]).with_code(0);
    assert_eq!((hits.stdout.as_str(), hits.stderr.as_str()), ("", "no hits\n"));
}

/// Every step ran, and every worker moved data on every path that it could take.
fn works(life: &Value) {
    let steps = life["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    let catalog = Catalog::embedded().unwrap();
    // What needs more than an ordinary guest is not for it, nor modules that a kernel may lack.
    let ordinary = |program: &&farm::scenario::programs::Program| {
        !program.secure_only && !program.share_only && program.modules.is_empty()
    };
    let programs = catalog.programs().iter().filter(ordinary).map(|program| program.name.as_str());
    for program in programs.chain(["splice-tmpfs"]) {
        assert!(names.contains(&program), "{program} is not in the short look at every program: {names:?}");
    }
    for step in steps {
        assert_eq!(step["rearmed"], true, "{step}");
        let workers = step["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2);
        assert_eq!(step["outcome"], "ok", "{step}");
        for stats in workers.iter().map(|worker| worker["end"]["program"]["stats"].as_array().unwrap()) {
            assert!(!stats.is_empty() && stats.iter().all(|path| path["ops"].as_u64() > Some(0)), "{step}");
        }
    }
}

#[test]
fn two_farms_share_a_cache_and_a_results_directory() {
    let farm = Farm::new();
    let scenario = farm.short();
    let both = [(); 2].map(|()| farm.start(&["run", &scenario, "--jobs", "1"]));
    for one in both {
        one.end().with_code(0);
    }
    let runs = farm.run(&["runs", "--json"]).with_code(0).json();
    let verdicts: Vec<_> =
        runs.as_array().unwrap().iter().map(|run| run["lives"][0]["verdict"].clone()).collect();
    assert_eq!(verdicts, ["passed", "passed"]);
}
