// SPDX-License-Identifier: GPL-2.0-only
/*
 * contig: takes a range of page frames away from whoever uses them, and gives it back.
 *
 * It is what cma_alloc() (mm/cma.c) does on behalf of a driver: alloc_contig_range()
 * (mm/page_alloc.c) isolates the page blocks and migrates what is in use within them. An s390
 * guest has no driver that asks for CMA memory and that user space could order to.
 *
 * Write "PFN COUNT" to /sys/kernel/debug/contig/take. The write returns when the range has been
 * taken and given back. EBUSY: a page would not move. EINVAL: not a range of online memory within
 * one zone, or one of more than MOST pages.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/version.h>

/* As much as one section, 256 MiB on s390. */
enum { MOST = 1 << 16 };

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#define KIND_OF_RANGE ACR_FLAGS_NONE
#else
#define KIND_OF_RANGE MIGRATE_MOVABLE
#endif

static struct dentry *directory;

/* Whether all of it is online, in one zone. */
static bool is_usable(unsigned long first, unsigned long end)
{
	struct page *page = pfn_to_online_page(first);
	struct zone *zone;

	if (!page)
		return false;
	zone = page_zone(page);
	for (unsigned long pfn = first; pfn < end; pfn++) {
		page = pfn_to_online_page(pfn);
		if (!page || page_zone(page) != zone)
			return false;
	}
	return true;
}

/* May sleep. Whoever writes sees to it that the range does not go offline meanwhile. */
static int take(unsigned long first, unsigned long count)
{
	int error;

	if (!count || count > MOST || first + count < first || !is_usable(first, first + count))
		return -EINVAL;
	error = alloc_contig_range(first, first + count, KIND_OF_RANGE, GFP_KERNEL);
	if (!error)
		free_contig_range(first, count);
	return error;
}

static ssize_t take_write(struct file *file, const char __user *text, size_t size, loff_t *at)
{
	unsigned long first, count;
	char line[64];
	int error;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, size))
		return -EFAULT;
	line[size] = '\0';
	if (sscanf(line, "%lu %lu", &first, &count) != 2)
		return -EINVAL;
	error = take(first, count);
	return error ? error : size;
}

static const struct file_operations take_operations = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.write = take_write,
};

static int __init contig_init(void)
{
	directory = debugfs_create_dir("contig", NULL);
	debugfs_create_file("take", 0200, directory, NULL, &take_operations);
	return PTR_ERR_OR_ZERO(directory);
}

static void __exit contig_exit(void)
{
	debugfs_remove_recursive(directory);
}

module_init(contig_init);
module_exit(contig_exit);
MODULE_DESCRIPTION("Takes ranges of page frames away from their users, as CMA does");
MODULE_LICENSE("GPL");
