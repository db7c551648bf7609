//! The datapath between devices in memory and a switch that is a closure.

mod actions;
mod concurrency;
mod ct;
mod fake;
mod lookup;
mod polling;
mod show;
mod trails;
