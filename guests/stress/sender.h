/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sends memory to a socket by io_uring requests that are linked into a chain, so that they go out
 * one after the other though all are submitted at once.
 *
 * The memory is overwritten as soon as the kernel says that it is done with it: after the
 * completion of a SEND; of a SEND_ZC, which only refers to the pages, after the notification that
 * follows if the completion has announced it (IORING_CQE_F_MORE).
 */
#ifndef FARM_STRESS_SENDER_H
#define FARM_STRESS_SENDER_H

#include "buffer.h"
#include "common.h"
#include "peer.h"
#include "uring.h"

enum { SENDER_MAX_DEPTH = 64 };

/* One request of the chain. */
struct sender_piece {
	unsigned char *memory;
	size_t length;
	int sent;
	bool in_flight;
	bool announced; /* a notification will come */
};

struct sender {
	int socket;
	struct receiver receiver;
	unsigned char *want; /* what has been sent */
	bool zero_copy;
	bool fixed;	    /* from registered memory … */
	unsigned int index; /* … of this index */
	unsigned int depth; /* requests in a chain at most */
	struct sender_piece pieces[SENDER_MAX_DEPTH];
	unsigned int count;
	unsigned int awaited; /* completions and notifications */
	uint32_t chain;	      /* counts chains, so that a late completion is known */
	unsigned int ops;     /* requests that moved data */
};

#define SENDER_CLOSED { .socket = -1, .receiver.fd = -1 }

static inline enum stress_result sender_open(struct stress_path *path, struct sender *sender,
					     size_t max, unsigned int depth)
{
	int sockets[2];
	enum stress_result result = tcp_pair(path, sockets);

	sender->depth = depth;
	sender->socket = sockets[0];
	sender->receiver.fd = sockets[1];
	if (result != STRESS_OK)
		return result;
	sender->want = stress_alloc(max);
	return receiver_start(path, &sender->receiver, max);
}

static inline void sender_close(struct sender *sender)
{
	receiver_stop(&sender->receiver);
	if (sender->socket >= 0)
		close(sender->socket);
	sender->socket = -1;
	free(sender->want);
	sender->want = NULL;
}

static inline void sender_fill(struct stress_path *path, struct sender *sender, struct uring *ring,
			       unsigned int index)
{
	struct sender_piece *piece = &sender->pieces[index];
	struct io_uring_sqe *sqe = uring_next(ring);

	sqe->opcode = sender->zero_copy ? IORING_OP_SEND_ZC : IORING_OP_SEND;
	if (index + 1 < sender->count)
		sqe->flags = IOSQE_IO_LINK;
	if (rng_one_in(&path->rng, 8))
		sqe->flags |= IOSQE_ASYNC;
	sqe->fd = sender->socket;
	sqe->addr = (uintptr_t)piece->memory;
	sqe->len = piece->length;
	/*
	 * A request that ends short cancels the chain behind it only with MSG_WAITALL
	 * (io_uring/net.c io_send(): min_ret). Without it, what follows would overtake the rest.
	 */
	sqe->msg_flags = index + 1 == sender->count && rng_one_in(&path->rng, 8) ? 0 : MSG_WAITALL;
	sqe->user_data = (uint64_t)sender->chain << 32 | index;
	if (sender->fixed) {
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
		sqe->buf_index = sender->index;
	}
	piece->in_flight = true;
	piece->announced = false;
	piece->sent = 0;
	if (planted(path, 8)) /* a kernel that looks at the memory again when it is done with it */
		memset(piece->memory, POISON, piece->length / 2);
}

/* The kernel is done with what the piece has sent. */
static inline void sender_scribble(struct sender_piece *piece)
{
	memset(piece->memory, POISON, piece->sent);
}

static inline enum stress_result sender_complete(struct stress_path *path, struct sender *sender,
						 struct io_uring_cqe *cqe)
{
	const bool notification = cqe->flags & IORING_CQE_F_NOTIF;
	const uint32_t index = cqe->user_data;
	struct sender_piece *piece = &sender->pieces[index];

