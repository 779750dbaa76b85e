// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * One child of init: a program, a write to a file, or the shell. A child gets
 * nothing of init's but the pipe it prints to.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_NOT_STARTED 127	/* as a shell says it */
#define CONSOLE "/dev/console"

static char *const environment[] = {
	"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TERM=linux", NULL
};

static _Noreturn void child_fail(const char *what, const char *name)
{
	dprintf(STDOUT_FILENO, "# farm: %s %s: %m\n", what, name);
	_exit(EXIT_NOT_STARTED);
}

/* Undoes what init has set for itself and children inherit; BLOCKED, if there is one, stays blocked. */
static void child_prepare(const char *directory, int blocked)
{
	sigset_t mask;
	int error;

	sigemptyset(&mask);
	if (blocked)
		sigaddset(&mask, blocked);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (setpriority(PRIO_PROCESS, 0, 0))
		child_fail("set priority of", "worker");
	if (chdir(directory))
		child_fail("chdir", directory);
	/* Out of memory, the kernel shall take a worker and never init. */
	error = boot_write_file("/proc/self/oom_score_adj", "500");
	if (error) {
		errno = error;
		child_fail("write", "/proc/self/oom_score_adj");
	}
}

static _Noreturn void child_exec(const struct order *order)
{
	const struct program *program = order->program;
	const char **argv = calloc(program->arg_count + 4, sizeof(*argv));
	char seed[32], worker[32];
	size_t n = 0;

	if (!argv)
		child_fail("exec", program->path);
	argv[n++] = program->path;
	for (size_t i = 0; i < program->arg_count; i++)
		argv[n++] = program->args[i];
	if (!program->bare) {
		snprintf(seed, sizeof(seed), "--seed=%llu",
			 (unsigned long long)(order->step->seed + order->number));
		snprintf(worker, sizeof(worker), "--worker=%u", order->number);
		argv[n++] = seed;
		argv[n++] = worker;
	}
	execve(program->path, (char *const *)argv, environment);
	child_fail("exec", program->path);
}

static _Noreturn void child_write(const struct step *step)
{
	int error = boot_write_file(step->path, step->text);

	if (error)
		dprintf(STDOUT_FILENO, "# farm: write %s: %s\n", step->path, strerror(error));
	_exit(error ? 1 : 0);
}

/*
 * fork(), with the child in a control group from its first moment. To move it there would make every
 * fork in the guest wait (kernel/cgroup/cgroup.c, cgroup_attach_lock).
 */
static pid_t fork_into(int cgroup)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)cgroup,
	};
	pid_t pid = cgroup < 0 ? -1 : (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	/*
	 * CLONE_INTO_CGROUP came with 5.7, clone3() with 5.3 (ENOSYS before). In between
	 * args.cgroup lies beyond the struct that the kernel knows, and must be 0: E2BIG
	 * (include/linux/uaccess.h, copy_struct_from_user).
	 */
	if (cgroup < 0 ||
	    (pid < 0 && (errno == E2BIG || errno == EINVAL || errno == ENOSYS)))
		pid = fork();
	return pid;
}

/* Everything init holds is close-on-exec; a `write` child does not exec, and needs nothing. */
void worker_start(struct worker *worker, const struct order *order)
{
	const char *step = order->step->name;
	unsigned int number = order->number;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		die("pipe for worker %u of step %.64s: %m", number, step);
	/* Only our end: the flag belongs to the open file, and each end is one of its own. */
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK))
		die("pipe for worker %u of step %.64s: %m", number, step);
	worker->started_us = now_us();
	worker->pipe = ends[0];
	worker->pid = fork_into(order->cgroup);
	if (worker->pid < 0)
		die("fork worker %u of step %.64s: %m", number, step);
	if (worker->pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		setpgid(0, 0);
		if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
		    dup2(ends[1], STDOUT_FILENO) < 0 || dup2(ends[1], STDERR_FILENO) < 0)
			_exit(EXIT_NOT_STARTED);
		child_prepare("/tmp", order->beside ? SIGTERM : 0);
		if (!order->program)
			child_write(order->step);
		child_exec(order);
	}
	/* Here as well, so that the group is there whichever of us runs first. */
	setpgid(worker->pid, worker->pid);
	close(ends[1]);
}

void worker_tell_to_end(struct worker *worker)
{
	worker->told_us = now_us();
	kill(-worker->pid, SIGTERM);
}

/* Kills its group, and the worker itself where it has left that group. */
void worker_kill(const struct worker *worker)
{
	kill(-worker->pid, SIGKILL);
	kill(worker->pid, SIGKILL);
}

/* Takes some output; false when there will be no more. */
static bool take(struct worker *worker, size_t limit, size_t *taken)
{
	static char chunk[64 * 1024];
	ssize_t n = read(worker->pipe, chunk, limit < sizeof(chunk) ? limit : sizeof(chunk));

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n < 0)
		die("read a worker's output: %m");
	if (n > 0)
		capture_add(&worker->output, chunk, (size_t)n);
	*taken = (size_t)n;
	return n > 0;
}

/* Takes what there is, and closes the pipe once nobody is left who could write to it. */
void worker_read(struct worker *worker)
{
	size_t taken;

	if (take(worker, SIZE_MAX, &taken))
		return;
	close(worker->pipe);
	worker->pipe = -1;
}

/*
 * Takes what a worker that is gone has left in the pipe, and no more: a child
 * of its may go on writing for ever.
 */
void worker_read_rest(struct worker *worker)
{
	int left;

	if (worker->pipe < 0)
		return;
	if (ioctl(worker->pipe, FIONREAD, &left))
		die("FIONREAD on a worker's output: %m");
	while (left > 0) {
		size_t taken = 0;

		if (!take(worker, (size_t)left, &taken) || taken == 0)
			break;
		left -= (int)taken;
	}
	close(worker->pipe);
	worker->pipe = -1;
}

/* A shell on the console, as the leader of a session that owns it. */
pid_t worker_start_shell(void)
{
	static char *const argv[] = {
		"sh", "-c", "/bin/busybox --install -s && exec /bin/busybox sh", NULL
	};
	pid_t pid;

	boot_make_directories("/sbin");
	boot_make_directories("/usr/bin");
	boot_make_directories("/usr/sbin");
	pid = fork();
	if (pid < 0)
		die("fork the shell: %m");
	if (pid == 0) {
		int console;

		setsid();
		console = open(CONSOLE, O_RDWR | O_CLOEXEC);
		/*
		 * An open of /dev/console never gives a controlling terminal
		 * (drivers/tty/tty_io.c, tty_open); without one ^C reaches nobody.
		 */
		if (console < 0 || dup2(console, STDIN_FILENO) < 0 ||
		    dup2(console, STDOUT_FILENO) < 0 || dup2(console, STDERR_FILENO) < 0 ||
		    ioctl(STDIN_FILENO, TIOCSCTTY, 0))
			child_fail("open", CONSOLE);
		child_prepare("/", 0);
		execve("/bin/busybox", argv, environment);
		child_fail("exec", "/bin/busybox");
	}
	return pid;
}
