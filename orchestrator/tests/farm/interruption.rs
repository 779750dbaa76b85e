//! A run that is cut short, nicely and otherwise. However farm ends, no QEMU outlives it.

use rustix::process::Signal;

use super::harness::{Farm, verdict, wait_gone};

#[test]
fn kill_9_takes_qemu_along_and_leaves_a_run_that_can_be_read() {
    let farm = Farm::new();
    let mut run = farm.start(&["run", &farm.endless()]);
    run.wait_for(": ready");
    let qemu = farm.qemu().handle();
    run.signal(Signal::KILL);
    wait_gone(&qemu);
    assert_eq!(run.end().code, None);
    assert_eq!(farm.processes(), []);
    let listed = farm.run(&["runs"]).with_code(0).stdout;
    assert!(listed.contains("cut short"), "{listed}");
    let shown = farm.run(&["show", "last"]).with_code(0);
    assert!(shown.stdout.contains("it was cut short, or is still going on"), "{shown:?}");
    let life = farm.lives()[0].file_name().unwrap().to_owned();
    assert!(shown.stdout.contains(&format!("{life} has no end")), "{shown:?}");
}

#[test]
fn the_first_interrupt_ends_the_guests_and_reports() {
    let farm = Farm::new();
    let mut run = farm.start(&["run", &farm.endless(), "--repeat", "3", "--jobs", "1", "--json"]);
    run.wait_for(": ready");
    run.signal(Signal::INT);
    let run = run.end().with_code(130);
    assert!(run.stderr.contains("stopping: "), "{}", run.stderr);
    let life = run.life("endless");
    assert_eq!(verdict(&life), ("skipped", "interrupted"));
    assert_eq!(run.json()["summary"]["exit"], 130);
    assert!(farm.run_directory().join("summary.json").is_file());
    assert_eq!(farm.processes(), []);
}

#[test]
fn the_second_interrupt_leaves_at_once() {
    let farm = Farm::new();
    let mut run = farm.start(&["run", &farm.endless()]);
    run.wait_for(": ready");
    let qemu = farm.qemu().handle();
    run.signal(Signal::INT);
    run.signal(Signal::INT);
    run.end().with_code(130);
    wait_gone(&qemu);
    assert_eq!(farm.processes(), []);
}
