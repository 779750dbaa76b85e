/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A file and the model of what it must hold. Every write goes to the model too; every check
 * compares the file with the model, neighbours of the range included, so that a write that is lost,
 * misplaced or too long is seen.
 */
#ifndef FARM_STRESS_FILE_H
#define FARM_STRESS_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "secure.h"

/* Bytes that are checked on either side of a range. */
enum { NEIGHBOUR = 64 };

struct stress_file {
	int fd;
	const char *tag;
	uint64_t size;
	unsigned char *model;
	unsigned char *scratch; /* as large as the file */
	size_t memory_size;	/* of each of the two */
	unsigned char *guest;	/* with --secure: the file as a guest's memory, of the same size */
};

#define STRESS_FILE_CLOSED { .fd = -1 }

/* A shared mapping of a file; NULL with errno. */
static inline unsigned char *file_map(int fd, uint64_t offset, size_t length)
{
	void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	return map == MAP_FAILED ? NULL : map;
}

/*
 * Zeroed memory, a page of which exists only once it is touched: to touch all of it in advance
 * takes a large file's setup seconds on a busy host. NULL with errno.
 */
static inline unsigned char *file_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Makes an unlinked file of holes. While it has a name, that is of program, path and worker. */
static inline enum stress_result file_make(struct stress_path *path, int *fd, const char *tag,
					   uint64_t size)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s/%s.%llu.%s.%s", stress_options.dir,
		     stress_program->name, (unsigned long long)stress_options.worker, path->name,
		     tag) >= (int)sizeof(name)) {
		errno = ENAMETOOLONG;
		return stress_error(path, "open the %s file in %s", tag, stress_options.dir);
	}
	*fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (*fd < 0)
		return stress_error(path, "open %s", name);
	if (unlink(name))
		return stress_error(path, "unlink %s", name);
	if (ftruncate(*fd, size))
		return stress_error(path, "extend the %s file to %llu bytes", tag,
				    (unsigned long long)size);
	return STRESS_OK;
}

static inline enum stress_result file_make_memfd(struct stress_path *path, int *fd,
						 const char *tag, uint64_t size)
{
	*fd = memfd_create(tag, MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, size))
		return stress_error(path, "make a memfd of %llu bytes", (unsigned long long)size);
	return STRESS_OK;
}

/* The model of an open file, which holds zeros. */
static inline enum stress_result file_model(struct stress_path *path, struct stress_file *file,
					    const char *tag, uint64_t size)
{
	file->tag = tag;
	file->size = size;
	file->memory_size = size;
	file->model = file_memory(size);
	file->scratch = file_memory(size);
	if (!file->model || !file->scratch)
		return stress_error(path, "map memory for the %s file", tag);
	return STRESS_OK;
}

/* Makes an unlinked file of holes, with its model. */
static inline enum stress_result file_open(struct stress_path *path, struct stress_file *file,
					   const char *tag, uint64_t size)
{
	enum stress_result result = file_make(path, &file->fd, tag, size);

	return result == STRESS_OK ? file_model(path, file, tag, size) : result;
}

/*
 * The first `size` bytes of a disk, which are zeros then, as a file with its model. SKIP where
 * there is none, and where it is mounted or another worker's.
 */
static inline enum stress_result file_open_disk(struct stress_path *path, struct stress_file *file,
						const char *disk, uint64_t size)
{
	uint64_t zeros[2] = { 0, size };

	if (access(disk, F_OK))
		return stress_skip(path, "no %s here", disk);
	file->fd = open(disk, O_RDWR | O_EXCL | O_CLOEXEC);
	if (file->fd < 0 && errno == EBUSY)
		return stress_skip(path, "%s is in use", disk);
	if (file->fd < 0)
		return stress_error(path, "open %s", disk);
	if (ioctl(file->fd, BLKZEROOUT, zeros))
		return stress_error(path, "zero %llu bytes of %s", (unsigned long long)size, disk);
	return file_model(path, file, "disk", size);
}

