// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * I/O of a protected guest's pages that fails half way, on a device of the mapper:
 *  - part: some of it is of the target `flakey` that fails all (drivers/md/dm-flakey.c flakey_map()),
 *    between two of the target `linear`;
 *  - requests: it is of two targets `linear`, and the kernel fails requests to the disk below at
 *    random (fail-requests.h).
 *
 * A request that crosses a border is cut there (drivers/md/dm.c dm_split_and_process_bio()) and ends
 * with an error when the rest is done; others fail at once. Whoever took references to its pages has
 * to give back each of them, once, on that way too:
 *  - write, read: block/fops.c blkdev_direct_IO() -> block/bio.c bio_release_pages();
 *  - splice: fs/splice.c iter_file_splice_write(), and what stays in the pipe;
 *  - vmsplice: the same with pages of user memory.
 *
 * Oracles. Turns that avoid the part must do all of their work, turns that reach into it must not
 * say that they did; of requests, every second turn's may fail. What stands where nothing must fail is
 * what was written, or in a turn that failed what stood there before. Each time, nobody has a reference
 * to a page any more but the page cache: it can be made secure.
 */
#define _GNU_SOURCE
#include "common.h"
#include "fail-requests.h"
#include "file.h"
#include "flakey.args.h"
#include "layers.h"
#include "memory.h"
#include "pipe.h"
#include "settle.h"
#include "sizes.h"

enum variant { WRITE, READ, SPLICE, VMSPLICE, VARIANTS };
enum failing { PART, REQUESTS };

enum {
	PAGE = 4096,
	INSIDE_ONE_IN = 8, /* turns that fail, wholly so */
	MANY_TURNS = 40, /* of which every second one may fail */
};

struct flakey {
	struct stress_file disk; /* its model; the file is the mapper's device */
	struct mapper mapper;
	bool at_random; /* requests fail, and no part of it */
	uint64_t bad, bad_end; /* what fails; nothing where both are the same */
	size_t align;
	struct memory memory;
	int pipe[2];
	uint64_t failed; /* turns */
};

/* What one turn is to move, and what it says it has moved. */
struct move {
	unsigned char *range;
	size_t length;
	uint64_t offset;
	size_t done;
	unsigned int ops;
	bool failed;
};

static enum stress_result open_mapper(struct stress_path *path, struct flakey *flakey,
				      const char *disk)
{
	const uint64_t parts[] = { flakey->bad, flakey->bad_end - flakey->bad,
				   flakey->disk.size - flakey->bad_end };
	struct mapper_part table[3];
	unsigned int count = 0;
	/* The mapper may have a disk several times, but nobody else then. */
	uint64_t place = (stress_options.worker - 1) * VARIANTS + path->variant;
	uint64_t first = place * flakey->disk.size / SECTOR;

	for (int i = 0; i < 3; i++) {
		struct mapper_part *part = &table[count];

		if (!parts[i])
			continue;
		*part = (struct mapper_part){ .type = i == 1 ? "flakey" : "linear",
					      .sectors = parts[i] / SECTOR };
		/* Flakey: up for 0 s, down for 1 s, and so on. */
		snprintf(part->parameters, sizeof(part->parameters), "%s %llu%s", disk,
			 (unsigned long long)first, i == 1 ? " 0 1" : "");
		first += part->sectors;
		count++;
	}
	return mapper_open(path, &flakey->mapper, table, count, &flakey->disk.fd);
}

static enum stress_result set_up(struct stress_path *path)
{
	const uint64_t size = round_down(stress_number(ARG_FILE_SIZE), 8 * PAGE);
	const size_t max = stress_number(ARG_MAX_LENGTH);
	struct flakey *flakey = stress_alloc(sizeof(*flakey));
	enum stress_result result;
	char name[16], disk[32];

