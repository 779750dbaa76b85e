// SPDX-License-Identifier: GPL-2.0-only
/*
 * tripwire: makes the kernel complain on request, in every way that whoever
 * watches it must know. Options in parentheses are those of the kernel's that
 * see to it that the trip is reported.
 *
 * /sys/kernel/debug/tripwire/trip lists the trips when read. Writing the name
 * of one trips it; "NAME SECONDS" says how long one that takes its time goes
 * on. The write returns when all is over. A name that is not in the list is
 * EINVAL; EOPNOTSUPP says that this kernel was built without the check that
 * would see the trip, so that nothing was done.
 *
 * What kills the task that does it is done by a thread of its own, so that
 * the writer lives on and the module stays fit to be unloaded.
 */
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "tripwire.h"

static const struct trip trips[] = {
	/* warn.c */
	{ "warn-once", "WARN_ON_ONCE() at two places, each passed twice", tripwire_warn_once },
	{ "warn-text", "WARN() with a text", tripwire_warn_text },
	{ "warn-everywhere", "WARN() on all CPUs at once", tripwire_warn_everywhere },
	{ "refcount-saturated", "refcount_t counted up past its end",
	  tripwire_refcount_saturated },
	{ "refcount-underflow", "refcount_t counted down past 0", tripwire_refcount_underflow },
	{ "refcount-use-after-free", "refcount_t counted up from 0",
	  tripwire_refcount_use_after_free },
	{ "schedule-while-atomic", "sleep with bottom halves disabled",
	  tripwire_schedule_while_atomic },
	{ "sleep-in-atomic", "might_sleep() with bottom halves disabled (DEBUG_ATOMIC_SLEEP)",
	  tripwire_sleep_in_atomic },

	/* oops.c */
	{ "bug", "BUG()", tripwire_bug, .deadly = true },
	{ "wild-read", "read at a wild address", tripwire_wild_read, .deadly = true },
	{ "wild-write", "write at a wild address", tripwire_wild_write, .deadly = true },
	{ "null-write", "write at address 0", tripwire_null_write, .deadly = true },
	{ "null-call", "call of address 0", tripwire_null_call, .deadly = true },
	{ "readonly-write", "write to a constant", tripwire_readonly_write, .deadly = true },
	{ "illegal-operation", "instruction that does not exist",
	  tripwire_illegal_operation, .deadly = true },
	{ "specification-exception", "even-odd register pair that begins with an odd one",
	  tripwire_specification_exception, .deadly = true },
	{ "addressing-exception", "real address beyond the memory",
	  tripwire_addressing_exception, .deadly = true },
	{ "divide", "division by 0", tripwire_divide, .deadly = true },
	{ "warn-in-oops", "WARN() while an oops is reported",
	  tripwire_warn_in_oops, .deadly = true },
	{ "oops-in-interrupt", "read at a wild address in an interrupt",
	  tripwire_oops_in_interrupt, .deadly = true },
	{ "stack-overflow", "recursion without end", tripwire_stack_overflow, .deadly = true },
	{ "panic", "panic()", tripwire_panic, .deadly = true },

	/* memory.c */
	{ "list-add", "list_add() to a corrupt list (DEBUG_LIST)",
	  tripwire_list_add, .deadly = true },
	{ "list-del", "list_del() of an entry that is in no list (DEBUG_LIST)",
	  tripwire_list_del, .deadly = true },
	{ "page-underflow", "put_page() of a page that is free",
	  tripwire_page_underflow, .deadly = true },
	{ "slab-use-after-free", "write to a freed object of a cache with poison (SLUB_DEBUG)",
	  tripwire_slab_use_after_free },
	{ "slab-out-of-bounds", "write behind an object of a cache with red zones (SLUB_DEBUG)",
	  tripwire_slab_out_of_bounds },
	{ "use-after-free", "read of freed memory (KFENCE, KASAN)", tripwire_use_after_free },

	/* stall.c */
	{ "hung-task", "uninterruptible sleep", tripwire_hung_task, .seconds = 8 },
	{ "rcu-stall", "loop in the kernel that never schedules",
	  tripwire_rcu_stall, .seconds = 8 },
	{ "soft-lockup", "the same (SOFTLOCKUP_DETECTOR)", tripwire_soft_lockup, .seconds = 30 },
	{ "hang", "endless loop with interrupts disabled", tripwire_hang },

	/* race.c */
	{ "lost-update", "two CPUs count without a lock", tripwire_lost_update },

	/* flood.c */
	{ "flood", "messages as fast as they go, a WARN() in their midst",
	  tripwire_flood, .seconds = 30 },
};

static int trip_show(struct seq_file *m, void *unused)
{
	for (const struct trip *trip = trips; trip < trips + ARRAY_SIZE(trips); trip++) {
		seq_printf(m, "%-24s %s", trip->name, trip->meaning);
		if (trip->seconds)
			seq_printf(m, "; %u s, or as many as are given", trip->seconds);
		seq_putc(m, '\n');
	}
	return 0;
}

static int trip_open(struct inode *inode, struct file *file)
{
	return single_open(file, trip_show, NULL);
}

static const struct trip *find_trip(const char *name)
{
	for (const struct trip *trip = trips; trip < trips + ARRAY_SIZE(trips); trip++)
		if (!strcmp(trip->name, name))
			return trip;
	return NULL;
}

/* One trip that is under way in a thread. */
struct deed {
	const struct trip *trip;
	unsigned int seconds;
	struct completion begun;
	int error;
};

static int do_deed(void *data)
{
	struct deed *deed = data;

	complete(&deed->begun);
	deed->error = deed->trip->run(deed->seconds);
	return 0;
}

static int run_in_thread(const struct trip *trip, unsigned int seconds)
{
	struct deed deed = { .trip = trip, .seconds = seconds };
	struct task_struct *thread;

	init_completion(&deed.begun);
	thread = kthread_create(do_deed, &deed, "tripwire");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	get_task_struct(thread);
	wake_up_process(thread);
	/* kthread_stop() would keep a thread that has not begun from beginning. */
	wait_for_completion(&deed.begun);
	kthread_stop(thread);
	put_task_struct(thread);
	return deed.error;
}

static ssize_t trip_write(struct file *file, const char __user *from, size_t count, loff_t *offset)
{
	char text[64], *name = text, *argument;
	const struct trip *trip;
	unsigned int seconds;
	int error;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, count))
		return -EFAULT;
	text[count] = '\0';
	argument = strim(text);
	name = strsep(&argument, " ");

	trip = find_trip(name);
	if (!trip)
		return -EINVAL;
	seconds = trip->seconds;
	if (argument) {
		if (!seconds)
			return -EINVAL;
		error = kstrtouint(argument, 10, &seconds);
		if (error)
			return error;
	}
	error = trip->deadly ? run_in_thread(trip, seconds) : trip->run(seconds);
	return error ? error : count;
}

static const struct file_operations trip_operations = {
	.owner = THIS_MODULE,
	.open = trip_open,
	.read = seq_read,
	.write = trip_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static struct dentry *directory;

static int __init tripwire_init(void)
{
	directory = debugfs_create_dir("tripwire", NULL);
	if (IS_ERR(directory))
		return PTR_ERR(directory);
	debugfs_create_file("trip", 0600, directory, NULL, &trip_operations);
	return 0;
}

static void __exit tripwire_exit(void)
{
	debugfs_remove(directory);
	tripwire_forget_notifier();
}

module_init(tripwire_init);
module_exit(tripwire_exit);
MODULE_DESCRIPTION("Makes the kernel complain on request");
MODULE_LICENSE("GPL");
