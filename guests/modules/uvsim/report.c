// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reports, each in the form of a WARN() with the page's history between its text and its trace.
 *
 * A guest has so many of them (the knob `reports`): a loop that does I/O meets the same violation
 * as often as it turns. What is not reported is counted.
 *
 * A function for each kind, never inlined: reports are known by the function that they name.
 *
 * Reports of two CPUs take turns, or their lines would mix, by the lock that stack traces are
 * printed under: a CPU that has it may take it again. Held with interrupts off, in any context but
 * within a console's own output, where no page of a guest is.
 */
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "compat.h"
#include "uvsim.h"

/* Whether one more of a page of this guest may be made. */
static bool may_report(unsigned long owner)
{
	bool may = uvsim_guest_reports(owner) <= READ_ONCE(uvsim_knobs.reports);

	if (!may)
		uvsim_count(UVSIM_UNREPORTED);
	return may;
}

/* What is known of the page, for the caller to free, if a report of it may be made; else NULL. */
static struct uvsim_page *begin_report(struct page *page)
{
	struct uvsim_page *known = kmalloc(sizeof(*known), GFP_ATOMIC | __GFP_NOWARN);

	if (!known) {
		uvsim_count(UVSIM_NO_MEMORY);
		return NULL;
	}
	if (uvsim_state_get(page_to_pfn(page), known) && may_report(known->owner))
		return known;
	kfree(known);
	return NULL;
}

noinline void uvsim_report_early(struct page *page, const char *device)
{
	struct uvsim_page *known = begin_report(page);
	unsigned long flags;

	if (!known)
		return;
	printk_cpu_sync_get_irqsave(flags);
	__warn_printk("uvsim: early: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp submitted to %s\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      device);
	uvsim_history_print(&known->history);
	uvsim_warn_here();
	printk_cpu_sync_put_irqrestore(flags);
	kfree(known);
}

noinline void uvsim_report_sink(struct page *page, const char *sink, const char *device)
{
	struct uvsim_page *known = begin_report(page);
	unsigned long flags;

	if (!known)
		return;
	printk_cpu_sync_get_irqsave(flags);
	__warn_printk("uvsim: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp reached %s(%s) without %s()\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      sink, device, UVSIM_HOOK);
	uvsim_history_print(&known->history);
	uvsim_warn_here();
	printk_cpu_sync_put_irqrestore(flags);
	kfree(known);
}

noinline void uvsim_report_freed(struct page *page, const struct uvsim_page *known)
{
	unsigned long flags;

	if (!may_report(known->owner))
		return;
	printk_cpu_sync_get_irqsave(flags);
	__warn_printk("uvsim: page pfn:%lx flags:%pGp freed while secure\n", page_to_pfn(page),
		      &page->flags);
	uvsim_history_print(&known->history);
	uvsim_warn_here();
	printk_cpu_sync_put_irqrestore(flags);
}
