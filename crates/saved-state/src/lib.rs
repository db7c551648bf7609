//! Versioned state, and the ways it goes from one process to the next.
//!
//! * A component describes what a user would miss after a restart as a plain serde type of its own, its *saved* type
//!   (never the runtime type), and gives it a name and a version: [`Saved`].
//! * A [`Container`] holds one section per component: name, versions, payload. Sections that this program does not
//!   know stay in it and can be [carried over](Container::carry_over).
//! * A container travels as bytes, as a [file], or over a [`Channel`] together with file descriptors.
//!
//! # Versions
//!
//! Payloads are postcard: compact, fields in order, no names. So the rules are:
//!
//! * Any change of a saved type raises [`Saved::VERSION`].
//! * **New program, old state**: [`Saved::migrate`] gets the old version's payload; it decodes the old type, which
//!   the component keeps, and converts it. Without one, the section is refused with [`LoadError::TooOld`].
//! * **Old program, new state**: the new program's [`Saved::READABLE_BY`] says from which version on readers
//!   understand it. Readers ignore what follows the fields they know, so fields appended at the end of the saved type
//!   keep it as it was; anything else raises it to `VERSION`, and older programs refuse with [`LoadError::TooNew`].
//! * A struct inside a list can get fields later only if it was wrapped in [`Extensible`] from the start.

mod channel;
mod container;
mod extensible;
pub mod fds;
pub mod file;

pub use channel::{Channel, ChannelError, MAX_FDS, Message};
pub use container::{
    Container, FormatError, LoadError, MAX_CONTAINER, MAX_NAME, MAX_SECTIONS, Saved, Section, fuzz,
};
pub use extensible::Extensible;
pub use postcard;
