//! Messages, a family a file.

pub mod action_types;
pub mod async_config;
pub mod bundle;
pub mod ct_flush;
pub mod desc;
pub mod error_msg;
pub mod features;
pub mod hello;
pub mod ipfix;
pub mod meter;
pub mod nx;
pub mod port;
pub mod port_mod;
pub mod port_stats;
pub mod port_status;
pub mod queue_config;
pub mod queue_stats;
pub mod role;
pub mod switch_config;
pub mod table_desc;
pub mod table_mod;
pub mod tlv_table;
