// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Maps and unmaps files and memfds, those that the workers have open among them.
 *
 * mmap(2) and a fault in mm/filemap.c filemap_map_pages() or mm/shmem.c shmem_fault() raise count
 * and mappings of a page; munmap(2) drops them again in batches (mm/memory.c zap_pte_range(),
 * mm/mmu_gather.c). What that does to references: whoever freezes a page (reclaim, migration,
 * s390's making a page secure) first computes how many references there may be from how often it is
 * mapped; a mapping that goes away in that moment drops its reference through another page table,
 * under another lock.
 *  - workers: files of the workers (/proc/PID/fd), also unlinked ones; their content is not known.
 *  - memfd, file: files of the program's own, mapped a second time, shared or private; the second
 *    mapping must show what was stored through the first, and a store to a private one must not
 *    show in the file.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "region.h"
#include "workers.h"
#include "mmap-munmap.args.h"

enum variant { WORKER_FILES, MEMFD, OWN_FILE };

enum { WINDOW = 32 };

struct mapping {
	struct region region;
	struct vmstat vmstat;
	bool met; /* a file of a worker's */
};

static enum stress_result set_up(struct stress_path *path)
{
	struct mapping *mapping = stress_alloc(sizeof(*mapping));

	path->state = mapping;
	mapping->vmstat.names = "pgfault pgmajfault";
	mapping->region.fd = -1;
	if (path->variant == WORKER_FILES)
		return workers_need(path, "cgroup.procs");
	return region_open(path, &mapping->region, path->variant == MEMFD ? SHMEM : FILE_BACKED,
			   stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct mapping *mapping = path->state;

	vmstat_note(path, &mapping->vmstat);
	if (path->variant == WORKER_FILES)
		workers_missed(path, mapping->met, "a process with a regular file open");
	region_close(&mapping->region);
	free(mapping);
}

static enum stress_result map_worker_file(struct stress_path *path)
{
	struct mapping *mapping = path->state;
	pid_t pid = workers_choose(path);
	struct worker_range range;
	enum stress_result result;

	if (!pid)
		return STRESS_OK;
	result = workers_map(path, &range, pid, WINDOW * PAGE);
	if (result != STRESS_OK || !range.memory)
		return result;
	mapping->met = true;
	result = workers_unmap(path, &range);
	if (result == STRESS_OK)
		stress_credit(path, 1, range.length);
	return result;
}

static enum stress_result map_own(struct stress_path *path)
{
	struct mapping *mapping = path->state;
	struct region *region = &mapping->region;
	size_t first = region_choose(path, region, WINDOW);
	bool private = rng_one_in(&path->rng, 2);
	enum stress_result result;
	unsigned char *memory;

	region_renew(path, region, first, WINDOW);
	memory = mmap(NULL, WINDOW * PAGE, PROT_READ | PROT_WRITE,
		      private ? MAP_PRIVATE : MAP_SHARED, region->fd, first * PAGE);
	if (memory == MAP_FAILED)
		return stress_error(path, "map %d pages", WINDOW);
	if (planted(path, 4)) /* the second mapping shows other data */
		memory[0] ^= 0x10;
	result = region_compare(path, region, "second-mapping", memory, first, WINDOW);
	if (private)
		memset(memory, 0xee, WINDOW / 2 * PAGE);
	if (munmap(memory, WINDOW * PAGE))
		return stress_error(path, "unmap %d pages", WINDOW);
	if (result == STRESS_OK)
		result = region_verify(path, region, "unmapped", first, WINDOW);
	if (result == STRESS_OK)
		stress_credit(path, 1, 2 * WINDOW * PAGE);
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct mapping *mapping = path->state;
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	vmstat_begin(&mapping->vmstat);
	result = path->variant == WORKER_FILES ? map_worker_file(path) : map_own(path);
	vmstat_end(&mapping->vmstat);
	return result;
}

STRESS_MAIN("mmap-munmap", NULL,
	    STRESS_PATH("workers", WORKER_FILES),
	    STRESS_PATH("memfd", MEMFD),
	    STRESS_PATH("file", OWN_FILE))
