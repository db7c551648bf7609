//! OpenFlow 1.0-1.5 with the Nicira and ONF extensions: bytes <-> meaning, one message family a file.
#![forbid(unsafe_code)]

pub mod action;
pub mod error;
mod version;

pub use error::OfError;
pub use version::Version;
