// SPDX-License-Identifier: GPL-2.0-only
/* Program checks that the kernel has no fixup for, BUG() and panic(). */
#include <linux/bug.h>
#include <linux/irq_work.h>
#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/notifier.h>
#include <linux/panic.h>

#include "tripwire.h"

/*
 * Beyond what any s390 kernel maps. The addresses that poison list entries
 * would not do, because s390 leaves POISON_POINTER_DELTA at 0, nor would
 * address 0 for a read: the first page is the lowcore, and only writes to it
 * are refused.
 */
#define WILD ((unsigned long *)0xdead000000000000UL)

noinline int tripwire_bug(unsigned int seconds)
{
	BUG();
	return 0;
}

noinline int tripwire_wild_read(unsigned int seconds)
{
	return READ_ONCE(*WILD) ? 0 : -EIO;
}

noinline int tripwire_wild_write(unsigned int seconds)
{
	WRITE_ONCE(*WILD, 1);
	return 0;
}

noinline int tripwire_null_write(unsigned int seconds)
{
	WRITE_ONCE(*(unsigned long *)NULL, 1);
	return 0;
}

noinline int tripwire_null_call(unsigned int seconds)
{
	int (*function)(void) = NULL;

	OPTIMIZER_HIDE_VAR(function);
	return function() ? -EIO : 0;
}

noinline int tripwire_readonly_write(unsigned int seconds)
{
	static const unsigned long constant = 1;
	unsigned long *pointer = (unsigned long *)&constant;

	OPTIMIZER_HIDE_VAR(pointer);
	WRITE_ONCE(*pointer, 2);
	return 0;
}

noinline int tripwire_illegal_operation(unsigned int seconds)
{
	asm volatile(".short	0x0000" : : : "memory");
	return 0;
}

noinline int tripwire_specification_exception(unsigned int seconds)
{
	/* MULTIPLY (MR) wants an even first register. */
	asm volatile(".insn	rr,0x1c00,1,0" : : : "0", "1", "2", "memory");
	return 0;
}

noinline int tripwire_addressing_exception(unsigned int seconds)
{
	unsigned long real = BIT(62), value;

	/* LOAD USING REAL ADDRESS */
	asm volatile("lurag	%0,%1" : "=d" (value) : "a" (real) : "memory");
	return value ? 0 : -EIO;
}

noinline int tripwire_divide(unsigned int seconds)
{
	unsigned long dividend = 7, divisor = 0, quotient;

	OPTIMIZER_HIDE_VAR(divisor);
	quotient = dividend / divisor;
	OPTIMIZER_HIDE_VAR(quotient);
	return quotient ? 0 : -EIO;
}

/* A notifier of die(), as drivers have them, that is in trouble itself. */
static noinline int tripwire_warn_in_notifier(struct notifier_block *block, unsigned long event,
					      void *data)
{
	WARN(event == DIE_OOPS, "tripwire: a warning while an oops is reported\n");
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = tripwire_warn_in_notifier };

/* The task that has registered it is gone. ENOENT, which says that there is none, is as good. */
void tripwire_forget_notifier(void)
{
	unregister_die_notifier(&notifier);
}

noinline int tripwire_warn_in_oops(unsigned int seconds)
{
	int error;

	tripwire_forget_notifier();
	error = register_die_notifier(&notifier);
	if (error)
		return error;
	return READ_ONCE(*WILD) ? 0 : -EIO;
}

static noinline void tripwire_wild_read_in_interrupt(struct irq_work *work)
{
	READ_ONCE(*WILD);
}

static DEFINE_IRQ_WORK(interrupt, tripwire_wild_read_in_interrupt);

noinline int tripwire_oops_in_interrupt(unsigned int seconds)
{
	irq_work_queue(&interrupt);
	irq_work_sync(&interrupt);
	return 0;
}

/* Addition behind the inner call keeps the compiler from making a loop of it. */
noinline int tripwire_stack_overflow(unsigned int depth)
{
	char frame[256] = { 1 };

	barrier_data(frame);
	if (depth == UINT_MAX)
		return -EIO;
	return tripwire_stack_overflow(depth + 1) + frame[0];
}

noinline int tripwire_panic(unsigned int seconds)
{
	panic("tripwire: a panic on request\n");
	return 0;
}
