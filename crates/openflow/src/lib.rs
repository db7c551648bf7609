//! OpenFlow 1.0-1.5 with the Nicira and ONF extensions: bytes <-> meaning, one message family a file.
#![forbid(unsafe_code)]

pub mod action;
pub mod error;
mod port_no;
mod protocol;
mod version;
pub mod wire;

pub use error::OfError;
pub use port_no::PortNo;
pub use protocol::{Protocol, Protocols};
pub use version::Version;