	if (cqe->user_data >> 32 != sender->chain || index >= sender->count)
		return stress_wrong_number(path, "completion", 0, (uint64_t)sender->chain << 32,
					   cqe->user_data);
	if (notification) {
		/* Before the completion, unannounced, or twice. */
		if (piece->in_flight || !piece->announced)
			return stress_wrong_number(path, "notification", 0, piece->announced, 1);
		piece->announced = false;
		sender_scribble(piece);
		return STRESS_OK;
	}
	if (!piece->in_flight)
		return stress_wrong_number(path, "completion", 0, 0, index);
	piece->in_flight = false;
	piece->announced = cqe->flags & IORING_CQE_F_MORE;
	sender->awaited += piece->announced;
	if (piece->announced && !sender->zero_copy)
		return stress_wrong_number(path, "notification", 0, 0, 1);
	if (cqe->res == -ECANCELED)
		return STRESS_OK;
	errno = cqe->res < 0 ? -cqe->res : 0;
	if (errno)
		return stress_error(path, "send %zu bytes", piece->length);
	if (planted(path, 11)) /* more than asked for */
		cqe->res = piece->length + 1;
	if (cqe->res == 0 || (size_t)cqe->res > piece->length)
		return stress_wrong_number(path, "length", 0, piece->length, cqe->res);
	sender->ops++;
	piece->sent = cqe->res;
	if (!piece->announced)
		sender_scribble(piece);
	return STRESS_OK;
}

/* Submits all pieces and awaits everything that will be heard of them. */
static inline enum stress_result sender_run(struct stress_path *path, struct sender *sender,
					    struct uring *ring)
{
	sender->chain++;
	for (unsigned int i = 0; i < sender->count; i++)
		sender_fill(path, sender, ring, i);
	for (sender->awaited = sender->count; sender->awaited; sender->awaited--) {
		struct io_uring_cqe cqe;
		enum stress_result result;

		path->waits_for = "the completion or notification of a send";
		result = uring_wait(path, ring, &cqe);
		if (planted(path, 9)) /* a notification of nothing */
			cqe.flags ^= IORING_CQE_F_NOTIF;
		if (result == STRESS_OK)
			result = sender_complete(path, sender, &cqe);
		if (result != STRESS_OK)
			return result;
	}
	return STRESS_OK;
}

/* Drops what was sent from the front of the chain; what is left is in order. */
static inline void sender_advance(struct sender *sender)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < sender->count; i++) {
		struct sender_piece piece = sender->pieces[i];

		piece.memory += piece.sent;
		piece.length -= piece.sent;
		if (piece.length)
			sender->pieces[left++] = piece;
	}
	sender->count = left;
}

/* Sends a new generation by way of the buffer, and checks what arrives. */
static inline enum stress_result sender_turn(struct stress_path *path, struct sender *sender,
					     struct uring *ring, const struct buffer *buffer,
					     size_t length)
{
	unsigned char *memory = buffer_room(path, buffer, length, 1);
	unsigned int most = 1 + rng_below(&path->rng, sender->depth);
	enum stress_result result;

	path->generation++;
	pattern_fill(path->key, path->generation, sender->want, length, 0);
	if (!planted(path, 3)) /* else stale memory */
		memcpy(memory, sender->want, length);
	if (planted(path, 2)) /* sent from the wrong place */
		memory++;
	for (size_t done = sender->count = 0; done < length; sender->count++) {
		size_t left = length - done;
		size_t this = sender->count + 1 < most ? rng_length(&path->rng, left, 1) : left;

		sender->pieces[sender->count] =
			(struct sender_piece){ .memory = memory + done, .length = this };
		done += this;
	}
	/* Registered memory is pinned: it cannot become secure. */
	if (!sender->fixed && secure_pages(path, memory, length) != STRESS_OK)
		return STRESS_FAIL;
	receiver_order(&sender->receiver, length);
	do {
		result = sender_run(path, sender, ring);
		sender_advance(sender);
	} while (result == STRESS_OK && sender->count);
	if (result == STRESS_OK)
		result = receiver_wait(path, &sender->receiver);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 1)) /* a flipped bit */
		sender->receiver.got[length / 2] ^= 0x10;
	if (planted(path, 4)) /* the end did not arrive */
		sender->receiver.got[length - 1] ^= 0xff;
	return stress_compare(path, "pattern", sender->receiver.got, sender->want, NULL, length, 0);
}

#endif
