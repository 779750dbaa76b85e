// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The steps, and the one loop under them: it sleeps in poll() until a child
 * changes, a worker prints, the kernel logs, or a deadline comes.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEVER UINT64_MAX
/* A process that does not go away within this time of SIGKILL hangs in the kernel. */
#define KILL_GRACE_US (5 * 1000 * 1000)
/* Once one is known to hang, a wait for "nobody is left" can only run out: keep it short. */
#define KILL_GRACE_AGAIN_US (100 * 1000)
/* Burials in one turn: a program that makes orphans without end must not hold up the rest. */
#define REAP_BATCH 64
#define EXIT_ALL_SKIPPED 4

/* From the mildest to the worst: a step's outcome is the worst of its workers'. */
enum outcome { OUTCOME_SKIPPED, OUTCOME_OK, OUTCOME_FAILED, OUTCOME_LIMIT };

static const char *const outcome_names[] = { "skipped", "ok", "failed", "limit" };

/* What the loop serves. */
static struct {
	int child_fd;
	const struct job *job;
	uint64_t beat_us, next_beat_us;
	size_t step;		/* counted from 1, as KTAP does */
	const struct step *wanted;	/* what the step is to be */
	struct worker *workers;	/* of the step, and behind them what runs beside them */
	unsigned int count;	/* of both */
	unsigned int running, beside_running;
	bool more_dead;		/* the last turn left some unburied */
	bool unkillable;	/* some process has outlived SIGKILL */
	pid_t shell;
	pid_t thawing;
} loop;

static void loop_open(const struct job *job)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	loop.child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop.child_fd < 0)
		die("signalfd: %m");
	loop.job = job;
	loop.beat_us = job->heartbeat_ms * 1000;
	loop.next_beat_us = now_us() + loop.beat_us;
}

/* Called wherever time may have passed: under TCG even 200 forks take seconds. */
static void beat_if_due(void)
{
	uint64_t now = now_us();

	if (now < loop.next_beat_us)
		return;
	report("{\"type\":\"beat\",\"uptime_us\":%llu}\n", (unsigned long long)now);
	report_flush();
	loop.next_beat_us = now + loop.beat_us;
}

static bool is_beside(const struct worker *worker)
{
	return worker >= loop.workers + loop.wanted->workers;
}

static enum outcome worker_outcome(const struct worker *worker)
{
	if (worker->limit)
		return OUTCOME_LIMIT;
	if (worker->stuck)
		return OUTCOME_FAILED;
	if (WIFEXITED(worker->status) && WEXITSTATUS(worker->status) == 0)
		return OUTCOME_OK;
	if (WIFEXITED(worker->status) && WEXITSTATUS(worker->status) == EXIT_ALL_SKIPPED)
		return OUTCOME_SKIPPED;
	return OUTCOME_FAILED;
}

static void report_test(const char *indent, enum outcome outcome, size_t number)
{
	report("%s%s %zu ", indent, outcome <= OUTCOME_OK ? "ok" : "not ok", number);
}

static const char *directive(enum outcome outcome)
{
	return outcome == OUTCOME_SKIPPED ? " # SKIP" : "";
}

