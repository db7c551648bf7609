//! The line between switch and datapath: keys, masks, actions and upcalls, as data.
//!
//! `ofproto` sees the datapath only through [`Dpif`]; the datapath implements it and calls an
//! [`UpcallHandler`]. Neither knows the other's types. No logic lives here beyond text <-> data.

#![forbid(unsafe_code)]

pub mod action;
pub mod api;
pub mod attr;
pub mod commit;
#[cfg(test)]
mod compose_stock_tests;
pub mod ct;
#[cfg(test)]
mod edit_stock_tests;
pub mod fake;
#[cfg(test)]
#[path = "../../packet/tests/common/frames.rs"]
mod frames;
pub mod fuzz;
mod key_attrs;
mod meter;
#[cfg(test)]
mod samples;
mod set_key;
#[cfg(test)]
mod stock;
pub mod text;
pub mod tunnel;

pub use action::*;
pub use api::*;
pub use commit::{CommitOptions, commit, commit_tunnel};
pub use meter::{DropBand, MeterCount, MeterLimits, MeterSpec, MeterStats, RateUnit};
