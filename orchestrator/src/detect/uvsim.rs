//! What farm's own module `uvsim` reports: a secure page that came where it must not.
//!
//! It warns by `WARN()`, whose text stands before the opening line: `uvsim: inaccessible page pfn:… refcount:… mapcount:…
//! flags:… reached SINK(DEVICE) without …()`, then lines with the page's history. The function that warns is the
//! module's, and those below it belong to the sink; the one to look at is what took the page there without asking for it.
//! Where a worker of the kernel's takes it there later, the history alone knows who that was.

use super::hit::Frame;
use super::symbol::source_name;

/// As frames name it.
const MODULE: &str = "uvsim";

/// What hands a page on. The outermost of them in a trace names its path: direct I/O and sockets serve splice too.
const OPERATIONS: [&str; 8] = [
    "splice_direct_to_actor",
    "do_splice",
    "p9_virtio_zc_request",
    "tcp_sendmsg_locked",
    "udp_sendmsg",
    "__iomap_dio_rw",
    "__blkdev_direct_IO",
    "__blkdev_direct_IO_simple",
];

/// In the history, what a page that goes to its disk later went through before.
const HANDED_ON: &str = " submitted to a block device, ";

/// The operation that a trace is of; none where a page was handed on first and went to its sink later.
pub(super) fn operation(frames: &[Frame]) -> Option<&str> {
    outermost(frames.iter().map(|frame| frame.function.as_str()))
}

/// The operation that handed a page on, by the last such line of its history.
pub(super) fn operation_before(preface: &str) -> Option<&str> {
    let line = preface.lines().rev().find(|line| line.starts_with("uvsim: ") && line.contains(HANDED_ON))?;
    let (_, callers) = line.split_once("]: ")?;
    outermost(callers.split(" < ").map(|caller| caller.split_once(' ').map_or(caller, |(name, _)| name)))
}

/// Of functions that stand innermost first.
fn outermost<'a>(functions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    functions.map(source_name).filter(|name| OPERATIONS.contains(name)).last()
}

/// The frames behind the module's own, innermost first.
pub(super) fn outside(frames: &[Frame]) -> &[Frame] {
    let ours = frames.iter().take_while(|frame| frame.module.as_deref() == Some(MODULE)).count();
    &frames[ours..]
}

/// The report's text without what is of the moment, and what of it stands in the fingerprint: the kind of sink, and not
/// the device.
pub(super) fn message(preface: &str) -> Option<(String, String)> {
    let line = preface.lines().find(|line| line.starts_with("uvsim: "))?;
    let line = line.split(" without ").next().unwrap_or(line);
    // `pfn:1279` is of the moment, `early:` is not.
    let lasts = |word: &&str| word.split_once(':').is_none_or(|(_, value)| value.is_empty());
    let words = line.split(' ').filter(lasts).collect::<Vec<_>>().join(" ");
    let words = words.trim_end();
    let key = words.split_once('(').map_or(words, |(sink, _)| sink);
    let key = key.split_once(" submitted to ").map_or(key, |_| "uvsim early");
    Some((words.to_owned(), key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::hit::Reliability;
    use super::super::machinery::{SENDING, culprit};
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame {
            function: (*name).to_owned(),
            offset: 1,
            size: 2,
            module: None,
            reliability: Reliability::Reliable,
        };
        names.iter().map(frame).collect()
    }

    #[test]
    fn messages_lose_what_is_of_the_moment() {
        let flags = "flags:0x200000000002103c(referenced|dirty|arch_1|zone=0)";
        for (line, words, key) in [
            (
                format!(
                    "uvsim: inaccessible page pfn:2382 refcount:-3 mapcount:1 {flags} reached virtqueue(output.0) without arch_make_page_accessible()"
                ),
                "uvsim: inaccessible page reached virtqueue(output.0)",
                "uvsim: inaccessible page reached virtqueue",
            ),
            (
                format!(
                    "uvsim: early: inaccessible page pfn:1 refcount:3 mapcount:1 {flags} submitted to vda"
                ),
                "uvsim: early: inaccessible page submitted to vda",
                "uvsim early",
            ),
            (
                format!("uvsim: page pfn:ab {flags} freed while secure"),
                "uvsim: page freed while secure",
                "uvsim: page freed while secure",
            ),
        ] {
            let text = format!("------------[ cut here ]------------\n{line}\nuvsim: 17.05 made secure\n");
            assert_eq!(message(&text), Some((words.to_owned(), key.to_owned())));
        }
        assert_eq!(message("------------[ cut here ]------------\nother: page\n"), None);
    }

    #[test]
    fn the_outermost_operation_counts() {
        for (names, wanted) in [
            (
                &["tcp_sendmsg_locked", "tcp_sendmsg", "splice_to_socket", "do_splice.constprop.0"][..],
                Some("do_splice"),
            ),
            (&["tcp_sendmsg_locked", "tcp_sendmsg", "__sock_sendmsg"], Some("tcp_sendmsg_locked")),
            (&["submit_bio", "iomap_dio_bio_iter", "__iomap_dio_rw", "vfs_write"], Some("__iomap_dio_rw")),
            (&["blk_mq_run_work_fn", "process_one_work"], None),
        ] {
            assert_eq!(operation(&frames(names)), wanted, "{names:?}");
        }
    }

    #[test]
    fn the_history_knows_who_handed_a_page_on() {
        let referenced =
            "uvsim: 3.7 referenced, refcount:2, t[9]: try_grab_folio < __do_sys_vmsplice < do_splice";
        let to_file = "uvsim: 3.8 submitted to a block device, refcount:3, t[9]: submit_bio_noacct < __iomap_dio_rw < ext4_dio_write_iter [ext4] < do_splice.constprop.0";
        let below = "uvsim: 3.9 submitted to a block device, refcount:3, kworker/0:1[8]: submit_bio_noacct < dm_submit_bio [dm_mod]";
        let at_sink =
            "uvsim: 4.0 reached a device, refcount:3, kworker/1:1H[81]: virtqueue_add_sgs < do_splice";
        for (lines, wanted) in [
            (&[referenced, to_file, at_sink][..], Some("do_splice")),
            (&[referenced, to_file, below, at_sink], None),
            (&[referenced, at_sink], None),
            (&["t: 3.8 submitted to a block device, t[9]: do_splice"], None),
        ] {
            assert_eq!(operation_before(&lines.join("\n")), wanted, "{lines:?}");
        }
    }

    #[test]
    fn a_page_that_goes_later_is_named_by_who_sends_it() {
        let sent =
            ["virtblk_add_req", "virtio_queue_rqs", "blk_mq_run_work_fn", "process_one_work", "wb_do_it"];
        let mut trace = frames(&["uvsim_report_sink", "uvsim_check", "watch_ring", "kprobe_ftrace_handler"]);
        for ours in &mut trace[..3] {
            ours.module = Some(MODULE.to_owned());
        }
        trace.extend(frames(&sent));
        assert_eq!(operation(&trace), None);
        assert_eq!(culprit(outside(&trace), &[&SENDING], Reliability::Reliable), Some("wb_do_it"));
        assert_eq!(culprit(outside(&trace[..3]), &[&SENDING], Reliability::Reliable), None);
    }
}
