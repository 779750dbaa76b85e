// SPDX-License-Identifier: GPL-2.0-only
/* Corruption of memory, as far as the kernel checks for it. */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/kfence.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "tripwire.h"

/* lib/list_debug.c: a WARN, or with CONFIG_BUG_ON_DATA_CORRUPTION a BUG. */
static bool lists_are_checked(void)
{
	return IS_ENABLED(CONFIG_DEBUG_LIST) || IS_ENABLED(CONFIG_LIST_HARDENED);
}

noinline int tripwire_list_add(unsigned int seconds)
{
	struct list_head first, second;
	LIST_HEAD(list);

	if (!lists_are_checked())
		return -EOPNOTSUPP;
	list_add(&first, &list);
	first.prev = &first;
	list_add(&second, &list);
	return 0;
}

noinline int tripwire_list_del(unsigned int seconds)
{
	struct list_head entry;
	LIST_HEAD(list);

	if (!lists_are_checked())
		return -EOPNOTSUPP;
	list_add(&entry, &list);
	list_del(&entry);
	list_del(&entry);
	return 0;
}

/*
 * Blocks of this order never stand in a per-CPU list: the buddy allocator
 * checks each when it is handed out.
 */
#define ORDER (PAGE_ALLOC_COSTLY_ORDER + 1)
#define BLOCKS 64

noinline int tripwire_page_underflow(unsigned int seconds)
{
	struct page *blocks[BLOCKS], *page;
	int n;

	page = alloc_pages(GFP_KERNEL, ORDER);
	if (!page)
		return -ENOMEM;
	__free_pages(page, ORDER);
	put_page(page);

	/* The allocator finds the block as soon as it would hand it out. */
	for (n = 0; n < BLOCKS; n++) {
		blocks[n] = alloc_pages(GFP_KERNEL | __GFP_NOWARN, ORDER);
		if (!blocks[n])
			break;
	}
	while (n)
		__free_pages(blocks[--n], ORDER);
	return 0;
}

/* Bytes of an object. */
#define OBJECT 64

/*
 * A cache that asks for the slab allocator's own checks (mm/slub.c). It is
 * left behind, because destroying it is another report once they have failed.
 */
static struct kmem_cache *checked_cache(const char *name)
{
	return kmem_cache_create(name, OBJECT, 0, SLAB_CONSISTENCY_CHECKS | SLAB_POISON |
				 SLAB_RED_ZONE | SLAB_STORE_USER, NULL);
}

noinline int tripwire_slab_use_after_free(unsigned int seconds)
{
	struct kmem_cache *cache;
	char *object;

	if (!IS_ENABLED(CONFIG_SLUB_DEBUG))
		return -EOPNOTSUPP;
	cache = checked_cache("tripwire_freed");
	if (!cache)
		return -ENOMEM;
	object = kmem_cache_alloc(cache, GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	kmem_cache_free(cache, object);
	OPTIMIZER_HIDE_VAR(object);
	WRITE_ONCE(object[8], 1);
	/* Its poison is looked at when it is handed out again. */
	object = kmem_cache_alloc(cache, GFP_KERNEL);
	return object ? 0 : -ENOMEM;
}

noinline int tripwire_slab_out_of_bounds(unsigned int seconds)
{
	struct kmem_cache *cache;
	char *object;

	if (!IS_ENABLED(CONFIG_SLUB_DEBUG))
		return -EOPNOTSUPP;
	cache = checked_cache("tripwire_bounds");
	if (!cache)
		return -ENOMEM;
	object = kmem_cache_alloc(cache, GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(object);
	WRITE_ONCE(object[OBJECT], 1);
	kmem_cache_free(cache, object);
	return 0;
}

/*
 * KASAN sees each use of freed memory. KFENCE sees it in the few objects that
 * it takes as samples, so one is waited for where there is KFENCE; other
 * kernels see nothing.
 */
noinline int tripwire_use_after_free(unsigned int seconds)
{
	char *object;
	int turns = 0;

	for (;;) {
		object = kmalloc(OBJECT, GFP_KERNEL);
		if (!object)
			return -ENOMEM;
		if (!IS_ENABLED(CONFIG_KFENCE) || is_kfence_address(object) || ++turns == 1000)
			break;
		kfree(object);
		usleep_range(1000, 2000);
	}
	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	return READ_ONCE(object[8]) == 1 ? -EIO : 0;
}
