// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Drops clean page-cache pages, dentries and inodes.
 *
 * A write to /proc/sys/vm/drop_caches: bit 0 has fs/drop_caches.c drop_pagecache_sb() walk the
 * inodes of every file system and mm/truncate.c invalidate_mapping_pages() remove each page that is
 * clean, unmapped and unused. What that does to references: mm/vmscan.c remove_mapping() ->
 * __remove_mapping() freezes the page's count at what the cache alone holds; a pipe or a socket
 * buffer that holds a page keeps it from that, and a lookup that meets the frozen page must turn
 * away and read the file again. Bit 1 has drop_slab() shrink dentries and inodes, whose eviction
 * truncates their page cache.
 *
 * The program's own file is read, dropped, and read again: its content must have survived. Pages
 * of a tmpfs are dropped by nobody; for these the reads only hold still.
 *
 * At first it writes 4, which keeps the kernel from logging every act; that lasts until the next
 * boot.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "file.h"
#include "drop-caches.args.h"

#define DROP_CACHES "/proc/sys/vm/drop_caches"

enum variant { PAGE_CACHE = 1, SLAB = 2, BOTH = 3 };

enum { FILE_SIZE = 256 * 1024 };

struct dropping {
	struct stress_file file;
	struct vmstat vmstat;
};

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	struct dropping *dropping = stress_alloc(sizeof(*dropping));
	enum stress_result result;

	path->state = dropping;
	dropping->vmstat.names = "drop_pagecache drop_slab slabs_scanned";
	dropping->file = closed;
	if (access(DROP_CACHES, W_OK))
		return stress_skip(path, "no " DROP_CACHES " here: %m");
	result = knob_order(path, DROP_CACHES, "4");
	return result == STRESS_OK ? file_open(path, &dropping->file, "file", FILE_SIZE) : result;
}

static void tear_down(struct stress_path *path)
{
	struct dropping *dropping = path->state;

	vmstat_note(path, &dropping->vmstat);
	file_close(&dropping->file);
	free(dropping);
}

static enum stress_result turn(struct stress_path *path)
{
	struct dropping *dropping = path->state;
	struct stress_file *file = &dropping->file;
	size_t length = rng_length(&path->rng, FILE_SIZE / 4, 1);
	uint64_t offset = rng_offset(&path->rng, FILE_SIZE, length, 1);
	const char bits[] = { '0' + path->variant, '\0' };
	enum stress_result result = STRESS_OK;

	pace(stress_number(ARG_RATE));
	file_renew_model(path, file, offset, length);
	if (!planted(path, 2)) /* else a lost write */
		result = file_write(path, file, offset, length);
	/* Dirty pages are left alone. */
	if (result == STRESS_OK)
		result = file_evict(path, file, offset, length);
	if (result == STRESS_OK) /* fills the cache again */
		result = file_verify(path, file, "written", offset, length);
	if (result != STRESS_OK)
		return result;

	vmstat_begin(&dropping->vmstat);
	result = knob_order(path, DROP_CACHES, bits);
	vmstat_end(&dropping->vmstat);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 1)) { /* a flipped bit */
		unsigned char flipped = file->model[offset] ^ 0x10;

		write_all(file->fd, &flipped, 1, offset);
	}
	result = file_verify(path, file, "dropped", offset, length);
	if (result == STRESS_OK)
		stress_credit(path, 1, length);
	return result;
}

STRESS_MAIN("drop-caches", NULL,
	    STRESS_PATH("page-cache", PAGE_CACHE),
	    STRESS_PATH("slab", SLAB),
	    STRESS_PATH("both", BOTH))
