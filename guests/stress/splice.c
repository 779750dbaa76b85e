// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Moves file data through a pipe with splice(2) and checks what arrives.
 *
 * In: fs/splice.c do_splice() -> splice_file_to_pipe() -> the file's ->splice_read, which puts
 * references to page-cache pages into the pipe: generic_file_splice_read() with an ITER_PIPE on
 * 6.1, mm/filemap.c filemap_splice_read() -> splice_folio_into_pipe() on 6.12 (mm/shmem.c
 * shmem_file_splice_read() for tmpfs).
 *
 * Out: do_splice_from() -> iter_file_splice_write(), which confirms each buffer
 * (page_cache_pipe_buf_confirm()) and hands the pages to the file's ->write_iter: a copy into the
 * page cache, or with O_DIRECT fs/iomap/direct-io.c __iomap_dio_rw(), which does I/O on the very
 * pages of the source. To sockets: 6.1 generic_splice_sendpage() -> sock_sendpage() ->
 * tcp_sendpage() or unix_stream_sendpage(); 6.12 splice_to_socket() -> tcp_sendmsg_locked() or
 * unix_stream_sendmsg() with MSG_SPLICE_PAGES -> skb_splice_from_iter().
 *
 * Meanwhile fs/pipe.c pipe_resize_ring() moves the buffers to a ring of another size.
 *
 * One turn writes a new generation of a range of the source, splices it out in pieces, and checks
 * the whole range and its neighbours at the far end. The source is not written again before that,
 * since the pipe and the socket hold its pages, not copies; so the oracle is exact.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/ioctl.h>

#include "common.h"
#include "file.h"
#include "peer.h"
#include "splice.args.h"

enum target { TO_FILE, TO_DIRECT, TO_UNIX, TO_TCP };

enum {
	RESIZES = 4, /* of the pipe, beside a turn that has them */
	MAX_PIPE_PAGES = 64,
};

struct route {
	struct stress_file source, target;
	int pipe[2];
	int out;      /* the pipe's data goes there */
	size_t align; /* of offsets and lengths; 1 if any will do */
	struct receiver receiver;
	struct helper resizer;
	int sizes[RESIZES];
	int resize_error;
	bool may_resize;
	unsigned int ops; /* calls that moved data in this turn */
};

static bool to_socket(const struct stress_path *path)
{
	return path->variant == TO_UNIX || path->variant == TO_TCP;
}

/*
 * Beside the turn. EBUSY: the pipe's data does not fit into the new ring; EPERM: the user's share
 * is used up.
 */
static void resize_pipe(void *argument)
{
	struct route *route = argument;

	for (int i = 0; i < RESIZES; i++) {
		if (fcntl(route->pipe[1], F_SETPIPE_SZ, route->sizes[i]) >= 0 || errno == EBUSY)
			continue;
		route->resize_error = errno;
		return;
	}
}

static void order_resizes(struct stress_path *path, struct route *route)
{
	if (!route->may_resize || !rng_one_in(&path->rng, 4))
		return;
	for (int i = 0; i < RESIZES; i++)
		route->sizes[i] = 4096 * (1 + rng_below(&path->rng, MAX_PIPE_PAGES));
	helper_order(&route->resizer);
}

