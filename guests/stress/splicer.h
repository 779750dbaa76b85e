/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Moves bytes between files, pipes and sockets by io_uring's SPLICE and TEE requests. Several flows
 * run at once; each has one request in flight after the other, so that its bytes stay in order.
 */
#ifndef FARM_STRESS_SPLICER_H
#define FARM_STRESS_SPLICER_H

#include <errno.h>
#include <fcntl.h>

#include "common.h"
#include "uring.h"

#define NOWHERE UINT64_MAX /* the offset of a pipe or socket */

struct flow {
	int in, out;
	uint64_t in_offset, out_offset;
	size_t total, done, asked;
	bool whole; /* never in pieces */
	bool in_flight;
};

struct splicer {
	struct uring *ring;
	size_t align;	  /* of offsets and lengths; 1 if any will do */
	uint32_t batch;	  /* counts sets of requests, so that a late completion is known */
	unsigned int ops; /* requests that moved data */
};

static inline uint64_t splicer_tag(const struct splicer *splicer, unsigned int index)
{
	return (uint64_t)splicer->batch << 32 | index;
}

/* All of what is left or less, at random. */
static inline void splicer_fill(struct stress_path *path, struct splicer *splicer,
				struct flow *flow, unsigned int index)
{
	const size_t left = flow->total - flow->done;
	struct io_uring_sqe *sqe = uring_next(splicer->ring);

	flow->asked = flow->whole || rng_one_in(&path->rng, 2)
			      ? left
			      : rng_length(&path->rng, left, splicer->align);
	flow->in_flight = true;
	sqe->opcode = IORING_OP_SPLICE;
	sqe->splice_fd_in = flow->in;
	sqe->splice_off_in = flow->in_offset == NOWHERE ? NOWHERE : flow->in_offset + flow->done;
	sqe->fd = flow->out;
	sqe->off = flow->out_offset == NOWHERE ? NOWHERE : flow->out_offset + flow->done;
	sqe->len = flow->asked;
	sqe->splice_flags = rng_one_in(&path->rng, 2) ? SPLICE_F_MOVE : 0;
	sqe->user_data = splicer_tag(splicer, index);
}

static inline enum stress_result splicer_finish(struct stress_path *path, struct splicer *splicer,
						struct flow *flows, unsigned int count,
						struct io_uring_cqe *cqe)
{
	const uint32_t index = cqe->user_data;
	struct flow *flow = &flows[index];

	if (cqe->user_data >> 32 != splicer->batch || index >= count || !flow->in_flight)
		return stress_wrong_number(path, "completion", 0, splicer_tag(splicer, 0),
					   cqe->user_data);
	flow->in_flight = false;
	errno = cqe->res < 0 ? -cqe->res : 0;
	if (errno)
		return stress_error(path, "splice %zu bytes", flow->asked);
	if (planted(path, 11)) /* more than asked for */
		cqe->res = flow->asked + 1;
	if (cqe->res == 0 || (size_t)cqe->res > flow->asked)
		return stress_wrong_number(path, "length", flow->done, flow->asked, cqe->res);
	flow->done += cqe->res;
	splicer->ops++;
	return STRESS_OK;
}

/* Keeps one request of each flow in flight until all have moved their total. */
static inline enum stress_result splicer_run(struct stress_path *path, struct splicer *splicer,
					     struct flow *flows, unsigned int count)
{
	splicer->batch++;
	path->waits_for = "splice requests";
	for (;;) {
		unsigned int in_flight = 0;
		enum stress_result result;
		struct io_uring_cqe cqe;

		for (unsigned int i = 0; i < count; i++) {
			if (!flows[i].in_flight && flows[i].done < flows[i].total)
				splicer_fill(path, splicer, &flows[i], i);
			in_flight += flows[i].in_flight;
		}
		if (!in_flight)
			return STRESS_OK;
		result = uring_wait(path, splicer->ring, &cqe);
		if (planted(path, 7)) /* a completion of another batch */
			cqe.user_data += 1ULL << 32;
		if (result == STRESS_OK)
			result = splicer_finish(path, splicer, flows, count, &cqe);
		if (result != STRESS_OK)
			return result;
	}
}

/* All of the length bytes that one pipe holds, into another that is empty and has room for them. */
static inline enum stress_result splicer_tee(struct stress_path *path, struct splicer *splicer,
					     int in, int out, size_t length)
{
	struct io_uring_sqe *sqe = uring_next(splicer->ring);
	enum stress_result result;
	struct io_uring_cqe cqe;

	splicer->batch++;
	sqe->opcode = IORING_OP_TEE;
	sqe->splice_fd_in = in;
	sqe->fd = out;
	sqe->len = length;
	sqe->user_data = splicer_tag(splicer, 0);
	path->waits_for = "a tee request";
	result = uring_wait(path, splicer->ring, &cqe);
	if (result != STRESS_OK)
		return result;
	if (cqe.user_data != splicer_tag(splicer, 0))
		return stress_wrong_number(path, "completion", 0, splicer_tag(splicer, 0),
					   cqe.user_data);
	errno = cqe.res < 0 ? -cqe.res : 0;
	if (errno)
		return stress_error(path, "tee %zu bytes", length);
	splicer->ops++;
	return (size_t)cqe.res == length ? STRESS_OK
					 : stress_wrong_number(path, "length", 0, length, cqe.res);
}

#endif
