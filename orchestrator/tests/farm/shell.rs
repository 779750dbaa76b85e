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
