//! `OFPST_FLOW` and `OFPST_AGGREGATE`, with Nicira's own in OpenFlow 1.0: dump flows, or sum them up.

mod aggregate;
mod entry;
mod request;

pub use aggregate::AggregateStats;
pub use entry::{FlowStats, append, decode_reply};
pub use request::FlowStatsRequest;

/// A counter, unless it is not known.
fn known(count: u64) -> Option<u64> {
    if count == u64::MAX { None } else { Some(count) }
}
