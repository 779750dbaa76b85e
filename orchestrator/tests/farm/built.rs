//! A real kernel, built here of Debian's sources, and a patch tried on it. What is built stays in the cache of the tests.

use std::time::Duration;

use farm::assets;

use super::bundle::{bundled, command, programs, qemu, unpacked};
use super::harness::{Farm, shared_cache, verdict};

/// A kernel from nothing, on two CPUs with other tests beside it.
const LONG: Duration = Duration::from_secs(1500);

/// What the patch of 2020 did: pages of the page cache are made accessible when they leave a pipe.
const FIX: &str = "\
From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: A <a@example.invalid>
Date: Thu, 30 Apr 2020 16:38:25 +0200
Subject: [PATCH] fs/splice: make pages accessible that leave a pipe

---
--- a/fs/splice.c
+++ b/fs/splice.c
@@ -130,6 +130,8 @@
 \t\tunlock_page(page);
 \t}
 
+\tif (arch_make_page_accessible(page))
+\t\treturn -EIO;
 \treturn 0;
 error:
 \tunlock_page(page);
";

#[test]
fn a_kernel_that_is_built_here_is_stressed_and_a_patch_on_it_tried() {
    let farm = Farm::new();
    let build = ["kernel", "build", "lean-6.1", "--json"];
    let built = farm.finish_within(LONG, farm.warm_command(&build)).with_code(0).json();
    let vmlinux = built[0]["vmlinux"].as_str().unwrap();
    assert!(std::path::Path::new(vmlinux).is_file(), "{built}");

    let run =
        farm.finish_within(LONG, farm.warm_command(&["run", "smoke", "--kernel", "lean-6.1", "--json"]));
    assert_eq!(verdict(&run.with_code(0).life("smoke")).0, "passed");

    traces_show_the_source(&farm);

    let patch = farm.file("fix.patch", FIX);
    let arguments = ["try", patch.as_str(), "--tree", "linux-6.1", "--scenario", "secure-splice-tcp"];
    let arguments =
        [&arguments[..], &["--scenario", "secure-vmsplice-uvsinkb", "--repeat", "4", "--json"]].concat();
    let tried = farm.finish_within(LONG, farm.warm_command(&arguments)).with_code(0).json();
    let told: Vec<_> = tried["trial"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let side = |side: &str| (one[side]["seen"].as_u64().unwrap(), one[side]["of"].as_u64().unwrap());
            (
                one["label"].as_str().unwrap(),
                side("base"),
                side("patched"),
                one["change"]["word"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("secure-splice-tcp", (4, 4), (0, 4), "gone"), ("secure-vmsplice-uvsinkb", (4, 4), (4, 4), "same")]
    );
    assert_eq!(tried["run"]["trial"]["subjects"][0], "fs/splice: make pages accessible that leave a pipe");
}

/// Frames of a module of farm's own and of the kernel have the lines that the sources say.
fn traces_show_the_source(farm: &Farm) {
    let run =
        farm.finish_within(LONG, farm.warm_command(&["run", "warnings", "--kernel", "lean-6.1", "--json"]));
    let life = run.with_code(0).life("warnings");
    let hit = life["hits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hit| hit["judged"]["hit"]["frame"] == "tripwire_warn_text");
    let hit = hit.unwrap_or_else(|| panic!("{life}"));
    let places = |function: &str| {
        let frames = hit["judged"]["hit"]["frames"].as_array().unwrap();
        let index = frames.iter().position(|frame| frame["function"] == function).unwrap();
        &hit["places"][index]
    };
    let warn = assets::GUESTS.get_file("modules/tripwire/warn.c").unwrap().contents_utf8().unwrap();
    let line = 1 + warn.lines().position(|line| line.contains("a warning with a text of")).unwrap();
    let file = "guests/modules/tripwire/warn.c";
    let expected = serde_json::json!([{ "function": "tripwire_warn_text", "file": file, "line": line }]);
    assert_eq!(places("tripwire_warn_text"), &expected, "{hit}");

    // ksys_write() calls vfs_write() in one place.
    let place = &places("ksys_write")[0];
    assert_eq!(
        (&place["function"], &place["file"]),
        (&"ksys_write".into(), &"fs/read_write.c".into()),
        "{hit}"
    );
    let source = shared_cache().join("tree/linux-6.1/source/fs/read_write.c");
    let source = std::fs::read_to_string(source).unwrap();
    let line = usize::try_from(place["line"].as_u64().unwrap()).unwrap();
    assert!(source.lines().nth(line - 1).unwrap().contains("vfs_write("), "{place}");

    let shown = farm.run(&["show", hit["id"].as_str().unwrap()]).with_code(0).stdout;
    assert!(shown.contains(&format!("    tripwire_warn_text at {file}:")), "{shown}");
    assert!(shown.contains("    ksys_write at fs/read_write.c:"), "{shown}");
}

/// Its vmlinux is in the bundle, and README.md says what to type.
#[test]
fn a_bundle_is_looked_at_with_gdb() {
    let farm = Farm::new();
    farm.finish_within(LONG, farm.warm_command(&["kernel", "build", "lean-6.1"])).with_code(0);
    let (_, bundle, _) =
        bundled(&farm, &["crash-unexpected", "--kernel", "lean-6.1"], &["--with-vmlinux", "--unchecked"]);
    let place = unpacked(&farm, &bundle, "colleague");
    let bin = programs(&farm, "bin", &qemu());
    let readme = std::fs::read_to_string(place.join("README.md")).unwrap();
    let line = |begin: &str| readme.lines().find_map(|line| line.strip_prefix("    ")?.strip_prefix(begin));
    let arguments = line("./run.sh --gdb").map(|_| "--gdb").unwrap();
    let gdb = line("gdb-multiarch ").unwrap();
    let mut guest = farm.begin(command(&place, &bin, "", &[arguments]));
    guest.wait_for("the guest waits for gdb at ");
    let typed = format!("gdb-multiarch -batch -nx {gdb} -ex bt -ex detach");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &typed]).current_dir(&place);
    let output = shell.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let frames: Vec<_> = said.lines().filter(|line| line.starts_with('#')).collect();
    assert!(frames[0].contains("panic (") && frames[0].contains("kernel/panic.c"), "{said}");
    assert!(frames.iter().any(|frame| frame.contains(" sysrq_handle_crash (")), "{said}");
    assert_eq!(guest.end().with_code(0).stdout, "same hit (the guest's words are in runs/1)\n");
    assert!(!place.join("gdb.sock").exists());
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let farm = Farm::new();
    let nothing = farm.file("nothing.patch", "no diff\n");
    let here = farm.path("here");
    std::fs::create_dir(&here).unwrap();
    let scenario = farm.short();
    for (what, tree, error) in [
        ("none.patch", "linux-5.0", "error: linux-5.0 is neither a directory nor sources with a name\n"),
        (nothing.as_str(), "linux-6.1", "holds no patch\n"),
        ("none.patch", here.as_str(), "is no kernel tree: there is no Makefile in it\n"),
    ] {
        let refused = farm.run(&["try", what, "--tree", tree, "--scenario", &scenario]).with_code(2);
        assert!(refused.stderr.contains(error), "{refused:?}");
    }
    let refused = farm.run(&["run", &scenario, "--tree", here.as_str(), "--config", "nonsense"]).with_code(2);
    assert!(refused.stderr.starts_with("error: there is no configuration 'nonsense'\n"), "{refused:?}");
}
