//! The flow key, its masks, and the field table.
//!
//! Everything that the rest of the switch knows about "a field" (name, width, OXM number, where it
//! lies in the key, what must be true before it may be used) stands here once.

#![forbid(unsafe_code)]

mod access;
pub mod field;
mod field_table;
#[cfg(test)]
mod field_tests;
mod flow_match;
pub mod hash;
mod hash_fields;
pub mod key;
pub mod legacy;
mod mini;
pub mod oxm;
pub mod port;
mod prereq;
mod subfield;
pub mod text;
pub mod tlv;
mod value;

pub use access::DL_VLAN_NONE;
pub use field::{Field, FieldInfo, Fixed, Format, Maskable, OxmId, Prereq, Protocols, ofp, oxm_class};
pub use flow_match::{Match, TlvAlloc};
pub use hash_fields::{HashFields, multipath_link};
pub use key::*;
pub use mini::{MiniMask, MiniMatch};
pub use prereq::{ct_state, eth_type, ip_proto};
pub use subfield::{Subfield, SubfieldError};
pub use tlv::{TlvError, TlvSlot, TlvTable};
pub use value::{VALUE_MAX, Value};
