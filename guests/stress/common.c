// SPDX-License-Identifier: MIT OR Apache-2.0
/* The budget, KTAP, the report of wrong data and the watchdog: see common.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"
#include "options.h"

enum {
	TICK_MS = 200,	 /* of the watchdog */
	PATIENCE = 75,	 /* ticks for one step: below what a step of a scenario has beyond its time */
	MAX_REPORTS = 8, /* farm-data lines of a path */
	MAX_SHOWN = 16,	 /* bytes of want and got in one */
	IDLE_MS = 10,	 /* of a turn with -DSTRESS_IDLE */
};

static struct {
	pthread_t thread;
	atomic_bool over;
	/* Where the main thread is; it takes no lock to say so. */
	struct stress_path *_Atomic path;
	atomic_uint step;
} watchdog;

/* By SIGTERM. Once posted the semaphore stays so: no sleep lasts any longer. */
static struct {
	atomic_bool told;
	sem_t posted;
} ending;

uint64_t stress_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static uint64_t ms(uint64_t milliseconds)
{
	return milliseconds * 1000000ULL;
}

bool stress_told_to_end(void)
{
	return atomic_load(&ending.told);
}

void stress_sleep_until(uint64_t ns)
{
	const struct timespec until = { .tv_sec = ns / 1000000000ULL,
					.tv_nsec = ns % 1000000000ULL };
	int woken;

	do
		woken = sem_clockwait(&ending.posted, CLOCK_MONOTONIC, &until);
	while (woken && errno == EINTR);
	if (!woken)
		sem_post(&ending.posted);
}

void *stress_alloc(size_t size)
{
	void *memory;

	if (posix_memalign(&memory, sysconf(_SC_PAGESIZE), size)) {
		printf("Bail out! no memory for %zu bytes\n", size);
		exit(EXIT_FAILED);
	}
	return memset(memory, 0, size);
}

/* Reports */

void stress_credit(struct stress_path *path, unsigned int ops, uint64_t bytes)
{
	path->ops += ops;
	path->bytes += bytes;
}

void stress_note(struct stress_path *path, const char *format, ...)
{
	char text[sizeof(path->reason)];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	printf("# %s: %s\n", path->name, text);
}

enum stress_result stress_skip(struct stress_path *path, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(path->reason, sizeof(path->reason), format, list);
	va_end(list);
	return STRESS_SKIP;
}

enum stress_result stress_error(struct stress_path *path, const char *format, ...)
{
	int error = errno;
	char text[sizeof(path->reason)];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	/* What has worked before cannot be missing from the kernel. */
	if (!path->ops && (error == ENOSYS || error == EOPNOTSUPP))
		return stress_skip(path, "%s: %s", text, strerror(error));
	printf("# %s: %s: %s\n", path->name, text, strerror(error));
	return STRESS_FAIL;
}

static void print_hex(const char *name, const unsigned char *bytes, size_t length)
{
	printf(" %s=", name);
	for (size_t i = 0; i < length && i < MAX_SHOWN; i++)
		printf("%02x", bytes[i]);
}

static void report(struct stress_path *path, const char *check, uint64_t offset, size_t length,
		   const unsigned char *want, const unsigned char *got)
{
	if (path->reports++ >= MAX_REPORTS)
		return;
	printf("# farm-data path=%s check=%s offset=%llu length=%zu", path->name, check,
	       (unsigned long long)offset, length);
	print_hex("want", want, length);
	print_hex("got", got, length);
	putchar('\n');
}

/* Says whose data stands in a damaged stretch, if it is any that this path has written. */
static void report_origin(struct stress_path *path, const unsigned char *got, size_t length)
{
	for (size_t skip = 0; skip < CELL && skip + CELL <= length; skip++) {
		uint64_t origin = pattern_origin(path->key, got + skip);
		uint64_t offset = (uint32_t)origin * (uint64_t)CELL;

		/* By chance this holds for fewer than one stretch in a million. */
		if (origin >> 32 <= path->generation && offset < 1ULL << 30 && offset >= skip) {
			stress_note(path, "got there is generation %u (now: %u) of offset %llu",
				    (unsigned int)(origin >> 32), path->generation,
				    (unsigned long long)(offset - skip));
			return;
		}
	}
}

/*
 * memcmp() of a cell compiles to one comparison. A cell that is wrong as a whole may be right byte
 * by byte.
 */
