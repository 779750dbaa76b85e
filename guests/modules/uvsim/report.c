// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reports, each in the form of a WARN() with the page's history between its text and its trace.
 *
 * Their number is bounded (the knob `reports`): a loop that does I/O meets the same violation as
 * often as it turns. What is not reported is counted.
 *
 * A function for each kind, never inlined: reports are known by the function that they name.
 */
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "compat.h"
#include "uvsim.h"

/* Whether one more may be made. */
static bool may_report(void)
{
	unsigned int left = READ_ONCE(uvsim_knobs.reports);

	do {
		if (!left) {
			uvsim_count(UVSIM_UNREPORTED);
			return false;
		}
	} while (!try_cmpxchg(&uvsim_knobs.reports, &left, left - 1));
	return true;
}

static void print_history(struct page *page)
{
	struct uvsim_page *copy = kmalloc(sizeof(*copy), GFP_ATOMIC | __GFP_NOWARN);

	if (copy && uvsim_state_get(page_to_pfn(page), copy))
		uvsim_history_print(&copy->history);
	kfree(copy);
}

noinline void uvsim_report_early(struct page *page, const char *device)
{
	if (!may_report())
		return;
	__warn_printk("uvsim: early: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp submitted to %s\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      device);
	print_history(page);
	uvsim_warn_here();
}

noinline void uvsim_report_sink(struct page *page, const char *sink, const char *device)
{
	if (!may_report())
		return;
	__warn_printk("uvsim: inaccessible page pfn:%lx refcount:%d mapcount:%d flags:%pGp reached %s(%s) without " UVSIM_HOOK "()\n",
		      page_to_pfn(page), page_ref_count(page), uvsim_mapcount(page), &page->flags,
		      sink, device);
	print_history(page);
	uvsim_warn_here();
}

noinline void uvsim_report_freed(struct page *page, const struct uvsim_page *known)
{
	if (!may_report())
		return;
	__warn_printk("uvsim: page pfn:%lx flags:%pGp freed while secure\n", page_to_pfn(page),
		      &page->flags);
	uvsim_history_print(&known->history);
	uvsim_warn_here();
}
