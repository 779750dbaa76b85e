// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Makes pages of a protected guest secure again and again while somebody else takes references to
 * them, drops them, or takes the pages away.
 *
 * arch/s390/kernel/uv.c make_secure_pte() (6.1) or make_folio_secure() (6.12) freezes a page's
 * references, that is sets their count to 0, for as long as the ultravisor takes, and then sets it
 * to what it was. It holds the lock of one page table only, and the page stays mapped. Who takes a
 * reference without owning one, or drops one that a page table's entry owned, may meet that 0: what
 * it adds or takes away is overwritten. Rivals, one for each path:
 *  - alone: nobody, as a control; or what runs beside the program.
 *  - touch: a thread for which the kernel touches the page itself, arch/s390/mm/fault.c
 *    do_secure_storage_access().
 *  - slow-gup: process_vm_readv(2) in a process with page tables of its own, mm/gup.c
 *    follow_page_pte().
 *  - fast-gup: vmsplice(2), mm/gup.c gup_pte_range() or gup_fast_pte_range(), and the slow path
 *    where that gives up.
 *  - pipe: splice(2) and tee(2), whose references each come from one that is held. A control.
 *  - unmap: a process that maps and unmaps the page, mm/memory.c zap_pte_range().
 *  - fork: processes that map the pages and end, mm/mmap.c exit_mmap().
 *  - punch, truncate: the pages go while they are secure, mm/shmem.c shmem_undo_range().
 *  - invalidate: direct writes to the file that is the guest's memory, of what it holds already:
 *    mm/truncate.c invalidate_inode_pages2_range() unmaps the pages and drops them.
 * The guest's memory is a memfd that is mapped shared, as with vhost-user or virtiofsd; for
 * invalidate a file on the disk of --dir.
 *
 * After each turn the rival rests and holds nothing. Then a page must have the content that it had,
 * or zeros where it was taken away, and nobody's reference but the page cache's: it can be made
 * secure. A page that cannot has a reference too many, or too few, which will not change any more.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "common.h"
#include "file.h"
#include "secure.h"
#include "settle.h"
#include "freeze.args.h"
#include "freeze-rival.h"

enum {
	TURN_MS = 100,
	MOST_IN_TURN = 256, /* pages made secure */
};

struct freeze {
	struct rival rival;
	size_t size;
	unsigned char *found;
	/* Of all turns. */
	uint64_t made, busy, gone, acts, refused;
};

static enum stress_result make_memory(struct stress_path *path, struct rival *rival, size_t size)
{
	struct stress_file file = STRESS_FILE_CLOSED;
	enum stress_result result;
	size_t alignment;

	if (rival->kind != INVALIDATE)
		return file_make_memfd(path, &rival->memfd, "guest", size);
	result = file_make(path, &rival->memfd, "guest", size);
	file.tag = "guest";
	file.fd = rival->memfd;
	return result == STRESS_OK ? file_direct(path, &file, &rival->direct, &alignment) : result;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct freeze *freeze = stress_alloc(sizeof(*freeze));
	struct rival *rival = &freeze->rival;
	enum stress_result result;

	path->state = freeze;
	*rival = (struct rival)RIVAL_CLOSED;
	rival->kind = path->variant;
	rival->pages = stress_number(ARG_PAGES);
	freeze->size = rival->pages * PAGE;
	freeze->found = stress_alloc(freeze->size);
	if (!stress_options.secure)
		return stress_skip(path, "without --secure there is no page to make secure");
	rival->shared = mmap(NULL, sizeof(*rival->shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rival->shared == MAP_FAILED) {
		rival->shared = NULL;
		return stress_error(path, "map memory to share");
	}
	result = make_memory(path, rival, freeze->size);
	if (result != STRESS_OK)
		return result;
	rival->bytes = secure_reserve(freeze->size);
	if (!rival->bytes || mmap(rival->bytes, freeze->size, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, rival->memfd, 0) == MAP_FAILED)
		return stress_error(path, "map the guest's memory");
	result = secure_guard(path, rival->bytes, freeze->size);
	if (result == STRESS_OK)
		result = settle_pages(path, rival->bytes, freeze->size);
	return result == STRESS_OK ? rival_start(path, rival) : result;
}

static void tear_down(struct stress_path *path)
{
	struct freeze *freeze = path->state;
	struct rival *rival = &freeze->rival;

	rival_stop(rival);
	if (path->turns)
		stress_note(path, "%llu times made secure, %llu times in use, %llu times gone; "
			    "%llu acts of others, %llu refused", (unsigned long long)freeze->made,
			    (unsigned long long)freeze->busy, (unsigned long long)freeze->gone,
			    (unsigned long long)freeze->acts, (unsigned long long)freeze->refused);
	if (rival->bytes)
		munmap(rival->bytes, freeze->size);
	if (rival->memfd >= 0)
		close(rival->memfd);
	if (rival->direct >= 0)
		close(rival->direct);
	if (rival->shared)
		munmap(rival->shared, sizeof(*rival->shared));
	free(freeze->found);
	free(freeze);
}

/* What the pages hold in this turn. */
static void renew(struct stress_path *path)
{
	struct freeze *freeze = path->state;
	unsigned char *model = freeze->rival.shared->model;

	pattern_fill(path->key, ++path->generation, model, freeze->size, 0);
	memcpy(freeze->rival.bytes, model, freeze->size);
}

/* A page in use stays as it is, and so does one that is not there at this moment. */
static enum stress_result make_secure(struct stress_path *path, uint64_t *made)
{
	struct freeze *freeze = path->state;
	uint64_t until = stress_now_ns() + TURN_MS * 1000000ULL;

