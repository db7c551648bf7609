//! Messages, a family a file.

pub mod error_msg;
pub mod hello;
