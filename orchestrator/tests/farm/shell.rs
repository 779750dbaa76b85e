//! `farm shell`, typed at through a pipe.

use std::io::Write;
use std::process::Stdio;

use super::harness::Farm;

fn shell(typed: &[u8]) {
    let farm = Farm::new();
    let mut command = farm.command(&["shell"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Typed before there is anybody to read it; the end of the input is the end of the shell.
    child.stdin.take().unwrap().write_all(typed).unwrap();
    let output = child.wait_with_output().unwrap();
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}{told}");
    assert!(shown.contains("release=6.1.0-"), "{shown}");
    assert!(told.contains("booting 6.1.0-"), "{told}");
    assert_eq!(farm.processes(), []);
}

#[test]
fn a_shell_does_what_is_piped_into_it_until_power_off() {
    shell(b"echo release=$(uname -r)\npoweroff\n");
}

#[test]
fn a_shell_ends_with_its_input() {
    shell(b"echo release=$(uname -r)\n");
}

#[test]
fn a_hit_is_brought_by_hand_in_its_own_guest() {
    let farm = Farm::new();
    farm.program(
        "hello",
        "#include <stdio.h>\nint main(void) { puts(\"a program of the user\"); return 0; }\n",
    );
    let steps = "steps:\n  - {exec: hello}\n  - {write: /sys/kernel/debug/tripwire/trip, text: warn-text}\nmodules: [tripwire]\n";
    let scenario = farm.scenario("typed", steps);
    let ran = farm.run(&["run", &scenario, "--kernel", "debian-12", "--json"]).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    let commands = ["/job/exec/1", "printf %s warn-text > /sys/kernel/debug/tripwire/trip"];
    let mut command = farm.command(&["repro", hit, "--shell"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all((commands.join("\n") + "\npoweroff\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What is to be typed is told, and does it.
    assert!(commands.iter().all(|line| told.contains(&format!("  {line}\n"))), "{told}");
    assert!(shown.contains("a program of the user"), "{shown}");
    assert!(shown.contains(" tripwire_warn_text+0x"), "{shown}{told}");
    assert_eq!(output.status.code(), Some(0), "{shown}{told}");
    assert_eq!(farm.processes(), []);
}
