// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Duplicates the data of a pipe into many pipes with tee(2), moves each copy to somewhere else, and
 * checks every copy.
 *
 * fs/splice.c do_tee() -> link_pipe(): for each buffer pipe_buf_get() -> fs/pipe.c
 * generic_pipe_buf_get() -> include/linux/mm.h try_get_page(), which warns once and refuses when it
 * meets a page without references; link_pipe() then ends with EFAULT. That is the same on 6.1 and
 * 6.12. What differs is around it.
 *
 * In, by splice(2) from a file: 6.1 generic_file_splice_read() with an ITER_PIPE, for which
 * lib/iov_iter.c copy_page_to_iter_pipe() takes the page cache's pages; 6.12 mm/filemap.c
 * filemap_splice_read() -> splice_folio_into_pipe() (tmpfs: mm/shmem.c shmem_file_splice_read()).
 * Out: read(2) copies and drops the references; a file takes a copy; a file opened for direct I/O
 * is written from the very pages (iter_file_splice_write()); sockets take the pages themselves: 6.1
 * generic_splice_sendpage(), 6.12 splice_to_socket(). So one page of the source stands in many
 * pipes, socket buffers and bios at once. Meanwhile fs/pipe.c pipe_resize_ring() moves the buffers
 * of some pipe to a ring of another size.
 *
 * One turn writes a new generation of a range of the source and splices it into a pipe piece by
 * piece. Each piece is duplicated into all pipes, either from the first one or from the latest
 * copy, a tee of a tee. A pipe may take less than the one before it, and at times is asked to; then
 * that much is what all go on with, and the surplus of the others is read out and checked too. After
 * that the original is read out of the first pipe and must be what it was.
 *  - read, file, direct, unix, tcp: all copies go there.
 *  - mixed: the copies go to one of each.
 *  - storm: for the rate of references. The ring is filled with pieces of a few bytes from all over
 *    the file, a page each, and duplicated again and again; the copies are read.
 *
 * The source is not written again before every copy is checked, since the pipes and sockets hold
 * its pages: each byte must be of the new generation, exactly. An op is a call of tee(2) that
 * duplicated data.
 */
#define _GNU_SOURCE
#include "common.h"
#include "file.h"
#include "peer.h"
#include "pipe.h"
#include "sink.h"
#include "tee.args.h"

enum {
	/* Variants behind those of enum sink_kind. */
	MIXED = SINK_KINDS,
	STORM,

	MAX_FAN_OUT = 16,
	STORM_PIECE = 16, /* most bytes of one */
	STORM_BYTES = STORM_PIECE * MAX_PIPE_PAGES,
	STORM_ROUNDS = 16,
};

struct branch {
	struct sink sink;
	int pipe[2];
	size_t held; /* bytes in the pipe */
};

struct fan {
	struct stress_file source;
	int pipe[2]; /* the first one */
	struct branch branches[MAX_FAN_OUT];
	unsigned int count;  /* of branches */
	size_t align;	     /* of offsets and lengths; 1 if any will do */
	unsigned char *out;  /* what is read out of a pipe */
	unsigned char *want; /* of a storm */
	struct resizer resizer;
	unsigned int ops;	       /* calls of tee that duplicated data in this turn */
	unsigned long long fell_short; /* calls that duplicated less than they were asked to */
};

static int any_pipe(struct stress_path *path)
{
	struct fan *fan = path->state;
	uint64_t which = rng_below(&path->rng, fan->count + 1);

	return which ? fan->branches[which - 1].pipe[1] : fan->pipe[1];
}

static enum stress_result open_branch(struct stress_path *path, struct fan *fan, unsigned int index)
{
	uint64_t file_size = round_down(stress_number(ARG_FILE_SIZE) / fan->count, 4096);
	size_t max = stress_number(ARG_MAX_LENGTH);
	struct branch *branch = &fan->branches[index];
	enum sink_kind kind = path->variant;
	enum stress_result result;
	char tag[16];

