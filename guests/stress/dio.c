// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Reads and writes a file with O_DIRECT, from buffers of several kinds and against the file's own
 * page cache, by one of several engines.
 *
 * fs/ext4/file.c ext4_file_read_iter()/ext4_file_write_iter() -> fs/iomap/direct-io.c
 * __iomap_dio_rw() -> iomap_dio_bio_iter() -> block/bio.c bio_iov_iter_get_pages(), which takes
 * references to the buffer's pages: 6.1 lib/iov_iter.c __iov_iter_get_pages_alloc() with
 * FOLL_GET, 6.12 iov_iter_extract_pages() with FOLL_PIN; both end in mm/gup.c
 * (internal_get_user_pages_fast(), gup_fast_fallback(); follow_page_pte()). A read dirties them:
 * bio_set_pages_dirty() before, bio_check_pages_dirty() after the I/O, because writeback may have
 * cleaned a file's page meanwhile.
 *  - anonymous: private anonymous memory.
 *  - memfd-buffer: a shared mapping of a memfd, shmem pages.
 *  - file-buffer: a shared mapping of another file, page-cache pages, at times only on the disk
 *    when I/O begins.
 * Against the page cache: __iomap_dio_rw() writes back the range first, and before and after a
 * write throws it out (mm/truncate.c invalidate_inode_pages2_range()), mapped pages included.
 *  - page-cache: cached and direct accesses in turn.
 *  - page-cache-race: cached reads by a second thread during a direct write.
 *
 * --engine says how I/O is submitted (engine.h); all but the first have several requests in flight.
 *  - sync: pread(2) and pwrite(2).
 *  - aio: fs/aio.c io_submit_one() -> aio_read() or aio_write(); aio_complete_rw() ends it.
 *  - uring: io_uring/rw.c io_read() and io_write(); what would block goes to a worker thread,
 *    io_wq_submit_work().
 *  - uring-fixed: the same on memory that io_uring/rsrc.c io_sqe_buffer_register() has pinned once
 *    and for long; bio_iov_iter_get_pages() then takes no references (bio_iov_bvec_set()).
 * The last step of an asynchronous write, invalidation included, is left to a workqueue:
 * iomap_dio_complete_work().
 *
 * Oracles. All but the race are serialised, and requests that are in flight together have ranges
 * and memory of their own; so every read must find exactly what the last write to each byte left,
 * whichever way either went. Beside the range read, its neighbours in the file and in memory are
 * checked; a buffer that maps a file is also read through that file's descriptor, and a
 * file-buffer, after writeback, from its disk.
 *
 * page-cache-race: open(2) promises nothing about mixed I/O to one range at one time, but
 *  - the cached write of generation G is over before the race and the direct write of G+1 over
 *    after it: a racing read may see G and G+1, byte by byte, and nothing else;
 *  - afterwards the disk holds G+1, exactly;
 *  - a cached read afterwards may be stale (the kernel then logs "Page cache invalidation
 *    failure"): G or G+1. It is counted, and the next cached write to the range mends it.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>

#include "buffer.h"
#include "common.h"
#include "engine.h"
#include "file.h"
#include "peer.h"
#include "dio.args.h"
#include "sizes.h"

/* Variants behind those of enum memory_kind. */
enum variant { PAGE_CACHE = MEMORY_KINDS, PAGE_CACHE_RACE };

enum { BLOCK = 4096 }; /* the least that --max-length allows, and as large as most blocks are */

struct area {
	struct stress_file file;
	int direct;
	size_t align; /* that direct I/O wants */
	size_t step;  /* that this turn's direct writes have */
	struct engine engine;
	struct buffer buffer; /* direct I/O's memory */
	unsigned char *map;   /* of the file, for the paths against its page cache */
	unsigned char *old;   /* the range before the race */

	struct helper reader;
	uint64_t race_offset;
	size_t race_length;
	atomic_bool written; /* the direct write is over */
	unsigned char *seen; /* the last racing read */
	bool wrong;	     /* it is neither old nor new */
	int read_error;
	unsigned int reads, reads_of_old, reads_of_new;
	unsigned int stale; /* cached reads after a race */

	unsigned int ops; /* cached calls that moved data in this turn */
};

/* Beside the direct write, until that is over: through the descriptor and the mapping by turns. */
static void read_cached(void *argument)
{
	struct area *area = argument;
	const unsigned char *new = area->file.model + area->race_offset;
	size_t length = area->race_length;

	do {
		bool old_only, new_only;
		ssize_t n = length;

		if (area->reads++ % 2)
			memcpy(area->seen, area->map + area->race_offset, length);
		else
			n = read_all(area->file.fd, area->seen, length, area->race_offset);
		if (n != (ssize_t)length) {
			area->read_error = n < 0 ? errno : ENODATA;
			return;
		}
		if (STRESS_PLANT == 6) /* foreign data in the race */
			area->seen[length / 2] ^= 0x10;
		old_only = !memcmp(area->seen, area->old, length);
		new_only = !memcmp(area->seen, new, length);
		area->reads_of_old += old_only;
		area->reads_of_new += new_only;
		area->wrong = !old_only && !new_only &&
			      !stress_right(area->seen, new, area->old, length);
		/* The writer, and other workers, may share this CPU. */
		sched_yield();
	} while (!area->wrong && !atomic_load(&area->written));
}

static enum stress_result set_up_cache(struct stress_path *path, struct area *area)
{
	area->map = file_map(area->file.fd, 0, area->file.size);
	if (!area->map)
		return stress_error(path, "map the file");
	if (path->variant != PAGE_CACHE_RACE)
		return STRESS_OK;
	area->old = stress_alloc(stress_number(ARG_MAX_LENGTH));
	area->seen = stress_alloc(stress_number(ARG_MAX_LENGTH));
	return helper_start(path, &area->reader, read_cached, area);
}

/* What the ring may do I/O on without looking it up anew. */
static enum stress_result register_buffer(struct stress_path *path, struct area *area)
{
	struct iovec memory = { area->buffer.memory.bytes, area->buffer.memory.size };

	/* Now or never: as long as they are registered they cannot become secure. */
	if (secure_pages(path, memory.iov_base, memory.iov_len) != STRESS_OK)
		return STRESS_FAIL;
	if (!uring_register(&area->engine.ring, &memory, 1))
		return STRESS_OK;
	/* 6.1 says EOPNOTSUPP, and later kernels EFAULT, of all files but those in memory. */
	if (path->variant == MAPPED_FILE && (errno == EOPNOTSUPP || errno == EFAULT))
		return stress_skip(path, "the pages of a file cannot be registered: %m");
	return stress_error(path, "register %zu bytes", memory.iov_len);
}

static enum stress_result set_up(struct stress_path *path)
{
	const enum engine_kind engine = stress_number(ARG_ENGINE);
	const size_t max = stress_number(ARG_MAX_LENGTH);
	const enum memory_kind kind = path->variant < MEMORY_KINDS ? path->variant : ANONYMOUS;
	struct area *area = stress_alloc(sizeof(*area));
	enum stress_result result;

	path->state = area;
	*area = (struct area){ .file = STRESS_FILE_CLOSED,
			       .direct = -1,
			       .engine = ENGINE_CLOSED,
			       .buffer = BUFFER_CLOSED };
	result = file_open(path, &area->file, "target", stress_number(ARG_FILE_SIZE));
	if (result == STRESS_OK)
		result = file_direct(path, &area->file, &area->direct, &area->align);
	if (result == STRESS_OK && area->align > max)
		result = stress_skip(path,
				     "direct I/O needs blocks of %zu bytes, --max-length is less",
				     area->align);
	if (result == STRESS_OK)
		result = buffer_open(path, &area->buffer, kind, max);
	if (result == STRESS_OK)
		result = engine_open(path, &area->engine, engine, stress_number(ARG_DEPTH));
	if (result == STRESS_OK && engine == ENGINE_FIXED)
		result = register_buffer(path, area);
	if (result == STRESS_OK &&
	    (path->variant == PAGE_CACHE || path->variant == PAGE_CACHE_RACE))
		result = set_up_cache(path, area);
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct area *area = path->state;

	helper_stop(&area->reader);
	if (area->reads)
		stress_note(path,
			    "of %u racing reads %u saw only old and %u only new data; %u reads "
			    "afterwards were stale",
			    area->reads, area->reads_of_old, area->reads_of_new, area->stale);
	engine_close(&area->engine);
	buffer_close(&area->buffer);
	if (area->map)
		munmap(area->map, area->file.size);
	if (area->direct >= 0)
		close(area->direct);
	file_close(&area->file);
	free(area->seen);
	free(area->old);
	free(area);
}

static enum stress_result write_direct(struct stress_path *path, struct area *area,
				       unsigned char *memory, size_t length, uint64_t offset)
{
	struct engine_order order = { true, area->direct, memory, length, offset, area->step };

	path->waits_for = "a direct write";
	if (planted(path, 2)) /* writes to the wrong place */
		order.offset += offset >= area->align ? -area->align : area->align;
	if (planted(path, 3)) /* a lost write */
		return STRESS_OK;
	if (planted(path, 4)) /* a short write taken for full */
		order.length -= length > area->align ? area->align : 0;
	return engine_move(path, &area->engine, &order);
}

static enum stress_result read_direct(struct stress_path *path, struct area *area,
				      unsigned char *memory, size_t length, uint64_t offset)
{
	struct engine_order order = { false, area->direct, memory, length, offset, area->align };
	enum stress_result result;

	path->waits_for = "a direct read";
	result = engine_move(path, &area->engine, &order);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 1)) /* a flipped bit */
		memory[length / 2] ^= 0x10;
	if (planted(path, 5)) /* one byte too many */
		memory[length] ^= 0x10;
	return STRESS_OK;
}