static inline void file_close(struct stress_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	if (file->model)
		munmap(file->model, file->memory_size);
	if (file->scratch)
		munmap(file->scratch, file->memory_size);
	if (file->guest)
		munmap(file->guest, file->memory_size);
	file->model = file->scratch = file->guest = NULL;
}

static inline bool write_all(int fd, const unsigned char *bytes, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pwrite(fd, bytes, length, offset);

		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			return false;
		bytes += n;
		offset += n;
		length -= n;
	}
	return true;
}

/* Reads until the end of the file; returns the bytes read or -1. */
static inline ssize_t read_all(int fd, unsigned char *bytes, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, bytes + done, length - done, offset + done);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

/* A new generation of the range, in the model alone. */
static inline void file_renew_model(struct stress_path *path, struct stress_file *file,
				    uint64_t offset, size_t length)
{
	path->generation++;
	pattern_fill(path->key, path->generation, file->model + offset, length, offset);
}

/* Writes the range from the model through the page cache. */
static inline enum stress_result file_write(struct stress_path *path, struct stress_file *file,
					    uint64_t offset, size_t length)
{
	path->waits_for = "a write to the page cache";
	if (!write_all(file->fd, file->model + offset, length, offset))
		return stress_error(path, "write %zu bytes at %llu of the %s file", length,
				    (unsigned long long)offset, file->tag);
	return STRESS_OK;
}

/*
 * Puts the range on the disk and drops it from the page cache, so that the next reader waits for
 * the disk. It is advice: pages in use stay. sync_file_range() spares the journal's commit that
 * fdatasync() would cost.
 */
static inline enum stress_result file_evict(struct stress_path *path, struct stress_file *file,
					    uint64_t offset, size_t length)
{
	const unsigned int all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				 SYNC_FILE_RANGE_WAIT_AFTER;
	int error;

	path->waits_for = "writeback";
	if (sync_file_range(file->fd, offset, length, all))
		return stress_error(path, "write back the %s file", file->tag);
	error = posix_fadvise(file->fd, offset, length, POSIX_FADV_DONTNEED);
	if (error) {
		errno = error;
		return stress_error(path, "drop the %s file from the page cache", file->tag);
	}
	return STRESS_OK;
}

/*
 * Compares bytes that stand for [from, to) of the file, of which [offset, offset + length) was
 * written last.
 */
static inline enum stress_result file_compare(struct stress_path *path,
					      const struct stress_file *file, const char *check,
					      const unsigned char *got, uint64_t from, uint64_t to,
					      uint64_t offset, size_t length)
{
	const unsigned char *want = file->model;
	uint64_t end = offset + length;

	/* No short circuit: every damage is to be reported. */
	if (stress_compare(path, check, got + (offset - from), want + offset, NULL, length,
			   offset) |
	    stress_compare(path, "neighbour", got, want + from, NULL, offset - from, from) |
	    stress_compare(path, "neighbour", got + (end - from), want + end, NULL, to - end, end))
		return STRESS_FAIL;
	return STRESS_OK;
}

/* Checks a range and its neighbours through the page cache. */
static inline enum stress_result file_verify(struct stress_path *path, struct stress_file *file,
					     const char *check, uint64_t offset, size_t length)
{
	uint64_t from = offset < NEIGHBOUR ? 0 : offset - NEIGHBOUR;
	uint64_t end = offset + length;
	uint64_t to = file->size - end < NEIGHBOUR ? file->size : end + NEIGHBOUR;
	ssize_t n;

	path->waits_for = "a read from the page cache";
	n = read_all(file->fd, file->scratch, to - from, from);
	if (n < 0)
		return stress_error(path, "read %llu bytes at %llu of the %s file",
				    (unsigned long long)(to - from), (unsigned long long)from,
				    file->tag);
	if ((uint64_t)n != to - from)
		return stress_wrong_number(path, "length", from, to - from, n);
	return file_compare(path, file, check, file->scratch, from, to, offset, length);
}

