// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has the kernel take references to user pages for others: to another process's memory, and for
 * sockets; and checks what was read, written and sent.
 *
 *  - vm-readv, vm-writev: mm/process_vm_access.c process_vm_rw_single_vec() ->
 *    pin_user_pages_remote() (FOLL_PIN) -> __get_user_pages() -> follow_page_pte() -> 6.1
 *    try_grab_page(), 6.12 try_grab_folio(), both of which warn of a page without references; the
 *    data is copied without the mmap lock, then unpin_user_pages_dirty_lock().
 *  - mem-read, mem-write: /proc/PID/mem, fs/proc/base.c mem_rw() -> access_remote_vm() ->
 *    mm/memory.c __access_remote_vm() -> 6.1 get_user_pages_remote(), 6.12
 *    get_user_page_vma_remote(), page by page with FOLL_FORCE: a private page is written even where
 *    the process itself may only read.
 *  - ptrace: PTRACE_PEEKDATA and PTRACE_POKEDATA of words, kernel/ptrace.c ptrace_access_vm() ->
 *    __access_remote_vm().
 *  - zerocopy-tcp, zerocopy-udp: gup-zerocopy.h.
 * The memory is anonymous and private, a memfd or a file mapped shared, by turns.
 *
 * The other process (gup-tracee.h) is a child. While its memory is accessed it unmaps shared pages,
 * flips the protection or forks: none of that changes its data, so every oracle is exact. What it
 * stored must be read, by each of several accesses, and nothing written beside the buffer; what is
 * written must be found by its own loads, and the bytes beside it as they were.
 *  - Unmapping: a shared page stays in the page cache. Not for anonymous memory, which would lose
 *    its data.
 *  - Protecting: reads do not care. Writes need FOLL_FORCE, which works for private pages alone.
 *  - Forking: a page that is pinned for writing is copied for the child there and then, so the
 *    write reaches the parent.
 */
#define _GNU_SOURCE
#include <sys/ptrace.h>

#include "common.h"
#include "memory.h"
#include "gup.args.h"
#include "gup-tracee.h"
#include "gup-zerocopy.h"

enum variant { VM_READV, VM_WRITEV, MEM_READ, MEM_WRITE, PTRACE };

enum {
	MAX_READS = 8, /* of one content */
	MAX_WORDS = 64,
};

struct access {
	struct tracee tracee;
	int mem; /* /proc/PID/mem */
	bool may_force;
	unsigned char *buffer; /* with neighbours */
	unsigned int ops; /* calls that moved data in this turn */

	/* Of this turn. */
	enum memory_kind kind;
	enum churn churn;
	size_t start, length;
};

/*
 * Whether this kernel lets /proc/PID/mem write where the process itself may not: since 6.12 it can
 * be told not to (proc_mem.force_override=).
 */
static enum stress_result probe_force(struct stress_path *path, struct access *access)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || page == MAP_FAILED)
		return stress_error(path, "prepare a write to protected memory");
	access->may_force = pwrite(fd, "", 1, (uintptr_t)page) == 1;
	if (!access->may_force)
		stress_note(path, "this kernel forces no writes to protected memory: %m");
	munmap(page, 4096);
	close(fd);
	return STRESS_OK;
}

static enum stress_result open_mem(struct stress_path *path, struct access *access)
{
	char name[32];

	snprintf(name, sizeof(name), "/proc/%d/mem", access->tracee.pid);
	access->mem = open(name, O_RDWR | O_CLOEXEC);
	if (access->mem < 0)
		return stress_error(path, "open %s", name);
	return path->variant == MEM_WRITE ? probe_force(path, access) : STRESS_OK;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct access *access = stress_alloc(sizeof(*access));
	/* ptrace moves words, however short the turns of the others are. */
	const size_t most_peeked = MAX_WORDS * sizeof(long);
	size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result;

	if (max < most_peeked)
		max = most_peeked;
	path->state = access;
	*access = (struct access){ .mem = -1, .tracee.socket = -1 };
	for (int kind = 0; kind < MEMORY_KINDS; kind++)
		access->tracee.memory[kind] = (struct memory)MEMORY_CLOSED;
	access->buffer = stress_alloc(max + 2 * NEIGHBOUR);
	result = tracee_start(path, &access->tracee, max);
	if (result != STRESS_OK)
		return result;
	if (path->variant == MEM_READ || path->variant == MEM_WRITE)
		return open_mem(path, access);
	if (path->variant == PTRACE && ptrace(PTRACE_SEIZE, access->tracee.pid, NULL, NULL))
		return stress_error(path, "seize the tracee");
	return STRESS_OK;
}

