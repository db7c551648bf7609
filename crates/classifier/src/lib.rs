//! Priority tuple-space search with wildcard tracking: how an OpenFlow table finds its rule.
//!
//! Rules that look at the same bits share a *subtable*: a hash table over just those bits. A lookup asks
//! the subtables in order of their highest priority and stops when none can hold anything better. While
//! it asks, it notes which bits of the packet it looked at, so that the caller can cache the answer for
//! every packet that agrees on them. Three things keep that set small: stages (a subtable that already
//! disagrees on metadata or Ethernet fields is left before its IP fields count as looked at), tries over
//! address prefixes, and tries over the transport ports.
//!
//! Conjunctive matches (ovs-actions(7), `conjunction`) are resolved inside the lookup.
//!
//! One writer, many readers: lookups take `&self`, changes `&mut self`; the lock is the caller's.

#![forbid(unsafe_code)]

mod conjunction;
mod lanes;
mod lookup;
pub mod oracle;
mod prefix;
mod query;
mod subtable;
mod table;
mod trie;

#[cfg(test)]
mod tests;

pub use conjunction::Conjunction;
pub use prefix::{PREFIX_FIELDS_MAX, PrefixField};
pub use query::Found;
pub use table::Classifier;
