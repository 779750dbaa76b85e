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
#include "common.h"
#include "file.h"
#include "pipe.h"
#include "sink.h"
#include "splice.args.h"
#include "sizes.h"

struct route {
	struct stress_file source;
	int pipe[2];
	struct sink sink;
	struct resizer resizer;
	unsigned int ops; /* calls that moved data into the pipe in this turn */
};

static int the_pipe(struct stress_path *path)
{
	struct route *route = path->state;

	return route->pipe[1];
}

static enum stress_result set_up(struct stress_path *path)
{
	uint64_t size = stress_number(ARG_FILE_SIZE);
	struct route *route = stress_alloc(sizeof(*route));
	enum stress_result result;

	path->state = route;
	*route = (struct route){ .source = STRESS_FILE_CLOSED,
				 .pipe = PIPE_CLOSED,
				 .sink = SINK_CLOSED };
	result = file_open(path, &route->source, "source", size);
	if (result == STRESS_OK)
		result = pipe_open(path, route->pipe);
	if (result == STRESS_OK)
		result = sink_open(path, &route->sink, path->variant, "target", size,
				   stress_number(ARG_MAX_LENGTH));
	return result == STRESS_OK ? resizer_start(path, &route->resizer) : result;
}

static void tear_down(struct stress_path *path)
{
	struct route *route = path->state;

	resizer_stop(&route->resizer);
	sink_close(&route->sink);
	pipe_close(route->pipe);
	file_close(&route->source);
	free(route);
}

/* From the source into the pipe; moves nothing if there was no room. */
static enum stress_result splice_in(struct stress_path *path, uint64_t from, size_t left,
				    bool empty, size_t *moved)
{
	struct route *route = path->state;
	unsigned int flags = random_splice_flags(path);
	loff_t offset = from;
	ssize_t n;

	*moved = 0;
	/* Nobody else drains the pipe, so only an empty one may be waited for. */
	if (!empty)
		flags |= SPLICE_F_NONBLOCK;
	path->waits_for = "splice from the file to the pipe";
	n = splice(route->source.fd, &offset, route->pipe[1], NULL,
		   random_piece(path, left, route->sink.align), flags);
	if (n < 0 && errno == EAGAIN && !empty)
		return STRESS_OK;
	if (n < 0)
		return stress_error(path, "splice %zu bytes at %llu from the file to the pipe",
				    left, (unsigned long long)from);
	if (n == 0 || (size_t)n > left)
		return stress_wrong_number(path, "length", from, left, n);
	route->ops++;
	*moved = n;
	return STRESS_OK;
}

/* Moves the range through the pipe, which must be empty afterwards. */
static enum stress_result pump(struct stress_path *path, uint64_t from, size_t length)
{
	struct route *route = path->state;
	const size_t align = route->sink.align;
	enum stress_result result = STRESS_OK;
	size_t in = 0, out = 0, moved;

	if (planted(path, 3)) /* reads from the wrong place */
		from += from >= align ? -align : align;
	while (out < length && result == STRESS_OK) {
		if (in < length && (in == out || rng_one_in(&path->rng, 2))) {
			result = splice_in(path, from + in, length - in, in == out, &moved);
			in += moved;
			/* Go on until the pipe is full or chance says that it is enough. */
			if (result != STRESS_OK || (moved && rng_one_in(&path->rng, 2)))
				continue;
		}
		moved = random_piece(path, in - out, align);
		result = sink_take(path, &route->sink, route->pipe[0], moved);
		out += moved;
	}
	return result == STRESS_OK
		       ? pipe_holds(path, route->pipe[0], planted(path, 5) /* a byte stays */,
				    from + length)
		       : result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct route *route = path->state;
	const size_t align = route->sink.align;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), align);
	uint64_t from = rng_offset(&path->rng, route->source.size, length, align);
	enum stress_result result, resized;

	file_renew_model(path, &route->source, from, length);
	if (!planted(path, 4)) { /* else a stale source */
		result = file_write(path, &route->source, from, length);
		if (result != STRESS_OK)
			return result;
	}
	result = file_prepare(path, &route->source, from, length);
	if (result != STRESS_OK)
		return result;

	route->ops = 0;
	sink_begin(path, &route->sink, length);
	resizer_order_sometimes(path, &route->resizer, the_pipe);
	result = pump(path, from, length);
	resized = resizer_wait(path, &route->resizer);
	if (result == STRESS_OK)
		result = sink_verify(path, &route->sink, "pattern", route->source.model + from,
				     from);
	if (result == STRESS_OK)
		result = resized;
	if (result == STRESS_OK)
		stress_credit(path, route->ops + route->sink.ops, length);
	return result;
}

STRESS_MAIN("splice", check_sizes,
	    STRESS_PATH("file-pipe-file", SINK_FILE),
	    STRESS_PATH("file-pipe-direct", SINK_DIRECT),
	    STRESS_PATH("file-pipe-unix", SINK_UNIX),
	    STRESS_PATH("file-pipe-tcp", SINK_TCP))
