//! OpenFlow 1.0-1.5 with the Nicira and ONF extensions: bytes <-> meaning, one message family a file.
//!
//! From bytes: [`frame`] finds where a message ends, [`multipart::MultipartAssembler`] puts requests together
//! that come in parts, [`identify`] tells which [`Form`] of message it is, and [`Message::decode`] (or the
//! type of a family in [`msg`]) what it means. What is wrong with it is an [`OfError`];
//! [`msg::error_msg::encode_reply`] makes the answer.
//!
//! To bytes: [`Message::encode`], or the type of a family where there is a choice (a packet-in has several
//! encodings) or a message is large ([`multipart::MultipartWriter`] cuts replies into messages).
//!
//! What a message means often depends on the connection and on the switch: [`Context`] for decoding,
//! [`Target`] for encoding. Meaning does not depend on the version: the same type stands for it in all,
//! with its documentation saying what travels since when.
//!
//! Limits: messages of 65,535 bytes, entries of replies that are longer are left out; requests in parts of
//! [`multipart::REQUEST_LEN_MAX`] bytes, all of a connection of [`multipart::PENDING_LEN_MAX`].
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
