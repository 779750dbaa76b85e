// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does what `make olddefconfig` does, for one .config after the other.
 *
 * To read a tree's Kconfig files takes seconds, since they ask the compiler what it can do. This reads them once
 * and then settles each .config in a child of its own, so that nothing of one is left for the next. It is linked with
 * the tree's own scripts/kconfig, all of it but conf.o, and started with what make hands to conf: its environment, and
 * the directory of the build.
 *
 * Each line of stdin is the path of a .config, which is settled in place; the answer is a line with its exit status.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* scripts/kconfig/lkc_proto.h, whose other parts differ from release to release. */
void conf_parse(const char *name);
int conf_read(const char *name);
int conf_write(const char *name);
void conf_set_message_callback(void (*fn)(const char *s));

int main(int argc, char **argv)
{
	char path[4096];

	if (argc != 2) {
		fprintf(stderr, "usage: olddefconfig KCONFIG\n");
		return 2;
	}
	conf_parse(argv[1]);
	conf_set_message_callback(NULL);
	while (fgets(path, sizeof(path), stdin)) {
		int status;
		pid_t child;

		path[strcspn(path, "\n")] = '\0';
		child = fork();
		if (child < 0) {
			perror("fork");
			return 1;
		}
		if (child == 0)
			_exit(conf_read(path) || conf_write(path) ? 1 : 0);
		if (waitpid(child, &status, 0) != child) {
			perror("waitpid");
			return 1;
		}
		printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128);
		fflush(stdout);
	}
	return 0;
}
