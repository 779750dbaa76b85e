/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The guest that --secure makes of the program. Included by common.c alone: it defines what
 * secure.h declares. It is of the main thread alone; a child makes one of its own.
 */
#ifndef FARM_STRESS_GUEST_H
#define FARM_STRESS_GUEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "options.h"
#include "secure.h"
#include "uvsim_uapi.h"

enum { GUEST_PAGE = 4096 };

static struct {
	int device;
	int near, far; /* network namespaces */
	struct {
		atomic_ullong made, busy;
	} *counts; /* of the program and its children */
} guest = { .device = -1, .near = -1, .far = -1 };

/* Ends the program where there is no ultravisor. */
static void guest_begin(void)
{
	if (!stress_options.secure)
		return;
	guest.counts = mmap(NULL, sizeof(*guest.counts), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest.counts == MAP_FAILED) {
		printf("Bail out! no memory for counts: %s\n", strerror(errno));
		exit(EXIT_FAILED);
	}
	guest.device = open("/dev/uvsim", O_RDWR | O_CLOEXEC);
	if (guest.device >= 0)
		return;
	printf("Bail out! /dev/uvsim: %s; --secure needs the module uvsim, which a scenario with "
	       "'protection: emulated' loads\n", strerror(errno));
	exit(EXIT_FAILED);
}

/* Whether pages were secure at all, as those of an idle program (common.h) need not be. */
static bool guest_end(void)
{
	if (!stress_options.secure)
		return true;
	printf("# %llu times a page was made secure, %llu times one was in use\n",
	       atomic_load(&guest.counts->made), atomic_load(&guest.counts->busy));
	return STRESS_IDLE || atomic_load(&guest.counts->made);
}

void *secure_reserve(size_t size)
{
	size_t whole = (size + SECURE_ALIGN - 1) / SECURE_ALIGN * SECURE_ALIGN;
	char *bytes = mmap(NULL, whole + SECURE_ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before = -(uintptr_t)bytes % SECURE_ALIGN;

	if (bytes == MAP_FAILED)
		return NULL;
	/* What is kept is `size` bytes, which the caller unmaps some day. */
	if (before)
		munmap(bytes, before);
	munmap(bytes + before + size, whole + SECURE_ALIGN - before - size);
	return bytes + before;
}

enum stress_result secure_guard(struct stress_path *path, void *bytes, size_t size)
{
	struct uvsim_range range = {
		.address = (uintptr_t)bytes,
		.length = (size + SECURE_ALIGN - 1) / SECURE_ALIGN * SECURE_ALIGN,
	};

	if (ioctl(guest.device, UVSIM_MAP, &range))
		return stress_error(path, "make %zu bytes a guest's memory", size);
	return STRESS_OK;
}

enum stress_result secure_child(struct stress_path *path)
{
	if (!stress_options.secure)
		return STRESS_OK;
	close(guest.device);
	guest.device = open("/dev/uvsim", O_RDWR | O_CLOEXEC);
	return guest.device < 0 ? stress_error(path, "open /dev/uvsim for a child") : STRESS_OK;
}

/*
 * A page that the kernel has forgotten to be secure would never be made accessible again. One that it has
 * pinned as shared meanwhile need not be: the host may use it.
 */
static enum stress_result check_mark(struct stress_path *path, uintptr_t page)
{
	struct uvsim_page_state state = { .address = page };

	if (ioctl(guest.device, UVSIM_STATE, &state))
		return stress_error(path, "ask for the state of a page");
	if (!(state.state & UVSIM_PAGE_SECURE) ||
	    state.state & (UVSIM_PAGE_MARKED | UVSIM_PAGE_SHARED))
		return STRESS_OK;
	stress_note(path, "a page is secure, and the kernel has lost its mark (PG_arch_1)");
	return STRESS_FAIL;
}

enum stress_result secure_pages(struct stress_path *path, const void *bytes, size_t length)
{
	const uintptr_t first = (uintptr_t)bytes / GUEST_PAGE * GUEST_PAGE;
	uintptr_t from = first;
	uintptr_t end = (uintptr_t)bytes + length;

	if (!stress_options.secure)
		return STRESS_OK;
	path->waits_for = "pages to become secure";
	while (from < end) {
		struct uvsim_range range = {
			.address = from,
			.length = (end - from + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE,
		};
		bool failed = ioctl(guest.device, UVSIM_SECURE, &range);

		atomic_fetch_add(&guest.counts->made, range.done);
		from += range.done * GUEST_PAGE;
		if (!failed)
			break;
		if (errno != EBUSY)
			return stress_error(path, "make a page secure");
		atomic_fetch_add(&guest.counts->busy, 1);
		from += GUEST_PAGE;
	}
	return check_mark(path, first);
}

int secure_page(const void *page)
{
	struct uvsim_range range = { .address = (uintptr_t)page, .length = GUEST_PAGE };
	int error = ioctl(guest.device, UVSIM_SECURE, &range) ? errno : 0;

	atomic_fetch_add(&guest.counts->made, range.done);
	atomic_fetch_add(&guest.counts->busy, error == EBUSY);
	return error;
}

int secure_touch(const void *page)
{
	struct uvsim_range range = { .address = (uintptr_t)page, .length = GUEST_PAGE };

	return ioctl(guest.device, UVSIM_TOUCH, &range) ? errno : 0;
}

int secure_references(const void *page, int *references)
{
	struct uvsim_page_state state = { .address = (uintptr_t)page };
	int error = ioctl(guest.device, UVSIM_STATE, &state) ? errno : 0;

	*references = state.references;
	return error;
}

struct in_addr secure_far_address(void)
{
	return (struct in_addr){ .s_addr = inet_addr("10.0.0.2") };
}

/* Makes a namespace with one end of the wire; the thread is in it then. -1 with errno. */
static int wired_namespace(const char *nic, struct in_addr address)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *place = (struct sockaddr_in *)&request.ifr_addr;
	bool done = false;
	int fd;

	if (unshare(CLONE_NEWNET) || ioctl(guest.device, UVSIM_NIC))
		return -1;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", nic);
	*place = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = address };
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !ioctl(fd, SIOCSIFADDR, &request) && !ioctl(fd, SIOCGIFFLAGS, &request)) {
		request.ifr_flags |= IFF_UP;
		done = !ioctl(fd, SIOCSIFFLAGS, &request);
	}
	if (fd >= 0)
		close(fd);
	return done ? open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
}

enum stress_result secure_far(struct stress_path *path, bool far)
{
	if (!stress_options.secure)
		return STRESS_OK;
	if (guest.near < 0)
		guest.near = wired_namespace("uvsink0", (struct in_addr){ inet_addr("10.0.0.1") });
	if (guest.near >= 0 && guest.far < 0)
		guest.far = wired_namespace("uvsink1", secure_far_address());
	if (guest.far < 0)
		return stress_error(path, "make the two ends of a network");
	if (setns(far ? guest.far : guest.near, CLONE_NEWNET))
		return stress_error(path, "enter a network namespace");
	return STRESS_OK;
}

#endif
