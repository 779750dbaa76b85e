/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads and writes a range of a file in one of several ways:
 *  - sync: pread(2) and pwrite(2), one call at a time;
 *  - aio: io_submit(2) and io_getevents(2), as libaio would;
 *  - uring: io_uring's READ and WRITE;
 *  - uring-fixed: READ_FIXED and WRITE_FIXED, on memory that is registered with the ring.
 * All but the first cut the range into pieces and have them in flight together; pieces end in any
 * order and may end short, whereupon the rest is submitted again.
 */
#ifndef FARM_STRESS_ENGINE_H
#define FARM_STRESS_ENGINE_H

#include <errno.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"
#include "uring.h"

/* In the order of the choices in programs.yaml. */
enum engine_kind { ENGINE_SYNC, ENGINE_AIO, ENGINE_URING, ENGINE_FIXED };

enum { ENGINE_MAX_DEPTH = 64 };

struct engine_piece {
	unsigned char *memory;
	uint64_t offset;
	size_t left;
	bool in_flight;
};

struct engine {
	enum engine_kind kind;
	unsigned int depth; /* pieces in flight at most */
	aio_context_t aio;
	struct uring ring;
	unsigned int fixed; /* index of the registered memory */
	struct engine_piece pieces[ENGINE_MAX_DEPTH];
	unsigned int count;
	unsigned int ops; /* calls or requests that moved data */
};

/* One transfer: all that its pieces have in common. */
struct engine_order {
	bool write;
	int fd;
	unsigned char *memory;
	size_t length;
	uint64_t offset;
	size_t align; /* of what each piece begins at */
};

#define ENGINE_CLOSED { .ring = URING_CLOSED }

static inline enum stress_result engine_open(struct stress_path *path, struct engine *engine,
					     enum engine_kind kind, unsigned int depth)
{
	const bool fixed = kind == ENGINE_FIXED;
	enum stress_result result;

	engine->kind = kind;
	engine->depth = depth;
	if (kind == ENGINE_SYNC)
		engine->depth = 1;
	if (kind == ENGINE_AIO && syscall(SYS_io_setup, depth, &engine->aio))
		return stress_error(path, "set up asynchronous I/O of %u requests", depth);
	if (kind != ENGINE_URING && kind != ENGINE_FIXED)
		return STRESS_OK;
	result = uring_open(path, &engine->ring, depth);
	if (result != STRESS_OK)
		return result;
	return uring_need(path, &engine->ring, fixed ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE,
			  fixed ? "WRITE_FIXED" : "WRITE");
}

static inline void engine_close(struct engine *engine)
{
	if (engine->aio)
		syscall(SYS_io_destroy, engine->aio);
	engine->aio = 0;
	uring_close(&engine->ring);
}

/* Cuts the order at random into pieces, at most as many as may be in flight. */
static inline void engine_cut(struct stress_path *path, struct engine *engine,
			      const struct engine_order *order)
{
	unsigned int most = 1 + rng_below(&path->rng, engine->depth);
	size_t done = 0;

	for (engine->count = 0; done < order->length; engine->count++) {
		size_t left = order->length - done;
		size_t length = left;

		if (engine->count + 1 < most)
			length = rng_length(&path->rng, left, order->align);
		if (length > left)
			length = left;
		engine->pieces[engine->count] = (struct engine_piece){
			.memory = order->memory + done,
			.offset = order->offset + done,
			.left = length
		};
		done += length;
	}
}

/* Counts what a piece has moved: the result of its call or request. */
static inline enum stress_result engine_count(struct stress_path *path, struct engine *engine,
					      const struct engine_order *order, uint64_t index,
					      int64_t moved)
{
	struct engine_piece *piece = &engine->pieces[index];

	if (index >= engine->count || !piece->in_flight)
		return stress_wrong_number(path, "completion", order->offset, engine->count,
					   index);
	piece->in_flight = false;
	if (moved < 0) {
		errno = -moved;
		return stress_error(path, "%s %zu bytes at %llu", order->write ? "write" : "read",
				    piece->left, (unsigned long long)piece->offset);
	}
	if (planted(path, 11)) /* more than asked for */
		moved = piece->left + 1;
	if (moved == 0 || (uint64_t)moved > piece->left)
		return stress_wrong_number(path, "length", piece->offset, piece->left, moved);
	engine->ops++;
	piece->memory += moved;
	piece->offset += moved;
	piece->left -= moved;
	return STRESS_OK;
}

static inline enum stress_result engine_call(struct stress_path *path, struct engine *engine,
					     const struct engine_order *order)
{
	struct engine_piece *piece = &engine->pieces[0];
	ssize_t n = order->write ? pwrite(order->fd, piece->memory, piece->left, piece->offset)
				 : pread(order->fd, piece->memory, piece->left, piece->offset);

	piece->in_flight = true;
	return engine_count(path, engine, order, 0, n < 0 ? -errno : n);
}