	if (path->variant == MIXED)
		kind = index % SINK_KINDS;
	if (path->variant == STORM)
		kind = SINK_READ;
	snprintf(tag, sizeof(tag), "target-%u", index);
	result = sink_open(path, &branch->sink, kind, tag, file_size, max);
	if (result == STRESS_SKIP && path->variant == MIXED) {
		stress_note(path, "a copy is read instead: %s", path->reason);
		sink_close(&branch->sink);
		result = sink_open(path, &branch->sink, SINK_READ, tag, file_size, max);
	}
	if (branch->sink.align > fan->align)
		fan->align = branch->sink.align;
	return result == STRESS_OK ? pipe_open(path, branch->pipe) : result;
}

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	struct fan *fan = stress_alloc(sizeof(*fan));
	size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result;

	path->state = fan;
	*fan = (struct fan){ .source = closed, .pipe = PIPE_CLOSED, .align = 1 };
	fan->count = stress_number(ARG_FAN_OUT);
	for (unsigned int i = 0; i < fan->count; i++)
		fan->branches[i] = (struct branch){ .sink = SINK_CLOSED, .pipe = PIPE_CLOSED };
	fan->out = stress_alloc(max > STORM_BYTES ? max : STORM_BYTES);
	fan->want = stress_alloc(STORM_BYTES);
	result = file_open(path, &fan->source, "source", stress_number(ARG_FILE_SIZE));
	if (result == STRESS_OK)
		result = pipe_open(path, fan->pipe);
	for (unsigned int i = 0; i < fan->count && result == STRESS_OK; i++)
		result = open_branch(path, fan, i);
	if (result == STRESS_OK && fan->align > max)
		result = stress_skip(path,
				     "direct I/O needs blocks of %zu bytes, --max-length is less",
				     fan->align);
	return result == STRESS_OK ? resizer_start(path, &fan->resizer) : result;
}

static void tear_down(struct stress_path *path)
{
	struct fan *fan = path->state;

	resizer_stop(&fan->resizer);
	for (struct branch *b = fan->branches; b < fan->branches + fan->count; b++) {
		sink_close(&b->sink);
		pipe_close(b->pipe);
	}
	pipe_close(fan->pipe);
	file_close(&fan->source);
	if (fan->fell_short)
		stress_note(path, "%llu calls duplicated less than they were asked to",
			    fan->fell_short);
	free(fan->out);
	free(fan->want);
	free(fan);
}

/* Splices up to `length` bytes from the source into the first pipe, which has room if `empty`. */
static enum stress_result splice_in(struct stress_path *path, uint64_t from, size_t length,
				    bool empty, size_t *moved)
{
	struct fan *fan = path->state;
	unsigned int flags = random_splice_flags(path);
	loff_t offset = from;
	ssize_t n;

	*moved = 0;
	if (!empty)
		flags |= SPLICE_F_NONBLOCK;
	if (planted(path, 3)) /* reads from the wrong place */
		offset = from >= fan->align ? from - fan->align : from + fan->align;
	path->waits_for = "splice from the file to the pipe";
	n = splice(fan->source.fd, &offset, fan->pipe[1], NULL, length, flags);
	if (n < 0 && errno == EAGAIN && !empty)
		return STRESS_OK;
	if (n < 0)
		return stress_error(path, "splice %zu bytes at %llu from the file to the pipe",
				    length, (unsigned long long)from);
	if (n == 0 || (size_t)n > length)
		return stress_wrong_number(path, "length", from, length, n);
	*moved = n;
	return STRESS_OK;
}

/* Duplicates up to `length` bytes of a pipe into a branch's, which is empty. */
static enum stress_result duplicate(struct stress_path *path, int from, struct branch *branch,
				    size_t length, uint64_t offset)
{
	struct fan *fan = path->state;
	ssize_t n;

	path->waits_for = "tee";
	n = tee(from, branch->pipe[1], length, random_splice_flags(path));
	if (n < 0)
		return stress_error(path, "duplicate %zu bytes with tee", length);
	if (n == 0 || (size_t)n > length)
		return stress_wrong_number(path, "length", offset, length, n);
	if (planted(path, 5) && read(branch->pipe[0], fan->out, 1) != 1) /* a copy too short */
		return stress_error(path, "plant a bug");
	if (planted(path, 6) && read(fan->pipe[0], fan->out, 1) != 1) /* an original eaten */
		return stress_error(path, "plant a bug");
	fan->fell_short += (size_t)n < length;
	fan->ops++;
	branch->held = n;
	return STRESS_OK;
}