/*
 * Reads the range and an aligned block on either side directly into the buffer and checks them, and
 * that the memory around them was left alone.
 */
static enum stress_result verify_direct(struct stress_path *path, struct area *area,
					const char *check, uint64_t offset, size_t length)
{
	uint64_t from = round_down(offset, area->align);
	uint64_t to = round_down(offset + length + area->align - 1, area->align);
	struct buffer *buffer = &area->buffer;
	unsigned char *memory;
	enum stress_result result;

	from -= from ? area->align : 0;
	to += to < area->file.size ? area->align : 0;
	memory = buffer_room(path, buffer, to - from, area->align);
	memory_poison(memory, to - from);
	result = memory_prepare(path, &buffer->memory, memory, to - from);
	if (result == STRESS_OK)
		result = read_direct(path, area, memory, to - from, from);
	if (result == STRESS_OK)
		result = file_compare(path, &area->file, check, memory, from, to, offset, length);
	if (result == STRESS_OK)
		result = memory_check_neighbours(path, memory, to - from, from);
	if (result != STRESS_OK)
		return result;
	return buffer_check_mapped(path, buffer, memory, area->file.model + from, to - from, from);
}

/* Writes the range from the model, by way of the buffer. */
static enum stress_result store_direct(struct stress_path *path, struct area *area, uint64_t offset,
				       size_t length)
{
	unsigned char *memory = buffer_room(path, &area->buffer, length, area->step);
	enum stress_result result;

	memcpy(memory, area->file.model + offset, length);
	result = memory_prepare(path, &area->buffer.memory, memory, length);
	return result == STRESS_OK ? write_direct(path, area, memory, length, offset) : result;
}