/* How it ended: of a worker, and of what runs beside the workers, which knows no limit. */
static void report_end(const struct worker *worker)
{
	const char *const no_yes[] = { "false", "true" };

	if (!worker->stuck && WIFEXITED(worker->status))
		report(",\"exit\":%d,\"signal\":null", WEXITSTATUS(worker->status));
	else if (!worker->stuck && WIFSIGNALED(worker->status))
		report(",\"exit\":null,\"signal\":%d", WTERMSIG(worker->status));
	else
		report(",\"exit\":null,\"signal\":null");
	if (!is_beside(worker))
		report(",\"limit\":%s", no_yes[worker->limit]);
	report(",\"stuck\":%s", no_yes[worker->stuck]);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void worker_end(struct worker *worker)
{
	unsigned int number = (unsigned int)(worker - loop.workers) + 1;
	unsigned int beside = is_beside(worker) ? number - loop.wanted->workers : 0;
	enum outcome outcome = worker_outcome(worker);
	uint64_t wall_us = now_us() - worker->started_us;
	uint64_t truncated;

	worker->pid = 0;
	if (beside)
		loop.beside_running--;
	else
		loop.running--;
	worker_read_rest(worker);
	truncated = capture_report(&worker->output);
	if (beside) {
		report("{\"type\":\"beside\",\"step\":%zu,\"beside\":%u,\"name\":", loop.step, beside);
		report_json_string(base_name(loop.wanted->besides[beside - 1].path));
	} else {
		report("{\"type\":\"worker\",\"step\":%zu,\"worker\":%u", loop.step, number);
	}
	report_end(worker);
	report(",\"wall_us\":%llu,\"cpu_us\":%llu,\"truncated\":%llu}\n",
	       (unsigned long long)wall_us, (unsigned long long)worker->cpu_us,
	       (unsigned long long)truncated);
	report_test("  ", outcome, number);
	report("%s-%u%s\n", beside ? "beside" : "worker", beside ? beside : number, directive(outcome));
	report_flush();
}

static struct worker *worker_of(pid_t pid)
{
	for (unsigned int i = 0; i < loop.count; i++)
		if (loop.workers[i].pid == pid)
			return &loop.workers[i];
	return NULL;
}

static uint64_t time_us(const struct timeval *time)
{
	return time->tv_sec * 1000000ULL + time->tv_usec;
}

/* Buries those who have died, orphans too. False when init has no child left at all. */
static bool reap(void)
{
	loop.more_dead = false;
	for (int i = 0; i < REAP_BATCH; i++) {
		siginfo_t dead = { 0 };
		struct worker *worker;
		struct rusage used;
		int status;

		/*
		 * A worker is only looked at first: while it is a zombie no
		 * other process can get its number, so that killing its group
		 * kills the right one.
		 */
		if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT))
			return errno != ECHILD;
		if (dead.si_pid == 0)
			return true;
		worker = worker_of(dead.si_pid);
		if (worker)
			worker_kill(worker);
		if (wait4(dead.si_pid, &status, 0, &used) != dead.si_pid)
			die("wait4: %m");
		if (dead.si_pid == loop.shell)
			loop.shell = 0;
		if (dead.si_pid == loop.thawing)
			loop.thawing = 0;
		if (worker) {
			worker->status = status;
			worker->cpu_us = time_us(&used.ru_utime) + time_us(&used.ru_stime);
			worker_end(worker);
			beat_if_due();
		}
	}
	loop.more_dead = true;
	return true;
}

/* One turn: sleep until something happens or DEADLINE, then serve everybody once. */
static void loop_turn(uint64_t deadline)
{
	struct pollfd fds[2 + WORKER_LIMIT + BESIDE_LIMIT];
	struct worker *reader[2 + WORKER_LIMIT + BESIDE_LIMIT];
	struct signalfd_siginfo info;
	uint64_t now = now_us();
	nfds_t n = 2;
	uint64_t until = deadline < loop.next_beat_us ? deadline : loop.next_beat_us;
	uint64_t sleep_us = until > now && !loop.more_dead ? until - now : 0;
	struct timespec sleep = { (time_t)(sleep_us / 1000000), (long)(sleep_us % 1000000) * 1000 };

	fds[0] = (struct pollfd){ .fd = loop.child_fd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = kmsg_fd(), .events = POLLIN };
	for (unsigned int i = 0; i < loop.count; i++) {
		if (loop.workers[i].pipe < 0)
			continue;
		reader[n] = &loop.workers[i];
		fds[n++] = (struct pollfd){ .fd = loop.workers[i].pipe, .events = POLLIN };
	}
	if (ppoll(fds, n, &sleep, NULL) < 0)
		die("ppoll: %m");
	if (fds[1].revents) {
		kmsg_forward();
		trace_look();
	}
	for (nfds_t i = 2; i < n; i++)
		if (fds[i].revents) {
			worker_read(reader[i]);
			beat_if_due();
		}
	/* The signal only says "look": several may have been merged into one. */
	if (fds[0].revents)
		while (read(loop.child_fd, &info, sizeof(info)) > 0)
			;
	if (fds[0].revents || loop.more_dead)
		reap();
	beat_if_due();
}

static bool may_have_frozen(const struct step *step)
{
	for (size_t i = 0; i < step->beside_count; i++)
		if (!strcmp(base_name(step->besides[i].path), "fsfreeze"))
			return true;
	return false;
}

