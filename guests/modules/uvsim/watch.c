// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who takes references to pages that are or were secure, for their history.
 *
 * Kernels differ in which of these functions they have, and compilers in which they keep: a probe
 * that cannot be set is left out. None of them is needed for a check.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/pipe_fs_i.h>

#include "uvsim.h"

/* (page or folio, ...): a folio begins as its first page does. */
static int page_taken(struct kprobe *probe, struct pt_regs *regs)
{
	if (!uvsim_state_is_empty())
		uvsim_state_note(page_to_pfn((struct page *)regs->gprs[2]), UVSIM_REFERENCED);
	return 0;
}

/* (pipe, buffer) */
static int buffer_taken(struct kprobe *probe, struct pt_regs *regs)
{
	const struct pipe_buffer *buffer = (const struct pipe_buffer *)regs->gprs[3];

	if (!uvsim_state_is_empty())
		uvsim_state_note(page_to_pfn(buffer->page), UVSIM_REFERENCED);
	return 0;
}

/* (pipe, folio, ...) */
static int folio_piped(struct kprobe *probe, struct pt_regs *regs)
{
	if (!uvsim_state_is_empty())
		uvsim_state_note(page_to_pfn((struct page *)regs->gprs[3]), UVSIM_REFERENCED);
	return 0;
}

static struct watch {
	struct kprobe probe;
	bool is_set;
} watches[] = {
	/* mm/gup.c: until 6.9 the slow path and the fast one, ... */
	{ .probe = { .symbol_name = "try_grab_page", .pre_handler = page_taken } },
	{ .probe = { .symbol_name = "try_grab_folio", .pre_handler = page_taken } },
	/* ... since then the latter is the slow path's, and this is the fast one's. */
	{ .probe = { .symbol_name = "try_grab_folio_fast", .pre_handler = page_taken } },
	/* File data into a pipe: lib/iov_iter.c until 6.4, mm/filemap.c since then. */
	{ .probe = { .symbol_name = "copy_page_to_iter", .pre_handler = page_taken } },
	{ .probe = { .symbol_name = "splice_folio_into_pipe", .pre_handler = folio_piped } },
	/* fs/splice.c, by tee(2) */
	{ .probe = { .symbol_name = "generic_pipe_buf_get", .pre_handler = buffer_taken } },
};

void uvsim_watch_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++)
		watches[i].is_set = !register_kprobe(&watches[i].probe);
}

void uvsim_watch_exit(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++)
		if (watches[i].is_set)
			unregister_kprobe(&watches[i].probe);
}
