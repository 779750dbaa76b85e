//! Which commit brought a bug, from trials that show it only now and then. Pure: what was tried comes in, what to try next goes out.
//!
//! A trial that shows the bug is certain evidence: its commit has the bug. One that does not is weak evidence, as weak as
//! the bug is rare. So the search keeps a probability for each commit, asks for the build and the trials that teach most for
//! their seconds, and stops when it is as sure as it was told to be.

pub mod config;
mod history;
mod outcome;
mod rate;
mod posterior;
mod cost;
mod choice;
mod verdict;
mod search;
mod conclusion;
mod trial;
mod answer;
pub mod simulation;
#[cfg(test)]
mod tests;

pub use crate::store::Outcome;
pub use answer::{Answer, Conclusion, Counts, Other, Proof, Row, Without};
pub use cost::{Costs, Seconds};
pub use history::{Commit, History, HistoryError};
pub use outcome::{BuildOutcome, Signature, Witness};
pub use search::Search;
pub use trial::{Reading, is_hunted, read_trial};
pub use verdict::{Confidence, Fitness, Next, Options, Standing, Verdict, WhyNoAnswer};
