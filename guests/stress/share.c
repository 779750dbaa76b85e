// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Reads the file of the machine's share, by 9p over virtio, into memory of several kinds.
 *
 * fs/9p/vfs_file.c v9fs_file_read_iter(), on a mount without a cache
 *  - until 6.7 -> net/9p/client.c p9_client_read(), on the caller's own pages;
 *  - since 6.8 -> fs/netfs/direct_read.c netfs_unbuffered_read_iter(), which first pins them
 *    (fs/netfs/iterator.c netfs_extract_user_iter(), FOLL_PIN) -> fs/9p/vfs_addr.c
 *    v9fs_issue_read() -> p9_client_read().
 * There p9_client_read_once() copies up to 1,024 bytes. More go without a copy: p9_client_zc_rpc()
 * -> net/9p/trans_virtio.c p9_virtio_zc_request() -> p9_get_mapped_pages(), which takes references
 * by iov_iter_get_pages_alloc2() (FOLL_GET where the pages are the caller's), and
 * virtqueue_add_sgs() gives the pages to the device.
 *  - anonymous: into private anonymous memory.
 *  - memfd-buffer: into a shared mapping of a memfd, shmem pages.
 * Reads are pread(2), preadv(2) and pread(2) with O_DIRECT, by turns, and at times go beyond the
 * end of the file.
 *
 * Oracle. Nobody writes to the file, and each of its bytes follows from its offset
 * (orchestrator/src/guest/share.rs). Every byte that was read, those beside it in memory, and what
 * a memfd holds then, are checked.
 */
#define _GNU_SOURCE
#include "buffer.h"
#include "common.h"
#include "file.h"
#include "memory.h"
#include "share.args.h"

enum { FILE_SIZE = 1 << 20, LINE = 8 };

struct area {
	int fd, direct;
	unsigned char *model; /* of the file */
	struct buffer buffer;
	unsigned int ops; /* calls that moved data in this turn */
};

static enum stress_result open_file(struct stress_path *path, int *fd, int flags)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s/lines", stress_options.dir) >= (int)sizeof(name)) {
		errno = ENAMETOOLONG;
		return stress_error(path, "open lines in %s", stress_options.dir);
	}
	*fd = open(name, O_RDONLY | O_CLOEXEC | flags);
	return *fd < 0 ? stress_error(path, "open %s", name) : STRESS_OK;
}

static void fill_model(unsigned char *model)
{
	char line[16];

	for (unsigned int number = 0; number < FILE_SIZE / LINE; number++) {
		snprintf(line, sizeof(line), "%07u\n", number);
		memcpy(model + number * LINE, line, LINE);
	}
}

static enum stress_result set_up(struct stress_path *path)
{
	struct area *area = stress_alloc(sizeof(*area));
	enum stress_result result;

	path->state = area;
	*area = (struct area){ .fd = -1, .direct = -1, .buffer = BUFFER_CLOSED };
	area->model = stress_alloc(FILE_SIZE);
	fill_model(area->model);
	result = open_file(path, &area->fd, 0);
	if (result == STRESS_OK)
		result = open_file(path, &area->direct, O_DIRECT);
	if (result == STRESS_OK)
		result = buffer_open(path, &area->buffer, path->variant,
				     stress_number(ARG_MAX_LENGTH));
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct area *area = path->state;

	buffer_close(&area->buffer);
	if (area->direct >= 0)
		close(area->direct);
	if (area->fd >= 0)
		close(area->fd);
	free(area->model);
	free(area);
}

static ssize_t read_once(struct stress_path *path, const struct area *area, unsigned char *memory,
			 size_t length, uint64_t offset)
{
	struct iovec iov[MAX_PIECES];

	switch (rng_below(&path->rng, 3)) {
	case 0:
		return pread(area->fd, memory, length, offset);
	case 1:
		return preadv(area->fd, iov, split_range(path, iov, memory, length, 1), offset);
	default:
		return pread(area->direct, memory, length, offset);
	}
}

/* Reads the range, or what of it lies before the end of the file; -1 with errno. */
static ssize_t read_range(struct stress_path *path, struct area *area, unsigned char *memory,
			  size_t length, uint64_t offset)
{
	size_t done = 0;

	path->waits_for = "a read from the share";
	while (done < length) {
		ssize_t n = read_once(path, area, memory + done, length - done, offset + done);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		area->ops++;
		done += n;
	}
	return done;
}

/* The same, as a broken kernel might do it. */
static ssize_t read_planted(struct stress_path *path, struct area *area, unsigned char *memory,
			    size_t length, uint64_t offset)
{
	ssize_t n;

	if (planted(path, 3)) /* reads from the wrong place */
		offset += offset < LINE ? LINE : -LINE;
	n = read_range(path, area, memory, length, offset);
	if (n <= 0)
		return n;
	if (planted(path, 1)) /* a flipped bit */
		memory[n / 2] ^= 0x10;
	if (planted(path, 2)) /* one byte too many */
		memory[n] ^= 0x10;
	if (planted(path, 4)) /* a byte that never came */
		memory[n - 1] = POISON;
	if (planted(path, 5)) /* too early an end */
		n--;
	return n;
}

static enum stress_result turn(struct stress_path *path)
{
	struct area *area = path->state;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	bool beyond = rng_one_in(&path->rng, 8);
	uint64_t offset = beyond ? FILE_SIZE - 1 - rng_below(&path->rng, length) :
				   rng_offset(&path->rng, FILE_SIZE, length, 1);
	size_t want = FILE_SIZE - offset < length ? FILE_SIZE - offset : length;
	unsigned char *memory = buffer_room(path, &area->buffer, length, 1);
	const unsigned char *model = area->model + offset;
	enum stress_result result;
	ssize_t n;

	path->generation++;
	area->ops = 0;
	memory_poison(memory, length);
	result = memory_prepare(path, &area->buffer.memory, memory, length);
	if (result != STRESS_OK)
		return result;
	n = read_planted(path, area, memory, length, offset);
	if (n < 0)
		return stress_error(path, "read %zu bytes at %llu", length,
				    (unsigned long long)offset);
	if ((size_t)n != want)
		return stress_wrong_number(path, "length", offset, want, n);
	/* No short circuit: every damage is to be reported. */
	if (stress_compare(path, "pattern", memory, model, NULL, want, offset) |
	    memory_check_neighbours(path, memory, want, offset))
		return STRESS_FAIL;
	result = buffer_check_mapped(path, &area->buffer, memory, model, want, offset);
	if (result == STRESS_OK)
		stress_credit(path, area->ops, want);
	return result;
}

STRESS_MAIN("share", NULL,
	    STRESS_PATH("anonymous", ANONYMOUS),
	    STRESS_PATH("memfd-buffer", MEMFD));
