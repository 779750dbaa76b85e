// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Moves data with io_uring requests, several in flight, and checks what arrives.
 *
 *  - splice-file, splice-direct, splice-tcp: io_uring/splice.c io_splice() from the file into a
 *    pipe and from the pipe to a file, an O_DIRECT file or a socket. Both requests are in flight
 *    together, in worker threads of io_uring's own (io_uring/io-wq.c io_wq_submit_work()), and each
 *    blocks until the other makes room or brings data. From there on as in splice.c: do_splice(),
 *    on 6.1 generic_file_splice_read() and generic_splice_sendpage(), on 6.12 filemap_splice_read()
 *    and splice_to_socket().
 *  - tee: io_tee() -> fs/splice.c do_tee() -> link_pipe() takes a second reference to each page
 *    that a pipe holds (generic_pipe_buf_get()); one pipe then goes to a file and the other to a
 *    socket.
 *  - send: io_uring/net.c io_send(), from user memory to TCP, as a chain of linked requests.
 *  - send-zc: io_send_zc() hands the very pages to the socket: net/core/datagram.c
 *    __zerocopy_sg_from_iter(), 6.12 zerocopy_fill_skb_from_iter(). io_uring/notif.c says by a
 *    second completion that nobody refers to them any more: io_notif_flush() and
 *    io_uring_tx_zerocopy_callback() on 6.1, io_tx_ubuf_complete() on 6.12. On the loopback device
 *    that is when skb_copy_ubufs() has copied them for the receiver.
 *  - send-zc-fixed: the same from registered memory, io_sg_from_iter().
 *  - cache-fixed: READ_FIXED and WRITE_FIXED on the page cache, io_uring/rw.c io_read() and
 *    io_write() with the memory of io_import_fixed().
 * Registered memory is pinned for long: io_uring/rsrc.c io_sqe_buffer_register() -> io_pin_pages()
 * -> mm/gup.c pin_user_pages() with FOLL_LONGTERM. At times it is unmapped while it is registered,
 * new memory is mapped, and the registration replaced, so that the last reference to the old pages
 * is the ring's.
 *
 * Oracles. Every turn moves a new generation, and nothing in flight is written to, so all bytes are
 * known; neighbours in the target file and in memory are checked too. A request completes once,
 * with what it was asked for or less. A send's memory is overwritten as soon as the kernel says
 * that it is done with it, after the completion of a send and the notification of a send-zc, while
 * the receiver may still be reading: it must get what stood there before. A notification comes
 * once, after its request's completion, and exactly if that has announced it.
 */
#define _GNU_SOURCE
#include "buffer.h"
#include "common.h"
#include "engine.h"
#include "file.h"
#include "peer.h"
#include "pipe.h"
#include "sender.h"
#include "splicer.h"
#include "uring.args.h"
#include "sizes.h"

enum variant {
	SPLICE_FILE,
	SPLICE_DIRECT,
	SPLICE_TCP,
	TEE,
	SEND,
	SEND_ZC,
	SEND_ZC_FIXED,
	CACHE_FIXED,
};

enum {
	BUFFERS = 2,	       /* one anonymous, one a memfd's */
	TEE_BYTES = 15 * 4096, /* fill at most the 16 pages of a pipe, wherever they begin */
};

struct route {
	struct stress_file source, target;
	int pipes[2][2];
	int direct; /* the target again */
	struct splicer splicer;
	struct sender sender;
	struct engine engine;
	struct buffer buffers[BUFFERS];
};

static bool has_target(const struct stress_path *path)
{
	return path->variant == SPLICE_FILE || path->variant == SPLICE_DIRECT ||
	       path->variant == TEE || path->variant == CACHE_FIXED;
}

static bool has_receiver(const struct stress_path *path)
{
	return path->variant != SPLICE_FILE && path->variant != SPLICE_DIRECT &&
	       path->variant != CACHE_FIXED;
}

