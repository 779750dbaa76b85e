// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * All programs in one file: which of them it is, its name says. programs.h has a line for each and
 * is generated from the two programs.yaml.
 */
#include <stdio.h>
#include <string.h>

#define PROGRAM(NAME, MAIN) int MAIN(int argc, char **argv);
#include "programs.h"
#undef PROGRAM

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
#define PROGRAM(NAME, MAIN) { NAME, MAIN },
#include "programs.h"
};

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc ? argv[0] : "";

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(name, programs[i].name))
			return programs[i].main(argc, argv);
	fprintf(stderr, "'%s' is none of the programs in this file\n", name);
	return 2;
}
