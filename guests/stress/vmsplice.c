// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Maps user pages into a pipe with vmsplice(2), and copies a pipe's data into user memory with it,
 * and checks what arrives.
 *
 * In: fs/splice.c vmsplice_to_pipe() -> iter_to_pipe() -> lib/iov_iter.c iov_iter_get_pages2(),
 * which takes references with FOLL_GET: get_user_pages_fast(), that is mm/gup.c gup_pte_range() on
 * 6.1 and gup_fast_pte_range() on 6.12, and where a page must be faulted in first
 * follow_page_pte(). add_to_pipe() makes each page a buffer of the pipe, with SPLICE_F_GIFT one
 * that user_page_pipe_buf_try_steal() would let a consumer keep; of those that are here none asks
 * for it, so with a gift it is the user's part that differs.
 * From there as splice.c says: copied by read(2) and into a file, written from the very pages by
 * direct I/O, referred to by socket buffers.
 * Out: vmsplice_to_user() -> __splice_from_pipe() -> pipe_to_user() -> copy_page_to_iter(), a copy
 * on both kernels.
 *
 *  - read, file, direct, unix, tcp: user pages in, and out there.
 *  - user: user pages or written data in, and out into user memory.
 *  - fork: vmsplice-fork.h.
 * The memory is anonymous, a memfd or a file mapped shared, by turns.
 *
 * Oracles. Without a gift the pipe shares the pages: they are not written until all data has
 * arrived, which therefore must be exact, and the memory must stand unchanged afterwards. With a
 * gift they are not touched again at all: as soon as the last page is in the pipe the memory is
 * replaced by fresh pages (anonymous) or unmapped (memfd, file), so that the pipe's references are
 * all that keeps them; and the data must be exact as well. Memory that a pipe is copied to is
 * checked with its neighbours, and through the mapped file too.
 */
#define _GNU_SOURCE
#include "common.h"
#include "file.h"
#include "memory.h"
#include "peer.h"
#include "pipe.h"
#include "sink.h"
#include "vmsplice.args.h"
#include "sizes.h"
#include "vmsplice-fork.h"

enum {
	/* Variants behind those of enum sink_kind. */
	USER = SINK_KINDS,
	FORK,
};

enum gift { SOMETIMES, NEVER, ALWAYS }; /* as --gift lists them */

struct route {
	struct sink sink;
	int pipe[2];
	struct resizer resizer;
	struct memory from[MEMORY_KINDS];
	struct memory into[MEMORY_KINDS]; /* of path `user` */
	unsigned char *want, *scratch;

	/* Of this turn. */
	struct memory *source, *target;
	size_t start, target_start; /* in the memory */
	bool gift, feed_by_write;
	unsigned int ops; /* calls of vmsplice that moved data */
};

static int the_pipe(struct stress_path *path)
{
	struct route *route = path->state;

	return route->pipe[1];
}

static struct memory *any_memory(struct stress_path *path, struct memory *memory)
{
	return &memory[memory_choose(path, stress_number(ARG_MEMORY))];
}

static enum stress_result open_memory(struct stress_path *path, struct route *route)
{
	size_t max = stress_number(ARG_MAX_LENGTH);
	int sharing = path->variant == FORK ? MAP_PRIVATE : MAP_SHARED;
	enum stress_result result = STRESS_OK;

	for (int kind = 0; kind < MEMORY_KINDS && result == STRESS_OK; kind++) {
		result = memory_open(path, &route->from[kind], kind, sharing, "from", max);
		if (result == STRESS_OK && path->variant == USER)
			result = memory_open(path, &route->into[kind], kind, sharing, "into", max);
	}
	return result;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct route *route = stress_alloc(sizeof(*route));
	size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result;

	path->state = route;
	*route = (struct route){ .sink = SINK_CLOSED, .pipe = PIPE_CLOSED };
	for (int kind = 0; kind < MEMORY_KINDS; kind++)
		route->from[kind] = route->into[kind] = (struct memory)MEMORY_CLOSED;
	route->want = stress_alloc(max);
	route->scratch = stress_alloc(max);
	result = open_memory(path, route);
	if (result == STRESS_OK)
		result = pipe_open(path, route->pipe);
	if (result == STRESS_OK && path->variant < SINK_KINDS)
		result = sink_open(path, &route->sink, path->variant, "target",
				   stress_number(ARG_FILE_SIZE), max);
	if (result == STRESS_OK && route->sink.align > max)
		result = stress_skip(path,
				     "direct I/O needs blocks of %zu bytes, --max-length is less",
				     route->sink.align);
	return result == STRESS_OK ? resizer_start(path, &route->resizer) : result;
}

