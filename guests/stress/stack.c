// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * I/O on devices that stand on a file: a loop device, and a device of the mapper on top of that.
 *
 * A page that is given to the highest device goes down with its request: drivers/md/dm.c
 * dm_submit_bio() clones the bio, which has the same pages, and drivers/md/dm-linear.c linear_map()
 * sends it on; drivers/block/loop.c lo_rw_aio() makes an iterator of the request's pages and calls
 * the ->write_iter() of the file below from a workqueue, where fs/iomap/direct-io.c __iomap_dio_rw()
 * -> block/bio.c bio_iov_iter_get_pages() takes them as they are, without references of its own, for
 * the disk. So the only device that sees the page is the lowest, and what was done about it was done
 * when the highest was given it.
 *  - loop, loop-splice: direct I/O on a loop device, which does direct I/O on the file: by pread(2)
 *    and pwrite(2), and by splice(2) from a memfd through a pipe (fs/splice.c
 *    iter_file_splice_write()).
 *  - linear, linear-splice: the same with the mapper's target `linear` on top.
 *  - cached: a loop device that reads and writes the file through the page cache, where data is
 *    copied. A control: no page goes down.
 *  - sendfile: sendfile(2) from the page cache of the loop device to TCP. The cache's writeback goes
 *    down as direct I/O does.
 *
 * Oracles. All is serialised, so each byte must be what was last written to it. After each write
 * the range and its neighbours are read from the file below, where they must stand too; direct reads
 * are checked with their neighbours in memory.
 */
#define _GNU_SOURCE
#include <sys/sendfile.h>

#include "common.h"
#include "file.h"
#include "layers.h"
#include "memory.h"
#include "pipe.h"
#include "sink.h"
#include "stack.args.h"
#include "sizes.h"

enum variant { LOOP, LOOP_SPLICE, LINEAR, LINEAR_SPLICE, CACHED, SENDFILE };

struct stack {
	struct stress_file below; /* what all stands on */
	struct loop loop;
	struct mapper linear;
	int top; /* the highest device, for direct I/O */
	size_t align;
	struct memory memory;
	int pipe[2];
	struct stress_file source; /* the loop device's page cache, for sendfile */
	struct sink sink;
	unsigned int ops; /* calls that moved data in this turn */
};

/* Written, not only extended: direct I/O on holes may be done by way of the page cache. */
static enum stress_result make_below(struct stress_path *path, struct stress_file *below)
{
	enum stress_result result = file_open(path, below, "below", stress_number(ARG_FILE_SIZE));

	if (result == STRESS_OK)
		result = file_write(path, below, 0, below->size);
	path->waits_for = "fdatasync";
	if (result == STRESS_OK && fdatasync(below->fd))
		return stress_error(path, "write back the file below");
	return result;
}

static enum stress_result open_top(struct stress_path *path, struct stack *stack)
{
	if (path->variant == LINEAR || path->variant == LINEAR_SPLICE) {
		struct mapper_part all = { "linear", stack->below.size / SECTOR, "" };

		snprintf(all.parameters, sizeof(all.parameters), "%s 0", stack->loop.node);
		return mapper_open(path, &stack->linear, &all, 1, &stack->top);
	}
	stack->top = open(stack->loop.node, O_RDWR | O_DIRECT | O_CLOEXEC);
	return stack->top < 0 ? stress_error(path, "open %s", stack->loop.node) : STRESS_OK;
}

static enum stress_result set_up_direct(struct stress_path *path, struct stack *stack)
{
	const size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result = open_top(path, stack);

	if (result != STRESS_OK)
		return result;
	stack->align = file_direct_alignment(stack->top);
	if (!stack->align || stack->align > max)
		return stress_skip(path, "direct I/O needs blocks of %zu bytes here, --max-length "
				   "is less", stack->align);
	result = memory_open(path, &stack->memory, MEMFD, MAP_SHARED, "memory", max);
	return result == STRESS_OK ? pipe_open(path, stack->pipe) : result;
}

static enum stress_result set_up_sendfile(struct stress_path *path, struct stack *stack)
{
	enum stress_result result;

