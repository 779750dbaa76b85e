// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The control group "workers" of the unified hierarchy: a step's workers run in
 * it, what runs beside them does not, so that it can have their memory
 * reclaimed or limit it (Documentation/admin-guide/cgroup-v2.rst). A kernel
 * without control groups, or without one of their files, runs the same workers.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define WORKERS ROOT "/workers"

static bool there;
/* The group that there is has held no process yet. */
static bool fresh;

static void make_workers(void)
{
	if (mkdir(WORKERS, 0755) && errno != EEXIST)
		die("mkdir %s: %m", WORKERS);
}

void cgroup_open(void)
{
	there = !mount("cgroup2", ROOT, "cgroup2", 0, NULL);
	if (!there)
		return;
	boot_write_file(ROOT "/cgroup.subtree_control", "+memory");
	/* A kernel's first group of its own has it patch its text (static keys), which a saved guest has behind it. */
	make_workers();
	fresh = true;
}

/*
 * A fresh group, so that no limit outlives the step that it was set in, and its
 * directory; -1 where the kernel has none. While a process of an earlier step
 * hangs in the group it cannot go: then it is the same again.
 */
int cgroup_renew_workers(void)
{
	int fd;

	if (!there)
		return -1;
	if (!fresh) {
		if (rmdir(WORKERS) && errno != ENOENT && errno != EBUSY)
			die("rmdir %s: %m", WORKERS);
		make_workers();
	}
	fresh = false;
	fd = open(WORKERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die("open %s: %m", WORKERS);
	return fd;
}
