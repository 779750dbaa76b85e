//! Functions that are in a trace for other reasons than what went wrong.
//!
//! A report is keyed by the function to blame. These lists say which are not: add one here when hits are
//! keyed by a function that only waits, checks, allocates or reports for someone else.

use super::hit::{Frame, Reliability};
use super::symbol::source_name;

/// Functions that stand in a trace because of how the report was made or how the kernel waits, not because
/// of what went wrong. A `*` at the end stands for any rest.
#[derive(Debug)]
pub(super) struct Machinery(pub(super) &'static [&'static str]);

impl Machinery {
    fn holds(&self, function: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => function.starts_with(start),
            None => function == *pattern,
        })
    }
}

/// Makes reports: in every trace.
#[rustfmt::skip]
pub(super) const REPORTING: Machinery = Machinery(&[
    "dump_stack", "dump_stack_lvl", "show_stack", "show_regs", "die", "panic", "vpanic", "oops_*", "die_*",
    "__warn", "__warn_printk", "__warn_*", "warn_slowpath*", "report_bug", "monitor_event_exception",
    "__do_pgm_check", "pgm_check_handler", "do_report_trap", "do_trap", "illegal_op", "do_no_context",
    "handle_fault_error*", "do_dat_exception", "do_protection_exception", "make_task_dead",
    "check_panic_on_warn", "fortify_panic", "__fortify_panic", "__fortify_report", "__stack_chk_fail",
    "ftrace_graph_caller", "return_to_handler", "kprobe_ftrace_handler", "opt_pre_handler",
    "aggr_pre_handler", "ftrace_caller", "ftrace_regs_caller", "ftrace_common", "ftrace_ops_*",
    "arch_ftrace_ops_list_func", "__ftrace_ops_list_func", "save_stack_trace*",
    "stack_trace_save*", "arch_stack_walk", "asm_exc_*", "exc_*", "report_invalid_*",
]);

/// Checks data on someone's behalf: the caller is the one to look at.
#[rustfmt::skip]
pub(super) const CHECKING: Machinery = Machinery(&[
    "__list_add_valid*", "__list_del_entry_valid*", "list_add", "list_add_tail", "list_del",
    "list_del_init", "list_move", "list_move_tail", "__list_add", "__list_del_entry",
    "refcount_warn_saturate", "refcount_add*", "refcount_inc*", "refcount_dec*", "refcount_sub*",
    "__refcount_*", "kref_get*", "kref_put*", "__ubsan_*", "ubsan_*", "handle_overflow", "kobject_get",
    "kobject_put",
]);

/// Works on memory that whoever called it gave.
#[rustfmt::skip]
pub(super) const LIBRARY: Machinery = Machinery(&[
    "memcpy", "__memcpy", "memset", "__memset*", "memmove", "__memmove", "memcmp", "memchr", "strlen",
    "strnlen", "strcpy", "strncpy", "strscpy", "sized_strscpy", "strcmp", "strncmp", "strcat", "strlcpy",
    "raw_copy_*", "_copy_to_user", "_copy_from_user", "__copy_*", "copy_from_user", "copy_to_user",
    "_copy_to_iter", "_copy_from_iter", "set_bit", "clear_bit", "test_bit", "atomic_*", "arch_atomic*",
    "raw_atomic_*",
]);

/// Sanitizers' own functions.
#[rustfmt::skip]
pub(super) const SANITIZING: Machinery = Machinery(&[
    "kasan_*", "__kasan_*", "__asan_*", "print_report", "print_address_description*",
    "print_memory_metadata*", "kfence_*", "__kfence_*", "kmsan_*", "__msan_*", "check_region_inline",
    "check_memory_region*", "instrument_*",
]);

/// The slab allocator.
#[rustfmt::skip]
pub(super) const ALLOCATING: Machinery = Machinery(&[
    "kfree", "kvfree", "vfree", "kmem_cache_free", "slab_free*", "__kmem_cache_free", "___cache_free",
    "slab_err", "slab_pad_check*", "check_bytes_and_report*", "check_object", "check_slab", "object_err",
    "print_trailer", "alloc_debug_processing", "free_debug_processing", "free_to_partial_list",
    "on_freelist", "___slab_alloc", "__slab_alloc*", "__slab_free", "slab_alloc*", "kmem_cache_alloc*",
    "__kmem_cache_alloc*", "__kmalloc*", "kmalloc*", "kmem_cache_destroy", "__kmem_cache_shutdown",
    "shutdown_cache", "free_partial", "list_slab_objects", "__slab_err",
]);

/// How tasks wait: the one to look at is who waits.
#[rustfmt::skip]
pub(super) const WAITING: Machinery = Machinery(&[
    "__schedule", "schedule", "schedule_*", "preempt_schedule*", "io_schedule*", "__switch_to",
    "context_switch", "__cond_resched", "_cond_resched", "wait_for_completion*", "wait_for_common*",
    "__wait_for_common", "do_wait_for_common", "usleep_range*", "msleep*", "__mutex_lock*", "mutex_lock*",
    "ww_mutex_lock*", "rwsem_down_*", "__down_read*", "__down_write*", "down_read*", "down_write*", "down",
    "__down*", "percpu_down_*", "__percpu_down_*", "percpu_rwsem_wait", "rt_mutex_*", "__rt_mutex_*",
    "rwbase_*", "__rwbase_*", "out_of_line_wait_*", "__wait_on_bit*", "wait_on_bit*", "bit_wait*",
    "wait_on_page_bit*", "folio_wait_bit*", "__folio_lock*", "__lock_page*", "wait_woken",
    "synchronize_rcu*", "__synchronize_*", "synchronize_srcu*", "__wait_rcu_gp", "wait_rcu_exp_gp",
    "rcu_barrier", "__flush_work*", "flush_work", "__flush_workqueue", "flush_workqueue",
    "blk_mq_freeze_queue*", "__might_sleep", "__might_resched", "___might_sleep", "__schedule_bug",
    "might_fault", "__might_fault", "dequeue_task*", "schedule_debug",
]);

