/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that the kernel does I/O on by its pages: anonymous, a mapping of a memfd (shmem pages),
 * or a mapping of a file (page-cache pages, which may have to be read in first). What was read into
 * a mapping must also be found in what it maps.
 */
#ifndef FARM_STRESS_BUFFER_H
#define FARM_STRESS_BUFFER_H

#include <sys/mman.h>

#include "common.h"
#include "file.h"

enum buffer_kind { BUFFER_ANONYMOUS, BUFFER_MEMFD, BUFFER_FILE };

enum {
	BUFFER_SLACK = 8 * 4096, /* for neighbours and a start anywhere in a page */
	POISON = 0xa5,
};

struct buffer {
	unsigned char *memory;
	size_t size;
	int memfd;		    /* of BUFFER_MEMFD */
	struct stress_file backing; /* of BUFFER_FILE */
	int backing_direct;
	unsigned char *scratch; /* as large as the buffer */
	unsigned char poison[NEIGHBOUR];
};

#define BUFFER_CLOSED { .memfd = -1, .backing = STRESS_FILE_CLOSED, .backing_direct = -1 }

/* A shared mapping, or a private anonymous one for fd -1; NULL with errno. */
static inline unsigned char *map_memory(int fd, size_t size)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A buffer with room for max bytes, their neighbours, and one aligned block on either side. */
static inline enum stress_result buffer_open(struct stress_path *path, struct buffer *buffer,
					     enum buffer_kind kind, size_t max)
{
	enum stress_result result = STRESS_OK;
	size_t align;
	int fd = -1;

	buffer->size = round_down(max + 4095, 4096) + BUFFER_SLACK;
	buffer->scratch = file_memory(buffer->size);
	if (!buffer->scratch)
		return stress_error(path, "map memory for the buffer's checks");
	memset(buffer->poison, POISON, sizeof(buffer->poison));
	if (kind == BUFFER_MEMFD) {
		buffer->memfd = fd = memfd_create("farm-buffer", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, buffer->size))
			return stress_error(path, "make a memfd");
	}
	if (kind == BUFFER_FILE) {
		result = file_open(path, &buffer->backing, "buffer", buffer->size);
		if (result == STRESS_OK)
			result = file_direct(path, &buffer->backing, &buffer->backing_direct,
					     &align);
		fd = buffer->backing.fd;
	}
	if (result != STRESS_OK)
		return result;
	buffer->memory = map_memory(fd, buffer->size);
	return buffer->memory ? STRESS_OK : stress_error(path, "map the buffer");
}

static inline void buffer_close(struct buffer *buffer)
{
	if (buffer->memory)
		munmap(buffer->memory, buffer->size);
	if (buffer->memfd >= 0)
		close(buffer->memfd);
	if (buffer->backing_direct >= 0)
		close(buffer->backing_direct);
	file_close(&buffer->backing);
	if (buffer->scratch)
		munmap(buffer->scratch, buffer->size);
	*buffer = (struct buffer)BUFFER_CLOSED;
}

/* Aligned room for length bytes, with neighbours on both sides. */
static inline unsigned char *buffer_room(struct stress_path *path, const struct buffer *buffer,
					 size_t length, size_t align)
{
	size_t first = round_down(NEIGHBOUR + align - 1, align);
	size_t past = buffer->size - NEIGHBOUR;

	return buffer->memory + first + rng_offset(&path->rng, past - first, length, align);
}

/* Poisons the room and its neighbours before something is read into it. */
static inline void buffer_poison(unsigned char *room, size_t length)
{
	memset(room - NEIGHBOUR, POISON, length + 2 * NEIGHBOUR);
}

/* Whether the neighbours of the room were left alone; offset is the file's, for the report. */
static inline enum stress_result buffer_check_neighbours(struct stress_path *path,
							 const struct buffer *buffer,
							 const unsigned char *room, size_t length,
							 uint64_t offset)
{
	if (stress_compare(path, "overrun", room - NEIGHBOUR, buffer->poison, NULL, NEIGHBOUR,
			   offset) |
	    stress_compare(path, "overrun", room + length, buffer->poison, NULL, NEIGHBOUR,
			   offset + length))
		return STRESS_FAIL;
	return STRESS_OK;
}

/* Sends a file's pages to the disk and drops them, so that I/O has to fault them in. */
static inline enum stress_result buffer_evict_sometimes(struct stress_path *path,
							struct buffer *buffer)
{
	if (buffer->backing.fd < 0 || !rng_one_in(&path->rng, 8))
		return STRESS_OK;
	if (madvise(buffer->memory, buffer->size, MADV_DONTNEED))
		return stress_error(path, "unmap the buffer's pages");
	return file_evict(path, &buffer->backing, 0, buffer->size);
}

/*
 * What was read into a mapping must be seen through what it maps too, and reach a file's disk.
 */
static inline enum stress_result buffer_check_mapped(struct stress_path *path,
						     struct buffer *buffer,
						     const unsigned char *room,
						     const unsigned char *want, size_t length,
						     uint64_t offset)
{
	/* Direct reads of the backing file need its alignment; whole pages have any. */
	uint64_t start = room - buffer->memory, from = round_down(start, 4096);
	uint64_t to = round_down(start + length + 4095, 4096);
	int fd = buffer->memfd >= 0 ? buffer->memfd : buffer->backing.fd;
	enum stress_result result;

	if (fd < 0)
		return STRESS_OK;
	path->waits_for = "a read from the page cache of the buffer";
	if (read_all(fd, buffer->scratch, length, start) != (ssize_t)length)
		return stress_error(path, "read the buffer's file");
	if (planted(path, 6) && buffer->memfd >= 0) /* a page that is not the mapped one */
		buffer->scratch[length / 2] ^= 0x10;
	result = stress_compare(path, "mapping", buffer->scratch, want, NULL, length, offset);
	if (result != STRESS_OK || buffer->backing.fd < 0 || !rng_one_in(&path->rng, 4))
		return result;

	result = file_evict(path, &buffer->backing, from, to - from);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 6)) /* a dirty page that never reached the disk */
		write_all(buffer->backing_direct, buffer->backing.model, to - from, from);
	path->waits_for = "a direct read of the buffer's file";
	if (read_all(buffer->backing_direct, buffer->scratch, to - from, from) !=
	    (ssize_t)(to - from))
		return stress_error(path, "read the buffer's file directly");
	return stress_compare(path, "writeback", buffer->scratch + (start - from), want, NULL,
			      length, offset);
}

#endif