/*
 * Half of the writes are whole blocks of the file system, also in memory: others are not
 * asynchronous, fs/ext4/file.c ext4_dio_write_iter(), before 6.5 not even where all of the range
 * has been written before.
 */
static void choose_aligned(struct stress_path *path, struct area *area, uint64_t *offset,
			   size_t *length)
{
	area->step = area->align < BLOCK && rng_one_in(&path->rng, 2) ? BLOCK : area->align;
	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), area->step);
	*offset = rng_offset(&path->rng, area->file.size, *length, area->step);
}

static enum stress_result turn_buffer(struct stress_path *path, struct area *area, size_t *length)
{
	enum stress_result result;
	uint64_t offset;

	choose_aligned(path, area, &offset, length);
	file_renew_model(path, &area->file, offset, *length);
	result = store_direct(path, area, offset, *length);
	return result == STRESS_OK ? verify_direct(path, area, "pattern", offset, *length) : result;
}

/* A cached write of any length, then a direct read. */
static enum stress_result cached_to_direct(struct stress_path *path, struct area *area,
					   size_t *length)
{
	enum stress_result result = STRESS_OK;
	uint64_t offset;

	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	offset = rng_offset(&path->rng, area->file.size, *length, 1);
	file_renew_model(path, &area->file, offset, *length);
	if (rng_one_in(&path->rng, 2)) {
		path->waits_for = "a store to the file's mapping";
		memcpy(area->map + offset, area->file.model + offset, *length);
	} else {
		result = file_write(path, &area->file, offset, *length);
	}
	area->ops++;
	return result == STRESS_OK
		       ? verify_direct(path, area, "after-cached-write", offset, *length)
		       : result;
}

