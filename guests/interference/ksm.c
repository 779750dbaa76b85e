// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has equal pages merged, writes to them, and has them unmerged.
 *
 * madvise(2) with MADV_MERGEABLE puts memory under the eyes of ksmd: mm/ksm.c
 * try_to_merge_one_page() write-protects a page (write_protect_page()) and lets the page table
 * point to one shared copy (replace_page()). What that does to references: write_protect_page()
 * compares the page's count with its mappings and must give up where somebody else, a pipe or
 * direct I/O, holds a reference; a store to a merged page breaks the sharing (do_wp_page()), as
 * does 2 written to /sys/kernel/mm/ksm/run for all pages at once
 * (unmerge_and_remove_all_rmap_items()).
 *
 * Page i belongs to class i % CLASSES, whose pages hold the same content. Each turn gives one class
 * a new content, and lends another one to a pipe (vmsplice(2)) while ksmd goes about; then both
 * must still hold what was written, in memory and in the pipe.
 *
 * With --secure the memory becomes an emulated protected guest's once it has been offered for
 * merging. As KVM does, the kernel then takes the offer back (arch/s390/mm/gmap.c
 * s390_enable_sie() or gmap_mark_unmergeable(), 6.12 s390_disable_cow_sharing()): a secure page
 * has no content that ksmd could compare, so that none may be merged any more.
 */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "interference.h"
#include "region.h"
#include "ksm.args.h"

#define KSM "/sys/kernel/mm/ksm/"
/* Pages of this process that are merged. */
#define MERGED "/proc/self/ksm_merging_pages"

enum {
	CLASSES = 32,
	COPIES = 16, /* of each class: as many as a pipe takes */
	SLEEP_MS = 20,
};

struct merging {
	struct knob run, pages_to_scan, sleep_ms;
	unsigned char *memory, *want;
	uint32_t generations[CLASSES];
	int pipe[2];
	uint64_t most_shared;
	struct vmstat vmstat;
};

static unsigned char *page_of(const struct merging *merging, size_t class, size_t copy)
{
	return merging->memory + (copy * CLASSES + class) * PAGE;
}

static void renew(struct stress_path *path, size_t class)
{
	struct merging *merging = path->state;

	merging->generations[class] = ++path->generation;
	pattern_fill(path->key, path->generation, merging->want, PAGE, class * PAGE);
	path->waits_for = "a store to its memory";
	for (size_t copy = 0; copy < COPIES; copy++)
		if (!planted(path, 2) || copy) /* else one page keeps its old content */
			memcpy(page_of(merging, class, copy), merging->want, PAGE);
}

static enum stress_result secure(struct stress_path *path, size_t class)
{
	struct merging *merging = path->state;
	enum stress_result result = STRESS_OK;

	for (size_t copy = 0; copy < COPIES && result == STRESS_OK; copy++)
		result = secure_pages(path, page_of(merging, class, copy), PAGE);
	return result;
}

static enum stress_result set_knobs(struct stress_path *path)
{
	struct merging *merging = path->state;
	enum stress_result result;
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, stress_number(ARG_SCAN));
	result = knob_set(path, &merging->pages_to_scan, text);
	snprintf(text, sizeof(text), "%d", SLEEP_MS);
	if (result == STRESS_OK)
		result = knob_set(path, &merging->sleep_ms, text);
	if (result == STRESS_OK)
		result = knob_set(path, &merging->run, "1");
	return result;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct merging *merging = stress_alloc(sizeof(*merging));
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *memory = NULL;

	path->state = merging;
	*merging = (struct merging){
		.run.name = KSM "run",
		.pages_to_scan.name = KSM "pages_to_scan",
		.sleep_ms.name = KSM "sleep_millisecs",
		.pipe = { -1, -1 },
		.vmstat.names = "cow_ksm",
	};
	if (access(KSM "run", W_OK))
		return stress_skip(path, "no " KSM "run here: %m");
	if (pipe2(merging->pipe, O_CLOEXEC))
		return stress_error(path, "make a pipe");
	if (stress_options.secure)
		memory = secure_reserve(CLASSES * COPIES * PAGE);
	flags |= memory ? MAP_FIXED : 0;
	memory = mmap(memory, CLASSES * COPIES * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory == MAP_FAILED)
		return stress_error(path, "map %d pages", CLASSES * COPIES);
	merging->memory = memory;
	merging->want = stress_alloc(PAGE);
	for (size_t class = 0; class < CLASSES; class++)
		renew(path, class);
	if (madvise(memory, CLASSES * COPIES * PAGE, MADV_MERGEABLE))
		return stress_error(path, "offer %d pages for merging", CLASSES * COPIES);
	if (stress_options.secure &&
	    secure_guard(path, memory, CLASSES * COPIES * PAGE) != STRESS_OK)
		return STRESS_FAIL;
	vmstat_begin(&merging->vmstat);
	return set_knobs(path);
}

