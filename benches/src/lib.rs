//! The rigs behind the figures in the README; each is a binary of its own.

#![forbid(unsafe_code)]
