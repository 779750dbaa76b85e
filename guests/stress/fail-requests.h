/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Requests to a disk that the kernel fails at random where they are submitted (block/blk-core.c
 * should_fail_request(), CONFIG_FAIL_MAKE_REQUEST): only those of a thread that asks for it, so that
 * what a program checks with, and its neighbours, are spared.
 *
 * The chance is one for all disks and stays when the program ends; no thread asks for it then.
 */
#ifndef FARM_STRESS_FAIL_REQUESTS_H
#define FARM_STRESS_FAIL_REQUESTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

/* Documentation/fault-injection/fault-injection.rst; in this order, so that none fails unasked. */
static const char *const fail_requests_knobs[][2] = {
	{ "/sys/kernel/debug/fail_make_request/task-filter", "Y" },
	{ "/sys/kernel/debug/fail_make_request/verbose", "0" },
	{ "/sys/kernel/debug/fail_make_request/times", "-1" },
	{ "/sys/kernel/debug/fail_make_request/interval", "1" },
	{ "/sys/kernel/debug/fail_make_request/probability", "40" },
};

static inline enum stress_result fail_requests_write(struct stress_path *path, const char *file,
						     const char *text)
{
	const size_t length = strlen(text);
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, length) == (ssize_t)length;
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	if (done)
		return STRESS_OK;
	if (error == ENOENT)
		return stress_skip(path, "no %s here (CONFIG_FAIL_MAKE_REQUEST, "
				   "CONFIG_FAULT_INJECTION_DEBUG_FS)", file);
	return stress_error(path, "write %s to %s", text, file);
}

/* The disk's requests may fail from now on. */
static inline enum stress_result fail_requests_of(struct stress_path *path, const char *disk)
{
	enum stress_result result = STRESS_OK;
	char name[32], file[64];
	ssize_t length;

	for (size_t i = 0; i < sizeof(fail_requests_knobs) / sizeof(*fail_requests_knobs); i++)
		if (result == STRESS_OK)
			result = fail_requests_write(path, fail_requests_knobs[i][0],
						     fail_requests_knobs[i][1]);
	if (result != STRESS_OK)
		return result;
	/* /dev/disk0 is init's link to what the kernel calls it. */
	snprintf(file, sizeof(file), "/dev/%s", disk);
	length = readlink(file, name, sizeof(name) - 1);
	if (length > 0)
		name[length] = '\0';
	snprintf(file, sizeof(file), "/sys/block/%s/make-it-fail", length > 0 ? name : disk);
	return fail_requests_write(path, file, "1");
}

/* Whether this thread's do. */
static inline enum stress_result fail_requests_here(struct stress_path *path, bool fail)
{
	return fail_requests_write(path, "/proc/thread-self/make-it-fail", fail ? "1" : "0");
}

#endif
