// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Freezes a file system that workers have files on, and thaws it.
 *
 * FIFREEZE: fs/super.c freeze_super() has new writers wait (sb_start_write()), waits for those under
 * way, writes back what is dirty, has page faults that would dirty a page wait
 * (sb_start_pagefault()), and then the journal: fs/ext4/super.c ext4_freeze(). Who writes from
 * inside the kernel, such as a loop device, has to wait as well. FITHAW: thaw_super().
 *
 * While the file system is frozen its disk must not be written to: the disk's own count of writes
 * (Documentation/block/stat.rst) stays what it is. The module uvsim's disk keeps no such count.
 *
 * A program that is killed here leaves the file system frozen, and who writes to it waits beyond the
 * reach of signals; init thaws it behind each step.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "interference.h"
#include "fsfreeze.args.h"

struct freezing {
	int directory; /* whose file system it is */
	char place[32];
	char counts[64]; /* of its disk */
	unsigned int busy;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct freezing *freezing = stress_alloc(sizeof(*freezing));
	char disk[16]; /* init mounts diskN at /mnt/N */
	struct stat status;

	path->state = freezing;
	stress_choice(ARG_DISK, disk, sizeof(disk));
	snprintf(freezing->place, sizeof(freezing->place), "/mnt/%s",
		 disk + (strncmp(disk, "disk", 4) ? 0 : 4));
	freezing->directory = open(freezing->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (freezing->directory < 0 && errno == ENOENT)
		return stress_skip(path, "no file system at %s", freezing->place);
	if (freezing->directory < 0 || fstat(freezing->directory, &status))
		return stress_error(path, "open %s", freezing->place);
	snprintf(freezing->counts, sizeof(freezing->counts), "/sys/dev/block/%u:%u/stat",
		 major(status.st_dev), minor(status.st_dev));
	return STRESS_OK;
}

static void tear_down(struct stress_path *path)
{
	struct freezing *freezing = path->state;

	if (freezing->busy)
		stress_note(path, "%u times frozen by somebody else", freezing->busy);
	if (freezing->directory >= 0)
		close(freezing->directory);
	free(freezing);
}

/* How many writes the disk has done. */
static enum stress_result count_writes(struct stress_path *path, const struct freezing *freezing,
				       uint64_t *writes)
{
	FILE *file = fopen(freezing->counts, "re");
	int read = file ? fscanf(file, "%*u %*u %*u %*u %" SCNu64, writes) : 0;

	if (file)
		fclose(file);
	return read == 1 ? STRESS_OK : stress_error(path, "read %s", freezing->counts);
}

static enum stress_result hold(struct stress_path *path, const struct freezing *freezing)
{
	uint64_t before, after;

	if (count_writes(path, freezing, &before) != STRESS_OK)
		return STRESS_FAIL;
	stress_sleep_until(stress_now_ns() + stress_number(ARG_HOLD) * 1000000ULL);
	if (count_writes(path, freezing, &after) != STRESS_OK)
		return STRESS_FAIL;
	if (planted(path, 1)) /* a write that was not held up */
		after++;
	return after == before ? STRESS_OK
			       : stress_wrong_number(path, "frozen-writes", 0, before, after);
}

static enum stress_result turn(struct stress_path *path)
{
	struct freezing *freezing = path->state;
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	path->generation++;
	path->waits_for = "the file system to freeze";
	if (ioctl(freezing->directory, FIFREEZE, 0)) {
		if (errno != EBUSY)
			return stress_error(path, "freeze %s", freezing->place);
		freezing->busy++;
		return STRESS_OK;
	}
	result = hold(path, freezing);
	path->waits_for = "the file system to thaw";
	if (ioctl(freezing->directory, FITHAW, 0))
		return stress_error(path, "thaw %s", freezing->place);
	if (result == STRESS_OK)
		stress_credit(path, 1, 0);
	return result;
}

STRESS_MAIN("fsfreeze", NULL, STRESS_PATH("freeze", 0))
