/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that the kernel does I/O on by its pages. What was read into a mapping must also be found
 * in what it maps.
 */
#ifndef FARM_STRESS_BUFFER_H
#define FARM_STRESS_BUFFER_H

#include "common.h"
#include "file.h"
#include "memory.h"

struct buffer {
	struct memory memory;
	int direct;		/* the mapped file, past its page cache */
	unsigned char *scratch; /* as large as the memory */
};

#define BUFFER_CLOSED { .memory = MEMORY_CLOSED, .direct = -1 }

/* Room for max bytes, their neighbours, and one aligned block on either side. */
static inline enum stress_result buffer_open(struct stress_path *path, struct buffer *buffer,
					     enum memory_kind kind, size_t max)
{
	struct memory *memory = &buffer->memory;
	enum stress_result result = memory_open(path, memory, kind, MAP_SHARED, "buffer", max);
	size_t align;

	if (result == STRESS_OK && kind == MAPPED_FILE)
		result = file_direct(path, &memory->file, &buffer->direct, &align);
	if (result != STRESS_OK)
		return result;
	buffer->scratch = file_memory(memory->size);
	return buffer->scratch ? STRESS_OK
			       : stress_error(path, "map memory for the buffer's checks");
}

static inline void buffer_close(struct buffer *buffer)
{
	if (buffer->scratch)
		munmap(buffer->scratch, buffer->memory.size);
	if (buffer->direct >= 0)
		close(buffer->direct);
	memory_close(&buffer->memory);
	*buffer = (struct buffer)BUFFER_CLOSED;
}

/* Aligned room for length bytes, with neighbours on both sides. */
static inline unsigned char *buffer_room(struct stress_path *path, const struct buffer *buffer,
					 size_t length, size_t align)
{
	return buffer->memory.bytes + memory_room(path, &buffer->memory, length, align);
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
	uint64_t start = room - buffer->memory.bytes, from = round_down(start, 4096);
	uint64_t to = round_down(start + length + 4095, 4096);
	const struct stress_file *file = &buffer->memory.file;
	enum stress_result result;

	if (buffer->memory.kind == ANONYMOUS)
		return STRESS_OK;
	path->waits_for = "a read from the page cache of the buffer";
	if (read_all(file->fd, buffer->scratch, length, start) != (ssize_t)length)
		return stress_error(path, "read the buffer's file");
	if (planted(path, 6) && buffer->direct < 0) /* a page that is not the mapped one */
		buffer->scratch[length / 2] ^= 0x10;
	result = stress_compare(path, "mapping", buffer->scratch, want, NULL, length, offset);
	if (result != STRESS_OK || buffer->direct < 0 || !rng_one_in(&path->rng, 4))
		return result;

	result = file_evict(path, &buffer->memory.file, from, to - from);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 6)) /* a dirty page that never reached the disk */
		write_all(buffer->direct, file->model, to - from, from);
	path->waits_for = "a direct read of the buffer's file";
	if (read_all(buffer->direct, buffer->scratch, to - from, from) != (ssize_t)(to - from))
		return stress_error(path, "read the buffer's file directly");
	return stress_compare(path, "writeback", buffer->scratch + (start - from), want, NULL,
			      length, offset);
}

#endif
