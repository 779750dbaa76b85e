// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hook called where the kernel should: each fix is a knob, and makes its own paths clean.
 *
 *  - fix_splice: when data of the page cache leaves a pipe (fs/splice.c
 *    page_cache_pipe_buf_confirm()).
 *  - fix_vmsplice: when a user page is put into a pipe (fs/splice.c add_to_pipe()).
 *  - fix_zerocopy: when user pages become fragments of a packet (net/core/datagram.c
 *    __zerocopy_sg_from_iter()).
 *  - fix_dio: when user pages become segments of a bio (block/bio.c bio_iov_iter_get_pages()).
 *    Pages that come from a pipe take that way too; they are no user pages, and not this fix's.
 *
 * All of them hold a reference to the page by then, so that it cannot become secure again before
 * the I/O is done.
 *
 * A probe is enabled while its knob is on, so that a fix that is not asked for costs nothing.
 */
#include <linux/bio.h>
#include <linux/kprobes.h>
#include <linux/pipe_fs_i.h>
#include <linux/skbuff.h>
#include <linux/uio.h>

#include "compat.h"
#include "uvsim.h"

/* The hook may fail, by a knob; then the sink sees it. Any context: the ultravisor is emulated. */
static void make_accessible(struct page *page)
{
	if (uvsim_call_hook(page))
		pr_debug("uvsim: the hook failed\n");
}

/* page_cache_pipe_buf_confirm(pipe, buffer) */
static int buffer_confirmed(struct kprobe *probe, struct pt_regs *regs)
{
	struct pipe_buffer *buffer = (struct pipe_buffer *)regs->gprs[3];

	make_accessible(buffer->page);
	return 0;
}

/* add_to_pipe(pipe, buffer) */
static int buffer_added(struct kprobe *probe, struct pt_regs *regs)
{
	struct pipe_buffer *buffer = (struct pipe_buffer *)regs->gprs[3];

	make_accessible(buffer->page);
	return 0;
}

static struct kprobe probes[] = {
	{
		.symbol_name = "page_cache_pipe_buf_confirm",
		.pre_handler = buffer_confirmed,
		.flags = KPROBE_FLAG_DISABLED,
	},
	{
		.symbol_name = "add_to_pipe",
		.pre_handler = buffer_added,
		.flags = KPROBE_FLAG_DISABLED,
	},
};

/*
 * How many calls may be under way, each in a task of its own. Both functions may wait for a page; a
 * call too many is not mended, where the kernel's default allows ten or twice the number of CPUs.
 */
enum { MOST_CALLS = 512 };

/* What a function was called with, for its return. */
struct call {
	void *object;
};

/* __zerocopy_sg_from_iter(message, socket, skb, iterator, length) */
static int packet_begun(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	call->object = (void *)regs->gprs[4];
	return 0;
}

static int packet_filled(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;
	struct sk_buff *skb = call->object;

	for (int i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *fragment = &skb_shinfo(skb)->frags[i];
		unsigned int end = skb_frag_off(fragment) + skb_frag_size(fragment);

		for (unsigned int at = 0; at < end; at += PAGE_SIZE)
			make_accessible(skb_frag_page(fragment) + (at >> PAGE_SHIFT));
	}
	return 0;
}

/* bio_iov_iter_get_pages(bio, iterator) */
static int bio_begun(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	if (iov_iter_is_bvec((struct iov_iter *)regs->gprs[3]))
		return 1; /* its return is of no interest */
	call->object = (void *)regs->gprs[2];
	return 0;
}

static int bio_filled(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;
	struct bio *bio = call->object;
	struct bvec_iter at;
	struct bio_vec part;

	bio_for_each_segment(part, bio, at)
		make_accessible(part.bv_page);
	return 0;
}

static struct kretprobe returns[] = {
	{
		.kp.symbol_name = "__zerocopy_sg_from_iter",
		.kp.flags = KPROBE_FLAG_DISABLED,
		.entry_handler = packet_begun,
		.handler = packet_filled,
		.data_size = sizeof(struct call),
		.maxactive = MOST_CALLS,
	},
	{
		.kp.symbol_name = "bio_iov_iter_get_pages",
		.kp.flags = KPROBE_FLAG_DISABLED,
		.entry_handler = bio_begun,
		.handler = bio_filled,
		.data_size = sizeof(struct call),
		.maxactive = MOST_CALLS,
	},
};

static const struct fix {
	const unsigned int *knob;
	struct kprobe *probe;
} fixes[] = {
	{ &uvsim_knobs.fix_splice, &probes[0] },
	{ &uvsim_knobs.fix_vmsplice, &probes[1] },
	{ &uvsim_knobs.fix_zerocopy, &returns[0].kp },
	{ &uvsim_knobs.fix_dio, &returns[1].kp },
};

int uvsim_fix_apply(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(fixes); i++) {
		int error = *fixes[i].knob ? enable_kprobe(fixes[i].probe)
					   : disable_kprobe(fixes[i].probe);

		if (error)
			return error;
	}
	return 0;
}

static void remove(size_t probe_count, size_t return_count)
{
	while (probe_count--)
		unregister_kprobe(&probes[probe_count]);
	while (return_count--)
		unregister_kretprobe(&returns[return_count]);
}

int uvsim_fix_init(void)
{
	size_t i, j = 0;
	int error = 0;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		error = register_kprobe(&probes[i]);
		if (error) {
			pr_err("uvsim: no probe at %s: %d\n", probes[i].symbol_name, error);
			goto failed;
		}
	}
	for (j = 0; j < ARRAY_SIZE(returns); j++) {
		error = register_kretprobe(&returns[j]);
		if (error) {
			pr_err("uvsim: no probe at %s: %d\n", returns[j].kp.symbol_name, error);
			goto failed;
		}
	}
	return 0;
failed:
	remove(i, j);
	return error;
}

void uvsim_fix_exit(void)
{
	remove(ARRAY_SIZE(probes), ARRAY_SIZE(returns));
}
