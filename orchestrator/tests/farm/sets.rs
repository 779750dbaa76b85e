//! What init writes to the kernel's files before the first step, shown with jobs that no scenario makes.

use std::fs;
use std::io::Write;
use std::process::Command;

use camino::Utf8Path;
use cpio::newc::{Builder, ModeFileType, trailer};

use super::harness::Farm;

/// Says what a step finds.
const READER: &str = r#"
#include <stdio.h>
int main(void)
{
	FILE *file = fopen("/proc/sys/vm/swappiness", "r");
	int value;

	if (!file || fscanf(file, "%d", &value) != 1)
		return 1;
	printf("swappiness is %d\n", value);
	return 0;
}
"#;

/// An archive with this job in it: the kernel takes a file that comes again in the place of the first.
fn archive(job: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = Builder::new("job/job").mode(0o644).set_mode_file_type(ModeFileType::Regular);
    let mut writer = file.write(&mut bytes, u32::try_from(job.len()).unwrap());
    writer.write_all(job.as_bytes()).unwrap();
    writer.finish().unwrap();
    trailer(&mut bytes).unwrap();
    bytes
}

/// The results of the life's guest, started by hand with `lines` in its job.
fn results_with(farm: &Farm, life: &Utf8Path, plain: &[u8], lines: &str) -> String {
    let job = fs::read_to_string(life.join("job.txt")).unwrap();
    let job = job.replacen("\nstep ", &format!("\n{lines}step "), 1);
    fs::write(life.join("job.cpio"), [plain, &archive(&job)].concat()).unwrap();
    let mut script = Command::new("sh");
    script.arg(life.join("command.sh"));
    farm.finish(script).with_code(0);
    fs::read_to_string(life.join("by-hand/results.log")).unwrap()
}

#[test]
fn what_is_set_stands_when_the_first_step_begins_and_what_cannot_be_set_ends_the_job() {
    let farm = Farm::new();
    farm.program("reader", READER);
    let scenario = farm.scenario("reads", "steps: [{exec: reader}]\n");
    farm.run(&["run", &scenario]).with_code(0);
    let life = farm.lives().remove(0);
    let plain = fs::read(life.join("job.cpio")).unwrap();
    let results = |lines: &str| results_with(&farm, &life, &plain, lines);

    let left_alone = results("");
    assert!(left_alone.contains("    swappiness is 60\n"), "the kernel's default: {left_alone}");
    let set = results("set /proc/sys/vm/swappiness 9\nset /proc/sys/vm/swappiness 8%0A\n");
    assert!(set.contains("    swappiness is 8\n"), "the later of two: {set}");

    for (line, error) in [
        ("set /proc/sys/vm/absent 1\n", "set /proc/sys/vm/absent to 1: No such file or directory"),
        ("set /proc/sys/vm/swappiness much\n", "set /proc/sys/vm/swappiness to much: Invalid argument"),
    ] {
        let refused = results(line);
        assert!(refused.contains(&format!("{{\"type\":\"error\",\"text\":\"{error}\"}}")), "{refused}");
        assert!(!refused.contains("\"type\":\"start\""), "no step was begun: {refused}");
    }
}
