// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Reclaims memory of the workers' control group.
 *
 * A write to memory.reclaim runs mm/memcontrol.c memory_reclaim() -> mm/vmscan.c
 * try_to_free_mem_cgroup_pages() on pages charged to the group: their page cache, anonymous memory,
 * tmpfs. What that does to references: shrink_folio_list() unmaps a page and has __remove_mapping()
 * freeze its count at what the cache holds, while a worker may be taking a reference through a page
 * table, the page cache or a pipe.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "workers.h"
#include "memory-reclaim.args.h"

#define RECLAIM WORKERS "/memory.reclaim"

struct reclaim {
	struct vmstat vmstat;
	bool met;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct reclaim *reclaim = stress_alloc(sizeof(*reclaim));

	path->state = reclaim;
	reclaim->vmstat.names = "pgscan_anon pgscan_file pgsteal_anon pgsteal_file";
	return workers_need(path, "memory.reclaim");
}

static void tear_down(struct stress_path *path)
{
	struct reclaim *reclaim = path->state;

	vmstat_note(path, &reclaim->vmstat);
	workers_missed(path, reclaim->met, "a process");
	free(reclaim);
}

static enum stress_result turn(struct stress_path *path)
{
	struct reclaim *reclaim = path->state;
	uint64_t size = stress_number(ARG_SIZE);
	char text[32];
	int error;

	pace(stress_number(ARG_RATE));
	if (!workers_choose(path))
		return STRESS_OK;
	reclaim->met = true;
	snprintf(text, sizeof(text), "%" PRIu64, size);
	path->waits_for = RECLAIM;
	vmstat_begin(&reclaim->vmstat);
	error = knob_write(RECLAIM, text);
	vmstat_end(&reclaim->vmstat);
	/* EAGAIN: it has tried, and freed less than that. */
	if (error && error != EAGAIN) {
		errno = error;
		return stress_error(path, "write %s to " RECLAIM, text);
	}
	stress_credit(path, 1, error ? 0 : size);
	return STRESS_OK;
}

STRESS_MAIN("memory-reclaim", NULL, STRESS_PATH("memory-reclaim", 0))