/// Takes locks, and checks how they are taken.
#[rustfmt::skip]
pub(super) const LOCKING: Machinery = Machinery(&[
    "lock_acquire*", "__lock_acquire", "lock_release", "__lock_release", "lock_is_held*", "check_*",
    "print_*", "validate_chain", "mark_lock*", "mark_usage", "valid_state", "lockdep_*", "__lockdep_*",
    "register_lock_class", "assign_lock_key", "_raw_spin_*", "_raw_read_*", "_raw_write_*", "__raw_spin_*",
    "do_raw_*", "debug_check_no_*", "spin_bug", "spin_dump",
]);

/// Frees and hands out pages: who owned the page stands further up.
#[rustfmt::skip]
pub(super) const PAGES: Machinery = Machinery(&[
    "bad_page", "check_free_page*", "free_page_is_bad*", "check_new_page*", "check_new_pages",
    "free_pages_prepare", "free_pcp_prepare", "__free_pages_ok", "free_unref_*", "__free_pages*",
    "free_pages*", "free_pcppages_bulk", "free_frozen_page*", "__folio_put", "__put_page", "put_page",
    "release_pages", "folios_put_refs", "get_page_from_freelist", "rmqueue*", "__rmqueue*", "prep_new_page",
    "__alloc_pages*", "alloc_pages*", "__folio_alloc*", "folio_alloc*", "vma_alloc_folio*", "print_bad_pte",
    "print_bad_page_map", "dump_page", "__alloc_frozen_pages*", "alloc_frozen_pages*",
]);

/// Takes data to a device, from the block layer and the socket's protocol down to the driver's ring.
#[rustfmt::skip]
pub(super) const SENDING: Machinery = Machinery(&[
    "submit_bio*", "__submit_bio*", "blk_*", "__blk_*", "bio_*", "dm_submit_bio", "virtblk_*", "virtio_queue_rq*",
    "virtqueue_*", "__virtqueue_*", "dma_map_*", "start_xmit", "xmit_*", "dev_hard_start_xmit", "dev_queue_xmit*",
    "__dev_queue_xmit", "__dev_xmit_skb", "sch_direct_xmit", "__qdisc_run", "qdisc_*", "net_tx_action",
    "neigh_*", "ip_*", "__ip_*", "ip6_*", "__ip6_*", "udp_send_skb*", "__tcp_*", "tcp_write_xmit", "tcp_push*",
    "iomap_dio_submit_bio*", "process_one_work", "worker_thread", "kthread", "__ret_from_fork", "ret_from_fork",
]);

/// The first frame that can be to blame and is at least as reliable as `wanted`, else the first of any.
///
/// A frame at offset 0 is never to blame: its address is where a call that does not return would have
/// returned to, behind the end of the function before.
pub(super) fn culprit<'a>(
    frames: &'a [Frame],
    machinery: &[&Machinery],
    wanted: Reliability,
) -> Option<&'a str> {
    let find = |wanted: Reliability| {
        frames
            .iter()
            .filter(|frame| wanted == Reliability::Unreliable || frame.reliability == Reliability::Reliable)
            .filter(|frame| frame.offset > 0)
            .map(|frame| source_name(&frame.function))
            .find(|function| can_be_blamed(function, machinery))
    };
    find(wanted).or_else(|| find(Reliability::Unreliable))
}

/// Whether `function` is none of the machinery.
pub(super) fn can_be_blamed(function: &str, machinery: &[&Machinery]) -> bool {
    !REPORTING.holds(function) && !machinery.iter().any(|set| set.holds(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, reliability: Reliability) -> Frame {
        Frame { function: function.into(), offset: 1, size: 2, module: None, reliability }
    }

    #[test]
    fn the_culprit_is_the_first_reliable_frame_that_is_not_machinery() {
        use Reliability::{Reliable, Unreliable};
        let frames = [
            frame("dump_stack_lvl", Reliable),
            frame("__mutex_lock.constprop.0", Reliable),
            frame("stale", Unreliable),
            frame("guilty.isra.0", Reliable),
        ];
        assert_eq!(culprit(&frames, &[&WAITING], Reliable), Some("guilty"));
        assert_eq!(culprit(&frames, &[], Reliable), Some("__mutex_lock"));
        assert_eq!(culprit(&frames[..3], &[&WAITING], Reliable), Some("stale"));
        assert_eq!(culprit(&frames, &[&WAITING], Unreliable), Some("stale"));
        let misnamed = [Frame { offset: 0, ..frame("next_in_memory", Reliable) }, frame("caller", Reliable)];
        assert_eq!(culprit(&misnamed, &[], Reliable), Some("caller"));
        assert_eq!(culprit(&frames[..2], &[&WAITING], Reliable), None);
    }
}
