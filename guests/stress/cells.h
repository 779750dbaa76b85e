/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that write to one range of a mapped file together while it is read.
 *
 * The range holds one generation and is divided into stretches. One thread stores the next
 * generation to the even ones through the mapping; another writes the odd ones through the
 * descriptor, or punches them out. Stretches share pages. Meanwhile the main thread reads, and
 * writes back and drops pages:
 *  - each byte of a read is the old or the new one of its place;
 *  - a cell that a read has found new is new in all later reads, since there is one page for all;
 *  - after the writers have ended everything is new.
 */
#ifndef FARM_STRESS_CELLS_H
#define FARM_STRESS_CELLS_H

#include <sched.h>
#include <stdatomic.h>

#include "common.h"
#include "file.h"
#include "mapped.h"
#include "peer.h"

enum {
	STRETCHES = 32,	   /* most of them: each one punched out costs a transaction */
	MORE_CELLS = 1500, /* in a stretch, beyond what that asks for: some three pages */
};

/* A thread and which stretches are its own. */
struct writer {
	struct helper helper;
	struct cells *cells;
	bool odd;
	int error;
};

struct cells {
	struct mapped *mapped;
	bool punch; /* the odd stretches are punched out, not written */
	struct writer writers[2];
	atomic_uint at_work;
	uint64_t offset;
	size_t length, stretch;
	unsigned char *old, *seen;
	bool *new_seen;		   /* for each cell */
	unsigned int reads, mixed; /* mixed: reads that saw old and new cells */
};

/* The last stretch may be short. */
static inline size_t stretch_at(const struct cells *cells, size_t start)
{
	size_t left = cells->length - start;

	return left < cells->stretch ? left : cells->stretch;
}

/* 0 or an errno. */
static inline int write_stretch(const struct cells *cells, bool odd, uint64_t offset,
				size_t length)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const unsigned char *new = cells->mapped->file.model + offset;
	int fd = cells->mapped->file.fd;

	if (odd && cells->punch)
		return fallocate(fd, punch, offset, length) ? errno : 0;
	if (odd)
		return write_all(fd, new, length, offset) ? 0 : errno;
	memcpy(cells->mapped->map + offset, new, length);
	return 0;
}

static inline void write_stretches(void *argument)
{
	struct writer *writer = argument;
	struct cells *cells = writer->cells;
	size_t step = 2 * cells->stretch;

	for (size_t start = writer->odd * cells->stretch; start < cells->length; start += step) {
		writer->error = write_stretch(cells, writer->odd, cells->offset + start,
					      stretch_at(cells, start));
		if (writer->error)
			break;
		/* The reader and the other writer may share this CPU. */
		sched_yield();
	}
	atomic_fetch_sub(&cells->at_work, 1);
}

static inline enum stress_result cells_open(struct stress_path *path, struct cells *cells,
					    struct mapped *mapped, bool punch, size_t max)
{
	enum stress_result result = STRESS_OK;

	cells->mapped = mapped;
	cells->punch = punch;
	cells->old = stress_alloc(max + CELL);
	cells->seen = stress_alloc(max + CELL);
	cells->new_seen = stress_alloc((max / CELL + 2) * sizeof(*cells->new_seen));
	for (int i = 0; i < 2 && result == STRESS_OK; i++) {
		struct writer *writer = &cells->writers[i];

		writer->cells = cells;
		writer->odd = i;
		result = helper_start(path, &writer->helper, write_stretches, writer);
	}
	return result;
}

static inline void cells_close(struct stress_path *path, struct cells *cells)
{
	for (int i = 0; i < 2; i++)
		helper_stop(&cells->writers[i].helper);
	if (cells->reads)
		stress_note(path, "of %u racing reads %u saw old and new cells", cells->reads,
			    cells->mixed);
	free(cells->old);
	free(cells->seen);
	free(cells->new_seen);
}