/* The paths whose memory is registered. */
static bool is_fixed(const struct stress_path *path)
{
	return path->variant == SEND_ZC_FIXED || path->variant == CACHE_FIXED;
}

static struct iovec memory_of(const struct buffer *buffer)
{
	return (struct iovec){ buffer->memory.bytes, buffer->memory.size };
}

static enum stress_result open_buffer(struct stress_path *path, struct route *route, int index)
{
	static const enum memory_kind kinds[BUFFERS] = { ANONYMOUS, MEMFD };

	const struct memory *memory = &route->buffers[index].memory;
	enum stress_result result = buffer_open(path, &route->buffers[index], kinds[index],
						stress_number(ARG_MAX_LENGTH));

	/* Now or never: as long as they are registered they cannot become secure. */
	if (result == STRESS_OK && is_fixed(path))
		result = secure_pages(path, memory->bytes, memory->size);
	return result;
}

static enum stress_result register_buffers(struct stress_path *path, struct route *route)
{
	const struct iovec memory[BUFFERS] = { memory_of(&route->buffers[0]),
					       memory_of(&route->buffers[1]) };

	return uring_register(&route->engine.ring, memory, BUFFERS)
		       ? stress_error(path, "register %d buffers of %zu bytes", BUFFERS,
				      memory[0].iov_len)
		       : STRESS_OK;
}

/*
 * Unmaps one buffer, which leaves its pages to the ring alone, and registers a new one in its
 * place.
 */
static enum stress_result renew_buffer(struct stress_path *path, struct route *route)
{
	const int index = rng_below(&path->rng, BUFFERS);
	struct buffer *buffer = &route->buffers[index];
	enum stress_result result;
	struct iovec memory;

	buffer_close(buffer);
	result = open_buffer(path, route, index);
	if (result != STRESS_OK || planted(path, 10)) /* the old pages stay registered */
		return result;
	path->waits_for = "the registration of a buffer";
	memory = memory_of(buffer);
	if (rng_one_in(&path->rng, 2)) {
		if (uring_replace(&route->engine.ring, index, &memory))
			return stress_error(path, "replace registered buffer %d", index);
		return STRESS_OK;
	}
	if (uring_unregister(&route->engine.ring))
		return stress_error(path, "unregister the buffers");
	return register_buffers(path, route);
}

static enum stress_result set_up_memory(struct stress_path *path, struct route *route)
{
	enum stress_result result = STRESS_OK;

	for (int i = 0; i < BUFFERS && result == STRESS_OK; i++)
		result = open_buffer(path, route, i);
	if (result == STRESS_OK && is_fixed(path))
		result = register_buffers(path, route);
	return result;
}

static enum stress_result set_up_sender(struct stress_path *path, struct route *route)
{
	const bool zero_copy = path->variant == SEND_ZC || path->variant == SEND_ZC_FIXED;
	enum stress_result result;

	result = zero_copy ? uring_need(path, &route->engine.ring, IORING_OP_SEND_ZC, "SEND_ZC")
			   : uring_need(path, &route->engine.ring, IORING_OP_SEND, "SEND");
	route->sender.zero_copy = zero_copy;
	route->sender.fixed = path->variant == SEND_ZC_FIXED;
	if (result == STRESS_OK)
		result = sender_open(path, &route->sender, stress_number(ARG_MAX_LENGTH),
				     stress_number(ARG_DEPTH));
	return result;
}

static enum stress_result set_up_pipes(struct stress_path *path, struct route *route)
{
	enum stress_result result = pipe_open(path, route->pipes[0]);

