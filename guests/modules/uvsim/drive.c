// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/uvsim: an open file is a fake protected guest, whose memory is that of the process that maps
 * it. It never runs: only what the host's kernel does for such a guest's memory is done.
 *
 * As with KVM mm->context.protected_count says that pages have to be exported when they are
 * unmapped (arch/s390/include/asm/pgtable.h ptep_get_and_clear() and its like).
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "compat.h"
#include "compat_space.h"
#include "uvsim.h"
#include "uvsim_uapi.h"

/* Each that fails waits until all CPUs have drained their lists of pages (lru_add_drain_all()). */
enum { MOST_TRIES = 10 };

/* A guest's memory, all calls of UVSIM_MAP together: the kernel takes memory for each MiB of it. */
static const u64 most_mapped = 4ULL * SZ_1G;

struct guest {
	struct mutex lock; /* of what is set up once: mm, space, nics */
	u32 handle;
	struct mm_struct *mm;
	struct uvsim_space *space; /* set last, read without the lock */
	u64 mapped; /* bytes */
	struct uvsim_nics nics;
	atomic_t reports;
	struct rcu_head rcu;
};

static DEFINE_XARRAY_ALLOC1(guests); /* by handle */
static atomic_long_t guest_count;

struct mm_struct *uvsim_guest_mm(unsigned long handle)
{
	const struct guest *guest = xa_load(&guests, handle);

	return guest ? READ_ONCE(guest->mm) : NULL;
}

/* Of guests that are gone. */
static atomic_t late_reports;

unsigned int uvsim_guest_reports(unsigned long handle)
{
	struct guest *guest;
	unsigned int reports;

	rcu_read_lock();
	guest = xa_load(&guests, handle);
	reports = atomic_inc_return(guest ? &guest->reports : &late_reports);
	rcu_read_unlock();
	return reports;
}

long uvsim_guests(void)
{
	return atomic_long_read(&guest_count);
}

static int guest_open(struct inode *inode, struct file *file)
{
	struct guest *guest = kzalloc(sizeof(*guest), GFP_KERNEL);
	int error;

	if (!guest)
		return -ENOMEM;
	mutex_init(&guest->lock);
	error = xa_alloc(&guests, &guest->handle, guest, xa_limit_31b, GFP_KERNEL);
	if (error) {
		kfree(guest);
		return error;
	}
	atomic_long_inc(&guest_count);
	file->private_data = guest;
	return 0;
}

/* The last descriptor is closed: nobody else uses the guest. The process may be gone already. */
static int guest_release(struct inode *inode, struct file *file)
{
	struct guest *guest = file->private_data;

	uvsim_nics_remove(&guest->nics);
	if (guest->space) {
		uvsim_state_release(guest->handle);
		uvsim_space_remove(guest->space);
		atomic_dec(&guest->mm->context.protected_count);
	}
	xa_erase(&guests, guest->handle);
	atomic_long_dec(&guest_count);
	if (guest->mm) {
		/* The trap may be walking its page tables. */
		synchronize_rcu();
		mmdrop(guest->mm);
	}
	kfree_rcu(guest, rcu);
	return 0;
}

/* With guest->lock held. */
static int begin_guest(struct guest *guest)
{
	struct uvsim_space *space;

	if (guest->space)
		return guest->mm == current->mm ? 0 : -EPERM;
	space = uvsim_space_create(guest->handle);
	if (IS_ERR(space))
		return PTR_ERR(space);
	mmgrab(current->mm);
	atomic_inc(&current->mm->context.protected_count);
	WRITE_ONCE(guest->mm, current->mm);
	/* Whoever sees it sees guest->mm too: on_each_page(). */
	smp_store_release(&guest->space, space);
	return 0;
}

static int map_range(struct guest *guest, const struct uvsim_range *range)
{
	int error;

	if (!range->length || (range->address | range->length) & (SZ_1M - 1))
		return -EINVAL;
	mutex_lock(&guest->lock);
	error = range->length > most_mapped - guest->mapped ? -E2BIG : begin_guest(guest);
	if (!error)
		error = uvsim_space_map(guest->space, range->address, range->length);
	if (!error)
		guest->mapped += range->length;
	mutex_unlock(&guest->lock);
	return error;
}