	stack->source.fd = open(stack->loop.node, O_RDWR | O_CLOEXEC);
	if (stack->source.fd < 0)
		return stress_error(path, "open %s", stack->loop.node);
	result = file_model(path, &stack->source, "loop", stack->below.size);
	return result == STRESS_OK ? sink_open(path, &stack->sink, SINK_TCP, "", 0,
					       stress_number(ARG_MAX_LENGTH))
				   : result;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct stack *stack = stress_alloc(sizeof(*stack));
	enum stress_result result;

	path->state = stack;
	*stack = (struct stack){ .below = STRESS_FILE_CLOSED, .loop = LOOP_CLOSED,
				 .linear = MAPPER_CLOSED, .top = -1, .memory = MEMORY_CLOSED,
				 .pipe = PIPE_CLOSED, .source = STRESS_FILE_CLOSED,
				 .sink = SINK_CLOSED };
	result = make_below(path, &stack->below);
	if (result == STRESS_OK)
		result = loop_open(path, &stack->loop, stack->below.fd, path->variant != CACHED);
	if (result != STRESS_OK)
		return result;
	return path->variant == SENDFILE ? set_up_sendfile(path, stack) : set_up_direct(path, stack);
}

static void tear_down(struct stress_path *path)
{
	struct stack *stack = path->state;

	path->waits_for = "the devices to go";
	sink_close(&stack->sink);
	file_close(&stack->source);
	pipe_close(stack->pipe);
	memory_close(&stack->memory);
	if (stack->top >= 0)
		close(stack->top);
	mapper_close(path, &stack->linear);
	loop_close(&stack->loop);
	file_close(&stack->below);
	free(stack);
}

static enum stress_result store(struct stress_path *path, const unsigned char *range, size_t length,
				uint64_t offset)
{
	struct stack *stack = path->state;

	path->waits_for = "a direct write";
	stack->ops++;
	if (!write_all(stack->top, range, length, offset))
		return stress_error(path, "write %zu bytes at %llu to the highest device", length,
				    (unsigned long long)offset);
	return STRESS_OK;
}

/* One splice(2), of which nothing may be refused. */
static enum stress_result move(struct stress_path *path, int in, loff_t *from, int out, loff_t *to,
			       size_t length, size_t *moved)
{
	struct stack *stack = path->state;
	ssize_t n;

	n = splice(in, from, out, to, length, rng_one_in(&path->rng, 2) ? SPLICE_F_MOVE : 0);
	if (n < 0)
		return stress_error(path, "splice %zu bytes", length);
	if (n == 0 || (size_t)n > length)
		return stress_wrong_number(path, "length", 0, length, n);
	stack->ops++;
	*moved = n;
	return STRESS_OK;
}

/* The memory's pages, by way of its memfd and a pipe. */
static enum stress_result store_by_splice(struct stress_path *path, const unsigned char *range,
					  size_t length, uint64_t offset)
{
	struct stack *stack = path->state;
	loff_t from = range - stack->memory.bytes, to = offset;
	size_t left = length;

	while (left) {
		enum stress_result result;
		size_t in = 0, out = 0;

		path->waits_for = "splice from the memfd";
		result = move(path, stack->memory.file.fd, &from, stack->pipe[1], NULL,
			      random_piece(path, left, stack->align), &in);
		path->waits_for = "splice to the highest device";
		for (left -= in; result == STRESS_OK && in; in -= out)
			result = move(path, stack->pipe[0], NULL, stack->top, &to,
				      random_piece(path, in, stack->align), &out);
		if (result != STRESS_OK)
			return result;
	}
	return pipe_holds(path, stack->pipe[0], planted(path, 5) /* a byte stays */, offset);
}

