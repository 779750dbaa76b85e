/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who does something to pages while they are made secure: a process with page tables of its own, or
 * a thread for what only the guest's process can do. It acts on one page after the other, at
 * random, for as long as a turn lasts, and at its end holds no reference and no mapping any more.
 *
 * What it saw of a page is compared with the model, by itself too, so that it stops at the first
 * thing wrong.
 */
#ifndef FARM_STRESS_FREEZE_RIVAL_H
#define FARM_STRESS_FREEZE_RIVAL_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "secure.h"

enum {
	PAGE = 4096,
	MOST_PAGES = 256,
	PIECE = 64, /* what is looked at of a page */
};

/* In the order of `mode` in programs.yaml, but for "all". */
enum rival_kind {
	ALONE,
	TOUCH,
	SLOW_GUP,
	FAST_GUP,
	PIPE,
	UNMAP,
	FORK,
	PUNCH,
	TRUNCATE,
	INVALIDATE,
};

/* What a rival did in one turn. */
struct rival_answer {
	uint64_t acts;
	uint64_t refused; /* acts for which the kernel got no reference */
	int error;	  /* an errno: what it could not do */
	uint64_t offset;  /* of the last act that did its work, or could not */
	unsigned char seen[PIECE]; /* there */
};

/* Shared by both processes. */
struct rival_shared {
	/* Aligned for direct I/O. */
	unsigned char model[MOST_PAGES * PAGE];
	atomic_bool racing;
};

struct rival {
	enum rival_kind kind;
	pid_t pid;
	pthread_t thread;
	bool started;
	int socket, its_socket;
	int pipe[2], copy[2];
	struct rival_shared *shared;
	struct rng rng;

	/* The guest's memory, at the same address in both processes. */
	int memfd; /* with INVALIDATE a file on a disk, */
	int direct; /* open for direct I/O too */
	unsigned char *bytes;
	unsigned int pages;

	struct rival_answer answer;
};

#define RIVAL_CLOSED { .memfd = -1, .direct = -1, .socket = -1, .its_socket = -1, \
		       .pipe = { -1, -1 }, .copy = { -1, -1 } }

/* Whether pages lose their content, which then are zeros. */
static inline bool rival_cuts(enum rival_kind kind)
{
	return kind == PUNCH || kind == TRUNCATE;
}

/* Whether a page may not be there at a moment. */
static inline bool rival_takes_away(enum rival_kind kind)
{
	return rival_cuts(kind) || kind == INVALIDATE;
}

/* Of a call that is to move a piece: 0 or an errno. */
static inline int rival_moved(ssize_t n)
{
	return n == PIECE ? 0 : n < 0 ? errno : EIO;
}

/* These return 0 or an errno. `offset` is that of a piece in the memory. */

/* mm/process_vm_access.c: pin_user_pages_remote(), which has no fast path. */
static inline int rival_slow_gup(struct rival *rival, uint64_t offset)
{
	struct iovec here = { rival->answer.seen, PIECE };
	struct iovec there = { rival->bytes + offset, PIECE };

	return rival_moved(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}

/* fs/splice.c iter_to_pipe(): get_user_pages_fast(), and the slow path where that gives up. */
static inline int rival_fast_gup(struct rival *rival, uint64_t offset)
{
	const struct iovec piece = { rival->bytes + offset, PIECE };
	int error;

	/* The fast path takes what is mapped. */
	(void)*(volatile unsigned char *)piece.iov_base;
	error = rival_moved(vmsplice(rival->pipe[1], &piece, 1, 0));
	return error ? error : rival_moved(read(rival->pipe[0], rival->answer.seen, PIECE));
}

/* A reference that is taken while another one is held: fs/pipe.c generic_pipe_buf_get(). */
static inline int rival_pipe(struct rival *rival, uint64_t offset)
{
	loff_t from = offset;
	int error = rival_moved(splice(rival->memfd, &from, rival->pipe[1], NULL, PIECE, 0));

	if (!error)
		error = rival_moved(tee(rival->pipe[0], rival->copy[1], PIECE, 0));
	if (!error)
		error = rival_moved(read(rival->pipe[0], rival->answer.seen, PIECE));
	return error ? error : rival_moved(read(rival->copy[0], rival->answer.seen, PIECE));
}

/* mm/memory.c zap_pte_range() drops a reference that the page table's entry owned. */
static inline int rival_unmap(struct rival *rival, uint64_t offset)
{
	memcpy(rival->answer.seen, rival->bytes + offset, PIECE);
	return madvise(rival->bytes + offset / PAGE * PAGE, PAGE, MADV_DONTNEED) ? errno : 0;
}

/* The same by exit_mmap(), for all pages. */
static inline int rival_fork(struct rival *rival, uint64_t offset)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		for (unsigned int page = 0; page < rival->pages; page++)
			(void)*(volatile unsigned char *)(rival->bytes + page * PAGE);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return errno;
	memcpy(rival->answer.seen, rival->bytes + offset, PIECE);
	return status ? ECHILD : 0;
}

