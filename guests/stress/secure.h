/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * --secure: the program is a protected guest, of the emulated ultravisor (guests/modules/uvsim).
 *
 * What it moves is then the guest's memory, and made secure right before each turn's I/O: whoever
 * hands such a page to a device has to make it accessible first. Data stays what it is, and the
 * program may go on using the pages, so that all checks hold. IPv4 sockets are connected by the
 * module's pair of NICs, each in a network namespace of its own, in place of loopback.
 *
 * Nothing here does anything without --secure.
 */
#ifndef FARM_STRESS_SECURE_H
#define FARM_STRESS_SECURE_H

#include <netinet/in.h>

#include "common.h"

enum { SECURE_ALIGN = 1 << 20 }; /* of what can become a guest's memory */

/*
 * Addresses for `size` bytes that can become a guest's memory, with nothing there yet: the caller
 * maps over them with MAP_FIXED. NULL with errno.
 */
void *secure_reserve(size_t size);

/* Makes them so. */
enum stress_result secure_guard(struct stress_path *path, void *bytes, size_t size);

/*
 * Makes a forked child a guest of its own; call it before any other here. What it makes secure
 * counts as the program's.
 */
enum stress_result secure_child(struct stress_path *path);

/* Makes the pages of a guarded range secure; those that somebody else is using stay as they are. */
enum stress_result secure_pages(struct stress_path *path, const void *bytes, size_t length);

/*
 * Makes one page of a guarded range secure. 0, EBUSY where it stays in use, EFAULT where nothing
 * can be mapped, or another errno. For the main thread.
 */
int secure_page(const void *page);

/* Has the kernel touch the page as if it were to access it itself. 0 or an errno; any thread. */
int secure_touch(const void *page);

/*
 * The references to a page beside those of its mappings: the page cache's is one. 0 or an errno;
 * EFAULT where even the kernel gets none.
 */
int secure_references(const void *page, int *references);

/* The namespace that the calling thread makes sockets in: that of the far NIC, or its own. */
enum stress_result secure_far(struct stress_path *path, bool far);

/* The address of the far NIC. */
struct in_addr secure_far_address(void);

#endif
