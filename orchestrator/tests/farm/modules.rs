//! Scenarios with kernel modules of farm's own: built for the kernel, loaded, and what keeps a cell from it.

use std::fs;
use std::os::unix::fs::symlink;

use camino::Utf8PathBuf;

use super::harness::{Farm, debian_12, hits, shared_cache, verdict};

/// The module `tripwire` makes the kernel complain when it is asked to.
const STEPS: &str = "\
modules: [tripwire]
steps: [{write: /sys/kernel/debug/tripwire/trip, text: warn-text}]
";

#[test]
fn a_module_is_built_for_each_kernel_and_loaded_before_the_steps() {
    let farm = Farm::new();
    let tripped = farm.scenario("tripped", STEPS);
    let run = ["run", &tripped, "--kernel", "debian-12", "--kernel", "debian-13", "--json"];
    let run = farm.run(&run).with_code(100).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 2);
    for life in lives {
        let title = "WARNING in tripwire_warn_text";
        assert_eq!((verdict(life), hits(life)), (("hit", title), vec![(title, "new")]), "{life}");
    }
    for life in farm.lives() {
        let job = fs::read_to_string(life.join("job.txt")).unwrap();
        assert!(job.contains("\nmodule tripwire.ko\nstep "), "{job}");
        // Where the reader finds the line that complains.
        let log = fs::read_to_string(life.join("kmsg.log")).unwrap();
        assert!(log.contains(" at guests/modules/tripwire/warn.c:"), "{log}");
    }
}

#[test]
fn a_warning_that_comes_once_comes_once_in_every_step() {
    let farm = Farm::new();
    let step = "{write: /sys/kernel/debug/tripwire/trip, text: warn-once}";
    let steps = format!("modules: [tripwire]\nsteps: [{step}, {step}]\n");
    let scenario = farm.scenario("twice", &steps);
    let run = ["run", &scenario, "--kernel", "debian-12", "--kernel", "debian-13", "--json"];
    let run = farm.run(&run).with_code(100).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 2);
    for life in lives {
        let mut found: Vec<_> = life["hits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| (hit["step"].as_u64(), hit["judged"]["hit"]["title"].as_str().unwrap()))
            .collect();
        found.sort_unstable();
        let [one, two] = ["WARNING in tripwire_warn_once_one", "WARNING in tripwire_warn_once_two"];
        assert_eq!(found, [(Some(1), one), (Some(1), two), (Some(2), one), (Some(2), two)], "{life}");
    }
}

#[test]
fn a_kernel_of_the_users_without_headers_is_skipped_with_what_mends_it() {
    let farm = Farm::new();
    let (tripped, plain) = (farm.scenario("tripped", STEPS), farm.short());
    let kernel = debian_12();
    let (boot, modules) = (kernel.boot.as_str(), kernel.modules.as_deref().unwrap());
    let run = ["run", &tripped, &plain, "--kernel", boot, "--modules", modules.as_str(), "--json"];
    let run = farm.run(&run).with_code(0);
    let name = kernel.boot.file_name().unwrap();
    let reason = format!("there are no headers of the kernel {name}; name its build tree with --headers DIR");
    assert_eq!(verdict(&run.life("tripped")), ("skipped", reason.as_str()));
    assert_eq!(verdict(&run.life("short")).0, "passed");
}

/// The shared cache by links, but for kernels' headers and the modules that were built against them.
fn cache_without_headers(farm: &Farm) -> Utf8PathBuf {
    let (shared, cache) = (shared_cache(), farm.path("cache"));
    fs::create_dir_all(cache.join("notes")).unwrap();
    for kind in ["kernel", "package", "qemu", "program", "image", "disk"] {
        symlink(shared.join(kind), cache.join(kind)).unwrap();
    }
    for note in shared.join("notes").read_dir_utf8().unwrap() {
        let note = note.unwrap();
        if !note.file_name().starts_with("linux-headers-") {
            fs::copy(note.path(), cache.join("notes").join(note.file_name())).unwrap();
        }
    }
    cache
}

#[test]
fn headers_that_cannot_be_had_are_trouble_of_the_cells_that_need_them() {
    let farm = Farm::new();
    debian_12();
    let (tripped, plain) = (farm.scenario("tripped", STEPS), farm.short());
    let mut run = farm.command(&["run", &tripped, &plain, "--kernel", "debian-12", "--json"]);
    run.env("FARM_CACHE", cache_without_headers(&farm));
    for archive in ["FARM_DEBIAN_MIRROR", "FARM_DEBIAN_SECURITY_MIRROR"] {
        run.env(archive, "nowhere");
    }
    let run = farm.finish(run).with_code(103);
    let life = run.life("tripped");
    let (word, reason) = verdict(&life);
    assert_eq!((word, &life["ending"]["type"]), ("infra", &"infra".into()), "{life}");
    assert!(reason.starts_with("no headers of debian-12: the mirror \"nowhere\" is not a URI"), "{reason}");
    assert!(reason.contains("`farm kernel fetch debian-12` fetches"), "{reason}");
    assert_eq!(verdict(&run.life("short")).0, "passed");
}

/// A tree of the kernel's release that has no headers: the compiler finds out.
fn tree_without_headers(farm: &Farm, release: &str) -> String {
    for folder in ["tree", "tree/scripts", "tree/scripts/mod", "tree/include", "tree/include/generated"] {
        fs::create_dir(farm.path(folder)).unwrap();
    }
    farm.file("tree/Makefile", "modules:\n\t$(CC) -c -o $(M)/main.o $(M)/main.c\n");
    farm.file("tree/scripts/mod/modpost", "");
    farm.file("tree/include/generated/autoconf.h", "");
    farm.file("tree/include/generated/utsrelease.h", format!("#define UTS_RELEASE \"{release}\"\n"));
    farm.path("tree").into_string()
}

#[test]
fn a_module_that_does_not_compile_is_a_build_failure_in_the_compilers_words() {
    let farm = Farm::new();
    let tripped = farm.scenario("tripped", STEPS);
    let kernel = debian_12();
    let tree = tree_without_headers(&farm, &kernel.key.release);
    let run = |tree: &str, more: &str| {
        farm.run(&["run", &tripped, "--kernel", kernel.boot.as_str(), "--headers", tree, more])
    };
    let life = run(&tree, "--json").with_code(101).life("tripped");
    let (word, reason) = verdict(&life);
    assert_eq!((word, &life["ending"]["type"]), ("build-failed", &"not-built".into()), "{life}");
    let release = &kernel.key.release;
    let expected = format!(
        "the module tripwire cannot be built for the kernel {release}: guests/modules/tripwire/main.c:"
    );
    assert!(reason.starts_with(&expected) && reason.contains("fatal error: linux/"), "{reason}");
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("1 build-failed"), "{shown}");

    // A wrong tree that was given by name is wrong usage.
    let refused = run(farm.state().as_str(), "--json").with_code(2).stderr;
    assert!(refused.contains("is not a kernel's build tree: there is no Makefile in it"), "{refused}");
    let stray = farm.run(&["run", &tripped, "--headers", &tree]).with_code(2).stderr;
    assert!(stray.contains("--headers go with exactly one kernel given by path"), "{stray}");
}
