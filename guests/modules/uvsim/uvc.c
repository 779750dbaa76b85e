// SPDX-License-Identifier: GPL-2.0-only
/*
 * The instruction UVC (b9a4), which is an illegal operation where there is no ultravisor:
 * arch/s390/kernel/traps.c illegal_op() asks the die notifiers before it calls that a bug.
 *
 * The commands are those that a host's kernel gives (arch/s390/include/asm/uv.h): convert to and
 * from secure storage, destroy secure storage, pin a page shared. What an answer means to the
 * kernel is in arch/s390/kernel/uv.c.
 */
#include <linux/delay.h>
#include <linux/kdebug.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <asm/uv.h>

#include "compat.h"
#include "uvsim.h"

enum {
	UVC_OPCODE = 0xb9a4,
	UVC_BYTES = 4,
	CC_SHIFT = 44, /* in the PSW's mask */
	/* Of a page that is not there: arch/s390/kernel/uv.c make_page_secure(). */
	RC_NO_PAGE = 0x10a,
	/* The public sources name none for these; the kernel tells no failures apart. */
	RC_NOT_SHARED = 0x106,
	RC_FAILED = 0x107,
	/* Busy answers in a row: uv_call() tries for ever. */
	MOST_BUSY = 8,
};

static DEFINE_PER_CPU(unsigned int, busy_in_row);

struct page *uvsim_mapped_page(struct mm_struct *mm, unsigned long address)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t pte;

	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, address);
	if (pud_none(*pud))
		return NULL;
	pmd = pmd_offset(pud, address);
	if (pmd_none(*pmd) || uvsim_pmd_is_leaf(*pmd))
		return NULL;
	/* Once: without the table's lock it may change between two looks. */
	pte = READ_ONCE(*pte_offset_kernel(pmd, address));
	return pte_present(pte) ? pte_page(pte) : NULL;
}

static int answer(struct uv_cb_header *header, u16 rc)
{
	header->rc = rc;
	return rc == UVC_RC_EXECUTED ? UVC_CC_OK : UVC_CC_ERROR;
}

static int convert_to_secure(struct uv_cb_cts *block)
{
	struct mm_struct *mm;
	struct page *page = NULL;
	int error;

	uvsim_count(UVSIM_CONVERT_TO);
	rcu_read_lock();
	mm = uvsim_guest_mm(block->guest_handle);
	if (mm)
		page = uvsim_mapped_page(mm, block->gaddr);
	rcu_read_unlock();
	if (!page)
		return answer(&block->header, RC_NO_PAGE);
	/* The kernel holds the page's references frozen for as long as this takes. */
	if (uvsim_knobs.freeze_delay_us)
		udelay(uvsim_knobs.freeze_delay_us);
	error = uvsim_state_import(page_to_pfn(page), block->guest_handle);
	if (error == -ENOMEM)
		return UVC_CC_BUSY;
	return answer(&block->header, error ? RC_FAILED : UVC_RC_EXECUTED);
}

static int convert_from_secure(struct uv_cb_cfs *block)
{
	uvsim_count(UVSIM_CONVERT_FROM);
	if (uvsim_chance(uvsim_knobs.export_fail_percent)) {
		uvsim_count(UVSIM_EXPORT_FAILED);
		return answer(&block->header, RC_FAILED);
	}
	uvsim_state_export(PHYS_PFN(block->paddr), UVSIM_EXPORTED);
	return answer(&block->header, UVC_RC_EXECUTED);
}

static int destroy_secure(struct uv_cb_cfs *block)
{
	uvsim_count(UVSIM_DESTROY);
	uvsim_state_export(PHYS_PFN(block->paddr), UVSIM_DESTROYED);
	return answer(&block->header, UVC_RC_EXECUTED);
}

static int pin_shared(struct uv_cb_cfs *block)
{
	bool shared = uvsim_knobs.pin_shared && uvsim_state_pin_shared(PHYS_PFN(block->paddr));

	uvsim_count(UVSIM_PIN_SHARED);
	return answer(&block->header, shared ? UVC_RC_EXECUTED : RC_NOT_SHARED);
}

/* Busy or partially done, as the knobs have it: the condition code, or 0. */
static int interrupted(void)
{
	if (raw_cpu_inc_return(busy_in_row) <= MOST_BUSY) {
		if (uvsim_chance(uvsim_knobs.busy_percent)) {
			uvsim_count(UVSIM_BUSY);
			return UVC_CC_BUSY;
		}
		if (uvsim_chance(uvsim_knobs.partial_percent)) {
			uvsim_count(UVSIM_PARTIAL);
			return UVC_CC_PARTIAL;
		}
	}
	raw_cpu_write(busy_in_row, 0);
	return 0;
}

/* The condition code. */
static int execute(struct uv_cb_header *header)
{
	int cc = interrupted();

	if (cc)
		return cc;
	switch (header->cmd) {
	case UVC_CMD_CONV_TO_SEC_STOR:
		return convert_to_secure((struct uv_cb_cts *)header);
	case UVC_CMD_CONV_FROM_SEC_STOR:
		return convert_from_secure((struct uv_cb_cfs *)header);
	case UVC_CMD_DESTR_SEC_STOR:
		return destroy_secure((struct uv_cb_cfs *)header);
	case UVC_CMD_PIN_PAGE_SHARED:
		return pin_shared((struct uv_cb_cfs *)header);
	default:
		uvsim_count(UVSIM_OTHER_COMMAND);
		return answer(header, UVC_RC_INV_CMD);
	}
}

/* Called in the context of the instruction, with interrupts as they were there. */
static int trap(struct notifier_block *unused, unsigned long reason, void *data)
{
	struct pt_regs *regs = ((struct die_args *)data)->regs;
	const u8 *bytes;
	u64 cc;

	/* The PSW's address is already that of the next instruction. */
	if (reason != DIE_BPT || user_mode(regs) || (regs->int_code >> 16) != UVC_BYTES)
		return NOTIFY_DONE;
	bytes = (const u8 *)(regs->psw.addr - UVC_BYTES);
	if ((bytes[0] << 8 | bytes[1]) != UVC_OPCODE)
		return NOTIFY_DONE;
	/* The second operand's register has the control block's address. */
	cc = execute((struct uv_cb_header *)regs->gprs[bytes[3] & 0xf]);
	regs->psw.mask = (regs->psw.mask & ~(3UL << CC_SHIFT)) | (cc << CC_SHIFT);
	return NOTIFY_STOP;
}

static struct notifier_block trap_notifier = { .notifier_call = trap, .priority = 100 };

int uvsim_uvc_init(void)
{
	return register_die_notifier(&trap_notifier);
}

/*
 * For a page that it has marked the kernel asks the ultravisor some day, which then is no more.
 * Marks are left where an export failed, and where a page was not made secure after all: they come
 * first.
 */
static void clear_marks(void)
{
	int node;

	uvsim_knobs.export_fail_percent = 0;
	for_each_online_node(node)
		for (unsigned long pfn = node_start_pfn(node); pfn < node_end_pfn(node); pfn++) {
			struct page *page = pfn_to_online_page(pfn);

			cond_resched();
			if (!page || !test_bit(PG_arch_1, (unsigned long *)&page->flags) ||
			    !get_page_unless_zero(page))
				continue;
			if (uvsim_call_hook(page))
				pr_err("uvsim: pfn:%lx stays marked as secure\n", pfn);
			put_page(page);
		}
}

/* All guests are gone: nobody makes a page secure any more. May sleep. */
void uvsim_uvc_exit(void)
{
	clear_marks();
	unregister_die_notifier(&trap_notifier);
}
