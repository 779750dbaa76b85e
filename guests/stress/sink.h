/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Where the data of a pipe goes: read(2), a file, a file opened for direct I/O, a unix socket, TCP.
 *
 * A turn announces how much will come (sink_begin), hands over pieces from a pipe (sink_take) and
 * compares all of it with what was sent (sink_verify).
 */
#ifndef FARM_STRESS_SINK_H
#define FARM_STRESS_SINK_H

#include <poll.h>

#include "common.h"
#include "file.h"
#include "peer.h"
#include "pipe.h"

enum sink_kind { SINK_READ, SINK_FILE, SINK_DIRECT, SINK_UNIX, SINK_TCP, SINK_KINDS };

struct sink {
	enum sink_kind kind;
	int out;      /* -1 for SINK_READ */
	size_t align; /* of offsets and lengths; 1 if any will do */
	struct stress_file file;
	struct receiver receiver;
	unsigned char *got; /* what arrived, unless in the file */
	uint64_t begin;	    /* of this turn's data in the file */
	size_t length, done;
	unsigned int ops; /* calls that moved this turn's data */
};

#define SINK_CLOSED { .out = -1, .file = STRESS_FILE_CLOSED, .receiver.fd = -1, .align = 1 }

static inline bool sink_is_file(const struct sink *sink)
{
	return sink->kind == SINK_FILE || sink->kind == SINK_DIRECT;
}

static inline bool sink_is_socket(const struct sink *sink)
{
	return sink->kind == SINK_UNIX || sink->kind == SINK_TCP;
}

static inline enum stress_result sink_open_socket(struct stress_path *path, struct sink *sink,
						  size_t max_length)
{
	int sockets[2];
	enum stress_result result = sink->kind == SINK_TCP ? tcp_pair(path, sockets)
							   : unix_pair(path, sockets);

	sink->out = sockets[0];
	sink->receiver.fd = sockets[1];
	if (result != STRESS_OK)
		return result;
	result = receiver_start(path, &sink->receiver, max_length);
	sink->got = sink->receiver.got;
	return result;
}

/* file_size is that of the file, if the sink is one; tag names it. */
static inline enum stress_result sink_open(struct stress_path *path, struct sink *sink,
					   enum sink_kind kind, const char *tag, uint64_t file_size,
					   size_t max_length)
{
	enum stress_result result;

	*sink = (struct sink)SINK_CLOSED;
	sink->kind = kind;
	if (sink_is_socket(sink))
		return sink_open_socket(path, sink, max_length);
	if (!sink_is_file(sink)) {
		sink->got = stress_alloc(max_length);
		return STRESS_OK;
	}
	result = file_open(path, &sink->file, tag, file_size);
	if (result == STRESS_OK && kind == SINK_DIRECT)
		return file_direct(path, &sink->file, &sink->out, &sink->align);
	sink->out = sink->file.fd;
	return result;
}

static inline void sink_close(struct sink *sink)
{
	if (sink->kind == SINK_READ)
		free(sink->got);
	if (sink->out >= 0 && sink->out != sink->file.fd)
		close(sink->out);
	receiver_stop(&sink->receiver);
	file_close(&sink->file);
}

static inline void sink_begin(struct stress_path *path, struct sink *sink, size_t length)
{
	sink->length = length;
	sink->done = 0;
	sink->ops = 0;
	if (sink_is_file(sink))
		sink->begin = rng_offset(&path->rng, sink->file.size, length, sink->align);
	if (sink_is_socket(sink))
		receiver_order(&sink->receiver, length);
}

/* Splices some of the pipe's `left` bytes to the sink. */
static inline ssize_t sink_splice(struct stress_path *path, struct sink *sink, int pipe,
				  size_t left)
{
	size_t length = random_piece(path, left, sink->align);
	unsigned int flags = random_splice_flags(path);
	loff_t begin = sink->begin + sink->done, *offset = sink_is_file(sink) ? &begin : NULL;
	struct pollfd writable = { .fd = sink->out, .events = POLLOUT };
	ssize_t n;

	/*
	 * SPLICE_F_MORE keeps a socket from sending; without a successor that would cost the cork's
	 * timeout.
	 */
	if (sink->done + length < sink->length && rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_MORE;
	n = splice(pipe, NULL, sink->out, offset, length, flags);
	if (n >= 0 || errno != EAGAIN || !(flags & SPLICE_F_NONBLOCK) || !sink_is_socket(sink))
		return n;
	path->waits_for = "room in the socket";
	if (poll(&writable, 1, -1) < 0)
		return -1;
	return splice(pipe, NULL, sink->out, offset, length, flags & ~SPLICE_F_NONBLOCK);
}

/* Moves the next `length` bytes of the pipe, which holds so many, to the sink. */
static inline enum stress_result sink_take(struct stress_path *path, struct sink *sink, int pipe,
					   size_t length)
{
	size_t end = sink->done + length;

	while (sink->done < end) {
		size_t left = end - sink->done;
		ssize_t n;

		path->waits_for = "the pipe's data to go out";
		if (sink->kind == SINK_READ)
			n = read(pipe, sink->got + sink->done, random_piece(path, left, 1));
		else
			n = sink_splice(path, sink, pipe, left);
		if (n < 0)
			return stress_error(path, "move %zu bytes out of the pipe", left);
		if (n == 0 || (size_t)n > left)
			return stress_wrong_number(path, "length", sink->done, left, n);
		sink->done += n;
		sink->ops++;
	}
	return STRESS_OK;
}

/* Compares what this turn brought with `want`, of which the first byte is that of `offset`. */
static inline enum stress_result sink_verify(struct stress_path *path, struct sink *sink,
					     const char *check, const unsigned char *want,
					     uint64_t offset)
{
	enum stress_result result = STRESS_OK;

	if (sink_is_file(sink))
		return file_verify_moved(path, &sink->file, check, want, sink->begin, sink->length);
	if (sink_is_socket(sink))
		result = receiver_wait(path, &sink->receiver);
	if (result != STRESS_OK)
		return result;
	if (planted(path, 1))
		sink->got[sink->length / 2] ^= 0x10;
	return stress_compare(path, check, sink->got, want, NULL, sink->length, offset);
}

#endif
