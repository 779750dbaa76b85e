// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Cuts files short and punches holes into them while a second thread reads them.
 *
 * ftruncate(2) and fallocate(2) with FALLOC_FL_PUNCH_HOLE, or madvise(2) with MADV_REMOVE on a
 * mapping: mm/truncate.c truncate_inode_pages_range(), for a tmpfs mm/shmem.c shmem_undo_range(),
 * takes pages out of the page cache after unmap_mapping_range() has unmapped them, and zeroes the
 * parts of pages at the borders (truncate_inode_partial_folio()). What that does to references: the
 * cache's own goes, and what a reader, a pipe or direct I/O took an instant before keeps the page
 * alive; lookups that raised the count of a page which has left the mapping must drop it again
 * (6.1: mapping_get_entry(), 6.12: filemap_get_entry()).
 *
 * A turn writes a range and cuts a part of it. The second thread reads the range all the while, by
 * pread(2) and, through the mapping, by process_vm_readv(2): it must see each byte as it was
 * written or as zero, or a short read where the file is cut.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "interference.h"
#include "file.h"
#include "peer.h"
#include "truncate-punch.args.h"
#include "sizes.h"

enum variant { TRUNCATE, PUNCH, REMOVE };

enum { PAGE = 4096 };

struct cutting {
	struct stress_file file;
	unsigned char *map;
	struct helper reader;
	uint64_t offset; /* of the range that is written and read */
	size_t length;
	uint64_t cut_from, cut_to; /* a part of it */
	unsigned char *written, *zeros, *got;
	atomic_bool over;
	bool wrong;
	int read_error;
	size_t received;
	unsigned int reads, reads_of_zeros, faults;
};

static ssize_t read_range(struct cutting *cutting, bool mapped)
{
	struct iovec local = { .iov_base = cutting->got, .iov_len = cutting->length };
	struct iovec remote = { .iov_base = cutting->map + cutting->offset,
				.iov_len = cutting->length };

	if (!mapped)
		return read_all(cutting->file.fd, cutting->got, cutting->length, cutting->offset);
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

/* Beside the cut. */
static void read_beside(void *argument)
{
	struct cutting *cutting = argument;
	bool mapped = false;

	do {
		ssize_t n = read_range(cutting, mapped);

		if (n < 0 && !(mapped && errno == EFAULT)) {
			cutting->read_error = errno;
			return;
		}
		cutting->faults += n < 0;
		cutting->reads++;
		cutting->received = n < 0 ? 0 : n;
		if (STRESS_PLANT == 4 && cutting->received) /* foreign data */
			cutting->got[0] ^= 0x10;
		cutting->wrong = !stress_right(cutting->got, cutting->written, cutting->zeros,
					       cutting->received);
		cutting->reads_of_zeros += n > 0 && !memcmp(cutting->got, cutting->zeros, n);
		mapped = !mapped;
		/* The cutting thread, and the workers, may share this CPU. */
		sched_yield();
	} while (!cutting->wrong && !atomic_load(&cutting->over));
}

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	struct cutting *cutting = stress_alloc(sizeof(*cutting));
	size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result;

	path->state = cutting;
	cutting->file = closed;
	result = file_open(path, &cutting->file, "file", stress_number(ARG_FILE_SIZE));
	if (result != STRESS_OK)
		return result;
	/* Writable, though it is only read: before 6.7 MADV_REMOVE asks for that. */
	cutting->map = file_map(cutting->file.fd, 0, cutting->file.size);
	if (!cutting->map)
		return stress_error(path, "map the file");
	cutting->written = stress_alloc(max);
	cutting->zeros = stress_alloc(max);
	cutting->got = stress_alloc(max);
	return helper_start(path, &cutting->reader, read_beside, cutting);
}

static void tear_down(struct stress_path *path)
{
	struct cutting *cutting = path->state;

	helper_stop(&cutting->reader);
	if (cutting->reads)
		stress_note(path, "of %u reads %u saw only zeros, %u faulted", cutting->reads,
			    cutting->reads_of_zeros, cutting->faults);
	if (cutting->map)
		munmap(cutting->map, cutting->file.size);
	file_close(&cutting->file);
	free(cutting->written);
	free(cutting->zeros);
	free(cutting->got);
	free(cutting);
}

