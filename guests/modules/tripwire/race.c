// SPDX-License-Identifier: GPL-2.0-only
/* What goes wrong only if two CPUs meet. */
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/processor.h>

#include "tripwire.h"

#define RACERS 2
#define UPDATES 200000
#define GOES 1000

static unsigned int updates;
static atomic_t at_start;
static struct completion at_end;

/* Counts as if nobody else did: what another has counted since the read is lost. */
static int update(void *unused)
{
	atomic_inc(&at_start);
	while (atomic_read(&at_start) < RACERS)
		cpu_relax();
	for (unsigned int i = 0; i < UPDATES; i++)
		WRITE_ONCE(updates, READ_ONCE(updates) + 1);
	kthread_complete_and_exit(&at_end, 0);
}

/* How many updates are lost in one go, or a negative error number. */
static int race(void)
{
	struct task_struct *racers[RACERS];
	unsigned int cpu = cpumask_first(cpu_online_mask);

	updates = 0;
	atomic_set(&at_start, 0);
	init_completion(&at_end);
	for (unsigned int i = 0; i < RACERS; i++) {
		racers[i] = kthread_create(update, NULL, "tripwire/%u", i);
		if (IS_ERR(racers[i])) {
			while (i--)
				kthread_stop(racers[i]);
			return -ENOMEM;
		}
		kthread_bind(racers[i], cpu);
		cpu = cpumask_next(cpu, cpu_online_mask);
	}
	for (unsigned int i = 0; i < RACERS; i++)
		wake_up_process(racers[i]);
	for (unsigned int i = 0; i < RACERS; i++)
		wait_for_completion(&at_end);
	return RACERS * UPDATES - updates;
}

/*
 * Two virtual CPUs that share one of a busy host's are never in the midst of it
 * at once for long: then it takes several goes.
 */
noinline int tripwire_lost_update(unsigned int seconds)
{
	int lost = 0;

	if (num_online_cpus() < RACERS)
		return -EOPNOTSUPP;
	for (unsigned int i = 0; i < GOES && !lost; i++)
		lost = race();
	if (lost < 0)
		return lost;
	WARN(lost, "tripwire: %d of %d updates are lost\n", lost, RACERS * UPDATES);
	return 0;
}
