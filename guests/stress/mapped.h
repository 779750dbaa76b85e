/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A file and a shared mapping of all of it: new data goes in through the one or the other, and what
 * stands there is checked through both. Between and beside, its pages are written back, unmapped
 * and reclaimed, which must not change a byte.
 */
#ifndef FARM_STRESS_MAPPED_H
#define FARM_STRESS_MAPPED_H

#include <sched.h>
#include <sys/mman.h>

#include "common.h"
#include "file.h"
#include "peer.h"

enum {
	PAGE = 4096,
	FLUSHES = 4, /* beside a turn that has them */
};

struct mapped {
	struct stress_file file;
	unsigned char *map;
	size_t map_size;
	struct helper flusher;
	int flush_error;
	unsigned int ops; /* that moved or checked data in this turn */
};

#define MAPPED_CLOSED { .file = STRESS_FILE_CLOSED }

/* Beside the turn: writes back and drops what it can, and changes nothing. */
static inline void mapped_flush(void *argument)
{
	struct mapped *mapped = argument;
	int error = 0;

	for (int i = 0; i < FLUSHES && !error; i++) {
		if (sync_file_range(mapped->file.fd, 0, 0, SYNC_FILE_RANGE_WRITE))
			error = errno;
		else
			error = posix_fadvise(mapped->file.fd, 0, 0, POSIX_FADV_DONTNEED);
		sched_yield();
	}
	mapped->flush_error = error;
}

/* Maps the file, which is open. */
static inline enum stress_result mapped_begin(struct stress_path *path, struct mapped *mapped)
{
	const uint64_t size = mapped->file.size;

	mapped->map_size = size;
	mapped->map = file_map(mapped->file.fd, 0, size);
	if (!mapped->map)
		return stress_error(path, "map the file");
	return helper_start(path, &mapped->flusher, mapped_flush, mapped);
}

static inline void mapped_close(struct mapped *mapped)
{
	helper_stop(&mapped->flusher);
	if (mapped->map)
		munmap(mapped->map, mapped->map_size);
	mapped->map = NULL;
	file_close(&mapped->file);
}

static inline void mapped_flush_sometimes(struct stress_path *path, struct mapped *mapped)
{
	if (rng_one_in(&path->rng, 4))
		helper_order(&mapped->flusher);
}

static inline enum stress_result mapped_await_flush(struct stress_path *path,
						    struct mapped *mapped)
{
	path->waits_for = "the second thread's writeback";
	helper_wait(&mapped->flusher);
	errno = mapped->flush_error;
	return errno ? stress_error(path, "write back and drop the file's pages") : STRESS_OK;
}

/* Takes the pages that a view shows from one state to another, or lets them be. */
static inline enum stress_result mapped_settle_view(struct stress_path *path,
						    struct mapped *mapped, unsigned char *view,
						    uint64_t offset, size_t length)
{
	unsigned char *page = view - offset % PAGE;
	int failed = 0;

	if (file_secure(path, &mapped->file, offset, length) != STRESS_OK)
		return STRESS_FAIL;
	length += offset % PAGE;
	path->waits_for = "writeback or reclaim";
	switch (rng_below(&path->rng, 12)) {
	case 0:
		failed = msync(page, length, MS_ASYNC);
		break;
	case 1:
		failed = msync(page, length, MS_SYNC);
		break;
	case 2:
		failed = fdatasync(mapped->file.fd);
		break;
	case 3:
		failed = sync_file_range(mapped->file.fd, offset, length, SYNC_FILE_RANGE_WRITE);
		break;
	case 4:
	case 5:
		failed = madvise(page, length, MADV_DONTNEED);
		break;
	case 6:
		failed = madvise(page, length, MADV_PAGEOUT);
		break;
	case 7:
		failed = madvise(page, length, MADV_COLD);
		break;
	case 8:
		return file_evict(path, &mapped->file, offset, length);
	}
	return failed ? stress_error(path, "settle %zu bytes at %llu", length,
				     (unsigned long long)offset)
		      : STRESS_OK;
}

static inline enum stress_result mapped_settle(struct stress_path *path, struct mapped *mapped,
					       uint64_t offset, size_t length)
{
	return mapped_settle_view(path, mapped, mapped->map + offset, offset, length);
}

/* Stores the range from the model to a view of it. */
static inline void mapped_store(struct stress_path *path, struct mapped *mapped,
				unsigned char *view, uint64_t offset, size_t length)
{
	mapped->ops++;
	if (planted(path, 3)) /* a lost store */
		return;
	path->waits_for = "a store to the mapping";
	if (planted(path, 4)) /* the end is missing */
		length--;
	if (planted(path, 2) && length > 1) /* one byte off */
		memcpy(view + 1, mapped->file.model + offset, length - 1);
	else
		memcpy(view, mapped->file.model + offset, length);
	if (planted(path, 5) && offset % PAGE) /* one byte too many, in the page of the first */
		view[-1] ^= 0x10;
}

/* A new generation of the range, through the mapping or the descriptor. */
static inline enum stress_result mapped_renew(struct stress_path *path, struct mapped *mapped,
					      uint64_t offset, size_t length)
{
	file_renew_model(path, &mapped->file, offset, length);
	if (rng_one_in(&path->rng, 2)) {
		mapped_store(path, mapped, mapped->map + offset, offset, length);
		return STRESS_OK;
	}
	mapped->ops++;
	return file_write(path, &mapped->file, offset, length);
}

/* Compares the range and its neighbours, at times the whole file, and at times the mapping too. */
static inline enum stress_result mapped_verify(struct stress_path *path, struct mapped *mapped,
					       const char *check, uint64_t offset, size_t length)
{
	struct stress_file *file = &mapped->file;
	enum stress_result result = STRESS_OK;

	mapped->ops++;
	if (planted(path, 1)) { /* a flipped bit */
		unsigned char flipped = file->model[offset + length / 2] ^ 0x10;

		write_all(file->fd, &flipped, 1, offset + length / 2);
	}
	path->waits_for = "a load from the mapping";
	if (rng_one_in(&path->rng, 2))
		result = file_compare(path, file, "mapping", mapped->map + offset, offset,
				      offset + length, offset, length);
	/* Damage may be far from where something was done. */
	if (result == STRESS_OK && rng_one_in(&path->rng, 16))
		result = file_verify(path, file, "whole", 0, file->size);
	return result == STRESS_OK ? file_verify(path, file, check, offset, length) : result;
}

#endif
