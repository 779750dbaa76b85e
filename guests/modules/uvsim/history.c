// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happened to a page, for the report of whoever hands it to a device too early: who made it
 * secure, whether the hook was called and by whom, which sinks it has reached.
 */
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/stacktrace.h>
#include <linux/string.h>

#include "uvsim.h"

static const char *const names[] = {
	[UVSIM_SECURED] = "made secure",
	[UVSIM_EXPORTED] = "made accessible",
	[UVSIM_DESTROYED] = "destroyed",
	[UVSIM_PINNED_SHARED] = "pinned shared",
	[UVSIM_HOOK_CALLED] = "hook called",
	[UVSIM_REFERENCED] = "referenced",
	[UVSIM_SUBMITTED] = "submitted to a block device",
	[UVSIM_AT_SINK] = "reached a device",
};

enum { CALLERS_SHOWN = 10 };

/* The probes and the trap, which say nothing about who does what. */
static const char *const machinery[] = {
	"uvsim_",     "kprobe_",	   "aggr_",    "opt_pre",     "arch_ftrace",
	"ftrace_",    "call_on_stack",	   "die_",     "notify_die",  "notifier_call",
	"illegal_op", "atomic_notifier",   "__do_pgm", "pgm_check",   "stack_trace_",
	"arch_stack", "arch_rethook",	   "rethook_", "__kretprobe", "trap",
};

/* Looks into the symbol table: only for what is printed. */
static bool is_machinery(unsigned long address)
{
	char name[KSYM_SYMBOL_LEN];

	snprintf(name, sizeof(name), "%ps", (void *)address);
	if (strstr(name, "[uvsim]"))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(machinery); i++)
		if (!strncmp(name, machinery[i], strlen(machinery[i])))
			return true;
	return false;
}

void uvsim_entry_fill(struct uvsim_entry *entry, enum uvsim_event event, struct page *page)
{
	entry->time = local_clock();
	entry->event = event;
	entry->pid = task_pid_nr(current);
	/* Not get_task_comm(): it takes the task's lock, whose holder this may have interrupted. */
	memcpy(entry->task, current->comm, sizeof(entry->task));
	entry->references = page_ref_count(page);
	entry->callers = stack_trace_save(entry->caller, UVSIM_CALLERS, 1);
}

void uvsim_history_add(struct uvsim_history *history, const struct uvsim_entry *entry)
{
	history->entries[history->written++ % UVSIM_EVENTS_KEPT] = *entry;
}

static void print_entry(const struct uvsim_entry *entry)
{
	char callers[512] = "";
	size_t length = 0;
	unsigned int shown = 0;

	for (unsigned int i = 0; i < entry->callers && shown < CALLERS_SHOWN; i++)
		if (!is_machinery(entry->caller[i]))
			length += scnprintf(callers + length, sizeof(callers) - length, "%s%ps",
					    shown++ ? " < " : "", (void *)entry->caller[i]);
	pr_warn("uvsim: %llu.%06llu %s, refcount:%d, %s[%d]: %s\n", entry->time / NSEC_PER_SEC,
		entry->time % NSEC_PER_SEC / NSEC_PER_USEC, names[entry->event],
		entry->references, entry->task, entry->pid, callers);
}

void uvsim_history_print(const struct uvsim_history *history)
{
	unsigned int first = history->written > UVSIM_EVENTS_KEPT
			   ? history->written - UVSIM_EVENTS_KEPT : 0;

	for (unsigned int i = first; i < history->written; i++)
		print_entry(&history->entries[i % UVSIM_EVENTS_KEPT]);
}
