/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An io_uring by system calls alone: the rings are mapped and moved by hand, since a static program
 * has no liburing. One thread submits and reaps.
 *
 * The kernel reads the tail of the submission ring and writes that of the completion ring, so both
 * are stored with release and loaded with acquire semantics (io_uring/io_uring.c, the comment at
 * its top).
 */
#ifndef FARM_STRESS_URING_H
#define FARM_STRESS_URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

struct uring {
	int fd;
	void *rings; /* both: IORING_FEAT_SINGLE_MMAP */
	size_t rings_size;
	struct io_uring_sqe *sqes;
	size_t sqes_size;
	unsigned int *sq_tail, *sq_array, sq_mask;
	unsigned int *cq_head, *cq_tail, *cq_overflow, cq_mask;
	struct io_uring_cqe *cqes;
	unsigned int filled; /* entries that are not submitted yet */
};

#define URING_CLOSED { .fd = -1 }

static inline void uring_close(struct uring *ring)
{
	if (ring->sqes)
		munmap(ring->sqes, ring->sqes_size);
	if (ring->rings)
		munmap(ring->rings, ring->rings_size);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = (struct uring)URING_CLOSED;
}

static inline void *uring_map(const struct uring *ring, size_t size, off_t what)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			 what);

	return map == MAP_FAILED ? NULL : map;
}

/*
 * A ring with room for `entries` requests. Half of the rings run the kernel's completion work only
 * when they are entered (IORING_SETUP_DEFER_TASKRUN, since 6.1), half whenever the thread is.
 */
static inline enum stress_result uring_open(struct stress_path *path, struct uring *ring,
					    unsigned int entries)
{
	struct io_uring_params params = { 0 };
	unsigned char *base;

	if (rng_one_in(&path->rng, 2))
		params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	ring->fd = syscall(SYS_io_uring_setup, entries, &params);
	if (ring->fd < 0 && errno == EINVAL && params.flags) {
		params = (struct io_uring_params){ 0 };
		ring->fd = syscall(SYS_io_uring_setup, entries, &params);
	}
	if (ring->fd < 0 && errno == ENOSYS)
		return stress_skip(path, "the kernel has no io_uring");
	if (ring->fd < 0 && errno == EPERM)
		return stress_skip(path, "io_uring is disabled (sysctl kernel.io_uring_disabled)");
	if (ring->fd < 0)
		return stress_error(path, "set up a ring of %u entries", entries);
	if (!(params.features & IORING_FEAT_SINGLE_MMAP))
		return stress_skip(path, "the kernel's io_uring is older than 5.4");

	ring->rings_size = params.sq_off.array + params.sq_entries * sizeof(unsigned int);
	if (ring->rings_size < params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes))
		ring->rings_size = params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes);
	ring->sqes_size = params.sq_entries * sizeof(*ring->sqes);
	ring->rings = base = uring_map(ring, ring->rings_size, IORING_OFF_SQ_RING);
	ring->sqes = uring_map(ring, ring->sqes_size, IORING_OFF_SQES);
	if (!ring->rings || !ring->sqes)
		return stress_error(path, "map the ring");
	ring->sq_tail = (unsigned int *)(base + params.sq_off.tail);
	ring->sq_array = (unsigned int *)(base + params.sq_off.array);
	ring->sq_mask = params.sq_entries - 1;
	ring->cq_head = (unsigned int *)(base + params.cq_off.head);
	ring->cq_tail = (unsigned int *)(base + params.cq_off.tail);
	ring->cq_overflow = (unsigned int *)(base + params.cq_off.overflow);
	ring->cqes = (struct io_uring_cqe *)(base + params.cq_off.cqes);
	ring->cq_mask = params.cq_entries - 1;
	return STRESS_OK;
}

/* SKIP unless the kernel knows the operation. */
static inline enum stress_result uring_need(struct stress_path *path, const struct uring *ring,
					    unsigned int operation, const char *name)
{
	size_t size = sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op);
	struct io_uring_probe *probe = stress_alloc(size);
	bool known;

	/* The probe itself came with 5.6. */
	if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_PROBE, probe, 256)) {
		free(probe);
		return stress_skip(path, "the kernel's io_uring does not say what it can do: %m");
	}
	known = operation <= probe->last_op &&
		(probe->ops[operation].flags & IO_URING_OP_SUPPORTED);
	free(probe);
	return known ? STRESS_OK : stress_skip(path, "the kernel's io_uring has no %s", name);
}

/* Pins the memory; requests name it by its index. */
static inline int uring_register(const struct uring *ring, const struct iovec *memory,
				 unsigned int count)
{
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, memory, count);
}

static inline int uring_unregister(const struct uring *ring)
{
	return syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

/* Pins other memory in place of what has this index. */
static inline int uring_replace(const struct uring *ring, unsigned int index,
				const struct iovec *memory)
{
	struct io_uring_rsrc_update2 update = {
		.offset = index, .data = (uintptr_t)memory, .nr = 1
	};

	/* Returns how many it has replaced. */
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS_UPDATE, &update,
		       sizeof(update)) == 1 ? 0 : -1;
}

/* A cleared entry to fill in. The caller keeps count of the ring's room. */
static inline struct io_uring_sqe *uring_next(struct uring *ring)
{
	unsigned int index = (*ring->sq_tail + ring->filled++) & ring->sq_mask;

	ring->sq_array[index] = index;
	return memset(&ring->sqes[index], 0, sizeof(*ring->sqes));
}

/* Submits what was filled in, and waits until `wait` completions can be reaped. */
static inline enum stress_result uring_enter(struct stress_path *path, struct uring *ring,
					     unsigned int wait)
{
	unsigned int left = ring->filled;

	__atomic_store_n(ring->sq_tail, *ring->sq_tail + ring->filled, __ATOMIC_RELEASE);
	ring->filled = 0;
	do {
		int n = syscall(SYS_io_uring_enter, ring->fd, left, wait, IORING_ENTER_GETEVENTS,
				NULL, 0);

		if (n < 0 && errno != EINTR)
			return stress_error(path, "submit %u requests and await %u", left, wait);
		left -= n < 0 ? 0 : n;
	} while (left);
	/* The completion ring is twice as large as the submission ring: it cannot overflow. */
	if (*ring->cq_overflow)
		return stress_wrong_number(path, "overflow", 0, 0, *ring->cq_overflow);
	return STRESS_OK;
}

static inline bool uring_reap(struct uring *ring, struct io_uring_cqe *cqe)
{
	unsigned int head = *ring->cq_head;

	if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	*cqe = ring->cqes[head & ring->cq_mask];
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return true;
}

/* Submits what was filled in, and takes the next completion. */
static inline enum stress_result uring_wait(struct stress_path *path, struct uring *ring,
					    struct io_uring_cqe *cqe)
{
	while (ring->filled || !uring_reap(ring, cqe)) {
		enum stress_result result = uring_enter(path, ring, 1);

		if (result != STRESS_OK)
			return result;
	}
	return STRESS_OK;
}

#endif
