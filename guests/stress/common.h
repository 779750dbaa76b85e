/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all stress programs share: options, the budget, KTAP, the report of wrong data, the
 * watchdog. The contract is docs/guest-protocol.md, "Stress programs".
 *
 * A program is a list of paths through the kernel. common.c sets each one up and then gives turns,
 * always to the path that has had the least of the budget: paths are interleaved and get equal
 * shares. A turn moves some data, checks all of it and credits it. The main thread alone reports; a
 * helper thread (peer.h) only does what it was ordered to do during a turn.
 */
#ifndef FARM_STRESS_COMMON_H
#define FARM_STRESS_COMMON_H

#include "pattern.h"

enum stress_kind { STRESS_CHOICE, STRESS_NUMBER, STRESS_SIZE, STRESS_FLAG };

/* One row of NAME.args.h, which is generated from programs.yaml. */
struct stress_arg {
	const char *name;
	enum stress_kind kind;
	const char *fallback;
	const char *choices; /* separated by '|' */
	unsigned long long min, max;
	const char *help;
};

/* How a step of a path ended. */
enum stress_result { STRESS_OK, STRESS_FAIL, STRESS_SKIP };

struct stress_path {
	const char *name;
	enum stress_result (*setup)(struct stress_path *path);
	enum stress_result (*turn)(struct stress_path *path);
	/* Called once after setup, however it ended; must cope with a half-made state. */
	void (*teardown)(struct stress_path *path);
	int variant; /* the program's own */
	void *state; /* the program's own */

	/* Set by common.c before setup. */
	uint64_t key; /* of the data pattern */
	struct rng rng;
	/* Raised by the program for each new content. */
	uint32_t generation;
	/* What the program is about to block on, for the watchdog's report. */
	const char *volatile waits_for;
	/* A teardown that cannot undo what the path has changed sets it to STRESS_FAIL. */
	enum stress_result result;

	/* common.c's own. */
	bool chosen;
	unsigned long long turns, ops, bytes, spent_ns;
	unsigned int reports;
	char reason[160];
};

struct stress_program {
	const char *name, *purpose, *kernel;
	const struct stress_arg *args;
	size_t arg_count;
	struct stress_path *paths;
	size_t path_count;
	/*
	 * Checks what one argument's range cannot say; NULL when all is well, else what is wrong.
	 */
	const char *(*check)(void);
};

struct stress_options {
	uint64_t seed, worker, for_ms, ops;
	const char *dir;
	bool secure; /* secure.h */
};

extern const struct stress_program *stress_program;
extern struct stress_options stress_options;

/* Parses, runs, reports; returns the exit status. */
int stress_main(int argc, char **argv, const struct stress_program *program);

/* In a guest all programs are one file (dispatch.c), and each main() has another name. */
#ifndef PROGRAM_MAIN
#define PROGRAM_MAIN main
#endif

/*
 * main() of a program: its name, its check or NULL, and its paths. The options and the texts are
 * those of its NAME.args.h.
 */
#define STRESS_MAIN(NAME, CHECK, ...)							\
	int PROGRAM_MAIN(int argc, char **argv)						\
	{										\
		static struct stress_path paths[] = { __VA_ARGS__ };			\
		static const struct stress_program program = {				\
			.name = NAME,							\
			.purpose = stress_purpose,					\
			.kernel = stress_kernel,					\
			.args = stress_args,						\
			.arg_count = sizeof(stress_args) / sizeof(stress_args[0]),	\
			.paths = paths,							\
			.path_count = sizeof(paths) / sizeof(paths[0]),			\
			.check = CHECK,							\
		};									\
											\
		return stress_main(argc, argv, &program);				\
	}

/* A path of that name with the program's functions set_up(), turn() and tear_down(). */
#define STRESS_PATH(NAME, VARIANT) \
	{ .name = NAME, .setup = set_up, .turn = turn, .teardown = tear_down, .variant = VARIANT }

/* The value of a number, size or flag, by its index in stress_args. */
uint64_t stress_number(size_t arg);

/* The text of a choice, by its index in stress_args. */
void stress_choice(size_t arg, char *text, size_t size);

/* CLOCK_MONOTONIC. */
uint64_t stress_now_ns(void);

/* Sleeps until then, or until the program is told to end. */
void stress_sleep_until(uint64_t ns);

/* Whether SIGTERM has come: the turn under way is the last one of its path. */
bool stress_told_to_end(void);

/* Zeroed, page-aligned memory; ends the program when there is none. */
void *stress_alloc(size_t size);

/* Credits verified data: ops calls moved it. */
void stress_credit(struct stress_path *path, unsigned int ops, uint64_t bytes);

/*
 * Reports "# PATH: TEXT: strerror(errno)". SKIP if errno says that the kernel lacks the feature,
 * else FAIL.
 */
enum stress_result stress_error(struct stress_path *path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Why this path cannot be taken here. */
enum stress_result stress_skip(struct stress_path *path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A remark on the path that is no verdict. */
void stress_note(struct stress_path *path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Compares what was read with what must stand there, and reports each damaged stretch as a
 * farm-data line. offset is that of the first byte, for the report. With `either`, each byte may
 * equal `want` or `either`.
 */
enum stress_result stress_compare(struct stress_path *path, const char *check, const void *got,
				  const void *want, const void *either, size_t length,
				  uint64_t offset);

/*
 * Whether each byte equals `want` or `either`, which may be NULL. Reports nothing: a helper may ask
 * it.
 */
bool stress_right(const void *got, const void *want, const void *either, size_t length);

/* Reports a wrong count, at this offset, in the same form: want and got as 8 bytes, big-endian. */
enum stress_result stress_wrong_number(struct stress_path *path, const char *check, uint64_t offset,
				       uint64_t want, uint64_t got);

/*
 * -DSTRESS_PLANT=N plants bug N of a program: each program lists its own where it asks planted().
 * In every seventh generation the program then treats its data as a broken kernel would, and its
 * checks must see it. N may be any expression: with stress_options.worker it is --worker that
 * chooses the bug.
 */
#ifndef STRESS_PLANT
#define STRESS_PLANT 0
#endif

static inline bool planted(const struct stress_path *path, unsigned int bug)
{
	return STRESS_PLANT == bug && path->generation % 7 == 6;
}

/*
 * -DSTRESS_IDLE: after the ordinary setup, turns do nothing but credit one op and one byte. Such a
 * program shows that what is counted of the kernel's calls cannot be had without the program's
 * work.
 */
#ifndef STRESS_IDLE
#define STRESS_IDLE 0
#endif

#endif
