/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The workers of the step beside which a program runs: init keeps them in a control group of their
 * own (docs/guest-protocol.md).
 */
#ifndef FARM_WORKERS_H
#define FARM_WORKERS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define WORKERS "/sys/fs/cgroup/workers"

/* Why the control group, or a file of it, cannot be had; STRESS_OK if it can. */
static inline enum stress_result workers_need(struct stress_path *path, const char *file)
{
	char name[128];

	snprintf(name, sizeof(name), WORKERS "/%s", file);
	if (!access(name, F_OK))
		return STRESS_OK;
	return stress_skip(path, "no %s here: %m", name);
}

/* A random one of the workers and their children; 0 if there is none. */
static inline pid_t workers_choose(struct stress_path *path)
{
	FILE *file = fopen(WORKERS "/cgroup.procs", "re");
	pid_t chosen = 0;
	int pid;

	if (!file)
		return 0;
	for (uint64_t seen = 1; fscanf(file, "%d", &pid) == 1; seen++)
		if (rng_one_in(&path->rng, seen))
			chosen = pid;
	fclose(file);
	return chosen;
}

/*
 * Opens a file that a process has open, if it is a regular one and not empty; else -1. Through
 * O_PATH first: to open a pipe for good would make us one of its readers.
 */
static inline int workers_reopen(pid_t pid, const char *number)
{
	char name[64 + NAME_MAX];
	struct stat status;
	int fd = -1, link;

	snprintf(name, sizeof(name), "/proc/%d/fd/%s", (int)pid, number);
	link = open(name, O_PATH | O_CLOEXEC);
	if (link < 0)
		return -1;
	if (!fstat(link, &status) && S_ISREG(status.st_mode) && status.st_size) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", link);
		fd = open(name, O_RDONLY | O_CLOEXEC);
	}
	close(link);
	return fd;
}

/* Opens a random regular file that a process has open, be it unlinked or a memfd; or -1. */
static inline int workers_open_file(struct stress_path *path, pid_t pid)
{
	char name[32];
	struct dirent *entry;
	uint64_t seen = 1;
	int chosen = -1;
	DIR *directory;

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	directory = opendir(name);
	if (!directory)
		return -1;
	while ((entry = readdir(directory)) != NULL) {
		int fd = *entry->d_name == '.' ? -1 : workers_reopen(pid, entry->d_name);

		if (fd >= 0 && !rng_one_in(&path->rng, seen++)) {
			close(fd);
		} else if (fd >= 0) {
			if (chosen >= 0)
				close(chosen);
			chosen = fd;
		}
	}
	closedir(directory);
	return chosen;
}

/* Some of a file that a worker has open, mapped here. */
struct worker_range {
	int fd;
	uint64_t offset;
	size_t length;
	unsigned char *memory; /* NULL if there is none */
};

/*
 * Maps some of the open file and has it read in. MADV_POPULATE_READ faults pages in as a load
 * would, but says EFAULT where that dies of SIGBUS: the worker has truncated the file.
 */
static inline enum stress_result workers_map_open(struct stress_path *path,
						  struct worker_range *range, size_t most)
{
	enum stress_result result;
	struct stat status;
	void *memory;

	if (fstat(range->fd, &status))
		return stress_error(path, "stat a worker's file");
	range->length = (uint64_t)status.st_size < most ? (uint64_t)status.st_size : most;
	if (!range->length)
		return STRESS_OK;
	range->offset = rng_offset(&path->rng, status.st_size, range->length, 4096);
	memory = mmap(NULL, range->length, PROT_READ, MAP_SHARED, range->fd, range->offset);
	if (memory == MAP_FAILED)
		return stress_error(path, "map %zu bytes of a worker's file", range->length);
	path->waits_for = "the pages of a worker's file";
	if (!madvise(memory, range->length, MADV_POPULATE_READ)) {
		range->memory = memory;
		return STRESS_OK;
	}
	result = errno == EFAULT ? STRESS_OK
				 : stress_error(path, "read %zu bytes of a worker's file",
						range->length);
	munmap(memory, range->length);
	return result;
}

/* Maps up to `most` bytes of a random regular file that a process has open, if it has any. */
static inline enum stress_result workers_map(struct stress_path *path, struct worker_range *range,
					     pid_t pid, size_t most)
{
	enum stress_result result = STRESS_OK;

	*range = (struct worker_range){ .fd = workers_open_file(path, pid) };
	if (range->fd >= 0)
		result = workers_map_open(path, range, most);
	if (range->fd >= 0 && !range->memory)
		close(range->fd);
	return result;
}

static inline enum stress_result workers_unmap(struct stress_path *path,
					       const struct worker_range *range)
{
	close(range->fd);
	return munmap(range->memory, range->length)
		       ? stress_error(path, "unmap %zu bytes of a worker's file", range->length)
		       : STRESS_OK;
}

/* For teardowns: a path that never met what it acts on is skipped, not failed. */
static inline void workers_missed(struct stress_path *path, bool met, const char *what)
{
	if (!met && path->result == STRESS_OK)
		path->result = stress_skip(path, "there was never %s in " WORKERS, what);
}

#endif
