/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * uvsim: an emulated ultravisor for the host side of protected virtualization.
 *
 * The kernel's calls to the ultravisor (instruction UVC) are trapped and answered (uvc.c); which
 * pages are secure is kept here (state.c); what happened to each is remembered (history.c); and
 * every place where a device is handed a page asks whether it may have it (sink.c, disk.c, nic.c).
 */
#ifndef UVSIM_H
#define UVSIM_H

#include <linux/bug.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/types.h>

struct bio;
struct net;
struct sk_buff;

/* --- knobs.c: what can be set while it runs, in /sys/kernel/debug/uvsim --- */

struct uvsim_knobs {
	unsigned int fix_splice, fix_vmsplice, fix_zerocopy, fix_dio;
	unsigned int busy_percent, partial_percent, export_fail_percent, owner_mismatch_percent;
	unsigned int freeze_delay_us, pin_shared, early, reports, seed;
};

extern struct uvsim_knobs uvsim_knobs;

/* Whether a choice that is made in `percent` of all cases is made now. Any context. */
bool uvsim_chance(unsigned int percent);

enum uvsim_counter {
	UVSIM_CONVERT_TO,
	UVSIM_CONVERT_FROM,
	UVSIM_DESTROY,
	UVSIM_PIN_SHARED,
	UVSIM_OTHER_COMMAND,
	UVSIM_BUSY,
	UVSIM_PARTIAL,
	UVSIM_REFUSED,
	UVSIM_EXPORT_FAILED,
	UVSIM_OWNER_MISMATCH,
	UVSIM_HOOK_CALLS,
	UVSIM_EARLY,
	UVSIM_VIOLATIONS,
	UVSIM_FREED_SECURE,
	UVSIM_LEFT_SECURE,
	UVSIM_UNREPORTED,
	UVSIM_NO_MEMORY,
	UVSIM_COUNTERS
};

/* Any context. */
void uvsim_count(enum uvsim_counter counter);

int uvsim_knobs_init(void);
void uvsim_knobs_exit(void);

/* --- history.c: what happened to a page --- */

enum uvsim_event {
	UVSIM_SECURED,
	UVSIM_EXPORTED,
	UVSIM_DESTROYED,
	UVSIM_PINNED_SHARED,
	UVSIM_HOOK_CALLED,
	UVSIM_REFERENCED,
	UVSIM_SUBMITTED,
	UVSIM_AT_SINK,
};

enum { UVSIM_EVENTS_KEPT = 8, UVSIM_CALLERS = 24 };

struct uvsim_entry {
	u64 time; /* ns */
	enum uvsim_event event;
	pid_t pid;
	char task[TASK_COMM_LEN];
	int references;
	unsigned int callers;
	unsigned long caller[UVSIM_CALLERS];
};

/* The latest entries, a ring. */
struct uvsim_history {
	unsigned int written;
	struct uvsim_entry entries[UVSIM_EVENTS_KEPT];
};

/* Fills an entry about the current task. Any context, takes no lock. */
void uvsim_entry_fill(struct uvsim_entry *entry, enum uvsim_event event, struct page *page);
void uvsim_history_add(struct uvsim_history *history, const struct uvsim_entry *entry);
/* A line of the kernel's log for each event. */
void uvsim_history_print(const struct uvsim_history *history);

/* --- state.c: which pages are secure --- */

/* What is known of a page that is or was secure. */
struct uvsim_page {
	unsigned long owner; /* the guest's handle */
	bool secure;
	bool shared; /* pinned shared: secure, and the host may use it */
	bool reported; /* since it became secure */
	u64 imports, exports;
	struct uvsim_history history;
};

/* All of these in any context; they take state_lock, with interrupts disabled. */
int uvsim_state_import(unsigned long pfn, unsigned long owner);
void uvsim_state_export(unsigned long pfn, enum uvsim_event how);
bool uvsim_state_pin_shared(unsigned long pfn);
void uvsim_state_note(unsigned long pfn, enum uvsim_event event);
/* The same, and whether the host has no access to the page. */
bool uvsim_state_inaccessible(unsigned long pfn, enum uvsim_event event);
/* Whether nobody has asked this since the page became secure: one report of a page is enough. */
bool uvsim_state_first_report(unsigned long pfn);
bool uvsim_state_get(unsigned long pfn, struct uvsim_page *copy);
/* How many pages are known: those that were secure and are not freed yet. */
long uvsim_state_known(void);
/* Nobody has become secure yet: the quick way out, takes no lock. */
bool uvsim_state_is_empty(void);

/* Makes the pages of a guest accessible that still are not. May sleep. */
void uvsim_state_release(unsigned long owner);
int uvsim_state_init(void);
void uvsim_state_exit(void);

/* --- report.c: what goes to the kernel's log --- */

/* An inaccessible page was submitted to a block device, which may yet copy it. Any context. */
void uvsim_report_early(struct page *page, const char *device);
/* An inaccessible page is handed to a device by `sink`. Any context. */
void uvsim_report_sink(struct page *page, const char *sink, const char *device);
/* A page was freed while it was secure. Any context. */
void uvsim_report_freed(struct page *page, const struct uvsim_page *known);

/* --- sink.c --- */

/* Checks memory that `sink` hands to a device. Any context. */
void uvsim_check(struct page *page, size_t offset, size_t length, const char *sink,
		 const char *device);
int uvsim_sink_init(void);
void uvsim_sink_exit(void);

/* --- disk.c: /dev/uvsinkb --- */

int uvsim_disk_init(void);
void uvsim_disk_exit(void);

/* --- nic.c: uvsink0 and uvsink1 --- */

struct uvsim_nics {
	struct net_device *ends[2];
};

/* Both may sleep and take the RTNL; the caller sees to it that they do not meet for one pair. */
int uvsim_nic_add(struct uvsim_nics *nics, struct net *net);
void uvsim_nics_remove(struct uvsim_nics *nics);

/* --- fix.c: the hook called where the kernel should --- */

/* Enables the fixes whose knobs are on, disables the others. One caller at a time; may sleep. */
int uvsim_fix_apply(void);
int uvsim_fix_init(void);
void uvsim_fix_exit(void);

/* --- watch.c: who takes references --- */

void uvsim_watch_init(void);
void uvsim_watch_exit(void);

/* --- touch.c: the kernel touches a secure page itself --- */

/* The page at the address must stay mapped meanwhile. May sleep. */
int uvsim_touch(struct mm_struct *mm, unsigned long address);
void uvsim_touch_init(void);

/* --- uvc.c: the instruction --- */

/*
 * The page that is mapped at an address, or NULL. The caller holds the lock of the page's table, as
 * the kernel does around UVC, or the mmap lock, and then the page may be another at any time.
 */
struct page *uvsim_mapped_page(struct mm_struct *mm, unsigned long address);

int uvsim_uvc_init(void);
void uvsim_uvc_exit(void);

/* --- drive.c: /dev/uvsim --- */

/* The process whose memory a handle names, or NULL. Any context, with the RCU read lock held. */
struct mm_struct *uvsim_guest_mm(unsigned long handle);
long uvsim_guests(void);
/* Counts a report of a guest's page, and says how many there were. Any context. */
unsigned int uvsim_guest_reports(unsigned long handle);
int uvsim_drive_init(void);
void uvsim_drive_exit(void);

#endif
