// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Collapses small pages into huge ones and splits them, and resizes the pool of hugetlb pages.
 *
 * What that does to references: mm/khugepaged.c collapse_huge_page() takes a range of pages only if
 * nobody else has a reference to any of them; mm/huge_memory.c split_huge_page_to_list() (6.12:
 * split_huge_page_to_list_to_order()) freezes the count of the huge page and hands it out to its
 * parts, so that somebody who takes a reference to the whole must end with one to the right part;
 * mm/hugetlb.c freezes the count of a page that it puts into its pool or dissolves.
 *  - thp: private memory is collapsed (MADV_COLLAPSE), and split again by advising one page of it
 *    (MADV_COLD) or giving it back (MADV_DONTNEED).
 *  - hugetlb: the pool grows, a page of it is used, the pool shrinks.
 *
 * On s390 both take EDAT1, pages of 1 MiB, which QEMU's TCG does not have.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "region.h"
#include "hugepage.args.h"

#define THP "/sys/kernel/mm/transparent_hugepage"
#define HUGETLB "/sys/kernel/mm/hugepages"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* since Linux 6.1: include/uapi/asm-generic/mman-common.h */
#endif

enum variant { THP_PATH, HUGETLB_PATH };

enum { BLOCKS = 4 }; /* huge pages of the region */

struct huge {
	struct region region;
	size_t size;  /* of a huge page */
	size_t first; /* page of the region that begins a huge one */
	struct knob pool;
	char pool_file[96];
	struct vmstat vmstat;
};

/* Why there is none, as far as the kernel tells. */
static enum stress_result skip(struct stress_path *path, const char *missing)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	const char *reason = "";
	char line[1024];

	/* An s390 says so: "features	: esan3 zarch stfle msa … edat …". */
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "features", 8) && !strstr(line, " edat"))
			reason = "; no edat in /proc/cpuinfo";
	if (file)
		fclose(file);
	return stress_skip(path, "no %s here%s", missing, reason);
}

static enum stress_result set_up_thp(struct stress_path *path)
{
	struct huge *huge = path->state;
	enum stress_result result;
	size_t pages;

	huge->vmstat.names = "thp_collapse_alloc thp_split_page thp_split_pmd";
	huge->size = knob_number(THP "/hpage_pmd_size");
	if (!huge->size)
		return skip(path, THP "/hpage_pmd_size");
	pages = huge->size / PAGE;
	/* One more than needed, for the alignment. */
	result = region_open(path, &huge->region, ANONYMOUS, (BLOCKS + 1) * huge->size);
	if (result != STRESS_OK)
		return result;
	if (madvise(huge->region.memory, huge->region.pages * PAGE, MADV_HUGEPAGE))
		return stress_error(path, "ask for huge pages");
	huge->first = (pages - (uintptr_t)huge->region.memory / PAGE % pages) % pages;
	return STRESS_OK;
}

static enum stress_result set_up_hugetlb(struct stress_path *path)
{
	struct huge *huge = path->state;
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	huge->vmstat.names = "htlb_buddy_alloc_success pgmigrate_success";
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Hugepagesize: %llu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	if (!kib)
		return skip(path, "Hugepagesize in /proc/meminfo");
	huge->size = kib * 1024;
	snprintf(huge->pool_file, sizeof(huge->pool_file), HUGETLB "/hugepages-%llukB/nr_hugepages",
		 kib);
	huge->pool.name = huge->pool_file;
	if (access(huge->pool_file, W_OK))
		return skip(path, huge->pool_file);
	return STRESS_OK;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct huge *huge = stress_alloc(sizeof(*huge));

	path->state = huge;
	huge->region.fd = -1;
	return path->variant == THP_PATH ? set_up_thp(path) : set_up_hugetlb(path);
}

