// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Adds a swap device, pages anonymous and shmem memory out to it, and takes it away again.
 *
 * swapon(2) makes room that all reclaim of anonymous and shmem pages uses from then on, that of the
 * workers' memory included (pageout.c, memory-reclaim.c). What swapping does to references:
 * mm/vmscan.c shrink_folio_list() puts a page into the swap cache, which is one reference more,
 * unmaps it, and __remove_mapping() freezes its count when it leaves that cache; mm/memory.c
 * do_swap_page() and mm/shmem.c shmem_swapin_folio() find it there in the midst of its writeback.
 *  - anonymous, shmem: a window of memory gets new content and is paged out; it is checked at once,
 *    while it is still being written, is paged out again, and another one is checked that went out
 *    earlier.
 *  - swapoff: swapoff(2) while pages are out: mm/swapfile.c try_to_unuse() brings each one back.
 *
 * With --secure the memory is an emulated protected guest's, and secure when it goes out: the kernel
 * has to make it accessible when it takes it from the page table.
 *
 * The device is a raw virtio disk, that of the module uvsim, or zram (its module must be loaded),
 * which compresses into memory. The program writes the disk's header itself, as mkswap(8) would.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/swap.h>

#include "interference.h"
#include "region.h"
#include "swap.args.h"

enum variant { ANON, SHM, SWAPOFF };

enum { WINDOW = 32 }; /* pages */

struct swapping {
	struct region region;
	struct vmstat vmstat;
	unsigned int swapoffs;
};

/* All paths have the one device. */
static struct {
	char node[32];
	bool is_zram, made, on;
	unsigned int users;
} device;

#define ZRAM "/sys/block/zram0/"

/* include/linux/swap.h union swap_header: the first page of a swap device, in the CPU's order. */
struct swap_header {
	char boot_bits[1024];
	uint32_t version, last_page, bad_pages;
	unsigned char uuid[16], label[16];
	char padding[PAGE - 1024 - 3 * 4 - 2 * 16 - 10];
	char magic[10];
};

_Static_assert(sizeof(struct swap_header) == PAGE, "a swap header is a page");

static enum stress_result write_header(struct stress_path *path)
{
	struct swap_header header = { .version = 1, .magic = "SWAPSPACE2" };
	enum stress_result result = STRESS_OK;
	uint64_t size;
	/* Refuses a disk that is mounted. */
	int fd = open(device.node, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return stress_error(path, "open %s for a swap header", device.node);
	if (ioctl(fd, BLKGETSIZE64, &size)) {
		result = stress_error(path, "ask for the size of %s", device.node);
	} else {
		header.last_page = size / PAGE - 1;
		if (!write_all(fd, (unsigned char *)&header, sizeof(header), 0) || fsync(fd))
			result = stress_error(path, "write the swap header of %s", device.node);
	}
	close(fd);
	return result;
}

static enum stress_result make_device(struct stress_path *path)
{
	char name[16], size[32]; /* init links /dev/diskN to the disk with that serial number */
	enum stress_result result = STRESS_OK;

	stress_choice(ARG_DEVICE, name, sizeof(name));
	device.is_zram = !strcmp(name, "zram0");
	snprintf(device.node, sizeof(device.node), "/dev/%s", name);
	if (access(device.node, R_OK | W_OK))
		return stress_skip(path, "no %s here: %m%s", device.node,
				   device.is_zram ? " (module zram)" : "");
	if (device.is_zram) {
		if (knob_number(ZRAM "disksize"))
			return stress_skip(path, "%s is in use", device.node);
		snprintf(size, sizeof(size), "%" PRIu64, stress_number(ARG_ZRAM_SIZE));
		result = knob_order(path, ZRAM "disksize", size);
	}
	device.made = result == STRESS_OK;
	return result == STRESS_OK ? write_header(path) : result;
}

static enum stress_result swap_on(struct stress_path *path)
{
	path->waits_for = "swapon";
	if (swapon(device.node, 0))
		return stress_error(path, "swap on %s", device.node);
	device.on = true;
	return STRESS_OK;
}

static enum stress_result swap_off(struct stress_path *path)
{
	path->waits_for = "swapoff";
	if (swapoff(device.node))
		return stress_error(path, "swap off %s", device.node);
	device.on = false;
	return STRESS_OK;
}

static enum stress_result set_up(struct stress_path *path)
{
	struct swapping *swapping = stress_alloc(sizeof(*swapping));
	struct region *region = &swapping->region;
	enum stress_result result = STRESS_OK;

