// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has pages paged out or taken for cold that the workers are using.
 *
 * madvise(2) with MADV_PAGEOUT: mm/madvise.c madvise_cold_or_pageout_pte_range() isolates the
 * pages and gives them to mm/vmscan.c reclaim_pages() -> shrink_folio_list(), which unmaps each one
 * (try_to_unmap()) and has __remove_mapping() freeze its count; MADV_COLD only moves them to the
 * inactive list, so that references and the isolation from that list meet. Pages that are mapped
 * more than once are passed over, as are dirty ones of a disk's file.
 *  - cold, pageout: a range of a worker's own memory, by process_madvise(2).
 *  - files: a file that a worker has open, be it unlinked or a memfd, mapped here; so that pages go
 *    which the worker never maps but splices.
 *  - own: a mapped file of the program's own, whose content is checked when it comes back.
 * Anonymous and shmem pages go only where there is swap (see swap.c).
 */
#define _GNU_SOURCE
#include <sys/pidfd.h>
#include <sys/uio.h>

#include "interference.h"
#include "region.h"
#include "workers.h"
#include "pageout.args.h"

enum variant { COLD, PAGEOUT, FILES, OWN };

enum { OWN_PAGES = 128, WINDOW = 32 };

struct pageout {
	struct region region;
	struct vmstat vmstat;
	bool met; /* memory, or a file, of a worker's */
	/* Pages that were mapped before the acts, and those that were still afterwards. */
	unsigned long long present, stayed;
};

/* How many pages of a process's range are in its page table; 0 if it has gone. */
static unsigned int count_present(pid_t pid, const void *memory, size_t length)
{
	uint64_t entries[64], first = (uintptr_t)memory / PAGE, past = first + length / PAGE;
	unsigned int present = 0;
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/pagemap", (int)pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (first < past) {
		size_t wanted = past - first < 64 ? past - first : 64;
		ssize_t n = pread(fd, entries, wanted * sizeof(*entries), first * sizeof(*entries));

		if (n <= 0)
			break;
		/* Bit 63: Documentation/admin-guide/mm/pagemap.rst. */
		for (size_t i = 0; i < n / sizeof(*entries); i++)
			present += entries[i] >> 63;
		first += n / sizeof(*entries);
	}
	close(fd);
	return present;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct pageout *pageout = stress_alloc(sizeof(*pageout));
	enum stress_result result;

	path->state = pageout;
	pageout->region.fd = -1;
	pageout->vmstat.names = "pgdeactivate pswpout";
	if (path->variant == OWN)
		result = region_open(path, &pageout->region, FILE_BACKED, OWN_PAGES * PAGE);
	else
		result = workers_need(path, "cgroup.procs");
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct pageout *pageout = path->state;

	vmstat_note(path, &pageout->vmstat);
	if (pageout->present && path->variant != COLD)
		stress_note(path, "of %llu mapped pages %llu stayed", pageout->present,
			    pageout->stayed);
	if (path->variant != OWN)
		workers_missed(path, pageout->met,
			       path->variant == FILES ? "a process with a regular file open"
						      : "a process with memory");
	region_close(&pageout->region);
	free(pageout);
}

/* A random mapping of a process, cut to --size bytes at a random place; false if there is none. */
static bool choose_range(struct stress_path *path, pid_t pid, struct iovec *range)
{
	uint64_t from, to, size = stress_number(ARG_SIZE), seen = 1;
	char line[PATH_MAX], name[32];
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	maps = fopen(name, "re");
	if (!maps)
		return false;
	range->iov_len = 0;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2 &&
		    rng_one_in(&path->rng, seen++)) {
			range->iov_base = (void *)(uintptr_t)from;
			range->iov_len = to - from;
		}
	fclose(maps);
	if (range->iov_len > size) {
		range->iov_base = (char *)range->iov_base +
				  rng_offset(&path->rng, range->iov_len, size, PAGE);
		range->iov_len = size;
	}
	return range->iov_len;
}

