/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that uvsim is built for, but for a guest's address space, which
 * is in compat_space.h. Nothing else here asks for a version.
 */
#ifndef UVSIM_COMPAT_H
#define UVSIM_COMPAT_H

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/version.h>
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

/* Where memory is mapped for a device other than by lists: kernel/dma/mapping.c. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#define UVSIM_DMA_MAP "dma_map_phys"

/* dma_map_phys(device, address, length, ...) */
static inline struct page *uvsim_dma_page(const struct pt_regs *regs, size_t *offset,
					  size_t *length)
{
	*offset = offset_in_page(regs->gprs[3]);
	*length = regs->gprs[4];
	return phys_to_page(regs->gprs[3]);
}
#else
#define UVSIM_DMA_MAP "dma_map_page_attrs"

/* dma_map_page_attrs(device, page, offset, length, ...) */
static inline struct page *uvsim_dma_page(const struct pt_regs *regs, size_t *offset,
					  size_t *length)
{
	*offset = regs->gprs[4];
	*length = regs->gprs[5];
	return (struct page *)regs->gprs[3];
}
#endif

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
