// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Makes pages secure whose file keeps them in large folios, as XFS does: the memory of a protected
 * guest that lies in such a file, mapped shared.
 *
 * Only a page by itself can be secure, so that arch/s390/kernel/uv.c has to split the folio first.
 * A guest's page has to be writable, and with it the folio is dirty; where a file system keeps
 * notes of dirty parts (fs/iomap/buffered-io.c, iomap_folio_state), mm/huge_memory.c
 * split_huge_page_to_list() can't split it before it was written back. What becomes of it:
 *  - 6.1 gmap_make_secure(): refused, EINVAL.
 *  - 6.12 gmap_make_secure(): tries for ever to split a folio that stays dirty.
 *  - 6.16 s390_wiggle_split_folio(): written back, then split.
 * Folios come from:
 *  - written: fs/iomap/buffered-io.c iomap_write_begin(), large ones since 6.6;
 *  - read: mm/readahead.c page_cache_ra_order().
 *
 * Nobody else uses the pages, so each must become secure in the end, and none may change a byte;
 * small folios, which other file systems have, as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common.h"
#include "file.h"
#include "folio.args.h"
#include "secure.h"

enum variant { WRITTEN, READ };

enum {
	PAGE = 4096,
	CHUNK = 16 * PAGE, /* written at once, and from where it may become a folio */
	MOST_CHUNKS = 2,   /* in a turn */
	LEAST_TRIES = 20,  /* for a page, */
	PATIENCE_MS = 1000, /* and at least so long */
};

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_PFN ((1ULL << 55) - 1)
#define KPF_COMPOUND (1ULL << 15 | 1ULL << 16) /* head, tail */

struct folios {
	struct stress_file file;
	int pagemap, kpageflags;
	uint64_t large, made;
};

static enum stress_result set_up(struct stress_path *path)
{
	struct folios *folios = stress_alloc(sizeof(*folios));
	struct stress_file *file = &folios->file;
	const uint64_t size = round_down(stress_number(ARG_FILE_SIZE), CHUNK);
	enum stress_result result;
	void *place;

	path->state = folios;
	*folios = (struct folios){ .file = STRESS_FILE_CLOSED, .pagemap = -1, .kpageflags = -1 };
	if (!stress_options.secure)
		return stress_skip(path, "without --secure there is no page to make secure");
	folios->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	folios->kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (folios->pagemap < 0 || folios->kpageflags < 0)
		return stress_error(path, "open /proc/self/pagemap and /proc/kpageflags");
	result = file_open(path, file, "guest", size);
	if (result != STRESS_OK)
		return result;
	place = secure_reserve(size);
	if (!place || mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file->fd,
			   0) == MAP_FAILED)
		return stress_error(path, "map the guest's memory");
	file->guest = place;
	return secure_guard(path, place, size);
}

static void tear_down(struct stress_path *path)
{
	struct folios *folios = path->state;

	if (path->turns)
		stress_note(path, "%llu pages made secure; %llu were in large folios before",
			    (unsigned long long)folios->made, (unsigned long long)folios->large);
	file_close(&folios->file);
	if (folios->pagemap >= 0)
		close(folios->pagemap);
	if (folios->kpageflags >= 0)
		close(folios->kpageflags);
	free(folios);
}

/* Out of the guest's page table and of the page cache, so that new folios are made. */
static enum stress_result drop(struct stress_path *path, struct stress_file *file)
{
	if (madvise(file->guest, file->size, MADV_DONTNEED))
		return stress_error(path, "unmap the guest's memory");
	return file_evict(path, file, 0, file->size);
}

/* New data, in folios as they come from there. */
static enum stress_result fill(struct stress_path *path, struct stress_file *file, uint64_t offset,
			       size_t length)
{
	enum stress_result result = drop(path, file);

	file_renew_model(path, file, offset, length);
	for (size_t done = 0; result == STRESS_OK && done < length; done += CHUNK)
		result = file_write(path, file, offset + done, CHUNK);
	if (path->variant == WRITTEN || result != STRESS_OK)
		return result;
	result = drop(path, file);
	path->waits_for = "readahead";
	/* Folios grow while a file is read from its beginning. */
	for (uint64_t at = 0; result == STRESS_OK && at < file->size; at += PAGE)
		if (read_all(file->fd, file->scratch, PAGE, at) != PAGE)
			result = stress_error(path, "read at %llu", (unsigned long long)at);
	return result;
}

