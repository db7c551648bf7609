//! Port numbers.
//!
//! Ports are 16 bits wide in Open vSwitch and in OpenFlow 1.0. OpenFlow 1.1 and later have 32 bits, with
//! the reserved ports at the top; [`PortNo::from_of11`] and [`PortNo::to_of11`] are the border.

use std::fmt;

use flow::port;

use crate::{OfError, Version};

/// An OpenFlow port number, reserved ports in their 16-bit form.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct PortNo(pub u16);

impl PortNo {
    /// One more than the last number that a port of a switch can have (`OFPP_MAX`).
    pub const MAX: Self = Self(port::MAX);
    /// Only as the value of `actset_output`: no output in the action set.
    pub const UNSET: Self = Self(port::UNSET);
    /// Where the packet came in.
    pub const IN_PORT: Self = Self(port::IN_PORT);
    /// Through the flow tables (packet-out only).
    pub const TABLE: Self = Self(port::TABLE);
    /// L2 learning switch.
    pub const NORMAL: Self = Self(port::NORMAL);
    /// All ports but the one of arrival and those with `NO_FLOOD`.
    pub const FLOOD: Self = Self(port::FLOOD);
    /// All ports but the one of arrival.
    pub const ALL: Self = Self(port::ALL);
    /// The controller.
    pub const CONTROLLER: Self = Self(port::CONTROLLER);
    /// The bridge's own port.
    pub const LOCAL: Self = Self(port::LOCAL);
    /// No port, or any port; `ANY` in OpenFlow 1.1 and later.
    pub const NONE: Self = Self(port::NONE);

    /// Decodes a 32-bit port number (OpenFlow 1.1+).
    ///
    /// # Errors
    /// `OFPBAC_BAD_OUT_PORT` for a number that has no 16-bit form.
    pub fn from_of11(wire: u32) -> Result<Self, OfError> {
        port::from_11(wire).map(Self).ok_or(OfError::OfpbacBadOutPort)
    }

    /// The 32-bit port number (OpenFlow 1.1+).
    #[must_use]
    pub fn to_of11(self) -> u32 {
        port::to_11(self.0.into())
    }

    /// The number in `version`'s width, for people.
    #[must_use]
    pub fn in_version(self, version: Version) -> u32 {
        if version == Version::Of10 { u32::from(self.0) } else { self.to_of11() }
    }

    /// Whether the number is one that a port of a switch can have, `LOCAL` excepted.
    #[must_use]
    pub fn is_ordinary(self) -> bool {
        self < Self::MAX
    }

    /// The reserved ports and their names, as text writes them.
    const RESERVED: [(Self, &'static str); 9] = [
        (Self::IN_PORT, "IN_PORT"),
        (Self::TABLE, "TABLE"),
        (Self::NORMAL, "NORMAL"),
        (Self::FLOOD, "FLOOD"),
        (Self::ALL, "ALL"),
        (Self::CONTROLLER, "CONTROLLER"),
        (Self::LOCAL, "LOCAL"),
        (Self::NONE, "ANY"),
        (Self::UNSET, "UNSET"),
    ];

    /// The name of a reserved port.
    #[must_use]
    pub fn reserved_name(self) -> Option<&'static str> {
        Self::RESERVED.iter().find(|(port, _)| *port == self).map(|(_, name)| *name)
    }

    /// Parses what ovs-ofctl(8) allows for a port without the switch's port names: a decimal number of 16
    /// bits, a 32-bit number of OpenFlow 1.1, or the name of a reserved port in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u32>() {
            return match u16::try_from(number) {
                Ok(port) => Some(Self(port)),
                Err(_) => Self::from_of11(number).ok(),
            };
        }
        if text.eq_ignore_ascii_case("NONE") {
            return Some(Self::NONE);
        }
        Self::RESERVED.iter().find(|(_, name)| text.eq_ignore_ascii_case(name)).map(|(port, _)| *port)
    }
}

/// The name of a reserved port, else the number.
impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_agree_for_every_port() {
        for n in 0..=u16::MAX {
            assert_eq!(PortNo::from_of11(PortNo(n).to_of11()), Ok(PortNo(n)));
        }
    }

    #[test]
    fn numbers_between_the_ranges_are_refused() {
        for bad in [0xff00, 0xffff, 0x1_0000, 0xffff_feff] {
            assert_eq!(PortNo::from_of11(bad), Err(OfError::OfpbacBadOutPort), "{bad:#x}");
        }
        assert_eq!(PortNo::from_of11(0xffff_ff00), Ok(PortNo::MAX));
        assert_eq!(PortNo::from_of11(0xfeff), Ok(PortNo(0xfeff)));
    }

    #[test]
    fn text() {
        for (text, port) in [
            ("1", Some(PortNo(1))),
            ("local", Some(PortNo::LOCAL)),
            ("none", Some(PortNo::NONE)),
            ("ANY", Some(PortNo::NONE)),
            ("65534", Some(PortNo::LOCAL)),
            ("4294967294", Some(PortNo::LOCAL)),
            ("70000", None),
            ("-1", None),
            ("eth0", None),
        ] {
            assert_eq!(PortNo::parse(text), port, "{text}");
        }
        assert_eq!(PortNo::NONE.to_string(), "ANY");
        assert_eq!(PortNo(7).to_string(), "7");
    }
}