static bool right_cell(const unsigned char *got, const unsigned char *want,
		       const unsigned char *either)
{
	return !memcmp(got, want, CELL) || (either && !memcmp(got, either, CELL));
}

/* The first wrong byte at or after `from`, or length. */
static size_t next_wrong(const unsigned char *got, const unsigned char *want,
			 const unsigned char *either, size_t from, size_t length)
{
	for (size_t i = from; i < length; i++) {
		while (i + CELL <= length &&
		       right_cell(got + i, want + i, either ? either + i : NULL))
			i += CELL;
		if (i < length && got[i] != want[i] && (!either || got[i] != either[i]))
			return i;
	}
	return length;
}

bool stress_right(const void *got, const void *want, const void *either, size_t length)
{
	return next_wrong(got, want, either, 0, length) == length;
}

/*
 * A stretch of wrong bytes ends before this many right ones in a row: damage may be right by
 * chance.
 */
enum { STRETCH_GAP = CELL };

enum stress_result stress_compare(struct stress_path *path, const char *check, const void *got_,
				  const void *want_, const void *either_, size_t length,
				  uint64_t offset)
{
	const unsigned char *got = got_, *want = want_, *either = either_;
	size_t wrong = next_wrong(got, want, either, 0, length);

	if (wrong == length)
		return STRESS_OK;
	while (wrong < length) {
		size_t next = wrong, end;

		do {
			end = next + 1;
			next = next_wrong(got, want, either, end, length);
		} while (next < length && next - end < STRETCH_GAP);
		report(path, check, offset + wrong, end - wrong, want + wrong, got + wrong);
		report_origin(path, got + wrong, end - wrong);
		if (path->reports >= MAX_REPORTS)
			break;
		wrong = next;
	}
	return STRESS_FAIL;
}

enum stress_result stress_wrong_number(struct stress_path *path, const char *check, uint64_t offset,
				       uint64_t want, uint64_t got)
{
	want = htobe64(want);
	got = htobe64(got);
	report(path, check, offset, sizeof(want), (unsigned char *)&want, (unsigned char *)&got);
	return STRESS_FAIL;
}

/* Ends the KTAP document and says how the program as a whole ended. */
static int conclude(void)
{
	const struct stress_program *p = stress_program;
	unsigned int number = 0, failed = 0, skipped = 0;

	for (struct stress_path *path = p->paths; path < p->paths + p->path_count; path++) {
		if (!path->chosen)
			continue;
		number++;
		if (path->result == STRESS_SKIP) {
			printf("ok %u %s # SKIP %s\n", number, path->name, path->reason);
			skipped++;
			continue;
		}
		if (path->result == STRESS_OK && !path->ops) {
			stress_note(path, "nothing was moved");
			path->result = STRESS_FAIL;
		}
		failed += path->result == STRESS_FAIL;
		printf("%s %u %s\n", path->result == STRESS_FAIL ? "not ok" : "ok", number,
		       path->name);
		printf("# farm-stats path=%s ops=%llu bytes=%llu\n", path->name, path->ops,
		       path->bytes);
	}
	if (skipped < number && !guest_end())
		failed++;
	if (fflush(stdout) || failed)
		return EXIT_FAILED;
	return skipped == number ? EXIT_SKIPPED : EXIT_PASSED;
}

/* The watchdog, and SIGTERM */

static void tell_to_end(void)
{
	if (!atomic_exchange(&ending.told, true))
		sem_post(&ending.posted);
}

static sigset_t only_sigterm(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	return set;
}

/*
 * Ends the program when a step of a path hangs. The main thread then blocks in a system call and
 * holds no lock; files are unlinked already, and threads go with the process. Time is counted in
 * ticks that this thread saw, so that a guest which the host has paused is not taken for one that
 * hangs.
 *
 * SIGTERM is blocked in every thread and taken here, so that it interrupts no system call of the
 * paths.
 */
