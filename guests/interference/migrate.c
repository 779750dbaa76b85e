// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Moves pages between NUMA nodes.
 *
 * move_pages(2) and migrate_pages(2): mm/migrate.c do_pages_move() and mm/mempolicy.c
 * do_migrate_pages() isolate pages and run migrate_pages() on them. What that does to references:
 * as in compact.c, folio_migrate_mapping() freezes the count of each page; but here of pages that
 * are chosen by address, so that the very pages go which a worker is using.
 *  - own: pages of the program's own, whose content is checked.
 *  - workers: all memory of a worker.
 *
 * It takes CONFIG_NUMA and two nodes with memory (on s390 the kernel argument numa=emu makes some).
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "interference.h"
#include "region.h"
#include "workers.h"
#include "migrate.args.h"

#define NODES "/sys/devices/system/node/has_memory"

enum variant { OWN, WORKER };

enum {
	MAX_NODES = 64,
	WINDOW = 64,
	MOVE = 1 << 1, /* MPOL_MF_MOVE of linux/mempolicy.h */
};

struct migration {
	struct region region;
	int nodes[MAX_NODES];
	unsigned int count;
	struct vmstat vmstat;
	bool met; /* a worker */
};

/* The nodes of a list such as "0-2,5". */
static void read_nodes(struct migration *migration, const char *list)
{
	while (*list && migration->count < MAX_NODES) {
		char *end;
		long from = strtol(list, &end, 10), to = from;

		if (end == list)
			return;
		if (*end == '-')
			to = strtol(end + 1, &end, 10);
		for (long node = from; node <= to && migration->count < MAX_NODES; node++)
			migration->nodes[migration->count++] = node;
		list = *end == ',' ? end + 1 : end;
	}
}

static enum stress_result set_up(struct stress_path *path)
{
	struct migration *migration = stress_alloc(sizeof(*migration));
	char list[256];

	path->state = migration;
	migration->region.fd = -1;
	migration->vmstat.names = "pgmigrate_success pgmigrate_fail";
	errno = knob_read(NODES, list, sizeof(list));
	if (errno)
		return stress_skip(path, "no " NODES " here: %m (CONFIG_NUMA)");
	read_nodes(migration, list);
	if (migration->count < 2)
		return stress_skip(path, "only one node has memory: " NODES " is '%s'", list);
	if (path->variant == WORKER)
		return workers_need(path, "cgroup.procs");
	return region_open(path, &migration->region, ANONYMOUS, stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct migration *migration = path->state;

	vmstat_note(path, &migration->vmstat);
	if (path->variant == WORKER)
		workers_missed(path, migration->met, "a process");
	region_close(&migration->region);
	free(migration);
}

static enum stress_result move_own(struct stress_path *path, int node)
{
	struct migration *migration = path->state;
	struct region *region = &migration->region;
	size_t first = region_choose(path, region, WINDOW);
	void *pages[WINDOW];
	int nodes[WINDOW], status[WINDOW];
	unsigned int moved = 0;
	enum stress_result result;

	region_renew(path, region, first, WINDOW);
	for (size_t i = 0; i < WINDOW; i++) {
		pages[i] = region->memory + (first + i) * PAGE;
		nodes[i] = node;
	}
	path->waits_for = "move_pages";
	if (syscall(SYS_move_pages, 0, (unsigned long)WINDOW, pages, nodes, status, MOVE) < 0)
		return stress_error(path, "move %d pages to node %d", WINDOW, node);
	/* A page that is busy stays where it is, and status tells so. */
	for (size_t i = 0; i < WINDOW; i++)
		moved += status[i] == node;
	result = region_verify(path, region, "moved", first, WINDOW);
	if (result == STRESS_OK && moved)
		stress_credit(path, 1, (uint64_t)moved * PAGE);
	return result;
}

static enum stress_result move_worker(struct stress_path *path, int from, int to)
{
	struct migration *migration = path->state;
	const unsigned long from_mask = 1UL << from, to_mask = 1UL << to;
	pid_t pid = workers_choose(path);

	if (!pid)
		return STRESS_OK;
	migration->met = true;
	path->waits_for = "migrate_pages";
	/* The kernel takes one off the number of bits. */
	if (syscall(SYS_migrate_pages, pid, MAX_NODES + 1UL, &from_mask, &to_mask) < 0)
		return errno == ESRCH ? STRESS_OK
				      : stress_error(path, "move process %d from node %d to %d",
						     (int)pid, from, to);
	stress_credit(path, 1, 0);
	return STRESS_OK;
}

static enum stress_result turn(struct stress_path *path)
{
	struct migration *migration = path->state;
	unsigned int from = rng_below(&path->rng, migration->count);
	unsigned int to = (from + 1 + rng_below(&path->rng, migration->count - 1)) %
			  migration->count;
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	vmstat_begin(&migration->vmstat);
	if (path->variant == OWN)
		result = move_own(path, migration->nodes[to]);
	else
		result = move_worker(path, migration->nodes[from], migration->nodes[to]);
	vmstat_end(&migration->vmstat);
	return result;
}

STRESS_MAIN("migrate", NULL, STRESS_PATH("own", OWN), STRESS_PATH("workers", WORKER))
