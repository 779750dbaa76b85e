// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Stores to shared mappings of a file against reads, writes and fallocate(2) of the same file,
 * under msync(2), fdatasync(2), sync_file_range(2), madvise(2) and mremap(2).
 *
 * Stores: mm/memory.c do_shared_fault() -> the file's ->fault (mm/filemap.c filemap_fault(),
 * shmem_fault()) and ->page_mkwrite (fs/ext4/inode.c ext4_page_mkwrite()); a page stays dirty until
 * writeback write-protects it again: folio_clear_dirty_for_io() -> mm/rmap.c folio_mkclean() ->
 * page_mkclean_one(), on 6.1 and 6.12 alike. Who takes a page from the mapping must carry its dirty
 * bit over: zap_pte_range() for MADV_DONTNEED and munmap(), try_to_unmap_one() for MADV_PAGEOUT
 * (madvise_cold_or_pageout_pte_range()), move_ptes() for mremap().
 *  - mapping: stores and loads against write(2) and read(2).
 *  - disk: the same on a disk itself, whose page cache is block/fops.c's.
 *  - mremap: a mapping is moved, grown, shrunk, doubled (old length 0) or left behind empty
 *    (MREMAP_DONTUNMAP) with its pages dirty: mm/mremap.c move_vma() -> move_page_tables().
 *  - punch-hole, zero-range, collapse-insert: fallocate(2), and MADV_REMOVE for whole pages:
 *    fs/ext4/extents.c ext4_fallocate() -> ext4_punch_hole(), ext4_zero_range(),
 *    ext4_collapse_range() and ext4_insert_range(), by way of mm/truncate.c
 *    truncate_pagecache_range(); mm/shmem.c shmem_fallocate(), which only punches, by way of
 *    shmem_undo_range(). Both zero what is left of a page: truncate_inode_partial_folio().
 *  - cells, cells-punch: a second thread stores and a third writes or punches, while the main
 *    thread reads: cells.h.
 *
 * Oracles. All but the cells are serialised as far as content goes: beside a turn, a second thread
 * at times writes back and drops pages, which changes no content. So every byte must be what was
 * last written to it, whichever way, and a range that was taken out must be zero or what stood
 * behind it.
 */
#define _GNU_SOURCE
#include <sys/vfs.h>

#include "cells.h"
#include "common.h"
#include "file.h"
#include "mapped.h"
#include "pagecache.args.h"
#include "sizes.h"

enum variant { MAPPING, DISK, MREMAP, PUNCH_HOLE, ZERO_RANGE, COLLAPSE_INSERT, CELLS, CELLS_PUNCH };

struct field {
	struct mapped mapped;
	struct cells cells;
	size_t block; /* of the file system */
};

static bool has_cells(const struct stress_path *path)
{
	return path->variant == CELLS || path->variant == CELLS_PUNCH;
}

static enum stress_result open_file(struct stress_path *path, struct stress_file *file)
{
	const uint64_t size = stress_number(ARG_FILE_SIZE);
	char name[16], disk[32];

	if (path->variant != DISK)
		return file_open(path, file, "mapped", size);
	stress_choice(ARG_DISK, name, sizeof(name));
	snprintf(disk, sizeof(disk), "/dev/%s", name);
	return file_open_disk(path, file, disk, size);
}

static enum stress_result set_up(struct stress_path *path)
{
	const size_t max = stress_number(ARG_MAX_LENGTH);
	struct field *field = stress_alloc(sizeof(*field));
	enum stress_result result;
	struct statfs status;

	path->state = field;
	field->mapped = (struct mapped)MAPPED_CLOSED;
	result = open_file(path, &field->mapped.file);
	if (result == STRESS_OK)
		result = mapped_begin(path, &field->mapped);
	if (result != STRESS_OK)
		return result;
	if (fstatfs(field->mapped.file.fd, &status))
		return stress_error(path, "ask for the block size in %s", stress_options.dir);
	field->block = status.f_bsize;
	if (path->variant == COLLAPSE_INSERT && field->block > max)
		return stress_skip(path, "blocks have %zu bytes, --max-length is less",
				   field->block);
	return has_cells(path) ? cells_open(path, &field->cells, &field->mapped,
					    path->variant == CELLS_PUNCH, max)
			       : STRESS_OK;
}

static void tear_down(struct stress_path *path)
{
	struct field *field = path->state;

	if (has_cells(path))
		cells_close(path, &field->cells);
	mapped_close(&field->mapped);
	free(field);
}

static enum stress_result turn_mapping(struct stress_path *path, struct mapped *mapped,
				       uint64_t offset, size_t length)
{
	enum stress_result result = mapped_renew(path, mapped, offset, length);

	if (result == STRESS_OK)
		result = mapped_settle(path, mapped, offset, length);
	return result == STRESS_OK ? mapped_verify(path, mapped, "pattern", offset, length)
				   : result;
}

