//! Everything that runs on the host: from a scenario to a verdict and a report.
//!
//! The modules stand in the order in which data flows through them, left to right; a module uses only
//! what stands before it, and the shared ones.

// Shared.
pub mod assets;
pub mod cache;
pub mod error;
pub mod escape;
pub mod event;

// The flow.
pub mod scenario;
pub mod plan;
pub mod kernel;
pub mod guest;
pub mod machine;
pub mod workload;
pub mod console;
pub mod detect;
pub mod verdict;
pub mod store;
pub mod recheck;
pub mod contrast;
pub mod calibration;
pub mod trial;
pub mod mutation;
pub mod repro;
pub mod bundle;
pub mod minimise;
pub mod bisect;
pub mod report;
pub mod runner;
pub mod cli;
