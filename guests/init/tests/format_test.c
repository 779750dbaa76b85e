// SPDX-License-Identifier: MIT OR Apache-2.0
/* Writes an empty file system onto the file that is named: what fsck says of it is for the caller. */
#include <stdio.h>
#include <string.h>

#include "../init.h"

int main(int argc, char **argv)
{
	int error = argc == 2 ? format_disk(argv[1]) : 0;

	if (error)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(error));
	return argc != 2 || error;
}