static enum stress_result take_out(struct stress_path *path, struct mapped *mapped, uint64_t offset,
				   size_t length)
{
	const bool punch = path->variant == PUNCH_HOLE;
	const int mode = punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	int failed;

	if (planted(path, 6)) /* a range that was not taken out */
		return STRESS_OK;
	path->waits_for = "fallocate";
	if (punch && offset % PAGE == 0 && length % PAGE == 0)
		failed = madvise(mapped->map + offset, length, MADV_REMOVE);
	else
		failed = fallocate(mapped->file.fd, mode | FALLOC_FL_KEEP_SIZE, offset, length);
	mapped->ops++;
	return failed ? stress_error(path, "%s", punch ? "punch a hole" : "zero a range")
		      : STRESS_OK;
}

/* Fresh data, of which a part is made zero. */
static enum stress_result turn_zero(struct stress_path *path, struct mapped *mapped,
				    uint64_t offset, size_t length)
{
	size_t align = rng_one_in(&path->rng, 4) && length >= PAGE ? PAGE : 1;
	size_t out = rng_length(&path->rng, length, align);
	uint64_t from = offset + rng_below(&path->rng, length - out + 1);
	enum stress_result result = mapped_renew(path, mapped, offset, length);

	if (align == PAGE)
		from = round_down(from, PAGE);
	if (result == STRESS_OK)
		result = mapped_settle(path, mapped, offset, length);
	if (result == STRESS_OK)
		result = take_out(path, mapped, from, out);
	if (result != STRESS_OK)
		return result;
	memset(mapped->file.model + from, 0, out);
	if (rng_one_in(&path->rng, 2))
		result = mapped_settle(path, mapped, offset, length);
	if (result == STRESS_OK)
		result = mapped_verify(path, mapped, "zero", from, out);
	return result == STRESS_OK ? mapped_verify(path, mapped, "pattern", offset, length)
				   : result;
}

/* Says that the file has this many bytes now, and whether the kernel agrees. */
static enum stress_result resized(struct stress_path *path, struct mapped *mapped, uint64_t size)
{
	struct stat status;

	mapped->file.size = size;
	mapped->ops++;
	if (planted(path, 7)) /* as if the kernel had another */
		size++;
	if (fstat(mapped->file.fd, &status))
		return stress_error(path, "ask for the file's size");
	if ((uint64_t)status.st_size != size)
		return stress_wrong_number(path, "size", 0, size, status.st_size);
	return STRESS_OK;
}

/* Fresh data; a range of blocks is taken out of the file, and as many are put in elsewhere. */
static enum stress_result turn_shift(struct stress_path *path, struct mapped *mapped, size_t block,
				     size_t length)
{
	uint64_t full = mapped->file.size, rest = full - length;
	/* Neither may reach to the end of the file. */
	uint64_t out = rng_offset(&path->rng, full - block, length, block);
	uint64_t in = rng_offset(&path->rng, rest, block, block);
	unsigned char *model = mapped->file.model;
	enum stress_result result = mapped_renew(path, mapped, out, length + block);

	if (result == STRESS_OK)
		result = mapped_settle(path, mapped, out, length);
	if (result != STRESS_OK)
		return result;
	path->waits_for = "fallocate";
	if (fallocate(mapped->file.fd, FALLOC_FL_COLLAPSE_RANGE, out, length))
		return stress_error(path, "collapse a range");
	if (!planted(path, 6)) /* else the data behind the range stayed where it was */
		memmove(model + out, model + out + length, rest - out);
	result = resized(path, mapped, rest);
	if (result == STRESS_OK)
		result = mapped_verify(path, mapped, "collapsed", out,
				       rest - out < length ? rest - out : length);
	if (result != STRESS_OK)
		return result;

	path->waits_for = "fallocate";
	if (fallocate(mapped->file.fd, FALLOC_FL_INSERT_RANGE, in, length))
		return stress_error(path, "insert a range");
	memmove(model + in + length, model + in, rest - in);
	if (!planted(path, 8)) /* else the room that was made is not empty */
		memset(model + in, 0, length);
	result = resized(path, mapped, full);
	return result == STRESS_OK ? mapped_verify(path, mapped, "inserted", in, length) : result;
}

/* What mremap() is to do. */
enum act { MOVE, GROW, SHRINK, DOUBLE, LEAVE, ACTS };

struct view {
	unsigned char *first; /* NULL when there is none any more */
	size_t first_length;
	unsigned char *second; /* where mremap() has put it */
	size_t second_length;
};

static enum stress_result remap(struct stress_path *path, struct view *view, enum act act,
				size_t length)
{
	size_t old_length = act == DOUBLE ? 0 : view->first_length;
	int flags = act == SHRINK ? 0 : MREMAP_MAYMOVE;
	void *target = NULL, *moved;

	if (act == MOVE) {
		target = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (target == MAP_FAILED)
			return stress_error(path, "reserve addresses");
		flags |= MREMAP_FIXED;
	}
	if (act == LEAVE)
		flags |= MREMAP_DONTUNMAP;
	path->waits_for = "mremap";
	moved = mremap(view->first, old_length, length, flags, target);
	if (moved == MAP_FAILED)
		return stress_error(path, "remap %zu bytes to %zu with flags %d", old_length,
				    length, flags);
	view->second = moved;
	view->second_length = length;
	if (act != DOUBLE && act != LEAVE)
		view->first = NULL;
	return STRESS_OK;
}

