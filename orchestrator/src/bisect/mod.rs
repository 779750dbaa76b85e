//! Searches for what made good into bad.

pub mod config;
