//! The flow key, its masks, and the field table.
//!
//! Everything that the rest of the switch knows about "a field" (name, width, OXM number, where it
//! lies in the key, what must be true before it may be used) stands here once.

#![forbid(unsafe_code)]

pub mod key;

pub use key::*;
