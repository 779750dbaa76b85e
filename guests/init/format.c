// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * An empty file system on a disk of the guest's own. The host formats the disks
 * that it brings; those that a kernel module makes it never sees.
 */
#define _GNU_SOURCE
#include "init.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ext2's format, which ext4 takes. Blocks of a page, as with the host's disks. */
void format_disk(char *path)
{
	char *const arguments[] = { "busybox", "mke2fs", "-b", "4096", path, NULL };
	posix_spawn_file_actions_t actions;
	int error, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	/* What it prints there is the layout. */
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	error = posix_spawn(&pid, "/bin/busybox", &actions, NULL, arguments, environ);
	if (error)
		die("start mke2fs for %s: %s", path, strerror(error));
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) != pid)
		die("wait for mke2fs: %m");
	if (status)
		die("mke2fs %s ended with status %#x", path, (unsigned int)status);
}