static inline enum stress_result engine_aio(struct stress_path *path, struct engine *engine,
					    const struct engine_order *order)
{
	struct iocb requests[ENGINE_MAX_DEPTH], *list[ENGINE_MAX_DEPTH];
	struct io_event events[ENGINE_MAX_DEPTH];
	long wanted = 0, submitted = 0, n;

	for (unsigned int i = 0; i < engine->count; i++) {
		struct engine_piece *piece = &engine->pieces[i];

		if (!piece->left)
			continue;
		list[wanted] = &requests[wanted];
		requests[wanted++] = (struct iocb){
			.aio_data = i,
			.aio_lio_opcode = order->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = order->fd,
			.aio_buf = (uintptr_t)piece->memory,
			.aio_nbytes = piece->left,
			.aio_offset = piece->offset
		};
		piece->in_flight = true;
	}
	while (submitted < wanted) {
		n = syscall(SYS_io_submit, engine->aio, wanted - submitted, list + submitted);
		if (n < 0)
			return stress_error(path, "submit %ld requests", wanted - submitted);
		submitted += n;
	}
	do
		n = syscall(SYS_io_getevents, engine->aio, wanted, wanted, events, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return stress_error(path, "await %ld requests", wanted);
	if (n != wanted)
		return stress_wrong_number(path, "completion", order->offset, wanted, n);
	for (long i = 0; i < n; i++) {
		/* A completion that comes twice. */
		uint64_t index = planted(path, 7) ? events[0].data : events[i].data;
		enum stress_result result =
			engine_count(path, engine, order, index, events[i].res);

		if (result != STRESS_OK)
			return result;
	}
	return STRESS_OK;
}

static inline void engine_fill(struct stress_path *path, struct engine *engine,
			       const struct engine_order *order, unsigned int index)
{
	static const unsigned char operations[2][2] = {
		{ IORING_OP_READ, IORING_OP_READ_FIXED }, { IORING_OP_WRITE, IORING_OP_WRITE_FIXED }
	};
	const struct engine_piece *piece = &engine->pieces[index];
	struct io_uring_sqe *sqe = uring_next(&engine->ring);

	sqe->opcode = operations[order->write][engine->kind == ENGINE_FIXED];
	/* Straight to a worker thread, without the attempt to do it at once. */
	if (rng_one_in(&path->rng, 4))
		sqe->flags = IOSQE_ASYNC;
	sqe->fd = order->fd;
	sqe->addr = (uintptr_t)piece->memory;
	sqe->len = piece->left;
	sqe->off = piece->offset;
	sqe->user_data = index;
	if (engine->kind == ENGINE_FIXED)
		sqe->buf_index = engine->fixed;
}

static inline enum stress_result engine_uring(struct stress_path *path, struct engine *engine,
					      const struct engine_order *order)
{
	enum stress_result result, failed = STRESS_OK;
	unsigned int wanted = 0;

	for (unsigned int i = 0; i < engine->count; i++) {
		if (!engine->pieces[i].left)
			continue;
		engine_fill(path, engine, order, i);
		engine->pieces[i].in_flight = true;
		wanted++;
	}
	/* Together. */
	result = uring_enter(path, &engine->ring, wanted);
	if (result != STRESS_OK)
		return result;
	for (uint64_t first = 0; wanted; wanted--) {
		struct io_uring_cqe cqe;

		result = uring_wait(path, &engine->ring, &cqe);
		if (result != STRESS_OK)
			return result;
		first = first ? first : cqe.user_data + 1;
		if (planted(path, 7)) /* a completion that comes twice */
			cqe.user_data = first - 1;
		result = engine_count(path, engine, order, cqe.user_data, cqe.res);
		failed = failed == STRESS_OK ? result : failed;
	}
	return failed;
}

/* Moves all of it; nothing is in flight afterwards, unless the path has failed. */
static inline enum stress_result engine_move(struct stress_path *path, struct engine *engine,
					     const struct engine_order *order)
{
	unsigned int unfinished;

	engine_cut(path, engine, order);
	do {
		enum stress_result result;

		if (engine->kind == ENGINE_SYNC)
			result = engine_call(path, engine, order);
		else if (engine->kind == ENGINE_AIO)
			result = engine_aio(path, engine, order);
		else
			result = engine_uring(path, engine, order);
		if (result != STRESS_OK)
			return result;
		unfinished = 0;
		for (unsigned int i = 0; i < engine->count; i++)
			unfinished += engine->pieces[i].left > 0;
	} while (unfinished);
	return STRESS_OK;
}

#endif
