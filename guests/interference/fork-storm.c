// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Forks children that touch memory they share with their parent, and end at once.
 *
 * fork(2) -> mm/memory.c copy_page_range() raises the count and the mappings of every page that it
 * copies a page-table entry of; a store by either side then goes through do_wp_page(), which looks
 * at the count to decide whether the page may be kept or has to be copied; exit_mmap() drops them
 * all in batches (mm/swap.c release_pages()). What that does to references: they rise and fall by
 * the hundred, on all CPUs, and free pages change hands, so that a reference that somebody has lost
 * elsewhere soon shows in a page that is used again.
 *  - anonymous: each child checks a window as it was when the child was made, while the parent
 *    writes new content to it, then damages its own copy, of which the parent must see nothing.
 *  - shared: each child writes a part of the window of shared memory, all of which the parent
 *    checks.
 */
#define _GNU_SOURCE
#include <sys/wait.h>

#include "interference.h"
#include "region.h"
#include "fork-storm.args.h"

enum variant { PRIVATE, SHARED };

enum { WINDOW = 32, MAX_CHILDREN = 64 };

enum { CHILD_OK, CHILD_SAW_WRONG_DATA };

struct storm {
	struct region region;
	struct vmstat vmstat;
	pid_t children[MAX_CHILDREN]; /* 0: not there */
};

static enum stress_result set_up(struct stress_path *path)
{
	struct storm *storm = stress_alloc(sizeof(*storm));

	path->state = storm;
	storm->vmstat.names = "pgfault pgreuse pgfree";
	return region_open(path, &storm->region, path->variant == SHARED ? SHMEM : ANONYMOUS,
			   stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct storm *storm = path->state;

	vmstat_note(path, &storm->vmstat);
	region_close(&storm->region);
	free(storm);
}

/* Whose page of the window it is. */
static size_t owner(size_t page, size_t children)
{
	return page % children;
}

/* A child must print nothing: the lock of stdout may have been taken when it was made. */
static _Noreturn void child_private(struct stress_path *path, size_t first)
{
	struct storm *storm = path->state;
	struct region *region = &storm->region;

	if (planted(path, 4)) /* the child's copy is damaged */
		region->memory[first * PAGE] ^= 0x10;
	for (size_t page = first; page < first + WINDOW; page++)
		if (!stress_right(region->memory + page * PAGE, region_want(path, region, page),
				  NULL, PAGE))
			_exit(CHILD_SAW_WRONG_DATA);
	memset(region->memory + first * PAGE, 0xee, WINDOW * PAGE);
	_exit(CHILD_OK);
}

static _Noreturn void child_shared(struct stress_path *path, size_t first, size_t number,
				   size_t children)
{
	struct storm *storm = path->state;
	struct region *region = &storm->region;

	/* The parent expects the next generation in the whole window. */
	path->generation++;
	for (size_t page = first; page < first + WINDOW; page++) {
		region->generations[page] = path->generation;
		if (owner(page, children) == number && !planted(path, 4))
			memcpy(region->memory + page * PAGE, region_want(path, region, page),
			       PAGE);
	}
	_exit(CHILD_OK);
}

static enum stress_result start(struct stress_path *path, size_t first, size_t children)
{
	struct storm *storm = path->state;

	path->waits_for = "fork";
	for (size_t i = 0; i < children; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return stress_error(path, "fork child %zu", i + 1);
		if (pid == 0 && path->variant == PRIVATE)
			child_private(path, first);
		if (pid == 0)
			child_shared(path, first, i, children);
		storm->children[i] = pid;
	}
	return STRESS_OK;
}

static enum stress_result reap(struct stress_path *path)
{
	struct storm *storm = path->state;
	enum stress_result result = STRESS_OK;

	path->waits_for = "the end of a child";
	for (size_t i = 0; i < MAX_CHILDREN; i++) {
		pid_t pid = storm->children[i];
		int status;

		if (!pid)
			continue;
		storm->children[i] = 0;
		if (waitpid(pid, &status, 0) < 0)
			result = stress_error(path, "wait for child %zu", i + 1);
		else if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SAW_WRONG_DATA)
			result = stress_wrong_number(path, "child", i, CHILD_OK,
						     CHILD_SAW_WRONG_DATA);
		else if (status) {
			stress_note(path, "child %zu ended with wait status %d", i + 1, status);
			result = STRESS_FAIL;
		}
	}
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct storm *storm = path->state;
	struct region *region = &storm->region;
	size_t first = region_choose(path, region, WINDOW), children = stress_number(ARG_CHILDREN);
	enum stress_result result, reaped;

	pace(stress_number(ARG_RATE));
	vmstat_begin(&storm->vmstat);
	result = start(path, first, children);
	if (path->variant == PRIVATE) {
		region_renew(path, region, first, WINDOW); /* beside the children */
	} else {
		path->generation++;
		for (size_t page = first; page < first + WINDOW; page++)
			region->generations[page] = path->generation;
	}
	reaped = reap(path);
	vmstat_end(&storm->vmstat);
	if (result == STRESS_OK)
		result = reaped;
	if (result == STRESS_OK)
		result = region_verify(path, region, "after-children", first, WINDOW);
	if (result == STRESS_OK)
		stress_credit(path, children, WINDOW * PAGE);
	return result;
}

STRESS_MAIN("fork-storm", NULL, STRESS_PATH("anonymous", PRIVATE), STRESS_PATH("shared", SHARED))