	path->waits_for = "a page to become secure";
	for (int i = 0; i < MOST_IN_TURN && (i == 0 || stress_now_ns() < until); i++) {
		size_t offset = rng_below(&path->rng, freeze->rival.pages) * PAGE;
		int error = secure_page(freeze->rival.bytes + offset);

		if (!error) {
			(*made)++;
		} else if (error == EBUSY) {
			freeze->busy++;
		} else if (error == EFAULT && rival_takes_away(freeze->rival.kind)) {
			freeze->gone++;
		} else {
			errno = error;
			return stress_error(path, "make the page at %zu secure", offset);
		}
	}
	return STRESS_OK;
}

/* By way of the guest's page table, and of the page cache: it must be the same page. */
static enum stress_result check_content(struct stress_path *path)
{
	static const unsigned char zeros[MOST_PAGES * PAGE];
	struct freeze *freeze = path->state;
	struct rival *rival = &freeze->rival;
	const unsigned char *either = rival_cuts(rival->kind) ? zeros : NULL;
	ssize_t n;

	if (planted(path, 1)) /* a flipped bit */
		rival->bytes[freeze->size / 2] ^= 0x10;
	if (stress_compare(path, "mapping", rival->bytes, rival->shared->model, either,
			   freeze->size, 0) != STRESS_OK)
		return STRESS_FAIL;
	path->waits_for = "a read from the page cache";
	n = read_all(rival->memfd, freeze->found, freeze->size, 0);
	if (n < 0)
		return stress_error(path, "read the guest's memory");
	if ((size_t)n != freeze->size)
		return stress_wrong_number(path, "length", 0, freeze->size, n);
	return stress_compare(path, "pattern", freeze->found, rival->bytes, NULL, freeze->size, 0);
}

/* What is left when the rival rests. */
static enum stress_result check(struct stress_path *path)
{
	struct freeze *freeze = path->state;
	const struct iovec piece = { freeze->rival.bytes, 1 };
	enum stress_result result = STRESS_OK;
	int leak[2] = { -1, -1 };

	if (planted(path, 2) && /* a reference that is never given back */
	    (pipe2(leak, O_CLOEXEC) || vmsplice(leak[1], &piece, 1, 0) != 1))
		return stress_error(path, "plant a bug");
	if (check_content(path) != STRESS_OK)
		result = STRESS_FAIL;
	if (settle_pages(path, freeze->rival.bytes, freeze->size) != STRESS_OK)
		result = STRESS_FAIL;
	if (leak[0] >= 0) {
		close(leak[0]);
		close(leak[1]);
	}
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct freeze *freeze = path->state;
	enum stress_result result, rested;
	uint64_t made = 0;

	renew(path);
	result = rival_begin(path, &freeze->rival);
	if (result != STRESS_OK)
		return result;
	result = make_secure(path, &made);
	rested = rival_end(path, &freeze->rival);
	freeze->made += made;
	freeze->acts += freeze->rival.answer.acts;
	freeze->refused += freeze->rival.answer.refused;
	if (result != STRESS_OK || rested == STRESS_SKIP)
		return result != STRESS_OK ? result : rested;
	if (check(path) != STRESS_OK || rested != STRESS_OK)
		return STRESS_FAIL;
	stress_credit(path, made, freeze->size);
	return STRESS_OK;
}

STRESS_MAIN("freeze", NULL,
	    STRESS_PATH("alone", ALONE),
	    STRESS_PATH("touch", TOUCH),
	    STRESS_PATH("slow-gup", SLOW_GUP),
	    STRESS_PATH("fast-gup", FAST_GUP),
	    STRESS_PATH("pipe", PIPE),
	    STRESS_PATH("unmap", UNMAP),
	    STRESS_PATH("fork", FORK),
	    STRESS_PATH("punch", PUNCH),
	    STRESS_PATH("truncate", TRUNCATE),
	    STRESS_PATH("invalidate", INVALIDATE))