/* Whether the page, which is mapped, belongs to a large folio. */
static enum stress_result ask_large(struct stress_path *path, const unsigned char *page,
				    bool *large)
{
	const struct folios *folios = path->state;
	uint64_t entry, flags;

	*(const volatile unsigned char *)page;
	if (pread(folios->pagemap, &entry, 8, (uintptr_t)page / PAGE * 8) != 8 ||
	    !(entry & PAGEMAP_PRESENT))
		return stress_error(path, "ask where a page is");
	if (pread(folios->kpageflags, &flags, 8, (entry & PAGEMAP_PFN) * 8) != 8)
		return stress_error(path, "ask for a page's flags");
	*large = flags & KPF_COMPOUND;
	return STRESS_OK;
}

static enum stress_result count_large(struct stress_path *path, const unsigned char *bytes,
				      size_t length, uint64_t *count)
{
	for (size_t at = 0; at < length; at += PAGE) {
		enum stress_result result;
		bool large = false;

		result = ask_large(path, bytes + at, &large);
		if (result != STRESS_OK)
			return result;
		*count += large;
	}
	return STRESS_OK;
}

/* As often as it takes, up to a limit, on a slow host too; EINVAL is the kernel's last word. */
static int make_secure(const unsigned char *page)
{
	uint64_t until = stress_now_ns() + PATIENCE_MS * 1000000ULL;
	unsigned int tries = 0;
	int error;

	do
		error = secure_page(page);
	while (error == EBUSY && (++tries < LEAST_TRIES || stress_now_ns() < until));
	return error;
}

static enum stress_result make_all_secure(struct stress_path *path, uint64_t offset, size_t length)
{
	struct folios *folios = path->state;

	path->waits_for = "a page to become secure";
	for (size_t at = 0; at < length; at += PAGE) {
		int error = make_secure(folios->file.guest + offset + at);

		if (error == EBUSY || error == EINVAL) {
			stress_note(path, "the page at %llu, which nobody uses, is not made secure: %s",
				    (unsigned long long)(offset + at), strerror(error));
			return stress_wrong_number(path, "secure", offset, length / PAGE, at / PAGE);
		}
		errno = error;
		if (error)
			return stress_error(path, "make a page secure");
		folios->made++;
	}
	return STRESS_OK;
}

static enum stress_result turn(struct stress_path *path)
{
	struct folios *folios = path->state;
	struct stress_file *file = &folios->file;
	size_t length = CHUNK * (1 + rng_below(&path->rng, MOST_CHUNKS));
	uint64_t offset = rng_offset(&path->rng, file->size, length, CHUNK);
	unsigned char *bytes = file->guest + offset;
	struct iovec piece = { bytes + length - PAGE, 1 };
	int leak[2] = { -1, -1 };
	enum stress_result result = fill(path, file, offset, length);
	uint64_t large = 0;

	if (result == STRESS_OK)
		result = count_large(path, bytes, length, &large);
	if (result != STRESS_OK)
		return result;
	folios->large += large;
	if (planted(path, 1)) /* a reference that is never given back */
		if (pipe2(leak, O_CLOEXEC) || vmsplice(leak[1], &piece, 1, 0) != 1)
			return stress_error(path, "plant a bug");
	result = make_all_secure(path, offset, length);
	if (planted(path, 2)) /* a flipped bit */
		bytes[length / 2] ^= 0x10;
	/* Both ways, whatever became of it. */
	if (file_compare(path, file, "mapping", bytes, offset, offset + length, offset, length) |
	    file_verify(path, file, "pattern", offset, length))
		result = STRESS_FAIL;
	if (result == STRESS_OK)
		stress_credit(path, length / PAGE, length);
	return result;
}

STRESS_MAIN("folio", NULL, STRESS_PATH("written", WRITTEN), STRESS_PATH("read", READ))
