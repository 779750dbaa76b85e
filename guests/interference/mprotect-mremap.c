// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Flips the protection of mapped memory and moves it back and forth, under the eyes of a second
 * thread.
 *
 * mprotect(2) -> mm/mprotect.c change_pte_range() and mremap(2) -> mm/mremap.c move_page_tables()
 * take page-table entries away and put others in their place, while the pages stay. What that does
 * to references: mm/gup.c takes them from such entries. The lockless walk must see that an entry
 * changed after it had raised the count, and drop it again (gup_pte_range(), 6.12
 * gup_fast_pte_range()); the walk under the page-table lock (follow_page_pte()) must find the page
 * or none.
 *
 * The second thread reads the window through process_vm_readv(2), at its home and at the place it
 * is moved to, all the while: it gets EFAULT or the right bytes.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "interference.h"
#include "peer.h"
#include "region.h"
#include "mprotect-mremap.args.h"

enum { WINDOW = 16, MAX_FLIPS = 8 };

struct flipping {
	struct region region;
	unsigned char *away; /* where the window is moved to; reserved */
	struct helper reader;
	size_t first;	/* of the window */
	atomic_bool over;
	unsigned char *want, *got;
	size_t received; /* by the last read */
	bool wrong;	 /* it has other bytes than the window */
	int read_error;
	unsigned int reads, faults;
};

static bool read_once(struct flipping *flipping, unsigned char *from)
{
	struct iovec local = { .iov_base = flipping->got, .iov_len = WINDOW * PAGE };
	struct iovec remote = { .iov_base = from, .iov_len = WINDOW * PAGE };
	ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	if (n < 0 && errno != EFAULT) {
		flipping->read_error = errno;
		return false;
	}
	if (n <= 0) {
		flipping->faults++;
		return true;
	}
	flipping->reads++;
	if (STRESS_PLANT == 4) /* foreign data */
		flipping->got[0] ^= 0x10;
	flipping->received = n;
	flipping->wrong = !stress_right(flipping->got, flipping->want, NULL, n);
	return !flipping->wrong;
}

/* Beside the flips. */
static void read_window(void *argument)
{
	struct flipping *flipping = argument;
	unsigned char *home = flipping->region.memory + flipping->first * PAGE;

	do {
		if (!read_once(flipping, home) || !read_once(flipping, flipping->away))
			return;
		/* The other thread, and the workers, may share this CPU. */
		sched_yield();
	} while (!atomic_load(&flipping->over));
}

static void *reserve(void *at, int flags)
{
	return mmap(at, WINDOW * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static enum stress_result set_up(struct stress_path *path)
{
	struct flipping *flipping = stress_alloc(sizeof(*flipping));
	enum stress_result result;
	void *away;

	path->state = flipping;
	result = region_open(path, &flipping->region, path->variant, stress_number(ARG_MEMORY));
	if (result != STRESS_OK)
		return result;
	away = reserve(NULL, 0);
	if (away == MAP_FAILED)
		return stress_error(path, "reserve %d pages", WINDOW);
	flipping->away = away;
	flipping->want = stress_alloc(WINDOW * PAGE);
	flipping->got = stress_alloc(WINDOW * PAGE);
	return helper_start(path, &flipping->reader, read_window, flipping);
}

static void tear_down(struct stress_path *path)
{
	struct flipping *flipping = path->state;

	helper_stop(&flipping->reader);
	if (flipping->reads)
		stress_note(path, "%u reads beside the flips, %u faults", flipping->reads,
			    flipping->faults);
	if (flipping->away)
		munmap(flipping->away, WINDOW * PAGE);
	region_close(&flipping->region);
	free(flipping->want);
	free(flipping->got);
	free(flipping);
}

static enum stress_result flip_protection(struct stress_path *path, unsigned char *memory)
{
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int protection = protections[rng_below(&path->rng, 3)];

	path->waits_for = "mprotect";
	if (mprotect(memory, WINDOW * PAGE, protection))
		return stress_error(path, "change the protection of %d pages", WINDOW);
	if (mprotect(memory, WINDOW * PAGE, PROT_READ | PROT_WRITE))
		return stress_error(path, "restore the protection of %d pages", WINDOW);
	return STRESS_OK;
}

/* Moves the window and reserves the place that it has left. */
static enum stress_result move(struct stress_path *path, unsigned char *from, unsigned char *to)
{
	path->waits_for = "mremap";
	if (mremap(from, WINDOW * PAGE, WINDOW * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return stress_error(path, "move %d pages", WINDOW);
	if (reserve(from, MAP_FIXED_NOREPLACE) != from)
		return stress_error(path, "reserve the place of %d pages", WINDOW);
	return STRESS_OK;
}

static enum stress_result flip(struct stress_path *path, unsigned char *home)
{
	struct flipping *flipping = path->state;
	enum stress_result result;

	if (rng_one_in(&path->rng, 2))
		return flip_protection(path, home);
	result = move(path, home, flipping->away);
	return result == STRESS_OK ? move(path, flipping->away, home) : result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct flipping *flipping = path->state;
	struct region *region = &flipping->region;
	size_t first = region_choose(path, region, WINDOW);
	unsigned int flips = 1 + rng_below(&path->rng, MAX_FLIPS);
	enum stress_result result = STRESS_OK;

	pace(stress_number(ARG_RATE));
	region_renew(path, region, first, WINDOW);
	for (size_t i = 0; i < WINDOW; i++)
		memcpy(flipping->want + i * PAGE, region_want(path, region, first + i), PAGE);
	flipping->first = first;
	atomic_store(&flipping->over, false);
	helper_order(&flipping->reader);
	for (unsigned int i = 0; i < flips && result == STRESS_OK; i++)
		result = flip(path, region->memory + first * PAGE);
	atomic_store(&flipping->over, true);
	path->waits_for = "the reading thread";
	helper_wait(&flipping->reader);
	if (result != STRESS_OK)
		return result;
	if (flipping->read_error) {
		errno = flipping->read_error;
		return stress_error(path, "read beside the flips");
	}
	if (flipping->wrong)
		return stress_compare(path, "beside", flipping->got, flipping->want, NULL,
				      flipping->received, first * PAGE);
	result = region_verify(path, region, "flipped", first, WINDOW);
	if (result == STRESS_OK)
		stress_credit(path, flips, WINDOW * PAGE);
	return result;
}

STRESS_MAIN("mprotect-mremap", NULL,
	    STRESS_PATH("anonymous", ANONYMOUS),
	    STRESS_PATH("shmem", SHMEM),
	    STRESS_PATH("file", FILE_BACKED))