static void tear_down(struct stress_path *path)
{
	struct merging *merging = path->state;

	vmstat_end(&merging->vmstat);
	vmstat_note(path, &merging->vmstat);
	if (path->result != STRESS_SKIP)
		stress_note(path, "at most %" PRIu64 " pages merged away", merging->most_shared);
	if (merging->memory)
		munmap(merging->memory, CLASSES * COPIES * PAGE);
	knob_restore(path, &merging->run);
	knob_restore(path, &merging->sleep_ms);
	knob_restore(path, &merging->pages_to_scan);
	for (int i = 0; i < 2; i++)
		if (merging->pipe[i] >= 0)
			close(merging->pipe[i]);
	free(merging->want);
	free(merging);
}

static enum stress_result compare(struct stress_path *path, const char *check, size_t class,
				  size_t copy, const unsigned char *got)
{
	struct merging *merging = path->state;

	pattern_fill(path->key, merging->generations[class], merging->want, PAGE, class * PAGE);
	return stress_compare(path, check, got, merging->want, NULL, PAGE,
			      (copy * CLASSES + class) * PAGE);
}

static enum stress_result verify(struct stress_path *path, size_t class)
{
	struct merging *merging = path->state;
	enum stress_result result = STRESS_OK;

	path->waits_for = "a load from its memory";
	if (planted(path, 1)) /* a flipped bit */
		*page_of(merging, class, COPIES - 1) ^= 0x10;
	for (size_t copy = 0; copy < COPIES && result == STRESS_OK; copy++)
		result = compare(path, "merged", class, copy, page_of(merging, class, copy));
	return result;
}

/* The pipe holds references to the pages, not their content. */
static enum stress_result lend(struct stress_path *path, size_t class)
{
	struct merging *merging = path->state;

	path->waits_for = "vmsplice";
	for (size_t copy = 0; copy < COPIES; copy++) {
		struct iovec page = { .iov_base = page_of(merging, class, copy), .iov_len = PAGE };
		ssize_t n = vmsplice(merging->pipe[1], &page, 1, SPLICE_F_NONBLOCK);

		if (n < 0)
			return stress_error(path, "lend page %zu of %d to a pipe", copy + 1,
					    COPIES);
		if (n != PAGE)
			return stress_wrong_number(path, "length", copy * PAGE, PAGE, n);
	}
	return STRESS_OK;
}

static enum stress_result take_back(struct stress_path *path, size_t class)
{
	struct merging *merging = path->state;
	enum stress_result result = STRESS_OK;
	unsigned char got[PAGE];

	path->waits_for = "a read from the pipe";
	for (size_t copy = 0; copy < COPIES && result == STRESS_OK; copy++) {
		ssize_t n = read(merging->pipe[0], got, PAGE);

		if (n < 0)
			return stress_error(path, "read the pipe");
		if (n != PAGE)
			return stress_wrong_number(path, "length", copy * PAGE, PAGE, n);
		if (planted(path, 3)) /* the pipe has another page */
			memcpy(got, page_of(merging, (class + 1) % CLASSES, copy), PAGE);
		result = compare(path, "lent", class, copy, got);
	}
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct merging *merging = path->state;
	size_t written = rng_below(&path->rng, CLASSES);
	size_t lent = (written + 1 + rng_below(&path->rng, CLASSES - 1)) % CLASSES;
	enum stress_result result;
	uint64_t shared, merged;

	renew(path, written);
	result = secure(path, written);
	if (result == STRESS_OK)
		result = lend(path, lent);
	if (result != STRESS_OK)
		return result;
	pace(stress_number(ARG_RATE)); /* ksmd's time */
	if (rng_one_in(&path->rng, 16))
		result = knob_set(path, &merging->run, "2");
	if (result == STRESS_OK && stress_options.secure && (merged = knob_number(MERGED)))
		return stress_wrong_number(path, "merged", 0, 0, merged);
	if (result == STRESS_OK)
		result = take_back(path, lent);
	if (result == STRESS_OK)
		result = verify(path, lent);
	if (result == STRESS_OK)
		result = verify(path, written);
	if (result == STRESS_OK)
		result = knob_set(path, &merging->run, "1");
	if (result != STRESS_OK)
		return result;
	shared = knob_number(KSM "pages_sharing");
	if (shared > merging->most_shared)
		merging->most_shared = shared;
	stress_credit(path, 1, 3 * COPIES * PAGE);
	return STRESS_OK;
}

STRESS_MAIN("ksm", NULL, STRESS_PATH("ksm", 0))
