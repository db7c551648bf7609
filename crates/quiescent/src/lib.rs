//! Read-mostly data for threads that may never wait.
//!
//! A [`Domain`] is a set of readers and the data they share with writers. Readers hold plain references
//! while they are pinned and announce, once per loop, that they hold none ([`Reader::quiesce`]). A writer
//! takes data out of sight at once, and it is freed when every reader that was online has announced that
//! since (quiescent-state-based reclamation). Reading costs no atomic read-modify-write, no store and no lock.
//!
//! [`Snapshot`] is one value replaced as a whole, [`Table`] a hash table, [`Mailbox`] a queue that anyone
//! posts to and one thread empties.

// The only place for the memory tricks that the threads of the datapath stand on.
#![allow(unsafe_code)]

mod domain;
mod mailbox;
mod snapshot;
mod table;

#[cfg(test)]
mod stress;

pub use domain::{Domain, Guard, Reader};
pub use mailbox::Mailbox;
pub use snapshot::Snapshot;
pub use table::{Shared, Table};
