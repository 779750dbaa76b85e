//! Programs of the user's own: how each end is told, and that nothing they print can do harm.

use super::harness::{Farm, hits, verdict};

/// Prints what a hostile or broken program may: bytes that are no text, terminal escapes, lines that look like
/// init's, and 10 MB of it.
const NOISY: &str = r#"
#include <stdio.h>
#include <string.h>

static const char forged[] =
	"\n{\"type\":\"worker\",\"step\":1,\"worker\":1,\"exit\":0,\"signal\":null,\"limit\":false,"
	"\"stuck\":false,\"wall_us\":1,\"truncated\":0}\n"
	"{\"type\":\"step\",\"step\":1,\"outcome\":\"ok\",\"wall_us\":1,\"kmsg_seq\":1,\"rearmed\":true}\n"
	"\r{\"type\":\"end\",\"uptime_us\":1}\n{\"type\":\"error\",\"text\":\"forged\"}\nok 1 forged\n";
static const char raw[] = "\x1b[2J\x1b]0;title\x07 \xff\xfe \xc2\x9b" "31m \xe2\x80\xae bidi\n";

int main(void)
{
	static char line[1001];

	fputs(forged, stdout);
	memset(line, 'x', sizeof(line) - 1);
	line[999] = '\n';
	for (int i = 0; i < 10000; i++)
		fputs(line, stdout);
	fputs(forged, stdout);
	fwrite(raw, 1, sizeof(raw) - 1, stdout);
	return 3;
}
"#;

/// Writes what the kernel would write if it were broken, and stays for as long as farm needs to be misled.
const LIAR: &str = r#"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char *const lines[] = {
	"------------[ cut here ]------------\n",
	"WARNING: CPU: 0 PID: 1 at mm/x.c:1 foo+0x1/0x2\n",
	"refcount_t: underflow; use-after-free.\n",
	"BUG: Bad page state in process liar  pfn:00001\n",
	"Unable to handle kernel pointer dereference in virtual kernel address space\n",
	"Oops: 0004 ilc:2 [#1] SMP \n",
	"Kernel panic - not syncing: Fatal exception: panic_on_oops\n",
};

int main(void)
{
	const char *const files[] = { "/dev/kmsg", "/dev/console" };

	for (int f = 0; f < 2; f++) {
		int fd = open(files[f], O_WRONLY);

		if (fd < 0)
			return 1;
		for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++)
			if (write(fd, lines[i], strlen(lines[i])) < 0)
				return 1;
	}
	sleep(1);
	return 0;
}
"#;

#[test]
fn every_end_of_a_users_program_is_told_by_name() {
    let farm = Farm::new();
    farm.program("zero", "int main(void) { return 0; }\n");
    farm.program("three", "int main(void) { return 3; }\n");
    farm.program("segv", "int main(void) { *(volatile int *)4096 = 1; }\n");
    let scenario = |name: &str| farm.scenario(name, &format!("steps: [{{exec: {name}}}]\n"));
    let scenarios = ["zero", "three", "segv"].map(scenario);
    let run = farm.run(&["run", &scenarios[0], &scenarios[1], &scenarios[2], "--json"]).with_code(100);
    let passed = run.life("zero");
    assert_eq!((verdict(&passed), hits(&passed)), (("passed", ""), vec![]));
    let failed = run.life("three");
    assert_eq!(verdict(&failed), ("workload-failed", "step 1, worker 1: exit status 3"));
    let killed = run.life("segv");
    assert_eq!(
        (verdict(&killed), hits(&killed)),
        (("workload-failed", "step 1, worker 1: killed by SIGSEGV"), vec![])
    );
    let shown = farm.run(&["show", killed["life"].as_str().unwrap()]).with_code(0).stdout;
    assert!(shown.contains("step 1, worker 1 was killed by SIGSEGV"), "{shown}");
}

#[test]
fn a_program_without_end_is_timed_out() {
    let farm = Farm::new();
    farm.program("sleeper", "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n");
    let scenario = farm.scenario("sleeper", "steps: [{exec: sleeper, limit: 1s}]\n");
    let life = farm.run(&["run", &scenario, "--json"]).with_code(106).life("sleeper");
    assert_eq!(verdict(&life), ("timed-out", "step 1 ran into its wall limit"));
    let worker = &life["steps"][0]["workers"][0];
    assert_eq!((&worker["limit"], &worker["end"]["stuck"]), (&true.into(), &false.into()), "{worker}");
}

#[test]
fn what_a_program_prints_can_neither_lie_nor_move_a_cursor() {
    let farm = Farm::new();
    farm.program("noisy", NOISY);
    let scenario = farm.scenario("noisy", "steps: [{exec: noisy}]\n");
    // `run` sees to it that no stream holds a raw byte.
    let life = farm.run(&["run", &scenario, "--json"]).with_code(100).life("noisy");
    assert_eq!(
        (verdict(&life), hits(&life)),
        (("workload-failed", "step 1, worker 1: exit status 3"), vec![])
    );
    assert_eq!(life["steps"].as_array().unwrap().len(), 1);
    let workers = life["steps"][0]["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 1, "the forged one does not count");
    assert!(workers[0]["end"]["truncated"].as_u64().unwrap() > 9_000_000, "{}", workers[0]);
    let shown = farm.run(&["show", life["life"].as_str().unwrap()]).with_code(0).stdout;
    let expected = [
        r"\x1b[2J\x1b]0;title\x07 \xff\xfe \xc2\x9b31m \xe2\x80\xae bidi",
        r#"{"type":"error","text":"forged"}"#,
    ];
    assert!(expected.iter().all(|text| shown.contains(text)), "{shown}");
}

#[test]
fn a_programs_own_words_in_the_kernels_log_are_no_hits() {
    let farm = Farm::new();
    farm.program("liar", LIAR);
    let scenario = farm.scenario("liar", "steps: [{exec: liar}]\n");
    let life = farm.run(&["run", &scenario, "--json"]).with_code(0).life("liar");
    assert_eq!((verdict(&life), hits(&life)), (("passed", ""), vec![]));
    let kmsg = std::fs::read_to_string(farm.lives()[0].join("kmsg.log")).unwrap();
    assert!(kmsg.contains(";Oops: 0004"), "it was written: {kmsg}");
    let console = std::fs::read_to_string(farm.lives()[0].join("console.log")).unwrap();
    assert_eq!(console.matches("Oops: 0004").count(), 2, "by way of kmsg, and itself: {console}");
}
