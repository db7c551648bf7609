//! Actions and instructions.
