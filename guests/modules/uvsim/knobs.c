// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/uvsim: a file for each knob, and `counters`.
 *
 * A knob takes one decimal number; one that is too large is EINVAL. All random choices come from
 * `seed` and the number of choices made before, so that equal schedules make equal choices.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "uvsim.h"

enum { PERCENT = 100, MOST_DELAY_US = 1000, USUAL_REPORTS = 4 };

struct uvsim_knobs uvsim_knobs = { .reports = USUAL_REPORTS };

static const struct knob {
	const char *name;
	unsigned int *value;
	unsigned int most;
} knobs[] = {
	{ "fix_splice", &uvsim_knobs.fix_splice, 1 },
	{ "fix_vmsplice", &uvsim_knobs.fix_vmsplice, 1 },
	{ "fix_zerocopy", &uvsim_knobs.fix_zerocopy, 1 },
	{ "fix_dio", &uvsim_knobs.fix_dio, 1 },
	/* UVC answers that it was busy, or has done a part. */
	{ "busy_percent", &uvsim_knobs.busy_percent, PERCENT },
	{ "partial_percent", &uvsim_knobs.partial_percent, PERCENT },
	/* "Convert from secure" fails. */
	{ "export_fail_percent", &uvsim_knobs.export_fail_percent, PERCENT },
	/* A page that is secure is taken for another guest's when it is made secure again. */
	{ "owner_mismatch_percent", &uvsim_knobs.owner_mismatch_percent, PERCENT },
	/* How long "convert to secure" takes; the kernel has the page's references frozen then. */
	{ "freeze_delay_us", &uvsim_knobs.freeze_delay_us, MOST_DELAY_US },
	/* The guest shares all its pages with the host, so that they can be pinned shared. */
	{ "pin_shared", &uvsim_knobs.pin_shared, 1 },
	/* What is submitted to block devices is reported too, before a driver sees it. */
	{ "early", &uvsim_knobs.early, 1 },
	/* How many reports of one guest's pages are made. */
	{ "reports", &uvsim_knobs.reports, UINT_MAX },
	{ "seed", &uvsim_knobs.seed, UINT_MAX },
};

static const char *const counter_names[UVSIM_COUNTERS] = {
	[UVSIM_CONVERT_TO] = "convert_to_secure",
	[UVSIM_CONVERT_FROM] = "convert_from_secure",
	[UVSIM_DESTROY] = "destroy_secure",
	[UVSIM_PIN_SHARED] = "pin_shared",
	[UVSIM_OTHER_COMMAND] = "other_command",
	[UVSIM_BUSY] = "busy",
	[UVSIM_PARTIAL] = "partial",
	[UVSIM_REFUSED] = "refused",
	[UVSIM_EXPORT_FAILED] = "export_failed",
	[UVSIM_OWNER_MISMATCH] = "owner_mismatch",
	[UVSIM_HOOK_CALLS] = "hook_calls",
	[UVSIM_EARLY] = "early",
	[UVSIM_VIOLATIONS] = "violations",
	[UVSIM_FREED_SECURE] = "freed_secure",
	[UVSIM_LEFT_SECURE] = "left_secure",
	[UVSIM_UNREPORTED] = "unreported",
	[UVSIM_NO_MEMORY] = "no_memory",
};

static atomic64_t counters[UVSIM_COUNTERS];
static atomic64_t choices;
static struct dentry *directory;
/* Held while a knob is turned and what it stands for follows. */
static DEFINE_MUTEX(turning);

void uvsim_count(enum uvsim_counter counter)
{
	atomic64_inc(&counters[counter]);
}

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static u64 mixed(u64 number)
{
	number *= 0x9e3779b97f4a7c15;
	number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
	number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
	return number ^ (number >> 31);
}

bool uvsim_chance(unsigned int percent)
{
	u64 number;

	if (!percent)
		return false;
	number = ((u64)READ_ONCE(uvsim_knobs.seed) << 32) + atomic64_inc_return(&choices);
	return mixed(number) % PERCENT < percent;
}

static int knob_show(struct seq_file *m, void *unused)
{
	const struct knob *knob = m->private;

	seq_printf(m, "%u\n", READ_ONCE(*knob->value));
	return 0;
}

static int knob_open(struct inode *inode, struct file *file)
{
	return single_open(file, knob_show, inode->i_private);
}

/* May sleep. */
static int turn(const struct knob *knob, unsigned int value)
{
	unsigned int before;
	int error;

	mutex_lock(&turning);
	before = *knob->value;
	WRITE_ONCE(*knob->value, value);
	error = uvsim_fix_apply();
	if (error)
		WRITE_ONCE(*knob->value, before);
	/* The same seed begins the same choices. */
	if (knob->value == &uvsim_knobs.seed)
		atomic64_set(&choices, 0);
	mutex_unlock(&turning);
	return error;
}

static ssize_t knob_write(struct file *file, const char __user *from, size_t count, loff_t *offset)
{
	const struct knob *knob = file_inode(file)->i_private;
	unsigned int value;
	int error = kstrtouint_from_user(from, count, 10, &value);

	if (error)
		return error;
	if (value > knob->most)
		return -EINVAL;
	error = turn(knob, value);
	return error ? error : count;
}

static const struct file_operations knob_operations = {
	.owner = THIS_MODULE,
	.open = knob_open,
	.read = seq_read,
	.write = knob_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int counters_show(struct seq_file *m, void *unused)
{
	for (unsigned int i = 0; i < UVSIM_COUNTERS; i++)
		seq_printf(m, "%s %lld\n", counter_names[i], atomic64_read(&counters[i]));
	/* What there is now. */
	seq_printf(m, "guests %ld\nknown_pages %ld\n", uvsim_guests(), uvsim_state_known());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

int uvsim_knobs_init(void)
{
	directory = debugfs_create_dir("uvsim", NULL);
	if (IS_ERR(directory))
		return PTR_ERR(directory);
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++)
		debugfs_create_file(knobs[i].name, 0600, directory, (void *)&knobs[i],
				    &knob_operations);
	debugfs_create_file("counters", 0400, directory, NULL, &counters_fops);
	return 0;
}

void uvsim_knobs_exit(void)
{
	debugfs_remove(directory);
}