static int make_secure(struct uvsim_space *space, unsigned long address)
{
	for (int i = 0; i < MOST_TRIES; i++) {
		int error = uvsim_space_make_secure(space, address);

		if (error != -EAGAIN)
			return error;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	uvsim_count(UVSIM_REFUSED);
	return -EBUSY;
}

static int touch(struct uvsim_space *space, unsigned long address)
{
	return uvsim_touch(space->mm, address);
}

static int make_accessible(struct uvsim_space *space, unsigned long address)
{
	struct page *page;
	int error;

	if (get_user_pages_fast(address, 1, 0, &page) != 1)
		return -EFAULT;
	error = uvsim_call_hook(page);
	put_page(page);
	return error;
}

/* Each page of the range, until one fails. */
static int on_each_page(struct guest *guest, struct uvsim_range *range,
			int (*act)(struct uvsim_space *space, unsigned long address))
{
	/* Pairs with begin_guest(). */
	struct uvsim_space *space = smp_load_acquire(&guest->space);
	unsigned long end = range->address + range->length;
	int error = 0;

	if (!space || !PAGE_ALIGNED(range->address | range->length) || end < range->address)
		return -EINVAL;
	if (guest->mm != current->mm)
		return -EPERM;
	range->done = 0;
	for (unsigned long address = range->address; address < end; address += PAGE_SIZE) {
		error = fatal_signal_pending(current) ? -EINTR : act(space, address);
		if (error)
			break;
		range->done++;
		cond_resched();
	}
	return error;
}

static int page_state(struct uvsim_page_state *answer)
{
	struct uvsim_page *known = kmalloc(sizeof(*known), GFP_KERNEL);
	struct page *page;

	if (!known)
		return -ENOMEM;
	if (get_user_pages_fast(answer->address, 1, 0, &page) != 1) {
		kfree(known);
		return -EFAULT;
	}
	answer->state = test_bit(PG_arch_1, (unsigned long *)&page->flags) ? UVSIM_PAGE_MARKED : 0;
	answer->imports = 0;
	answer->exports = 0;
	if (uvsim_state_get(page_to_pfn(page), known)) {
		answer->state |= (known->secure ? UVSIM_PAGE_SECURE : 0) |
				 (known->shared ? UVSIM_PAGE_SHARED : 0);
		answer->imports = known->imports;
		answer->exports = known->exports;
	}
	/* Without the one that was just taken. */
	answer->references = page_ref_count(page) - 1 - uvsim_mapcount(page);
	put_page(page);
	kfree(known);
	return 0;
}

static int range_command(struct guest *guest, unsigned int command, struct uvsim_range *range)
{
	switch (command) {
	case UVSIM_MAP:
		return map_range(guest, range);
	case UVSIM_SECURE:
		return on_each_page(guest, range, make_secure);
	case UVSIM_TOUCH:
		return on_each_page(guest, range, touch);
	default:
		return on_each_page(guest, range, make_accessible);
	}
}

static int add_nic(struct guest *guest)
{
	int error;

	if (!capable(CAP_NET_ADMIN))
		return -EPERM;
	mutex_lock(&guest->lock);
	error = uvsim_nic_add(&guest->nics, current->nsproxy->net_ns);
	mutex_unlock(&guest->lock);
	return error;
}

static long guest_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct guest *guest = file->private_data;
	void __user *user = (void __user *)argument;
	struct uvsim_page_state state;
	struct uvsim_range range;
	int error;

	switch (command) {
	case UVSIM_MAP:
	case UVSIM_SECURE:
	case UVSIM_TOUCH:
	case UVSIM_EXPORT:
		if (copy_from_user(&range, user, sizeof(range)))
			return -EFAULT;
		error = range_command(guest, command, &range);
		return copy_to_user(user, &range, sizeof(range)) ? -EFAULT : error;
	case UVSIM_STATE:
		if (copy_from_user(&state, user, sizeof(state)))
			return -EFAULT;
		error = page_state(&state);
		return copy_to_user(user, &state, sizeof(state)) ? -EFAULT : error;
	case UVSIM_NIC:
		return add_nic(guest);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations guest_operations = {
	.owner = THIS_MODULE,
	.open = guest_open,
	.release = guest_release,
	.unlocked_ioctl = guest_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "uvsim",
	.fops = &guest_operations,
	.mode = 0600,
};

int uvsim_drive_init(void)
{
	return misc_register(&device);
}

void uvsim_drive_exit(void)
{
	misc_deregister(&device);
}