/* mm/shmem.c shmem_undo_range(): out of the guest's page table, out of the page cache, free. */
static inline int rival_punch(struct rival *rival, uint64_t offset)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(rival->memfd, punch, offset / PAGE * PAGE, PAGE) ? errno : 0;
}

static inline int rival_truncate(struct rival *rival, uint64_t offset)
{
	return ftruncate(rival->memfd, offset / PAGE * PAGE) ||
	       ftruncate(rival->memfd, rival->pages * PAGE) ? errno : 0;
}

/* mm/truncate.c invalidate_inode_pages2_range(), before and after a direct write of what is there. */
static inline int rival_invalidate(struct rival *rival, uint64_t offset)
{
	const uint64_t from = offset / PAGE * PAGE;
	ssize_t n = pwrite(rival->direct, rival->shared->model + from, PAGE, from);

	return n == PAGE ? 0 : n < 0 ? errno : EIO;
}

static inline int rival_act(struct rival *rival, uint64_t offset)
{
	switch (rival->kind) {
	case TOUCH:
		return secure_touch(rival->bytes + offset / PAGE * PAGE);
	case SLOW_GUP:
		return rival_slow_gup(rival, offset);
	case FAST_GUP:
		return rival_fast_gup(rival, offset);
	case PIPE:
		return rival_pipe(rival, offset);
	case UNMAP:
		return rival_unmap(rival, offset);
	case FORK:
		return rival_fork(rival, offset);
	case PUNCH:
		return rival_punch(rival, offset);
	case INVALIDATE:
		return rival_invalidate(rival, offset);
	default:
		return rival_truncate(rival, offset);
	}
}

/*
 * What GUP says of mapped memory when it meets a count of 0: mm/gup.c try_grab_page() and
 * try_grab_folio() warn, and have it give up.
 */
static inline bool rival_refused(enum rival_kind kind, int error)
{
	return (kind == SLOW_GUP || kind == FAST_GUP) && (error == EFAULT || error == ENOMEM);
}

static inline bool rival_looks(enum rival_kind kind)
{
	return kind != TOUCH && !rival_takes_away(kind);
}

static inline bool rival_saw_right(const struct rival *rival)
{
	const struct rival_answer *answer = &rival->answer;

	return !answer->acts || !rival_looks(rival->kind) ||
	       !memcmp(answer->seen, rival->shared->model + answer->offset, PIECE);
}

/* One turn's worth; at least one act. */
static inline void rival_race(struct rival *rival)
{
	struct rival_answer *answer = &rival->answer;

	answer->acts = 0;
	answer->refused = 0;
	answer->error = 0;
	do {
		uint64_t offset = round_down(rng_below(&rival->rng, rival->pages * PAGE), PIECE);
		int error = rival_act(rival, offset);

		if (rival_refused(rival->kind, error)) {
			answer->refused++;
			continue;
		}
		answer->offset = offset;
		answer->error = error;
		answer->acts += !error;
	} while (!answer->error && rival_saw_right(rival) && atomic_load(&rival->shared->racing));
	/* A thread has the guest's own mappings. */
	if (rival->kind != TOUCH && !answer->error &&
	    madvise(rival->bytes, rival->pages * PAGE, MADV_DONTNEED))
		answer->error = errno;
}