static void tear_down(struct stress_path *path)
{
	struct access *access = path->state;

	if (access->mem >= 0)
		close(access->mem);
	tracee_stop(&access->tracee);
	free(access->buffer);
	free(access);
}

static bool may_churn(const struct stress_path *path, const struct access *access, enum churn churn)
{
	switch (churn) {
	case UNMAP:
		return access->kind != ANONYMOUS;
	case PROTECT:
		return path->variant == VM_READV || path->variant == MEM_READ ||
		       (path->variant == MEM_WRITE && access->kind == ANONYMOUS &&
			access->may_force);
	default:
		return path->variant != PTRACE;
	}
}

static enum churn choose_churn(struct stress_path *path, const struct access *access)
{
	uint64_t choice = stress_number(ARG_CHURN);
	enum churn churn = choice ? choice - 1 : rng_below(&path->rng, CHURNS);

	return may_churn(path, access, churn) ? churn : STILL;
}

static unsigned char *remote(const struct access *access)
{
	return access->tracee.memory[access->kind].bytes + access->start;
}

/* One access to all of the range, from or to `local`; -1 with errno. */
static ssize_t access_range(struct stress_path *path, struct access *access, unsigned char *local)
{
	struct iovec mine[MAX_PIECES], its[MAX_PIECES];
	unsigned char *address = remote(access);
	int my_count = split_range(path, mine, local, access->length, 1);
	int its_count = split_range(path, its, address, access->length, 1);

	switch (path->variant) {
	case VM_READV:
		path->waits_for = "process_vm_readv";
		return process_vm_readv(access->tracee.pid, mine, my_count, its, its_count, 0);
	case VM_WRITEV:
		path->waits_for = "process_vm_writev";
		return process_vm_writev(access->tracee.pid, mine, my_count, its, its_count, 0);
	case MEM_READ:
		path->waits_for = "a read of /proc/PID/mem";
		return pread(access->mem, local, access->length, (uintptr_t)address);
	default:
		path->waits_for = "a write to /proc/PID/mem";
		return pwrite(access->mem, local, access->length, (uintptr_t)address);
	}
}

static enum stress_result access_all(struct stress_path *path, struct access *access,
				     unsigned char *local)
{
	ssize_t n = access_range(path, access, local);

	if (planted(path, 5)) /* a short access */
		n /= 2;
	if (n < 0)
		return stress_error(path, "access %zu bytes of the tracee", access->length);
	if ((size_t)n != access->length)
		return stress_wrong_number(path, "length", access->start, access->length, n);
	access->ops++;
	return STRESS_OK;
}

/* Several reads of what the tracee has stored. */
static enum stress_result turn_read(struct stress_path *path, struct access *access)
{
	unsigned int reads = 1 + rng_below(&path->rng, MAX_READS);
	unsigned char *local = access->buffer + NEIGHBOUR;
	const unsigned char *want = access->tracee.model[access->kind] + access->start;
	size_t length = access->length;
	enum stress_result result;

	result = tracee_fill(path, &access->tracee, access->kind, access->start, length,
			     access->churn);
	for (unsigned int i = 0; i < reads && result == STRESS_OK; i++) {
		memory_poison(local, length);
		result = access_all(path, access, local);
		if (result != STRESS_OK)
			break;
		if (planted(path, 1)) /* a flipped bit */
			local[length / 2] ^= 0x10;
		if (planted(path, 2)) /* one byte too many */
			local[length] ^= 0x10;
		if (stress_compare(path, "pattern", local, want, NULL, length, access->start) |
		    memory_check_neighbours(path, local, length, access->start))
			return STRESS_FAIL;
	}
	return result == STRESS_OK ? tracee_rest(path, &access->tracee) : result;
}

static enum stress_result turn_write(struct stress_path *path, struct access *access)
{
	unsigned char *model = access->tracee.model[access->kind] + access->start;
	enum stress_result result;

	/* An order to store nothing, for the churn's sake. */
	result = tracee_fill(path, &access->tracee, access->kind, access->start, 0, access->churn);
	if (result != STRESS_OK)
		return result;
	pattern_fill(path->key, path->generation, model, access->length, access->start);
	memcpy(access->buffer, model, access->length);
	if (planted(path, 3)) /* writes another's data */
		memset(access->buffer, POISON, access->length);
	result = access_all(path, access, access->buffer);
	if (result != STRESS_OK)
		return result;
	return tracee_verify(path, &access->tracee, access->kind, access->start, access->length);
}