	if (result == STRESS_OK)
		result = pipe_open(path, route->pipes[1]);
	if (result == STRESS_OK)
		result = file_open(path, &route->source, "source", stress_number(ARG_FILE_SIZE));
	if (result == STRESS_OK)
		result = uring_need(path, &route->engine.ring, IORING_OP_SPLICE, "SPLICE");
	if (result == STRESS_OK && path->variant == TEE)
		result = uring_need(path, &route->engine.ring, IORING_OP_TEE, "TEE");
	if (result == STRESS_OK && path->variant == SPLICE_DIRECT)
		result = file_direct(path, &route->target, &route->direct,
				     &route->splicer.align);
	if (result == STRESS_OK && has_receiver(path))
		result = sender_open(path, &route->sender, stress_number(ARG_MAX_LENGTH), 1);
	return result;
}

static enum stress_result set_up(struct stress_path *path)
{
	const enum engine_kind engine = path->variant == CACHE_FIXED ? ENGINE_FIXED : ENGINE_URING;
	struct route *route = stress_alloc(sizeof(*route));
	enum stress_result result;

	path->state = route;
	*route = (struct route){ .source = STRESS_FILE_CLOSED,
				 .target = STRESS_FILE_CLOSED,
				 .pipes = { PIPE_CLOSED, PIPE_CLOSED },
				 .direct = -1,
				 .sender = SENDER_CLOSED,
				 .engine = ENGINE_CLOSED,
				 .buffers = { BUFFER_CLOSED, BUFFER_CLOSED } };
	route->splicer = (struct splicer){ .ring = &route->engine.ring, .align = 1 };
	result = engine_open(path, &route->engine, engine, stress_number(ARG_DEPTH));
	if (result == STRESS_OK && has_target(path))
		result = file_open(path, &route->target, "target", stress_number(ARG_FILE_SIZE));
	if (result != STRESS_OK)
		return result;
	switch (path->variant) {
	case SEND:
	case SEND_ZC:
	case SEND_ZC_FIXED:
		result = set_up_sender(path, route);
		return result == STRESS_OK ? set_up_memory(path, route) : result;
	case CACHE_FIXED:
		return set_up_memory(path, route);
	default:
		return set_up_pipes(path, route);
	}
}

static void tear_down(struct stress_path *path)
{
	struct route *route = path->state;

	engine_close(&route->engine);
	sender_close(&route->sender);
	for (int i = 0; i < BUFFERS; i++)
		buffer_close(&route->buffers[i]);
	for (int i = 0; i < 2; i++)
		pipe_close(route->pipes[i]);
	if (route->direct >= 0)
		close(route->direct);
	file_close(&route->source);
	file_close(&route->target);
	free(route);
}

/* From the source through the first pipe. */
static enum stress_result splice_through(struct stress_path *path, struct route *route,
					 uint64_t from, uint64_t to, size_t length)
{
	const int outs[] = { [SPLICE_FILE] = route->target.fd,
			     [SPLICE_DIRECT] = route->direct,
			     [SPLICE_TCP] = route->sender.socket };
	struct flow flows[] = {
		{ .in = route->source.fd, .in_offset = from, .out = route->pipes[0][1],
		  .out_offset = NOWHERE, .total = length },
		{ .in = route->pipes[0][0], .in_offset = NOWHERE, .out = outs[path->variant],
		  .out_offset = path->variant == SPLICE_TCP ? NOWHERE : to, .total = length },
	};

	return splicer_run(path, &route->splicer, flows, 2);
}

/* From the source into one pipe, by reference into the other, and out of both together. */
static enum stress_result tee_through(struct stress_path *path, struct route *route, uint64_t from,
				      uint64_t to, size_t length)
{
	enum stress_result result = STRESS_OK;

	for (size_t done = 0, this; done < length && result == STRESS_OK; done += this) {
		/* Each piece would take up a buffer of the pipe, which nobody empties yet. */
		struct flow fill = { .in = route->source.fd, .in_offset = from + done,
				     .out = route->pipes[0][1], .out_offset = NOWHERE,
				     .whole = true };
		struct flow drains[] = {
			{ .in = route->pipes[0][0], .in_offset = NOWHERE,
			  .out = route->target.fd, .out_offset = to + done },
			{ .in = route->pipes[1][0], .in_offset = NOWHERE,
			  .out = route->sender.socket, .out_offset = NOWHERE },
		};

		this = length - done < TEE_BYTES ? length - done : TEE_BYTES;
		fill.total = drains[0].total = drains[1].total = this;
		result = splicer_run(path, &route->splicer, &fill, 1);
		if (result == STRESS_OK)
			result = splicer_tee(path, &route->splicer, route->pipes[0][0],
					     route->pipes[1][1], this);
		if (result == STRESS_OK)
			result = splicer_run(path, &route->splicer, drains, 2);
	}
	return result;
}