/* Checks one read. */
static inline enum stress_result cells_check(struct stress_path *path, struct cells *cells)
{
	const unsigned char *new = cells->mapped->file.model + cells->offset;
	size_t count = cells->length / CELL, count_new = 0;

	if (planted(path, 9)) /* foreign data in the race */
		cells->seen[cells->length / 2] ^= 0x10;
	if (planted(path, 10)) /* new data, then old data again */
		memcpy(cells->seen, cells->new_seen[0] ? cells->old : new, cells->length);
	if (stress_compare(path, "race", cells->seen, new, cells->old, cells->length,
			   cells->offset))
		return STRESS_FAIL;
	for (size_t i = 0; i < count; i++) {
		const size_t at = i * CELL;
		bool is_new = !memcmp(cells->seen + at, new + at, CELL);

		if (cells->new_seen[i] && !is_new)
			return stress_compare(path, "backwards", cells->seen + at, new + at, NULL,
					      CELL, cells->offset + at);
		cells->new_seen[i] = is_new;
		count_new += is_new;
	}
	cells->reads++;
	cells->mixed += count_new > 0 && count_new < count;
	return STRESS_OK;
}

/* Reads and settles until the writers have ended; stops at the first thing wrong. */
static inline enum stress_result cells_read(struct stress_path *path, struct cells *cells)
{
	struct mapped *mapped = cells->mapped;
	enum stress_result result;

	do {
		ssize_t n = cells->length;

		path->waits_for = "a read beside the writers";
		if (rng_one_in(&path->rng, 2))
			memcpy(cells->seen, mapped->map + cells->offset, n);
		else
			n = read_all(mapped->file.fd, cells->seen, cells->length, cells->offset);
		if (n < 0)
			return stress_error(path, "read %zu bytes beside the writers",
					    cells->length);
		if ((size_t)n != cells->length)
			return stress_wrong_number(path, "length", cells->offset, cells->length, n);
		result = cells_check(path, cells);
		if (result == STRESS_OK)
			result = mapped_settle(path, mapped, cells->offset, cells->length);
		sched_yield();
		/* Bug 10 takes a second read: writers may be done in the time of one. */
	} while (result == STRESS_OK && (atomic_load(&cells->at_work) || planted(path, 10)));
	return result;
}

/* The new state in the model, and the old one beside it. */
static inline void cells_renew_model(struct stress_path *path, struct cells *cells)
{
	struct stress_file *file = &cells->mapped->file;

	memcpy(cells->old, file->model + cells->offset, cells->length);
	file_renew_model(path, file, cells->offset, cells->length);
	if (cells->punch)
		for (size_t at = cells->stretch; at < cells->length; at += 2 * cells->stretch)
			memset(file->model + cells->offset + at, 0, stretch_at(cells, at));
	memset(cells->new_seen, 0, cells->length / CELL * sizeof(*cells->new_seen));
}

/* One race in the cells of the range. */
static inline enum stress_result cells_turn(struct stress_path *path, struct cells *cells,
					    uint64_t offset, size_t length)
{
	enum stress_result result, written = STRESS_OK;
	/* Few more often than many. */
	size_t more = rng_below(&path->rng, 1 + rng_below(&path->rng, MORE_CELLS));

	cells->offset = offset = round_down(offset, CELL);
	cells->length = length = round_down(length + CELL - 1, CELL);
	cells->stretch = CELL * (1 + length / CELL / STRETCHES + more);
	result = mapped_renew(path, cells->mapped, offset, length);
	if (result == STRESS_OK)
		result = mapped_settle(path, cells->mapped, offset, length);
	if (result != STRESS_OK)
		return result;

	cells_renew_model(path, cells);
	atomic_store(&cells->at_work, 2);
	for (int i = 0; i < 2; i++)
		helper_order(&cells->writers[i].helper);
	result = cells_read(path, cells);
	path->waits_for = "the writers";
	for (int i = 0; i < 2; i++) {
		helper_wait(&cells->writers[i].helper);
		errno = cells->writers[i].error;
		if (errno)
			written = stress_error(path, i && cells->punch ? "punch a stretch out"
								       : "write a stretch");
	}
	cells->mapped->ops += 2;
	if (written != STRESS_OK || result != STRESS_OK)
		return written != STRESS_OK ? written : result;
	return mapped_verify(path, cells->mapped, "after-race", offset, length);
}

#endif