static void *watch(void *unused)
{
	const struct timespec tick = { .tv_nsec = ms(TICK_MS) };
	const sigset_t sigterm = only_sigterm();
	unsigned int seen = 0, ticks = 0;

	(void)unused;
	while (!atomic_load(&watchdog.over)) {
		struct stress_path *path;
		unsigned int step;

		if (sigtimedwait(&sigterm, NULL, &tick) == SIGTERM) {
			tell_to_end();
			continue;
		}
		step = atomic_load(&watchdog.step);
		path = atomic_load(&watchdog.path);
		ticks = step == seen ? ticks + 1 : 0;
		seen = step;
		if (ticks > PATIENCE && path) {
			stress_note(path, "gave up after %d ms without progress: waited for %s",
				    PATIENCE * TICK_MS, path->waits_for);
			path->result = STRESS_FAIL;
			_exit(conclude());
		}
	}
	return NULL;
}

static void watch_begin(void)
{
	const sigset_t sigterm = only_sigterm();
	int error;

	sem_init(&ending.posted, 0, 0);
	error = pthread_sigmask(SIG_BLOCK, &sigterm, NULL);
	if (!error)
		error = pthread_create(&watchdog.thread, NULL, watch, NULL);
	if (error) {
		printf("Bail out! no thread for the watchdog: %s\n", strerror(error));
		exit(EXIT_FAILED);
	}
}

static void watch_step(struct stress_path *path, const char *waits_for)
{
	path->waits_for = waits_for;
	atomic_store(&watchdog.path, path);
	atomic_fetch_add(&watchdog.step, 1);
}

static void watch_end(void)
{
	atomic_store(&watchdog.over, true);
	pthread_kill(watchdog.thread, SIGTERM);
	pthread_join(watchdog.thread, NULL);
}

/* The run */

static uint64_t hash_name(uint64_t hash, const char *name)
{
	while (*name)
		hash = mix64(hash + (unsigned char)*name++);
	return hash;
}

static void set_up(struct stress_path *path)
{
	path->key = hash_name(mix64(stress_options.seed), path->name);
	path->rng.state = mix64(path->key);
	watch_step(path, "its setup");
	path->result = path->setup(path);
}

static void tear_down(struct stress_path *path)
{
	watch_step(path, "its teardown");
	path->teardown(path);
}

/* The path that has had least of the budget, NULL at the end. Each path gets one turn at least. */
static struct stress_path *next_path(uint64_t end)
{
	const struct stress_program *p = stress_program;
	const struct stress_options *o = &stress_options;
	struct stress_path *next = NULL;

	for (struct stress_path *path = p->paths; path < p->paths + p->path_count; path++) {
		if (!path->chosen || path->result != STRESS_OK || (o->ops && path->ops >= o->ops))
			continue;
		if (!next || (o->ops ? path->ops < next->ops : path->spent_ns < next->spent_ns))
			next = path;
	}
	if (next && next->turns && (stress_told_to_end() || (end && stress_now_ns() >= end)))
		return NULL;
	return next;
}

static enum stress_result idle_turn(struct stress_path *path)
{
	stress_sleep_until(stress_now_ns() + ms(IDLE_MS));
	stress_credit(path, 1, 1);
	return STRESS_OK;
}

static void give_turns(void)
{
	struct stress_path *path;
	uint64_t began = stress_now_ns();
	uint64_t end = stress_options.for_ms ? began + ms(stress_options.for_ms) : 0;

	while ((path = next_path(end)) != NULL) {
		uint64_t ended;

		watch_step(path, "its turn");
		path->result = STRESS_IDLE ? idle_turn(path) : path->turn(path);
		path->turns++;
		ended = stress_now_ns();
		path->spent_ns += ended - began;
		began = ended;
	}
}

int stress_main(int argc, char **argv, const struct stress_program *program)
{
	struct stress_path *paths = program->paths, *past = paths + program->path_count;
	unsigned int chosen = 0;

	stress_program = program;
	if (program->arg_count > MAX_ARGS)
		usage("has more than %d options", MAX_ARGS);
	parse(argc, argv);
	guest_begin();

	/* A peer that is gone is an error of the call, to be reported. */
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (struct stress_path *path = paths; path < past; path++) {
		path->chosen = !strcmp(mode, "all") || !strcmp(mode, path->name);
		chosen += path->chosen;
	}
	printf("# seed %llu\nKTAP version 1\n1..%u\n", (unsigned long long)stress_options.seed,
	       chosen);

	watch_begin();
	for (struct stress_path *path = paths; path < past; path++)
		if (path->chosen)
			set_up(path);
	give_turns();
	for (struct stress_path *path = paths; path < past; path++)
		if (path->chosen)
			tear_down(path);
	watch_end();
	return conclude();
}
