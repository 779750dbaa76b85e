/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Pipes, and a helper that gives them rings of other sizes beside a turn (fs/pipe.c
 * pipe_resize_ring()).
 */
#ifndef FARM_STRESS_PIPE_H
#define FARM_STRESS_PIPE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"

#define PIPE_CLOSED { -1, -1 }

enum {
	RESIZES = 4, /* beside a turn that has them */
	MAX_PIPE_PAGES = 64,
};

struct resizer {
	struct helper helper;
	struct {
		int pipe, size;
	} resizes[RESIZES];
	int error;
	bool gave_up;
};

static inline enum stress_result pipe_open(struct stress_path *path, int pipe[2])
{
	return pipe2(pipe, O_CLOEXEC) ? stress_error(path, "make a pipe") : STRESS_OK;
}

static inline void pipe_close(int pipe[2])
{
	for (int i = 0; i < 2; i++)
		if (pipe[i] >= 0)
			close(pipe[i]);
}

/* Checks how much a pipe holds; offset is for the report. */
static inline enum stress_result pipe_holds(struct stress_path *path, int pipe, size_t want,
					    uint64_t offset)
{
	int held;

	if (ioctl(pipe, FIONREAD, &held))
		return stress_error(path, "ask how much is in a pipe");
	return (size_t)held == want ? STRESS_OK
				    : stress_wrong_number(path, "in-pipe", offset, want, held);
}

/* A piece of what is left: all of it or less, at random. */
static inline size_t random_piece(struct stress_path *path, size_t left, size_t align)
{
	return rng_one_in(&path->rng, 2) ? left : rng_length(&path->rng, left, align);
}

static inline unsigned int random_splice_flags(struct stress_path *path)
{
	unsigned int flags = 0;

	if (rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_MOVE;
	if (rng_one_in(&path->rng, 2))
		flags |= SPLICE_F_NONBLOCK;
	return flags;
}

/*
 * Beside the turn. EBUSY: the pipe's data does not fit into the new ring; EPERM: the user's share
 * is used up.
 */
static inline void resizer_job(void *argument)
{
	struct resizer *resizer = argument;

	for (int i = 0; i < RESIZES; i++) {
		if (fcntl(resizer->resizes[i].pipe, F_SETPIPE_SZ, resizer->resizes[i].size) >= 0 ||
		    errno == EBUSY)
			continue;
		resizer->error = errno;
		return;
	}
}

static inline enum stress_result resizer_start(struct stress_path *path, struct resizer *resizer)
{
	return helper_start(path, &resizer->helper, resizer_job, resizer);
}

/* In one turn of four: orders new sizes for pipes, which pick() chooses among. */
static inline void resizer_order_sometimes(struct stress_path *path, struct resizer *resizer,
					   int (*pick)(struct stress_path *path))
{
	if (resizer->gave_up || !rng_one_in(&path->rng, 4))
		return;
	for (int i = 0; i < RESIZES; i++) {
		resizer->resizes[i].pipe = pick(path);
		resizer->resizes[i].size = 4096 * (1 + rng_below(&path->rng, MAX_PIPE_PAGES));
	}
	helper_order(&resizer->helper);
}

static inline enum stress_result resizer_wait(struct stress_path *path, struct resizer *resizer)
{
	path->waits_for = "the pipes' resizing";
	helper_wait(&resizer->helper);
	if (!resizer->error)
		return STRESS_OK;
	errno = resizer->error;
	if (errno != EPERM)
		return stress_error(path, "resize a pipe");
	stress_note(path, "goes on without resizing pipes: %m");
	resizer->error = 0;
	resizer->gave_up = true;
	return STRESS_OK;
}

static inline void resizer_stop(struct resizer *resizer)
{
	helper_stop(&resizer->helper);
}

#endif
