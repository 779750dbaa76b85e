// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Takes blocks of memory offline and back online.
 *
 * A write to /sys/devices/system/memory/memoryN/state runs mm/memory_hotplug.c offline_pages(): the
 * block's free pages are isolated, and do_migrate_range() moves every used one elsewhere, however
 * long it takes. What that does to references: as in compact.c, folio_migrate_mapping() freezes the
 * count of each page, but here of all pages in a range, free list or not, and again and again until
 * the last reference to them is gone; then the pages themselves go (6.1:
 * __offline_isolated_pages()).
 *
 * Only memory in zone Movable is sure to hold nothing that must stay (movable.h). Elsewhere the attempt ends at the first page of
 * the kernel's own, with a dump of that page in the log, and moves nothing. Even a block of that
 * zone may hold such a page, from before the zones were made; it is tried once.
 *
 * A block may take seconds, so a helper thread takes it offline while turns come and go.
 *
 * Pages that are taken offline one by one for being faulty (MADV_SOFT_OFFLINE, MADV_HWPOISON) have
 * no program here: s390 does not select ARCH_SUPPORTS_MEMORY_FAILURE (arch/s390/Kconfig).
 */
#define _GNU_SOURCE
#include <signal.h>

#include "interference.h"
#include "movable.h"
#include "peer.h"
#include "region.h"
#include "memory-offline.args.h"

enum {
	WINDOW = 64,
	SLICE_MS = 500,	    /* that a turn waits for the helper */
	PATIENCE_MS = 8000, /* with one block */
};

struct offlining {
	struct region region;
	size_t first; /* of the window that was written last */
	struct movable movable;
	struct vmstat vmstat;

	struct helper helper;
	bool under_way; /* the helper has a block */
	sem_t finished;
	uint64_t deadline;
	unsigned int chosen; /* among the blocks */
	char state[64];	     /* the file of that block */
	int error;	     /* why it stayed */
	bool offline;	     /* it went */

	unsigned int failed;
	int last_error;
};

static void take_away(void *argument)
{
	struct offlining *offlining = argument;

	offlining->error = knob_write(offlining->state, "offline");
	sem_post(&offlining->finished);
}

/* Does nothing: that a signal has come is what the kernel looks at. */
static void interrupt(int signal)
{
	(void)signal;
}

static enum stress_result set_up(struct stress_path *path)
{
	const struct sigaction action = { .sa_handler = interrupt };
	struct offlining *offlining = stress_alloc(sizeof(*offlining));
	enum stress_result result;

	path->state = offlining;
	offlining->region.fd = -1;
	offlining->vmstat.names = "pgmigrate_success pgmigrate_fail";
	sem_init(&offlining->finished, 0, 0);
	result = movable_find(path, &offlining->movable);
	if (result == STRESS_OK)
		result = region_open(path, &offlining->region, ANONYMOUS,
				     stress_number(ARG_MEMORY));
	if (result != STRESS_OK)
		return result;
	if (sigaction(SIGALRM, &action, NULL))
		return stress_error(path, "catch SIGALRM");
	return helper_start(path, &offlining->helper, take_away, offlining);
}

/* Orders the helper to take a random block away. */
static void begin(struct stress_path *path)
{
	struct offlining *offlining = path->state;

	offlining->chosen = rng_below(&path->rng, offlining->movable.count);
	snprintf(offlining->state, sizeof(offlining->state), MEMORY "/memory%u/state",
		 offlining->movable.blocks[offlining->chosen]);
	offlining->deadline = stress_now_ns() + PATIENCE_MS * 1000000ULL;
	offlining->under_way = true;
	vmstat_begin(&offlining->vmstat);
	helper_order(&offlining->helper);
}

/* Waits for the helper; false if it is not done yet. */
static bool wait_a_slice(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	uint64_t until = stress_now_ns() + SLICE_MS * 1000000ULL;
	const struct timespec at = { .tv_sec = until / 1000000000ULL,
				     .tv_nsec = until % 1000000000ULL };

	path->waits_for = "a memory block to go offline";
	if (!sem_clockwait(&offlining->finished, CLOCK_MONOTONIC, &at))
		return true;
	/* A page with a reference that does not go away is waited for until a signal comes. */
	if (stress_told_to_end() || stress_now_ns() >= offlining->deadline)
		pthread_kill(offlining->helper.thread, SIGALRM);
	return false;
}

/*
 * A block that stays is no failure: EBUSY says that a page of it never moves, the others that one
 * was in use too long.
 */
static enum stress_result end(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	int error;

	helper_wait(&offlining->helper);
	vmstat_end(&offlining->vmstat);
	offlining->under_way = false;
	error = offlining->error;
	offlining->offline = !error;
	if (!error)
		return STRESS_OK;
	if (error != EBUSY && error != EAGAIN && error != EINTR && error != ENOMEM) {
		errno = error;
		return stress_error(path, "write offline to %s", offlining->state);
	}
	if (error == EBUSY)
		offlining->movable.blocks[offlining->chosen] = offlining->movable.blocks[--offlining->movable.count];
	offlining->failed++;
	offlining->last_error = error;
	return STRESS_OK;
}

static enum stress_result bring_back(struct stress_path *path)
{
	struct offlining *offlining = path->state;

	offlining->offline = false;
	return knob_order(path, offlining->state, "online_movable");
}

static void tear_down(struct stress_path *path)
{
	struct offlining *offlining = path->state;

	offlining->deadline = 0;
	while (offlining->under_way)
		if (wait_a_slice(path) && end(path) != STRESS_OK)
			path->result = STRESS_FAIL;
	if (offlining->offline && bring_back(path) != STRESS_OK)
		path->result = STRESS_FAIL;
	helper_stop(&offlining->helper);
	vmstat_note(path, &offlining->vmstat);
	if (offlining->failed && !path->ops && path->result == STRESS_OK)
		path->result = stress_skip(path, "no block can be taken offline: %s",
					   strerror(offlining->last_error));
	else if (offlining->failed)
		stress_note(path, "%u times a block stayed, the last time: %s", offlining->failed,
			    strerror(offlining->last_error));
	region_close(&offlining->region);
	free(offlining);
}

static enum stress_result turn(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	struct region *region = &offlining->region;
	enum stress_result result;
	bool went;

	if (!offlining->under_way) {
		pace(stress_number(ARG_RATE));
		if (!offlining->movable.count)
			return STRESS_OK;
		offlining->first = region_choose(path, region, WINDOW);
		region_renew(path, region, offlining->first, WINDOW);
		begin(path);
	}
	if (!wait_a_slice(path))
		return STRESS_OK;
	result = end(path);
	if (result != STRESS_OK)
		return result;
	went = offlining->offline;
	result = region_verify(path, region, "moved", offlining->first, WINDOW);
	if (result == STRESS_OK && went)
		result = bring_back(path);
	if (result == STRESS_OK && went)
		stress_credit(path, 1, offlining->movable.block_size);
	return result;
}

STRESS_MAIN("memory-offline", NULL, STRESS_PATH("memory-offline", 0))
