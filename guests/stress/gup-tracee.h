/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process whose memory another one accesses: a child that stores what it is told to, shows what
 * its own loads find, and between orders can keep its page tables in motion.
 */
#ifndef FARM_STRESS_GUP_TRACEE_H
#define FARM_STRESS_GUP_TRACEE_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common.h"
#include "memory.h"

/*
 * What the tracee does to its page tables until the next order comes, but no more than so many
 * times: it holds the mmap lock, and often the CPU, that the access needs. It never changes the
 * data.
 */
enum churn {
	STILL,
	UNMAP,	 /* zaps the entries of shared mappings */
	PROTECT, /* takes and gives back the right to write */
	FORK,	 /* children that exit at once: private pages become shared, and exclusive again */
	CHURNS,
};

enum { MAX_CHURN = 64 };

struct order {
	enum { FILL, SHOW } what;
	enum memory_kind kind;
	enum churn churn;
	/* Before it churns, it sends the pages to swap or the file, or makes them secure. */
	bool evict, secure;
	uint32_t generation;
	uint64_t start, length;
};

struct tracee {
	pid_t pid;
	int socket;
	struct memory memory[MEMORY_KINDS];   /* at the same addresses in both processes */
	unsigned char *model[MEMORY_KINDS]; /* of the tracee's */
	unsigned char *shown;
};

static inline bool churn_once(const struct memory *memory, enum churn churn)
{
	pid_t child;

	switch (churn) {
	case UNMAP:
		return !madvise(memory->bytes, memory->size, MADV_DONTNEED);
	case PROTECT:
		return !mprotect(memory->bytes, memory->size, PROT_READ) &&
		       !mprotect(memory->bytes, memory->size, PROT_READ | PROT_WRITE);
	case FORK:
		child = fork();
		if (child == 0)
			_exit(0);
		return child > 0 && waitpid(child, NULL, 0) == child;
	default:
		return true;
	}
}

/* Leaves the pages to reclaim; a file's are unmapped, so that who gave the order can drop them. */
static inline bool tracee_evict(const struct memory *memory)
{
	return !madvise(memory->bytes, memory->size, MADV_PAGEOUT) &&
	       (memory->kind != MAPPED_FILE ||
		!madvise(memory->bytes, memory->size, MADV_DONTNEED));
}

/* The next order; false when there will be none. */
static inline bool tracee_listen(int socket, const struct memory *churned, enum churn churn,
				 struct order *order)
{
	unsigned int left = churn == STILL ? 0 : MAX_CHURN;

	for (;;) {
		ssize_t n = recv(socket, order, sizeof(*order), left ? MSG_DONTWAIT : 0);

		if (n == sizeof(*order))
			return true;
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return false;
		if (!left)
			continue;
		if (!churn_once(churned, churn))
			return false;
		left--;
		/* The one who accesses may share this CPU. */
		sched_yield();
	}
}

static inline bool send_all(int socket, const unsigned char *bytes, size_t length)
{
	while (length) {
		ssize_t n = send(socket, bytes, length, 0);

		if (n <= 0)
			return false;
		bytes += n;
		length -= n;
	}
	return true;
}

/* With --secure the child is the guest: what is taken are its pages, and the parent has none. */
static inline bool tracee_guard(struct stress_path *path, const struct tracee *tracee)
{
	enum stress_result result = secure_child(path);

	for (int kind = 0; kind < MEMORY_KINDS && result == STRESS_OK && stress_options.secure;
	     kind++)
		result = secure_guard(path, tracee->memory[kind].bytes, tracee->memory[kind].size);
	return result == STRESS_OK;
}

/*
 * The child's life. It prints whole lines or nothing: the parent had nothing unwritten when it
 * forked, since stdout is written line by line.
 */
static inline void __attribute__((noreturn)) tracee_main(struct stress_path *path,
							 const struct tracee *tracee, int socket)
{
	struct order order = { .churn = STILL };
	const unsigned char ready = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!tracee_guard(path, tracee))
		_exit(1);
	while (tracee_listen(socket, &tracee->memory[order.kind], order.churn, &order)) {
		const struct memory *memory = &tracee->memory[order.kind];
		unsigned char *bytes = memory->bytes + order.start;
		bool done;

		if (order.what == FILL) {
			pattern_fill(path->key, order.generation, bytes, order.length, order.start);
			done = (!order.evict || tracee_evict(memory)) &&
			       (!order.secure ||
				secure_pages(path, memory->bytes, memory->size) == STRESS_OK) &&
			       send_all(socket, &ready, 1);
		} else {
			done = send_all(socket, bytes, order.length);
		}
		if (!done)
			break;
	}
	_exit(1);
}