/* Reads exactly `length` bytes out of a pipe and compares them. */
static enum stress_result read_out(struct stress_path *path, const char *check, int pipe,
				   const unsigned char *want, size_t length, uint64_t offset)
{
	struct fan *fan = path->state;
	size_t done = 0;

	path->waits_for = "a read from a pipe";
	while (done < length) {
		ssize_t n = read(pipe, fan->out + done, length - done);

		if (n < 0)
			return stress_error(path, "read %zu bytes from a pipe", length - done);
		if (n == 0)
			return stress_wrong_number(path, "length", offset, length, done);
		done += n;
	}
	return stress_compare(path, check, fan->out, want, NULL, length, offset);
}

/*
 * Duplicates data of the first pipe, which holds `in_pipe` bytes from `offset` of the source, into
 * all others; *common is what each of them has at least.
 */
static enum stress_result spread(struct stress_path *path, size_t in_pipe, uint64_t offset,
				 size_t *common)
{
	struct fan *fan = path->state;
	int from = fan->pipe[0];
	enum stress_result result = STRESS_OK;

	*common = random_piece(path, in_pipe, fan->align);
	for (struct branch *b = fan->branches; b < fan->branches + fan->count; b++) {
		if (rng_one_in(&path->rng, 8))
			*common = random_piece(path, *common, fan->align);
		result = duplicate(path, from, b, *common, offset);
		if (result == STRESS_OK)
			result = pipe_holds(path, b->pipe[0], b->held, offset);
		if (result != STRESS_OK)
			return result;
		*common = b->held;
		from = rng_one_in(&path->rng, 2) ? b->pipe[0] : fan->pipe[0];
	}
	return pipe_holds(path, fan->pipe[0], in_pipe, offset);
}

/* Moves `common` bytes of each copy to its sink, and reads what is left and the original. */
static enum stress_result deliver(struct stress_path *path, size_t common, uint64_t offset)
{
	struct fan *fan = path->state;
	unsigned char *want = fan->source.model + offset;
	enum stress_result result = STRESS_OK;

	for (struct branch *b = fan->branches; b < fan->branches + fan->count; b++) {
		if (result == STRESS_OK)
			result = sink_take(path, &b->sink, b->pipe[0], common);
		if (planted(path, 7) && b->held > common) /* the end of the ring is wrong */
			want[common] ^= 0x10;
		if (result == STRESS_OK)
			result = read_out(path, "surplus", b->pipe[0], want + common,
					  b->held - common, offset + common);
	}
	if (planted(path, 8)) /* the original was written to */
		want[common / 2] ^= 0x10;
	if (result == STRESS_OK)
		result = read_out(path, "original", fan->pipe[0], want, common, offset);
	return result;
}

/* Moves the range of the source through all pipes, which must be empty afterwards. */
static enum stress_result pump(struct stress_path *path, uint64_t from, size_t length)
{
	struct fan *fan = path->state;
	enum stress_result result = STRESS_OK;
	size_t in = 0, out = 0, moved, common;

	while (out < length && result == STRESS_OK) {
		if (in < length && (in == out || rng_one_in(&path->rng, 2))) {
			size_t piece = random_piece(path, length - in, fan->align);

			result = splice_in(path, from + in, piece, in == out, &moved);
			in += moved;
			/* Go on until the pipe is full or chance says that it is enough. */
			if (result != STRESS_OK || (moved && rng_one_in(&path->rng, 2)))
				continue;
		}
		result = spread(path, in - out, from + out, &common);
		if (result == STRESS_OK)
			result = deliver(path, common, from + out);
		out += common;
	}
	return result == STRESS_OK ? pipe_holds(path, fan->pipe[0], 0, from + length) : result;
}

static enum stress_result fan_out(struct stress_path *path, uint64_t from, size_t length,
				  uint64_t *bytes)
{
	struct fan *fan = path->state;
	struct branch *past = fan->branches + fan->count;
	enum stress_result result;

	for (struct branch *b = fan->branches; b < past; b++)
		sink_begin(path, &b->sink, length);
	result = pump(path, from, length);
	for (struct branch *b = fan->branches; b < past && result == STRESS_OK; b++)
		result = sink_verify(path, &b->sink, "pattern", fan->source.model + from, from);
	*bytes = (uint64_t)length * fan->count;
	return result;
}

