//! OpenFlow switches: tables, connections, translation, upcalls, revalidation, MAC learning.
//!
//! Sees the datapath only as [`dpif::Dpif`].

#![forbid(unsafe_code)]

pub mod ids;
pub mod mac_table;
pub mod port;