static enum stress_result advise_worker(struct stress_path *path, pid_t pid)
{
	struct iovec range;
	int pidfd = pidfd_open(pid, 0), error;
	struct pageout *pageout = path->state;
	ssize_t n;

	if (pidfd < 0 && errno != ESRCH)
		return stress_error(path, "open process %d", (int)pid);
	if (pidfd < 0 || !choose_range(path, pid, &range)) {
		if (pidfd >= 0)
			close(pidfd);
		return STRESS_OK;
	}
	pageout->met = true;
	path->waits_for = "process_madvise";
	pageout->present += count_present(pid, range.iov_base, range.iov_len);
	vmstat_begin(&pageout->vmstat);
	n = process_madvise(pidfd, &range, 1, path->variant == COLD ? MADV_COLD : MADV_PAGEOUT, 0);
	error = errno;
	vmstat_end(&pageout->vmstat);
	pageout->stayed += count_present(pid, range.iov_base, range.iov_len);
	close(pidfd);
	if (n >= 0) {
		stress_credit(path, 1, n);
		return STRESS_OK;
	}
	/* A mapping that is none of pages, one that has gone, a process that has. */
	if (error == EINVAL || error == ENOMEM || error == ESRCH)
		return STRESS_OK;
	errno = error;
	return stress_error(path, "advise %zu bytes of process %d", range.iov_len, (int)pid);
}

/* Writes the range back first: dirty pages of a disk's file are left to the flusher. */
static enum stress_result page_out(struct stress_path *path, int fd, uint64_t offset,
				   unsigned char *memory, size_t length)
{
	const unsigned int all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				 SYNC_FILE_RANGE_WAIT_AFTER;
	struct pageout *pageout = path->state;

	path->waits_for = "writeback";
	if (sync_file_range(fd, offset, length, all))
		return stress_error(path, "write back %zu bytes", length);
	path->waits_for = "madvise(MADV_PAGEOUT)";
	pageout->present += count_present(getpid(), memory, length);
	vmstat_begin(&pageout->vmstat);
	if (madvise(memory, length, MADV_PAGEOUT))
		return stress_error(path, "page out %zu bytes", length);
	vmstat_end(&pageout->vmstat);
	pageout->stayed += count_present(getpid(), memory, length);
	return STRESS_OK;
}

static enum stress_result page_out_file(struct stress_path *path, pid_t pid)
{
	struct pageout *pageout = path->state;
	struct worker_range range;
	enum stress_result result, unmapped;

	result = workers_map(path, &range, pid, stress_number(ARG_SIZE));
	if (result != STRESS_OK || !range.memory)
		return result;
	pageout->met = true;
	result = page_out(path, range.fd, range.offset, range.memory, range.length);
	unmapped = workers_unmap(path, &range);
	if (result == STRESS_OK)
		result = unmapped;
	if (result == STRESS_OK)
		stress_credit(path, 1, range.length);
	return result;
}

static enum stress_result page_out_own(struct stress_path *path, struct region *region)
{
	size_t first = region_choose(path, region, WINDOW);
	enum stress_result result;

	region_renew(path, region, first, WINDOW);
	result = page_out(path, region->fd, first * PAGE, region->memory + first * PAGE,
			  WINDOW * PAGE);
	if (result == STRESS_OK)
		result = region_verify(path, region, "paged-out", first, WINDOW);
	if (result == STRESS_OK)
		stress_credit(path, 1, WINDOW * PAGE);
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct pageout *pageout = path->state;
	pid_t pid;

	pace(stress_number(ARG_RATE));
	if (path->variant == OWN)
		return page_out_own(path, &pageout->region);
	pid = workers_choose(path);
	if (!pid)
		return STRESS_OK;
	return path->variant == FILES ? page_out_file(path, pid) : advise_worker(path, pid);
}

STRESS_MAIN("pageout", NULL,
	    STRESS_PATH("cold", COLD),
	    STRESS_PATH("pageout", PAGEOUT),
	    STRESS_PATH("files", FILES),
	    STRESS_PATH("own", OWN))