static void tear_down(struct stress_path *path)
{
	struct huge *huge = path->state;

	knob_restore(path, &huge->pool);
	if (!path->ops && path->result == STRESS_OK)
		path->result = stress_skip(path, "no huge page was to be had");
	vmstat_note(path, &huge->vmstat);
	region_close(&huge->region);
	free(huge);
}

/* To advise a part is to split the whole at once; to give a part back splits the mapping first. */
static enum stress_result split(struct stress_path *path, size_t first)
{
	struct huge *huge = path->state;
	struct region *region = &huge->region;
	size_t page = first + rng_below(&path->rng, huge->size / PAGE);

	if (rng_one_in(&path->rng, 2))
		return region_drop(path, region, page, 1);
	path->waits_for = "madvise(MADV_COLD)";
	if (madvise(region->memory + page * PAGE, PAGE, MADV_COLD))
		return stress_error(path, "advise a page of a huge one");
	return STRESS_OK;
}

static enum stress_result turn_thp(struct stress_path *path)
{
	struct huge *huge = path->state;
	struct region *region = &huge->region;
	size_t pages = huge->size / PAGE;
	size_t first = huge->first + rng_below(&path->rng, BLOCKS) * pages;
	enum stress_result result;

	region_renew(path, region, first, pages);
	path->waits_for = "madvise(MADV_COLLAPSE)";
	if (madvise(region->memory + first * PAGE, huge->size, MADV_COLLAPSE)) {
		/* No huge page is free, or a page of the range is in use. */
		if (errno == ENOMEM || errno == EAGAIN || errno == EBUSY)
			return STRESS_OK;
		if (errno == EINVAL && !path->ops)
			return stress_skip(path, "no MADV_COLLAPSE in this kernel");
		return stress_error(path, "collapse %zu pages", pages);
	}
	result = region_verify(path, region, "collapsed", first, pages);
	if (result == STRESS_OK)
		result = split(path, first);
	if (result == STRESS_OK)
		result = region_verify(path, region, "split", first, pages);
	if (result == STRESS_OK)
		stress_credit(path, 1, 2 * huge->size);
	return result;
}

static enum stress_result use_hugetlb(struct stress_path *path)
{
	struct huge *huge = path->state;
	enum stress_result result = STRESS_OK;
	unsigned char want[PAGE], *memory;

	memory = mmap(NULL, huge->size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (memory == MAP_FAILED)
		return errno == ENOMEM ? STRESS_OK : stress_error(path, "map a hugetlb page");
	path->waits_for = "a hugetlb page";
	pattern_fill(path->key, ++path->generation, memory, huge->size, 0);
	if (planted(path, 1)) /* a flipped bit */
		memory[huge->size / 2] ^= 0x10;
	for (size_t at = 0; at < huge->size && result == STRESS_OK; at += PAGE) {
		pattern_fill(path->key, path->generation, want, PAGE, at);
		result = stress_compare(path, "hugetlb", memory + at, want, NULL, PAGE, at);
	}
	munmap(memory, huge->size);
	if (result == STRESS_OK)
		stress_credit(path, 1, huge->size);
	return result;
}

static enum stress_result turn_hugetlb(struct stress_path *path)
{
	struct huge *huge = path->state;
	enum stress_result result;
	char count[32];

	snprintf(count, sizeof(count), "%" PRIu64, 1 + rng_below(&path->rng, BLOCKS));
	result = knob_set(path, &huge->pool, count);
	if (result == STRESS_OK && knob_number(huge->pool_file))
		result = use_hugetlb(path);
	knob_restore(path, &huge->pool);
	return path->result == STRESS_OK ? result : path->result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct huge *huge = path->state;
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	vmstat_begin(&huge->vmstat);
	result = path->variant == THP_PATH ? turn_thp(path) : turn_hugetlb(path);
	vmstat_end(&huge->vmstat);
	return result;
}

STRESS_MAIN("hugepage", NULL, STRESS_PATH("thp", THP_PATH), STRESS_PATH("hugetlb", HUGETLB_PATH))