static enum stress_result await_resizes(struct stress_path *path, struct route *route)
{
	path->waits_for = "the pipe's resizing";
	helper_wait(&route->resizer);
	if (!route->resize_error)
		return STRESS_OK;
	errno = route->resize_error;
	if (errno != EPERM)
		return stress_error(path, "resize the pipe");
	stress_note(path, "goes on without resizing the pipe: %m");
	route->resize_error = 0;
	route->may_resize = false;
	return STRESS_OK;
}

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	uint64_t size = stress_number(ARG_FILE_SIZE);
	struct route *route = stress_alloc(sizeof(*route));
	enum stress_result result;
	int sockets[2];

	path->state = route;
	*route = (struct route){ .source = closed,
				 .target = closed,
				 .pipe = { -1, -1 },
				 .out = -1,
				 .align = 1,
				 .receiver.fd = -1,
				 .may_resize = true };
	result = file_open(path, &route->source, "source", size);
	if (result == STRESS_OK && !to_socket(path))
		result = file_open(path, &route->target, "target", size);
	if (result != STRESS_OK)
		return result;
	if (pipe2(route->pipe, O_CLOEXEC))
		return stress_error(path, "make a pipe");
	result = helper_start(path, &route->resizer, resize_pipe, route);
	if (result != STRESS_OK)
		return result;

	switch (path->variant) {
	case TO_FILE:
		route->out = route->target.fd;
		return STRESS_OK;
	case TO_DIRECT:
		return file_direct(path, &route->target, &route->out, &route->align);
	default:
		result = path->variant == TO_TCP ? tcp_pair(path, sockets)
						 : unix_pair(path, sockets);
		route->out = sockets[0];
		route->receiver.fd = sockets[1];
		if (result != STRESS_OK)
			return result;
		return receiver_start(path, &route->receiver, stress_number(ARG_MAX_LENGTH));
	}
}

static void tear_down(struct stress_path *path)
{
	struct route *route = path->state;

	receiver_stop(&route->receiver);
	if (route->out >= 0 && route->out != route->target.fd)
		close(route->out);
	helper_stop(&route->resizer);
	for (int i = 0; i < 2; i++)
		if (route->pipe[i] >= 0)
			close(route->pipe[i]);
	file_close(&route->source);
	file_close(&route->target);
	free(route);
}

/* A piece of what is left: all of it or less, at random. */
static size_t piece(struct stress_path *path, size_t left, size_t align)
{
	return rng_one_in(&path->rng, 2) ? left : rng_length(&path->rng, left, align);
}

