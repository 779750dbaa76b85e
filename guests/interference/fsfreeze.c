// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Freezes a file system that workers have files on, and thaws it.
 *
 * FIFREEZE: fs/super.c freeze_super() has new writers wait (sb_start_write()), waits for those under
 * way, writes back what is dirty, has page faults that would dirty a page wait
 * (sb_start_pagefault()), and then the journal: fs/ext4/super.c ext4_freeze(). Who writes from
 * inside the kernel, such as a loop device, has to wait as well. FITHAW: thaw_super().
 *
 * While the file system is frozen the program only reads its own file there, from the disk; what
 * would write could not end. A file system that nobody thaws would take all who write to it along,
 * beyond the reach of signals, so a second process does if the first one is killed.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "interference.h"
#include "file.h"
#include "fsfreeze.args.h"

enum { FILE_SIZE = 64 * 1024 };

/* What the second process is told of the first one's state. */
enum { THAWED, FROZEN };

struct freezing {
	struct stress_file file;
	int directory; /* whose file system it is */
	int lifeline;  /* to the second process */
	pid_t guardian;
	char place[32];
	unsigned int busy;
};

/* Thaws when the other end of its pipe goes while the file system is frozen. */
static _Noreturn void guard(int lifeline, int directory)
{
	unsigned char state = THAWED, next;

	/* Init kills by group, and waits for all who could still print. */
	setpgid(0, 0);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		close(fd);
	while (read(lifeline, &next, 1) == 1)
		state = next;
	if (state == FROZEN)
		ioctl(directory, FITHAW, 0);
	_exit(0);
}

static enum stress_result start_guardian(struct stress_path *path, struct freezing *freezing)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return stress_error(path, "make a pipe");
	freezing->lifeline = ends[1];
	freezing->guardian = fork();
	if (freezing->guardian == 0) {
		close(ends[1]);
		guard(ends[0], freezing->directory);
	}
	close(ends[0]);
	return freezing->guardian < 0 ? stress_error(path, "fork") : STRESS_OK;
}

static enum stress_result tell_guardian(struct stress_path *path, struct freezing *freezing,
					unsigned char state)
{
	if (write(freezing->lifeline, &state, 1) == 1)
		return STRESS_OK;
	return stress_error(path, "tell the second process");
}

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	struct freezing *freezing = stress_alloc(sizeof(*freezing));
	char disk[16]; /* init mounts diskN at /mnt/N */
	enum stress_result result;

	path->state = freezing;
	freezing->file = closed;
	freezing->lifeline = -1;
	stress_choice(ARG_DISK, disk, sizeof(disk));
	snprintf(freezing->place, sizeof(freezing->place), "/mnt/%s",
		 disk + (strncmp(disk, "disk", 4) ? 0 : 4));
	freezing->directory = open(freezing->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (freezing->directory < 0 && errno == ENOENT)
		return stress_skip(path, "no file system at %s", freezing->place);
	if (freezing->directory < 0)
		return stress_error(path, "open %s", freezing->place);
	/* Where the program's own file goes. */
	stress_options.dir = freezing->place;
	result = file_open(path, &freezing->file, "file", FILE_SIZE);
	return result == STRESS_OK ? start_guardian(path, freezing) : result;
}

static void tear_down(struct stress_path *path)
{
	struct freezing *freezing = path->state;

	if (freezing->busy)
		stress_note(path, "%u times frozen by somebody else", freezing->busy);
	if (freezing->lifeline >= 0)
		close(freezing->lifeline);
	path->waits_for = "the second process to end";
	if (freezing->guardian > 0)
		waitpid(freezing->guardian, NULL, 0);
	file_close(&freezing->file);
	if (freezing->directory >= 0)
		close(freezing->directory);
	free(freezing);
}

/* The file on the disk is what it was, read while nobody can write to it. */
static enum stress_result hold(struct stress_path *path, struct freezing *freezing, uint64_t offset,
			       size_t length)
{
	if (planted(path, 1)) /* a flipped bit */
		freezing->file.model[offset] ^= 0x10;
	stress_sleep_until(stress_now_ns() + stress_number(ARG_HOLD) * 1000000ULL);
	return file_verify(path, &freezing->file, "frozen", offset, length);
}

static enum stress_result turn(struct stress_path *path)
{
	struct freezing *freezing = path->state;
	struct stress_file *file = &freezing->file;
	size_t length = rng_length(&path->rng, FILE_SIZE / 4, 1);
	uint64_t offset = rng_offset(&path->rng, FILE_SIZE, length, 1);
	enum stress_result result = STRESS_OK;

	pace(stress_number(ARG_RATE));
	file_renew_model(path, file, offset, length);
	if (!planted(path, 2)) /* else a lost write */
		result = file_write(path, file, offset, length);
	if (result == STRESS_OK)
		result = file_evict(path, file, offset, length);
	if (result == STRESS_OK)
		result = tell_guardian(path, freezing, FROZEN);
	if (result != STRESS_OK)
		return result;

	path->waits_for = "the file system to freeze";
	if (ioctl(freezing->directory, FIFREEZE, 0)) {
		if (errno == EBUSY)
			freezing->busy++;
		else
			result = stress_error(path, "freeze %s", freezing->place);
		return tell_guardian(path, freezing, THAWED) == STRESS_OK ? result : STRESS_FAIL;
	}
	result = hold(path, freezing, offset, length);
	path->waits_for = "the file system to thaw";
	if (ioctl(freezing->directory, FITHAW, 0))
		return stress_error(path, "thaw %s", freezing->place);
	if (tell_guardian(path, freezing, THAWED) != STRESS_OK)
		return STRESS_FAIL;
	if (result == STRESS_OK)
		stress_credit(path, 1, length);
	return result;
}

STRESS_MAIN("fsfreeze", NULL, STRESS_PATH("freeze", 0))