	path->state = flakey;
	*flakey = (struct flakey){ .disk = STRESS_FILE_CLOSED, .mapper = MAPPER_CLOSED,
				   .memory = MEMORY_CLOSED, .pipe = PIPE_CLOSED,
				   .at_random = stress_number(ARG_FAILING) == REQUESTS,
				   .bad = size / 2 };
	flakey->bad_end = flakey->bad + (flakey->at_random ? 0 : size / 8);
	if (!stress_options.secure)
		return stress_skip(path, "without --secure nobody tells how many references there are");
	stress_choice(ARG_DISK, name, sizeof(name));
	snprintf(disk, sizeof(disk), "/dev/%s", name);
	flakey->mapper.skips_busy = true; /* it may be mounted */
	if (access(disk, F_OK))
		return stress_skip(path, "no %s here", disk);
	result = flakey->at_random ? fail_requests_of(path, name) : STRESS_OK;
	if (result == STRESS_OK)
		result = file_model(path, &flakey->disk, "disk", size);
	if (result == STRESS_OK)
		result = open_mapper(path, flakey, disk);
	if (result != STRESS_OK)
		return result;
	/* As the model: what is scratch is zeros yet. */
	if (!write_all(flakey->disk.fd, flakey->disk.scratch, flakey->bad, 0) ||
	    !write_all(flakey->disk.fd, flakey->disk.scratch, size - flakey->bad_end,
		       flakey->bad_end))
		return stress_error(path, "zero the sound parts of %s", disk);
	flakey->align = file_direct_alignment(flakey->disk.fd);
	if (!flakey->align || flakey->align > max)
		return stress_skip(path, "direct I/O needs blocks of %zu bytes here, --max-length "
				   "is less", flakey->align);
	result = memory_open(path, &flakey->memory, MEMFD, MAP_SHARED, "memory", max);
	return result == STRESS_OK ? pipe_open(path, flakey->pipe) : result;
}

static void tear_down(struct stress_path *path)
{
	struct flakey *flakey = path->state;

	if (path->turns)
		stress_note(path, "%llu turns failed", (unsigned long long)flakey->failed);
	/* With one request in two or three failing, chance is no excuse. */
	if (flakey->at_random && path->turns >= MANY_TURNS && !flakey->failed) {
		errno = ENOMSG;
		stress_error(path, "see any request fail in %llu turns", (unsigned long long)path->turns);
		path->result = STRESS_FAIL;
	}
	pipe_close(flakey->pipe);
	memory_close(&flakey->memory);
	file_close(&flakey->disk);
	mapper_close(path, &flakey->mapper);
	free(flakey);
}

static bool reaches(const struct move *move, uint64_t begin, uint64_t end)
{
	return move->offset < end && move->offset + move->length > begin;
}

/* Every second turn reaches into the part that fails, and most of those across one of its borders. */
static bool is_wanted(const struct flakey *flakey, const struct move *move, bool spoiled,
		      bool inside)
{
	if (flakey->at_random)
		return true;
	if (reaches(move, flakey->bad, flakey->bad_end) != spoiled)
		return false;
	return !spoiled || inside || reaches(move, 0, flakey->bad) ||
	       reaches(move, flakey->bad_end, flakey->disk.size);
}

static void choose(struct stress_path *path, struct move *move)
{
	struct flakey *flakey = path->state;
	const size_t max = stress_number(ARG_MAX_LENGTH);
	/* One block crosses nothing. */
	const bool inside = rng_one_in(&path->rng, INSIDE_ONE_IN) || max < 2 * flakey->align;

	do {
		move->length = rng_length(&path->rng, max, flakey->align);
		move->offset = rng_offset(&path->rng, flakey->disk.size, move->length, flakey->align);
	} while (!is_wanted(flakey, move, path->turns % 2, inside));
	move->range = flakey->memory.bytes +
		      memory_room(path, &flakey->memory, move->length, flakey->align);
}

