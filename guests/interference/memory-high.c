// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Lowers the workers' memory.high below what they use, and raises it again.
 *
 * A write to memory.high runs mm/memcontrol.c memory_high_write(), which reclaims until the group
 * is below the limit; a worker that charges a page meanwhile reclaims too, in its own context
 * (try_charge() -> mem_cgroup_handle_over_high()), in the midst of the system call that it is in.
 * What that does to references: each page that goes has its count frozen by mm/vmscan.c
 * __remove_mapping(), at the hands of several tasks at once, and of the very tasks that take and
 * drop references.
 *
 * The limit stays low for --hold milliseconds only: a group above it is throttled, up to two
 * seconds for each charge.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "workers.h"
#include "memory-high.args.h"

#define CURRENT WORKERS "/memory.current"

struct squeeze {
	struct knob high;
	struct vmstat vmstat;
	bool met;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct squeeze *squeeze = stress_alloc(sizeof(*squeeze));

	path->state = squeeze;
	squeeze->high.name = WORKERS "/memory.high";
	squeeze->vmstat.names = "pgscan_anon pgscan_file pgsteal_anon pgsteal_file";
	return workers_need(path, "memory.high");
}

static void tear_down(struct stress_path *path)
{
	struct squeeze *squeeze = path->state;

	knob_restore(path, &squeeze->high);
	vmstat_note(path, &squeeze->vmstat);
	workers_missed(path, squeeze->met, "a process");
	free(squeeze);
}

static enum stress_result turn(struct stress_path *path)
{
	struct squeeze *squeeze = path->state;
	uint64_t current, low;
	enum stress_result result;
	char text[32];

	pace(stress_number(ARG_RATE));
	current = knob_number(CURRENT);
	if (!current || !workers_choose(path))
		return STRESS_OK;
	squeeze->met = true;
	low = round_down(current / 100 * stress_number(ARG_PERCENT), 4096);
	snprintf(text, sizeof(text), "%" PRIu64, low);
	vmstat_begin(&squeeze->vmstat);
	result = knob_set(path, &squeeze->high, text);
	if (result != STRESS_OK)
		return result;
	stress_sleep_until(stress_now_ns() + stress_number(ARG_HOLD) * 1000000);
	vmstat_end(&squeeze->vmstat);
	knob_restore(path, &squeeze->high);
	if (path->result != STRESS_OK)
		return path->result;
	stress_credit(path, 1, current - low);
	return STRESS_OK;
}

STRESS_MAIN("memory-high", NULL, STRESS_PATH("memory-high", 0))