static enum stress_result check_empty(struct stress_path *path, const struct route *route)
{
	const size_t left = planted(path, 6); /* a byte that did not get through */
	enum stress_result result = pipe_holds(path, route->pipes[0][0], left, 0);

	return result == STRESS_OK ? pipe_holds(path, route->pipes[1][0], left, 0) : result;
}

static enum stress_result verify_received(struct stress_path *path, struct route *route,
					  uint64_t from, size_t length)
{
	struct receiver *receiver = &route->sender.receiver;
	enum stress_result result = receiver_wait(path, receiver);

	if (result != STRESS_OK)
		return result;
	if (planted(path, 1)) /* a flipped bit */
		receiver->got[length / 2] ^= 0x10;
	if (planted(path, 4)) /* the end did not arrive */
		receiver->got[length - 1] ^= 0xff;
	return stress_compare(path, "received", receiver->got, route->source.model + from, NULL,
			      length, from);
}

static enum stress_result turn_pipes(struct stress_path *path, struct route *route, size_t *length)
{
	const size_t align = route->splicer.align;
	uint64_t from, to, shifted;
	enum stress_result result = STRESS_OK;

	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), align);
	from = shifted = rng_offset(&path->rng, route->source.size, *length, align);
	to = rng_offset(&path->rng, route->source.size, *length, align);
	file_renew_model(path, &route->source, from, *length);
	if (planted(path, 5)) /* reads from the wrong place */
		shifted += from >= align ? -align : align;
	if (!planted(path, 3)) /* else a stale source */
		result = file_write(path, &route->source, from, *length);
	if (result == STRESS_OK)
		result = file_prepare(path, &route->source, from, *length);
	if (result != STRESS_OK)
		return result;

	if (has_receiver(path))
		receiver_order(&route->sender.receiver, *length);
	result = path->variant == TEE ? tee_through(path, route, shifted, to, *length)
				      : splice_through(path, route, shifted, to, *length);
	if (result == STRESS_OK)
		result = check_empty(path, route);
	if (result == STRESS_OK && has_receiver(path))
		result = verify_received(path, route, from, *length);
	if (result == STRESS_OK && has_target(path))
		result = file_verify_moved(path, &route->target, "pattern",
					   route->source.model + from, to, *length);
	return result;
}

static enum stress_result turn_send(struct stress_path *path, struct route *route, size_t *length)
{
	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	route->sender.ops = 0;
	route->sender.index = rng_below(&path->rng, BUFFERS);
	return sender_turn(path, &route->sender, &route->engine.ring,
			   &route->buffers[route->sender.index], *length);
}

/* Writes the range from the model, by way of registered memory. */
static enum stress_result write_fixed(struct stress_path *path, struct route *route,
				      uint64_t offset, size_t length)
{
	struct stress_file *file = &route->target;
	const struct buffer *buffer = &route->buffers[route->engine.fixed];
	struct engine_order order = { .write = true,
				      .fd = file->fd,
				      .memory = buffer_room(path, buffer, length, 1),
				      .length = length,
				      .offset = offset,
				      .align = 1 };

	memcpy(order.memory, file->model + offset, length);
	path->waits_for = "writes to the page cache";
	if (planted(path, 2)) /* writes to the wrong place */
		order.offset += offset ? -1 : 1;
	if (planted(path, 3)) /* a lost write */
		return STRESS_OK;
	return engine_move(path, &route->engine, &order);
}

