//! The bindings that `build.rs` makes.
// Names and shapes are those of the C headers, and no human reads this.
#![allow(
    nonstandard_style,
    dead_code,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
