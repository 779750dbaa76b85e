//! What a guest says: kernel log records, console lines, text made safe to show, logs kept within bounds.
//!
//! Everything here reads bytes that a guest chose. Memory is bounded whatever comes, no input panics, and
//! results do not depend on how the bytes were cut into chunks.

pub mod bounded;
pub mod kmsg;
pub mod lines;
pub mod mail;
pub mod splitter;
