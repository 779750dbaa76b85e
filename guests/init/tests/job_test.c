// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The job parser, on the machine that builds it. From guests/init/:
 *
 *   cc -std=gnu11 -Wall -Wextra -Werror -fsanitize=address,undefined \
 *      -o /tmp/job_test tests/job_test.c job.c && ASAN_OPTIONS=detect_leaks=0 /tmp/job_test
 *
 * (init frees nothing: a job lives as long as the guest). orchestrator/tests/init.rs runs it.
 * Output is TAP; the exit status is 1 if a test failed.
 */
#include "../init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "farm-job 1\n"
#define SIXTEEN_BYTES "0123456789abcdef0123456789abcdef"
#define SYMBOL64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SYMBOL511 SYMBOL64 SYMBOL64 SYMBOL64 SYMBOL64 SYMBOL64 SYMBOL64 SYMBOL64 \
	"123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BESIDES4 "beside /b\nbeside /b\nbeside /b\nbeside /b\n"
#define BESIDES8 BESIDES4 BESIDES4
#define TOUCHES4 "touch 1 f\ntouch 1 f\ntouch 1 f\ntouch 1 f\n"
#define TOUCHES16 TOUCHES4 TOUCHES4 TOUCHES4 TOUCHES4
#define TRACES4 "trace f\ntrace f\ntrace f\ntrace f\n"
#define TRACES16 TRACES4 TRACES4 TRACES4 TRACES4
#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

static unsigned int tests, failures;

static void check(bool good, const char *name, const char *detail)
{
	tests++;
	failures += !good;
	printf("%s %u %s%s%s\n", good ? "ok" : "not ok", tests, name, good ? "" : ": ",
	       good ? "" : detail);
}

/* In memory of just its size, so that the sanitizer sees one byte too many. */
static bool parse(struct job *job, const char *text, size_t length, char *error, size_t size)
{
	char *copy = malloc(length + 1);

	memcpy(copy, text, length);
	copy[length] = '\0';
	error[0] = '\0';
	return job_parse(job, copy, length, error, size);
}

