//! Protocol versions on the wire.

use std::fmt;

/// An OpenFlow version. The discriminant is `ofp_header.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Version {
    /// OpenFlow 1.0
    Of10 = 1,
    /// OpenFlow 1.1
    Of11 = 2,
    /// OpenFlow 1.2
    Of12 = 3,
    /// OpenFlow 1.3
    Of13 = 4,
    /// OpenFlow 1.4
    Of14 = 5,
    /// OpenFlow 1.5
    Of15 = 6,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 6] = [Self::Of10, Self::Of11, Self::Of12, Self::Of13, Self::Of14, Self::Of15];

    /// The version with the wire number `wire`, if this crate knows it.
    #[must_use]
    pub const fn from_wire(wire: u8) -> Option<Self> {
        Some(match wire {
            1 => Self::Of10,
            2 => Self::Of11,
            3 => Self::Of12,
            4 => Self::Of13,
            5 => Self::Of14,
            6 => Self::Of15,
            _ => return None,
        })
    }

    /// The number in `ofp_header.version`.
    #[must_use]
    pub const fn wire(self) -> u8 {
        self as u8
    }

    /// `OpenFlow10` to `OpenFlow15`, as in the `protocols` column of a Bridge.
    #[must_use]
    pub const fn protocols_name(self) -> &'static str {
        match self {
            Self::Of10 => "OpenFlow10",
            Self::Of11 => "OpenFlow11",
            Self::Of12 => "OpenFlow12",
            Self::Of13 => "OpenFlow13",
            Self::Of14 => "OpenFlow14",
            Self::Of15 => "OpenFlow15",
        }
    }

    /// The inverse of [`Self::protocols_name`], without regard to case.
    #[must_use]
    pub fn from_protocols_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.protocols_name().eq_ignore_ascii_case(name))
    }
}

/// `OF1.0` to `OF1.5`, as `ovs-ofctl` writes versions.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OF1.{}", self.wire() - 1)
    }
}
