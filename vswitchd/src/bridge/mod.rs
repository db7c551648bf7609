//! Reconciliation: from what the database asks for to what exists.
//!
//! [`plan`] compares the two and returns the smallest list of [`Step`]s: what is gone goes first, so that its
//! names and numbers are free; then what is new comes. [`Reconciler`] carries the steps out on a [`Backend`] and
//! remembers what exists. A step that fails concerns one interface or bridge only: it is reported at its row and
//! tried again the next time. What did not change is not in the plan and is not touched.

mod backend;
pub mod bfd_commands;
mod bridges;
pub mod commands;
mod connect;
pub mod dummy_commands;
mod identity;
pub mod layers;
mod plan;
mod reconcile;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use bridges::{Bridges, Wake};
pub use connect::{Opening, connect, go_on, open};
pub use identity::{bridge_mac, fake_bridge_mac};
pub use plan::{Actual, ActualBridge, ActualInterface, Step, plan};
pub use reconcile::Reconciler;

/// `OFPP_LOCAL`: the port number of a bridge's local interface.
pub const LOCAL: u16 = 0xfffe;