static const struct {
	const char *text;
	const char *error;	/* NULL: must be accepted */
} cases[] = {
	{ HEAD, NULL },
	{ "", "job line 0: the job is empty" },
	{ "farm-job 2\n", "job line 1: version 2, and this init speaks 1" },
	{ "cell x\n", "job line 1: \"farm-job 1\" is missing" },
	{ HEAD "cell x", "job line 2: the last line has no end" },
	{ HEAD "\n", "job line 2: unknown key \"\"" },
	{ HEAD "sell x\n", "job line 2: unknown key \"sell\"" },
	{ HEAD "cell\n", "job line 2: word 1 of cell is missing" },
	{ HEAD "cell \n", "job line 2: word 1 of cell is missing" },
	{ HEAD "cell a b\n", "job line 2: too many words after cell" },
	{ HEAD "cell a\t\n", "job line 2: byte 0x09 is not escaped" },
	{ HEAD "cell \303\244\n", "job line 2: byte 0xc3 is not escaped" },
	{ HEAD "cell %c3%A4\n", NULL },
	{ HEAD "cell %4\n", "job line 2: % is not followed by two hexadecimal digits" },
	{ HEAD "cell %g0\n", "job line 2: % is not followed by two hexadecimal digits" },
	{ HEAD "cell a%00\n", "job line 2: %00 cannot stand in a value" },
	{ HEAD "epoch 1e9\n", "job line 2: epoch is not a decimal number" },
	{ HEAD "epoch 0\n", "job line 2: epoch is below 1" },
	{ HEAD "entropy " SIXTEEN_BYTES "\n", "job line 2: entropy is not 32 bytes in hexadecimal" },
	{ HEAD "entropy " SIXTEEN_BYTES SIXTEEN_BYTES "0\n",
	  "job line 2: entropy is not 32 bytes in hexadecimal" },
	{ HEAD "entropy 0g" SIXTEEN_BYTES "0123456789abcdef0123456789abcd\n",
	  "job line 2: entropy is not hexadecimal" },
	{ HEAD "heartbeat -1\n", "job line 2: heartbeat is not a decimal number" },
	{ HEAD "format\n", "job line 2: word 1 of format is missing" },
	{ HEAD "mount ext4 /dev/vda\n", "job line 2: word 3 of mount is missing" },
	{ HEAD "mount ext4  /dev/vda /mnt\n", "job line 2: word 2 of mount is missing" },
	{ HEAD "mount ext4 /dev/vda /mnt data=journal\n", NULL },
	{ HEAD "mount ext4 /dev/vda /mnt data=journal rw\n", "job line 2: too many words after mount" },
	{ HEAD "mount ext4 /dev/vda /mnt \n", "job line 2: word 4 of mount is missing" },
	{ HEAD "set /proc/a 1\nset /b c%0a\n", NULL },
	{ HEAD "set /proc/a\n", "job line 2: word 2 of set is missing" },
	{ HEAD "set /proc/a 1 2\n", "job line 2: too many words after set" },
	{ HEAD "step a\nset /proc/a 1\n", "job line 3: unknown key \"set\" in a step" },
	{ HEAD "run /a\n", "job line 2: unknown key \"run\"" },
	{ HEAD "end\n", "job line 2: unknown key \"end\"" },
	{ HEAD "shell\n", NULL },
	{ HEAD "shell sh\n", "job line 2: too many words after shell" },
	{ HEAD "shell\nstep a\n", "job line 3: a job has steps or a shell, not both" },
	{ HEAD "step a\nrun /a\nend\nshell\n", "job line 5: a job has steps or a shell, not both" },
	{ HEAD "step a\nend\n", "job line 3: step a has neither run nor write" },
	{ HEAD "step a\nrun /a\n", "job line 3: step a has no end" },
	{ HEAD "step a\nstep b\n", "job line 3: unknown key \"step\" in a step" },
	{ HEAD "step a\nrun /a\nrun /b\n", "job line 4: a step has one run or one write" },
	{ HEAD "step a\nrun /a\nwrite /b c\n", "job line 4: a step has one run or one write" },
	{ HEAD "step a\nwrite /b\n", "job line 3: word 2 of write is missing" },
	{ HEAD "step a\nwrite /b c\nlimit 5\nend\n", NULL },
	{ HEAD "step a\nwrite /b c\nworkers 1\nend\n",
	  "job line 5: arg, beside, bare, seed, touch and workers go with run only" },
	{ HEAD "step a\nwrite /b c\nbare\nend\n",
	  "job line 5: arg, beside, bare, seed, touch and workers go with run only" },
	{ HEAD "step a\nworkers 0\n", "job line 3: workers is below 1" },
	{ HEAD "step a\nworkers 513\n", "job line 3: workers is above 512" },
	{ HEAD "step a\nseed 18446744073709551615\nrun /a\nend\n", NULL },
	{ HEAD "step a\nseed 18446744073709551616\n",
	  "job line 3: seed is above 18446744073709551615" },
	{ HEAD "step a\nlimit 0\n", "job line 3: limit is below 1" },
	{ HEAD "step a\nrun /a\ntouch 1 f\ntouch 1000000000000 _f.isra.0|g2\nend\n", NULL },
	{ HEAD "step a\ntouch 0 f\n", "job line 3: touch is below 1" },
	{ HEAD "step a\ntouch 1000000000001 f\n", "job line 3: touch is above 1000000000000" },
	{ HEAD "step a\ntouch 1\n", "job line 3: word 2 of touch is missing" },
	{ HEAD "step a\ntouch 1 f g\n", "job line 3: too many words after touch" },
	{ HEAD "step a\ntouch 1 f|\n", "job line 3: \"f|\" does not name functions" },
	{ HEAD "step a\ntouch 1 f%20+4\n", "job line 3: \"f +4\" does not name functions" },
	{ HEAD "step a\ntouch 1 " SYMBOL511 "\nrun /a\nend\n", NULL },
	{ HEAD "step a\ntouch 1 " SYMBOL511 "x\n",
	  "job line 3: \"" SYMBOL64 "\" does not name functions" },
	{ HEAD "trace sched:sched_switch\ntrace irq:*\ntrace f.isra.0\n", NULL },
	{ HEAD "trace a|b\n", "job line 2: \"a|b\" cannot be traced" },
	{ HEAD "trace a:b/c\n", "job line 2: \"a:b/c\" cannot be traced" },
	{ HEAD "trace :b\n", "job line 2: \":b\" cannot be traced" },
	{ HEAD "trace f g\n", "job line 2: too many words after trace" },
	{ HEAD TRACES16, NULL },
	{ HEAD TRACES16 "trace f\n", "job line 18: more than 16 traces" },
	{ HEAD "step a\nrun /a\n" TOUCHES16 "end\n", NULL },
	{ HEAD "step a\nrun /a\n" TOUCHES16 "touch 1 f\n",
	  "job line 20: more than 16 touches in a step" },
	{ HEAD "step a\nrun /a\nbeside /b\nbeside-arg --x=%20\nbeside-arg \nbeside /c\nend\n", NULL },
	{ HEAD "step a\nbeside-arg x\n", "job line 3: beside-arg without a beside" },
	{ HEAD "step a\nbeside\n", "job line 3: word 1 of beside is missing" },
	{ HEAD "step a\nbeside /b /c\n", "job line 3: too many words after beside" },
	{ HEAD "step a\nrun /a\n" BESIDES8 "end\n", NULL },
	{ HEAD "step a\nrun /a\n" BESIDES8 "beside /b\n",
	  "job line 12: more than 8 programs beside a step" },
	{ HEAD "step a\nwrite /b c\nbeside /b\nend\n",
	  "job line 5: arg, beside, bare, seed, touch and workers go with run only" },
	{ HEAD "step a\nwrite /b c\ntouch 1 f\nend\n",
	  "job line 5: arg, beside, bare, seed, touch and workers go with run only" },
};