static inline enum stress_result tracee_start(struct stress_path *path, struct tracee *tracee,
					      size_t max_length)
{
	enum stress_result result = STRESS_OK;
	int sockets[2];

	for (int kind = 0; kind < MEMORY_KINDS && result == STRESS_OK; kind++) {
		result = memory_make(path, &tracee->memory[kind], kind, MAP_SHARED, "memory",
				     max_length);
		tracee->model[kind] = stress_alloc(tracee->memory[kind].size);
	}
	if (result != STRESS_OK)
		return result;
	tracee->shown = stress_alloc(tracee->memory[0].size);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return stress_error(path, "make a socket pair");
	tracee->socket = sockets[0];
	tracee->pid = fork();
	if (tracee->pid == 0) {
		close(sockets[0]);
		tracee_main(path, tracee, sockets[1]);
	}
	close(sockets[1]);
	return tracee->pid < 0 ? stress_error(path, "fork") : STRESS_OK;
}

static inline void tracee_stop(struct tracee *tracee)
{
	if (tracee->pid > 0) {
		kill(tracee->pid, SIGKILL);
		waitpid(tracee->pid, NULL, __WALL);
	}
	if (tracee->socket >= 0)
		close(tracee->socket);
	for (int kind = 0; kind < MEMORY_KINDS; kind++) {
		memory_close(&tracee->memory[kind]);
		free(tracee->model[kind]);
	}
	free(tracee->shown);
}

/* Sends the order and receives the answer. */
static inline enum stress_result tracee_order(struct stress_path *path, struct tracee *tracee,
					      const struct order *order, unsigned char *answer,
					      size_t length)
{
	ssize_t n = 0;

	path->waits_for = "the tracee's answer";
	if (send(tracee->socket, order, sizeof(*order), 0) == sizeof(*order))
		n = recv(tracee->socket, answer, length, MSG_WAITALL);
	if (n == (ssize_t)length)
		return STRESS_OK;
	if (n >= 0)
		errno = ECONNRESET;
	return stress_error(path, "have the tracee %s %zu bytes",
			    order->what == FILL ? "store" : "show", (size_t)order->length);
}

/* The tracee stores a new generation of the range, once in eight evicts it, and then churns. */
static inline enum stress_result tracee_fill(struct stress_path *path, struct tracee *tracee,
					     enum memory_kind kind, size_t start, size_t length,
					     enum churn churn)
{
	struct memory *memory = &tracee->memory[kind];
	struct order order = { .what = FILL, .kind = kind, .churn = churn, .start = start,
			       .length = length, .generation = ++path->generation,
			       .evict = rng_one_in(&path->rng, 8) };
	enum stress_result result;
	unsigned char ready;

	pattern_fill(path->key, path->generation, tracee->model[kind] + start, length, start);
	order.secure = !order.evict;
	if (planted(path, 4)) /* a stale page */
		order.generation--;
	result = tracee_order(path, tracee, &order, &ready, 1);
	if (result != STRESS_OK || !order.evict || kind != MAPPED_FILE)
		return result;
	return file_evict(path, &memory->file, 0, memory->size);
}

/* Ends the tracee's churning, which would else take the CPU from other paths' turns. */
static inline enum stress_result tracee_rest(struct stress_path *path, struct tracee *tracee)
{
	struct order order = { .what = FILL, .churn = STILL };
	unsigned char ready;

	return tracee_order(path, tracee, &order, &ready, 1);
}

/* Checks what the tracee itself finds in the range and beside it. Its churning ends. */
static inline enum stress_result tracee_verify(struct stress_path *path, struct tracee *tracee,
					       enum memory_kind kind, size_t start, size_t length)
{
	struct order order = { .what = SHOW, .kind = kind, .start = start - NEIGHBOUR,
			       .length = length + 2 * NEIGHBOUR };
	const unsigned char *want = tracee->model[kind] + start;
	unsigned char *shown = tracee->shown + NEIGHBOUR;
	enum stress_result result;

	result = tracee_order(path, tracee, &order, tracee->shown, order.length);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 1)) /* a flipped bit */
		shown[length / 2] ^= 0x10;
	if (planted(path, 2)) /* one byte too many */
		shown[length] ^= 0x10;
	if (stress_compare(path, "pattern", shown, want, NULL, length, start) |
	    stress_compare(path, "neighbour", shown - NEIGHBOUR, want - NEIGHBOUR, NULL, NEIGHBOUR,
			   start - NEIGHBOUR) |
	    stress_compare(path, "neighbour", shown + length, want + length, NULL, NEIGHBOUR,
			   start + length))
		return STRESS_FAIL;
	return STRESS_OK;
}

#endif