/* Fills the first pipe with short pieces: half of them from the new range, half from anywhere. */
static enum stress_result fill_with_pieces(struct stress_path *path, uint64_t from, size_t length,
					   size_t *filled)
{
	struct fan *fan = path->state;
	size_t moved = 1;

	*filled = 0;
	while (moved && *filled + STORM_PIECE <= STORM_BYTES) {
		bool fresh = rng_one_in(&path->rng, 2);
		size_t piece = 1 + rng_below(&path->rng, STORM_PIECE);
		uint64_t offset = rng_offset(&path->rng, fan->source.size, piece, 1);
		enum stress_result result;

		if (fresh && length >= piece)
			offset = from + rng_offset(&path->rng, length, piece, 1);
		result = splice_in(path, offset, piece, !*filled, &moved);
		if (result != STRESS_OK)
			return result;
		memcpy(fan->want + *filled, fan->source.model + offset, moved);
		*filled += moved;
	}
	return STRESS_OK;
}

static enum stress_result storm(struct stress_path *path, uint64_t from, size_t length,
				uint64_t *bytes)
{
	struct fan *fan = path->state;
	enum stress_result result;
	size_t filled;

	*bytes = 0;
	result = fill_with_pieces(path, from, length, &filled);
	for (unsigned int i = 0; i < STORM_ROUNDS * fan->count && result == STRESS_OK; i++) {
		struct branch *b = &fan->branches[i % fan->count];
		ssize_t n;

		result = duplicate(path, fan->pipe[0], b, filled, 0);
		if (result != STRESS_OK)
			break;
		path->waits_for = "a read from a pipe";
		n = read(b->pipe[0], fan->out, STORM_BYTES);
		if (n < 0)
			return stress_error(path, "read a copy");
		if ((size_t)n != b->held)
			return stress_wrong_number(path, "length", 0, b->held, n);
		if (planted(path, 1)) /* a flipped bit */
			fan->out[n / 2] ^= 0x10;
		result = stress_compare(path, "pattern", fan->out, fan->want, NULL, n, 0);
		*bytes += n;
	}
	if (result == STRESS_OK)
		result = pipe_holds(path, fan->pipe[0], filled, 0);
	if (planted(path, 8))
		fan->want[filled / 2] ^= 0x10;
	if (result == STRESS_OK)
		result = read_out(path, "original", fan->pipe[0], fan->want, filled, 0);
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct fan *fan = path->state;
	size_t length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), fan->align);
	uint64_t from = rng_offset(&path->rng, fan->source.size, length, fan->align), bytes = 0;
	enum stress_result result, resized;

	file_renew_model(path, &fan->source, from, length);
	if (!planted(path, 4)) { /* else a stale source */
		result = file_write(path, &fan->source, from, length);
		if (result != STRESS_OK)
			return result;
	}
	result = file_prepare(path, &fan->source, from, length);
	if (result != STRESS_OK)
		return result;

	fan->ops = 0;
	resizer_order_sometimes(path, &fan->resizer, any_pipe);
	if (path->variant == STORM)
		result = storm(path, from, length, &bytes);
	else
		result = fan_out(path, from, length, &bytes);
	resized = resizer_wait(path, &fan->resizer);
	if (result == STRESS_OK)
		result = resized;
	if (result == STRESS_OK)
		stress_credit(path, fan->ops, bytes);
	return result;
}

static const char *check_sizes(void)
{
	uint64_t branch = stress_number(ARG_FILE_SIZE) / stress_number(ARG_FAN_OUT);

	if (round_down(branch, 4096) / 2 < stress_number(ARG_MAX_LENGTH))
		return "--file-size must be at least twice --max-length times --fan-out";
	return NULL;
}

STRESS_MAIN("tee", check_sizes,
	    STRESS_PATH("read", SINK_READ),
	    STRESS_PATH("file", SINK_FILE),
	    STRESS_PATH("direct", SINK_DIRECT),
	    STRESS_PATH("unix", SINK_UNIX),
	    STRESS_PATH("tcp", SINK_TCP),
	    STRESS_PATH("mixed", MIXED),
	    STRESS_PATH("storm", STORM))