static void choose_cut(struct stress_path *path)
{
	struct cutting *cutting = path->state;
	uint64_t length = 1 + rng_below(&path->rng, cutting->length);

	cutting->cut_from = cutting->offset + rng_offset(&path->rng, cutting->length, length, 1);
	cutting->cut_to = cutting->cut_from + length;
	if (path->variant == TRUNCATE)
		cutting->cut_to = cutting->file.size;
	if (path->variant == REMOVE) { /* whole pages */
		cutting->cut_from = round_down(cutting->cut_from, PAGE);
		cutting->cut_to = round_down(cutting->cut_to + PAGE - 1, PAGE);
	}
}

static enum stress_result cut(struct stress_path *path)
{
	struct cutting *cutting = path->state;
	struct stress_file *file = &cutting->file;
	uint64_t from = cutting->cut_from, to = cutting->cut_to;
	uint64_t step = path->variant == REMOVE ? PAGE : 1;

	if (planted(path, 2)) /* nothing is cut */
		return STRESS_OK;
	if (planted(path, 3) && from) /* too much */
		from -= step;
	switch (path->variant) {
	case TRUNCATE:
		path->waits_for = "ftruncate";
		if (ftruncate(file->fd, from) || ftruncate(file->fd, file->size))
			return stress_error(path, "truncate the file to %" PRIu64 " bytes", from);
		return STRESS_OK;
	case PUNCH:
		path->waits_for = "fallocate";
		if (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
			      to - from))
			return stress_error(path, "punch a hole of %" PRIu64 " bytes", to - from);
		return STRESS_OK;
	default:
		path->waits_for = "madvise(MADV_REMOVE)";
		if (madvise(cutting->map + from, to - from, MADV_REMOVE))
			return stress_error(path, "remove %" PRIu64 " bytes", to - from);
		return STRESS_OK;
	}
}

/* Cuts the range, which has just been written, beside the reading thread. */
static enum stress_result cut_beside(struct stress_path *path)
{
	struct cutting *cutting = path->state;
	enum stress_result result;

	memcpy(cutting->written, cutting->file.model + cutting->offset, cutting->length);
	atomic_store(&cutting->over, false);
	helper_order(&cutting->reader);
	result = cut(path);
	atomic_store(&cutting->over, true);
	path->waits_for = "the reading thread";
	helper_wait(&cutting->reader);
	if (result != STRESS_OK)
		return result;
	if (cutting->read_error) {
		errno = cutting->read_error;
		return stress_error(path, "read beside the cut");
	}
	if (cutting->wrong)
		return stress_compare(path, "beside", cutting->got, cutting->written,
				      cutting->zeros, cutting->received, cutting->offset);
	return STRESS_OK;
}

static enum stress_result verify(struct stress_path *path)
{
	struct cutting *cutting = path->state;
	struct stress_file *file = &cutting->file;
	uint64_t offset = cutting->offset;

	memset(file->model + cutting->cut_from, 0, cutting->cut_to - cutting->cut_from);
	if (planted(path, 1)) { /* a byte of the hole is none */
		unsigned char flipped = 0x10;

		write_all(file->fd, &flipped, 1, cutting->cut_from);
	}
	if (file_verify(path, file, "cut", offset, cutting->length) != STRESS_OK)
		return STRESS_FAIL;
	path->waits_for = "a load from the file's mapping";
	return stress_compare(path, "mapped-cut", cutting->map + offset, file->model + offset,
			      NULL, cutting->length, offset);
}

static enum stress_result turn(struct stress_path *path)
{
	struct cutting *cutting = path->state;
	struct stress_file *file = &cutting->file;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	uint64_t offset = rng_offset(&path->rng, file->size, length, 1);
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	cutting->offset = offset;
	cutting->length = length;
	choose_cut(path);
	file_renew_model(path, file, offset, length);
	result = file_write(path, file, offset, length);
	if (result == STRESS_OK)
		result = file_evict_sometimes(path, file, offset, length);
	if (result == STRESS_OK)
		result = cut_beside(path);
	if (result == STRESS_OK)
		result = verify(path);
	if (result == STRESS_OK)
		stress_credit(path, 1, length);
	return result;
}

STRESS_MAIN("truncate-punch", check_sizes,
	    STRESS_PATH("truncate", TRUNCATE),
	    STRESS_PATH("punch-hole", PUNCH),
	    STRESS_PATH("remove", REMOVE))