/* Counts what a call has moved; what it is told by an error is no error of the program's. */
static enum stress_result count(struct stress_path *path, struct move *move, ssize_t n)
{
	if (n < 0 && errno != EIO)
		return stress_error(path, "move %zu bytes at %llu", move->length,
				    (unsigned long long)move->offset);
	/* Nothing moved, and nobody told why. */
	if (n == 0 || n > (ssize_t)(move->length - move->done))
		return stress_wrong_number(path, "length", move->offset,
					   move->length - move->done, n);
	move->ops++;
	move->failed = n < 0;
	if (n > 0)
		move->done += n;
	return STRESS_OK;
}

static enum stress_result move_direct(struct stress_path *path, struct move *move)
{
	struct flakey *flakey = path->state;
	enum stress_result result = STRESS_OK;

	while (result == STRESS_OK && !move->failed && move->done < move->length) {
		unsigned char *bytes = move->range + move->done;
		const uint64_t offset = move->offset + move->done;
		const size_t left = move->length - move->done;

		path->waits_for = "direct I/O";
		result = count(path, move, path->variant == READ ?
			       pread(flakey->disk.fd, bytes, left, offset) :
			       pwrite(flakey->disk.fd, bytes, left, offset));
	}
	return result;
}

/* Some of the memory into the pipe. */
static ssize_t fill_pipe(struct stress_path *path, unsigned char *bytes, size_t length)
{
	struct flakey *flakey = path->state;
	loff_t from = bytes - flakey->memory.bytes;
	const struct iovec piece = { bytes, length };

	path->waits_for = "room in a pipe";
	if (path->variant == VMSPLICE)
		return vmsplice(flakey->pipe[1], &piece, 1, 0);
	return splice(flakey->memory.file.fd, &from, flakey->pipe[1], NULL, length, 0);
}

static enum stress_result move_by_pipe(struct stress_path *path, struct move *move)
{
	struct flakey *flakey = path->state;
	enum stress_result result = STRESS_OK;

	while (result == STRESS_OK && !move->failed && move->done < move->length) {
		ssize_t in = fill_pipe(path, move->range + move->done,
				       random_piece(path, move->length - move->done, flakey->align));
		const size_t until = move->done + in;

		if (in <= 0)
			return stress_error(path, "fill a pipe");
		while (result == STRESS_OK && !move->failed && move->done < until) {
			loff_t to = move->offset + move->done;

			path->waits_for = "splice to the disk";
			result = count(path, move, splice(flakey->pipe[0], NULL, flakey->disk.fd,
							  &to, until - move->done, 0));
		}
	}
	if (result != STRESS_OK || !move->failed)
		return result;
	/* What could not be written is still in there. */
	pipe_close(flakey->pipe);
	return pipe_open(path, flakey->pipe);
}

/* No more than could be done was said to be done, and no less. */
static enum stress_result judge(struct stress_path *path, struct move *move)
{
	struct flakey *flakey = path->state;
	const bool spoiled = path->turns % 2;
	const uint64_t sound = move->offset < flakey->bad ? flakey->bad - move->offset : 0;

	flakey->failed += move->failed;
	if (planted(path, 1)) /* a failure that is not told */
		move->done = move->length;
	if (!spoiled && move->done != move->length)
		return stress_wrong_number(path, "length", move->offset, move->length, move->done);
	if (spoiled && !flakey->at_random && move->done > sound)
		return stress_wrong_number(path, "failure", move->offset, sound, move->done);
	return STRESS_OK;
}

