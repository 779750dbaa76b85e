//! What a user types and what comes back: the `farm` program with a real QEMU and real Debian kernels.
//!
//! The cache is shared with the other tests (`FARM_TEST_CACHE`, default: target/test-cache); every test has a
//! results directory of its own. Scenarios are as small as shows the point.

#![expect(clippy::unwrap_used, reason = "what a test's helpers unwrap is the test's failure")]

mod harness;

mod beside;
mod bisect;
mod boot;
mod built;
mod bundle;
mod crash;
mod data;
mod debugger;
mod dumps;
mod emulated;
mod exact;
mod flood;
mod hang;
mod input;
mod interruption;
mod minimise;
mod modules;
mod options;
mod programs;
mod qemu;
mod recheck;
mod repro;
mod search;
mod selftest;
mod sets;
mod share;
mod simulate;
mod shell;
mod smoke;
mod storage;
mod touches;
mod traced;
mod uvsim;
mod warm;
mod warm_faults;