/* Reads the range and its neighbours into registered memory, and checks all that is known of it. */
static enum stress_result verify_fixed(struct stress_path *path, struct route *route,
				       uint64_t offset, size_t length)
{
	struct stress_file *file = &route->target;
	struct buffer *buffer = &route->buffers[route->engine.fixed];
	const uint64_t end = offset + length;
	const uint64_t from = offset < NEIGHBOUR ? 0 : offset - NEIGHBOUR;
	const uint64_t to = file->size - end < NEIGHBOUR ? file->size : end + NEIGHBOUR;
	struct engine_order order = { .fd = file->fd,
				      .memory = buffer_room(path, buffer, to - from, 1),
				      .length = to - from,
				      .offset = from,
				      .align = 1 };
	enum stress_result result;

	memory_poison(order.memory, to - from);
	path->waits_for = "reads from the page cache";
	result = engine_move(path, &route->engine, &order);
	if (planted(path, 1)) /* a flipped bit */
		order.memory[offset - from] ^= 0x10;
	if (planted(path, 4)) /* the end was not read */
		order.memory[end - from - 1] ^= 0xff;
	if (planted(path, 5)) /* one byte too many */
		order.memory[to - from] ^= 0x10;
	if (result == STRESS_OK)
		result = file_compare(path, file, "pattern", order.memory, from, to, offset,
				      length);
	if (result == STRESS_OK)
		result = memory_check_neighbours(path, order.memory, to - from, from);
	if (result == STRESS_OK)
		result = buffer_check_mapped(path, buffer, order.memory, file->model + from,
					     to - from, from);
	return result;
}

static enum stress_result turn_cache(struct stress_path *path, struct route *route, size_t *length)
{
	enum stress_result result;
	uint64_t offset;

	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	offset = rng_offset(&path->rng, route->target.size, *length, 1);
	route->engine.fixed = rng_below(&path->rng, BUFFERS);
	file_renew_model(path, &route->target, offset, *length);
	result = write_fixed(path, route, offset, *length);
	if (result == STRESS_OK)
		result = file_evict_sometimes(path, &route->target, offset, *length);
	return result == STRESS_OK ? verify_fixed(path, route, offset, *length) : result;
}

static enum stress_result turn(struct stress_path *path)
{
	const bool fixed = path->variant == SEND_ZC_FIXED || path->variant == CACHE_FIXED;
	struct route *route = path->state;
	enum stress_result result = STRESS_OK;
	size_t length;

	route->splicer.ops = route->engine.ops = route->sender.ops = 0;
	if (fixed && (rng_one_in(&path->rng, 8) || planted(path, 10)))
		result = renew_buffer(path, route);
	if (result != STRESS_OK)
		return result;
	if (path->variant == CACHE_FIXED)
		result = turn_cache(path, route, &length);
	else if (path->variant < SEND)
		result = turn_pipes(path, route, &length);
	else
		result = turn_send(path, route, &length);
	if (result == STRESS_OK)
		stress_credit(path, route->splicer.ops + route->engine.ops + route->sender.ops,
			      length);
	return result;
}

STRESS_MAIN("uring", check_sizes,
	    STRESS_PATH("splice-file", SPLICE_FILE),
	    STRESS_PATH("splice-direct", SPLICE_DIRECT),
	    STRESS_PATH("splice-tcp", SPLICE_TCP),
	    STRESS_PATH("tee", TEE),
	    STRESS_PATH("send", SEND),
	    STRESS_PATH("send-zc", SEND_ZC),
	    STRESS_PATH("send-zc-fixed", SEND_ZC_FIXED),
	    STRESS_PATH("cache-fixed", CACHE_FIXED))