	path->state = swapping;
	swapping->vmstat.names = "pswpout pswpin";
	region->fd = -1;
	if (!device.users++)
		result = make_device(path);
	else if (!device.on)
		result = stress_skip(path, "no swap on %s", device.node);
	if (result == STRESS_OK && !device.on)
		result = swap_on(path);
	if (result != STRESS_OK)
		return result;
	return region_open(path, region, path->variant == SHM ? SHMEM : ANONYMOUS,
			   stress_number(ARG_MEMORY));
}

static void tear_down(struct stress_path *path)
{
	struct swapping *swapping = path->state;

	vmstat_note(path, &swapping->vmstat);
	if (swapping->swapoffs)
		stress_note(path, "%u times off and on", swapping->swapoffs);
	/* Its pages need not come back any more. */
	region_close(&swapping->region);
	free(swapping);
	if (--device.users)
		return;
	if (device.on && swap_off(path) != STRESS_OK)
		path->result = STRESS_FAIL;
	if (device.is_zram && device.made && knob_order(path, ZRAM "reset", "1") != STRESS_OK)
		path->result = STRESS_FAIL;
}

static enum stress_result page_out(struct stress_path *path, size_t first)
{
	struct swapping *swapping = path->state;

	path->waits_for = "madvise(MADV_PAGEOUT)";
	if (madvise(swapping->region.memory + first * PAGE, WINDOW * PAGE, MADV_PAGEOUT))
		return stress_error(path, "page out %d pages", WINDOW);
	return STRESS_OK;
}

static enum stress_result off_and_on(struct stress_path *path)
{
	struct swapping *swapping = path->state;
	enum stress_result result = swap_off(path);

	if (result == STRESS_OK)
		result = swap_on(path);
	swapping->swapoffs += result == STRESS_OK;
	return result;
}

/*
 * The first page-out begins writeback and leaves the pages in the swap cache, where the check finds
 * them; the second one then finds anonymous pages clean, and frees them.
 */
static enum stress_result go_out(struct stress_path *path, size_t first)
{
	struct swapping *swapping = path->state;
	struct region *region = &swapping->region;
	enum stress_result result = region_secure(path, region, first, WINDOW);

	if (result == STRESS_OK)
		result = page_out(path, first);

	if (result == STRESS_OK && path->variant == SWAPOFF)
		result = off_and_on(path);
	if (result == STRESS_OK)
		result = region_verify(path, region, "going-out", first, WINDOW);
	if (result == STRESS_OK)
		result = page_out(path, first);
	if (result == STRESS_OK)
		result = region_verify(path, region, "swapped-out",
				       region_choose(path, region, WINDOW), WINDOW);
	return result;
}

static enum stress_result turn(struct stress_path *path)
{
	struct swapping *swapping = path->state;
	struct region *region = &swapping->region;
	size_t first = region_choose(path, region, WINDOW);
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	region_renew(path, region, first, WINDOW);
	vmstat_begin(&swapping->vmstat);
	result = go_out(path, first);
	vmstat_end(&swapping->vmstat);
	if (result == STRESS_OK)
		stress_credit(path, 1, 2 * WINDOW * PAGE);
	return result;
}

STRESS_MAIN("swap", NULL,
	    STRESS_PATH("anonymous", ANON),
	    STRESS_PATH("shmem", SHM),
	    STRESS_PATH("swapoff", SWAPOFF))
