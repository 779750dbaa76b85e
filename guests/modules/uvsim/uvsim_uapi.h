/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/uvsim: makes memory of the calling process that of a fake protected guest.
 *
 * An open file is one guest. What it did is undone when the last descriptor of it is closed.
 */
#ifndef UVSIM_UAPI_H
#define UVSIM_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct uvsim_range {
	__u64 address;
	__u64 length;
	/* Answer: how many pages were done. */
	__u64 done;
};

struct uvsim_page_state {
	__u64 address;
	/* Answers. */
	__u32 state; /* UVSIM_PAGE_... */
	/* References beyond the mappings': the page cache's, one for private data, ... */
	__s32 references;
	__u64 imports; /* how often it was made secure, and accessible again */
	__u64 exports;
};

#define UVSIM_PAGE_SECURE 1 /* to the ultravisor */
#define UVSIM_PAGE_MARKED 2 /* to the kernel: PG_arch_1 */
#define UVSIM_PAGE_SHARED 4 /* pinned shared */

/*
 * Makes the range memory of the guest, at guest addresses equal to its own. Both address and length
 * are multiples of 1 MiB; a guest may have 4 GiB in all (E2BIG). Until 6.13 the process must have
 * been started with vm.allocate_pgste=1 (EOPNOTSUPP). The first call binds the guest to it (EPERM
 * for any other).
 */
#define UVSIM_MAP _IOWR('U', 0x10, struct uvsim_range)
/*
 * Makes each page of the range secure, by the kernel's own code, and maps it if need be. A page
 * that stays in use by somebody else ends it with EBUSY, one that is not the guest's with EFAULT;
 * `done` says how many pages in front of it are secure.
 */
#define UVSIM_SECURE _IOWR('U', 0x11, struct uvsim_range)
/* Makes each page of the range accessible, as a kernel does that does it right. */
#define UVSIM_EXPORT _IOWR('U', 0x12, struct uvsim_range)
#define UVSIM_STATE _IOWR('U', 0x13, struct uvsim_page_state)
/*
 * Does with each page of the range what the kernel does when it touches one that is secure itself
 * (do_secure_storage_access()). The pages must stay mapped meanwhile. Where the export fails, as a
 * knob can make it, the kernel has no way out of such an access but to oops.
 */
#define UVSIM_TOUCH _IOWR('U', 0x15, struct uvsim_range)
/*
 * Adds a NIC to the network namespace of the calling thread: uvsink0 by the first call, uvsink1,
 * its peer, by the second. A third is EBUSY, a namespace that has one of that name EEXIST.
 */
#define UVSIM_NIC _IO('U', 0x14)

#endif
