//! A driver beside the device: both sides of a ring in one memory.