static enum stress_result load(struct stress_path *path, unsigned char *range, size_t length,
			       uint64_t offset)
{
	struct stack *stack = path->state;
	enum stress_result result;

	memory_poison(range, length);
	result = memory_prepare(path, &stack->memory, range, length);
	if (result != STRESS_OK)
		return result;
	path->waits_for = "a direct read";
	stack->ops++;
	if (read_all(stack->top, range, length, offset) != (ssize_t)length)
		return stress_error(path, "read %zu bytes at %llu of the highest device", length,
				    (unsigned long long)offset);
	if (planted(path, 3)) /* a flipped bit */
		range[length / 2] ^= 0x10;
	if (planted(path, 4)) /* one byte too many */
		range[length] ^= 0x10;
	if (memory_check_neighbours(path, range, length, offset) != STRESS_OK)
		return STRESS_FAIL;
	return stress_compare(path, "read", range, stack->below.model + offset, NULL, length,
			      offset);
}

static enum stress_result turn_direct(struct stress_path *path, size_t *length)
{
	struct stack *stack = path->state;
	const bool by_splice = path->variant == LOOP_SPLICE || path->variant == LINEAR_SPLICE ||
			       (path->variant == CACHED && rng_one_in(&path->rng, 2));
	enum stress_result result;
	unsigned char *range;
	uint64_t offset;

	*length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), stack->align);
	offset = rng_offset(&path->rng, stack->below.size, *length, stack->align);
	range = stack->memory.bytes + memory_room(path, &stack->memory, *length, stack->align);
	pattern_fill(path->key, ++path->generation, range, *length, offset);
	result = memory_prepare(path, &stack->memory, range, *length);
	if (result == STRESS_OK)
		result = by_splice ? store_by_splice(path, range, *length, offset)
				   : store(path, range, *length, offset);
	if (result == STRESS_OK)
		result = file_verify_moved(path, &stack->below, "pattern", range, offset, *length);
	/* How splice reads from a device, by copies, is of no interest here. */
	return result == STRESS_OK && !by_splice ? load(path, range, *length, offset) : result;
}

/* What was sent stands below too, when it is written back. */
static enum stress_result verify_below(struct stress_path *path, uint64_t from, size_t length)
{
	struct stack *stack = path->state;
	struct stress_file below = stack->source;

	path->waits_for = "fdatasync of the loop device";
	if (fdatasync(stack->source.fd))
		return stress_error(path, "write back %s", stack->loop.node);
	below.fd = stack->below.fd;
	return file_verify(path, &below, "below", from, length);
}

static enum stress_result turn_sendfile(struct stress_path *path, size_t *length)
{
	struct stack *stack = path->state;
	enum stress_result result;
	size_t left;
	off_t from;

	left = *length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	from = rng_offset(&path->rng, stack->source.size, *length, 1);
	file_renew_model(path, &stack->source, from, *length);
	result = file_write(path, &stack->source, from, *length);
	if (result == STRESS_OK)
		result = file_prepare(path, &stack->source, from, *length);
	if (result != STRESS_OK)
		return result;
	sink_begin(path, &stack->sink, *length);
	path->waits_for = "sendfile";
	for (off_t at = from; left;) {
		ssize_t n = sendfile(stack->sink.out, stack->source.fd, &at, left);

		if (n < 0)
			return stress_error(path, "send %zu bytes of the loop device", left);
		if (n == 0 || (size_t)n > left)
			return stress_wrong_number(path, "length", at, left, n);
		stack->ops++;
		left -= n;
	}
	result = sink_verify(path, &stack->sink, "pattern", stack->source.model + from, from);
	if (result != STRESS_OK || !rng_one_in(&path->rng, 4))
		return result;
	return verify_below(path, from, *length);
}

static enum stress_result turn(struct stress_path *path)
{
	struct stack *stack = path->state;
	enum stress_result result;
	size_t length;

	stack->ops = 0;
	result = path->variant == SENDFILE ? turn_sendfile(path, &length)
					   : turn_direct(path, &length);
	if (result == STRESS_OK)
		stress_credit(path, stack->ops, length);
	return result;
}

STRESS_MAIN("stack", check_sizes,
	    STRESS_PATH("loop", LOOP),
	    STRESS_PATH("loop-splice", LOOP_SPLICE),
	    STRESS_PATH("linear", LINEAR),
	    STRESS_PATH("linear-splice", LINEAR_SPLICE),
	    STRESS_PATH("cached", CACHED),
	    STRESS_PATH("sendfile", SENDFILE))
