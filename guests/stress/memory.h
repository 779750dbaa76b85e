/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory of the kinds that the kernel takes references to: anonymous pages, shmem pages (a memfd)
 * and page-cache pages (a file in --dir), mapped shared or private.
 */
#ifndef FARM_STRESS_MEMORY_H
#define FARM_STRESS_MEMORY_H

#include <sys/mman.h>
#include <sys/uio.h>

#include "common.h"
#include "file.h"

enum memory_kind { ANONYMOUS, MEMFD, MAPPED_FILE, MEMORY_KINDS };

enum {
	MEMORY_SLACK = 8 * 4096, /* for neighbours and a start anywhere in a page */
	MAX_PIECES = 4,		 /* iovecs of a call */
	POISON = 0xa5,		 /* what nobody else writes */
};

struct memory {
	enum memory_kind kind;
	int sharing; /* MAP_SHARED or MAP_PRIVATE; anonymous memory is always private */
	struct stress_file file; /* what is mapped */
	unsigned char *bytes;
	size_t size;
};

#define MEMORY_CLOSED { .file = STRESS_FILE_CLOSED }

static inline const char *memory_name(enum memory_kind kind)
{
	static const char *const names[] = { "anonymous", "memfd", "file" };

	return names[kind];
}

/* The kind for a turn: that of --memory, whose first choice, 0, is any. */
static inline enum memory_kind memory_choose(struct stress_path *path, uint64_t choice)
{
	return choice ? choice - 1 : rng_below(&path->rng, MEMORY_KINDS);
}

/* Maps the memory, at its present address if it has one; anonymous pages are then fresh ones. */
static inline enum stress_result memory_map(struct stress_path *path, struct memory *memory)
{
	int flags = memory->kind == ANONYMOUS ? MAP_PRIVATE | MAP_ANONYMOUS : memory->sharing;
	void *bytes;

	if (stress_options.secure && !memory->bytes)
		memory->bytes = secure_reserve(memory->size);
	flags |= memory->bytes ? MAP_FIXED : 0;
	bytes = mmap(memory->bytes, memory->size, PROT_READ | PROT_WRITE, flags, memory->file.fd,
		     0);
	if (bytes == MAP_FAILED)
		return stress_error(path, "map %s memory", memory_name(memory->kind));
	memory->bytes = bytes;
	return STRESS_OK;
}

/* Room for ranges of up to max_length, where it can become a guest's; tag names the file. */
static inline enum stress_result memory_make(struct stress_path *path, struct memory *memory,
					     enum memory_kind kind, int sharing, const char *tag,
					     size_t max_length)
{
	enum stress_result result = STRESS_OK;

	*memory = (struct memory)MEMORY_CLOSED;
	memory->kind = kind;
	memory->sharing = sharing;
	memory->size = round_down(max_length + 4095, 4096) + MEMORY_SLACK;
	if (kind == MEMFD)
		result = file_make_memfd(path, &memory->file.fd, tag, memory->size);
	if (kind == MAPPED_FILE)
		result = file_open(path, &memory->file, tag, memory->size);
	if (result == STRESS_OK)
		result = memory_map(path, memory);
	return result;
}

/* The same, and with --secure it is this process's guest's. */
static inline enum stress_result memory_open(struct stress_path *path, struct memory *memory,
					     enum memory_kind kind, int sharing, const char *tag,
					     size_t max_length)
{
	enum stress_result result = memory_make(path, memory, kind, sharing, tag, max_length);

	if (result == STRESS_OK && stress_options.secure)
		result = secure_guard(path, memory->bytes, memory->size);
	return result;
}

static inline void memory_close(struct memory *memory)
{
	if (memory->bytes)
		munmap(memory->bytes, memory->size);
	memory->bytes = NULL;
	file_close(&memory->file);
}

/* Unmaps the pages; private changes are lost. */
static inline enum stress_result memory_unmap_pages(struct stress_path *path, struct memory *memory)
{
	if (madvise(memory->bytes, memory->size, MADV_DONTNEED))
		return stress_error(path, "unmap pages of %s memory", memory_name(memory->kind));
	return STRESS_OK;
}

/*
 * Once in eight sends the pages to where they can go, so that the kernel has to bring them back: to
 * swap if there is any, or to the file.
 */
static inline enum stress_result memory_evict_sometimes(struct stress_path *path,
							struct memory *memory)
{
	if (!rng_one_in(&path->rng, 8))
		return STRESS_OK;
	if (madvise(memory->bytes, memory->size, MADV_PAGEOUT))
		return stress_error(path, "page out %s memory", memory_name(memory->kind));
	if (memory->kind != MAPPED_FILE || memory->sharing == MAP_PRIVATE)
		return STRESS_OK;
	if (memory_unmap_pages(path, memory) != STRESS_OK)
		return STRESS_FAIL;
	return file_evict(path, &memory->file, 0, memory->size);
}

/* What comes between new data and its I/O: pages may have to be brought back; they may be secure. */
static inline enum stress_result memory_prepare(struct stress_path *path, struct memory *memory,
						const unsigned char *range, size_t length)
{
	enum stress_result result = memory_evict_sometimes(path, memory);

	return result == STRESS_OK ? secure_pages(path, range, length) : result;
}

/* Where in the memory a range of this length may begin: at times at a page's border. */
static inline size_t memory_room(struct stress_path *path, const struct memory *memory,
				 size_t length, size_t align)
{
	size_t first = round_down(NEIGHBOUR + align - 1, align);
	size_t past = memory->size - NEIGHBOUR;
	size_t start = first + rng_offset(&path->rng, past - first, length, align);

	if (align >= 4096 || start < 4096 || !rng_one_in(&path->rng, 3))
		return start;
	return round_down(start, 4096);
}

/* Poisons a range and its neighbours before something is read into it. */
static inline void memory_poison(unsigned char *range, size_t length)
{
	memset(range - NEIGHBOUR, POISON, length + 2 * NEIGHBOUR);
}

/* Whether a poisoned range's neighbours were left alone; offset is its own, for the report. */
static inline enum stress_result memory_check_neighbours(struct stress_path *path,
							 const unsigned char *range, size_t length,
							 uint64_t offset)
{
	unsigned char poison[NEIGHBOUR];

	memset(poison, POISON, sizeof(poison));
	if (stress_compare(path, "overrun", range - NEIGHBOUR, poison, NULL, NEIGHBOUR,
			   offset < NEIGHBOUR ? 0 : offset - NEIGHBOUR) |
	    stress_compare(path, "overrun", range + length, poison, NULL, NEIGHBOUR,
			   offset + length))
		return STRESS_FAIL;
	return STRESS_OK;
}

/* Cuts a range into up to MAX_PIECES iovecs, in steps of align; returns their number. */
static inline int split_range(struct stress_path *path, struct iovec iov[MAX_PIECES], void *begin,
			      size_t length, size_t align)
{
	unsigned char *from = begin;
	int count = 0;

	while (length) {
		size_t piece = length;

		if (count < MAX_PIECES - 1 && rng_one_in(&path->rng, 2))
			piece = rng_length(&path->rng, length, align);
		iov[count++] = (struct iovec){ .iov_base = from, .iov_len = piece };
		from += piece;
		length -= piece;
	}
	return count;
}

#endif
