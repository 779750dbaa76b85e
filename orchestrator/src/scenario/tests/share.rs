//! What is said of a machine's share and of the program that reads it.

use super::*;

/// The repository's own programs.
fn check_own(machine: &str, step: &str) -> Result<Scenario, String> {
    let text = format!("name: a\npurpose: p\nmachine: {machine}\nsteps:\n  - {step}\n");
    check(Source { file: "a.yaml", text: &text }, &library().catalog, &OneFile(b""))
        .map_err(|problems| print(&problems))
}

#[test]
fn the_program_share_is_told_where_it_lies_whatever_disks_there_are() {
    let scenario = check_own("{share: true, disks: [{}]}", "{stress: share, for: 1s}").unwrap();
    assert!(scenario.machine.share);
    assert_eq!(scenario.steps[0].action.arguments().join(" "), "--for=1000 --dir=/mnt/share");
    let scenario = check_own("{share: true, disks: [{}]}", "{stress: dio, for: 1s}").unwrap();
    assert_eq!(scenario.steps[0].action.arguments().join(" "), "--for=1000 --dir=/mnt/0");
}

#[test]
fn nobody_reads_a_share_that_is_not_there_and_nobody_writes_to_one() {
    let (none, share) = ("{share: false}", "{share: true}");
    for (machine, step, said) in [
        (
            none,
            "{stress: share, for: 1s}",
            "a.yaml:5:5: share reads the machine's share, and there is none\n    add `share: true` to `machine`",
        ),
        (
            share,
            "{stress: share, for: 1s, dir: tmp}",
            "a.yaml:5:35: dir: share reads the machine's share, and has no files of its own",
        ),
        (
            share,
            "{stress: dio, for: 1s, dir: share}",
            "a.yaml:5:33: dir: expected tmp, disk0, disk1, disk2, disk3, disk4, disk5, disk6, disk7 or uvsinkb, found 'share'",
        ),
        (
            "{share: maybe}",
            "{stress: share, for: 1s}",
            "a.yaml:3:18: share: expected true or false, found 'maybe'",
        ),
    ] {
        assert_eq!(check_own(machine, step).unwrap_err(), said);
    }
}
