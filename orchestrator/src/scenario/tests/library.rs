//! What the repository itself brings: its scenarios, and the reference that is made of the fields.

use super::*;

/// Its promise is 20 s of wall with boot; the steps' own time is the part that is fixed here.
#[test]
fn smoke_is_short_and_covers_every_program_and_both_file_systems() {
    let smoke = library().load("smoke").unwrap();
    let mut seen = Vec::new();
    let mut time = Duration::ZERO;
    for step in &smoke.steps {
        let Action::Stress { program, budget: Budget::For(step_time), dir, .. } = &step.action else {
            panic!("{} is no stress step with a time", step.name);
        };
        time += *step_time;
        seen.push((program.clone(), dir.clone()));
    }
    assert!(time <= Duration::from_secs(8), "{time:?}");
    // What needs more than an ordinary guest is not for it, nor modules that a kernel may lack.
    let ordinary =
        |program: &&Program| !program.secure_only && !program.share_only && program.modules.is_empty();
    for program in library().catalog.programs().iter().filter(ordinary) {
        assert!(seen.contains(&(program.name.clone(), "/mnt/0".to_owned())), "{}", program.name);
    }
    assert!(seen.iter().any(|(_, dir)| dir == "/tmp"), "{seen:?}");
}

#[test]
fn scenarios_are_found_by_name_or_by_path() {
    let library = library();
    assert_eq!(library.load("dio").unwrap().file, "scenarios/page-references/dio.yaml");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name)
    };
    write("prog", &static_elf());
    let own = write("own.yaml", b"name: own\npurpose: p\nsteps: [{exec: ./prog}]\n");
    let scenario = library.load(&own).unwrap();
    assert_eq!(scenario.file, own);
    let Action::Exec { path: program, .. } = &scenario.steps[0].action else { panic!() };
    assert_eq!(program.as_str(), path("./prog"));
    // From wherever it is asked for.
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let scenario = library.load(&format!("{up}{}", &own[1..])).unwrap();
    let Action::Exec { path: program, .. } = &scenario.steps[0].action else { panic!() };
    assert!(program.is_absolute() && program.is_file(), "{program}");

    let latin1 = write("latin1.yaml", b"# first\nname: a\npurpose: \xc3\xbc \xfc\n");
    let large = write("large.yaml", &vec![b'#'; (1 << 20) + 5]);
    let rows = [
        ("smok".to_owned(), "no scenario or group of scenarios has the name 'smok'".to_owned()),
        (path("none.yaml"), format!("cannot read scenario {}", path("none.yaml"))),
        (path(""), format!("cannot read scenario {}", path(""))),
        (latin1.clone(), format!("{latin1}:3:12: not UTF-8")),
        (large.clone(), format!("{large}:1:1: the file has more than 1048576 bytes")),
    ];
    for (argument, want) in rows {
        assert_eq!(library.load(&argument).unwrap_err().to_string(), want, "{argument}");
    }
    let LoadError::Unknown { hint, .. } = library.load("smok").unwrap_err() else { panic!() };
    assert_eq!(hint.as_deref(), Some("did you mean 'smoke'?"));
}

#[test]
fn a_scenario_as_json_is_plain() {
    let scenario = parse(
        "name: a\npurpose: p\nsteps: [{stress: splice, args: {direct: true}, for: 3s, beside: [{interference: compact, args: {rate: 2}}], touches: [{function: a|b, count: 5}]}]",
    );
    let json = serde_json::to_value(&scenario.steps[0]).unwrap();
    let want = serde_json::json!({
        "name": "splice",
        "action": {"stress": {
            "program": "splice", "args": [["direct", {"flag": true}]], "budget": {"for_ms": 3000},
            "workers": 1, "dir": "/tmp", "secure": false,
        }},
        "limit_ms": 33000,
        "beside": [{"program": "compact", "args": [["rate", {"text": "2"}]], "secure": false}],
        "touches": [{"functions": ["a", "b"], "least": 5, "when": null}],
    });
    assert_eq!(json, want);
    assert_eq!(serde_json::to_value(scenario.heartbeat).unwrap(), 30_000);
}

#[test]
fn the_reference_is_fresh() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenario.md"));
    let fresh = page.is_ok_and(|page| page == docs::reference(&library().catalog));
    assert!(fresh, "docs/scenario.md is stale: run `cargo xtask docs`");
}

#[test]
fn a_program_is_refused_without_the_modules_that_it_needs() {
    let scenario = |modules: &str| {
        let text = format!("name: a\npurpose: p\nmodules: {modules}\nsteps: [{{stress: stack, for: 1s}}]\n");
        check(Source { file: "a.yaml", text: &text }, &library().catalog, &OneFile(b""))
            .map_err(|problems| print(&problems))
    };
    assert_eq!(scenario("[dm-mod, loop]").unwrap().modules, ["dm-mod", "loop"]);
    assert_eq!(
        scenario("[loop]").unwrap_err(),
        "a.yaml:4:9: stack has nothing to do without `modules: [dm-mod]`"
    );
}
