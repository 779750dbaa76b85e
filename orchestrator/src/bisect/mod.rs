//! Which commit brought a bug, from trials that show it only now and then. Pure: what was tried comes in, what to try next goes out.
//!
//! A trial that shows the bug is certain evidence: its commit has the bug. One that does not is weak evidence, as weak as
//! the bug is rare. So the search keeps a probability for each commit, asks for the build and the trials that teach most for
//! their seconds, and stops when it is as sure as it was told to be.

mod cost;
mod history;
mod outcome;
mod search;
mod trial;

pub use cost::{Costs, Seconds};
pub use history::{Commit, History, HistoryError};
pub use outcome::{BuildOutcome, Outcome, Signature};
pub use search::{Confidence, Next, Options, Search, Standing, Verdict, WhyNoAnswer};
pub use trial::{Reading, is_hunted, read_trial};
mod answer;
pub use answer::{Answer, Conclusion, Counts, Other, Proof, Row, Without, rate_where_seen, trials_to_clear};
