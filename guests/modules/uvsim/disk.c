// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/uvsinkb: a RAM disk that counts as a device, for guests without any disk of the host's.
 *
 * Every page that is read or written is checked as a DMA engine would touch it; then its data is
 * copied. Blocks that were never written are zeros.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/xarray.h>

#include "compat.h"
#include "uvsim.h"

enum { PAGE_SECTORS_HERE = PAGE_SIZE / SECTOR_SIZE };

static unsigned int disk_mib = 64;
module_param(disk_mib, uint, 0444);
MODULE_PARM_DESC(disk_mib, "size of /dev/uvsinkb in MiB; it takes memory as it is written");

static struct gendisk *disk;
static DEFINE_XARRAY(blocks); /* of pages, by page number */
static int major;

/* The page of a sector, or NULL if there is none and none is wanted, or no memory. May sleep. */
static struct page *block_page(sector_t sector, bool wanted)
{
	unsigned long index = sector / PAGE_SECTORS_HERE;
	struct page *page = xa_load(&blocks, index), *other;

	if (page || !wanted)
		return page;
	page = alloc_page(GFP_NOIO | __GFP_ZERO);
	if (!page)
		return NULL;
	other = xa_cmpxchg(&blocks, index, NULL, page, GFP_NOIO);
	if (!other)
		return page;
	__free_page(page);
	return xa_is_err(other) ? NULL : other;
}

/* Moves the part of a segment that lies in one page of the disk. Its length, 0 without memory. */
static unsigned int move_part(struct bio_vec *segment, unsigned int done, sector_t sector,
			      bool write)
{
	unsigned int offset = (sector % PAGE_SECTORS_HERE) * SECTOR_SIZE;
	unsigned int length = min_t(unsigned int, segment->bv_len - done, PAGE_SIZE - offset);
	struct page *page = block_page(sector, write);

	if (!page && write)
		return 0;
	if (page && write)
		memcpy_page(page, offset, segment->bv_page, segment->bv_offset + done, length);
	else if (page)
		memcpy_page(segment->bv_page, segment->bv_offset + done, page, offset, length);
	else
		memzero_page(segment->bv_page, segment->bv_offset + done, length);
	return length;
}

/* Process context. */
static void disk_submit(struct bio *bio)
{
	bool write = op_is_write(bio_op(bio));
	sector_t sector = bio->bi_iter.bi_sector;
	struct bvec_iter at;
	struct bio_vec segment;

	bio_for_each_segment(segment, bio, at) {
		uvsim_check(segment.bv_page, segment.bv_offset, segment.bv_len, "dma",
			    disk->disk_name);
		for (unsigned int done = 0, part; done < segment.bv_len; done += part) {
			part = move_part(&segment, done, sector, write);
			if (!part) {
				bio_io_error(bio);
				return;
			}
			sector += part / SECTOR_SIZE;
		}
	}
	bio_endio(bio);
}

static const struct block_device_operations disk_operations = {
	.owner = THIS_MODULE,
	.submit_bio = disk_submit,
};

int uvsim_disk_init(void)
{
	int error;

	major = register_blkdev(0, "uvsinkb");
	if (major < 0)
		return major;
	disk = uvsim_alloc_disk();
	error = IS_ERR(disk) ? PTR_ERR(disk) : disk ? 0 : -ENOMEM;
	if (error)
		goto no_disk;
	disk->major = major;
	disk->minors = 1;
	disk->fops = &disk_operations;
	strscpy(disk->disk_name, "uvsinkb", sizeof(disk->disk_name));
	set_capacity(disk, (sector_t)disk_mib << (20 - SECTOR_SHIFT));
	error = add_disk(disk);
	if (!error)
		return 0;
	put_disk(disk);
no_disk:
	unregister_blkdev(major, "uvsinkb");
	return error;
}

void uvsim_disk_exit(void)
{
	struct page *page;
	unsigned long index;

	del_gendisk(disk);
	put_disk(disk);
	unregister_blkdev(major, "uvsinkb");
	xa_for_each(&blocks, index, page)
		__free_page(page);
	xa_destroy(&blocks);
}
