//! Which options make a bad configuration of a good one: the least set, by delta debugging over what Kconfig allows.
//! No I/O.
//!
//! A step asks for some of the options that differ, each with its bad value, over the good configuration. What becomes
//! of that the tree's own `olddefconfig` decides ([`Next::Settle`]); whether it is good or bad, a trial
//! ([`Next::Try`]). [`next`] computes what is wanted next from all that is known: it has no state, so that a
//! search goes on from a journal as it would have gone on by itself, and gives the same answer each time.

mod difference;
mod evidence;
mod known;
mod least;
mod search;
#[cfg(test)]
mod standin;
#[cfg(test)]
mod tests;

pub use difference::{Change, Changes, Difference, Request};
pub use evidence::Sampling;
pub use known::{Known, Tally, TestOutcome};
pub use search::{Found, Next, Verdict, next};
