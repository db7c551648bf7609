//! Protocols: a version together with the way in which flows travel in it.
//!
//! OpenFlow 1.0 has four: its own match or Nicira's (`NXT_SET_FLOW_FORMAT`), each with or without a table
//! id in the command of a flow-mod (`NXT_FLOW_MOD_TABLE_ID`). Later versions have one each.

use bitflags::bitflags;

use crate::Version;

/// How flows travel on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u16)]
pub enum Protocol {
    /// OpenFlow 1.0 with its own match.
    Of10Std = 1 << 0,
    /// The same with table ids in flow-mods.
    Of10StdTid = 1 << 1,
    /// OpenFlow 1.0 with Nicira's extensible match.
    Of10Nxm = 1 << 2,
    /// The same with table ids in flow-mods.
    Of10NxmTid = 1 << 3,
    /// OpenFlow 1.1
    Of11 = 1 << 4,
    /// OpenFlow 1.2
    Of12 = 1 << 5,
    /// OpenFlow 1.3
    Of13 = 1 << 6,
    /// OpenFlow 1.4
    Of14 = 1 << 7,
    /// OpenFlow 1.5
    Of15 = 1 << 8,
}

bitflags! {
    /// A set of protocols.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Protocols: u16 {
        /// [`Protocol::Of10Std`]
        const OF10_STD = 1 << 0;
        /// [`Protocol::Of10StdTid`]
        const OF10_STD_TID = 1 << 1;
        /// [`Protocol::Of10Nxm`]
        const OF10_NXM = 1 << 2;
        /// [`Protocol::Of10NxmTid`]
        const OF10_NXM_TID = 1 << 3;
        /// [`Protocol::Of11`]
        const OF11_STD = 1 << 4;
        /// [`Protocol::Of12`]
        const OF12_OXM = 1 << 5;
        /// [`Protocol::Of13`]
        const OF13_OXM = 1 << 6;
        /// [`Protocol::Of14`]
        const OF14_OXM = 1 << 7;
        /// [`Protocol::Of15`]
        const OF15_OXM = 1 << 8;

        /// OpenFlow 1.0 with its own match.
        const OF10_STD_ANY = Self::OF10_STD.bits() | Self::OF10_STD_TID.bits();
        /// OpenFlow 1.0 with Nicira's match.
        const OF10_NXM_ANY = Self::OF10_NXM.bits() | Self::OF10_NXM_TID.bits();
        /// OpenFlow 1.0.
        const OF10_ANY = Self::OF10_STD_ANY.bits() | Self::OF10_NXM_ANY.bits();
        /// All with the match of OpenFlow 1.2.
        const ANY_OXM = Self::OF12_UP.bits();
        /// All with an extensible match.
        const NXM_OXM_ANY = Self::OF10_NXM_ANY.bits() | Self::ANY_OXM.bits();
        /// All but OpenFlow 1.0 with its own match.
        const NXM_OF11_UP = Self::OF10_NXM_ANY.bits() | Self::OF11_UP.bits();
        /// OpenFlow 1.1 and later.
        const OF11_UP = Self::OF11_STD.bits() | Self::OF12_UP.bits();
        /// OpenFlow 1.2 and later.
        const OF12_UP = Self::OF12_OXM.bits() | Self::OF13_UP.bits();
        /// OpenFlow 1.3 and later.
        const OF13_UP = Self::OF13_OXM.bits() | Self::OF14_UP.bits();
        /// OpenFlow 1.4 and later.
        const OF14_UP = Self::OF14_OXM.bits() | Self::OF15_UP.bits();
        /// OpenFlow 1.5 and later.
        const OF15_UP = Self::OF15_OXM.bits();
        /// Those in which a flow-mod names its table.
        const TID = Self::OF10_STD_TID.bits() | Self::OF10_NXM_TID.bits() | Self::OF11_UP.bits();
        /// All protocols.
        const ANY = Self::OF10_ANY.bits() | Self::OF11_UP.bits();
    }
}

impl Protocol {
    /// Every protocol, oldest first.
    pub const ALL: [Self; 9] = [
        Self::Of10Std,
        Self::Of10StdTid,
        Self::Of10Nxm,
        Self::Of10NxmTid,
        Self::Of11,
        Self::Of12,
        Self::Of13,
        Self::Of14,
        Self::Of15,
    ];

