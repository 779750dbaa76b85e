//! A hit's exact cell, once more.

use std::fs;

use super::harness::{Farm, debian_12};

const TITLE: &str = "kernel panic: sysrq triggered crash";

#[test]
fn a_hit_comes_again_and_is_told_with_an_interval() {
    let farm = Farm::new();
    let ran = farm.run(&["run", "crash-unexpected", "--json"]).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    let again = farm.run(&["repro", hit, "--repeat", "2", "--json"]).with_code(0).json();
    // The very cell.
    assert_eq!(again["lives"][0]["life"], ran["lives"][0]["life"]);
    assert_eq!(again["run"]["repro"]["title"], TITLE);
    assert_eq!((&again["repro"]["same"], &again["repro"]["other"]), (&2.into(), &0.into()), "{again}");
    let told = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(told.contains("same hit: 2 of 2 (with 95 % between 15.8 % and 100.0 % of lives)"), "{told}");
    let life = ran["lives"][0]["life"].as_str().unwrap();
    let refused = farm.run(&["repro", life]).with_code(2).stderr;
    assert!(refused.contains("is not a hit"), "{refused}");
}

#[test]
fn a_kernel_that_is_gone_is_named() {
    let farm = Farm::new();
    let kernel = farm.path("vmlinuz");
    fs::copy(&debian_12().boot, &kernel).unwrap();
    let scenario = farm.scenario("crash", "steps: [{write: /proc/sysrq-trigger, text: c}]\n");
    let modules = debian_12().modules.unwrap();
    let own = ["--kernel", kernel.as_str(), "--modules", modules.as_str()];
    let ran = farm.run(&[&["run", &scenario, "--json"], &own[..]].concat()).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    let again = farm.run(&["repro", hit, "--repeat", "1", "--json"]).with_code(0).json();
    assert_eq!(again["repro"]["same"], 1);
    // It has no vmlinux, which is told before a guest boots.
    let runs = || fs::read_dir(farm.state().join("runs")).unwrap().count();
    let (before, bundle) = (runs(), farm.path("hit.tar.zst"));
    let asked = ["repro", hit, "--bundle", bundle.as_str(), "--with-vmlinux"];
    let refused = farm.run(&asked).with_code(2).stderr;
    assert!(refused.contains("there is no vmlinux of "), "{refused}");
    assert_eq!(runs(), before);
    // Another that boots as well.
    let image = [fs::read(&kernel).unwrap(), b"other".to_vec()].concat();
    fs::write(&kernel, image).unwrap();
    let refused = farm.run(&["repro", hit]).with_code(2).stderr;
    assert!(refused.contains("is not here any more, or another is in its place"), "{refused}");
    assert!(refused.contains(&format!("it was {kernel}, with the SHA-256 ")), "{refused}");
    let refused = farm.run(&["repro", hit, "--bundle", bundle.as_str()]).with_code(2).stderr;
    assert!(refused.contains("is not here any more") && !bundle.exists(), "{refused}");
    fs::remove_file(&kernel).unwrap();
    assert!(farm.run(&["repro", hit]).with_code(2).stderr.contains("vmlinuz"));
}

/// One page of 256, so that in 5 boots of 200 somebody meets its frozen count (docs/benchmarks.md).
const RARE: &str = "
name: rare
purpose: fast GUP of one page of many while its count is frozen
protection: emulated
machine: {cpus: 2, memory: 512M}
steps: [{stress: freeze, args: {mode: fast-gup, pages: 256}, ops: 1, secure: true}]
";

#[test]
fn a_race_that_boots_seldom_show_is_found_by_search_and_comes_every_time() {
    let farm = Farm::new();
    let scenario = farm.file("rare.yaml", RARE);
    let search = ["run", scenario.as_str(), "--schedule", "deterministic", "--until", "hit", "--json"];
    let found = farm.finish(farm.warm_command(&search)).with_code(100).json();
    let mut hits =
        found["lives"].as_array().unwrap().iter().flat_map(|life| life["hits"].as_array().unwrap());
    let hit = hits.next().unwrap();
    assert_eq!(hit["judged"]["hit"]["title"], "WARNING in try_grab_page");
    let again = farm.run(&["repro", hit["id"].as_str().unwrap(), "--json"]).with_code(0).json();
    assert_eq!(again["repro"]["same"], 10, "{again}");
    assert_eq!(again["lives"][0]["timings"]["start"]["type"], "resumed");
    // Which are other turns.
    let cold = farm.run(&["repro", hit["id"].as_str().unwrap(), "--cold", "--repeat", "1"]);
    assert!(cold.stdout.contains("not as it was: its guest boots, and went on from a saved one"), "{cold:?}");
}

/// Neither is looked for, so that nothing needs to be there.
#[test]
fn what_says_nothing_together_is_refused() {
    let farm = Farm::new();
    let told = |words: &[&str], wanted: &str| {
        let told = farm.run(&[&["repro"], words].concat()).with_code(2).stderr;
        assert!(told.contains(wanted), "{words:?}: {wanted:?} is not in {told:?}");
    };
    let modes: [&[&str]; 4] = [&["--bundle", "b.tar.zst"], &["--shell"], &["--gdb"], &["--minimise=m.yaml"]];
    for (at, one) in modes.iter().enumerate() {
        for other in &modes[at + 1..] {
            told(&[&["1"], *one, *other].concat(), "cannot be used with");
        }
        told(&[&["1"], *one, &["--dump"]].concat(), "cannot be used with '--dump'");
    }
    for lives in [&["--repeat", "2"][..], &["--cold"]] {
        for mode in [&["--bundle", "b.tar.zst"][..], &["--shell"]] {
            told(&[&["1"], mode, lives].concat(), &format!("cannot be used with '{}", lives[0]));
        }
    }
    for (words, wanted) in [
        (&["--bundle", "b.tar.zst"][..], "hit.tar.zst is a bundle already\n"),
        (&["--shell"], "--shell takes a hit, and hit.tar.zst is a bundle\n"),
        (&["--minimise"], "--minimise takes a hit, and "),
        (&["--dump"], "--dump takes a hit, and "),
        (&["--gdb"], "hint: unpack it (tar --zstd -xf hit.tar.zst), and in it: ./run.sh --gdb\n"),
        (&["--gdb", "--record"], "--gdb takes a hit, and "),
    ] {
        told(&[&["hit.tar.zst"], words].concat(), wanted);
    }
}
