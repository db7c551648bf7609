//! OpenFlow errors: what they are called and how they travel.
//!
//! [`OfError`] is version-independent; [`OfError::wire`] and [`OfError::from_wire`] map it to the numbers
//! of a version. Errors outside the standard's own number space travel in one of two wrappers: the
//! Nicira vendor error in OpenFlow 1.0 and 1.1, the experimenter error in 1.2 and later.

mod table;

use std::fmt;

pub use table::OfError;

use crate::Version;

/// The standard's own errors.
pub(crate) const OPENFLOW: u32 = 0;
/// Nicira's experimenter id (and vendor id).
pub const NICIRA: u32 = 0x0000_2320;
/// The Open Networking Foundation's experimenter id.
pub const ONF: u32 = 0x4f4e_4600;

/// The numbers of an error in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireError {
    /// Experimenter id, 0 for the standard's own errors.
    pub vendor: u32,
    /// Type, or the experimenter's type.
    pub error_type: u16,
    /// Code, 0 where the error has none.
    pub code: u16,
}

/// The versions in which an error has a certain number.
#[derive(Debug)]
pub(crate) struct Span {
    first: Version,
    last: Version,
    wire: WireError,
}

/// Defines [`OfError`] and its tables from the lines of `table.rs`.
macro_rules! errors {
    ($($variant:ident $name:literal [$($vendor:ident $first:ident ..= $last:ident ($type:literal, $code:literal)),+];)+) => {
        /// Everything that can be wrong with a request, by the names of Open vSwitch's `OFPERR_*`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum OfError {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl OfError {
            /// Every error, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const NAMES: &'static [&'static str] = &[$($name,)+];

            pub(super) const SPANS: &'static [&'static [super::Span]] = &[$(&[$(super::Span {
                first: $first,
                last: $last,
                wire: super::WireError { vendor: $vendor, error_type: $type, code: $code },
            },)+],)+];

            /// The error's name, e.g. `OFPBRC_BAD_TYPE`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}
use errors;

impl OfError {
    /// The error called `name`, e.g. `OFPBRC_BAD_TYPE`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }

    /// The numbers that stand for this error in `version`, if any do.
    #[must_use]
    pub fn wire(self, version: Version) -> Option<WireError> {
        Self::SPANS[self as usize]
            .iter()
            .find(|span| span.first <= version && version <= span.last)
            .map(|span| span.wire)
    }

    /// The error that `wire` stands for in `version`.
    #[must_use]
    pub fn from_wire(version: Version, wire: WireError) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.wire(version) == Some(wire))
    }
}

impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for OfError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn std_error(error_type: u16, code: u16) -> WireError {
        WireError { vendor: OPENFLOW, error_type, code }
    }

    #[test]
    fn names_are_unique_and_found() {
        for &error in OfError::ALL {
            assert_eq!(OfError::from_name(error.name()), Some(error));
        }
        assert_eq!(OfError::from_name("OFPBRC_NO_SUCH"), None);
    }

    #[test]
    fn every_number_decodes_to_the_first_error_that_has_it() {
        let mut shared = Vec::new();
        for version in Version::ALL {
            for &error in OfError::ALL {
                let Some(wire) = error.wire(version) else { continue };
                let back = OfError::from_wire(version, wire).unwrap();
                if back != error {
                    shared.push((version, back, error));
                }
            }
        }
        assert_eq!(
            shared,
            [
                (Version::Of10, OfError::OfpbrcEperm, OfError::OfpbrcIsSecondary),
                (Version::Of11, OfError::OfpbrcEperm, OfError::OfpbrcIsSecondary),
                (Version::Of11, OfError::OfpbicBadExperimenter, OfError::OfpbicBadExpType),
            ]
        );
    }

    #[test]
    fn numbers_follow_the_version() {
        assert_eq!(OfError::OfpfmfcTableFull.wire(Version::Of10), Some(std_error(3, 0)));
        assert_eq!(OfError::OfpfmfcTableFull.wire(Version::Of11), Some(std_error(5, 1)));
        assert_eq!(
            OfError::NxbrcMustBeZero.wire(Version::Of11),
            Some(WireError { vendor: NICIRA, error_type: 1, code: 515 })
        );
        assert_eq!(
            OfError::NxbrcMustBeZero.wire(Version::Of13),
            Some(WireError { vendor: NICIRA, error_type: 4, code: 0 })
        );
        assert_eq!(
            OfError::OfpbfcBadId.wire(Version::Of13),
            Some(WireError { vendor: ONF, error_type: 2302, code: 0 })
        );
        assert_eq!(OfError::OfpbfcBadId.wire(Version::Of12), None);
    }
}