/* The same file, opened for direct I/O; -1 with errno. The file has no name any more. */
static inline int file_open_direct(const struct stress_file *file)
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file->fd);
	return open(link, O_RDWR | O_DIRECT | O_CLOEXEC);
}

/*
 * The alignment that direct I/O wants of offsets, lengths and memory: what statx() tells (since
 * Linux 6.1), else 4096, which every disk in use takes. 0 if this file supports none.
 */
static inline size_t file_direct_alignment(int fd)
{
	struct statx status;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) ||
	    !(status.stx_mask & STATX_DIOALIGN))
		return 4096;
	if (status.stx_dio_mem_align > status.stx_dio_offset_align)
		return status.stx_dio_mem_align;
	return status.stx_dio_offset_align;
}

/*
 * Opens for direct I/O; SKIP where the file system has none (tmpfs before Linux 6.6 says EINVAL).
 */
static inline enum stress_result file_direct(struct stress_path *path,
					     const struct stress_file *file, int *fd,
					     size_t *alignment)
{
	*fd = file_open_direct(file);
	if (*fd < 0 && errno == EINVAL)
		return stress_skip(path, "no O_DIRECT on the file system of %s",
				   stress_options.dir);
	if (*fd < 0)
		return stress_error(path, "open the %s file with O_DIRECT", file->tag);
	*alignment = file_direct_alignment(*fd);
	if (!*alignment)
		return stress_skip(path, "no O_DIRECT on the file system of %s",
				   stress_options.dir);
	return STRESS_OK;
}

/* Evicts once in eight. */
static inline enum stress_result file_evict_sometimes(struct stress_path *path,
						      struct stress_file *file, uint64_t offset,
						      size_t length)
{
	return rng_one_in(&path->rng, 8) ? file_evict(path, file, offset, length) : STRESS_OK;
}

/* With --secure, makes the pages of the range secure. */
static inline enum stress_result file_secure(struct stress_path *path, struct stress_file *file,
					     uint64_t offset, size_t length)
{
	if (!stress_options.secure)
		return STRESS_OK;
	if (!file->guest) {
		void *place = secure_reserve(file->memory_size);

		if (!place || mmap(place, file->memory_size, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, file->fd, 0) == MAP_FAILED)
			return stress_error(path, "map the %s file for a guest", file->tag);
		file->guest = place;
		if (secure_guard(path, place, file->memory_size) != STRESS_OK)
			return STRESS_FAIL;
	}
	return secure_pages(path, file->guest + offset, length);
}

/* What comes between new data and its way out: it may have to be read back; it may be secure. */
static inline enum stress_result file_prepare(struct stress_path *path, struct stress_file *file,
					      uint64_t offset, size_t length)
{
	enum stress_result result = file_evict_sometimes(path, file, offset, length);

	return result == STRESS_OK ? file_secure(path, file, offset, length) : result;
}

/*
 * Checks what was moved to a range of the file, which the model takes over. Planted bugs: 1 a
 * flipped bit, 2 one byte too many.
 */
static inline enum stress_result file_verify_moved(struct stress_path *path,
						   struct stress_file *file, const char *check,
						   const unsigned char *want, uint64_t offset,
						   size_t length)
{
	unsigned char *model = file->model + offset;
	enum stress_result result;

	memcpy(model, want, length);
	if (planted(path, 1)) {
		unsigned char flipped = model[length / 2] ^ 0x10;

		write_all(file->fd, &flipped, 1, offset + length / 2);
	}
	if (planted(path, 2)) {
		bool after = offset + length < file->size;
		unsigned char stray = (after ? model[length] : model[-1]) ^ 0x10;

		write_all(file->fd, &stray, 1, after ? offset + length : offset - 1);
	}
	result = file_evict_sometimes(path, file, offset, length);
	return result == STRESS_OK ? file_verify(path, file, check, offset, length) : result;
}

#endif
