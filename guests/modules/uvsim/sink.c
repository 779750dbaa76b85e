// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the kernel hands memory to devices: kprobes at the entries of functions.
 *
 *  - virtqueue_add_*(): all that a virtio device reads or writes (drivers/virtio/virtio_ring.c).
 *  - dma_map_page_attrs(), since 6.18 dma_map_phys(), below it; dma_map_sg_attrs(),
 *    dma_map_sgtable(): any other device (kernel/dma/mapping.c).
 *  - submit_bio_noacct(): early. What lies below may still copy the data, so it is no violation,
 *    and a WARN() only where the knob `early` asks for it. Disks that only the CPU reads never
 *    count.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device.h>
#include <linux/kprobes.h>
#include <linux/scatterlist.h>
#include <linux/string.h>
#include <linux/virtio.h>

#include "compat.h"
#include "uvsim.h"

void uvsim_check(struct page *page, size_t offset, size_t length, const char *sink,
		 const char *device)
{
	size_t end = offset + length;

	if (uvsim_state_is_empty())
		return;
	for (size_t at = round_down(offset, PAGE_SIZE); at < end; at += PAGE_SIZE) {
		struct page *one = page + (at >> PAGE_SHIFT);

		if (!uvsim_state_inaccessible(page_to_pfn(one), UVSIM_AT_SINK))
			continue;
		uvsim_count(UVSIM_VIOLATIONS);
		/* A page goes out in several packets. */
		if (uvsim_state_first_report(page_to_pfn(one)))
			uvsim_report_sink(one, sink, device);
	}
}

/* The kernel's calling convention has the first five arguments in registers 2 to 6. */
static unsigned long argument(const struct pt_regs *regs, unsigned int index)
{
	return regs->gprs[2 + index];
}

static bool is_read_by_cpu(const char *disk)
{
	static const char *const drivers[] = { "ram", "zram", "loop", "nullb", "pmem" };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (!strncmp(disk, drivers[i], strlen(drivers[i])))
			return true;
	return false;
}

/* submit_bio_noacct(bio) */
static int bio_submitted(struct kprobe *probe, struct pt_regs *regs)
{
	struct bio *bio = (struct bio *)argument(regs, 0);
	struct bvec_iter at;
	struct bio_vec part;
	const char *disk;

	if (uvsim_state_is_empty() || !bio_has_data(bio))
		return 0;
	disk = bio->bi_bdev->bd_disk->disk_name;
	if (is_read_by_cpu(disk))
		return 0;
	bio_for_each_segment(part, bio, at) {
		if (!uvsim_state_inaccessible(page_to_pfn(part.bv_page), UVSIM_SUBMITTED))
			continue;
		uvsim_count(UVSIM_EARLY);
		if (uvsim_knobs.early)
			uvsim_report_early(part.bv_page, disk);
	}
	return 0;
}

static void check_list(struct scatterlist *list, unsigned int most, const char *sink,
		       const char *device)
{
	struct scatterlist *entry = list;

	for (unsigned int i = 0; entry && i < most; i++, entry = sg_next(entry))
		uvsim_check(sg_page(entry), entry->offset, entry->length, sink, device);
}

/* virtqueue_add_sgs(queue, lists, out, in, ...): lists that end by themselves. */
static int lists_added(struct kprobe *probe, struct pt_regs *regs)
{
	struct virtqueue *queue = (struct virtqueue *)argument(regs, 0);
	struct scatterlist **lists = (struct scatterlist **)argument(regs, 1);
	unsigned int count = (u32)argument(regs, 2) + (u32)argument(regs, 3);

	if (uvsim_state_is_empty())
		return 0;
	for (unsigned int i = 0; i < count; i++)
		check_list(lists[i], UINT_MAX, "virtqueue", queue->name);
	return 0;
}

/* virtqueue_add_outbuf(queue, list, count, ...), and the same for inbuf. */
static int list_added(struct kprobe *probe, struct pt_regs *regs)
{
	struct virtqueue *queue = (struct virtqueue *)argument(regs, 0);

	if (!uvsim_state_is_empty())
		check_list((struct scatterlist *)argument(regs, 1), argument(regs, 2), "virtqueue",
			   queue->name);
	return 0;
}

/* The device first. */
static int dma_page_mapped(struct kprobe *probe, struct pt_regs *regs)
{
	size_t offset, length;
	struct page *page;

	if (uvsim_state_is_empty())
		return 0;
	page = uvsim_dma_page(regs, &offset, &length);
	uvsim_check(page, offset, length, "dma_map_page",
		    dev_name((struct device *)argument(regs, 0)));
	return 0;
}

/* dma_map_sg_attrs(device, list, count, ...) */
static int dma_list_mapped(struct kprobe *probe, struct pt_regs *regs)
{
	if (!uvsim_state_is_empty())
		check_list((struct scatterlist *)argument(regs, 1), argument(regs, 2), "dma_map_sg",
			   dev_name((struct device *)argument(regs, 0)));
	return 0;
}

/* dma_map_sgtable(device, table, ...) */
static int dma_table_mapped(struct kprobe *probe, struct pt_regs *regs)
{
	struct sg_table *table = (struct sg_table *)argument(regs, 1);

	if (!uvsim_state_is_empty())
		check_list(table->sgl, table->orig_nents, "dma_map_sgtable",
			   dev_name((struct device *)argument(regs, 0)));
	return 0;
}

/* Not a sink: the hook itself, for the page's history. */
static int hook_called(struct kprobe *probe, struct pt_regs *regs)
{
	if (uvsim_state_is_empty())
		return 0;
	uvsim_count(UVSIM_HOOK_CALLS);
	uvsim_state_note(page_to_pfn(uvsim_hook_page(argument(regs, 0))), UVSIM_HOOK_CALLED);
	return 0;
}

static struct kprobe probes[] = {
	{ .symbol_name = "submit_bio_noacct", .pre_handler = bio_submitted },
	{ .symbol_name = "virtqueue_add_sgs", .pre_handler = lists_added },
	{ .symbol_name = "virtqueue_add_outbuf", .pre_handler = list_added },
	{ .symbol_name = "virtqueue_add_inbuf", .pre_handler = list_added },
	{ .symbol_name = "virtqueue_add_inbuf_ctx", .pre_handler = list_added },
	{ .symbol_name = UVSIM_DMA_MAP, .pre_handler = dma_page_mapped },
	{ .symbol_name = "dma_map_sg_attrs", .pre_handler = dma_list_mapped },
	{ .symbol_name = "dma_map_sgtable", .pre_handler = dma_table_mapped },
	{ .symbol_name = UVSIM_HOOK, .pre_handler = hook_called },
};

int uvsim_sink_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		int error = register_kprobe(&probes[i]);

		if (error) {
			pr_err("uvsim: no probe at %s: %d\n", probes[i].symbol_name, error);
			while (i--)
				unregister_kprobe(&probes[i]);
			return error;
		}
	}
	return 0;
}

void uvsim_sink_exit(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		unregister_kprobe(&probes[i]);
}
