/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory of the program's own whose content is known page by page, so that what the kernel did to
 * the pages meanwhile can be checked.
 *
 * Planted bugs of every program that has a region: 1 a flipped bit, 2 a page that was not written,
 * 3 a page in another's place.
 */
#ifndef FARM_REGION_H
#define FARM_REGION_H

#include <sys/mman.h>

#include "common.h"
#include "file.h"

enum { PAGE = 4096 };

enum backing { ANONYMOUS, SHMEM, FILE_BACKED };

struct region {
	unsigned char *memory;
	size_t pages;
	int fd; /* -1 for anonymous memory */
	/* Of each page's content; generation 0 is zeros. */
	uint32_t *generations;
	unsigned char *want; /* one page */
};

#define REGION_CLOSED { .fd = -1 }

/* Maps the region, of zeros. */
static inline enum stress_result region_open(struct stress_path *path, struct region *region,
					     enum backing backing, size_t size)
{
	int flags = backing == ANONYMOUS ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	enum stress_result result = STRESS_OK;
	void *memory = NULL;

	*region = (struct region)REGION_CLOSED;
	region->pages = size / PAGE;
	if (backing == FILE_BACKED)
		result = file_make(path, &region->fd, "region", region->pages * PAGE);
	if (backing == SHMEM)
		result = file_make_memfd(path, &region->fd, "region", region->pages * PAGE);
	if (result != STRESS_OK)
		return result;
	if (stress_options.secure)
		memory = secure_reserve(region->pages * PAGE);
	flags |= memory ? MAP_FIXED : 0;
	memory = mmap(memory, region->pages * PAGE, PROT_READ | PROT_WRITE, flags, region->fd, 0);
	if (memory == MAP_FAILED)
		return stress_error(path, "map %zu pages", region->pages);
	region->memory = memory;
	if (stress_options.secure &&
	    secure_guard(path, memory, region->pages * PAGE) != STRESS_OK)
		return STRESS_FAIL;
	region->generations = stress_alloc(region->pages * sizeof(*region->generations));
	region->want = stress_alloc(PAGE);
	return STRESS_OK;
}

static inline void region_close(struct region *region)
{
	if (region->memory)
		munmap(region->memory, region->pages * PAGE);
	if (region->fd >= 0)
		close(region->fd);
	free(region->generations);
	free(region->want);
	*region = (struct region)REGION_CLOSED;
}

/* What page number `page` must hold. */
static inline const unsigned char *region_want(const struct stress_path *path,
					       const struct region *region, size_t page)
{
	if (region->generations[page])
		pattern_fill(path->key, region->generations[page], region->want, PAGE,
			     (uint64_t)page * PAGE);
	else
		memset(region->want, 0, PAGE);
	return region->want;
}

/* Writes a new generation to the pages. */
static inline void region_renew(struct stress_path *path, struct region *region, size_t first,
				size_t count)
{
	path->generation++;
	path->waits_for = "a store to its memory";
	for (size_t page = first; page < first + count; page++) {
		region->generations[page] = path->generation;
		if (planted(path, 2))
			continue;
		memcpy(region->memory + page * PAGE, region_want(path, region, page), PAGE);
	}
}

/* With --secure, makes the pages secure. */
static inline enum stress_result region_secure(struct stress_path *path,
					       const struct region *region, size_t first,
					       size_t count)
{
	return secure_pages(path, region->memory + first * PAGE, count * PAGE);
}

/* Gives the pages back to the kernel: they are zeros. */
static inline enum stress_result region_drop(struct stress_path *path, struct region *region,
					     size_t first, size_t count)
{
	path->waits_for = "madvise to drop pages";
	/* A shared mapping's pages stay in their file unless a hole is punched. */
	if (madvise(region->memory + first * PAGE, count * PAGE,
		    region->fd < 0 ? MADV_DONTNEED : MADV_REMOVE))
		return stress_error(path, "drop %zu pages", count);
	memset(region->generations + first, 0, count * sizeof(*region->generations));
	return STRESS_OK;
}

/* Compares memory with what the pages from `first` on must hold. */
static inline enum stress_result region_compare(struct stress_path *path,
						const struct region *region, const char *check,
						const unsigned char *memory, size_t first,
						size_t count)
{
	enum stress_result result = STRESS_OK;

	path->waits_for = "a load from its memory";
	for (size_t i = 0; i < count; i++)
		if (stress_compare(path, check, memory + i * PAGE,
				   region_want(path, region, first + i), NULL, PAGE,
				   (uint64_t)(first + i) * PAGE) != STRESS_OK)
			result = STRESS_FAIL;
	return result;
}

/* Compares the pages with what they must hold. */
static inline enum stress_result region_verify(struct stress_path *path, struct region *region,
					       const char *check, size_t first, size_t count)
{
	if (planted(path, 1))
		region->memory[first * PAGE + PAGE / 2] ^= 0x10;
	if (planted(path, 3) && count > 1)
		memcpy(region->memory + first * PAGE, region->memory + (first + 1) * PAGE, PAGE);
	return region_compare(path, region, check, region->memory + first * PAGE, first, count);
}

/* A window of `count` pages anywhere in the region. */
static inline size_t region_choose(struct stress_path *path, const struct region *region,
				   size_t count)
{
	return rng_below(&path->rng, region->pages - count + 1);
}

#endif
