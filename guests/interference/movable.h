/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The blocks of memory in zone Movable, where nothing of the kernel's own stands: each page in use
 * can be moved. The kernel arguments movablecore= and kernelcore= make such a zone.
 */
#ifndef FARM_INTERFERENCE_MOVABLE_H
#define FARM_INTERFERENCE_MOVABLE_H

#include "interference.h"

#define MEMORY "/sys/devices/system/memory"

enum { MAX_BLOCKS = 256 };

struct movable {
	unsigned int blocks[MAX_BLOCKS]; /* their numbers; all have the same size */
	unsigned int count;
	uint64_t block_size;
};

static inline enum stress_result movable_find(struct stress_path *path, struct movable *movable)
{
	char name[64], text[64];

	errno = knob_read(MEMORY "/block_size_bytes", text, sizeof(text));
	if (errno)
		return stress_skip(path, "no " MEMORY "/block_size_bytes here: %m");
	movable->block_size = strtoull(text, NULL, 16);
	for (unsigned int block = 0; block < MAX_BLOCKS; block++) {
		snprintf(name, sizeof(name), MEMORY "/memory%u/valid_zones", block);
		if (!knob_read(name, text, sizeof(text)) && !strcmp(text, "Movable"))
			movable->blocks[movable->count++] = block;
	}
	if (!movable->count)
		return stress_skip(path, "no memory block is in zone Movable (kernel argument "
					 "movablecore=)");
	return STRESS_OK;
}

#endif
