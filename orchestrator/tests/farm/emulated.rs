//! What the command line takes and refuses of emulated protection, and that a secure page is seen.

use super::harness::{Farm, verdict};

const BOTH: [&str; 4] = ["--kernel", "debian-12", "--kernel", "debian-13"];

const SECURE: &str = "protection: emulated\nsteps: [{stress: splice, for: 1s, secure: true}]\n";

#[test]
fn a_scenario_for_emulated_protection_never_runs_with_another() {
    let farm = Farm::new();
    let secure = farm.scenario("secure", SECURE);
    for (protection, reason) in [
        ("none", "the scenario needs emulated protection, and --protection none was given"),
        ("hardware", "the scenario needs emulated protection, and --protection hardware was given"),
    ] {
        let run = farm.run(&["run", &secure, "--protection", protection, "--json"]).with_code(104);
        assert_eq!(verdict(&run.life("secure")), ("skipped", reason));
    }
}

#[test]
fn what_cannot_be_fixed_or_calibrated_is_refused() {
    let farm = Farm::new();
    let (plain, secure) = (farm.short(), farm.scenario("secure", SECURE));
    for (arguments, error) in [
        (
            &["run", &secure, &plain, "--fix", "dio"][..],
            "error: --fix goes with emulated protection, and short runs without\n  \
             hint: add --protection emulated\n",
        ),
        (
            &["run", &secure, "--fix", "dio", "--protection", "none"],
            "error: --fix goes with emulated protection, and secure runs without\n  \
             hint: add --protection emulated\n",
        ),
        (
            &["calibrate", &plain, &secure],
            "error: no scenario here says what mends a hit\n  hint: `mended-by` of an entry of `expect` does\n",
        ),
    ] {
        let refused = farm.run(arguments).with_code(2);
        assert_eq!((refused.stdout.as_str(), refused.stderr.as_str()), ("", error));
    }
    assert!(!farm.state().exists(), "no run was begun");
}

/// Init makes a file system on the disk, which nobody outside the guest has seen.
#[test]
fn pages_that_reach_the_modules_own_disk_secure_are_seen() {
    let farm = Farm::new();
    let arguments = ["run", "secure-vmsplice-uvsinkb", "--kernel", "debian-12", "--json"];
    let run = farm.finish(farm.command(&arguments)).with_code(0);
    let life = run.life("secure-vmsplice-uvsinkb");
    assert_eq!(verdict(&life).0, "passed");
    let titles: Vec<_> =
        life["hits"].as_array().unwrap().iter().map(|hit| &hit["judged"]["hit"]["title"]).collect();
    assert!(
        titles.contains(&&"uvsim: inaccessible page reached dma(uvsinkb) in do_splice".into()),
        "{titles:?}"
    );
}

/// 6.1 refuses a page of a large folio; 6.12 tries for ever to split one that stays dirty.
#[test]
fn a_page_of_a_large_folio_is_not_made_secure_by_kernels_before_6_16() {
    let farm = Farm::new();
    let arguments = [&["run", "secure-large-folio", "--json"], &BOTH[..]].concat();
    let run = farm.finish(farm.command(&arguments)).with_code(0).json();
    let paths = |life: &serde_json::Value| {
        let fingerprint = |hit: &serde_json::Value| hit["judged"]["hit"]["fingerprint"].clone();
        life["hits"].as_array().unwrap().iter().map(fingerprint).collect::<Vec<_>>()
    };
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(
        lives.iter().map(paths).collect::<Vec<_>>(),
        [&["data:folio:read:secure"][..], &["data:folio:written:secure", "data:folio:read:secure"]]
    );
}
