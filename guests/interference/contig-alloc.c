// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Takes ranges of page frames away from whoever uses them, as a driver does that asks CMA for
 * memory.
 *
 * farm's module contig calls mm/page_alloc.c alloc_contig_range() and gives the range back at once:
 * __alloc_contig_migrate_range() isolates the pages of the range that are in use and migrates them,
 * five times at most, and does not wait for references that stay. What that does to references: as
 * in compact.c, but of the pages of one narrow range, so that a page that was just moved is moved
 * again soon.
 *
 * The ranges lie in zone Movable (movable.h). Each turn first fills a window of the program's own
 * memory, takes the range that one of its pages is in, or any other, and checks the window.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "movable.h"
#include "region.h"
#include "contig-alloc.args.h"

#define TAKE "/sys/kernel/debug/contig/take"

enum {
	WINDOW = 64,	/* pages */
	RANGE = 256,	/* page frames, from a multiple of it: 1 MiB */
	OWN_ONE_IN = 2, /* acts, that are on the program's own memory */
};

struct contig {
	struct region region;
	struct movable movable;
	struct vmstat vmstat;
	int pagemap;
	unsigned int failed;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct contig *contig = stress_alloc(sizeof(*contig));
	enum stress_result result;

	path->state = contig;
	contig->region.fd = -1;
	contig->vmstat.names = "pgmigrate_success pgmigrate_fail";
	contig->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (contig->pagemap < 0)
		return stress_error(path, "open /proc/self/pagemap");
	if (access(TAKE, W_OK))
		return stress_skip(path, "no " TAKE " here: %m");
	result = movable_find(path, &contig->movable);
	if (result != STRESS_OK)
		return result;
	return region_open(path, &contig->region, ANONYMOUS, stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct contig *contig = path->state;

	vmstat_note(path, &contig->vmstat);
	if (contig->failed)
		stress_note(path, "%u times a page would not move", contig->failed);
	region_close(&contig->region);
	if (contig->pagemap >= 0)
		close(contig->pagemap);
	free(contig);
}

/* The frame of a page of the program's own; 0 if it is not known or not in zone Movable. */
static uint64_t own_frame(const struct contig *contig, size_t page)
{
	const uint64_t at = ((uintptr_t)contig->region.memory / PAGE + page) * sizeof(uint64_t);
	const uint64_t in_block = contig->movable.block_size / PAGE;
	uint64_t entry;

	/* Documentation/admin-guide/mm/pagemap.rst */
	if (pread(contig->pagemap, &entry, sizeof(entry), at) != sizeof(entry) || !(entry >> 63))
		return 0;
	entry &= (1ULL << 55) - 1;
	for (unsigned int i = 0; i < contig->movable.count; i++)
		if (entry / in_block == contig->movable.blocks[i])
			return entry;
	return 0;
}

static uint64_t choose_frame(struct stress_path *path, size_t first)
{
	const struct contig *contig = path->state;
	const struct movable *movable = &contig->movable;
	const uint64_t in_block = movable->block_size / PAGE;
	uint64_t frame = 0;

	if (rng_one_in(&path->rng, OWN_ONE_IN))
		frame = own_frame(contig, first + rng_below(&path->rng, WINDOW));
	if (!frame)
		frame = movable->blocks[rng_below(&path->rng, movable->count)] * in_block +
			rng_below(&path->rng, in_block);
	return frame - frame % RANGE;
}

static enum stress_result turn(struct stress_path *path)
{
	struct contig *contig = path->state;
	struct region *region = &contig->region;
	size_t first = region_choose(path, region, WINDOW);
	enum stress_result result;
	char order[64];
	int error;

	pace(stress_number(ARG_RATE));
	region_renew(path, region, first, WINDOW);
	snprintf(order, sizeof(order), "%" PRIu64 " %d", choose_frame(path, first), RANGE);
	path->waits_for = "a range of page frames";
	vmstat_begin(&contig->vmstat);
	error = knob_write(TAKE, order);
	vmstat_end(&contig->vmstat);
	/* A range that is in use stays, and that is no failure. */
	if (error && error != EBUSY && error != ENOMEM) {
		errno = error;
		return stress_error(path, "write '%s' to " TAKE, order);
	}
	contig->failed += error != 0;
	result = region_verify(path, region, "moved", first, WINDOW);
	if (result == STRESS_OK && !error)
		stress_credit(path, 1, WINDOW * PAGE);
	return result;
}

STRESS_MAIN("contig-alloc", NULL, STRESS_PATH("contig-alloc", 0))