/* Its life: each byte that it is sent is a turn. It must not use stdio. */
static inline void *rival_main(void *argument)
{
	struct rival *rival = argument;
	unsigned char word;

	while (recv(rival->its_socket, &word, 1, 0) == 1 &&
	       send(rival->its_socket, &word, 1, 0) == 1) {
		rival_race(rival);
		if (send(rival->its_socket, &rival->answer, sizeof(rival->answer), 0) < 0)
			break;
	}
	return NULL;
}

static inline enum stress_result rival_start_thread(struct stress_path *path, struct rival *rival)
{
	errno = pthread_create(&rival->thread, NULL, rival_main, rival);
	if (errno)
		return stress_error(path, "start a thread");
	rival->started = true;
	return STRESS_OK;
}

static inline enum stress_result rival_start_process(struct stress_path *path, struct rival *rival)
{
	rival->pid = fork();
	if (rival->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(rival->socket);
		rival_main(rival);
		_exit(0);
	}
	if (rival->pid < 0)
		return stress_error(path, "fork");
	/* Else the end of its life would not be seen. */
	close(rival->its_socket);
	rival->its_socket = -1;
	rival->started = true;
	return STRESS_OK;
}

/* The memory and the model are there already. */
static inline enum stress_result rival_start(struct stress_path *path, struct rival *rival)
{
	int sockets[2];

	if (rival->kind == ALONE)
		return STRESS_OK;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return stress_error(path, "make a socket pair");
	rival->socket = sockets[0];
	rival->its_socket = sockets[1];
	rival->rng.state = mix64(path->key + 1);
	if (pipe2(rival->pipe, O_CLOEXEC) || pipe2(rival->copy, O_CLOEXEC))
		return stress_error(path, "make a pipe");
	if (rival->kind == TOUCH)
		return rival_start_thread(path, rival);
	return rival_start_process(path, rival);
}

static inline void rival_stop(struct rival *rival)
{
	if (rival->shared)
		atomic_store(&rival->shared->racing, false);
	if (rival->started && rival->kind == TOUCH) {
		shutdown(rival->socket, SHUT_RDWR);
		pthread_join(rival->thread, NULL);
	} else if (rival->started) {
		kill(rival->pid, SIGKILL);
		waitpid(rival->pid, NULL, 0);
	}
	for (int i = 0; i < 2; i++) {
		if (rival->pipe[i] >= 0)
			close(rival->pipe[i]);
		if (rival->copy[i] >= 0)
			close(rival->copy[i]);
	}
	if (rival->socket >= 0)
		close(rival->socket);
	if (rival->its_socket >= 0)
		close(rival->its_socket);
}

static inline enum stress_result rival_lost(struct stress_path *path, ssize_t got)
{
	if (got >= 0)
		errno = ECONNRESET;
	return stress_error(path, "hear of who acts on the pages");
}

/* It runs when this returns. */
static inline enum stress_result rival_begin(struct stress_path *path, struct rival *rival)
{
	unsigned char word = 1;
	ssize_t n;

	if (!rival->started)
		return STRESS_OK;
	path->waits_for = "who acts on the pages to begin";
	atomic_store(&rival->shared->racing, true);
	n = send(rival->socket, &word, 1, 0);
	if (n == 1)
		n = recv(rival->socket, &word, 1, 0);
	return n == 1 ? STRESS_OK : rival_lost(path, n);
}

/* It rests when this returns; what it did is in rival->answer. */
static inline enum stress_result rival_end(struct stress_path *path, struct rival *rival)
{
	struct rival_answer *answer = &rival->answer;
	ssize_t n;

	if (!rival->started)
		return STRESS_OK;
	path->waits_for = "who acts on the pages to rest";
	atomic_store(&rival->shared->racing, false);
	n = recv(rival->socket, answer, sizeof(*answer), MSG_WAITALL);
	if (n != sizeof(*answer))
		return rival_lost(path, n);
	errno = answer->error;
	if (errno)
		return stress_error(path, "act on the page at %llu",
				    (unsigned long long)answer->offset / PAGE * PAGE);
	if (planted(path, 3)) /* a flipped bit in what it saw */
		answer->seen[PIECE / 2] ^= 0x10;
	if (!answer->acts || !rival_looks(rival->kind))
		return STRESS_OK;
	return stress_compare(path, "seen", answer->seen, rival->shared->model + answer->offset,
			      NULL, PIECE, answer->offset);
}

#endif