static _Noreturn void thaw_all(void)
{
	for (size_t i = 0; i < loop.job->setup_count; i++) {
		const struct setup *setup = &loop.job->setups[i];
		int directory = -1;

		if (setup->kind == SETUP_MOUNT)
			directory = open(setup->where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (directory < 0)
			continue;
		/* Else it was not frozen, or is of a kind that nobody freezes. */
		if (!ioctl(directory, FITHAW, 0))
			kmsg_mark("farm: thawed %s", setup->where);
		close(directory);
	}
	_exit(0);
}

/*
 * A program that was killed may have left a file system frozen. Who writes to it waits then, and no
 * signal ends that. A child thaws, since that may wait for somebody who hangs, and is not waited for
 * for ever.
 */
static void thaw(void)
{
	uint64_t deadline = now_us() + KILL_GRACE_AGAIN_US;

	if (!loop.wanted || !may_have_frozen(loop.wanted))
		return;
	loop.thawing = fork();
	if (loop.thawing == 0)
		thaw_all();
	if (loop.thawing < 0)
		die("fork: %m");
	while (loop.thawing && now_us() < deadline)
		loop_turn(deadline);
}

/* Kills all processes but init and waits until they are gone: daemons, children of workers. */
static void kill_leftovers(void)
{
	uint64_t deadline;

	thaw();
	if (!reap())
		return;
	deadline = now_us() + (loop.unkillable ? KILL_GRACE_AGAIN_US : KILL_GRACE_US);
	kill(-1, SIGKILL);
	/* By a program that was killed just now. */
	thaw();
	while (reap()) {
		if (now_us() >= deadline) {
			loop.unkillable = true;
			return;
		}
		loop_turn(deadline);
	}
}

/*
 * Kills a worker whose time is up, and gives up one that will not die. Returns
 * when to look at it again.
 */
static uint64_t enforce(struct worker *worker, uint64_t deadline)
{
	uint64_t now = now_us();

	if (!worker->killed_us) {
		if (now < deadline)
			return deadline;
		worker->limit = !is_beside(worker);
		worker->killed_us = now;
		worker_kill(worker);
	}
	if (now < worker->killed_us + KILL_GRACE_US)
		return worker->killed_us + KILL_GRACE_US;
	worker->stuck = true;
	loop.unkillable = true;
	worker_end(worker);
	return NEVER;
}

/* When a worker's time is up; what runs beside the workers has as long as they, and then some to end. */
static uint64_t deadline_of(const struct worker *worker)
{
	uint64_t limit_us = loop.wanted->limit_ms * 1000;

	if (is_beside(worker))
		return worker->told_us ? worker->told_us + KILL_GRACE_US : NEVER;
	return limit_us ? worker->started_us + limit_us : NEVER;
}

/* Serves everybody until LEFT is 0. */
static void run_until_none(const unsigned int *left)
{
	while (*left) {
		uint64_t next = NEVER;

		for (unsigned int i = 0; i < loop.count; i++) {
			uint64_t look;

			if (!loop.workers[i].pid)
				continue;
			look = enforce(&loop.workers[i], deadline_of(&loop.workers[i]));
			if (look < next)
				next = look;
		}
		if (*left)
			loop_turn(next);
	}
}

static void start_all(const struct step *step, int cgroup)
{
	for (unsigned int i = 0; i < step->beside_count; i++) {
		struct order order = {
			.step = step, .program = &step->besides[i],
			.number = step->workers + i + 1, .cgroup = -1, .beside = true,
		};

		loop.beside_running++;
		worker_start(&loop.workers[step->workers + i], &order);
		beat_if_due();
	}
	for (unsigned int i = 0; i < step->workers; i++) {
		struct order order = {
			.step = step, .program = step->path ? NULL : &step->run,
			.number = i + 1, .cgroup = cgroup,
		};

		loop.running++;
		worker_start(&loop.workers[i], &order);
		beat_if_due();
	}
}

static enum outcome outcome_of(unsigned int from, unsigned int to)
{
	enum outcome outcome = OUTCOME_SKIPPED;

	for (unsigned int i = from; i < to; i++) {
		enum outcome one = worker_outcome(&loop.workers[i]);

		if (one > outcome)
			outcome = one;
	}
	return outcome;
}

/* Tells what runs beside the workers to end; if these had to be killed, kills it. */
static void end_besides(bool at_once)
{
	for (unsigned int i = loop.wanted->workers; i < loop.count; i++) {
		struct worker *worker = &loop.workers[i];

		if (!worker->pid)
			continue;
		if (at_once) {
			worker->killed_us = now_us();
			worker_kill(worker);
		} else {
			worker_tell_to_end(worker);
		}
	}
	run_until_none(&loop.beside_running);
}

/*
 * A step whose workers were well failed all the same if something beside them
 * did; if all that was skipped, the step did not do what it says.
 */
static enum outcome step_outcome(enum outcome workers)
{
	enum outcome beside;

	if (!loop.wanted->beside_count)
		return workers;
	beside = outcome_of(loop.wanted->workers, loop.count);
	if (beside == OUTCOME_SKIPPED)
		return workers == OUTCOME_OK ? OUTCOME_SKIPPED : workers;
	return beside > workers && beside > OUTCOME_OK ? beside : workers;
}

static void step_run(const struct step *step)
{
	unsigned int count = step->workers + (unsigned int)step->beside_count;
	enum outcome outcome;
	uint64_t begin, wall_us;
	bool rearmed;
	int cgroup;

	report("{\"type\":\"start\",\"step\":%zu,\"name\":", loop.step);
	report_json_string(step->name);
	report(",\"workers\":%u,\"uptime_us\":%llu}\n  KTAP version 1\n  1..%u\n", step->workers,
	       (unsigned long long)now_us(), count);
	report_flush();
	kmsg_mark("farm: step %zu begin %s", loop.step, step->name);
	/* All of the past must be with the host before a step that may crash the kernel. */
	kmsg_drain();

	loop.workers = calloc(count, sizeof(*loop.workers));
	if (!loop.workers)
		die("out of memory for %u workers", count);
	for (unsigned int i = 0; i < count; i++)
		loop.workers[i].pipe = -1;
	loop.wanted = step;
	loop.count = count;
	cgroup = cgroup_renew_workers();
	count_begin(step, loop.unkillable, loop.job->trace_count > 0);
	beat_if_due();
	begin = now_us();
	start_all(step, cgroup);
	run_until_none(&loop.running);
	wall_us = now_us() - begin;
	outcome = outcome_of(0, step->workers);
	if (outcome == OUTCOME_LIMIT)
		trace_stop();
	end_besides(outcome == OUTCOME_LIMIT);
	outcome = step_outcome(outcome);
	count_end(step, loop.step, loop.unkillable);
	if (cgroup >= 0)
		close(cgroup);
	kill_leftovers();
	free(loop.workers);
	loop.workers = NULL;
	loop.count = 0;

	kmsg_mark("farm: step %zu end", loop.step);
	kmsg_drain();
	trace_look();
	rearmed = kmsg_rearm_warnings();
	report("{\"type\":\"step\",\"step\":%zu,\"outcome\":\"%s\",\"wall_us\":%llu,"
	       "\"kmsg_seq\":%llu,\"rearmed\":%s,\"uptime_us\":%llu}\n",
	       loop.step, outcome_names[outcome], (unsigned long long)wall_us,
	       (unsigned long long)kmsg_last_sequence(), rearmed ? "true" : "false",
	       (unsigned long long)now_us());
	report_test("", outcome, loop.step);
	report_name(step->name);
	report("%s\n", directive(outcome));
	report_flush();
}

/* So many loops and no more: where instructions are the clock, they choose when in its ticks a step begins. */
static void delay(uint64_t loops)
{
	for (volatile uint64_t i = 0; i < loops; i++)
		;
}

void steps_run(const struct job *job)
{
	loop_open(job);
	report("KTAP version 1\n1..%zu\n", job->step_count);
	for (size_t i = 0; i < job->step_count; i++) {
		delay(job->delay);
		loop.step = i + 1;
		step_run(&job->steps[i]);
	}
}

void shell_run(const struct job *job)
{
	loop_open(job);
	loop.shell = worker_start_shell();
	while (loop.shell)
		loop_turn(NEVER);
}