static void test_values(void)
{
	static const char text[] = HEAD
		"cell 5f%250c\nepoch 1763812345\nentropy " SIXTEEN_BYTES "FF0123456789abcdef0123456789abcd\nheartbeat 250\nmodule a.ko\n"
		"mount tmpfs none /mnt/%20x\nmodule b.ko\nmount 9p share /m trans=virtio,x=%2c\nformat /dev/r%25\nset /proc/y%20z 4%20%0A\n"
		"step one\nrun /p\narg --mode=a%20b\narg \nseed 7\nworkers 3\nlimit 30000\n"
		"touch 5 f\ntouch 6 g|h\n"
		"beside /b\nbeside-arg --rate=2\nbeside-arg --all\nbeside /c\nend\n"
		"step two\nwrite /proc/x c%0a\nend\n";
	struct job job;
	char error[256];

	if (!parse(&job, text, sizeof(text) - 1, error, sizeof(error))) {
		check(false, "values", error);
		return;
	}
	check(!strcmp(job.cell, "5f%0c") && job.epoch == 1763812345 && job.heartbeat_ms == 250,
	      "cell, epoch, heartbeat", job.cell);
	check(job.has_entropy && job.entropy[0] == 0x01 && job.entropy[15] == 0xef &&
	      job.entropy[16] == 0xff && job.entropy[31] == 0xcd, "entropy", "");
	check(job.setup_count == 6 && job.setups[0].kind == SETUP_MODULE &&
	      job.setups[1].kind == SETUP_MOUNT && !strcmp(job.setups[1].type, "tmpfs") &&
	      !strcmp(job.setups[1].what, "none") && !strcmp(job.setups[1].where, "/mnt/ x") &&
	      !job.setups[1].options &&
	      !strcmp(job.setups[2].what, "b.ko") && job.setups[3].kind == SETUP_MOUNT &&
	      !strcmp(job.setups[3].where, "/m") &&
	      !strcmp(job.setups[3].options, "trans=virtio,x=,") &&
	      job.setups[4].kind == SETUP_FORMAT && !strcmp(job.setups[4].what, "/dev/r%") &&
	      job.setups[5].kind == SETUP_SET && !strcmp(job.setups[5].where, "/proc/y z") &&
	      !strcmp(job.setups[5].what, "4 \n"),
	      "modules, file systems, mounts and writes in their order", "");
	check(job.step_count == 2 && !strcmp(job.steps[0].run.path, "/p") &&
	      job.steps[0].run.arg_count == 2 && !strcmp(job.steps[0].run.args[0], "--mode=a b") &&
	      !strcmp(job.steps[0].run.args[1], "") && job.steps[0].seed == 7 &&
	      job.steps[0].workers == 3 && job.steps[0].limit_ms == 30000 && !job.steps[0].run.bare,
	      "a step that runs", "");
	check(job.step_count == 2 && job.steps[0].touch_count == 2 &&
	      job.steps[0].touches[0].least == 5 && !strcmp(job.steps[0].touches[0].functions, "f") &&
	      job.steps[0].touches[1].least == 6 &&
	      !strcmp(job.steps[0].touches[1].functions, "g|h") && job.steps[1].touch_count == 0,
	      "what a step counts", "");
	check(job.step_count == 2 && job.steps[0].beside_count == 2 &&
	      !strcmp(job.steps[0].besides[0].path, "/b") && job.steps[0].besides[0].arg_count == 2 &&
	      !strcmp(job.steps[0].besides[0].args[1], "--all") &&
	      !strcmp(job.steps[0].besides[1].path, "/c") && job.steps[0].besides[1].arg_count == 0 &&
	      !job.steps[0].besides[1].bare && job.steps[1].beside_count == 0,
	      "what runs beside a step", "");
	check(job.step_count == 2 && !strcmp(job.steps[1].path, "/proc/x") &&
	      !strcmp(job.steps[1].text, "c\n") && job.steps[1].workers == 1,
	      "a step that writes", "");
}

static void test_line_length(void)
{
	char text[sizeof(HEAD) + LINE_LIMIT + 2] = HEAD "cell ";
	size_t head = sizeof(HEAD) - 1, used = strlen(text);
	struct job job;
	char error[256];

	memset(text + used, 'x', sizeof(text) - used);
	text[head + LINE_LIMIT] = '\n';
	check(parse(&job, text, head + LINE_LIMIT + 1, error, sizeof(error)),
	      "a line of 4,096 bytes", error);
	text[head + LINE_LIMIT] = 'x';
	text[head + LINE_LIMIT + 1] = '\n';
	check(!parse(&job, text, head + LINE_LIMIT + 2, error, sizeof(error)) &&
	      !strcmp(error, "job line 2: longer than 4096 bytes"),
	      "a line of 4,097 bytes", error);
}

int main(void)
{
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct job job;
		char error[256];
		bool good = parse(&job, cases[i].text, strlen(cases[i].text), error, sizeof(error));

		check(good == !cases[i].error && (good || !strcmp(error, cases[i].error)),
		      cases[i].error ? cases[i].error : "accepted", error);
	}
	test_values();
	test_line_length();
	printf("1..%u\n", tests);
	return failures ? 1 : 0;
}
