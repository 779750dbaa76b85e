/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * vmsplice and fork: whose write may be seen through a pipe that holds a private page?
 *
 * After fork() parent and child share the pages of private mappings until one of them writes, which
 * gets a copy (mm/memory.c do_wp_page()), all the more while the pipe holds a reference. Private
 * memory means that neither process sees what the other writes after the fork, through a pipe no
 * more than through its own mapping; the kernel's tools/testing/selftests/mm/cow.c asks for just
 * that ("No leak from child into parent", "No leak from parent into child").
 *  - child-writes: the parent's pages are in the pipe, the child writes to its copy, beside the
 *    parent's read or before it; at times the parent has unmapped the pages.
 *  - parent-writes: the child puts its pages into the pipe and exits, then the parent writes, to
 *    pages of which but the pipe's and its own references are left.
 * What arrives, and the parent's own memory, must be what stood there before the fork. What a
 * process sees of its own later writes through its own pages in a pipe is promised nowhere and not
 * asked.
 */
#ifndef FARM_STRESS_VMSPLICE_FORK_H
#define FARM_STRESS_VMSPLICE_FORK_H

#include <sys/wait.h>

#include "common.h"
#include "memory.h"
#include "pipe.h"

enum {
	FORK_LENGTH = 14 * 4096, /* fits into a pipe's 16 buffers, wherever it begins */
	FORK_SCRIBBLE = 0x5c,
};

/* Ends a child; its exit status says what was wrong. */
enum { CHILD_DONE, CHILD_FAILED };

/*
 * Stores the range by way of the mapping, which makes the pages anonymous, or in the file beneath,
 * so that the mapping shows pages of the page cache.
 */
static inline enum stress_result fork_store(struct stress_path *path, struct memory *memory,
					    size_t start, const unsigned char *want, size_t length)
{
	if (memory->kind == ANONYMOUS || rng_one_in(&path->rng, 2)) {
		memcpy(memory->bytes + start, want, length);
		return memory_evict_sometimes(path, memory);
	}
	if (!write_all(memory->file.fd, want, length, start))
		return stress_error(path, "write the mapped file");
	return memory_unmap_pages(path, memory);
}

/* Into the pipe, which is empty and takes all. */
static inline bool fork_fill_pipe(const struct memory *memory, int pipe, size_t start,
				  size_t length)
{
	struct iovec iov = { .iov_base = memory->bytes + start, .iov_len = length };

	return vmsplice(pipe, &iov, 1, 0) == (ssize_t)length;
}

static inline enum stress_result fork_await(struct stress_path *path, pid_t child)
{
	int status;

	path->waits_for = "the child's end";
	if (waitpid(child, &status, 0) != child)
		return stress_error(path, "wait for the child");
	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_DONE)
		return STRESS_OK;
	stress_note(path, "the child ended with wait status 0x%04x", (unsigned int)status);
	return STRESS_FAIL;
}

static inline enum stress_result fork_drain(struct stress_path *path, const char *check, int pipe,
					    unsigned char *got, const unsigned char *want,
					    size_t length, uint64_t offset)
{
	size_t done = 0;

	path->waits_for = "a read from the pipe";
	while (done < length) {
		ssize_t n = read(pipe, got + done, random_piece(path, length - done, 1));

		if (n < 0)
			return stress_error(path, "read %zu bytes from the pipe", length - done);
		if (n == 0)
			return stress_wrong_number(path, "length", offset, length, done);
		done += n;
	}
	if (planted(path, 1)) /* a write of the other process is seen */
		got[length / 2] = FORK_SCRIBBLE;
	return stress_compare(path, check, got, want, NULL, length, offset);
}

/* got and want are buffers; pipe is empty. */
static inline enum stress_result fork_child_writes(struct stress_path *path, struct memory *memory,
						   const int pipe[2], const unsigned char *want,
						   unsigned char *got, size_t length, size_t start)
{
	bool unmap = rng_one_in(&path->rng, 2), wait_first = rng_one_in(&path->rng, 2);
	enum stress_result result = STRESS_OK, ended = STRESS_OK;
	pid_t child;

	if (!fork_fill_pipe(memory, pipe[1], start, length))
		return stress_error(path, "put %zu bytes into the empty pipe", length);
	child = fork();
	if (child < 0)
		return stress_error(path, "fork");
	if (child == 0) {
		memset(memory->bytes + start, FORK_SCRIBBLE, length);
		_exit(CHILD_DONE);
	}
	if (unmap)
		result = memory_unmap_pages(path, memory);
	if (wait_first)
		ended = fork_await(path, child);
	if (result == STRESS_OK)
		result = fork_drain(path, "child-writes", pipe[0], got, want, length, start);
	if (!wait_first)
		ended = fork_await(path, child);
	if (planted(path, 8)) /* the parent's memory is not its own */
		memory->bytes[start + length / 2] = FORK_SCRIBBLE;
	if (result == STRESS_OK && !unmap)
		result = stress_compare(path, "parent", memory->bytes + start, want, NULL, length,
					start);
	return result == STRESS_OK ? ended : result;
}

static inline enum stress_result fork_parent_writes(struct stress_path *path,
						    struct memory *memory, const int pipe[2],
						    const unsigned char *want, unsigned char *got,
						    size_t length, size_t start)
{
	enum stress_result result;
	pid_t child = fork();

	if (child < 0)
		return stress_error(path, "fork");
	if (child == 0)
		_exit(fork_fill_pipe(memory, pipe[1], start, length) ? CHILD_DONE : CHILD_FAILED);
	result = fork_await(path, child);
	if (result != STRESS_OK)
		return result;
	memset(memory->bytes + start, FORK_SCRIBBLE, length);
	return fork_drain(path, "parent-writes", pipe[0], got, want, length, start);
}

static inline enum stress_result fork_turn(struct stress_path *path, struct memory *memory,
					   const int pipe[2], unsigned char *want,
					   unsigned char *got, size_t length)
{
	size_t start = memory_room(path, memory, length, 1);
	bool child_writes = rng_one_in(&path->rng, 2);
	enum stress_result result;

	path->generation++;
	pattern_fill(path->key, path->generation, want, length, start);
	result = fork_store(path, memory, start, want, length);
	if (result != STRESS_OK)
		return result;
	if (child_writes)
		result = fork_child_writes(path, memory, pipe, want, got, length, start);
	else
		result = fork_parent_writes(path, memory, pipe, want, got, length, start);
	if (result == STRESS_FAIL)
		stress_note(path, "private %s memory at %zu, %zu bytes", memory_name(memory->kind),
			    start, length);
	if (result == STRESS_OK)
		stress_credit(path, 1, length);
	return result;
}

#endif
