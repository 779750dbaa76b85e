/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that uvsim is built for. Nothing else here asks for a version.
 */
#ifndef UVSIM_COMPAT_H
#define UVSIM_COMPAT_H

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <asm/gmap.h>
#include <asm/uv.h>

/* The hook, arch_make_page_accessible() until 6.9: arch/s390/kernel/uv.c. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define UVSIM_HOOK "arch_make_folio_accessible"

static inline int uvsim_call_hook(struct page *page)
{
	return arch_make_folio_accessible(page_folio(page));
}

/* What the hook is called with, its first argument. */
static inline struct page *uvsim_hook_page(unsigned long argument)
{
	return folio_page((struct folio *)argument, 0);
}

static inline int uvsim_mapcount(struct page *page)
{
	return folio_mapcount(page_folio(page));
}

#define uvsim_pmd_is_leaf(pmd) pmd_leaf(pmd)
#else
#define UVSIM_HOOK "arch_make_page_accessible"

static inline int uvsim_call_hook(struct page *page)
{
	return arch_make_page_accessible(page);
}

static inline struct page *uvsim_hook_page(unsigned long argument)
{
	return (struct page *)argument;
}

static inline int uvsim_mapcount(struct page *page)
{
	return page_mapcount(page);
}

#define uvsim_pmd_is_leaf(pmd) pmd_large(pmd)
#endif

/* Makes a page secure as the kernel does; the locks that this takes are its own. May sleep. */
static inline int uvsim_convert_to_secure(struct gmap *gmap, unsigned long address)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	/* gmap_convert_to_secure() is KVM's own since then; this is what it calls. */
	struct uv_cb_cts uvcb = {
		.header.cmd = UVC_CMD_CONV_TO_SEC_STOR,
		.header.len = sizeof(uvcb),
		.guest_handle = gmap->guest_handle,
		.gaddr = address,
	};

	return make_hva_secure(gmap->mm, address, &uvcb);
#else
	return gmap_convert_to_secure(gmap, address);
#endif
}

/*
 * KSM merges no page of the current process from now on. KVM does this before it makes a guest a
 * protected one: arch/s390/kvm/kvm-s390.c kvm_s390_handle_pv(). May sleep.
 */
static inline int uvsim_stop_merging(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	return s390_disable_cow_sharing();
#else
	int error;

	mmap_write_lock(current->mm);
	error = gmap_mark_unmergeable();
	mmap_write_unlock(current->mm);
	return error;
#endif
}

/* NULL or an error pointer if there is none to be had. */
static inline struct gendisk *uvsim_alloc_disk(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return blk_alloc_disk(NULL, NUMA_NO_NODE);
#else
	return blk_alloc_disk(NUMA_NO_NODE);
#endif
}

/* The WARNING line and the call trace; what belongs in front of it was printed already. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#define uvsim_warn_here() __WARN_FLAGS("", BUGFLAG_NO_CUT_HERE | BUGFLAG_TAINT(TAINT_WARN))
#else
#define uvsim_warn_here() __WARN_FLAGS(BUGFLAG_NO_CUT_HERE | BUGFLAG_TAINT(TAINT_WARN))
#endif

#endif
