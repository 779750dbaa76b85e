// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Takes blocks of memory offline and back online.
 *
 * A write to /sys/devices/system/memory/memoryN/state runs mm/memory_hotplug.c offline_pages():
 * the block's free pages are isolated, and do_migrate_range() moves every used one elsewhere, however
 * long it takes. What that does to references: as in compact.c, folio_migrate_mapping() freezes the
 * count of each page, but here of all pages in a range, free list or not, and again and again until
 * the last reference to them is gone; then the pages themselves go (6.1: __offline_isolated_pages()).
 *
 * Only memory in zone Movable is sure to hold nothing that must stay; the kernel arguments
 * movablecore= and kernelcore= make such a zone. Elsewhere the attempt ends at the first page of the
 * kernel's own, with a dump of that page in the log, and moves nothing. Even a block of that zone may
 * hold such a page, from before the zones were made; it is tried once.
 *
 * Pages that are taken offline one by one for being faulty (MADV_SOFT_OFFLINE, MADV_HWPOISON) have
 * no program here: s390 does not select ARCH_SUPPORTS_MEMORY_FAILURE (arch/s390/Kconfig).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/time.h>

#include "interference.h"
#include "region.h"
#include "memory-offline.args.h"

#define MEMORY "/sys/devices/system/memory"

enum {
	MAX_BLOCKS = 256,
	WINDOW = 64,
	PATIENCE_MS = 3000, /* for one block; the watchdog has more */
};

struct offlining {
	struct region region;
	unsigned int blocks[MAX_BLOCKS]; /* those in zone Movable */
	unsigned int count;
	uint64_t block_size;
	char state[64]; /* the file of the block that is offline, else empty */
	struct vmstat vmstat;
	unsigned int failed;
	int last_error;
};

/* A page with a reference that does not go away is waited for until a signal comes. */
static void give_up(int signal)
{
	(void)signal;
}

static void set_alarm(unsigned int milliseconds)
{
	const struct itimerval timer = { .it_value = { .tv_sec = milliseconds / 1000,
						       .tv_usec = milliseconds % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static enum stress_result find_blocks(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	char name[64], text[64];

	errno = knob_read(MEMORY "/block_size_bytes", text, sizeof(text));
	if (errno)
		return stress_skip(path, "no " MEMORY "/block_size_bytes here: %m");
	offlining->block_size = strtoull(text, NULL, 16);
	for (unsigned int block = 0; block < MAX_BLOCKS; block++) {
		snprintf(name, sizeof(name), MEMORY "/memory%u/valid_zones", block);
		if (!knob_read(name, text, sizeof(text)) && !strcmp(text, "Movable"))
			offlining->blocks[offlining->count++] = block;
	}
	if (!offlining->count)
		return stress_skip(path, "no memory block is in zone Movable (kernel argument "
					 "movablecore=)");
	return STRESS_OK;
}

static enum stress_result set_up(struct stress_path *path)
{
	const struct sigaction interrupt = { .sa_handler = give_up };
	struct offlining *offlining = stress_alloc(sizeof(*offlining));
	enum stress_result result;

	path->state = offlining;
	offlining->region.fd = -1;
	offlining->vmstat.names = "pgmigrate_success pgmigrate_fail";
	result = find_blocks(path);
	if (result == STRESS_OK)
		result = region_open(path, &offlining->region, ANONYMOUS,
				     stress_number(ARG_MEMORY));
	if (result != STRESS_OK)
		return result;
	if (sigaction(SIGALRM, &interrupt, NULL))
		return stress_error(path, "catch SIGALRM");
	return STRESS_OK;
}

static enum stress_result bring_back(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	enum stress_result result = knob_order(path, offlining->state, "online_movable");

	*offlining->state = '\0';
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct offlining *offlining = path->state;

	if (*offlining->state && bring_back(path) != STRESS_OK)
		path->result = STRESS_FAIL;
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

/*
 * A block that stays is no failure: EBUSY says that a page of it never moves, the others that one was
 * in use too long.
 */
static enum stress_result take_away(struct stress_path *path, unsigned int index)
{
	struct offlining *offlining = path->state;
	char state[64];
	int error;

	snprintf(state, sizeof(state), MEMORY "/memory%u/state", offlining->blocks[index]);
	path->waits_for = state;
	set_alarm(PATIENCE_MS);
	error = knob_write(state, "offline");
	set_alarm(0);
	path->waits_for = "its turn";
	if (!error) {
		memcpy(offlining->state, state, sizeof(state));
		return STRESS_OK;
	}
	if (error != EBUSY && error != EAGAIN && error != EINTR && error != ENOMEM) {
		errno = error;
		return stress_error(path, "write offline to %s", state);
	}
	if (error == EBUSY)
		offlining->blocks[index] = offlining->blocks[--offlining->count];
	offlining->failed++;
	offlining->last_error = error;
	return STRESS_OK;
}

static enum stress_result turn(struct stress_path *path)
{
	struct offlining *offlining = path->state;
	struct region *region = &offlining->region;
	size_t first = region_choose(path, region, WINDOW);
	enum stress_result result;
	bool away;

	pace(stress_number(ARG_RATE));
	if (!offlining->count)
		return STRESS_OK;
	region_renew(path, region, first, WINDOW);
	vmstat_begin(&offlining->vmstat);
	result = take_away(path, rng_below(&path->rng, offlining->count));
	vmstat_end(&offlining->vmstat);
	if (result != STRESS_OK)
		return result;
	away = *offlining->state;
	result = region_verify(path, region, "moved", first, WINDOW);
	if (result == STRESS_OK && away)
		result = bring_back(path);
	if (result == STRESS_OK && away)
		stress_credit(path, 1, offlining->block_size);
	return result;
}

STRESS_MAIN("memory-offline", NULL, STRESS_PATH("memory-offline", 0))
