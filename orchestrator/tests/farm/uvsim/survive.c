// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Treats the module uvsim badly, and checks that nothing of it is left: survive OPENS KILLS SECONDS.
 *
 * Each process has a file of its own: two whose page tables map one secure page meet a race of the
 * kernel's, which loses references.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "uvsim_uapi.h"

enum { MIB = 1 << 20, PAGE = 4096, REGION = 8 * MIB, SECURED = 16 * PAGE, FUZZERS = 2, USERS = 2 };
/* What other things than uvsim may keep of memory and slabs between two looks. */
enum { MOST_LOST_KIB = 8192 };

#define COUNTERS "/sys/kernel/debug/uvsim/counters"
#define EXPORT_FAIL "/sys/kernel/debug/uvsim/export_fail_percent"
#define CPU "/sys/devices/system/cpu/cpu1/online"

static char *const region = (char *)0x200000000;
static int file;

static void fail(const char *format, ...)
{
	va_list arguments;

	printf("# failed: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(": %s\n", strerror(errno));
	exit(1);
}

static void must(bool is_so, const char *what)
{
	if (!is_so)
		fail("%s", what);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	must(fd >= 0 && write(fd, text, strlen(text)) > 0, path);
	close(fd);
}

/* The number behind a name in a file of names and numbers. */
static long number(const char *path, const char *name)
{
	static char text[16384];
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *found;

	must(length > 0, path);
	close(fd);
	text[length] = '\0';
	found = strstr(text, name);
	must(found, name);
	return strtol(found + strlen(name), NULL, 10);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint64_t random_state = 1;

static uint64_t random_number(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void own_file(void)
{
	file = memfd_create("guest", 0);
	must(file >= 0 && !ftruncate(file, REGION), "memory");
	must(mmap(region, REGION, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED,
	     "map memory");
}

static int command(int guest, unsigned long request, size_t length)
{
	struct uvsim_range range = { .address = (uintptr_t)region, .length = length };

	return ioctl(guest, request, &range);
}

static void use(bool close_first)
{
	int guest = open("/dev/uvsim", O_RDWR);

	must(guest >= 0, "open");
	memset(region, 1, SECURED);
	must(!command(guest, UVSIM_MAP, REGION), "map");
	must(!command(guest, UVSIM_SECURE, SECURED), "secure");
	if (close_first)
		close(guest);
	must(!madvise(region, SECURED, MADV_DONTNEED), "unmap");
	if (!close_first)
		close(guest);
}

/* In a child. */
static void secure_for_ever(void)
{
	for (;;) {
		int guest = open("/dev/uvsim", O_RDWR);

		must(guest >= 0 && !command(guest, UVSIM_MAP, REGION), "map");
		for (int i = 0; i < 20; i++) {
			memset(region, 1, MIB);
			command(guest, UVSIM_SECURE, MIB);
			command(guest, UVSIM_EXPORT, MIB);
		}
		close(guest);
	}
}

static uint64_t strange_number(void)
{
	switch (random_number() % 6) {
	case 0:
		return random_number();
	case 1:
		return (uintptr_t)region + random_number() % 8 * MIB;
	case 2:
		return (uintptr_t)region + random_number() % (REGION / PAGE) * PAGE;
	case 3:
		return random_number() % 16 * PAGE;
	case 4:
		return random_number() % 8 * MIB;
	default:
		return -(random_number() % 3 * MIB);
	}
}

/* In a child: calls with arguments that make sense by chance only. */
static void fuzz(unsigned int seed, double seconds)
{
	static const unsigned int requests[] = { UVSIM_MAP,    UVSIM_SECURE, UVSIM_EXPORT,
						 UVSIM_STATE,  UVSIM_TOUCH,  UVSIM_NIC };
	int guests[4] = { -1, -1, -1, -1 };
	double end = now() + seconds;
	unsigned long calls = 0;

	random_state += seed * 7919;
	own_file();
	for (; now() < end; calls++) {
		uint64_t argument[6];
		unsigned int which = random_number() % 7;
		unsigned int request = which < 6 ? requests[which] : random_number();
		int *guest = &guests[random_number() % 4];

		if (*guest < 0 || random_number() % 50 == 0) {
			if (*guest >= 0)
				close(*guest);
			*guest = open("/dev/uvsim", O_RDWR);
		}
		/* NICs are slow. */
		if (request == UVSIM_NIC && random_number() % 20)
			continue;
		for (size_t i = 0; i < 6; i++)
			argument[i] = strange_number();
		if (random_number() % 40 == 0)
			region[random_number() % REGION] = 1;
		if (random_number() % 200 == 0)
			madvise(region + random_number() % 2000 * PAGE, 40 * PAGE, MADV_DONTNEED);
		if (random_number() % 300 == 0)
			msync(region, REGION, MS_SYNC);
		ioctl(*guest, request,
		      random_number() % 30 ? (void *)argument : (void *)random_number());
	}
	printf("# %lu calls\n", calls);
	exit(0);
}

static void load(void)
{
	int module = open("/farm/modules/uvsim.ko", O_RDONLY | O_CLOEXEC);

	must(module >= 0 && !syscall(SYS_finit_module, module, "", 0), "load uvsim");
	close(module);
}

static pid_t child(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	must(pid >= 0, "fork");
	return pid;
}

/* All children end well. */
static void await(void)
{
	int status;

	while (wait(&status) > 0)
		must(WIFEXITED(status) && !WEXITSTATUS(status), "a child");
}

static void kill_all(const pid_t *children, int count)
{
	for (int i = 0; i < count; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
}

static void nothing_is_left(const char *after)
{
	printf("# after %s: %ld guests, %ld left secure, %ld freed secure, %ld pages known\n", after,
	       number(COUNTERS, "\nguests "), number(COUNTERS, "\nleft_secure "),
	       number(COUNTERS, "\nfreed_secure "), number(COUNTERS, "\nknown_pages "));
	errno = 0;
	must(!number(COUNTERS, "\nguests "), "guests are left");
	must(!number(COUNTERS, "\nleft_secure "), "pages were left secure");
	must(!number(COUNTERS, "\nfreed_secure "), "pages were freed while they were secure");
}

static void unload_under_load(double seconds)
{
	double end = now() + seconds;
	unsigned long unloaded = 0;
	pid_t children[USERS + 1];

	for (int i = 0; i < USERS; i++) {
		children[i] = child();
		if (children[i])
			continue;
		own_file();
		for (;;) {
			int guest = open("/dev/uvsim", O_RDWR);

			/* There is none while the module is away. */
			if (guest >= 0) {
				memset(region, 1, SECURED);
				command(guest, UVSIM_MAP, REGION);
				command(guest, UVSIM_SECURE, SECURED);
				close(guest);
			}
			usleep(random_number() % 20000);
		}
	}
	children[USERS] = child();
	if (!children[USERS])
		for (;;) {
			put(CPU, "0");
			put(CPU, "1");
		}
	while (now() < end || !unloaded) {
		if (syscall(SYS_delete_module, "uvsim", O_NONBLOCK)) {
			must(errno == EWOULDBLOCK || errno == EBUSY, "unload");
			continue;
		}
		unloaded++;
		load();
	}
	kill_all(children, USERS + 1);
	put(CPU, "1");
	printf("# unloaded %lu times under load\n", unloaded);
}

/*
 * A page that cannot be made accessible when its guest ends must be when the module goes: whoever pins
 * it later asks the ultravisor, and without one that is an illegal operation in the kernel.
 */
static void unload_with_a_secure_page(void)
{
	struct iovec here = { .iov_base = &(char){ 0 }, .iov_len = 1 };
	struct iovec there = { .iov_base = region, .iov_len = 1 };
	int guest = open("/dev/uvsim", O_RDWR);

	memset(region, 1, SECURED);
	must(guest >= 0 && !command(guest, UVSIM_MAP, REGION), "map");
	must(!command(guest, UVSIM_SECURE, PAGE), "secure");
	put(EXPORT_FAIL, "100");
	close(guest);
	errno = 0;
	must(number(COUNTERS, "\nleft_secure ") == 1, "an export did not fail");
	must(!syscall(SYS_delete_module, "uvsim", 0), "unload with a secure page");
	must(process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1, "pin a page that was left secure");
	load();
}

int main(int argc, char **argv)
{
	long opens = argc > 3 ? atol(argv[1]) : 0, kills = opens ? atol(argv[2]) : 0;
	double seconds = opens ? atof(argv[3]) : 0;
	long free_before, slab_before;

	must(opens && kills && seconds > 0, "usage: survive OPENS KILLS SECONDS");
	put("/proc/sys/vm/drop_caches", "3");
	free_before = number("/proc/meminfo", "MemFree:");
	slab_before = number("/proc/meminfo", "Slab:");
	own_file();
	for (long i = 0; i < opens; i++)
		use(i % 2);
	nothing_is_left("opening and closing");

	for (long i = 0; i < kills; i++) {
		pid_t pid = child();

		if (!pid) {
			own_file();
			secure_for_ever();
		}
		usleep(random_number() % 30000);
		kill_all(&pid, 1);
	}
	nothing_is_left("killing");

	for (unsigned int i = 0; i < FUZZERS; i++)
		if (!child())
			fuzz(i, seconds);
	await();
	nothing_is_left("fuzzing");

	unload_with_a_secure_page();
	unload_under_load(seconds);
	nothing_is_left("unloading");

	close(file);
	munmap(region, REGION);
	must(!syscall(SYS_delete_module, "uvsim", 0), "unload at the end");
	put("/proc/sys/vm/drop_caches", "3");
	printf("# free memory %ld -> %ld KiB, slabs %ld -> %ld KiB\n", free_before,
	       number("/proc/meminfo", "MemFree:"), slab_before, number("/proc/meminfo", "Slab:"));
	errno = 0;
	must(number("/proc/meminfo", "MemFree:") > free_before - MOST_LOST_KIB, "memory is lost");
	must(number("/proc/meminfo", "Slab:") < slab_before + MOST_LOST_KIB, "slabs are lost");
	return 0;
}
