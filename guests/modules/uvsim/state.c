// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages are secure, whose they are, and what happened to them.
 *
 * A page is known from the first time it is made secure until it is freed, so that what this takes
 * grows with the guests' memory, not with the machine's. Everything here is under state_lock, with
 * interrupts disabled: the trap comes with a page table's lock held, sinks are called from
 * softirqs, and pages are freed anywhere. For that last reason nothing is freed under the lock.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <linux/xarray.h>

#include "compat.h"
#include "uvsim.h"

static DEFINE_SPINLOCK(state_lock);
static DEFINE_XARRAY_FLAGS(pages, XA_FLAGS_LOCK_IRQ);
static long known_pages; /* how many there are */
static struct kmem_cache *page_cache;

bool uvsim_state_is_empty(void)
{
	return xa_empty(&pages);
}

int uvsim_state_import(unsigned long pfn, unsigned long owner)
{
	struct uvsim_page *fresh, *known;
	struct uvsim_entry entry;
	unsigned long flags;
	int error = 0;

	uvsim_entry_fill(&entry, UVSIM_SECURED, pfn_to_page(pfn));
	fresh = kmem_cache_zalloc(page_cache, GFP_ATOMIC | __GFP_NOWARN);
	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	if (!known && fresh) {
		error = xa_err(xa_store(&pages, pfn, fresh, GFP_ATOMIC | __GFP_NOWARN));
		if (!error) {
			known = fresh;
			fresh = NULL;
			known_pages++;
		}
	}
	if (!known) {
		error = -ENOMEM;
	} else if (known->secure &&
		   (known->owner != owner || uvsim_chance(uvsim_knobs.owner_mismatch_percent))) {
		error = -EPERM;
	} else {
		known->owner = owner;
		known->secure = true;
		known->shared = false;
		known->reported = false;
		known->imports++;
		uvsim_history_add(&known->history, &entry);
	}
	spin_unlock_irqrestore(&state_lock, flags);
	if (fresh)
		kmem_cache_free(page_cache, fresh);
	if (error == -ENOMEM)
		uvsim_count(UVSIM_NO_MEMORY);
	if (error == -EPERM)
		uvsim_count(UVSIM_OWNER_MISMATCH);
	return error;
}

void uvsim_state_export(unsigned long pfn, enum uvsim_event how)
{
	struct uvsim_page *known;
	struct uvsim_entry entry;
	unsigned long flags;

	if (uvsim_state_is_empty())
		return;
	uvsim_entry_fill(&entry, how, pfn_to_page(pfn));
	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	if (known && known->secure) {
		known->secure = false;
		known->shared = false;
		known->exports++;
		uvsim_history_add(&known->history, &entry);
	}
	spin_unlock_irqrestore(&state_lock, flags);
}

bool uvsim_state_pin_shared(unsigned long pfn)
{
	struct uvsim_page *known;
	struct uvsim_entry entry;
	unsigned long flags;
	bool done = false;

	uvsim_entry_fill(&entry, UVSIM_PINNED_SHARED, pfn_to_page(pfn));
	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	if (known && known->secure) {
		done = true;
		known->shared = true;
		uvsim_history_add(&known->history, &entry);
	}
	spin_unlock_irqrestore(&state_lock, flags);
	return done;
}

bool uvsim_state_inaccessible(unsigned long pfn, enum uvsim_event event)
{
	struct uvsim_page *known;
	struct uvsim_entry entry;
	unsigned long flags;
	bool inaccessible;

	if (uvsim_state_is_empty() || !xa_load(&pages, pfn))
		return false;
	uvsim_entry_fill(&entry, event, pfn_to_page(pfn));
	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	if (known)
		uvsim_history_add(&known->history, &entry);
	inaccessible = known && known->secure && !known->shared;
	spin_unlock_irqrestore(&state_lock, flags);
	return inaccessible;
}

void uvsim_state_note(unsigned long pfn, enum uvsim_event event)
{
	uvsim_state_inaccessible(pfn, event);
}

bool uvsim_state_first_report(unsigned long pfn)
{
	struct uvsim_page *known;
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	first = known && !known->reported;
	if (first)
		known->reported = true;
	spin_unlock_irqrestore(&state_lock, flags);
	return first;
}

bool uvsim_state_get(unsigned long pfn, struct uvsim_page *copy)
{
	struct uvsim_page *known;
	unsigned long flags;

	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	if (known)
		*copy = *known;
	spin_unlock_irqrestore(&state_lock, flags);
	return known;
}

long uvsim_state_known(void)
{
	return READ_ONCE(known_pages);
}

/* Any context. */
static void forget(unsigned long pfn)
{
	struct uvsim_page *known;
	unsigned long flags;

	spin_lock_irqsave(&state_lock, flags);
	known = xa_erase(&pages, pfn);
	if (known)
		known_pages--;
	spin_unlock_irqrestore(&state_lock, flags);
	if (!known)
		return;
	if (known->secure) {
		uvsim_count(UVSIM_FREED_SECURE);
		uvsim_report_freed(pfn_to_page(pfn), known);
	}
	kmem_cache_free(page_cache, known);
}

/* The tracepoint mm_page_free: mm/page_alloc.c free_pages_prepare(). Any context. */
static void page_freed(void *unused, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page), last = pfn + (1UL << order) - 1;

	if (uvsim_state_is_empty())
		return;
	while (xa_find(&pages, &pfn, last, XA_PRESENT))
		forget(pfn);
}

/* Whether the page is secure still, and the guest's. */
static bool is_left(unsigned long pfn, unsigned long owner)
{
	const struct uvsim_page *known;
	unsigned long flags;
	bool left;

	spin_lock_irqsave(&state_lock, flags);
	known = xa_load(&pages, pfn);
	left = known && known->secure && known->owner == owner;
	spin_unlock_irqrestore(&state_lock, flags);
	return left;
}

void uvsim_state_release(unsigned long owner)
{
	struct uvsim_page *known;
	unsigned long pfn;

	xa_for_each(&pages, pfn, known) {
		struct page *page;

		if (!is_left(pfn, owner))
			continue;
		page = pfn_to_online_page(pfn);
		if (!page || !get_page_unless_zero(page))
			continue;
		/* Not by the guest's end alone: the kernel's own mark has to go too. */
		if (uvsim_call_hook(page))
			uvsim_count(UVSIM_LEFT_SECURE);
		put_page(page);
	}
}

/* Tracepoints have no names that a module may link to. */
static struct tracepoint *page_free;

static void find_page_free(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "mm_page_free"))
		page_free = tracepoint;
}

int uvsim_state_init(void)
{
	int error;

	for_each_kernel_tracepoint(find_page_free, NULL);
	if (!page_free)
		return -ENOENT;
	page_cache = KMEM_CACHE(uvsim_page, 0);
	if (!page_cache)
		return -ENOMEM;
	error = tracepoint_probe_register(page_free, page_freed, NULL);
	if (error)
		kmem_cache_destroy(page_cache);
	return error;
}

/* All guests are gone, and nothing asks for a page's state any more. */
void uvsim_state_exit(void)
{
	struct uvsim_page *known;
	unsigned long pfn;

	tracepoint_probe_unregister(page_free, page_freed, NULL);
	tracepoint_synchronize_unregister();
	xa_for_each(&pages, pfn, known)
		kmem_cache_free(page_cache, known);
	xa_destroy(&pages);
	kmem_cache_destroy(page_cache);
}
