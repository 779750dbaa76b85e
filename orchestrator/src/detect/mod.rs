//! Hits in a kernel's log.
//!
//! Pure and streaming: lines go in, hits come out, and nothing is read or written. How reports begin stands
//! in `rules`, one row a format; what they consist of in `anatomy`; who is never to blame in `machinery`.
//!
//! What cannot matter is passed over in large blocks by `skim`. What a person passes on is no console any more:
//! `console/mail.rs` takes off what mail programs have added, and `wrapped` joins the lines that they have broken.
//!
//! Titles follow the convention that syzkaller has made common ("WARNING in try_grab_folio", "KASAN:
//! slab-use-after-free Read in foo"), extended for s390, whose page faults share one opening line and are told
//! apart by their failing address, and whose program checks have names of their own.

mod anatomy;
mod begins;
mod detector;
mod facts;
mod hit;
mod machinery;
mod merge;
mod naming;
mod openings;
mod report;
mod rules;
mod scan;
mod site;
mod skim;
mod streams;
mod symbol;
mod trace;
mod uvsim;
mod wrapped;

pub use begins::{opens_report, report_openings};
pub use detector::{Detector, Options, Timestamps};
pub use hit::{Fingerprint, Frame, Hit, Kind, Reliability, SourceLocation, Stream, Task};
pub use merge::merge;
pub use scan::Scan;
pub use site::{Loaded, Site};
pub use streams::{Console, Kmsg, KmsgState, USER_RECORD_LIMIT};
