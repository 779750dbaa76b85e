// SPDX-License-Identifier: GPL-2.0-only
/* Complaints that the kernel lives on with. */
#include <linux/atomic.h>
#include <linux/bottom_half.h>
#include <linux/bug.h>
#include <linux/cpu.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/processor.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/smp.h>

#include "tripwire.h"

static noinline void tripwire_warn_once_one(void)
{
	WARN_ON_ONCE(true);
}

static noinline void tripwire_warn_once_two(void)
{
	WARN_ON_ONCE(true);
}

/* One report from each place, until clear_warn_once arms them again. */
noinline int tripwire_warn_once(unsigned int seconds)
{
	for (int turn = 0; turn < 2; turn++) {
		tripwire_warn_once_one();
		tripwire_warn_once_two();
	}
	return 0;
}

noinline int tripwire_warn_text(unsigned int seconds)
{
	WARN(true, "tripwire: a warning with a text of %d words\n", 7);
	return 0;
}

static noinline void tripwire_warn_even(void)
{
	WARN(true, "tripwire: a warning on an even CPU\n");
}

static noinline void tripwire_warn_odd(void)
{
	WARN(true, "tripwire: a warning on an odd CPU\n");
}

static void warn_together(void *data)
{
	atomic_t *missing = data;

	atomic_dec(missing);
	while (atomic_read(missing) > 0)
		cpu_relax();
	if (smp_processor_id() & 1)
		tripwire_warn_odd();
	else
		tripwire_warn_even();
}

/* Their lines come mixed up: no lock is held over a report. */
noinline int tripwire_warn_everywhere(unsigned int seconds)
{
	atomic_t missing;

	cpus_read_lock();
	atomic_set(&missing, num_online_cpus());
	on_each_cpu(warn_together, &missing, true);
	cpus_read_unlock();
	return 0;
}

/* lib/refcount.c warns once for each kind of misuse. */
noinline int tripwire_refcount_saturated(unsigned int seconds)
{
	refcount_t count = REFCOUNT_INIT(INT_MAX);

	refcount_inc(&count);
	return 0;
}

noinline int tripwire_refcount_underflow(unsigned int seconds)
{
	refcount_t count = REFCOUNT_INIT(0);

	return refcount_dec_and_test(&count) ? -EIO : 0;
}

noinline int tripwire_refcount_use_after_free(unsigned int seconds)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
	return 0;
}

/*
 * Kernels without CONFIG_PREEMPT_COUNT do not count preempt_disable(), but
 * all count bottom halves.
 */
noinline int tripwire_schedule_while_atomic(unsigned int seconds)
{
	local_bh_disable();
	schedule_timeout_uninterruptible(1);
	/* __schedule_bug() is followed by a reset of the count. */
	if (softirq_count())
		local_bh_enable();
	return 0;
}

noinline int tripwire_sleep_in_atomic(unsigned int seconds)
{
	if (!IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP))
		return -EOPNOTSUPP;
	local_bh_disable();
	might_sleep();
	local_bh_enable();
	return 0;
}
