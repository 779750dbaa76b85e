//! Whether a saved guest was at rest: no CPU had an interrupt to take.
//!
//! Under TCG QEMU saves no interrupt that one CPU has sent another and that was not taken yet (target/s390x/machine.c
//! saves them for KVM alone), while the kernel remembers that one is on its way (`ec_mask` in arch/s390/kernel/smp.c)
//! and sends no second: every copy of such a guest may wait for ever. What QEMU does save is each CPU's
//! `interrupt_request`, whose bit `CPU_INTERRUPT_HARD` is set whenever an interrupt is pending
//! (target/s390x/tcg/excp_helper.c). It can stay set longer than that, so a guest without it is at rest for sure.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// QEMU's `mapped-ram` format puts the state of all devices behind the memory, some 100 KiB with their description.
const DEVICES: u64 = 4 << 20;
/// A section of the stream (migration/savevm.c): QEMU_VM_SECTION_FULL, the section's number, the length of the name,
/// the name, instance, version, data, QEMU_VM_SECTION_FOOTER, the number again; numbers are big-endian.
const FULL: u8 = 0x04;
const FOOTER: u8 = 0x7e;
/// Of each CPU: `halted` and `interrupt_request` (hw/core/cpu-system.c, vmstate_cpu_common), in version 1.
const NAME: &[u8] = b"\x0acpu_common";
const VERSION: u32 = 1;

/// Whether no CPU of a saved guest had an interrupt to take. A file that has no CPU in it is no guest at rest.
pub fn is_at_rest(saved: &File) -> io::Result<bool> {
    let length = saved.metadata()?.len();
    let from = length.saturating_sub(DEVICES);
    let mut stream = vec![0; (length - from) as usize];
    saved.read_exact_at(&mut stream, from)?;
    let requests = interrupt_requests(&stream);
    Ok(!requests.is_empty() && requests.iter().all(|request| *request == 0))
}

/// `interrupt_request` of each CPU in the stream.
fn interrupt_requests(stream: &[u8]) -> Vec<u32> {
    let names = stream.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    names.filter_map(|(at, _)| interrupt_request(stream, at)).collect()
}

fn interrupt_request(stream: &[u8], name: usize) -> Option<u32> {
    let word = |at: usize| Some(u32::from_be_bytes(stream.get(at..at + 4)?.try_into().ok()?));
    let number = word(name.checked_sub(4)?)?;
    let data = name + NAME.len() + 8;
    let footer = data + 8;
    let is_section = *stream.get(name.checked_sub(5)?)? == FULL
        && word(data - 4)? == VERSION
        && *stream.get(footer)? == FOOTER
        && word(footer + 1)? == number;
    is_section.then(|| word(data + 4)).flatten()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// A CPU's section, as QEMU 10.0 writes it.
    pub(in crate::guest) fn section(number: u32, cpu: u32, request: u32) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        [&[FULL][..], &words(&[number]), NAME, &words(&[cpu, 1, 1, request]), &[FOOTER], &words(&[number])]
            .concat()
    }

    fn saved(stream: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stream).unwrap();
        file
    }

    #[test]
    fn each_cpu_must_have_nothing_to_take() {
        for (requests, at_rest) in [([0, 0], true), ([0, 2], false), ([2, 0], false)] {
            let cpus = [section(7, 0, requests[0]), b"between".to_vec(), section(9, 1, requests[1])].concat();
            let mut stream = vec![0; DEVICES as usize];
            stream.extend(&cpus);
            assert_eq!(interrupt_requests(&stream), requests);
            assert_eq!(is_at_rest(&saved(&stream)).unwrap(), at_rest);
            assert_eq!(is_at_rest(&saved(&cpus)).unwrap(), at_rest);
        }
    }

    #[test]
    fn what_is_no_section_tells_nothing() {
        let whole = section(7, 0, 0);
        let mut other_version = whole.clone();
        other_version[5 + NAME.len() + 7] = 2;
        let mut other_footer = whole.clone();
        *other_footer.last_mut().unwrap() = 8;
        for stream in [&b""[..], NAME, &whole[..whole.len() - 1], &other_version, &other_footer] {
            assert_eq!(interrupt_requests(stream), [0; 0], "{stream:?}");
            assert!(!is_at_rest(&saved(stream)).unwrap());
        }
    }
}