static unsigned int random_flags(struct stress_path *path)
{
	unsigned int flags = 0;

	if (rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_MOVE;
	if (rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_NONBLOCK;
	return flags;
}

/* From the source into the pipe; *full if there was no room. */
static enum stress_result splice_in(struct stress_path *path, loff_t *offset, size_t left,
				    bool empty, size_t *moved, bool *full)
{
	struct route *route = path->state;
	unsigned int flags = random_flags(path);
	ssize_t n;

	/* Nobody else drains the pipe, so only an empty one may be waited for. */
	if (!empty)
		flags |= SPLICE_F_NONBLOCK;
	path->waits_for = "splice from the file to the pipe";
	n = splice(route->source.fd, offset, route->pipe[1], NULL, piece(path, left, route->align),
		   flags);
	if (n < 0 && errno == EAGAIN && !empty) {
		*full = true;
		return STRESS_OK;
	}
	if (n < 0)
		return stress_error(path, "splice %zu bytes at %lld from the file to the pipe",
				    left, (long long)*offset);
	if (n == 0)
		return stress_wrong_number(path, "length", *offset, left, 0);
	route->ops++;
	*moved += n;
	return STRESS_OK;
}

/* From the pipe to the target, which may not take it all at once. */
static enum stress_result splice_out(struct stress_path *path, loff_t *offset, size_t in_pipe,
				     bool more_follows, size_t *moved)
{
	struct route *route = path->state;
	unsigned int flags = random_flags(path);
	size_t length = piece(path, in_pipe, route->align);
	struct pollfd writable = { .fd = route->out, .events = POLLOUT };
	ssize_t n;

	/*
	 * SPLICE_F_MORE keeps a socket from sending; without a successor that would cost the cork's
	 * timeout.
	 */
	if ((more_follows || length < in_pipe) && rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_MORE;
	path->waits_for = "splice from the pipe to the target";
	n = splice(route->pipe[0], NULL, route->out, to_socket(path) ? NULL : offset, length,
		   flags);
	if (n < 0 && errno == EAGAIN && (flags & SPLICE_F_NONBLOCK) && to_socket(path)) {
		path->waits_for = "room in the socket";
		if (poll(&writable, 1, -1) < 0)
			return stress_error(path, "poll the socket");
		return STRESS_OK;
	}
	if (n < 0)
		return stress_error(path, "splice %zu bytes from the pipe to %lld of the target",
				    length, (long long)*offset);
	if (n == 0)
		return stress_wrong_number(path, "length", *offset, length, 0);
	route->ops++;
	*moved += n;
	return STRESS_OK;
}

/* Moves the range through the pipe, which must be empty afterwards. */
static enum stress_result pump(struct stress_path *path, uint64_t from, uint64_t to, size_t length)
{
	struct route *route = path->state;
	size_t in = 0, out = 0;
	loff_t in_offset = from, out_offset = to;
	int left_over;

	if (planted(path, 2)) /* reads from the wrong place */
		in_offset = from >= route->align ? from - route->align : from + route->align;
	if (planted(path, 4)) /* drops the end: a lost write, or a receiver that waits for ever */
		length -= length > route->align ? route->align : 0;
	while (out < length) {
		enum stress_result result = STRESS_OK;
		bool full = false;

		if (in < length && (in == out || rng_one_in(&path->rng, 2)))
			result = splice_in(path, &in_offset, length - in, in == out, &in, &full);
		if (result == STRESS_OK && in > out &&
		    (full || in == length || rng_one_in(&path->rng, 2)))
			result = splice_out(path, &out_offset, in - out, in < length, &out);
		if (result != STRESS_OK)
			return result;
		if (out > in)
			return stress_wrong_number(path, "length", to, in, out);
	}
	if (ioctl(route->pipe[0], FIONREAD, &left_over))
		return stress_error(path, "ask how much is in the pipe");
	return left_over ? stress_wrong_number(path, "length", from + length, 0, left_over)
			 : STRESS_OK;
}

static enum stress_result verify(struct stress_path *path, uint64_t from, uint64_t to,
				 size_t length)
{
	struct route *route = path->state;
	unsigned char *target = route->target.model + to;
	const unsigned char *source = route->source.model + from;
	enum stress_result result;

	if (to_socket(path)) {
		result = receiver_wait(path, &route->receiver);
		if (result != STRESS_OK)
			return result;
		if (planted(path, 1)) /* a flipped bit */
			route->receiver.got[length / 2] ^= 0x10;
		return stress_compare(path, "pattern", route->receiver.got, source, NULL, length,
				      from);
	}
	memcpy(target, source, length);
	if (planted(path, 1)) {
		unsigned char flipped = target[length / 2] ^ 0x10;

		write_all(route->target.fd, &flipped, 1, to + length / 2);
	}
	if (planted(path, 5)) /* one byte too many */
		write_all(route->target.fd, to ? target : target + length, 1,
			  to ? to - 1 : to + length);
	result = file_evict_sometimes(path, &route->target, to, length);
	if (result != STRESS_OK)
		return result;
	return file_verify(path, &route->target, "pattern", to, length);
}

static enum stress_result turn(struct stress_path *path)
{
	struct route *route = path->state;
	uint64_t size = route->source.size;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), route->align);
	uint64_t from = rng_offset(&path->rng, size, length, route->align);
	uint64_t to = rng_offset(&path->rng, size, length, route->align);
	enum stress_result result, resized;

	file_renew_model(path, &route->source, from, length);
	if (!planted(path, 3)) { /* else a stale source */
		result = file_write(path, &route->source, from, length);
		if (result != STRESS_OK)
			return result;
	}
	result = file_evict_sometimes(path, &route->source, from, length);
	if (result != STRESS_OK)
		return result;

	route->ops = 0;
	if (to_socket(path))
		receiver_order(&route->receiver, length);
	order_resizes(path, route);
	result = pump(path, from, to, length);
	resized = await_resizes(path, route);
	if (result == STRESS_OK)
		result = verify(path, from, to, length);
	if (result == STRESS_OK)
		result = resized;
	if (result == STRESS_OK)
		stress_credit(path, route->ops, length);
	return result;
}

static const char *check_sizes(void)
{
	return file_check(stress_number(ARG_FILE_SIZE), stress_number(ARG_MAX_LENGTH));
}

STRESS_MAIN("splice", check_sizes,
	    STRESS_PATH("file-pipe-file", TO_FILE),
	    STRESS_PATH("file-pipe-direct", TO_DIRECT),
	    STRESS_PATH("file-pipe-unix", TO_UNIX),
	    STRESS_PATH("file-pipe-tcp", TO_TCP))