static enum stress_result verify_views(struct stress_path *path, const struct mapped *mapped,
				       const struct view *view, uint64_t offset)
{
	const unsigned char *want = mapped->file.model + offset;
	const int other = offset ? -PAGE : PAGE; /* for pages in the place of others */

	path->waits_for = "a load from the moved mapping";
	if (stress_compare(path, "moved", view->second, want + planted(path, 11) * other, NULL,
			   view->second_length, offset))
		return STRESS_FAIL;
	if (!view->first)
		return STRESS_OK;
	return stress_compare(path, "left", view->first, want + planted(path, 12) * other, NULL,
			      view->first_length, offset);
}

static enum stress_result turn_view(struct stress_path *path, struct mapped *mapped,
				    struct view *view, uint64_t offset, size_t length)
{
	const enum act act = rng_below(&path->rng, ACTS);
	const size_t part = PAGE * (1 + rng_below(&path->rng, length / PAGE));
	const size_t shown = act == GROW ? part : length;
	enum stress_result result;

	view->first = file_map(mapped->file.fd, offset, shown);
	view->first_length = shown;
	if (!view->first)
		return stress_error(path, "map %zu bytes", shown);
	file_renew_model(path, &mapped->file, offset, length);
	mapped_store(path, mapped, view->first, offset, shown);
	if (shown < length)
		mapped_store(path, mapped, mapped->map + offset + shown, offset + shown,
			     length - shown);
	result = mapped_settle_view(path, mapped, view->first, offset, shown);
	if (result == STRESS_OK)
		result = remap(path, view, act, act == SHRINK ? part : length);
	if (result == STRESS_OK)
		result = verify_views(path, mapped, view, offset);
	if (result == STRESS_OK)
		result = mapped_verify(path, mapped, "before-store", offset, length);
	if (result != STRESS_OK)
		return result;

	file_renew_model(path, &mapped->file, offset, view->second_length);
	mapped_store(path, mapped, view->second, offset, view->second_length);
	result = mapped_settle_view(path, mapped, view->second, offset, view->second_length);
	if (result == STRESS_OK)
		result = verify_views(path, mapped, view, offset);
	return result == STRESS_OK ? mapped_verify(path, mapped, "after-store", offset, length)
				   : result;
}

static enum stress_result turn_mremap(struct stress_path *path, struct mapped *mapped,
				      size_t length)
{
	uint64_t offset = rng_offset(&path->rng, mapped->file.size, length, PAGE);
	struct view view = { 0 };
	enum stress_result result = turn_view(path, mapped, &view, offset, length);

	if ((view.first && munmap(view.first, view.first_length)) ||
	    (view.second && munmap(view.second, view.second_length)))
		return stress_error(path, "unmap the view");
	return result;
}

/* Of lengths. */
static size_t alignment(const struct stress_path *path, const struct field *field)
{
	switch (path->variant) {
	case MREMAP:
		return PAGE;
	case COLLAPSE_INSERT:
		return field->block;
	default:
		return 1;
	}
}

static enum stress_result turn(struct stress_path *path)
{
	struct field *field = path->state;
	struct mapped *mapped = &field->mapped;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH),
				   alignment(path, field));
	/* The cells are rounded up. */
	uint64_t offset = rng_offset(&path->rng, mapped->file.size - CELL, length, 1);
	enum stress_result result, flushed;

	mapped->ops = 0;
	mapped_flush_sometimes(path, mapped);
	switch (path->variant) {
	case MAPPING:
	case DISK:
		result = turn_mapping(path, mapped, offset, length);
		break;
	case MREMAP:
		result = turn_mremap(path, mapped, length);
		break;
	case PUNCH_HOLE:
	case ZERO_RANGE:
		result = turn_zero(path, mapped, offset, length);
		break;
	case COLLAPSE_INSERT:
		result = turn_shift(path, mapped, field->block, length);
		break;
	default:
		result = cells_turn(path, &field->cells, offset, length);
	}
	flushed = mapped_await_flush(path, mapped);
	if (result == STRESS_OK)
		result = flushed;
	if (result == STRESS_OK)
		stress_credit(path, mapped->ops, length);
	return result;
}

STRESS_MAIN("pagecache", check_sizes,
	    STRESS_PATH("mapping", MAPPING),
	    STRESS_PATH("disk", DISK),
	    STRESS_PATH("mremap", MREMAP),
	    STRESS_PATH("punch-hole", PUNCH_HOLE),
	    STRESS_PATH("zero-range", ZERO_RANGE),
	    STRESS_PATH("collapse-insert", COLLAPSE_INSERT),
	    STRESS_PATH("cells", CELLS),
	    STRESS_PATH("cells-punch", CELLS_PUNCH))
