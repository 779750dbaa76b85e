// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has all memory compacted, again and again.
 *
 * A write to /proc/sys/vm/compact_memory runs mm/compaction.c compact_zone() over every zone:
 * isolate_migratepages_block() takes movable pages off the LRU lists, and mm/migrate.c moves each
 * one to a free page at the zone's other end. What that does to references:
 * folio_migrate_mapping() freezes a page's count (folio_ref_freeze()) while it exchanges the page
 * in its mapping, and gives up where somebody holds one more reference than expected; a reader that
 * takes a reference at that moment must see either page, or try again, and never a count of zero.
 *
 * Compacted memory has nothing to compact. So each turn first empties every other page of a window
 * of the program's own memory, which leaves holes among pages that can be moved, and checks the
 * window's content afterwards.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "region.h"
#include "compact.args.h"

#define COMPACT_MEMORY "/proc/sys/vm/compact_memory"

enum { WINDOW = 64 }; /* pages */

struct compaction {
	struct region region;
	struct vmstat vmstat;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct compaction *compaction = stress_alloc(sizeof(*compaction));
	struct region *region = &compaction->region;

	path->state = compaction;
	compaction->vmstat.names = "compact_isolated pgmigrate_success pgmigrate_fail";
	region->fd = -1;
	if (access(COMPACT_MEMORY, W_OK))
		return stress_skip(path, "no " COMPACT_MEMORY " here: %m");
	return region_open(path, region, ANONYMOUS, stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct compaction *compaction = path->state;

	vmstat_note(path, &compaction->vmstat);
	region_close(&compaction->region);
	free(compaction);
}

static enum stress_result turn(struct stress_path *path)
{
	struct compaction *compaction = path->state;
	struct region *region = &compaction->region;
	size_t first = region_choose(path, region, WINDOW);
	enum stress_result result = STRESS_OK;

	pace(stress_number(ARG_RATE));
	region_renew(path, region, first, WINDOW);
	for (size_t page = 0; page < WINDOW && result == STRESS_OK; page += 2)
		result = region_drop(path, region, first + page, 1);
	if (result != STRESS_OK)
		return result;

	vmstat_begin(&compaction->vmstat);
	result = knob_order(path, COMPACT_MEMORY, "1");
	vmstat_end(&compaction->vmstat);
	if (result == STRESS_OK)
		result = region_verify(path, region, "compacted", first, WINDOW);
	if (result == STRESS_OK)
		stress_credit(path, 1, WINDOW * PAGE);
	return result;
}

STRESS_MAIN("compact", NULL, STRESS_PATH("compact", 0))
