// SPDX-License-Identifier: MIT OR Apache-2.0
/* PID 1: from the kernel's hand-over to power-off. See init.h for the map. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define JOB "/job/job"
#define JOB_LIMIT (16 * 1024 * 1024)

static void job_load(struct job *job)
{
	char error[512];
	size_t length;
	char *text = boot_read_file(JOB, JOB_LIMIT, &length);

	if (!text)
		die("%s: %s", JOB, strerror(errno));
	if (!job_parse(job, text, length, error, sizeof(error)))
		die("%s", error);
}

static void set_clock(uint64_t epoch)
{
	struct timespec t = { .tv_sec = (time_t)epoch };

	if (clock_settime(CLOCK_REALTIME, &t))
		die("set the clock to %llu: %s", (unsigned long long)epoch, strerror(errno));
}

/*
 * Copies of a saved guest have one pool. What is fed to it counts at once only
 * when the kernel is told to make its random numbers from it anew.
 */
static void feed_random_pool(const struct job *job)
{
	struct {
		int bits, bytes;
		unsigned char entropy[sizeof(job->entropy)];
	} fed = { .bits = 8 * (int)sizeof(job->entropy), .bytes = (int)sizeof(job->entropy) };
	int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	memcpy(fed.entropy, job->entropy, sizeof(fed.entropy));
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &fed) || ioctl(fd, RNDRESEEDCRNG))
		die("feed /dev/urandom: %m");
	close(fd);
}

static void set_up(const struct setup *setup)
{
	int error;

	switch (setup->kind) {
	case SETUP_MODULE:
		boot_load_module(setup->what);
		break;
	case SETUP_FORMAT:
		format_disk(setup->what);
		break;
	case SETUP_MOUNT:
		boot_make_directories(setup->where);
		if (mount(setup->what, setup->where, setup->type, 0, setup->options))
			die("mount %s %s on %s: %s", setup->type, setup->what, setup->where,
			    strerror(errno));
		break;
	case SETUP_SET:
		error = boot_write_file(setup->where, setup->what);
		if (error)
			die("set %s to %s: %s", setup->where, setup->what, strerror(error));
		break;
	}
}

/*
 * Puts init out of reach of the programs it runs: no signal comes but through
 * a signalfd, no lack of memory ends it, and 200 busy workers do not delay a
 * heartbeat or a limit.
 */
static void shield(void)
{
	sigset_t all;
	int error;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (setpriority(PRIO_PROCESS, 0, -20))
		die("setpriority: %s", strerror(errno));
	error = boot_write_file("/proc/self/oom_score_adj", "-1000");
	if (error)
		die("/proc/self/oom_score_adj: %s", strerror(error));
}

int main(void)
{
	int results, kmsg;
	struct job job;

	boot_mount_basics();
	boot_load_boot_modules();
	boot_find_ports(&results, &kmsg);
	report_open(results);
	boot_link_disks();
	/* All that needs no job comes before the wait for one: copies of a saved guest need not do it again. */
	shield();
	kmsg_open(kmsg);
	cgroup_open();
	if (access(JOB, F_OK))
		slot_wait();
	report_ready();

	kmsg_drain();
	job_load(&job);
	report("{\"type\":\"job\",\"cell\":");
	report_json_string(job.cell);
	report("}\n");
	report_flush();
	if (job.epoch)
		set_clock(job.epoch);
	if (job.has_entropy)
		feed_random_pool(&job);
	for (size_t i = 0; i < job.setup_count; i++)
		set_up(&job.setups[i]);
	trace_begin(&job);
	if (job.shell)
		shell_run(&job);
	else
		steps_run(&job);
	kmsg_drain();
	report("{\"type\":\"end\",\"uptime_us\":%llu}\n", (unsigned long long)now_us());
	report_flush();
	power_off();
}
