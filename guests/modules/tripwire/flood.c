// SPDX-License-Identifier: GPL-2.0-only
/* More messages than anyone reads, and one that matters among them. */
#include <linux/bug.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/printk.h>
#include <linux/sched.h>

#include "tripwire.h"

static noinline void tripwire_flood_warn(void)
{
	WARN(true, "tripwire: a warning in the midst of the flood\n");
}

/* Whoever reads the log and says that the system is alive gets its turns. */
static noinline void pour(unsigned long milliseconds, unsigned long *line)
{
	unsigned long end = jiffies + msecs_to_jiffies(milliseconds);

	while (time_before(jiffies, end)) {
		pr_info("tripwire: line %lu of a flood of messages that mean nothing\n", ++*line);
		cond_resched();
	}
}

noinline int tripwire_flood(unsigned int seconds)
{
	unsigned long line = 0;

	pour(seconds * 500UL, &line);
	tripwire_flood_warn();
	pour(seconds * 500UL, &line);
	pr_info("tripwire: the flood ends with line %lu\n", line);
	return 0;
}
