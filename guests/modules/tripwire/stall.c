// SPDX-License-Identifier: GPL-2.0-only
/* What stands still, or does not stand aside. */
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/processor.h>
#include <linux/rcupdate.h>
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

/* Whether a grace period that began after the cookie was taken is still under way. */
static bool grace_period_since(unsigned long cookie)
{
	return get_state_synchronize_rcu() != cookie && !poll_state_synchronize_rcu(cookie);
}

#define ATTEMPTS 10000

/*
 * RCU complains of a grace period that does not end, so there must be one when
 * the loop begins: a lone CPU that spins lets none begin. Where there are more
 * CPUs, that one may end without this CPU, but the next, which is asked for
 * while preemption is disabled, cannot.
 */
noinline int tripwire_rcu_stall(unsigned int seconds)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		unsigned long cookie = start_poll_synchronize_rcu();

		/* Less than a tick, so that the grace period seldom ends too. */
		usleep_range(100, 200);
		preempt_disable();
		if (grace_period_since(cookie)) {
			start_poll_synchronize_rcu();
			spin(seconds);
			preempt_enable();
			return 0;
		}
		preempt_enable();
	}
	return -EAGAIN;
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
