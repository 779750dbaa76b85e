// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Hangs the guest: a real-time spinner on each CPU, with the scheduler's
 * throttling of real-time tasks off, so that nothing else runs any more, init
 * and the kernel's own threads included (sched_setscheduler(2), sched(7)).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define THROTTLE "/proc/sys/kernel/sched_rt_runtime_us"

static int spin_on(int cpu)
{
	struct sched_param highest = { .sched_priority = 99 };
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one)) {
		perror("sched_setaffinity");
		return 1;
	}
	if (sched_setscheduler(0, SCHED_FIFO, &highest)) {
		perror("sched_setscheduler");
		return 1;
	}
	for (;;)
		;
}

int main(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int fd = open(THROTTLE, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-1\n", 3) != 3) {
		perror(THROTTLE);
		return 1;
	}
	/* This process takes CPU 0 last: while it spins there, it cannot fork. */
	for (int cpu = (int)cpus - 1; cpu > 0; cpu--) {
		pid_t child = fork();

		if (child < 0) {
			perror("fork");
			return 1;
		}
		if (child == 0)
			return spin_on(cpu);
	}
	return spin_on(0);
}
