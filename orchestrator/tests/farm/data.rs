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

#[test]
fn wrong_data_is_a_hit_in_every_stress_program() {
    let farm = Farm::new();
    let catalog = catalog();
    let mut command = vec!["run".to_owned(), "--json".to_owned()];
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
        // ext4: tmpfs has no direct I/O in 6.1.
        let text = format!(
            "name: plant-{program}\npurpose: a test\nmachine: {{cpus: 1, memory: 256M, disks: [{{size: 64M}}]}}\n\
             steps: [{{exec: {program}, args: ['--seed=1', '--worker=1', '--ops=400', '--dir=/mnt/0']}}]\n"
        );
        command.push(farm.file(&format!("plant-{program}.yaml"), text).into_string());
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let run = farm.run(&command).with_code(100);
    for Program { name: program, .. } in catalog.programs() {
        let life = run.life(&format!("plant-{program}"));
        assert_eq!(verdict(&life).0, "hit", "{life}");
        assert!(!hits(&life).is_empty());
        for (hit, (title, standing)) in life["hits"].as_array().unwrap().iter().zip(hits(&life)) {
            assert_eq!((&hit["judged"]["hit"]["kind"], standing), (&"data".into(), "new"), "{title}");
            assert!(title.contains(program), "{title}");
        }
    }
}