static enum stress_result peek(struct stress_path *path, struct access *access)
{
	const unsigned char *want = access->tracee.model[access->kind] + access->start;

	for (size_t at = 0; at < access->length; at += sizeof(long)) {
		long word;

		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, access->tracee.pid, remote(access) + at, NULL);
		if (errno)
			return stress_error(path, "peek at offset %zu", access->start + at);
		memcpy(access->buffer + at, &word, sizeof(word));
		access->ops++;
	}
	if (planted(path, 1))
		access->buffer[access->length / 2] ^= 0x10;
	return stress_compare(path, "peek", access->buffer, want, NULL, access->length,
			      access->start);
}

static enum stress_result poke(struct stress_path *path, struct access *access)
{
	unsigned char *model = access->tracee.model[access->kind] + access->start;

	path->generation++;
	pattern_fill(path->key, path->generation, model, access->length, access->start);
	for (size_t at = 0; at < access->length; at += sizeof(long)) {
		long word;

		memcpy(&word, model + at, sizeof(word));
		if (planted(path, 3))
			word ^= 0x10;
		if (ptrace(PTRACE_POKEDATA, access->tracee.pid, remote(access) + at, word))
			return stress_error(path, "poke at offset %zu", access->start + at);
		access->ops++;
	}
	return STRESS_OK;
}

/* Peeks and pokes at the tracee while it is stopped. */
static enum stress_result turn_ptrace(struct stress_path *path, struct access *access)
{
	pid_t pid = access->tracee.pid;
	enum stress_result result;
	int status;

	access->length = sizeof(long) * (1 + rng_below(&path->rng, MAX_WORDS));
	access->start = memory_room(path, &access->tracee.memory[access->kind], access->length, 1);
	result = tracee_fill(path, &access->tracee, access->kind, access->start, access->length,
			     STILL);
	if (result != STRESS_OK)
		return result;
	path->waits_for = "the tracee to stop";
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid)
		return stress_error(path, "stop the tracee");
	if (!WIFSTOPPED(status)) {
		stress_note(path, "the tracee ended with wait status 0x%04x", (unsigned int)status);
		return STRESS_FAIL;
	}
	result = peek(path, access);
	if (result == STRESS_OK)
		result = poke(path, access);
	if (ptrace(PTRACE_CONT, pid, NULL, NULL))
		return stress_error(path, "let the tracee go on");
	if (result != STRESS_OK)
		return result;
	return tracee_verify(path, &access->tracee, access->kind, access->start, access->length);
}

static enum stress_result turn(struct stress_path *path)
{
	static const char *const churns[] = { "still", "unmapping", "protecting", "forking" };
	struct access *access = path->state;
	enum stress_result result;
	uint64_t bytes;

	access->ops = 0;
	access->kind = memory_choose(path, stress_number(ARG_MEMORY));
	access->churn = choose_churn(path, access);
	access->length = rng_length(&path->rng, stress_number(ARG_MAX_LENGTH), 1);
	access->start = memory_room(path, &access->tracee.memory[access->kind], access->length, 1);
	switch (path->variant) {
	case VM_READV:
	case MEM_READ:
		result = turn_read(path, access);
		bytes = (uint64_t)access->ops * access->length;
		break;
	case PTRACE:
		result = turn_ptrace(path, access);
		bytes = (uint64_t)access->ops * sizeof(long);
		break;
	default:
		result = turn_write(path, access);
		bytes = access->length;
	}
	if (result == STRESS_FAIL)
		stress_note(path, "%s memory at %zu, %zu bytes, the tracee %s",
			    memory_name(access->kind), access->start, access->length,
			    churns[access->churn]);
	if (result == STRESS_OK)
		stress_credit(path, access->ops, bytes);
	return result;
}

#define ZEROCOPY(NAME, TYPE)                                                       \
	{ .name = NAME, .setup = zerocopy_set_up, .turn = zerocopy_turn,           \
	  .teardown = zerocopy_tear_down, .variant = TYPE }

STRESS_MAIN("gup", NULL,
	    STRESS_PATH("vm-readv", VM_READV),
	    STRESS_PATH("vm-writev", VM_WRITEV),
	    STRESS_PATH("mem-read", MEM_READ),
	    STRESS_PATH("mem-write", MEM_WRITE),
	    STRESS_PATH("ptrace", PTRACE),
	    ZEROCOPY("zerocopy-tcp", SOCK_STREAM),
	    ZEROCOPY("zerocopy-udp", SOCK_DGRAM))
