// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel does when it touches a secure page itself: the secure storage access exception,
 * arch/s390/mm/fault.c do_secure_storage_access(). The machine does not raise it, so it is called
 * with the registers that it would have.
 *
 * For an access of the kernel's it takes a reference to the page of a real address while it holds
 * no other: until 6.9 by try_get_page(), which warns where it meets a count of 0, as it does while
 * the page is being made secure; since then by folio_try_get(), which does not.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/ptrace.h>

#include "uvsim.h"

/* Of the translation-exception identification: by way of the home space, which is the kernel's. */
enum { TEID_HOME_SPACE = 3 };

static void (*do_secure_storage_access)(struct pt_regs *regs);

int uvsim_touch(struct mm_struct *mm, unsigned long address)
{
	struct pt_regs regs = {};
	struct vm_area_struct *area;
	struct page *page = NULL;

	if (!do_secure_storage_access)
		return -EOPNOTSUPP;
	mmap_read_lock(mm);
	area = vma_lookup(mm, address);
	/* Guests' memory only: what else is mapped may have no struct page, so no references. */
	if (area && !(area->vm_flags & (VM_IO | VM_PFNMAP)))
		page = uvsim_mapped_page(mm, address);
	mmap_read_unlock(mm);
	if (!page)
		return -EFAULT;
	regs.int_parm_long = page_to_phys(page) | TEID_HOME_SPACE;
	do_secure_storage_access(&regs);
	return 0;
}

/* Not exported, and closed to kprobes: kallsyms knows it, and a kprobe knows kallsyms. */
void uvsim_touch_init(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long (*lookup)(const char *name);

	if (register_kprobe(&probe))
		return;
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	do_secure_storage_access = (void *)lookup("do_secure_storage_access");
}
