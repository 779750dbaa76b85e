// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reports, each in the form of a WARN() with the page's history between its text and its trace.
 *
 * A guest has so many of them (the knob `reports`): a loop that does I/O meets the same violation
 * as often as it turns. What is not reported is counted.
 *
 * A function for each kind, never inlined: reports are known by the function that they name.
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

	if (!known)
		return;
	__warn_printk("uvsim: early: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp submitted to %s\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      device);
	uvsim_history_print(&known->history);
	kfree(known);
	uvsim_warn_here();
}

noinline void uvsim_report_sink(struct page *page, const char *sink, const char *device)
{
	struct uvsim_page *known = begin_report(page);

	if (!known)
		return;
	__warn_printk("uvsim: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp reached %s(%s) without %s()\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      sink, device, UVSIM_HOOK);
	uvsim_history_print(&known->history);
	kfree(known);
	uvsim_warn_here();
}

noinline void uvsim_report_freed(struct page *page, const struct uvsim_page *known)
{
	if (!may_report(known->owner))
		return;
	__warn_printk("uvsim: page pfn:%lx flags:%pGp freed while secure\n", page_to_pfn(page),
		      &page->flags);
	uvsim_history_print(&known->history);
	uvsim_warn_here();
}