/* Those of one part of the disk, with neighbours. What was not said to be written may be, or not. */
static enum stress_result check_part(struct stress_path *path, const struct move *move,
				     uint64_t first, uint64_t last)
{
	struct stress_file *disk = &((struct flakey *)path->state)->disk;
	uint64_t from = round_down(move->offset, PAGE);
	uint64_t to = round_down(move->offset + move->length + 2 * PAGE - 1, PAGE);
	enum stress_result result = STRESS_OK;
	unsigned char *got = disk->scratch;

	from = from > first + PAGE ? from - PAGE : first;
	to = to < last ? to : last;
	if (from >= to)
		return STRESS_OK;
	path->waits_for = "a direct read";
	if (read_all(disk->fd, got, to - from, from) != (ssize_t)(to - from))
		return stress_error(path, "read %llu sound bytes at %llu",
				    (unsigned long long)(to - from), (unsigned long long)from);
	if (planted(path, 2)) /* a flipped bit */
		got[(to - from) / 2] ^= 0x10;
	for (uint64_t at = from, next; at < to && result == STRESS_OK; at = next) {
		const uint64_t end = move->offset + move->length, done = move->offset + move->done;
		const unsigned char *before = disk->model + at, *want = before, *either = NULL;

		next = at < move->offset ? move->offset : at < done ? done : at < end ? end : to;
		if (next > to)
			next = to;
		if (path->variant != READ && at >= move->offset && at < end) {
			want = move->range + (at - move->offset);
			either = at < done ? NULL : before;
		}
		result = stress_compare(path, "pattern", got + (at - from), want, either, next - at,
					at);
	}
	memcpy(disk->model + from, got, to - from);
	return result;
}

static enum stress_result check_read(struct stress_path *path, const struct move *move)
{
	const struct flakey *flakey = path->state;

	if (planted(path, 3)) /* one byte too many */
		move->range[move->length] ^= 0x10;
	if (memory_check_neighbours(path, move->range, move->length, move->offset) != STRESS_OK)
		return STRESS_FAIL;
	return stress_compare(path, "read", move->range, flakey->disk.model + move->offset, NULL,
			      move->done, move->offset);
}

static enum stress_result move_and_check(struct stress_path *path, struct move *move)
{
	struct flakey *flakey = path->state;
	const bool by_pipe = path->variant == SPLICE || path->variant == VMSPLICE;
	const bool may_fail = flakey->at_random && path->turns % 2;
	enum stress_result result = may_fail ? fail_requests_here(path, true) : STRESS_OK;

	if (result == STRESS_OK)
		result = by_pipe ? move_by_pipe(path, move) : move_direct(path, move);
	if (may_fail && fail_requests_here(path, false) != STRESS_OK)
		result = STRESS_FAIL;
	if (result == STRESS_OK)
		result = judge(path, move);
	if (result == STRESS_OK && path->variant == READ)
		result = check_read(path, move);
	if (result == STRESS_OK)
		result = check_part(path, move, 0, flakey->bad);
	return result == STRESS_OK ? check_part(path, move, flakey->bad_end, flakey->disk.size)
				   : result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct flakey *flakey = path->state;
	struct move move = { 0 };
	int leak[2] = PIPE_CLOSED;
	const unsigned char *first; /* page */
	enum stress_result result;
	struct iovec piece;

	choose(path, &move);
	path->generation++;
	if (path->variant == READ)
		memory_poison(move.range, move.length);
	else
		pattern_fill(path->key, path->generation, move.range, move.length, move.offset);
	result = memory_prepare(path, &flakey->memory, move.range, move.length);
	first = move.range - (uintptr_t)move.range % PAGE;
	piece = (struct iovec){ move.range, 1 };
	if (planted(path, 4)) /* a reference that is never given back */
		if (pipe_open(path, leak) || vmsplice(leak[1], &piece, 1, 0) != 1)
			return stress_error(path, "plant a bug");
	if (result == STRESS_OK)
		result = move_and_check(path, &move);
	/* Whatever became of it: the next turn's I/O would tell less. */
	if (settle_pages(path, first, move.range + move.length - first) != STRESS_OK)
		result = STRESS_FAIL;
	pipe_close(leak);
	if (result == STRESS_OK)
		stress_credit(path, move.ops, move.done);
	return result;
}

STRESS_MAIN("flakey", check_sizes,
	    STRESS_PATH("write", WRITE),
	    STRESS_PATH("read", READ),
	    STRESS_PATH("splice", SPLICE),
	    STRESS_PATH("vmsplice", VMSPLICE))
