//! OpenFlow 1.0-1.5 with the Nicira and ONF extensions: bytes <-> meaning, one message family a file.
#![forbid(unsafe_code)]

pub mod action;
