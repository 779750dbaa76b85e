/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TRIPWIRE_H
#define TRIPWIRE_H

#include <linux/types.h>

/*
 * One way to make the kernel complain.
 *
 * A trip's function is noinline and has a name of its own, because reports are
 * known by the function that they name. It returns 0 or a negative error
 * number after the deed, so that no compiler turns its last call into a jump
 * that would leave it out of the call trace.
 */
struct trip {
	const char *name;
	const char *meaning;
	int (*run)(unsigned int seconds);
	/* The task that does it does not live on. */
	bool deadly;
	/* How long, where the writer does not say; 0: takes no time. */
	unsigned int seconds;
};

/* warn.c */
int tripwire_warn_once(unsigned int seconds);
int tripwire_warn_text(unsigned int seconds);
int tripwire_warn_everywhere(unsigned int seconds);
int tripwire_refcount_saturated(unsigned int seconds);
int tripwire_refcount_underflow(unsigned int seconds);
int tripwire_refcount_use_after_free(unsigned int seconds);
int tripwire_schedule_while_atomic(unsigned int seconds);
int tripwire_sleep_in_atomic(unsigned int seconds);

/* oops.c */
int tripwire_bug(unsigned int seconds);
int tripwire_wild_read(unsigned int seconds);
int tripwire_wild_write(unsigned int seconds);
int tripwire_null_write(unsigned int seconds);
int tripwire_null_call(unsigned int seconds);
int tripwire_readonly_write(unsigned int seconds);
int tripwire_illegal_operation(unsigned int seconds);
int tripwire_specification_exception(unsigned int seconds);
int tripwire_addressing_exception(unsigned int seconds);
int tripwire_divide(unsigned int seconds);
int tripwire_warn_in_oops(unsigned int seconds);
int tripwire_oops_in_interrupt(unsigned int seconds);
int tripwire_stack_overflow(unsigned int seconds);
int tripwire_panic(unsigned int seconds);
/* Undoes what a trip has left behind, for the end of the module. */
void tripwire_forget_notifier(void);

/* memory.c */
int tripwire_list_add(unsigned int seconds);
int tripwire_list_del(unsigned int seconds);
int tripwire_page_underflow(unsigned int seconds);
int tripwire_slab_use_after_free(unsigned int seconds);
int tripwire_slab_out_of_bounds(unsigned int seconds);
int tripwire_use_after_free(unsigned int seconds);

/* stall.c */
int tripwire_hung_task(unsigned int seconds);
int tripwire_rcu_stall(unsigned int seconds);
int tripwire_soft_lockup(unsigned int seconds);
int tripwire_hang(unsigned int seconds);

/* race.c */
int tripwire_lost_update(unsigned int seconds);

/* flood.c */
int tripwire_flood(unsigned int seconds);

#endif
