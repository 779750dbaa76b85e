// SPDX-License-Identifier: GPL-2.0-only
/* What stands still, or does not stand aside. */
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/processor.h>
#include <linux/sched.h>

#include "tripwire.h"

/*
 * kernel/hung_task.c looks at a task twice, hung_task_timeout_secs apart, and
 * complains if it has not run in between.
 */
noinline int tripwire_hung_task(unsigned int seconds)
{
	schedule_timeout_uninterruptible(seconds * HZ);
	return 0;
}

/*
 * With preemption disabled no quiescent state is passed. Interrupts stay
 * enabled, so that the watchdog's finds this CPU in the function that spins.
 */
static __always_inline void spin(unsigned int seconds)
{
	unsigned long end = jiffies + seconds * HZ;

	preempt_disable();
	while (time_before(jiffies, end))
		cpu_relax();
	preempt_enable();
}

noinline int tripwire_rcu_stall(unsigned int seconds)
{
	spin(seconds);
	return 0;
}

/* s390 has no CONFIG_SOFTLOCKUP_DETECTOR. */
noinline int tripwire_soft_lockup(unsigned int seconds)
{
	if (!IS_ENABLED(CONFIG_SOFTLOCKUP_DETECTOR))
		return -EOPNOTSUPP;
	spin(seconds);
	return 0;
}

/* The kernel says nothing of this; whoever waits for a sign of life must. */
noinline int tripwire_hang(unsigned int seconds)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}
