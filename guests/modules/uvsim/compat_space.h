/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A fake guest's address space, and how the kernel makes a page of it secure. Guest addresses are
 * those of the process.
 *
 * Until 6.13 that is a gmap, as KVM's are (arch/s390/mm/gmap.c). Since 6.14 what makes a page
 * secure needs none (arch/s390/kernel/uv.c), and since 7.0 KVM's guests have page tables of their
 * own (arch/s390/kvm/gmap.c), of which nothing is exported: a list of what is the guest's will do.
 */
#ifndef UVSIM_COMPAT_SPACE_H
#define UVSIM_COMPAT_SPACE_H

#include <linux/err.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/xarray.h>
#include <asm/uv.h>

/*
 * uvsim_stop_merging(): KSM merges no page of the current process from now on. KVM does this before
 * it makes a guest a protected one: arch/s390/kvm/kvm-s390.c kvm_s390_handle_pv(). May sleep.
 */
#if __has_include("asm/gmap_helpers.h")
#include <asm/gmap_helpers.h>
#define uvsim_stop_merging_locked gmap_helper_disable_cow_sharing
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#include <asm/gmap.h>
#define uvsim_stop_merging_locked gmap_mark_unmergeable
#else
#include <asm/gmap.h>
#define uvsim_stop_merging s390_disable_cow_sharing
#endif

#ifdef uvsim_stop_merging_locked
static inline int uvsim_stop_merging(void)
{
	int error;

	mmap_write_lock(current->mm);
	error = uvsim_stop_merging_locked();
	mmap_write_unlock(current->mm);
	return error;
}
#endif

struct uvsim_space {
	struct mm_struct *mm;
	u32 handle;
	struct xarray parts; /* since 6.14, by number of the MiB: what was mapped */
	struct gmap *gmap; /* before */
};

/* That of the current process, still empty; or an error pointer. May sleep. */
static inline struct uvsim_space *uvsim_space_begin(u32 handle)
{
	struct uvsim_space *space;
	int error = uvsim_stop_merging();

	if (error)
		return ERR_PTR(error);
	space = kzalloc(sizeof(*space), GFP_KERNEL);
	if (!space)
		return ERR_PTR(-ENOMEM);
	space->mm = current->mm;
	space->handle = handle;
	return space;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)

/* That of the current process; an error pointer if there is none to be had. May sleep. */
static inline struct uvsim_space *uvsim_space_create(u32 handle)
{
	struct uvsim_space *space = uvsim_space_begin(handle);

	if (!IS_ERR(space))
		xa_init(&space->parts);
	return space;
}

/* Whole MiB. Once more is no error. May sleep. */
static inline int uvsim_space_map(struct uvsim_space *space, unsigned long address,
				  unsigned long length)
{
	unsigned long first = address / SZ_1M, end = first + length / SZ_1M;

	if (address + length < address || address + length > TASK_SIZE_MAX)
		return -EINVAL;
	for (unsigned long part = first; part < end; part++) {
		int error = xa_err(xa_store(&space->parts, part, space, GFP_KERNEL));

		if (error)
			return error;
	}
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
/* As arch/s390/kvm/pv.c __kvm_s390_pv_make_secure(), with the page table's lock held. */
static inline int uvsim_make_folio_secure(struct mm_struct *mm, struct folio *folio,
					  struct uv_cb_header *header)
{
	if (folio_test_large(folio))
		return -E2BIG;
	/* Of a process's guests another may have it. If this fails, so does what follows. */
	if (atomic_read(&mm->context.protected_count) > 1)
		uv_convert_from_secure(folio_to_phys(folio));
	return __make_folio_secure(folio, header);
}

/*
 * Exported until then: now it is KVM's alone, arch/s390/kvm/pv.c kvm_s390_pv_make_secure() and its
 * callback, which look at the guest's page table where this looks at the process's.
 */
static inline int make_hva_secure(struct mm_struct *mm, unsigned long address,
				  struct uv_cb_header *header)
{
	struct folio *folio = NULL, *mapped;
	int error = -EAGAIN;
	spinlock_t *lock; /* of the page table */
	pte_t *pte;

	mmap_read_lock(mm);
	pte = try_get_locked_pte(mm, address, &lock);
	if (!IS_ERR_OR_NULL(pte)) {
		if (pte_present(*pte) && pte_special(*pte)) {
			error = -EFAULT; /* it has no struct page */
		} else if (pte_present(*pte) && pte_write(*pte)) {
			mapped = page_folio(pte_page(*pte));
			/* Whoever has the lock knows that no other has the references frozen. */
			if (folio_trylock(mapped)) {
				folio = mapped;
				/* The one reference beyond those that are expected. */
				folio_get(folio);
				error = uvsim_make_folio_secure(mm, folio, header);
				folio_unlock(folio);
			}
		}
		pte_unmap_unlock(pte, lock);
	}
	mmap_read_unlock(mm);
	if (error == -E2BIG || error == -EBUSY)
		error = s390_wiggle_split_folio(mm, folio) ?: -EAGAIN;
	if (folio)
		folio_put(folio);
	return error;
}
#endif

/* -EAGAIN: to be tried again. May sleep. */
static inline int uvsim_space_make_secure(struct uvsim_space *space, unsigned long address)
{
	struct uv_cb_cts block = {
		.header.cmd = UVC_CMD_CONV_TO_SEC_STOR,
		.header.len = sizeof(block),
		.guest_handle = space->handle,
		.gaddr = address,
	};
	int error;

	if (!xa_load(&space->parts, address / SZ_1M))
		return -EFAULT;
	/* As a guest's write would, and no longer: the references are counted. */
	mmap_read_lock(space->mm);
	error = fixup_user_fault(space->mm, address, FAULT_FLAG_WRITE, NULL);
	mmap_read_unlock(space->mm);
	if (error)
		return error;
	error = make_hva_secure(space->mm, address, &block.header);
	return error == -ENXIO ? -EAGAIN : error;
}

/* The process may be gone. May sleep. */
static inline void uvsim_space_remove(struct uvsim_space *space)
{
	xa_destroy(&space->parts);
	kfree(space);
}

#else /* before 6.14 */

static inline struct uvsim_space *uvsim_space_create(u32 handle)
{
	struct uvsim_space *space;
	int error;

	/* Page tables have room for what KVM keeps beside them if the process began with it. */
	if (!current->mm->context.alloc_pgste)
		return ERR_PTR(-EOPNOTSUPP);
	error = s390_enable_sie();
	if (error)
		return ERR_PTR(error);
	space = uvsim_space_begin(handle);
	if (IS_ERR(space))
		return space;
	space->gmap = gmap_create(current->mm, -1UL);
	if (!space->gmap) {
		kfree(space);
		return ERR_PTR(-ENOMEM);
	}
	space->gmap->guest_handle = handle;
	return space;
}

static inline int uvsim_space_map(struct uvsim_space *space, unsigned long address,
				  unsigned long length)
{
	return gmap_map_segment(space->gmap, address, address, length);
}

/* The locks that this takes are the kernel's own. */
static inline int uvsim_space_make_secure(struct uvsim_space *space, unsigned long address)
{
	return gmap_convert_to_secure(space->gmap, address);
}

static inline void uvsim_space_remove(struct uvsim_space *space)
{
	gmap_remove(space->gmap);
	kfree(space);
}
#endif

#endif
