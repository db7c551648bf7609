//! Sections of state, and their form in bytes.
//!
//! ```text
//! container: "OVSRSTAT"  format u32  sections u32  section...
//! section:   name length u32  name  version u32  readable by u32  payload length u64  payload
//! ```
//!
//! All numbers are little-endian. Nothing follows the last section.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"OVSRSTAT";
/// Version of this layout, not of any section.
const FORMAT: u32 = 1;

/// Sections of a container, at most.
pub const MAX_SECTIONS: usize = 4096;
/// Bytes of a section's name, at most.
pub const MAX_NAME: usize = 255;
/// Bytes of a container, at most.
pub const MAX_CONTAINER: usize = 4 << 30;

/// A component's state as it is saved. See the [crate](crate) for what may change from version to version.
pub trait Saved: Serialize + DeserializeOwned {
    /// The component, for ever: `ofproto/tables`.
    const NAME: &'static str;
    /// Version of this type, from 1.
    const VERSION: u32;
    /// The lowest version whose program can read what this one saves.
    const READABLE_BY: u32 = Self::VERSION;

    /// Reads the payload of an older version, `None` if that version is no longer understood.
    fn migrate(version: u32, payload: &[u8]) -> Option<Result<Self, postcard::Error>> {
        let _ = (version, payload);
        None
    }
}

/// The bytes are no container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    #[error("not saved state")]
    Magic,
    #[error("unknown container format {0}")]
    Format(u32),
    #[error("cut short")]
    Truncated,
    #[error("bytes after the last section")]
    Trailing,
    #[error("{0} sections are too many")]
    TooManySections(usize),
    #[error("bad section name")]
    Name,
    #[error("two sections of one name")]
    Duplicate,
    #[error("more than {MAX_CONTAINER} bytes")]
    TooLong,
}

/// A section is there but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    #[error("{name}: state of version {found} is too old, this program reads from {known} on")]
    TooOld { name: &'static str, found: u32, known: u32 },
    #[error("{name}: state of version {found} needs a program of version {needed}, this one has {known}")]
    TooNew { name: &'static str, found: u32, needed: u32, known: u32 },
    #[error("{name}: damaged state: {error}")]
    Damaged { name: &'static str, error: postcard::Error },
}

/// One component's state, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub version: u32,
    pub readable_by: u32,
    pub payload: Vec<u8>,
}

impl Section {
    /// The state, in its present type.
    pub fn load<T: Saved>(&self) -> Result<T, LoadError> {
        let (name, found, known) = (T::NAME, self.version, T::VERSION);
        if self.readable_by > known {
            return Err(LoadError::TooNew { name, found, needed: self.readable_by, known });
        }
        let result = if found < known {
            T::migrate(found, &self.payload).ok_or(LoadError::TooOld { name, found, known })?
        } else {
            // What follows the known fields is of a newer version.
            postcard::take_from_bytes(&self.payload).map(|(state, _)| state)
        };
        result.map_err(|error| LoadError::Damaged { name, error })
    }
}

/// The state of a process. At most one section of each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    sections: Vec<Section>,
}

impl Container {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Saves a component's state, in place of what was saved under its name.
    pub fn put<T: Saved>(&mut self, state: &T) -> Result<(), postcard::Error> {
        let payload = postcard::to_stdvec(state)?;
        let section =
            Section { name: T::NAME.to_owned(), version: T::VERSION, readable_by: T::READABLE_BY, payload };
        self.sections.retain(|s| s.name != section.name);
        self.sections.push(section);
        Ok(())
    }

    /// Loads a component's state, `None` if it was not saved.
    pub fn get<T: Saved>(&self) -> Result<Option<T>, LoadError> {
        self.sections.iter().find(|s| s.name == T::NAME).map(Section::load).transpose()
    }

    /// Takes the sections of `older` for which this container has none: state of components that this program does
    /// not have, for one that does.
    pub fn carry_over(&mut self, older: Container) {
        for section in older.sections {
            if !self.sections.iter().any(|s| s.name == section.name) {
                self.sections.push(section);
            }
        }
    }

    /// The container's bytes, if it is within the limits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        if self.sections.len() > MAX_SECTIONS {
            return Err(FormatError::TooManySections(self.sections.len()));
        }
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for section in &self.sections {
            if section.name.is_empty() || section.name.len() > MAX_NAME {
                return Err(FormatError::Name);
            }
            out.extend_from_slice(&(section.name.len() as u32).to_le_bytes());
            out.extend_from_slice(section.name.as_bytes());
            out.extend_from_slice(&section.version.to_le_bytes());
            out.extend_from_slice(&section.readable_by.to_le_bytes());
            out.extend_from_slice(&(section.payload.len() as u64).to_le_bytes());
            out.extend_from_slice(&section.payload);
        }
        if out.len() > MAX_CONTAINER { Err(FormatError::TooLong) } else { Ok(out) }
    }

    /// Reads a container. Total: any bytes give a container or an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Container, FormatError> {
        if bytes.len() > MAX_CONTAINER {
            return Err(FormatError::TooLong);
        }
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(FormatError::Magic)?;
        let format = take_u32(&mut rest)?;
        if format != FORMAT {
            return Err(FormatError::Format(format));
        }
        let count = take_u32(&mut rest)? as usize;
        if count > MAX_SECTIONS {
            return Err(FormatError::TooManySections(count));
        }
        let mut container = Container::new();
        for _ in 0..count {
            let section = take_section(&mut rest)?;
            if container.sections.iter().any(|s| s.name == section.name) {
                return Err(FormatError::Duplicate);
            }
            container.sections.push(section);
        }
        if rest.is_empty() { Ok(container) } else { Err(FormatError::Trailing) }
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], FormatError> {
    let (taken, after) = rest.split_at_checked(n).ok_or(FormatError::Truncated)?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, FormatError> {
    let (taken, after) = rest.split_first_chunk().ok_or(FormatError::Truncated)?;
    *rest = after;
    Ok(u32::from_le_bytes(*taken))
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, FormatError> {
    let (taken, after) = rest.split_first_chunk().ok_or(FormatError::Truncated)?;
    *rest = after;
    Ok(u64::from_le_bytes(*taken))
}

fn take_section(rest: &mut &[u8]) -> Result<Section, FormatError> {
    let length = take_u32(rest)? as usize;
    if length == 0 || length > MAX_NAME {
        return Err(FormatError::Name);
    }
    let name = std::str::from_utf8(take(rest, length)?).map_err(|_| FormatError::Name)?.to_owned();
    let (version, readable_by) = (take_u32(rest)?, take_u32(rest)?);
    let length = usize::try_from(take_u64(rest)?).map_err(|_| FormatError::Truncated)?;
    Ok(Section { name, version, readable_by, payload: take(rest, length)?.to_vec() })
}

/// Fuzz entry: what can be read is written again as it was.
pub fn fuzz(data: &[u8]) {
    if let Ok(container) = Container::from_bytes(data) {
        assert_eq!(container.to_bytes().as_deref(), Ok(data));
    }
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