    /// The protocol that a connection of `version` starts with.
    #[must_use]
    pub const fn initial(version: Version) -> Self {
        match version {
            Version::Of10 => Self::Of10Std,
            Version::Of11 => Self::Of11,
            Version::Of12 => Self::Of12,
            Version::Of13 => Self::Of13,
            Version::Of14 => Self::Of14,
            Version::Of15 => Self::Of15,
        }
    }

    /// The version of the protocol's messages.
    #[must_use]
    pub const fn version(self) -> Version {
        match self {
            Self::Of10Std | Self::Of10StdTid | Self::Of10Nxm | Self::Of10NxmTid => Version::Of10,
            Self::Of11 => Version::Of11,
            Self::Of12 => Version::Of12,
            Self::Of13 => Version::Of13,
            Self::Of14 => Version::Of14,
            Self::Of15 => Version::Of15,
        }
    }

    /// Whether flow-mods name their table.
    #[must_use]
    pub const fn has_table_id(self) -> bool {
        !matches!(self, Self::Of10Std | Self::Of10Nxm)
    }

    /// Whether flows travel with Nicira's match in OpenFlow 1.0.
    #[must_use]
    pub const fn is_nxm(self) -> bool {
        matches!(self, Self::Of10Nxm | Self::Of10NxmTid)
    }

    /// The same with (`NXT_FLOW_MOD_TABLE_ID`) or without table ids. Versions after 1.0 always have them.
    #[must_use]
    pub const fn with_table_id(self, enable: bool) -> Self {
        match (self, enable) {
            (Self::Of10Std | Self::Of10StdTid, true) => Self::Of10StdTid,
            (Self::Of10Std | Self::Of10StdTid, false) => Self::Of10Std,
            (Self::Of10Nxm | Self::Of10NxmTid, true) => Self::Of10NxmTid,
            (Self::Of10Nxm | Self::Of10NxmTid, false) => Self::Of10Nxm,
            (other, _) => other,
        }
    }

    /// The same with Nicira's match or the standard's (`NXT_SET_FLOW_FORMAT`). No effect after 1.0.
    #[must_use]
    pub const fn with_nxm(self, enable: bool) -> Self {
        match self.version() {
            Version::Of10 if enable => Self::Of10Nxm.with_table_id(self.has_table_id()),
            Version::Of10 => Self::Of10Std.with_table_id(self.has_table_id()),
            _ => self,
        }
    }

    /// The set of this protocol alone.
    #[must_use]
    pub const fn as_set(self) -> Protocols {
        Protocols::from_bits_truncate(self as u16)
    }

    /// As in `ovs-ofctl --flow-format`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Of10Std => "OpenFlow10-table_id",
            Self::Of10StdTid => "OpenFlow10+table_id",
            Self::Of10Nxm => "NXM-table_id",
            Self::Of10NxmTid => "NXM+table_id",
            Self::Of11 => "OpenFlow11",
            Self::Of12 => "OXM-OpenFlow12",
            Self::Of13 => "OXM-OpenFlow13",
            Self::Of14 => "OXM-OpenFlow14",
            Self::Of15 => "OXM-OpenFlow15",
        }
    }
}

impl Protocols {
    /// The protocols of `version`.
    #[must_use]
    pub const fn of_version(version: Version) -> Self {
        match version {
            Version::Of10 => Self::OF10_ANY,
            later => Protocol::initial(later).as_set(),
        }
    }

    /// Whether `protocol` is in the set.
    #[must_use]
    pub const fn has(self, protocol: Protocol) -> bool {
        self.contains(protocol.as_set())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_agree_with_protocols() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocols::TID.has(protocol), protocol.has_table_id());
            assert!(Protocols::of_version(protocol.version()).has(protocol));
            assert_eq!(protocol.as_set().bits().count_ones(), 1);
        }
        assert_eq!(Protocols::ANY, Protocols::all());
    }

    #[test]
    fn extensions_of_openflow10_are_independent() {
        let p = Protocol::initial(Version::Of10);
        assert_eq!(p.with_table_id(true).with_nxm(true), Protocol::Of10NxmTid);
        assert_eq!(p.with_nxm(true).with_table_id(true).with_nxm(false), Protocol::Of10StdTid);
        assert_eq!(Protocol::Of13.with_nxm(true).with_table_id(false), Protocol::Of13);
    }
}