/* A direct write under a filled page cache, then reads through the cache. */
static enum stress_result direct_to_cached(struct stress_path *path, struct area *area,
					   size_t *length)
{
	enum stress_result result = STRESS_OK;
	uint64_t offset;

	choose_aligned(path, area, &offset, length);
	if (rng_one_in(&path->rng, 2))
		result = file_verify(path, &area->file, "before-direct-write", offset, *length);
	if (result != STRESS_OK)
		return result;
	file_renew_model(path, &area->file, offset, *length);
	result = store_direct(path, area, offset, *length);
	if (result != STRESS_OK)
		return result;
	area->ops++;
	if (rng_one_in(&path->rng, 2))
		return file_verify(path, &area->file, "after-direct-write", offset, *length);
	path->waits_for = "a load from the file's mapping";
	return file_compare(path, &area->file, "mapping-after-direct-write", area->map + offset,
			    offset, offset + *length, offset, *length);
}

/* Checks what the racing reads saw, and what stands there afterwards. */
static enum stress_result verify_race(struct stress_path *path, struct area *area, uint64_t offset,
				      size_t length)
{
	const unsigned char *new = area->file.model + offset;
	unsigned char *memory = buffer_room(path, &area->buffer, length, area->align);
	unsigned char *cached = area->file.scratch;
	enum stress_result result;

	if (area->wrong)
		return stress_compare(path, "race", area->seen, new, area->old, length, offset);
	result = read_direct(path, area, memory, length, offset);
	if (result == STRESS_OK)
		result = stress_compare(path, "after-race", memory, new, NULL, length, offset);
	if (result != STRESS_OK)
		return result;
	path->waits_for = "a cached read after the race";
	if (read_all(area->file.fd, cached, length, offset) != (ssize_t)length)
		return stress_error(path, "read the file after the race");
	area->ops++;
	area->stale += !!memcmp(cached, new, length);
	return stress_compare(path, "cached-after-race", cached, new, area->old, length, offset);
}

static enum stress_result turn_race(struct stress_path *path, struct area *area, size_t *length)
{
	enum stress_result result;
	uint64_t offset;

	choose_aligned(path, area, &offset, length);
	file_renew_model(path, &area->file, offset, *length);
	memcpy(area->old, area->file.model + offset, *length);
	result = file_write(path, &area->file, offset, *length);
	if (result != STRESS_OK)
		return result;
	file_renew_model(path, &area->file, offset, *length);

	area->race_offset = offset;
	area->race_length = *length;
	atomic_store(&area->written, false);
	helper_order(&area->reader);
	result = store_direct(path, area, offset, *length);
	atomic_store(&area->written, true);
	path->waits_for = "the racing reader";
	helper_wait(&area->reader);
	if (area->read_error) {
		errno = area->read_error;
		return stress_error(path, "read during the race");
	}
	return result == STRESS_OK ? verify_race(path, area, offset, *length) : result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct area *area = path->state;
	enum stress_result result;
	size_t length;

	area->ops = area->engine.ops = 0;
	switch (path->variant) {
	case PAGE_CACHE:
		if (rng_one_in(&path->rng, 2))
			result = cached_to_direct(path, area, &length);
		else
			result = direct_to_cached(path, area, &length);
		break;
	case PAGE_CACHE_RACE:
		result = turn_race(path, area, &length);
		break;
	default:
		result = turn_buffer(path, area, &length);
	}
	if (result == STRESS_OK)
		stress_credit(path, area->ops + area->engine.ops, length);
	return result;
}

STRESS_MAIN("dio", check_sizes,
	    STRESS_PATH("anonymous", ANONYMOUS),
	    STRESS_PATH("memfd-buffer", MEMFD),
	    STRESS_PATH("file-buffer", MAPPED_FILE),
	    STRESS_PATH("page-cache", PAGE_CACHE),
	    STRESS_PATH("page-cache-race", PAGE_CACHE_RACE))