static void tear_down(struct stress_path *path)
{
	struct route *route = path->state;

	resizer_stop(&route->resizer);
	sink_close(&route->sink);
	pipe_close(route->pipe);
	for (int kind = 0; kind < MEMORY_KINDS; kind++) {
		memory_close(&route->from[kind]);
		memory_close(&route->into[kind]);
	}
	free(route->want);
	free(route->scratch);
	free(route);
}

/* One vmsplice, or write, of some of the `left` bytes; moves nothing if there was no room. */
static enum stress_result put(struct stress_path *path, size_t done, size_t left, bool empty,
			      size_t *moved)
{
	struct route *route = path->state;
	size_t piece = random_piece(path, left, route->sink.align);
	unsigned char *begin = route->source->bytes + route->start + done;
	unsigned int flags = random_splice_flags(path) | (route->gift ? SPLICE_F_GIFT : 0);
	struct iovec iov[MAX_PIECES];
	ssize_t n;

	*moved = 0;
	if (planted(path, 3)) /* takes the wrong pages */
		begin -= route->sink.align;
	/* Nobody else drains the pipe, so only an empty one may be waited for. */
	if (!empty)
		flags |= SPLICE_F_NONBLOCK;
	path->waits_for = "vmsplice to the pipe";
	if (route->feed_by_write)
		n = empty ? write(route->pipe[1], begin, piece < 4096 ? piece : 4096) : 0;
	else
		n = vmsplice(route->pipe[1], iov,
			     split_range(path, iov, begin, piece, route->sink.align), flags);
	if (!empty && (n == 0 || (n < 0 && errno == EAGAIN)))
		return STRESS_OK;
	if (n < 0)
		return stress_error(path, "put %zu bytes of %s memory into the pipe", piece,
				    memory_name(route->source->kind));
	if (n == 0 || (size_t)n > piece)
		return stress_wrong_number(path, "length", route->start + done, piece, n);
	/* Less is in the pipe than it says. */
	if (planted(path, 5) && read(route->pipe[0], route->scratch, 1) != 1)
		return stress_error(path, "plant a bug");
	route->ops += !route->feed_by_write;
	*moved = n;
	return STRESS_OK;
}

/* Copies some of the pipe's data to the target memory. */
static enum stress_result take_to_user(struct stress_path *path, size_t done, size_t in_pipe,
				       size_t *moved)
{
	struct route *route = path->state;
	size_t piece = random_piece(path, in_pipe, 1);
	unsigned char *to = route->target->bytes + route->target_start + done;
	struct iovec iov[MAX_PIECES];
	ssize_t n;

	path->waits_for = "vmsplice from the pipe";
	n = vmsplice(route->pipe[0], iov, split_range(path, iov, to, piece, 1),
		     random_splice_flags(path));
	if (n < 0)
		return stress_error(path, "copy %zu bytes to %s memory", piece,
				    memory_name(route->target->kind));
	if (n == 0 || (size_t)n > piece)
		return stress_wrong_number(path, "length", route->target_start + done, piece, n);
	if (planted(path, 6)) /* writes beyond the iovecs */
		to[n] ^= 0x10;
	route->ops++;
	*moved = n;
	return STRESS_OK;
}

/* Some of the pipe's data goes where this path wants it. */
static enum stress_result take(struct stress_path *path, size_t done, size_t in_pipe, size_t *moved)
{
	struct route *route = path->state;

	if (path->variant == USER)
		return take_to_user(path, done, in_pipe, moved);
	*moved = random_piece(path, in_pipe, route->sink.align);
	return sink_take(path, &route->sink, route->pipe[0], *moved);
}

/* What was given away must not be touched again: fresh pages take its place. */
static enum stress_result part_with_gift(struct stress_path *path)
{
	struct route *route = path->state;

	if (!route->gift)
		return STRESS_OK;
	if (route->source->kind == ANONYMOUS && rng_one_in(&path->rng, 2))
		return memory_map(path, route->source);
	return memory_unmap_pages(path, route->source);
}

/* Moves the range through the pipe, which must be empty afterwards. */
static enum stress_result pump(struct stress_path *path, size_t length)
{
	struct route *route = path->state;
	size_t in = 0, out = 0, moved = 0;
	enum stress_result result = STRESS_OK;

	while (out < length && result == STRESS_OK) {
		if (in < length && (in == out || rng_one_in(&path->rng, 2))) {
			result = put(path, in, length - in, in == out, &moved);
			in += moved;
			if (result == STRESS_OK)
				result = pipe_holds(path, route->pipe[0], in - out,
						    route->start + out);
			if (result == STRESS_OK && moved && in == length)
				result = part_with_gift(path);
			/* Go on until the pipe is full or chance says that it is enough. */
			if (result != STRESS_OK || (moved && rng_one_in(&path->rng, 2)))
				continue;
		}
		if (in == out)
			continue;
		result = take(path, out, in - out, &moved);
		out += moved;
	}
	return result == STRESS_OK ? pipe_holds(path, route->pipe[0], 0, route->start + length)
				   : result;
}

