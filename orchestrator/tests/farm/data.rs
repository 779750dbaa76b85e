//! Wrong data: a stress program in which a bug is planted must end as a hit of kind `data`.

use camino::Utf8Path;
use farm::scenario::Catalog;
use farm::scenario::programs::{Program, header};

use super::harness::{Farm, hits, verdict};

fn sources() -> &'static Utf8Path {
    Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/stress"))
}

fn catalog() -> Catalog {
    let yaml = std::fs::read_to_string(sources().join("programs.yaml")).unwrap();
    Catalog::parse("programs.yaml", &yaml).unwrap()
}

/// One guest for all of them: to start it takes longer than what they do.
#[test]
fn wrong_data_is_a_hit_in_every_stress_program() {
    let farm = Farm::new();
    let catalog = catalog();
    // ext4: tmpfs has no direct I/O in 6.1.
    let mut scenario =
        "name: plant\npurpose: a test\nmachine: {cpus: 1, memory: 256M, disks: [{size: 64M}]}\n\
         steps:\n"
            .to_owned();
    for entry in catalog.programs() {
        let program = &entry.name;
        farm.file(&format!("{program}.args.h"), header(entry));
        let source = sources().join(format!("{program}.c"));
        let common = sources().join("common.c");
        let include = [farm.path(""), sources().to_owned()];
        farm.compile(
            program,
            &[
                "-DSTRESS_PLANT=1",
                "-I",
                include[0].as_str(),
                "-I",
                include[1].as_str(),
                source.as_str(),
                common.as_str(),
            ],
        );
        // The bug comes within a few turns and ends its path; the operations would be enough without it.
        scenario += &format!(
            "  - {{exec: {program}, args: ['--seed=1', '--worker=1', '--ops=1000', '--dir=/mnt/0']}}\n"
        );
    }
    let scenario = farm.file("plant.yaml", scenario);
    let run = farm.run(&["run", "--json", scenario.as_str()]).with_code(100);
    let life = run.life("plant");
    assert_eq!(verdict(&life).0, "hit", "{life}");
    for (hit, (title, standing)) in life["hits"].as_array().unwrap().iter().zip(hits(&life)) {
        assert_eq!((&hit["judged"]["hit"]["kind"], standing), (&"data".into(), "new"), "{title}");
    }
    for Program { name, .. } in catalog.programs() {
        let wrong = format!("wrong data in {name}: ");
        assert!(hits(&life).iter().any(|(title, _)| title.starts_with(&wrong)), "no {wrong:?} in {life}");
    }
}
