/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whether nobody holds a reference to pages of a guest's memory any more, but for the page cache:
 * they can be made secure then. What is left too many will not change any more.
 */
#ifndef FARM_STRESS_SETTLE_H
#define FARM_STRESS_SETTLE_H

#include <errno.h>

#include "common.h"
#include "secure.h"

enum {
	SETTLE_PAGE = 4096,
	/*
	 * For all pages at the end of a turn: what runs beside the program may have isolated some,
	 * to migrate or reclaim them.
	 */
	SETTLE_MS = 4000,
};

/* Nobody's reference but the page cache's, at the latest `until` then; offset is for the report. */
static inline enum stress_result settle_page(struct stress_path *path, const unsigned char *page,
					     size_t offset, uint64_t until)
{
	int error, references;

	path->waits_for = "a page to become secure";
	do
		error = secure_page(page);
	while (error == EBUSY && stress_now_ns() < until);
	if (!error)
		return STRESS_OK;
	errno = error;
	if (error != EBUSY)
		return stress_error(path, "make the page at %zu secure", offset);
	error = secure_references(page, &references);
	if (error == EFAULT) {
		/* GUP wants one to be there, and that of the mapping would be. */
		stress_note(path, "the page at %zu has lost even its mapping's reference", offset);
		return stress_wrong_number(path, "references", offset, 1, 0);
	}
	if (error || references == 1)
		return stress_error(path, "make the page at %zu secure, which nobody uses", offset);
	return stress_wrong_number(path, "references", offset, 1, references);
}

/* All pages of a range that begins with one, so that each one that is stuck is told. */
static inline enum stress_result settle_pages(struct stress_path *path, const unsigned char *bytes,
					      size_t size)
{
	uint64_t until = stress_now_ns() + SETTLE_MS * 1000000ULL;
	enum stress_result result = STRESS_OK;

	for (size_t offset = 0; offset < size; offset += SETTLE_PAGE)
		if (settle_page(path, bytes + offset, offset, until) != STRESS_OK)
			result = STRESS_FAIL;
	return result;
}

#endif
