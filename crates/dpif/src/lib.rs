//! The line between switch and datapath: keys, masks, actions and upcalls, as data.
//!
//! `ofproto` sees the datapath only through [`Dpif`]; the datapath implements it and calls an
//! [`UpcallHandler`]. Neither knows the other's types. No logic lives here beyond text <-> data.

#![forbid(unsafe_code)]

pub mod action;
pub mod api;
pub mod fake;

pub use action::*;
pub use api::*;
