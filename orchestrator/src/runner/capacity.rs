//! How many guests run side by side. Pure: the host's size comes in as numbers.

/// QEMU's own memory beside the guest's: translation buffers and heap. Measured at 110 MiB for a 512 MiB guest
/// of QEMU 10.0 under TCG; rounded up.
const QEMU_OVERHEAD_MIB: u64 = 192;

/// What the host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSize {
    pub cpus: u32,
    /// Memory that can be had without swapping (MemAvailable of proc(5)).
    pub available_mib: u64,
}

/// The biggest guest of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestSize {
    pub cpus: u32,
    pub memory_mib: u32,
}

/// A number of guests, and why it is that many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    pub jobs: u32,
    pub why: String,
}

/// One guest for each host CPU that the biggest guest would keep busy, as far as memory allows; at least one.
pub fn default_jobs(host: HostSize, guest: GuestSize) -> Jobs {
    let by_cpus = (host.cpus / guest.cpus.max(1)).max(1);
    let each = u64::from(guest.memory_mib) + QEMU_OVERHEAD_MIB;
    // An eighth stays free for farm, the page cache and whoever else is at work on the host.
    let by_memory = u32::try_from(host.available_mib / 8 * 7 / each).unwrap_or(u32::MAX).max(1);
    if by_memory < by_cpus {
        let why = format!("{} MiB available, {each} MiB a guest", host.available_mib);
        Jobs { jobs: by_memory, why }
    } else {
        let why = format!("{} host CPUs, up to {} a guest", host.cpus, guest.cpus);
        Jobs { jobs: by_cpus, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_and_memory_both_bound_the_jobs() {
        let table = [
            // host CPUs, available MiB, guest CPUs, guest MiB → jobs
            (2, 24_000, 2, 512, 1),
            (2, 24_000, 1, 512, 2),
            (2, 24_000, 4, 512, 1),
            (64, 512_000, 2, 512, 32),
            (64, 8_000, 2, 512, 9),
            (64, 100, 2, 512, 1),
        ];
        for (cpus, available_mib, guest_cpus, memory_mib, jobs) in table {
            let host = HostSize { cpus, available_mib };
            let guest = GuestSize { cpus: guest_cpus, memory_mib };
            assert_eq!(default_jobs(host, guest).jobs, jobs, "{host:?} {guest:?}");
        }
    }
}
