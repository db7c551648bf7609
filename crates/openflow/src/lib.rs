//! OpenFlow 1.0-1.5 with the Nicira and ONF extensions: bytes <-> meaning, one message family a file.
#![forbid(unsafe_code)]

pub mod action;
pub mod context;
mod elapsed;
pub mod error;
pub mod form;
pub mod fuzz;
pub mod header;
#[cfg(test)]
mod hex;
pub mod message;
pub mod msg;
pub mod multipart;
mod port_no;
pub mod property;
mod protocol;
mod version;
pub mod wire;

pub use context::{Context, Target};
pub use elapsed::Elapsed;
pub use error::OfError;
pub use form::{Form, Incoming, MsgType, identify};
pub use header::{Frame, Header, frame};
pub use message::{Message, decode};
pub use port_no::PortNo;
pub use protocol::{Protocol, Protocols};
pub use version::Version;