/* Checks what was copied to user memory, around it, and in the file that is mapped there. */
static enum stress_result verify_user(struct stress_path *path, size_t length)
{
	struct route *route = path->state;
	unsigned char *got = route->target->bytes + route->target_start;
	size_t start = route->target_start;

	if (planted(path, 1)) /* a flipped bit */
		got[length / 2] ^= 0x10;
	if (stress_compare(path, "pattern", got, route->want, NULL, length, start) |
	    memory_check_neighbours(path, got, length, start))
		return STRESS_FAIL;
	if (route->target->kind == ANONYMOUS)
		return STRESS_OK;
	path->waits_for = "a read of the mapped file";
	if (read_all(route->target->file.fd, route->scratch, length, start) != (ssize_t)length)
		return stress_error(path, "read the mapped file");
	if (planted(path, 7)) /* the mapping is not the file */
		route->scratch[length / 2] ^= 0x10;
	return stress_compare(path, "mapping", route->scratch, route->want, NULL, length, start);
}

static enum stress_result verify(struct stress_path *path, size_t length)
{
	struct route *route = path->state;
	unsigned char *source = route->source->bytes + route->start;
	enum stress_result result;

	if (path->variant == USER)
		result = verify_user(path, length);
	else
		result = sink_verify(path, &route->sink, "pattern", route->want, route->start);
	if (result != STRESS_OK || route->gift)
		return result;
	if (planted(path, 8)) /* the pages were written to */
		source[length / 2] ^= 0x10;
	return stress_compare(path, "source", source, route->want, NULL, length, route->start);
}

static bool choose_gift(struct stress_path *path)
{
	enum gift gift = stress_number(ARG_GIFT);

	return gift == ALWAYS || (gift == SOMETIMES && rng_one_in(&path->rng, 2));
}

/* Prepares where the data goes. */
static enum stress_result begin(struct stress_path *path, size_t length)
{
	struct route *route = path->state;

	route->ops = 0;
	route->gift = choose_gift(path);
	route->feed_by_write = false;
	if (path->variant != USER) {
		sink_begin(path, &route->sink, length);
		return STRESS_OK;
	}
	route->feed_by_write = rng_one_in(&path->rng, 4);
	route->target = any_memory(path, route->into);
	route->target_start = memory_room(path, route->target, length, 1);
	memory_poison(route->target->bytes + route->target_start, length);
	return memory_evict_sometimes(path, route->target);
}

static enum stress_result turn(struct stress_path *path)
{
	struct route *route = path->state;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), route->sink.align);
	enum stress_result result, resized;

	route->source = any_memory(path, route->from);
	route->start = memory_room(path, route->source, length, route->sink.align);
	path->generation++;
	pattern_fill(path->key, path->generation, route->want, length, route->start);
	path->waits_for = "a store to the memory";
	if (!planted(path, 4)) /* else stale data */
		memcpy(route->source->bytes + route->start, route->want, length);
	result = memory_prepare(path, route->source, route->source->bytes + route->start, length);
	if (result == STRESS_OK)
		result = begin(path, length);
	if (result != STRESS_OK)
		return result;

	resizer_order_sometimes(path, &route->resizer, the_pipe);
	result = pump(path, length);
	resized = resizer_wait(path, &route->resizer);
	if (result == STRESS_OK)
		result = verify(path, length);
	if (result == STRESS_FAIL)
		stress_note(path, "%s%s memory at %zu, %zu bytes", route->gift ? "gift of " : "",
			    memory_name(route->source->kind), route->start, length);
	if (result == STRESS_OK)
		result = resized;
	if (result == STRESS_OK)
		stress_credit(path, route->ops, length);
	return result;
}

static enum stress_result turn_fork(struct stress_path *path)
{
	struct route *route = path->state;
	size_t max = stress_number(ARG_MAX_LENGTH);
	size_t length = rng_length(&path->rng, max < FORK_LENGTH ? max : FORK_LENGTH, 1);

	return fork_turn(path, any_memory(path, route->from), route->pipe, route->want,
			 route->scratch, length);
}

STRESS_MAIN("vmsplice", check_sizes,
	    STRESS_PATH("read", SINK_READ),
	    STRESS_PATH("file", SINK_FILE),
	    STRESS_PATH("direct", SINK_DIRECT),
	    STRESS_PATH("unix", SINK_UNIX),
	    STRESS_PATH("tcp", SINK_TCP),
	    STRESS_PATH("user", USER),
	    { .name = "fork", .setup = set_up, .turn = turn_fork, .teardown = tear_down,
	      .variant = FORK })
